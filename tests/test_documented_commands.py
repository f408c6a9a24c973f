"""Every command that the documents show is one that the program takes: flags, names, values and files."""

import argparse
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer.main
from command_line import bench

from bench.cli.commands import app
from bench.records import store
from bench.run import runner

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md", *ROOT.glob("docs/*.md")]
COMMAND = re.compile(r"python -m (bench(?:marks\.\w+)?) ([^`\n|#]+)")
OWN_METHOD = re.compile(r"\S+\.py:\w+")


class Taken(Exception):
    """The command line is right; its work would begin here."""


def taken(*_, **__):
    raise Taken


def commands() -> dict[tuple[str, ...], str]:
    """Program and arguments -> the first page that shows them."""
    found: dict[tuple[str, ...], str] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for program, rest in COMMAND.findall(text):
            if "..." in rest:
                continue
            arguments = shlex.split(rest.replace("'", ""))
            arguments = [OWN_METHOD.sub("protonet", one.split("/$")[0]) for one in arguments]
            arguments = [re.sub(r"\$\w+", "1", one) for one in arguments]
            found.setdefault((program, *arguments), page.name)
    return found


@pytest.mark.parametrize(
    ("command", "page"), [pytest.param(*one, id=" ".join(one[0])) for one in commands().items()]
)
def test_the_program_takes_it(command, page, monkeypatch):
    program, *arguments = command
    for path in (one for one in arguments if one.startswith("studies/")):
        assert (ROOT / path).is_file(), page
    if program != "bench":
        real = argparse.ArgumentParser.parse_args

        def parsed(self, *given):
            real(self, *given)
            raise Taken

        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        with pytest.raises(Taken):
            importlib.import_module(program).main()
        return
    group = typer.main.get_command(app)
    monkeypatch.setattr(runner, "run_all", taken)
    with group.make_context("bench", [*arguments]) as context:
        name, own, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        with own.make_context(name, rest, parent=context) as found:
            if name == "run":
                with pytest.raises(Taken):
                    own.invoke(found)


@pytest.mark.slow
def test_the_first_command_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = next(command for command, page in commands().items() if page == "README.md")
    answer = bench(*first[1:], "--device", "cpu")
    assert answer.code == 0, answer.err
    record = store.read(Path(answer.out.splitlines()[-1]))
    assert record.preset == "smoke" and record.metrics
    assert record.run_id in bench("list", "runs").out
