"""What the program takes from a command that it has printed."""

import shlex
from typing import Any

import typer.main

from bench.cli.commands import app


def parsed(command: str) -> tuple[str, dict[str, Any]]:
    """Name of the command, and its parameters; raises what the program says to bad flags."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "bench"], command
    group = typer.main.get_command(app)
    with group.make_context("bench", words[3:]) as context:
        name, own, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        with own.make_context(name, rest, parent=context) as found:
            return name, dict(found.params)
