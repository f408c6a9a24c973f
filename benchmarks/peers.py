"""learn2learn 0.2.0 and easyfsl 1.5.0 at the same work, through their own installed code."""

from __future__ import annotations

import contextlib
import io
import pickle
import time
from pathlib import Path
from typing import Any

import learn2learn as l2l
import torch
from easyfsl.datasets import FeaturesDataset
from easyfsl.methods import PrototypicalNetworks
from easyfsl.samplers import TaskSampler
from easyfsl.utils import evaluate, predict_embeddings
from learn2learn.algorithms.lightning import LightningPrototypicalNetworks
from learn2learn.data.transforms import KShots, NWays
from learn2learn.vision.models import CNN4Backbone
from torch.utils.data import DataLoader, Sampler

from bench.data.images import ImageSet
from bench.data.splits import Split
from benchmarks.ours import QUERY, SHOT, WARM_UP, WAY

EMBEDDED_AT_ONCE = 512  # as many as this bench embeds in one forward


def write_fc100(data: ImageSet, split: Split, folder: Path) -> None:
    """Write the three files that learn2learn's FC100 reads, with the images of our split.

    Args:
        data: the image set.
        split: its `train`, `validation_images` and `novel_images` become FC100's three modes.
        folder: an existing folder.
    """
    modes = {"train": split.train, "val": split.validation_images, "test": split.novel_images}
    for mode, index in modes.items():
        pixels = data.images[index].permute(0, 2, 3, 1).contiguous().numpy()
        content = {"data": pixels, "labels": data.labels[index].tolist()}
        with (folder / f"FC100_{mode}.pickle").open("wb") as file:
            pickle.dump(content, file)


def learn2learn_tasks(folder: Path, *, in_memory: bool) -> Any:
    """learn2learn's FC100 benchmark task sets, `train`, `validation` and `test`.

    Args:
        folder: where `write_fc100` wrote.
        in_memory: keep all images as float tensors (its ``device`` argument) instead of its default,
            which makes each image a tensor when a task asks for it.
    """
    return l2l.vision.benchmarks.get_tasksets(
        "fc100",
        train_ways=WAY,
        train_samples=SHOT + QUERY,
        test_ways=WAY,
        test_samples=SHOT + QUERY,
        root=str(folder),
        device="cpu" if in_memory else None,
    )


def learn2learn_indices(tasks: Any) -> Any:
    """A task set over the same data whose tasks are image indices: its transforms up to `LoadData`."""
    dataset = tasks.dataset
    return l2l.data.Taskset(dataset, [NWays(dataset, WAY), KShots(dataset, SHOT + QUERY)], num_tasks=-1)


def sample(tasks: Any, count: int) -> None:
    """Sample tasks one by one, as learn2learn's loops do."""
    for _ in range(count):
        tasks.sample()


def learn2learn_protonet() -> LightningPrototypicalNetworks:
    """Its prototypical network on its own 4-layer backbone with 64 filters."""
    torch.manual_seed(0)
    return LightningPrototypicalNetworks(CNN4Backbone(hidden_size=64, channels=3), lr=0.001)


@torch.no_grad()
def learn2learn_evaluate(net: LightningPrototypicalNetworks, tasks: Any, count: int) -> float:
    """Mean accuracy over `count` sampled tasks, one forward a task."""
    net.eval()
    total = 0.0
    for i in range(count):
        _, accuracy = net.meta_learn(tasks.sample(), i, WAY, SHOT, QUERY)
        total += accuracy.item()
    return total / count


def learn2learn_train_seconds(net: LightningPrototypicalNetworks, tasks: Any, steps: int) -> float:
    """Train on one task a step with its optimizer: seconds a step after the warm-up."""
    optimizers, _ = net.configure_optimizers()
    optimizer = optimizers[0]
    net.train()
    started = 0.0
    for step in range(steps):
        if step == WARM_UP:
            started = time.perf_counter()
        loss, _ = net.meta_learn(tasks.sample(), step, WAY, SHOT, QUERY)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - started) / (steps - WARM_UP)


class _AcceptsDataSource(Sampler):
    def __init__(self, **_: object) -> None:
        pass


class RunningTaskSampler(TaskSampler, _AcceptsDataSource):
    """easyfsl's sampler, made to run: it passes `data_source`, which torch's `Sampler` no longer takes."""


def easyfsl_dataset(tensors: torch.Tensor, labels: torch.Tensor) -> FeaturesDataset:
    """Images or features in memory as easyfsl's data set; labels become ``0..C-1``."""
    _, consecutive = labels.unique(return_inverse=True)
    names = [str(i) for i in range(int(consecutive.max()) + 1)]
    return FeaturesDataset(consecutive.tolist(), tensors, names)


def easyfsl_sampler(dataset: FeaturesDataset, count: int) -> RunningTaskSampler:
    """Its task sampler, which yields lists of indices."""
    return RunningTaskSampler(dataset=dataset, n_way=WAY, n_shot=SHOT, n_query=QUERY, n_tasks=count)


def easyfsl_evaluate(backbone: torch.nn.Module | None, dataset: FeaturesDataset, count: int) -> float:
    """Its evaluation loop with its prototypical network: share of correct queries.

    Args:
        backbone: None where `dataset` holds features.
        dataset: images or features.
        count: number of tasks.
    """
    sampler = easyfsl_sampler(dataset, count)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)
    return evaluate(PrototypicalNetworks(backbone), loader, device="cpu", use_tqdm=False)


def easyfsl_features(backbone: torch.nn.Module, dataset: FeaturesDataset) -> FeaturesDataset:
    """Its way to cached features: predict all embeddings, and make a data set of them."""
    loader = DataLoader(dataset, batch_size=EMBEDDED_AT_ONCE)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        frame = predict_embeddings(loader, backbone.eval())
    return FeaturesDataset.from_dataframe(frame)
