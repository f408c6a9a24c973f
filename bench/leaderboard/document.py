"""The leaderboard as a document: the summary, what the columns mean, then table by table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from bench.leaderboard.blocks import (
    Block,
    Cell,
    Code,
    Commands,
    Heading,
    Paragraph,
    Prose,
    without_empty_columns,
)
from bench.leaderboard.cells import cells, joined, name
from bench.leaderboard.generalized import generalized
from bench.leaderboard.others import elsewhere, published_beside
from bench.leaderboard.overview import overview
from bench.leaderboard.rows import ENOUGH_SEEDS
from bench.leaderboard.tables import Table, section_key
from bench.records import Record

MADE = Prose("Made from the records by `python -m bench leaderboard`; do not edit it by hand.")

LEGEND = """\
All numbers are percent: mean ± half-width of the 95% interval. `–`: this run has no such number.

- **rank**: by 5w1s (by the next column where no row has that). Every two rows of a table are compared on
  identical episodes, with Holm's correction over the table; `2–4` means that one row is significantly better,
  and that the tests leave open whether this one is the second or the fourth. Rows whose ranks overlap are
  tied; the order between them means little. A method that learns anew in every episode answers the first
  1,000 of the others' 10,000 and is compared on those. A row that was compared with no other has no rank.
- **5w1s**, **5w5s**: accuracy over episodes of 5 novel classes with 1 or 5 support images and 15 queries per
  class. **all-way 1-shot**: all novel classes at once, one support image each. Any other setting has a column
  of its own: **10w5s** has 10 classes and 5 support images, **5w1s5q** has 5 queries per class.
- **pairs**: balanced accuracy of saying whether two images show the same class, at the threshold that was
  best on validation pairs. **AUC**, **EER**: area under the ROC curve and equal error rate (less is better)
  of the same pairs, whatever the threshold. **triplets**: how often an anchor is more similar to an image of
  its own class than to one of another. Guessing scores 50 in all of them. *novel*: on novel classes; *base*:
  on images of the base classes that were kept out of training.
- Novel classes are never seen in training, model selection or thresholds. Queries are answered one by one,
  except in rows marked transductive.
- **±** speaks of training again with another seed and drawing episodes or pairs again from the same images.
  With fewer than three seeds (†) it speaks of episodes and pairs only, for these very models, and so does
  their rank. Neither ever speaks of other classes or other images.
- **parameters** are the backbone's. **training time** is the mean over the seeds, each on its own machine.
  **date**: of the newest record.
- **marks**: *external data*: the weights have seen images beyond the base classes; *transductive*: the
  queries of an episode are answered together; *untrained*: the weights are random, neither trained nor
  pretrained. Such rows do not compare with the others: they stand below them, without a rank. *other
  episodes*: the row was measured on other episodes than the ranked ones.
- A **method** is named with its preset, and with what differs from that; *weights*: it started from this file
  (SHA-256); *no training*: it was evaluated as it came."""

FEW_SEEDS: Cell = (f"† episodes only: fewer than {ENOUGH_SEEDS} training seeds.",)
NOT_WHOLE: Cell = (
    "‡ the per-episode accuracies are not all at hand: compared with no other row, and over several seeds ± "
    "comes from each seed's own interval.",
)


def document(tables: Sequence[Table]) -> list[Block]:
    """Everything, from the title to the published results that have no table here."""
    blocks: list[Block] = [Heading(1, ("Leaderboard",)), MADE, *overview(tables)]
    blocks += [Heading(2, ("How to read the tables",)), Prose(LEGEND)]
    for _, split in groupby(tables, key=lambda table: (table.first.dataset, table.first.split)):
        same = list(split)
        for _, section in groupby(same, key=lambda table: section_key(table.first)):
            of_section = list(section)
            blocks += _title(of_section[0].first)
            for table in of_section:
                blocks += [Heading(3, (f"Protocol {table.first.protocol_version}",)), *_table(table)]
                blocks += generalized(table)
        blocks += published_beside(same[0].first)
    return blocks + elsewhere({(table.first.dataset, table.first.split) for table in tables})


def _title(record: Record) -> list[Block]:
    counts = record.classes
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
                f". {counts.train_images:,} training images; {counts.novel_images:,} images of novel classes "
                f"({counts.novel_dropped_duplicates:,} more are left out because their pixels occur in "
                "training).",
            )
        ),
    ]


def _table(table: Table) -> list[Block]:
    lines = [cells(row, table) for row in table.rows]
    grid = without_empty_columns(list(lines[0]), [list(line.values()) for line in lines], leading=2)
    blocks: list[Block] = [grid]
    if any(len(row.records) < ENOUGH_SEEDS for row in table.rows):
        blocks.append(Paragraph(FEW_SEEDS))
    if not all(row.whole for row in table.rows):
        blocks.append(Paragraph(NOT_WHOLE))
    commands = []
    for row in table.rows:
        seeds = ", ".join(str(record.seed) for record in row.records)
        title = joined([name(row), (Code(row.first.backbone),), (f"seed {seeds}",)])
        commands.append((title, "\n".join(dict.fromkeys(run.command for runs in row.runs for run in runs))))
    return [*blocks, Commands(commands)]
