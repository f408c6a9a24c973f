"""Commands and their help; the work is done elsewhere, and imported where it is used."""

from __future__ import annotations

import atexit
import gc
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from bench.errors import UserError, one_of

if TYPE_CHECKING:
    from bench.config import RunConfig

LISTINGS = ("methods", "splits", "datasets", "backbones", "presets", "runs")


class Commands(TyperGroup):
    """Answers a mistyped command with the nearest one."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command called `cmd_name`."""
        command = super().get_command(ctx, cmd_name)
        if command is None:
            raise UserError(cmd_name, "", f"no such command; {one_of(cmd_name, self.commands)}")
        return command


def whole_number(name: str) -> Callable[[str], int]:
    """A parser of the flag's value."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise UserError(name, text, "must be a whole number")
        return int(text)

    return parse


def place(name: str) -> Callable[[str | Path], Path]:
    """A parser of the flag's value, which is a path."""

    def parse(text: str | Path) -> Path:
        try:
            Path(text).exists()
        except OSError as error:
            raise UserError(name, text, f"cannot be looked at ({error.strerror})") from None
        if not str(text):  # what a shell makes of a variable that is not set
            raise UserError(name, "''", "a path is empty")
        return Path(text)

    return parse


PARSERS: dict[str, Callable[[str], Callable[..., Any]]] = {"N": whole_number, "DIR": place, "FILE": place}


def flag(name: str, metavar: str, text: str, panel: str | None = None) -> Any:
    """A flag of a command: `metavar` N takes a whole number, DIR and FILE a path, an empty one no value."""
    parser = PARSERS[metavar](name) if metavar in PARSERS else None
    return typer.Option(name, metavar=metavar, parser=parser, help=text, rich_help_panel=panel)


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Few-shot image classification methods, compared reproducibly and with honest uncertainty.",
    epilog="First steps: `run --method siamese_triplet --dataset glyphs`, then `leaderboard`.",
)
data_app = typer.Typer(cls=Commands, help="What a data set holds, and whether it is whole.")
app.add_typer(data_app, name="data")

WHAT, OWN, WHERE, HOW = (
    "What to run",
    "Your own few-shot setting, measured too",
    "Folders",
    "How to run it",
)

Dataset = Annotated[str, flag("--dataset", "NAME", "See `list datasets`; or folder:PATH, hf:NAME.")]
DATA_ROOT = "Where data sets lie; else $FEWSHOT_DATA, else the user's cache folder."
IMAGE_SIZE = (
    "Side in pixels to which images of folder: and hf: (32) and omniglot (28) are resized; pretrained models"
    " of timm get images of their own size."
)
NO_DOWNLOAD = "Never download."
DataRoot = Annotated[Path | None, flag("--data-root", "DIR", DATA_ROOT)]
ImageSize = Annotated[int | None, flag("--image-size", "N", IMAGE_SIZE)]
Offline = Annotated[bool, flag("--offline", "", NO_DOWNLOAD)]
Results = Annotated[Path, flag("--results", "DIR", "Folder of records.")]
Runs = Annotated[Path, flag("--runs", "DIR", "Folder of checkpoints, for embeddings and episodes.")]


@contextmanager
def warned_of(problems: Sequence[str]) -> Iterator[None]:
    """Name files that are left out, then show the rest, then exit 1 if there were any."""
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    yield
    if problems:
        raise typer.Exit(1)


@app.command()
def run(
    method: Annotated[
        list[str] | None,
        flag(
            "--method", "NAME,...", "See `list methods`; or path/to/file.py:Class, whose code is run.", WHAT
        ),
    ] = None,
    split: Annotated[
        list[str] | None, flag("--split", "NAME,...", "See `list splits` (90-10).", WHAT)
    ] = None,
    seed: Annotated[list[str] | None, flag("--seed", "N,...", "Training seeds (0).", WHAT)] = None,
    preset: Annotated[
        str | None, flag("--preset", "NAME", "smoke, quick, standard (default) or paper.", WHAT)
    ] = None,
    dataset: Annotated[
        str | None,
        flag("--dataset", "NAME", "See `list datasets` (cifar100); or folder:PATH, hf:NAME.", WHAT),
    ] = None,
    image_size: Annotated[int | None, flag("--image-size", "N", IMAGE_SIZE, WHAT)] = None,
    backbone: Annotated[
        str | None, flag("--backbone", "NAME", "Not the preset's; see `list backbones`.", WHAT)
    ] = None,
    weights: Annotated[
        Path | None, flag("--weights", "FILE", "Start from these: safetensors or a PyTorch checkpoint.", WHAT)
    ] = None,
    no_train: Annotated[bool, flag("--no-train", "", "Evaluate the weights as they are.", WHAT)] = False,
    steps: Annotated[int | None, flag("--steps", "N", "Training steps, not the preset's.", WHAT)] = None,
    set_: Annotated[
        list[str] | None,
        flag("--set", "KEY=VALUE", "A hyperparameter; see `list methods --method NAME`. Repeatable.", WHAT),
    ] = None,
    config: Annotated[
        Path | None,
        flag("--config", "FILE", "YAML: a run's config.yaml, or a list of `runs`; flags win over it.", WHAT),
    ] = None,
    way: Annotated[int | None, flag("--way", "N", "Classes in an episode.", OWN)] = None,
    shot: Annotated[int | None, flag("--shot", "N", "Support images per class.", OWN)] = None,
    query: Annotated[int | None, flag("--query", "N", "Query images per class (15).", OWN)] = None,
    episodes: Annotated[int | None, flag("--episodes", "N", "How many episodes (10,000).", OWN)] = None,
    measure: Annotated[
        list[str] | None,
        flag("--measure", "NAME,...", "Only these: 5w1s, 5w5s, allw1s, pairs, triplets, generalized.", HOW),
    ] = None,
    data_root: Annotated[Path | None, flag("--data-root", "DIR", DATA_ROOT, WHERE)] = None,
    results: Annotated[Path, flag("--results", "DIR", "Folder of records.", WHERE)] = Path("results"),
    runs: Annotated[
        Path, flag("--runs", "DIR", "Folder of checkpoints, logs and resolved configurations.", WHERE)
    ] = Path("runs"),
    device: Annotated[str, flag("--device", "NAME", "auto, cpu, cuda, cuda:1 or mps.", HOW)] = "auto",
    precision: Annotated[
        str | None, flag("--precision", "NAME", "auto (default), fp32 or bf16.", HOW)
    ] = None,
    overwrite: Annotated[bool, flag("--overwrite", "", "Run again what is recorded already.", HOW)] = False,
    offline: Annotated[bool, flag("--offline", "", NO_DOWNLOAD, HOW)] = False,
    as_json: Annotated[
        bool, flag("--json", "", "Print the records, one JSON object per line, not tables and paths.", HOW)
    ] = False,
) -> None:
    """Train and evaluate, and write one record for each method, split and seed.

    Methods, splits and seeds may be several: `--method protonet,siamese_triplet --seed 0,1,2`.
    """
    from bench.config import read_sets
    from bench.grid import build, separated

    flags = {
        "method": separated("--method", method) or None, "split": separated("--split", split) or None,
        "seed": [whole_number("--seed")(text) for text in separated("--seed", seed)] or None,
        "preset": preset, "dataset": dataset, "image_size": image_size, "backbone": backbone,
        "weights": weights and str(weights), "train": False if no_train else None, "steps": steps,
        "way": way, "shot": shot, "query": query, "episodes": episodes, "precision": precision,
        "measure": separated("--measure", measure) or None,
    }  # fmt: skip
    given = {key: value for key, value in flags.items() if value is not None}
    grid = build(config, given, read_sets(set_ or []))
    _check_before_imports(grid, device)

    # What is imported stays: to look through it for garbage, again and again, takes two seconds.
    first = "torch" not in sys.modules
    gc.disable()
    from bench.preparation import Options
    from bench.runner import run_all
    from bench.show import result_table

    if first:
        gc.freeze()
        atexit.register(gc.unfreeze)  # or libraries report as leaks what is left at the end
    gc.enable()

    command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    options = Options(results, runs, command, data_root, device, overwrite, offline)
    paths, failed = [], []
    for path, record in run_all(grid, options):
        if record.failure is None or as_json:
            print(record.model_dump_json() if as_json else result_table(record), flush=True)
        if record.failure is not None:
            failed.append(UserError("--method", record.method, f"{record.failure} (recorded in {path})"))
        paths.append(path)
    for path in paths:
        print(path, file=sys.stderr if as_json else sys.stdout)
    for error in failed[:-1]:
        print(f"error: {error}", file=sys.stderr)
    if failed:
        raise failed[-1]


def _check_before_imports(grid: list[RunConfig], device: str) -> None:
    """Mistakes that need no data are found before torch is imported."""
    from bench.data.names import check_dataset, check_split
    from bench.environment import check_device

    check_device(device)
    for one in grid:
        check_dataset(one.dataset)
        check_split(one.split)


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help=f"{', '.join(LISTINGS[:-1])} or {LISTINGS[-1]}.")
    ],
    method: Annotated[
        str | None, flag("--method", "NAME", "With `methods`: all about one, with its hyperparameters.")
    ] = None,
    results: Results = Path("results"),
    as_json: Annotated[bool, flag("--json", "", "Print JSON.")] = False,
) -> None:
    """List methods, splits, datasets, backbones, presets or recorded runs."""
    from bench import show

    if what not in LISTINGS:
        raise UserError("list", what, one_of(what, LISTINGS))
    if method is None:
        rows, problems = show.runs(results) if what == "runs" else (show.listing(what), [])
        with warned_of(problems):
            print(json.dumps(rows, indent=1) if as_json else show.plain_table(rows))
        return
    if what != "methods":
        raise UserError("--method", method, f"goes with `list methods`, not with `list {what}`")
    from dataclasses import asdict

    from bench.config import method_info

    info = method_info(method)
    print(json.dumps(asdict(info), indent=1) if as_json else show.method_page(info))


@data_app.command("info")
def data_info(
    dataset: Dataset = "cifar100",
    data_root: DataRoot = None,
    image_size: ImageSize = None,
    offline: Offline = False,
    as_json: Annotated[bool, flag("--json", "", "Print JSON.")] = False,
) -> None:
    """Say what is there: counts, fingerprint, duplicates."""
    from bench.data.names import check_dataset

    check_dataset(dataset)

    from bench.data import inspect
    from bench.progress import shown
    from bench.show import fact_table

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
    """Read every image and name what is damaged; exit 1 if anything is."""
    from bench.data.names import check_dataset

    check_dataset(dataset)

    from bench.data import inspect
    from bench.progress import shown

    with shown() as progress:
        problems = inspect.verify(dataset, data_root, image_size, offline, progress)
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(1)
    print(f"{dataset}: nothing is damaged")


from bench import commands_records  # noqa: E402, F401 - its commands register themselves
