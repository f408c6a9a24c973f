"""The two sides of every comparison, and how each is described."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks import ours, peers
from benchmarks.measure import Comparison, Counts, Side, a_second, seconds
from benchmarks.ours import Material

FP32 = "32-true"


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

    def theirs(source: object) -> Side:
        return lambda: peers.learn2learn_train_seconds(
            peers.learn2learn_protonet(), source, counts.peer_steps
        )

    return {
        "train": lambda: ours.train_seconds(material, ours.protonet(counts.steps), precision),
        "l2l train": theirs(tasks),
        "train fp32": lambda: ours.train_seconds(material, ours.protonet(counts.steps), FP32),
        "l2l train in memory": theirs(in_memory),
    }


def step(material: Material, precision: str, counts: Counts) -> dict[str, Side]:
    """Seconds a step of `siamese_triplet` quick, and of making its batch."""
    method = ours.siamese_quick(counts.steps)
    ready = ours.ready_batches(material, method, counts.ready)
    return {
        "step": lambda: ours.train_seconds(material, ours.siamese_quick(counts.steps), precision),
        "bare step": lambda: ours.bare_loop_seconds(ours.siamese_quick(counts.steps), ready, precision),
        "batch": per(counts.ready, lambda n: ours.ready_batches(material, method, n)),
    }


def per(count: int, work: Callable[[int], object]) -> Side:
    """Seconds a unit of `count` units done together."""
    return lambda: seconds(lambda: work(count)) / count


def times(count: int, side: Side) -> Side:
    """Extrapolate to `count` units."""
    return lambda: side() * count


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
    lines = [*_sampling_lines(counts), *_evaluation_lines(precision, counts), *_training_lines(precision)]
    step_line = Comparison(
        "training steps/s",
        "bare PyTorch loop",
        "step",
        "bare step",
        a_second,
        "`siamese_triplet` quick, 128 images a step; ours: Lightning, batches drawn, augmented and "
        f"normalised on the way, which is {augmentation} of a step; peer: same model, optimizer, precision, "
        f"on {counts.ready} ready batches",
        0.9,
    )
    if precision == FP32:  # where nothing is faster than fp32, its own lines would repeat the others
        lines = [line for line in lines if not line.ours.endswith("fp32")]
    return [*lines, step_line]


def _sampling_lines(counts: Counts) -> list[Comparison]:
    work = "sample tasks, tasks/s"
    drawn = f"ours: {counts.ours:,} episodes drawn as indices"
    gathered = f"ours: {counts.gathered:,} episodes drawn, images gathered and normalised"
    loaded = (
        f"peer: its FC100 task set, {counts.peer} tasks, each image made a tensor when a task asks for it"
    )
    kept = f"peer: the same with `device='cpu'`, {counts.peer} tasks, images made tensors beforehand"
    unloaded = f"peer: its `NWays` and `KShots` and nothing after them, {counts.indices:,} tasks as indices"
    sampler = f"peer: its `TaskSampler`, {counts.indices:,} tasks as indices"
    return [
        Comparison(work, "learn2learn as shipped", "draw", "l2l tasks", a_second, f"{drawn}; {loaded}", 100),
        Comparison(
            f"{work}, images on both sides",
            "learn2learn as shipped",
            "draw and gather",
            "l2l tasks",
            a_second,
            f"{gathered}; {loaded}",
        ),
        Comparison(
            f"{work}, images on both sides",
            "learn2learn, images in memory",
            "draw and gather",
            "l2l tasks in memory",
            a_second,
            f"{gathered}; {kept}",
        ),
        Comparison(
            f"{work}, indices on both sides",
            "learn2learn",
            "draw",
            "l2l indices",
            a_second,
            f"{drawn}; {unloaded}",
        ),
        Comparison(
            f"{work}, indices on both sides",
            "easyfsl",
            "draw",
            "easyfsl indices",
            a_second,
            f"{drawn}; {sampler}",
        ),
    ]


def _evaluation_lines(precision: str, counts: Counts) -> list[Comparison]:
    work = f"{counts.ours:,} ProtoNet episodes, images to result, s"
    ours_is = f"ours ({precision}): embed the novel pool once, draw, answer, interval"
    extrapolated = f"{counts.peer} tasks timed and extrapolated to {counts.ours:,}"
    loop = f"peer (fp32): its ProtoNet, sample a task, one forward, accuracy; {extrapolated}"
    return [
        Comparison(
            work, "learn2learn as shipped", "evaluate", "l2l evaluate", itself, f"{ours_is}; {loop}", 50
        ),
        Comparison(
            f"{work}, fp32 on both sides",
            "learn2learn as shipped",
            "evaluate fp32",
            "l2l evaluate",
            itself,
            "as above",
        ),
        Comparison(
            work,
            "learn2learn, images in memory",
            "evaluate",
            "l2l evaluate in memory",
            itself,
            f"as above; {extrapolated}",
        ),
        Comparison(
            work,
            "easyfsl, from images",
            "evaluate",
            "easyfsl evaluate",
            itself,
            f"peer (fp32): its `evaluate` on normalised image tensors in memory; {extrapolated}",
        ),
        Comparison(
            work,
            "easyfsl, cached features",
            "evaluate",
            "easyfsl evaluate features",
            itself,
            "peer (fp32): its `predict_embeddings` of the novel pool, in full, then its `evaluate` on them; "
            f"{counts.indices:,} tasks timed and extrapolated to {counts.ours:,}",
        ),
    ]


def _training_lines(precision: str) -> list[Comparison]:
    work = "ProtoNet training, episodes/s"
    how = "one episode a step, Adam, no validation; ours ({}): through Lightning, with crop and flip; "
    shipped = "peer (fp32): its ProtoNet and task set in a plain loop, no augmentation"
    return [
        Comparison(
            work,
            "learn2learn as shipped",
            "train",
            "l2l train",
            a_second,
            how.format(precision) + shipped,
            2,
        ),
        Comparison(
            f"{work}, fp32 on both sides",
            "learn2learn as shipped",
            "train fp32",
            "l2l train",
            a_second,
            how.format(FP32) + shipped,
        ),
        Comparison(
            work,
            "learn2learn, images in memory",
            "train",
            "l2l train in memory",
            a_second,
            how.format(precision) + f"{shipped}, images made tensors beforehand",
        ),
    ]
