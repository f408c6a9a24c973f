"""Commands for a user's own method."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.app import app, flag


@app.command("new-method")
def new_method(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the new method: lower-case letters, digits and _.")
    ],
    output: Annotated[Path, flag("--output", "DIR", "Folder to write to.")] = Path(),
) -> None:
    """Write a working method to start from, NAME.py, and its test, test_NAME.py."""
    from bench.run import new_method as made

    class_name, files = made.write(name, output)
    for path in files:
        print(path)
    print(f"next: python -m bench check-method {files[0]}:{class_name}")


@app.command("check-method")
def check_method(
    method: Annotated[
        str,
        typer.Argument(metavar="METHOD", help="path/to/file.py:Class, whose code runs; or a method's name."),
    ],
) -> None:
    """Check a method against the contract on small generated images; exit with 1 if a check fails."""
    from bench.run.method_check import check

    failed = False
    for what, problems in check(method):
        print(f"{'FAILS' if problems else 'ok   '} {what}", flush=True)
        for problem in problems:
            print(f"      {problem}")
        failed |= bool(problems)
    if failed:
        raise typer.Exit(1)
    print(f"next: python -m bench run --method {method} --dataset glyphs --preset smoke")
