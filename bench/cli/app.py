"""The command line, its flags, and code that commands share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bench.common.errors import UserError, one_of
from bench.common.streams import say


class Commands(TyperGroup):
    """Suggests the nearest command for a mistyped one."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command called `cmd_name`."""
        command = super().get_command(ctx, cmd_name)
        if command is None:
            raise UserError(cmd_name, "", f"no such command; {one_of(cmd_name, self.commands)}")
        return command


def int_parser(name: str) -> Callable[[str], int]:
    """A parser of the flag's value."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise UserError(name, text, "must be a whole number")
        return int(text)

    return parse


def path_parser(name: str) -> Callable[[str | Path], Path]:
    """A parser of the flag's value, which is a path."""

    def parse(text: str | Path) -> Path:
        try:
            Path(text).exists()
        except OSError as error:
            raise UserError(name, text, f"cannot be accessed ({error.strerror})") from None
        if not str(text):  # from an unset shell variable
            raise UserError(name, "''", "must be a path")
        return Path(text)

    return parse


PARSERS: dict[str, Callable[[str], Callable[..., Any]]] = {
    "N": int_parser,
    "DIR": path_parser,
    "FILE": path_parser,
}


def flag(name: str, metavar: str, text: str, panel: str | None = None, default: str = "") -> Any:
    """A flag: `metavar` N takes a whole number, DIR and FILE a path, an empty one no value.

    `default` says what happens without the flag if its variable is None then; Typer shows other defaults.
    """
    parser = PARSERS[metavar](name) if metavar in PARSERS else None
    text += f" [default: {default}]" if default else ""
    return typer.Option(name, metavar=metavar, parser=parser, help=text, rich_help_panel=panel)


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Few-shot image classification methods, compared reproducibly and with honest uncertainty.",
    epilog="First steps: `run --method siamese_triplet --dataset glyphs --preset smoke`, then `list runs`.",
)
data_app = typer.Typer(cls=Commands, help="Show what a data set holds; check it.")
app.add_typer(data_app, name="data")

Dataset = Annotated[str, flag("--dataset", "NAME", "See `list datasets`; or folder:PATH, hf:NAME.")]
DATA_ROOT = "Folder of data sets. [default: $FEWSHOT_DATA, else the user's cache folder]"
IMAGE_SIZE = (
    "Side in pixels to which images of folder:, hf: and omniglot are resized. [default: 32; omniglot 28;"
    " for pretrained models of timm their own size]"
)
NO_DOWNLOAD = "Never download."
DataRoot = Annotated[Path | None, flag("--data-root", "DIR", DATA_ROOT)]
ImageSize = Annotated[int | None, flag("--image-size", "N", IMAGE_SIZE)]
Offline = Annotated[bool, flag("--offline", "", NO_DOWNLOAD)]
Results = Annotated[Path, flag("--results", "DIR", "Folder of records; own runs are in its folder own.")]
OwnResults = Annotated[Path, flag("--results", "DIR", "Folder of records to write to.")]
RESULTS, RUNS = Path("results"), Path("runs")
OWN_RESULTS = RESULTS / "own"
Runs = Annotated[Path, flag("--runs", "DIR", "Folder of runs with their models.")]
DEVICE = "auto, cpu, cuda, cuda:1 or mps."
Device = Annotated[str, flag("--device", "NAME", DEVICE)]


@contextmanager
def report_problems(problems: Sequence[str]) -> Iterator[None]:
    """Name the files that are left out; after the output, exit with 1 if there are any."""
    for problem in problems:
        say(f"warning: {problem}")
    yield
    if problems:
        raise typer.Exit(1)
