"""Commands about records."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.app import DataRoot, Results, Runs, app, flag, warned_of
from bench.common.errors import UserError


@app.command()
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run id, its beginning, or a path.")],
    results: Results = Path("results"),
    runs: Annotated[Path, flag("--runs", "DIR", "Folder of checkpoints and logs.")] = Path("runs"),
    as_json: Annotated[bool, flag("--json", "", "Print the record as JSON.")] = False,
) -> None:
    """Show one run: what it was, how it was made, its numbers, class by class, and where its files are."""
    from bench.records import store
    from bench.reporting import run_page

    path = run_page.find_run(results, run)
    record = store.read(path)
    print(record.model_dump_json() if as_json else run_page.page(record, path, runs))


@app.command()
def leaderboard(
    check: Annotated[bool, flag("--check", "", "Write nothing; exit 1 if the file is stale.")] = False,
    show: Annotated[bool, flag("--show", "", "Write nothing; show it here.")] = False,
    results: Results = Path("results"),
    output: Annotated[Path, flag("--output", "FILE", "The file to write.")] = Path("leaderboard.md"),
) -> None:
    """Write leaderboard.md from the records, or show it."""
    from bench.reporting import leaderboard as board

    if check and show:
        raise UserError("--check", "", "cannot be combined with --show")
    if not results.exists():
        raise UserError(
            "--results", results, "no such folder; `python -m bench run` makes it, with a record in it"
        )
    if check:
        if board.is_stale(results, output):
            print(f"{output} is stale: run `python -m bench leaderboard`", file=sys.stderr)
            raise typer.Exit(1)
        print(f"{output} is up to date")
        return
    problems = board.show(results) if show else board.write(results, output)
    with warned_of(problems):
        if not show:
            print(output)


@app.command()
def docs(
    check: Annotated[bool, flag("--check", "", "Write nothing; exit 1 if a page is stale.")] = False,
    results: Results = Path("results"),
    output: Annotated[Path, flag("--output", "DIR", "The folder to write to.")] = Path("docs/methods"),
) -> None:
    """Write a page about each method, from its source and the records."""
    from bench.reporting import method_docs

    if check:
        if pages := method_docs.stale(results, output):
            print(f"{output} is stale ({', '.join(pages)}): run `python -m bench docs`", file=sys.stderr)
            raise typer.Exit(1)
        print(f"{output} is up to date")
        return
    problems = method_docs.write(results, output)
    with warned_of(problems):
        print(output)


@app.command()
def report(
    results: Results = Path("results"),
    output: Annotated[Path, flag("--output", "FILE", "The page to write.")] = Path("report.html"),
    runs: Runs = Path("runs"),
    data_root: DataRoot = None,
) -> None:
    """Write an HTML page of the records: tables to sort and filter, and pictures. It needs no network."""
    from bench.common.progress import shown
    from bench.reporting import figures, report

    with shown() as progress:
        problems = report.write(output, figures.Options(results, runs, data_root), progress)
    with warned_of(problems):
        print(output)


@app.command("figures")
def figures_(
    results: Results = Path("results"),
    output: Annotated[Path, flag("--output", "DIR", "The folder to write to.")] = Path("figures"),
    runs: Runs = Path("runs"),
    data_root: DataRoot = None,
) -> None:
    """Write the report's pictures as PNG and SVG files."""
    from bench.common.progress import shown
    from bench.reporting import figures

    with shown() as progress:
        drawing = figures.write(output, figures.Options(results, runs, data_root), progress)
    for gap in drawing.gaps:
        print(f"not drawn: {gap.section}: {gap.title}: {gap.why}", file=sys.stderr)
    with warned_of(drawing.problems):
        for path in drawing.paths:
            print(path)


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
    """Say which of several runs or methods is better, and whether the difference is significant.

    They are compared on identical episodes, with several seeds if there are any: `compare protonet
    siamese_triplet --split 90-10`.
    """
    from bench.records.identity import Table
    from bench.reporting import compare as comparing
    from bench.reporting import verdicts

    table = Table(results, dataset, split, preset)
    found = comparing.compare(sides, table, setting)
    with warned_of(table.problems):
        print(json.dumps(verdicts.as_json(found), indent=1) if as_json else verdicts.as_text(found))


@app.command()
def validate(results: Results = Path("results")) -> None:
    """Recompute every record from its per-episode file; name what is wrong, and exit 1 if anything is."""
    from bench.records import validation

    report = validation.validate(results)
    for line in [*report.problems, *(f"note: {note}" for note in report.notes)]:
        print(line)
    if report.problems:
        print(f"{len(report.problems)} problems in {report.records} records", file=sys.stderr)
        raise typer.Exit(1)
    print(f"{report.records} records: nothing is wrong")
