"""The leaderboard as a document: summary, meaning of the columns, then all tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from bench.records.commands import made_by
from bench.records.identity import split_digest
from bench.reporting.blocks import (
    Block,
    Cell,
    Code,
    Commands,
    Heading,
    Paragraph,
    Prose,
    parameter_count,
    without_empty_columns,
)
from bench.reporting.leaderboard.cells import NEW_CLASSES, board, joined, name, network_notes, track_name
from bench.reporting.leaderboard.generalized import generalized
from bench.reporting.leaderboard.overview import overview
from bench.reporting.published import elsewhere, published_beside
from bench.reporting.ranking.tables import Table

GENERATED = Prose("Generated from the records and `studies/` by `python -m bench leaderboard`; do not edit.")

LEGEND = """\
All numbers are percent: mean ± half-width of the 95% interval. `–`: not measured.

- **Tracks**: a method is ranked only against methods with the same preset, backbone and budget of training
  images (pretraining included, up to 1%), and only with nothing changed from the preset. If a method can
  start from random weights or from the shared classifier of the base classes, both starts are rows.
  All other rows are **variations**: changed hyperparameters, other budgets, weights from a file, and older
  records that do not say how many images they saw. They have no rank.
- **rank**: by 5w1s (or the next column if no row has it), for new episodes of these classes. All pairs of
  rows in a track are compared on identical episodes, with Holm's correction over the track. `2–4` means that
  one row is significantly better, and that the tests cannot tell whether this row is second, third or fourth.
  Rows whose ranks overlap are tied. A method that changes the embedding in every episode answers the first
  1,000 of the others' 10,000 episodes and is compared on these. A row that was not compared has no rank.
- **rank, new classes**: the same for other novel classes. Two rows count as different only if the 95%
  interval of their difference over classes (delete-one-class jackknife) excludes 0. With 10 or 20 classes
  few differences are significant. These intervals are not corrected for the number of rows.
- **5w1s**, **5w5s**: accuracy over episodes of 5 novel classes with 1 or 5 support images and 15 queries per
  class. **all-way 1-shot**: all novel classes at once, one support image per class. Every other setting has
  its own column: **10w5s** has 10 classes and 5 support images, **5w1s5q** has 5 queries per class. Guessing
  scores 100 divided by the number of classes: 20 with 5 classes, 10 with 10.
- **pairs**: balanced accuracy of deciding whether two images show the same class, at the best threshold of
  validation pairs. **AUC**, **EER**: area under the ROC curve and equal error rate (lower is better) of the
  same pairs, without a threshold. **triplets**: how often an anchor is more similar to an image of its own
  class than to one of another class. Guessing scores 50 in all of them. *novel*: on novel classes; *base*:
  on images of the base classes that were kept out of training. **open-set AUC**: in 5w1s episodes with
  queries of two further novel classes, the area under the ROC curve of telling these from the others.
- Training, model selection and thresholds never use novel classes, except in rows whose mark says so.
  Each query is classified independently, except in rows marked transductive.
- **±** applies to retraining with another seed and to other episodes or pairs of the same images. With fewer
  than three seeds (†) it applies only to other episodes or pairs, for these trained models, and so does the
  rank. Rows of three seeds are ranked among themselves, rows of fewer among all. ± never applies to other
  classes or other images.
- **images**: training images seen, repetitions and pretraining included. **pretraining**: the share of them
  that the shared classifier of the base classes saw; *none*: trained from scratch; `–`: not recorded.
  **kept step**: the training step with the best validation accuracy, whose weights are evaluated; *the
  pretrained network*: no step of the method's own training was better. **time**: processor time and
  *wall*-clock time of the run and its pretraining, the means over seeds, with the number of threads. Older
  records have only the latter, which depends on what else ran on the machine. *+ GPU*: beside a GPU, whose
  time is only in the wall-clock time. **date**: of the newest record.
- **marks**: *external data*: the weights have seen images beyond the base classes; *transductive*: the
  queries of an episode are classified together; *500 labelled images of each novel class*: before a class was
  tested, the method trained on this number of its images; *untrained*: the weights are random; *trained on
  validation classes*: with `--train-on base+val`. Such rows are below the others, without a rank.
  *other episodes*: the row has other episodes than the ranked rows.
  *network a*: rows with the same letter use the same trained network, in the seeds that the note below the
  table names. Older records, which have no kept step, do not say which network they used; their rows may
  share one too. *uncommitted code*: the code was not committed.
- A **method** is named with its preset, its start if it has the choice, and what was changed.
  *weights*: it started from this file (SHA-256); *no training*: it was evaluated without training."""

NOT_WHOLE: Cell = (
    "‡ some per-episode accuracies are missing: the row is not compared, and ± over several seeds comes "
    "from the interval of each seed.",
)
IN_HEADING = ("backbone", "parameters")
"""Columns that are in a track's heading."""


def document(tables: Sequence[Table], studies: Sequence[Block] = ()) -> list[Block]:
    """All blocks, from the title to the published results without a table.

    Args:
        tables: all of them. studies: the section about study files, after the summary.
    """
    blocks: list[Block] = [Heading(1, ("Leaderboard",)), GENERATED, *overview(tables), *studies]
    blocks += [Heading(2, ("How to read the tables",)), Prose(LEGEND)]
    for _, split in groupby(tables, key=lambda table: (table.first.dataset, table.first.split)):
        same = list(split)
        for _, section in groupby(same, key=lambda table: table.section):
            of_section = list(section)
            blocks += _title(of_section)
            for _, protocol in groupby(of_section, key=lambda table: table.first.protocol_version):
                of_protocol = list(protocol)
                for table in of_protocol:
                    blocks += [Heading(3, _heading(table)), *_table(table)]
                blocks += generalized(of_protocol)
        blocks += published_beside(same[0].first)
    return blocks + elsewhere({(table.first.dataset, table.first.split) for table in tables})


def _title(tables: Sequence[Table]) -> list[Block]:
    every = (record for table in tables for row in table.rows for record in row.records)
    # Methods that learn images of the novel classes are tested on fewer.
    records = sorted(every, key=lambda record: record.labelled_novel_images)
    record, counts = records[0], records[0].classes
    digest = next(filter(None, map(split_digest, records)), None)
    return [
        Heading(
            2,
            (
                Code(record.dataset),
                " split ",
                Code(record.split),
                f": {counts.base} base / {counts.validation} validation / {counts.novel} novel classes",
            ),
        ),
        Paragraph(
            (
                "Fingerprint ",
                Code(record.fingerprint[:12]),
                *((", split ", Code(digest[:12])) if digest else ()),
                f". {counts.train_images:,} training images; {counts.novel_images:,} images of novel classes "
                f"({counts.novel_dropped_duplicates:,} more left out, because their pixels occur in "
                "training).",
            )
        ),
    ]


def _heading(table: Table) -> Cell:
    protocol = f"protocol {table.first.protocol_version}"
    if table.track is None:
        return (f"Variations, {protocol}",)
    sizes = sorted({row.first.parameters for row in table.rows})
    parameters = " to ".join(dict.fromkeys(map(parameter_count, (sizes[0], sizes[-1]))))
    about = f" ({parameters} parameters), {table.track.images:,} images, {protocol}"
    return ("Track ", *track_name(table.track), about)


def _table(table: Table) -> list[Block]:
    from bench.statistics import ENOUGH_SEEDS

    known = table.ranked_by in table.better_for_new_classes
    left_out = {*IN_HEADING, *(() if known else (NEW_CLASSES,))} if table.track else {"rank", NEW_CLASSES}
    shown = board(table)
    shown = shown[[heading for heading in shown if heading not in left_out]]
    blocks: list[Block] = [without_empty_columns(shown, 1 + list(shown).index("method"))]
    if any(len(row.records) < ENOUGH_SEEDS for row in table.rows):
        blocks.append(Paragraph((f"† episodes only: fewer than {ENOUGH_SEEDS} training seeds.",)))
    if not all(row.whole for row in table.rows):
        blocks.append(Paragraph(NOT_WHOLE))
    blocks += [Paragraph(note) for note in network_notes(table)]
    commands = []
    for row in table.rows:
        seeds = ", ".join(str(record.seed) for record in row.records)
        title = joined([name(row), (Code(row.first.backbone),), (f"seed {seeds}",)])
        commands.append((title, "\n".join(dict.fromkeys(made_by(run) for runs in row.runs for run in runs))))
    return [*blocks, Commands(commands)]
