"""The two sides of every comparison, and how each is described."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import ours, peers
from benchmarks.measure import Comparison, Side, seconds
from benchmarks.ours import Material

FP32 = "32-true"


@dataclass(frozen=True)
class Counts:
    """How much of each kind of work one timing does.

    Attributes:
        ours: episodes that we draw and answer.
        gathered: episodes whose images we gather.
        peer: tasks that learn2learn, and easyfsl from images, sample and answer.
        indices: tasks that the peers sample as indices, and easyfsl answers from features.
        steps, peer_steps: training steps.
        ready: batches made before the bare loop starts.
    """

    ours: int = 10_000
    gathered: int = 2_000
    peer: int = 200
    indices: int = 1_000
    steps: int = 205
    peer_steps: int = 105
    ready: int = 32


QUICK = Counts(ours=512, gathered=64, peer=8, indices=32, steps=15, peer_steps=10, ready=4)


def sampling(material: Material, folder: Path, counts: Counts) -> dict[str, Side]:
    """Seconds a task."""
    peers.write_fc100(material.data, material.split, folder)
    tasks = peers.learn2learn_tasks(folder, in_memory=False).test
    in_memory = peers.learn2learn_tasks(folder, in_memory=True).test
    indices = peers.learn2learn_indices(tasks)
    features = peers.easyfsl_dataset(
        material.split.novel_images, material.data.labels[material.split.novel_images]
    )
    return {
        "draw": per(counts.ours, lambda n: ours.draw_tasks(material, n)),
        "l2l tasks": per(counts.peer, lambda n: peers.sample(tasks, n)),
        "draw and gather": per(counts.gathered, lambda n: ours.draw_and_gather(material, n)),
        "l2l tasks in memory": per(counts.peer, lambda n: peers.sample(in_memory, n)),
        "l2l indices": per(counts.indices, lambda n: peers.sample(indices, n)),
        "easyfsl indices": per(counts.indices, lambda n: list(peers.easyfsl_sampler(features, n))),
    }


def evaluation(material: Material, folder: Path, precision: str, counts: Counts) -> dict[str, Side]:
    """Seconds an evaluation of ``counts.ours`` episodes; peers are timed on fewer and extrapolated."""
    method = ours.protonet(steps=1).eval()
    net = peers.learn2learn_protonet()
    tasks = peers.learn2learn_tasks(folder, in_memory=False).test
    in_memory = peers.learn2learn_tasks(folder, in_memory=True).test
    pool = material.split.novel_images
    images = material.normalise(material.data.images[pool]).contiguous()
    pictures = peers.easyfsl_dataset(images, material.data.labels[pool])

    def features() -> float:
        made: list = []
        once = seconds(lambda: made.append(peers.easyfsl_features(net.features, pictures)))
        each = per(counts.indices, lambda n: peers.easyfsl_evaluate(None, made[0], n))()
        return once + each * counts.ours

    return {
        "evaluate": lambda: seconds(lambda: ours.evaluate(material, method, precision, counts.ours)),
        "evaluate fp32": lambda: seconds(lambda: ours.evaluate(material, method, FP32, counts.ours)),
        "l2l evaluate": times(
            counts.ours, per(counts.peer, lambda n: peers.learn2learn_evaluate(net, tasks, n))
        ),
        "l2l evaluate in memory": times(
            counts.ours, per(counts.peer, lambda n: peers.learn2learn_evaluate(net, in_memory, n))
        ),
        "easyfsl evaluate": times(
            counts.ours, per(counts.peer, lambda n: peers.easyfsl_evaluate(net.features, pictures, n))
        ),
        "easyfsl evaluate features": features,
    }


def training(material: Material, folder: Path, precision: str, counts: Counts) -> dict[str, Side]:
    """Seconds an episode; one episode a step on every side."""
    tasks = peers.learn2learn_tasks(folder, in_memory=False).train
    in_memory = peers.learn2learn_tasks(folder, in_memory=True).train
    method = ours.protonet(counts.steps)

    def theirs(source: object) -> Side:
        return lambda: peers.learn2learn_train_seconds(
            peers.learn2learn_protonet(), source, counts.peer_steps
        )

    return {
        "train": lambda: ours.train_seconds(material, method, precision),
        "l2l train": theirs(tasks),
        "train fp32": lambda: ours.train_seconds(material, method, FP32),
        "l2l train in memory": theirs(in_memory),
    }


def step(material: Material, precision: str, counts: Counts) -> dict[str, Side]:
    """Seconds a step of `siamese_triplet` quick, and of making its batch."""
    method = ours.siamese_quick(counts.steps)
    ready = ours.ready_batches(material, method, counts.ready)
    return {
        "step": lambda: ours.train_seconds(material, method, precision),
        "bare step": lambda: ours.bare_loop_seconds(ours.siamese_quick(counts.steps), ready, precision),
        "batch": per(counts.ready, lambda n: ours.ready_batches(material, method, n)),
    }


def per(count: int, work: Callable[[int], object]) -> Side:
    """Seconds a unit of `count` units done together."""
    return lambda: seconds(lambda: work(count)) / count


def times(count: int, side: Side) -> Side:
    """Extrapolate to `count` units."""
    return lambda: side() * count


def a_second(value: float) -> float:
    """Seconds a unit -> units a second."""
    return 1 / value


def itself(value: float) -> float:
    """Seconds stay seconds."""
    return value


def comparisons(precision: str, counts: Counts, augmentation: str) -> list[Comparison]:
    """Every line of the table but memory.

    Args:
        precision: what `auto` means on this machine.
        counts: how much was timed.
        augmentation: share of a training step that makes the batch, as text.
    """
    sampled = "sample tasks, tasks/s"
    evaluated = f"{counts.ours:,} episodes from images to interval, s"
    trained = "ProtoNet training, episodes/s"
    shipped = f"learn2learn: its FC100 task set as shipped, {counts.peer} tasks"
    drawn = f"ours: {counts.ours:,} episodes as indices"
    loop = f"learn2learn: its ProtoNet, fp32, task by task, {counts.peer} timed and extrapolated"
    images = f"ours ({precision}): embed the novel pool once, draw, answer, average"
    one = "one 5w1s15q episode a step, Adam, no validation"
    with_augmentation = f"ours ({precision}): through Lightning, with crop and flip"
    plain = "learn2learn: plain loop over its task set, fp32, no augmentation"
    in_memory = "its images kept as tensors"
    lines = [
        Comparison(
            sampled, "draw", "l2l tasks", a_second, f"{drawn}; {shipped}, which loads their images", 100
        ),
        Comparison(
            f"{sampled}, images on both sides",
            "draw and gather",
            "l2l tasks",
            a_second,
            f"ours: {counts.gathered:,} episodes, images gathered and normalised; {shipped}",
        ),
        Comparison(
            f"{sampled}, images on both sides, {in_memory}",
            "draw and gather",
            "l2l tasks in memory",
            a_second,
            "as above; learn2learn: images made tensors beforehand (`device='cpu'`)",
        ),
        Comparison(
            f"{sampled}, indices on both sides",
            "draw",
            "l2l indices",
            a_second,
            f"{drawn}; learn2learn: `NWays`, `KShots` and nothing after them, {counts.indices:,} tasks",
        ),
        Comparison(
            f"{sampled}, indices on both sides",
            "draw",
            "easyfsl indices",
            a_second,
            f"{drawn}; easyfsl: `TaskSampler`, {counts.indices:,} tasks",
        ),
        Comparison(evaluated, "evaluate", "l2l evaluate", itself, f"{images}; {loop}", 50),
        Comparison(
            f"{evaluated}, {in_memory}",
            "evaluate",
            "l2l evaluate in memory",
            itself,
            "as above; learn2learn: images made tensors beforehand",
        ),
        Comparison(f"{evaluated}, fp32 on both sides", "evaluate fp32", "l2l evaluate", itself, "as above"),
        Comparison(
            evaluated,
            "evaluate",
            "easyfsl evaluate",
            itself,
            f"as above; easyfsl: `evaluate` on image tensors, fp32, {counts.peer} timed and extrapolated",
        ),
        Comparison(
            evaluated,
            "evaluate",
            "easyfsl evaluate features",
            itself,
            "as above; easyfsl: `predict_embeddings` of the novel pool, then `evaluate` on the features, "
            f"{counts.indices:,} timed and extrapolated",
        ),
        Comparison(trained, "train", "l2l train", a_second, f"{one}; {with_augmentation}; {plain}", 2),
        Comparison(f"{trained}, fp32 on both sides", "train fp32", "l2l train", a_second, "as above"),
        Comparison(
            f"{trained}, {in_memory}",
            "train",
            "l2l train in memory",
            a_second,
            "as above; learn2learn: images made tensors beforehand",
        ),
        Comparison(
            "training step, steps/s",
            "step",
            "bare step",
            a_second,
            "`siamese_triplet` quick, 128 images a step. Ours: Lightning, batches made as it goes; peer: "
            "bare PyTorch loop, same model, optimizer and precision, on "
            f"{counts.ready} ready batches. Making a batch is {augmentation} of our step",
            0.9,
        ),
    ]
    if precision == FP32:  # nothing faster here: the lines of their own for fp32 would say the same twice
        lines = [line for line in lines if not line.ours.endswith("fp32")]
    return lines
