"""A recorded run's trained method, its data, and its answers for novel images. Imports torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from bench.common.errors import UserError
from bench.config.run_config import METHOD_FILE, RunConfig
from bench.evaluation.embedding import autocast, embed_images
from bench.records.store import Record
from bench.reporting.figures import samples
from bench.run import models
from bench.run.materials import split_of
from bench.run.run_id import split_digest
from bench.sampling.episodes import ClassPool, EpisodeList, Setting, draw
from bench.sampling.keys import episode_key

IMAGES_AT_ONCE = 512


class Trained:
    """The trained method of a run, with the novel images of its data set.

    Args:
        record: of the run.
        runs: folder of models.
        data_root: ``--data-root``.

    Raises:
        UserError: the model or the data is not available, or is not that of the record.
    """

    def __init__(self, record: Record, runs: Path, data_root: Path | None) -> None:
        self.record = record
        try:
            config = RunConfig.model_validate(record.config)
        except ValidationError:
            raise UserError("--results", record.run_id, "has a configuration of another version") from None
        # The author of the record chose that file, so its code only runs for `--method`.
        if METHOD_FILE.fullmatch(config.method):
            raise UserError(
                "--results",
                record.run_id,
                f"has a method in a Python file, which is not run here: {config.method}",
            )
        model = models.load(runs / record.run_id)
        self.method, self.normalise, card = model
        if card.weights_sha256 != record.model:
            raise UserError("--runs", runs / record.run_id, "not the model of this record")
        self.precision = card.precision
        self.data = samples.load(record, data_root)
        self.split = split_of(config, self.data, self.method.class_tasks is not None)
        if record.sources and split_digest(self.split) != record.sources.split:
            raise UserError(
                "--data-root", record.dataset, "must have the training and test images of the record"
            )
        self.pool = ClassPool(self.data.labels[self.split.novel_images].numpy())
        self.names = [self.data.class_names[c] for c in self.pool.classes]

    def pixels(self, chosen: np.ndarray) -> np.ndarray:
        """Images of the novel pool at `chosen`, uint8 ``[..., H, W, 3]``."""
        index = self.split.novel_images[torch.from_numpy(chosen.reshape(-1))]
        images = self.data.images[index].permute(0, 2, 3, 1)
        return images.numpy().reshape(*chosen.shape, *images.shape[1:])

    def embeddings(self, chosen: np.ndarray) -> torch.Tensor:
        """Embeddings ``[..., D]`` of the images of the novel pool at `chosen`."""
        images, back = np.unique(chosen, return_inverse=True)
        index = self.split.novel_images[torch.from_numpy(images)]
        where = self.data.images, index, self.normalise, self.precision
        return embed_images(self.method, *where)[torch.from_numpy(back.reshape(-1))].unflatten(
            0, chosen.shape
        )

    def episodes(self, setting: Setting) -> EpisodeList:
        """The first episodes of the run's list of a setting."""
        split = self.split.name
        return draw(self.pool, episode_key(self.record.fingerprint, split, setting), setting)

    def answers(self, episodes: EpisodeList) -> np.ndarray:
        """The predicted class of each query, as a position in its episode: int64 ``[E, Q]``."""
        if not self.method.fixed_embedding:
            each = zip(episodes.support, episodes.query, strict=True)
            return np.stack([self._adapted(support, query) for support, query in each])
        sizes = episodes.support.size, episodes.query.size
        made = self.embeddings(np.concatenate([episodes.support.ravel(), episodes.query.ravel()]))
        support, query = (
            part.view(*shape, -1)
            for part, shape in zip(
                made.split(sizes), (episodes.support.shape, episodes.query.shape), strict=True
            )
        )
        with torch.inference_mode():
            each = zip(support.split(1), query.split(1), strict=True)
            return np.concatenate([self.method.episode_logits(s, q).argmax(dim=2).numpy() for s, q in each])

    def _adapted(self, support: np.ndarray, query: np.ndarray) -> np.ndarray:
        precision = self.precision
        with autocast(self.method.device, precision), torch.enable_grad():
            answer = self.method.adapt(self._images(support)[None])
        size = len(query) if self.method.transductive else IMAGES_AT_ONCE
        found = []
        for first in range(0, len(query), size):
            with autocast(self.method.device, precision), torch.no_grad():
                logits = answer(self._images(query[first : first + size])[None])
            found.append(logits[0].argmax(dim=1).numpy())
        return np.concatenate(found)

    def _images(self, chosen: np.ndarray) -> torch.Tensor:
        index = self.split.novel_images[torch.from_numpy(chosen.reshape(-1))]
        return self.normalise(self.data.images[index]).unflatten(0, chosen.shape)
