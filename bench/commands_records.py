"""Commands about records; they are registered by `bench.cli`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import Results, app, flag


@app.command()
def compare(
    sides: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [...]",
            help="Run ids, paths of records, comma lists of these (seeds of one configuration), or methods.",
        ),
    ],
    setting: Annotated[str, flag("--setting", "NAME", "Which episodes, such as 5w5s or allw1s.")] = "5w1s",
    dataset: Annotated[str | None, flag("--dataset", "NAME", "Of methods' records.")] = None,
    split: Annotated[str | None, flag("--split", "NAME", "Of methods' records.")] = None,
    preset: Annotated[str | None, flag("--preset", "NAME", "Of methods' records.")] = None,
    results: Results = Path("results"),
    as_json: Annotated[bool, flag("--json", "", "Print JSON.")] = False,
) -> None:
    """Say which of several runs or methods is better, and whether that is shown.

    They are compared on identical episodes, with several seeds if there are any: `compare protonet
    siamese_triplet --split 90-10`.
    """
    from bench import compare as comparing
    from bench.configurations import Table

    table = Table(results, dataset, split, preset)
    found = comparing.compare(sides, table, setting)
    for problem in table.problems:
        print(f"warning: {problem}", file=sys.stderr)
    print(json.dumps(comparing.as_json(found), indent=1) if as_json else comparing.as_text(found))
    if table.problems:
        raise typer.Exit(1)


@app.command()
def validate(results: Results = Path("results")) -> None:
    """Recompute every record from its per-episode file; name what is wrong, and exit 1 if anything is."""
    from bench import validation

    report = validation.validate(results)
    for line in [*report.problems, *(f"note: {note}" for note in report.notes)]:
        print(line)
    if report.problems:
        print(f"{len(report.problems)} problems in {report.records} records", file=sys.stderr)
        raise typer.Exit(1)
    print(f"{report.records} records: nothing is wrong")
