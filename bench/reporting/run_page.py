"""`show`: settings, origin, numbers and files of one run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from bench.common.errors import UserError, one_line
from bench.records.arrays import read_episodes
from bench.records.identity import as_set, marks, name_of
from bench.records.naming import JOINED, JOINT
from bench.records.store import Record
from bench.records.tracks import cost, images_seen, kept, pretraining_share
from bench.reporting import terminal
from bench.reporting.blocks import duration, percent_text
from bench.reporting.ranking.rows import by_size
from bench.reporting.reach import reaches
from bench.reporting.show import Row, class_rows, metric_rows

WIDTH = 90
REACHES = "The same numbers for other populations; none of these intervals covers retraining"


def page(record: Record, path: Path, runs: Path) -> str:
    """The page of one run.

    Args:
        record: what to show.
        path: the record's file; its npz file is in the same folder.
        runs: folder of checkpoints and logs.
    """
    parts = [record.run_id, _section("What", _what(record)), _section("How", _how(record))]
    if record.failure is not None:
        parts.append(f"Failed: {one_line(record.failure)}")
    single = [key for key in record.metrics if not JOINED.fullmatch(key)]
    if single:
        parts.append(f"Numbers: percent with 95% intervals\n\n{terminal.text(metric_rows(record, single))}")
    if rows := _reaches(record, path.parent):
        parts.append(f"{REACHES}\n\n{terminal.text(rows)}")
    if rows := _generalized(record):
        parts.append(f"Generalized: base and novel classes jointly\n\n{terminal.text(rows)}")
    if record.per_class:
        parts.append(f"Novel classes, hardest first\n\n{terminal.text(class_rows(record))}")
    parts.append(_section("Files", _files(record, path, runs)))
    return "\n\n".join(parts) + "\n"


def _section(title: str, lines: Iterator[tuple[str, str]]) -> str:
    shown = [title]
    for name, text in lines:
        # A command stays on one line, so that it can be copied.
        wrapped = [text] if name == "command" else textwrap.wrap(text, WIDTH, break_on_hyphens=False)
        shown += [f"  {name if i == 0 else '':<16}{piece}" for i, piece in enumerate(wrapped)]
    return "\n".join(shown)


def _what(record: Record) -> Iterator[tuple[str, str]]:
    counts = record.classes
    yield "method", one_line(name_of(record))
    yield "family", one_line(record.family)
    yield "paper", one_line(record.paper)
    yield "backbone", one_line(f"{record.backbone}, {record.parameters:,} parameters")
    yield "data set", one_line(f"{record.dataset}, fingerprint {record.fingerprint}")
    yield "split", one_line(f"{record.split}, protocol {record.protocol_version}")
    yield "classes", f"{counts.base} base, {counts.validation} validation, {counts.novel} novel"
    yield (
        "images",
        f"{counts.train_images:,} training, {counts.validation_images:,} validation, "
        f"{counts.base_test_images:,} base-test, {counts.novel_images:,} novel "
        f"({counts.novel_dropped_duplicates:,} duplicates left out)",
    )
    left_out = {
        f"{record.left_out_images:,} unreadable images": record.left_out_images,
        f"{record.left_out_classes:,} classes with fewer than 2 others": record.left_out_classes,
        f"base classes without training images: {', '.join(record.no_training_classes)}": bool(
            record.no_training_classes
        ),
    }
    if said := [text for text, there in left_out.items() if there]:
        yield "left out", one_line("; ".join(said))
    yield "seed", str(record.seed)
    yield "hyperparameters", one_line(" ".join(as_set(record.hyperparameters))) or "none"
    training = [] if record.trained or record.pretraining else ["no training"]
    weights = [f"weights {record.weights}"] if record.weights else []
    if shown := [*marks(record), *training, *weights]:
        yield "marks", ", ".join(shown)


def _how(record: Record) -> Iterator[tuple[str, str]]:
    where, times = record.environment, record.timings
    commit = f", commit {where.git_commit}" if where.git_commit else ""
    commit += " with uncommitted changes" if where.git_dirty else ""
    yield "command", one_line(record.command)
    yield "made", one_line(f"{record.created:%Y-%m-%d %H:%M} UTC by bench {record.bench_version}{commit}")
    several = f"{where.devices} x " if where.devices > 1 else ""
    device = f"{several}{where.device}, {where.precision}, threads: {where.threads}"
    yield "machine", one_line(f"{device}; {where.cpu}; {where.platform}")
    yield "libraries", one_line(", ".join(f"{name} {version}" for name, version in where.libraries.items()))
    rates = [f"{times.steps:,} steps"]
    if times.train_images_per_s:
        rates.append(f"{times.train_images_per_s:,.0f} images/s")
    yield "training", f"{duration(times.train_s)} ({', '.join(rates)})" if record.trained else "none"
    yield from _budget(record)
    yield "evaluation", duration(times.evaluate_s)
    yield "total", duration(times.total_s)
    if times.peak_memory_mib:
        yield "peak memory", f"{times.peak_memory_mib:,.0f} MiB"
    for name, info in record.episodes.items():
        query = f"{info.query} queries per class" if info.query else "all other images as queries"
        drawn = f"{info.count:,} of {info.way} classes, {info.shot}-shot, {query}"
        yield "episodes", one_line(f"{name}: {drawn}; seed {info.seed}, list {info.sha256[:12]}")
    for name, own in record.open_set.items():
        classes = f"{own.way} + {own.others} classes"
        drawn = f"{own.count:,} of {classes}, {own.shot}-shot, {own.query} queries per class"
        yield "episodes", one_line(f"{name}: {drawn}; seed {own.seed}, list {own.sha256[:12]}")
    for name, value in record.thresholds.items():
        source = "given" if record.labelled_novel_images else "from validation pairs"
        source = "from validation episodes" if name in record.open_set else source
        yield "threshold", one_line(f"{name}: {value:.4f}, {source}")


def _budget(record: Record) -> Iterator[tuple[str, str]]:
    before, seen, share = record.pretraining, images_seen(record), pretraining_share(record)
    if before:
        steps = f"step {before.kept_step:,} of {before.steps:,} kept"
        yield "pretraining", one_line(f"{before.run_id}: {duration(before.seconds)}, {steps}")
    if shared := record.shared_training:
        steps = f"{shared.steps:,} steps"
        yield "trained by", one_line(f"{shared.run_id}: {duration(shared.seconds)}, {steps}")
    if seen is not None and share is not None:
        yield "images seen", f"{seen:,}, {100 * share:.0f}% of them in pretraining"
    if kept([record]):
        yield "kept step", kept([record])
    if (spent := cost([record])) and spent.processor is not None:
        rest = ", shared training included" if before or shared else ""
        yield "processor time", f"{duration(spent.processor)}{rest}"


def _reaches(record: Record, directory: Path) -> list[Row]:
    try:
        found = reaches(record, directory)
    except UserError:  # reported under Files
        return []
    return [
        {
            "metric": one.metric,
            "other episodes or pairs": percent_text(record.metrics.get(one.metric)),
            "fresh images": percent_text(one.fresh_images, 1),
            "new classes": percent_text(one.new_classes, 1),
        }
        for one in found
    ]


def _generalized(record: Record) -> list[Row]:
    joins = dict.fromkeys(match["join"] for key in record.metrics if (match := JOINED.fullmatch(key)))
    rows = []
    for join in sorted(joins, key=by_size):
        _, classes, shots = join.split("/")
        numbers = {name: percent_text(record.metrics.get(f"{join}/{name}")) for name in JOINT}
        rows.append({"classes": classes, "shots": shots.removesuffix("s"), **numbers})
    return rows


def _files(record: Record, path: Path, runs: Path) -> Iterator[tuple[str, str]]:
    yield "record", one_line(path)
    if record.episode_file is None:
        yield "answers", "not recorded"
    else:
        try:
            read_episodes(record, path.parent, ())
            yield "answers", one_line(path.with_name(record.episode_file))
        except UserError as error:
            yield "answers", f"cannot be used: {error}"
    folder = runs / record.run_id
    yield "training", one_line(folder) if folder.is_dir() else f"no checkpoints or logs in {one_line(folder)}"
