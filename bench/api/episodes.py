"""`bench.Episodes`: the bench's episodes as tensors, for training loops and methods of other libraries."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bench.common.errors import UserError, one_of
from bench.common.progress import shown
from bench.data import sources
from bench.data.normalisation import Normaliser
from bench.data.split_files import PARTS
from bench.data.splits import resolve
from bench.run.materials import need_normaliser
from bench.sampling.episodes import QUERIES, ClassPool, EpisodeList, Setting, draw
from bench.sampling.keys import SEED, episode_key, part_episode_key, part_key


class Episode(NamedTuple):
    """One episode, as easyfsl's loops unpack it.

    Attributes:
        support_images: float32 ``[way * shot, 3, H, W]``, class after class.
        support_labels: int64 ``[way * shot]`` in ``0..way-1``.
        query_images: float32 ``[way * query, 3, H, W]``, in random order.
        query_labels: int64 ``[way * query]``.
        class_ids: the data set's numbers of the classes, in the order of the labels.
    """

    support_images: Tensor
    support_labels: Tensor
    query_images: Tensor
    query_labels: Tensor
    class_ids: list[int]


class Episodes(Dataset):
    """N-way K-shot episodes of one part of a split: a list of `Episode`, the same on every machine.

    With ``part="novel"`` and ``seed=0`` these are the episodes of the bench's own few-shot numbers. Items are
    `Episode`; ``DataLoader(episodes, batch_size=None)`` feeds easyfsl's loops. `sample` and `tasks` give
    pairs (images, labels) for learn2learn's loops.

    Args:
        split, dataset: as ``--split`` and ``--dataset``.
        way, shot, query: classes, and support and query images per class.
        part: ``base`` (the training images), ``validation`` or ``novel``.
        episodes: number of them.
        seed: another one gives other episodes.
        data_root, image_size, offline: as the flags of ``python -m bench run``.

    Images are not augmented, and normalised with the statistics of the base training images.

    Raises:
        UserError: data set, split or part are not available, or have too few classes or images.

    Example:
        >>> import bench
        >>> train = bench.Episodes("cifar-fs", way=5, shot=1)
        >>> images, labels = train.sample()
    """

    def __init__(
        self,
        split: str,
        way: int = 5,
        shot: int = 1,
        query: int = QUERIES,
        *,
        part: str = "base",
        dataset: str = "cifar100",
        episodes: int = 10_000,
        seed: int = SEED,
        data_root: str | Path | None = None,
        image_size: int | None = None,
        offline: bool = False,
    ) -> None:
        if part not in PARTS:
            raise UserError("part", part, one_of(part, PARTS))
        root = Path(data_root) if data_root else None
        with shown() as progress:
            self.data = sources.load(dataset, root, image_size=image_size, offline=offline, progress=progress)
        self.split = resolve(self.data, split, "split")
        self.part, self.seed = part, seed
        self.setting = Setting(way, shot, query, episodes)
        own = {"base": "train", "validation": "validation_images", "novel": "novel_images"}
        self.index = getattr(self.split, own[part])
        self.pool = ClassPool(self.data.labels[self.index].numpy())
        of_base = Normaliser(self.data.images, self.split.train) if len(self.split.train) else None
        self._normalise = need_normaliser(of_base, "split", split, "other splits")
        if min(shot, query, episodes) < 1:
            raise UserError("shot, query, episodes", f"{shot}, {query}, {episodes}", "must be at least 1")
        whose = f"the {part} classes of {split}"
        if not 2 <= way <= len(self.pool.classes):
            raise UserError("way", way, f"must be 2 to {len(self.pool.classes)}, for {whose}")
        if len(self.pool.with_images(self.setting.images)) < way:  # smaller classes take no part
            most = np.sort(self.pool.counts)[-way]
            raise UserError("shot + query", shot + query, f"must be 2 to {most}, for {way} of {whose}")

    @cached_property
    def drawn(self) -> EpisodeList:
        """All episodes as positions in `index`."""
        name = self.split.name
        if self.part == "novel":
            key = episode_key(self.data.drawn_by, name, self.setting, self.seed)
        else:
            key = part_episode_key(part_key(self.data.drawn_by, name, self.part, self.seed))
        return draw(self.pool, key, self.setting)

    def __len__(self) -> int:
        return self.setting.count

    def __getitem__(self, number: int) -> Episode:
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        way, shot, drawn = self.setting.way, self.setting.shot, self.drawn
        return Episode(
            self._images(drawn.support[number].reshape(-1)),
            torch.arange(way).repeat_interleave(shot),
            self._images(drawn.query[number]),
            torch.from_numpy(drawn.labels[number].copy()),
            self.pool.classes[drawn.classes[number]].tolist(),
        )

    @property
    def tasks(self) -> Tasks:
        """The episodes as pairs (images, labels), as learn2learn's `TaskDataset`."""
        return Tasks(self)

    def sample(self) -> tuple[Tensor, Tensor]:
        """A random one of `tasks`, drawn with torch's random generator."""
        return self.tasks[int(torch.randint(len(self), ()))]

    def _images(self, chosen: np.ndarray) -> Tensor:
        pixels = self.data.images[self.index[torch.from_numpy(chosen)]]
        return self._normalise(pixels).contiguous()


class Tasks(Dataset):
    """Episodes as pairs (images, labels), class after class, for loops that divide them themselves.

    Images ``[way * (shot + query), 3, H, W]`` and labels: those of a class are neighbours. Where shot and
    query are equal, support and query images alternate (learn2learn's MAML, ANIL and Reptile examples take
    every second image for adaptation); otherwise the support images are first (its ProtoNet example).
    """

    def __init__(self, episodes: Episodes) -> None:
        self.episodes = episodes

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        episode, setting = self.episodes[number], self.episodes.setting
        own = episode.support_images.unflatten(0, (setting.way, setting.shot))
        order = episode.query_labels.argsort(stable=True)
        others = episode.query_images[order].unflatten(0, (setting.way, setting.query))
        if setting.shot == setting.query:
            images = torch.stack([own, others], dim=2).flatten(0, 2)
        else:
            images = torch.cat([own, others], dim=1).flatten(0, 1)
        return images, torch.arange(setting.way).repeat_interleave(setting.shot + setting.query)
