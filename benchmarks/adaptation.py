"""Speed of learning episodes by gradient descent, against learn2learn 0.2.0's own loop, in one run.

    python -m benchmarks.adaptation --output benchmarks/adaptation.md

The work: conv4-64, 5-way 1-shot with 15 queries a class, 4 tasks a meta-step, 5 inner steps, CIFAR-100 under
the FC100 split, on the CPU. Both sides have the same images, ready in memory, and take a step of Adam.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import command
from benchmarks.measure import Comparison, Row, Side, compare, interleave, table

if TYPE_CHECKING:
    from benchmarks.ours import Material
    from methods.batches import EpisodeBatch

TASKS, INNER_STEPS, TEST_STEPS, RATE, META_RATE = 4, 5, 10, 0.01, 0.001
AT_ONCE = 256  # episodes whose heads ANIL learns together


@dataclass(frozen=True)
class Counts:
    """How much one timing does: meta-steps, test episodes, and test episodes of heads alone."""

    steps: int = 20
    episodes: int = 100
    heads: int = 256


QUICK = Counts(steps=2, episodes=4, heads=8)


def main() -> int:
    """Measure everything and print the table."""
    return command.run("benchmarks.adaptation", __doc__ or "", report)


def report(data_root: Path | None, repeats: int, quick: bool) -> str:
    """The whole benchmark as Markdown.

    Raises:
        UserError: CIFAR-100 cannot be had.
    """
    load = os.getloadavg()[0]
    from bench.common import environment
    from bench.data import sources
    from benchmarks.ours import CPU, Material
    from benchmarks.speed import conditions

    environment.keep_freed_memory()
    material = Material.of(sources.load("cifar100", data_root))
    precision = environment.pick_precision("auto", CPU)
    rows = timings(material, repeats, QUICK if quick else Counts(), precision)
    return f"{table(rows)}\n\n{conditions(repeats, load)}"


def timings(material: Material, repeats: int, counts: Counts, precision: str) -> list[Row]:
    """Every line of the table."""
    measured = interleave(sides(material, counts, precision), repeats, command.say)
    return [compare(line, measured) for line in lines(precision)]


def sides(material: Material, counts: Counts, precision: str) -> dict[str, Side]:
    """Name -> seconds a unit: a meta-step, or a test episode."""
    batches = episodes(material, counts.steps)
    single = [part for batch in episodes(material, -(-counts.episodes // TASKS)) for part in alone(batch)]
    single = single[: counts.episodes]
    # As its task sets hand them over, and as its weights lie; ours are channels-last on both accounts.
    peer_batches, peer_single = ([in_default_layout(b) for b in part] for part in (batches, single))
    found: dict[str, Side] = {}
    for order in ("second", "first"):
        first_order = order == "first"
        found[f"l2l {order}"] = _peer_training(peer_batches, first_order)
        for batch_norm in ("support", "running"):
            for width in dict.fromkeys((precision, "32-true")):
                changes = {"first_order": first_order, "batch_norm": batch_norm}
                found[f"{order} {batch_norm} {width}"] = _training(batches, width, changes)
    found["l2l test"] = _peer_test(peer_single)
    for width in dict.fromkeys((precision, "32-true")):
        found[f"test {width}"] = _test(single, width)
    found["heads"], found["l2l heads"] = _heads(counts.heads)
    return found


def lines(precision: str) -> list[Comparison]:
    """Every line of the table before it is measured."""
    from benchmarks.measure import a_second

    found = []
    for order in ("second", "first"):
        for batch_norm in ("support", "running"):
            for width in dict.fromkeys((precision, "32-true")):
                how = (
                    f"ours ({width}): `training_step`, backward, Adam, queries normalised by {batch_norm} "
                    "statistics; peer (fp32): its MAML example's loop, queries normalised together"
                )
                same = batch_norm == "support" and width == "32-true"
                found.append(
                    Comparison(
                        f"MAML training, {order} order, meta-steps/s",
                        "learn2learn",
                        f"{order} {batch_norm} {width}",
                        f"l2l {order}",
                        a_second,
                        how,
                        1.0 if same else None,
                    )
                )
    for width in dict.fromkeys((precision, "32-true")):
        how = f"ours ({width}): `adapt`, {TEST_STEPS} steps, answers; peer (fp32): clone, adapt, forward"
        found.append(
            Comparison("MAML test episodes/s", "learn2learn", f"test {width}", "l2l test", a_second, how)
        )
    how = (
        f"{TEST_STEPS} steps on cached features of 256 numbers; ours: {AT_ONCE} episodes at once; peer: one "
        "after another"
    )
    heads = Comparison("ANIL test episodes/s", "learn2learn", "heads", "l2l heads", a_second, how)
    return [*found, heads]


def episodes(material: Material, count: int) -> list[EpisodeBatch]:
    """The first batches of a training."""
    from benchmarks import ours
    from methods.maml import MAML

    return ours.ready_batches(material, ours.prepared(MAML, episodes=TASKS), count)


def alone(batch: EpisodeBatch) -> list[EpisodeBatch]:
    """The episodes of a batch, each as a batch of one."""
    return [type(batch)(*(part[e : e + 1] for part in batch)) for e in range(len(batch.labels))]


def in_default_layout(batch: EpisodeBatch) -> EpisodeBatch:
    """The same batch with images in torch's default layout, channels before height and width."""
    return batch._replace(support=batch.support.contiguous(), query=batch.query.contiguous())


def _training(batches: Sequence[EpisodeBatch], precision: str, changes: dict[str, Any]) -> Side:
    import torch

    from bench.evaluation.embedding import autocast
    from benchmarks import ours
    from benchmarks.measure import seconds
    from methods.maml import MAML

    method = ours.prepared(MAML, head="learned", inner_steps=INNER_STEPS, learning_rate=META_RATE, **changes)
    method.manual_backward = torch.Tensor.backward  # type: ignore[assignment,method-assign]  # no trainer
    optimizer = method.configure_optimizers()["optimizer"]

    def work() -> None:
        for batch in batches:
            with autocast(ours.CPU, precision):
                method.outer_step(batch, optimizer)

    return lambda: seconds(work) / len(batches)


def _peer_training(batches: Sequence[EpisodeBatch], first_order: bool) -> Side:
    import learn2learn as l2l
    import torch
    from torch.nn.functional import cross_entropy

    from benchmarks.measure import seconds

    learner, labels = _peer(first_order), torch.arange(5)
    optimizer = torch.optim.Adam(learner.parameters(), META_RATE)

    def work() -> None:
        for batch in batches:
            optimizer.zero_grad()
            for support, query, wanted in zip(batch.support, batch.query, batch.labels, strict=True):
                clone: l2l.algorithms.MAML = learner.clone()
                for _ in range(INNER_STEPS):
                    clone.adapt(cross_entropy(clone(support.flatten(0, 1)), labels))
                cross_entropy(clone(query), wanted).backward()
            for parameter in learner.parameters():
                parameter.grad.mul_(1 / TASKS)
            optimizer.step()

    return lambda: seconds(work) / len(batches)


def _test(single: Sequence[EpisodeBatch], precision: str) -> Side:
    import torch

    from bench.evaluation.embedding import autocast
    from benchmarks import ours
    from benchmarks.measure import seconds
    from methods.maml import MAML

    method = ours.prepared(MAML, head="learned", test_steps=TEST_STEPS).eval()

    def work() -> None:
        for batch in single:
            with autocast(ours.CPU, precision):
                answer = method.adapt(batch.support)
                with torch.no_grad():
                    answer(batch.query)

    return lambda: seconds(work) / len(single)


def _peer_test(single: Sequence[EpisodeBatch]) -> Side:
    import torch
    from torch.nn.functional import cross_entropy

    from benchmarks.measure import seconds

    learner, labels = _peer(first_order=True), torch.arange(5)

    def work() -> None:
        for batch in single:
            clone = learner.clone()
            for _ in range(TEST_STEPS):
                clone.adapt(cross_entropy(clone(batch.support.flatten(0, 2)), labels))
            with torch.no_grad():
                clone(batch.query[0])

    return lambda: seconds(work) / len(single)


def _peer(first_order: bool) -> Any:
    """learn2learn's MAML over its own four blocks of 64 filters and a linear layer."""
    import learn2learn as l2l
    import torch
    from learn2learn.vision.models import CNN4Backbone

    torch.manual_seed(0)
    network = torch.nn.Sequential(CNN4Backbone(hidden_size=64, channels=3), torch.nn.Linear(256, 5))
    return l2l.algorithms.MAML(network, lr=RATE, first_order=first_order)


def _heads(count: int) -> tuple[Side, Side]:
    """ANIL's test on features that were embedded before, and the same through learn2learn."""
    import learn2learn as l2l
    import torch
    from torch.nn.functional import cross_entropy

    from benchmarks import ours
    from benchmarks.measure import seconds
    from methods.anil import ANIL

    support, query = torch.randn(count, 5, 1, 256), torch.randn(count, 75, 256)
    method, labels = ours.prepared(ANIL, head="learned", test_steps=TEST_STEPS).eval(), torch.arange(5)
    head = l2l.algorithms.MAML(torch.nn.Linear(256, 5), lr=0.1, first_order=True)

    @torch.inference_mode()
    def work() -> None:
        for first in range(0, count, AT_ONCE):
            part = slice(first, first + AT_ONCE)
            method.episode_logits(support[part], query[part])

    def theirs() -> None:
        for own, asked in zip(support, query, strict=True):
            clone = head.clone()
            for _ in range(TEST_STEPS):
                clone.adapt(cross_entropy(clone(own[:, 0]), labels))
            with torch.no_grad():
                clone(asked)

    return lambda: seconds(work) / count, lambda: seconds(theirs) / count


if __name__ == "__main__":
    sys.exit(main())
