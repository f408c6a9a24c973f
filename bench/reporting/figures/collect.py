"""All figures of a folder of records, in order, and their files."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.common.errors import UserError, one_line, one_of
from bench.common.files import check_writable, write_files
from bench.common.progress import Report
from bench.records.schema import MODEL_FILE
from bench.records.store import Record, find_run, read_all
from bench.reporting.figures import curves, per_class, scatter, shots, splits
from bench.reporting.figures.picture import Gap, Palette, Picture
from bench.reporting.figures.rows import Section, sections
from bench.reporting.figures.style import LOOK, entitle, png, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Options(NamedTuple):
    """Input folders.

    Attributes:
        results: folder of records.
        runs: folder of checkpoints; it may not exist.
        data_root: ``--data-root``; None if not given.
        run, method, split: draw only these, as the flags name them; None for all.
    """

    results: Path
    runs: Path
    data_root: Path | None = None
    run: str | None = None
    method: str | None = None
    split: str | None = None


def chosen(records: Sequence[Record], options: Options) -> list[Record]:
    """The records that the options name.

    Raises:
        UserError: there is no such run, method or split.
    """
    own = list(records)
    if options.run is not None:
        run_id = find_run(options.results, options.run, "--run").stem
        own = [record for record in own if record.run_id == run_id]
    for flag, wanted in (("method", options.method), ("split", options.split)):
        there = sorted({getattr(record, flag) for record in own})
        if wanted is not None and wanted not in there:
            raise UserError(f"--{flag}", wanted, f"has no records; {one_of(wanted, there)}")
        own = [record for record in own if wanted in (None, getattr(record, flag))]
    return own


def collect(sections: Sequence[Section], options: Options) -> list[Picture | Gap]:
    """Every figure that can be drawn, with a unique name, and every one that cannot, with the reason."""
    palette = Palette(row.label for section in sections for row in section.rows)
    found = splits.pictures(sections)
    for section in sections:
        of_rows = [item for one in (shots, scatter, curves) for item in one.pictures(section, palette)]
        items = [*of_rows, *_of_models(section, options)]
        found += [item._replace(section=section.title) for item in items]
    taken: set[str] = set()
    return [_named(item, taken) if isinstance(item, Picture) else item for item in found]


def _of_models(section: Section, options: Options) -> list[Picture | Gap]:
    """Figures of one model; those with images, which are slow, only if there is a model or a data root."""
    kept = (options.runs / record.run_id / MODEL_FILE for row in section.rows for record in row.records)
    if options.data_root is None and not any(path.is_file() for path in kept):
        why = "needs the model of a run, in the folder --runs, and its data set"
        title = "Embeddings, confusions and an episode of novel classes; images of the hardest classes"
        return [*per_class.pictures(section, None, with_images=False), Gap(title, why)]
    from bench.reporting.figures import checkpoint_figures

    return [
        *per_class.pictures(section, options.data_root, with_images=True),
        *checkpoint_figures.pictures(section, options.runs, options.data_root),
    ]


def _named(picture: Picture, taken: set[str]) -> Picture:
    name = base = re.sub(r"[^A-Za-z0-9.@+-]+", "-", f"{picture.section} {picture.name}").strip("-.").lower()
    number = 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return picture._replace(name=name)


@contextmanager
def drawn(picture: Picture) -> Iterator[Figure]:
    """The figure, to be saved within the context."""
    import matplotlib

    with matplotlib.rc_context(LOOK), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box is drawn instead
        yield picture.draw()


class Written(NamedTuple):
    """Files that were written, figures that could not be drawn, and files that are not valid records."""

    paths: list[Path]
    gaps: list[Gap]
    problems: list[str]


def write(folder: Path, options: Options, progress: Report) -> Written:
    """Write every figure of a folder of records as PNG and SVG, and the captions as ``captions.txt``.

    Raises:
        UserError: if the records cannot be read or the folder is not writable.
    """
    check_writable(folder, "--output")
    records, problems = read_all(options.results)
    found = collect(sections(chosen(records, options), options.results), options)
    pictures = [item for item in found if isinstance(item, Picture)]
    written = Written([], [item for item in found if isinstance(item, Gap)], problems)
    for number, picture in enumerate(pictures):
        progress("drawing", number, len(pictures))
        with drawn(picture) as figure:
            entitle(figure, picture.title, picture.section)
            files = {
                folder / f"{picture.name}.png": png(figure),
                folder / f"{picture.name}.svg": svg(figure).encode(),
            }
        write_files(files, "--output")
        written.paths.extend(files)
    if pictures:
        progress("drawing", len(pictures), len(pictures))
        captions = folder / "captions.txt"
        lines = (f"{one.name}: {one.title}. {one.caption}" for one in pictures)
        write_files({captions: "".join(f"{one_line(line)}\n" for line in lines).encode()}, "--output")
        written.paths.append(captions)
    return written
