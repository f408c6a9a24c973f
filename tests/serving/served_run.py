"""A small recorded run to predict with, and pictures of classes that it has not seen."""

from pathlib import Path

from command_line import bench, write_images

from bench.records import store
from bench.records.store import Record

CLASSES, EACH = 12, 48  # the last six are novel


QUICK_MAML = ("--steps", 1, "--set", "inner_steps=1")


def made(place: Path, method: str, *more: object) -> Record:
    """The record of a run in `place`, which is the working directory. Only pairs are measured."""
    if not (place / "images").exists():
        write_images(place / "images", CLASSES, EACH)
    answer = bench(
        "run", "--method", method, "--preset", "smoke", "--split", "50-50", "--device", "cpu",
        "--dataset", "folder:images", "--precision", "fp32", "--measure", "pairs", *more,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    return store.read(Path(answer.out.split()[-1]))


def novel(place: Path, classes: range = range(6, 9), images: range = range(3)) -> dict[str, list[Path]]:
    """Class -> files of it."""
    return {
        f"class{number}": [place / f"images/class{number}/{image:02}.png" for image in images]
        for number in classes
    }
