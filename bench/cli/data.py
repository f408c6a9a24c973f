"""`data`: what a data set holds, whether it is damaged, and what the cache holds."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bench.cli.app import DataRoot, Dataset, ImageSize, Offline, data_app, flag
from bench.common.errors import one_line
from bench.common.progress import shown
from bench.data.names import check_dataset


@data_app.command("info")
def data_info(
    dataset: Dataset = "cifar100",
    data_root: DataRoot = None,
    image_size: ImageSize = None,
    offline: Offline = False,
    as_json: Annotated[bool, flag("--json", "", "Print JSON.")] = False,
) -> None:
    """Show counts, fingerprint and duplicates."""
    check_dataset(dataset)

    from bench.data import inspect  # imports torch
    from bench.reporting.show import fact_table

    with shown() as progress:
        facts = inspect.info(dataset, data_root, image_size, offline, progress)
    print(json.dumps(facts, indent=1) if as_json else fact_table(facts))


@data_app.command("verify")
def data_verify(
    dataset: Dataset = "cifar100",
    data_root: DataRoot = None,
    image_size: ImageSize = None,
    offline: Offline = False,
) -> None:
    """Read every image and report damage; exit with 1 if there is any.

    For folder: and hf: it also reports duplicate and unused files.
    """
    check_dataset(dataset)

    from bench.data import inspect

    with shown() as progress:
        problems = inspect.verify(dataset, data_root, image_size, offline, progress)
    for problem in problems:
        print(one_line(problem))
    if problems:
        raise typer.Exit(1)
    print(one_line(f"{dataset}: no damage found"))


@data_app.command("cache")
def data_cache(
    prune: Annotated[
        bool, flag("--prune", "", "Delete files that no run needs: superseded, damaged, of other versions.")
    ] = False,
    clear: Annotated[bool, flag("--clear", "", "Delete all files; they are recreated when needed.")] = False,
    as_json: Annotated[bool, flag("--json", "", "Print JSON.")] = False,
) -> None:
    """List cached images, features and calibrations, most recently used first; or delete some."""
    from datetime import UTC, datetime

    from bench.data import cache, cache_upkeep
    from bench.reporting import terminal

    found = cache_upkeep.entries()
    if prune or clear:
        found = cache_upkeep.remove([entry for entry in found if clear or entry.useless])
    rows = [
        {
            "file": entry.path.name,
            "dataset": entry.dataset,
            "features of": entry.backbone,
            "images": "x".join(map(str, entry.images)),
            "MB": f"{entry.size / 1e6:,.1f}",
            "used": datetime.fromtimestamp(entry.used, UTC).date().isoformat(),
            "needed": entry.useless or "yes",
        }
        for entry in found
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    if rows:
        print(terminal.text(rows))
    total = sum(entry.size for entry in found) / 1e6
    deleted = "deleted " if prune or clear else ""
    print(one_line(f"{cache.directory()}: {deleted}{len(found)} files, {total:,.1f} MB"))
