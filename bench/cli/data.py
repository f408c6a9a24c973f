"""`data`: what a data set holds, and whether it is damaged."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bench.cli.app import DataRoot, Dataset, ImageSize, Offline, data_app, flag
from bench.common.errors import one_line


@data_app.command("info")
def data_info(
    dataset: Dataset = "cifar100",
    data_root: DataRoot = None,
    image_size: ImageSize = None,
    offline: Offline = False,
    as_json: Annotated[bool, flag("--json", "", "Print JSON.")] = False,
) -> None:
    """Show counts, fingerprint and duplicates."""
    from bench.data.names import check_dataset

    check_dataset(dataset)

    from bench.common.progress import shown
    from bench.data import inspect
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
    """Read every image and name the damaged ones; exit with 1 if there are any."""
    from bench.data.names import check_dataset

    check_dataset(dataset)

    from bench.common.progress import shown
    from bench.data import inspect

    with shown() as progress:
        problems = inspect.verify(dataset, data_root, image_size, offline, progress)
    for problem in problems:
        print(one_line(problem))
    if problems:
        raise typer.Exit(1)
    print(f"{dataset}: no damage found")
