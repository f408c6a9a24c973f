"""The leaderboard: records in, one Markdown file out, the same bytes every time."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.errors import UserError
from bench.records import Record, collection_paused, read_all, read_episodes, write_files

if TYPE_CHECKING:
    import numpy as np

    from bench.statistics import Interval

HIDDEN_PRESET = "smoke"
"""A preset that only tests the plumbing; its numbers mean nothing."""

ENOUGH_SEEDS = 3
"""Below this the spread over seeds is not estimated, and the row says so."""

COLUMNS = {
    "5w1s": ("fewshot/5w1s", 2),
    "5w5s": ("fewshot/5w5s", 2),
    "all-way 1-shot": ("fewshot/allw1s", 2),
    "novel pairs": ("novel/pair_accuracy", 1),
    "novel triplets": ("novel/triplet_accuracy", 1),
    "base pairs": ("base/pair_accuracy", 1),
    "base triplets": ("base/triplet_accuracy", 1),
}
"""Heading to metric key and decimals (of percent)."""

LEGEND = """\
# Leaderboard

Made from the records by `python -m bench leaderboard`; do not edit it by hand.

All numbers are percent: mean ± half-width of the 95% interval. `–`: this run has no such number.

- **5w1s**, **5w5s**: accuracy over episodes of 5 novel classes with 1 or 5 support images and 15 queries a
  class. **all-way 1-shot**: all novel classes at once, one support image each.
- **pairs**: balanced accuracy of saying whether two images show the same class, at the threshold that was
  best on validation pairs. **triplets**: how often an anchor is more similar to an image of its own class
  than to one of another. Guessing scores 50 in both. *novel*: on novel classes; *base*: on images of the
  base classes that were kept out of training.
- Novel classes are never seen in training, model selection or thresholds. Queries are answered one by one,
  except in rows marked transductive.
- **±** speaks of training again with another seed and drawing episodes or pairs again from the same images.
  With fewer than three seeds (†) it speaks of episodes and pairs only, for these very models. It never
  speaks of other classes or other images.
- **parameters** are the backbone's. **training time** is the mean over the seeds, each on its own machine.
- **marks**: *external data*: the weights have seen images beyond the base classes, so the row does not
  compare with rows trained from scratch; *transductive*: the queries of an episode are answered together;
  *untrained*: evaluated as it came; *weights*: started from this file (SHA-256); *changed*: what differs
  from the preset.

Rows are ordered by 5w1s. Between rows whose intervals overlap the order means little.
"""


class Row(NamedTuple):
    """The records of one configuration, one a seed, and its per-episode accuracies.

    `accuracies` maps a setting to ``[R, T]``; None if there is more than one seed and an episode file is
    missing or damaged.
    """

    records: list[Record]
    accuracies: dict[str, np.ndarray] | None


def render(records: Sequence[Record], directory: Path | None = None) -> str:
    """The leaderboard as Markdown.

    Records that differ only in the seed make one row; of two with the same seed the later one counts.

    Args:
        records: in any order.
        directory: where their episode files lie. Without it the intervals over several seeds come from
            the records' own intervals, which is a little wider, and the rows say so.
    """
    shown = sorted((r for r in records if r.preset != HIDDEN_PRESET), key=lambda record: record.run_id)
    parts = [LEGEND]
    sections = _grouped(shown, _section_key)
    for section in sorted(sections.values(), key=lambda group: _section_order(group[0])):
        parts.append(_section_title(section[0]))
        versions = _grouped(section, lambda record: str(record.protocol_version))
        for version in sorted(versions.values(), key=lambda group: -group[0].protocol_version):
            parts.append(f"### Protocol {version[0].protocol_version}\n")
            parts.append(_table([_row(group, directory) for group in _grouped(version, _row_key).values()]))
    if not shown:
        parts.append("No results yet.\n")
    return "\n".join(parts)


def write(directory: Path, output: Path) -> list[str]:
    """Write the leaderboard of all valid records of a folder.

    Returns:
        One line for each file of the folder that was left out because it is not a valid record.

    Raises:
        UserError: if the folder cannot be read or the file cannot be written.
    """
    text, problems = _rendered(directory)
    write_files({output: text.encode()}, "--output")
    return problems


def is_stale(directory: Path, output: Path) -> bool:
    """Whether the leaderboard file is missing or differs from what the records give.

    Raises:
        UserError: if the folder or the file cannot be read.
    """
    try:
        # As text, because git may have changed the line ends.
        current = output.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return True
    except OSError as error:
        raise UserError("--output", output, error.strerror or "cannot be read") from error
    return current != _rendered(directory)[0]


def _rendered(directory: Path) -> tuple[str, list[str]]:
    with collection_paused():
        records, problems = read_all(directory)
        return render(records, directory), problems


def _grouped(records: Iterable[Record], key: Callable[[Record], str]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def _section_key(record: Record) -> str:
    return json.dumps([record.dataset, record.split, record.fingerprint, record.classes.model_dump()])


def _section_order(record: Record) -> tuple:
    # 100-0 after 90-10: numbers in names count as numbers.
    split = [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", record.split)]
    return record.dataset, split, record.fingerprint, _section_key(record)


def _section_title(record: Record) -> str:
    counts = record.classes
    return (
        f"## {code(record.dataset)} split {code(record.split)}: "
        f"{counts.base} base / {counts.validation} validation / {counts.novel} novel classes\n\n"
        f"Fingerprint {code(record.fingerprint[:12])}. {counts.train_images:,} training images; "
        f"{counts.novel_images:,} images of novel classes ({counts.novel_dropped_duplicates:,} more are left "
        "out because their pixels occur in training).\n"
    )


def _row_key(record: Record) -> str:
    """Equal for two records of a section and protocol that differ in nothing but the seed."""
    settings = [key.removeprefix("fewshot/") for key, _ in COLUMNS.values()]
    return json.dumps(
        [
            record.method,
            record.preset,
            {key: value for key, value in record.hyperparameters.items() if key != "seed"},
            record.backbone,
            record.parameters,
            record.weights,
            record.trained,
            record.transductive,
            record.external_data,
            _overrides(record),
            [(name, record.episodes[name].sha256) for name in settings if name in record.episodes],
        ],
        sort_keys=True,
    )


def _overrides(record: Record) -> dict:
    overrides = record.config.get("overrides")
    if not isinstance(overrides, dict):
        return {}
    return {key: value for key, value in overrides.items() if key != "seed"}


def _row(group: list[Record], directory: Path | None) -> Row:
    newest = {record.seed: record for record in sorted(group, key=lambda record: record.created)}
    records = [newest[seed] for seed in sorted(newest)]
    if len(records) == 1:
        return Row(records, {})  # its own intervals are already over episodes
    if directory is None or any(record.episode_file is None for record in records):
        return Row(records, None)
    import numpy as np

    wanted = [key.removeprefix("fewshot/") for key, _ in COLUMNS.values() if key.startswith("fewshot/")]
    try:
        each = [read_episodes(record, directory, wanted) for record in records]
    except UserError:
        return Row(records, None)
    # The same episodes in every record: their hash is part of the row's key.
    return Row(records, {name: np.stack([one[name] for one in each]) for name in each[0]})


def _interval(row: Row, key: str) -> Interval | None:
    from bench.statistics import Interval, closed_interval, crossed_seeds, over_seeds

    own = [
        Interval(*record.metrics[key].model_dump().values())
        for record in row.records
        if key in record.metrics
    ]
    if len(own) < 2:
        return own[0] if own else None
    accuracies = (row.accuracies or {}).get(key.removeprefix("fewshot/"))
    if accuracies is None or accuracies.shape[1] == 1:
        return over_seeds(own)
    return crossed_seeds(accuracies) if len(own) >= ENOUGH_SEEDS else closed_interval(accuracies.mean(axis=0))


def _table(rows: list[Row]) -> str:
    import tabulate
    from pandas import DataFrame

    tabulate.WIDE_CHARS_MODE = False  # else the padding depends on whether wcwidth is installed
    lines = []
    for row in rows:
        first = row.records[0]
        intervals = {heading: _interval(row, key) for heading, (key, _) in COLUMNS.items()}
        score = intervals["5w1s"]
        notes = (" †" if len(row.records) < ENOUGH_SEEDS else "") + (" ‡" if row.accuracies is None else "")
        cells = {
            "method": f"{code(first.method)} ({code(first.preset)})",
            "backbone": code(first.backbone),
            "parameters": parameter_count(first.parameters),
            **{heading: _cell(intervals[heading], digits) for heading, (_, digits) in COLUMNS.items()},
            "seeds": f"{len(row.records)}{notes}",
            "training time": _training_time(row.records),
            "marks": ", ".join(_marks(first)) or "–",
        }
        order = (score is None, -score.value if score else 0.0, first.method, first.preset, _row_key(first))
        lines.append((order, cells, row))
    lines.sort(key=lambda line: line[0])
    frame = DataFrame([cells for _, cells, _ in lines]).map(lambda cell: cell.replace("|", "\\|"))
    # Cells are text: "10" stays as it is written here, whatever tabulate makes of numbers.
    table = frame.to_markdown(index=False, disable_numparse=True, stralign="left")
    parts = [table, ""]
    if any(len(row.records) < ENOUGH_SEEDS for _, _, row in lines):
        parts += [f"† episodes only: fewer than {ENOUGH_SEEDS} training seeds.", ""]
    if any(row.accuracies is None for _, _, row in lines):
        parts += ["‡ the per-episode accuracies are not all at hand: ± from each seed's own interval.", ""]
    return "\n".join(
        [*parts, "<details>", "<summary>Commands</summary>", "", *_commands(lines), "</details>", ""]
    )


def _commands(lines: list) -> list[str]:
    parts = []
    for _, cells, row in lines:
        commands = "\n".join(dict.fromkeys(_printable(record.command, "\n\t") for record in row.records))
        fence = "`" * max(3, _longest_backticks(commands) + 1)
        seeds = ", ".join(str(record.seed) for record in row.records)
        parts += [
            f"{cells['method']}, {cells['backbone']}, seed {seeds}:",
            "",
            f"{fence}sh",
            commands,
            fence,
            "",
        ]
    return parts


def _cell(interval: Interval | None, digits: int) -> str:
    if interval is None:
        return "–"
    return f"{100 * interval.value:.{digits}f} ± {100 * interval.half_width:.{digits}f}"


def _marks(record: Record) -> list[str]:
    marks = []
    if record.external_data:
        marks.append("external data")
    if record.transductive:
        marks.append("transductive")
    if not record.trained:
        marks.append("untrained")
    if record.weights:
        marks.append(f"weights {code(record.weights[:8])}")
    overrides = _overrides(record)
    if overrides:
        parts = [
            f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
            for key, value in sorted(overrides.items())
        ]
        marks.append(f"changed {code(' '.join(parts))}")
    return marks


def _training_time(records: list[Record]) -> str:
    times = [record.timings.train_s for record in records if record.trained]
    return duration(sum(times) / len(times)) if times else "–"


def duration(seconds: float) -> str:
    """Seconds for people: ``54 s``, ``9 min 54 s``, ``2 h 03 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


def parameter_count(number: int) -> str:
    """A count for people: ``640``, ``113 k``, ``2.0 M``."""
    if number >= 999_500:
        return f"{number / 1e6:.1f} M"
    return f"{number / 1e3:.0f} k" if number >= 1000 else str(number)


def code(text: str) -> str:
    """Any text as a Markdown code span, in which nothing is markup, link or HTML."""
    text = " ".join(_printable(text, " \t\n").split()) or "–"
    fence = "`" * (_longest_backticks(text) + 1)
    pad = " " if "`" in text[0] + text[-1] else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _printable(text: str, keep: str) -> str:
    """Control and direction-changing characters written out, e.g. ``\\x1b``."""
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def _longest_backticks(text: str) -> int:
    return max((len(list(run)) for tick, run in itertools.groupby(text) if tick == "`"), default=0)
