"""`list`: what can be chosen."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bench.cli.app import RESULTS, Results, app, flag, report_problems
from bench.common.errors import UserError, one_of

LISTINGS = ("methods", "splits", "datasets", "backbones", "presets", "runs")


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help=f"{', '.join(LISTINGS[:-1])} or {LISTINGS[-1]}.")
    ],
    method: Annotated[
        str | None, flag("--method", "NAME", "With `methods`: show one method and its hyperparameters.")
    ] = None,
    results: Results = RESULTS,
    as_json: Annotated[bool, flag("--json", "", "Print JSON.")] = False,
) -> None:
    """List methods, splits, datasets, backbones, presets or recorded runs."""
    from bench.reporting import show, terminal

    if what not in LISTINGS:
        raise UserError("list", what, one_of(what, LISTINGS))
    if method is None:
        rows, problems = show.run_list(results) if what == "runs" else (show.listing(what), [])
        with report_problems(problems):
            if as_json:
                print(json.dumps(rows, indent=1))
            else:
                print(terminal.text(show.narrow(rows) if what == "runs" else rows))
        return
    if what != "methods":
        raise UserError(
            "--method", method, f"can only be combined with `list methods`, not with `list {what}`"
        )
    from dataclasses import asdict

    from bench.config.run_config import method_info

    info = method_info(method)
    print(json.dumps(asdict(info), indent=1) if as_json else show.method_page(info))
