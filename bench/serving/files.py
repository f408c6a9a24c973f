"""Support and query images from files, and the answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from bench.common.errors import UserError
from bench.common.files import is_file, is_folder
from bench.data.pixels import formats
from bench.serving.calibration import Calibration
from bench.serving.predictor import load

LAYOUT = "must be a folder with <class>/<image>, or with one image per class"


class Predicted(NamedTuple):
    """Answers for files.

    Attributes:
        answers: file, label, its probability, and whether the image is known: False means none of these.
        calibration, note: as in `predictor.Answers`.
        problems: one line per query that cannot be read.
    """

    answers: list[tuple[Path, str, float, bool]]
    calibration: Calibration | None
    note: str
    problems: list[str]


def predict_files(
    run: str,
    support: Path,
    query: Sequence[Path],
    runs: Path,
    data_root: Path | None,
    device: str = "auto",
    run_code: bool = False,
) -> Predicted:
    """Classify the images of files and folders.

    Args:
        run, runs, data_root, device, run_code: as in `predictor.load`.
        support: a folder, see `support_files`. query: images, or folders of images.

    Raises:
        UserError: there is no such run, folder or file, or a support image cannot be read.
    """
    labelled, files = support_files(support), query_files(query)
    predictor = load(run, runs=runs, device=device, data_root=data_root, run_code=run_code)
    known, broken, spans = predictor.decode([path for path, _ in labelled], together=True)
    if broken:
        raise UserError("--support", support, f"cannot be read: {next(iter(broken.values()))}")
    pixels, unreadable, _ = predictor.decode(files, spans)
    if len(unreadable) == len(files):
        raise UserError("--query", files[0], f"cannot be read: {next(iter(unreadable.values()))}")
    kept = [index for index in range(len(files)) if index not in unreadable]
    found = predictor.answer(known, [label for _, label in labelled], pixels[torch.tensor(kept)])
    probability, best = found.probabilities.max(1)
    answers = [
        (files[index], found.classes[column], chance, is_known)
        for index, column, chance, is_known in zip(
            kept, best.tolist(), probability.tolist(), found.known.tolist(), strict=True
        )
    ]
    problems = [f"cannot be read: {problem}" for problem in unreadable.values()]
    return Predicted(answers, found.calibration, found.note, problems)


def support_files(folder: Path) -> list[tuple[Path, str]]:
    """Images and labels: ``folder/<class>/<image>``, or one image per class, named by its file.

    Raises:
        UserError: there are fewer than two classes.
    """
    if not is_folder(folder):
        raise UserError("--support", folder, f"no such folder; {LAYOUT}")
    try:
        classes = sorted(path for path in folder.iterdir() if is_folder(path) and path.name[0] != ".")
        found = [(path, owner.name) for owner in classes for path in _images_in(owner)]
        found = found or [(path, path.stem) for path in _images_in(folder)]
    except OSError as error:
        raise UserError("--support", folder, f"cannot be read ({error.strerror})") from None
    if (count := len({label for _, label in found})) < 2:
        raise UserError("--support", folder, f"has {count} classes with images, at least 2 needed; {LAYOUT}")
    return found


def query_files(paths: Sequence[Path]) -> list[Path]:
    """The files, and the images in the folders and in their subfolders.

    Raises:
        UserError: a path does not exist, or a folder has no images.
    """
    found: list[Path] = []
    for path in paths:
        if is_file(path):
            found.append(path)
        elif not is_folder(path):
            raise UserError("--query", path, "no such file or folder")
        elif images := _images_in(path, deep=True):
            found += images
        else:
            raise UserError("--query", path, "has no images")
    return found


def _images_in(folder: Path, deep: bool = False) -> list[Path]:
    paths = folder.rglob("*") if deep else folder.iterdir()
    return sorted(path for path in paths if path.suffix.lower() in formats() and path.name[0] != ".")
