"""Commands that read records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.app import RESULTS, RUNS, DataRoot, Results, Runs, app, flag, report_problems
from bench.common.errors import UserError
from bench.common.progress import shown
from bench.common.streams import say


@app.command()
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run id, the start of one, or a path.")],
    results: Results = RESULTS,
    runs: Runs = RUNS,
    as_json: Annotated[bool, flag("--json", "", "Print the record as JSON.")] = False,
) -> None:
    """Show one run: its settings, its numbers, also per class, and where its files are."""
    from bench.records import store
    from bench.reporting import run_page

    path = store.find_run(results, run)
    record = store.read(path)
    print(record.model_dump_json() if as_json else run_page.page(record, path, runs))


@app.command()
def leaderboard(
    check: Annotated[
        bool, flag("--check", "", "Write nothing; exit with 1 if the file is out of date.")
    ] = False,
    show: Annotated[bool, flag("--show", "", "Write nothing; print it.")] = False,
    results: Results = RESULTS,
    output: Annotated[Path, flag("--output", "FILE", "The file to write.")] = Path("leaderboard.md"),
) -> None:
    """Generate leaderboard.md from the records, or print it."""
    from bench.reporting import leaderboard as board

    if check and show:
        raise UserError("--check", "", "cannot be combined with --show")
    if not results.exists():
        raise UserError("--results", results, "no such folder; `python -m bench run` creates it")
    if check:
        return _check(output, *board.is_stale(results, output), "leaderboard")
    problems = board.show(results) if show else board.write(results, output)
    with report_problems(problems):
        if not show:
            print(output)


@app.command()
def docs(
    check: Annotated[
        bool, flag("--check", "", "Write nothing; exit with 1 if a page is out of date.")
    ] = False,
    results: Results = RESULTS,
    output: Annotated[Path, flag("--output", "DIR", "The folder to write to.")] = Path("docs/methods"),
) -> None:
    """Generate one page per method from its source and the records."""
    from bench.reporting import method_docs

    if check:
        return _check(output, *method_docs.stale(results, output), "docs")
    problems = method_docs.write(results, output)
    with report_problems(problems):
        print(output)


def _check(output: Path, stale: bool | Sequence[str], problems: Sequence[str], command: str) -> None:
    """Say whether what `command` generates is up to date; `stale` may name the pages that are not."""
    with report_problems(problems):
        if stale:
            pages = "" if stale is True else f" ({', '.join(stale)})"
            say(f"{output} is out of date{pages}: run `python -m bench {command}`")
            raise typer.Exit(1)
        print(f"{output} is up to date")


@app.command()
def report(
    results: Results = RESULTS,
    output: Annotated[Path, flag("--output", "FILE", "The page to write.")] = Path("report.html"),
    runs: Runs = RUNS,
    data_root: DataRoot = None,
) -> None:
    """Generate an HTML page from the records: tables to sort and filter, and figures. It needs no network."""
    from bench.reporting import figures, report

    with shown() as progress:
        problems = report.write(output, figures.Options(results, runs, data_root), progress)
    with report_problems(problems):
        print(output)


@app.command("figures")
def figures_(
    results: Results = RESULTS,
    output: Annotated[Path, flag("--output", "DIR", "The folder to write to.")] = Path("figures"),
    runs: Runs = RUNS,
    data_root: DataRoot = None,
    run: Annotated[str | None, flag("--run", "RUN", "Only this run.")] = None,
    method: Annotated[str | None, flag("--method", "NAME", "Only runs of this method.")] = None,
    split: Annotated[str | None, flag("--split", "NAME", "Only runs on this split.")] = None,
) -> None:
    """Write the report's figures as PNG and SVG files."""
    from bench.reporting import figures

    with shown() as progress:
        options = figures.Options(results, runs, data_root, run, method, split)
        drawing = figures.write(output, options, progress)
    for gap in drawing.gaps:
        say(f"not drawn: {gap.section}: {gap.title}: {gap.why}")
    with report_problems(drawing.problems):
        for path in drawing.paths:
            print(path)


@app.command()
def compare(
    sides: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [...]",
            help="Run ids or their beginnings, paths of records, comma lists of these (seeds of one "
            "configuration), or methods.",
        ),
    ],
    setting: Annotated[str, flag("--setting", "NAME", "Few-shot setting, such as 5w5s or allw1s.")] = "5w1s",
    dataset: Annotated[str | None, flag("--dataset", "NAME", "Only records of this data set.")] = None,
    split: Annotated[str | None, flag("--split", "NAME", "Only records of this split.")] = None,
    preset: Annotated[str | None, flag("--preset", "NAME", "Only records of this preset.")] = None,
    results: Results = RESULTS,
    as_json: Annotated[bool, flag("--json", "", "Print JSON.")] = False,
) -> None:
    """Say which of several runs or methods is better, and whether the difference is significant.

    They are compared on identical episodes, over all recorded seeds: `compare protonet
    siamese_triplet --split 90-10`.
    """
    from bench.records.identity import Table
    from bench.reporting import compare as comparing
    from bench.reporting import verdicts

    table = Table(results, dataset, split, preset)
    found = comparing.compare(sides, table, setting)
    with report_problems(table.problems):
        print(json.dumps(verdicts.as_json(found), indent=1) if as_json else verdicts.as_text(found))


@app.command()
def validate(results: Results = RESULTS) -> None:
    """Recompute every record of the folder from its per-episode file; exit with 1 if there are errors."""
    from bench.records import validation

    report = validation.validate(results)
    for line in [*report.problems, *(f"note: {note}" for note in report.notes)]:
        print(line)
    if report.problems:
        say(f"{len(report.problems)} problems in {report.records} records")
        raise typer.Exit(1)
    print(f"{report.records} records: no problems")
