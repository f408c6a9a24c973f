"""Support and query images from files, and the answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from bench.common.errors import UserError
from bench.common.files import is_file, is_folder
from bench.data.listing import folders_in, images_in, images_of, is_image, unused_files
from bench.serving.calibration import Calibration
from bench.serving.predictor import load

LAYOUT = "must be a folder with <class>/<image>, or with one image per class"
NO_IMAGES = "has no images of a format that is read"


class Predicted(NamedTuple):
    """Answers for files.

    Attributes:
        answers: file, label, its probability, and whether the image is known: False means none of these.
        calibration, note: as in `predictor.Answers`.
        problems: one line per query that cannot be read, and per class folder without images.
        unused: other files in the folders.
    """

    answers: list[tuple[Path, str, float, bool]]
    calibration: Calibration | None
    note: str
    problems: list[str]
    unused: list[str]


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
    labelled, empty, beside = support_files(support)
    files, no_images = query_files(query)
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
    problems += [f"not used: {folder}" for folder in empty]
    return Predicted(answers, found.calibration, found.note, problems, [*beside, *no_images])


def support_files(folder: Path) -> tuple[list[tuple[Path, str]], list[str], list[str]]:
    """Images and labels: ``folder/<class>/<image>``, or one image per class, named by its file.

    A class may have its images in its only subfolder. Also returns class folders without images, and files
    that are not used.

    Raises:
        UserError: there are fewer than two classes.
    """
    if not is_folder(folder):
        raise UserError("--support", folder, f"no such folder; {LAYOUT}")
    try:
        classes = folders_in(folder)
        of_class = {owner: images_of(folder, owner) for owner in classes}
        found = [(folder / name, owner.name) for owner, names in of_class.items() for name in names]
        if not found:
            of_class = {folder: images_in(folder, folder)}
            found = [(folder / name, Path(name).stem) for name in of_class[folder]]
        used = {name for names in of_class.values() for name in names}
        empty = [
            f"{owner}: {NO_IMAGES}, in it or in its only subfolder"
            for owner in of_class
            if not of_class[owner]
        ]
        beside = [str(folder / name) for name in unused_files(folder, used, set(of_class))]
    except OSError as error:
        raise UserError("--support", folder, f"cannot be read ({error.strerror})") from None
    if (count := len({label for _, label in found})) < 2:
        raise UserError("--support", folder, f"has {count} classes with images, at least 2 needed; {LAYOUT}")
    return found, empty, beside


def query_files(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files, and the images in the folders and in their subfolders; and the other files there.

    Raises:
        UserError: a path does not exist, or a folder has no images.
    """
    found: list[Path] = []
    others: list[str] = []
    for path in paths:
        if is_file(path):
            found.append(path)
        elif not is_folder(path):
            raise UserError("--query", path, "no such file or folder")
        else:
            inner = sorted(
                file for file in path.rglob("*") if not _hidden(file, path) and not is_folder(file)
            )
            images = [file for file in inner if is_image(file.name)]
            if not images:
                raise UserError("--query", path, NO_IMAGES)
            found += images
            others += [str(file) for file in inner if not is_image(file.name)]
    return found, others


def _hidden(file: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(below).parts)
