"""Commands and their help; the work is done elsewhere, and imported where it is used."""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import UserError

if TYPE_CHECKING:
    from bench.config import RunConfig

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Few-shot image classification methods, compared so that one can believe it.",
)
data_app = typer.Typer(no_args_is_help=True, help="What a data set holds, and whether it is whole.")
app.add_typer(data_app, name="data")

DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", help="Where data sets lie. Default: $FEWSHOT_DATA, else the user cache folder."),
]
Results = Annotated[Path, typer.Option("--results", help="Folder of records.")]
Dataset = Annotated[str, typer.Option("--dataset", help="cifar100, glyphs, folder:PATH or hf:NAME.")]
ImageSize = Annotated[
    int | None, typer.Option("--image-size", help="Side in pixels to which images of folder: and hf: are resized.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Never download.")]


class Listing(StrEnum):
    """What `list` can list."""

    methods = "methods"
    splits = "splits"
    datasets = "datasets"
    backbones = "backbones"
    presets = "presets"
    runs = "runs"


@app.command()
def run(
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="A method, or path/to/file.py:Class (its code is run). May be repeated or a,b."),
    ] = None,
    split: Annotated[list[str] | None, typer.Option("--split", help="See `list splits`. May be repeated or a,b.")] = None,
    seed: Annotated[list[str] | None, typer.Option("--seed", help="Training seed. May be repeated or 0,1,2.")] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="smoke, quick, standard (default) or paper.")] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="cifar100 (default), glyphs, folder:PATH or hf:NAME.")
    ] = None,
    data_root: DataRoot = None,
    image_size: ImageSize = None,
    backbone: Annotated[str | None, typer.Option("--backbone", help="Instead of the preset's; see `list backbones`.")] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="Start from this file (safetensors or a PyTorch checkpoint).")
    ] = None,
    no_train: Annotated[bool, typer.Option("--no-train", help="Evaluate the weights as they are.")] = False,
    steps: Annotated[int | None, typer.Option("--steps", help="Training steps, instead of the preset's.")] = None,
    way: Annotated[int | None, typer.Option("--way", help="A setting more: classes in an episode.")] = None,
    shot: Annotated[int | None, typer.Option("--shot", help="A setting more: support images a class.")] = None,
    query: Annotated[int | None, typer.Option("--query", help="A setting more: query images a class (15).")] = None,
    episodes: Annotated[int | None, typer.Option("--episodes", help="A setting more: how many episodes (10,000).")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A hyperparameter; see `list methods --method NAME`.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="A YAML file with any of these; flags win over it.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: Annotated[str | None, typer.Option("--precision", help="auto, fp32 or bf16.")] = None,
    results: Results = Path("results"),
    runs: Annotated[Path, typer.Option("--runs", help="Folder of checkpoints, logs and resolved configurations.")] = Path("runs"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Run again what is recorded already.")] = False,
    offline: Offline = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records instead of tables.")] = False,
) -> None:
    """Train and evaluate, and write one record for each method, split and seed."""
    from bench import config as configuration

    given: dict[str, Any] = configuration.read_yaml(config) if config else {}
    sources = {key: f"{config}: {key}" for key in given}
    flags = {
        "preset": preset, "dataset": dataset, "image_size": image_size, "backbone": backbone, "weights": weights,
        "train": False if no_train else None, "way": way, "shot": shot, "query": query, "episodes": episodes,
        "precision": precision,
    }  # fmt: skip
    for key, value in flags.items():
        if value is not None:
            given[key], sources[key] = value, "--no-train" if key == "train" else f"--{key.replace('_', '-')}"
    sets = configuration.read_sets(set_ or [])
    if steps is not None:
        sets["steps"], sources["steps"] = str(steps), "--steps"

    grid = []
    for one_method in _several(method) or [given.get("method")]:
        for one_split in _several(split) or [given.get("split")]:
            for one_seed in _several(seed) or [given.get("seed")]:
                if isinstance(one_seed, str) and not one_seed.isdecimal():
                    raise UserError("--seed", one_seed, "a whole number from 0 to 4294967295")
                cell = {"method": one_method, "split": one_split, "seed": int(one_seed) if isinstance(one_seed, str) else one_seed}
                where = sources | {k: f"--{k}" for k, v in (("method", method), ("split", split), ("seed", seed)) if v}
                grid.append(configuration.resolve({**given, **cell}, where, sets))
    _check_before_imports(grid)

    from bench.progress import Progress
    from bench.runner import Options
    from bench.runner import run as run_one
    from bench.show import result_table

    command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    options = Options(results, runs, command, data_root, device, overwrite, offline)
    paths = []
    for one in grid:
        path, record = run_one(one, options, Progress())
        print(record.model_dump_json() if as_json else result_table(record), flush=True)
        paths.append(path)
    for path in paths:
        print(path)


def _several(values: list[str] | None) -> list[str]:
    """Repeated flags and comma lists as one list without repetitions; a path may hold commas."""
    split = [part.strip() for value in values or [] for part in ([value] if ".py" in value else value.split(","))]
    return list(dict.fromkeys(part for part in split if part))


def _check_before_imports(grid: list[RunConfig]) -> None:
    """Mistakes that need no data are found before torch is imported."""
    from bench.data.names import check_dataset, check_split

    for one in grid:
        check_dataset(one.dataset)
        check_split(one.split)


@app.command("list")
def list_(
    what: Annotated[Listing, typer.Argument(help="What to list.")],
    method: Annotated[str | None, typer.Option("--method", help="With `methods`: all about one, with its hyperparameters.")] = None,
    results: Results = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List methods, splits, datasets, backbones, presets or recorded runs."""
    from bench import show

    if what is Listing.methods and method is not None:
        from bench.config import method_info

        print(show.method_page(method_info(method)))
        return
    rows = show.listing(what.value, results)
    print(json.dumps(rows, indent=1) if as_json else show.plain_table(rows))


@app.command()
def leaderboard(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if the file is stale.")] = False,
    results: Results = Path("results"),
    output: Annotated[Path, typer.Option("--output", help="The file to write.")] = Path("leaderboard.md"),
) -> None:
    """Write leaderboard.md from the records."""
    from bench import leaderboard as board

    if check:
        if board.is_stale(results, output):
            print(f"{output} is stale: run `python -m bench leaderboard`", file=sys.stderr)
            raise typer.Exit(1)
        print(f"{output} is up to date")
        return
    problems = board.write(results, output)
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    print(output)
    if problems:
        raise typer.Exit(1)


@data_app.command("info")
def data_info(
    dataset: Dataset = "cifar100",
    data_root: DataRoot = None,
    image_size: ImageSize = None,
    offline: Offline = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is there: counts, fingerprint, duplicates."""
    from bench.data import inspect
    from bench.data.names import check_dataset
    from bench.show import fact_table

    check_dataset(dataset)
    facts = inspect.info(dataset, data_root, image_size, offline)
    print(json.dumps(facts, indent=1) if as_json else fact_table(facts))


@data_app.command("verify")
def data_verify(
    dataset: Dataset = "cifar100",
    data_root: DataRoot = None,
    image_size: ImageSize = None,
    offline: Offline = False,
) -> None:
    """Read every image and name what is damaged; exit 1 if anything is."""
    from bench.data import inspect
    from bench.data.names import check_dataset

    check_dataset(dataset)
    problems = inspect.verify(dataset, data_root, image_size, offline)
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(1)
    print(f"{dataset}: nothing is damaged")
