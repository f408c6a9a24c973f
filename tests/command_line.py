"""The command line as a user has it, but in this process: importing torch once is slow enough."""

import functools
import io
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import typer.main
from PIL import Image

from bench.__main__ import main

# Typer builds all commands for each call, which takes longer than most of the calls.
typer.main.get_command = functools.cache(typer.main.get_command)


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def bench(*arguments: object) -> Answer:
    """Run `python -m bench` with these arguments."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    argv = ["bench", *map(str, arguments)]
    with (
        mock.patch("sys.argv", argv),
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(),
        pytest.raises(SystemExit) as stop,
    ):
        # As outside pytest, which collects warnings.
        warnings.filterwarnings("always", category=UserWarning)
        warnings.showwarning = lambda *warning, **_: err.write(warnings.formatwarning(*warning[:4]))
        main()
    texts = (stream.buffer.getvalue().decode() for stream in (out, err))
    return Answer(int(stop.value.code or 0), *texts)


def complaint(*arguments: object) -> str:
    """The one line that a command answers bad input with; nothing else is said, and nothing written."""
    before = files_in(Path())
    answer = bench(*arguments)
    assert answer.code == 2, answer
    assert answer.out == ""
    assert answer.err.startswith("error: ") and answer.err.count("\n") == 1 and answer.err.endswith("\n"), (
        answer.err
    )
    assert files_in(Path()) == before
    return answer.err.removeprefix("error: ").rstrip("\n")


def descendants(root: int) -> Iterator[tuple[int, bytes]]:
    """Process id and command line of a process and of all that it started (Linux)."""
    parents = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                stat = (place / "stat").read_text().rpartition(")")[2].split()
                parents[int(place.name)] = int(stat[1]), (place / "cmdline").read_bytes()
            except OSError:
                continue
    family = {root}
    while more := {pid for pid, (parent, _) in parents.items() if parent in family} - family:
        family |= more
    return ((pid, parents[pid][1]) for pid in family if pid in parents)


def files_in(folder: Path) -> dict[str, int]:
    """Every path below a folder, with the time of its last change."""
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def write_images(folder: Path, classes: int, each: int, tint: float = 0) -> None:
    """An image folder of classes that differ in colour and stripes; `tint` hides it by colours at random."""
    for name, content in _pictures(classes, each, tint).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@functools.cache
def _pictures(classes: int, each: int, tint: float) -> dict[str, bytes]:
    """Relative path -> PNG."""
    rng = np.random.default_rng(0)
    made = {}
    for number in range(classes):
        pattern = rng.uniform(80, 170, 3) + 25 * np.sign(rng.normal(size=(1, 32, 1)))
        for image in range(each):
            pixels = pattern + rng.normal(0, 45, (32, 32, 3))
            if tint:
                pixels += rng.normal(0, tint, 3) + rng.normal(0, tint, (32, 1, 1))
            file = io.BytesIO()
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
            made[f"class{number}/{image:02}.png"] = file.getvalue()
    return made


def decode(folder: Path, classes: int, *sizes: int) -> Path:
    """Write images of so many classes there and decode them."""
    write_images(folder / "images", classes, 40)
    with pytest.MonkeyPatch.context() as patch:
        settle(folder, folder, patch)
        for size in sizes:
            assert bench("data", "info", "--dataset", "folder:images", "--image-size", size).code == 0
    return folder


def settle(decoded: Path, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make a folder the working directory, with those images, which are not to be changed, and that cache."""
    for name in "images", "cache":
        if folder != decoded:
            (folder / name).symlink_to(decoded / name)
    patch.chdir(folder)
    patch.setenv("FEWSHOT_CACHE", str(decoded / "cache"))
