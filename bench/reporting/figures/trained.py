"""A recorded run's trained method, its data, and its answers for novel images. Imports torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from bench.common.errors import UserError
from bench.config.run_config import METHOD_FILE, RunConfig
from bench.evaluation.embedding import embed_images
from bench.evaluation.settings import does_not_fit
from bench.records.store import Record
from bench.reporting.figures.per_class import load_images
from bench.run import models
from bench.run.materials import split_of
from bench.run.run_id import split_digest
from bench.sampling.episodes import QUERIES, ClassPool, EpisodeList, Setting, draw
from bench.sampling.keys import episode_key
from bench.serving.predictor import Predictor
from methods.abilities import class_tasks


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
            problem = f"its method is the Python file {config.method}, which figures do not run"
            raise UserError("--results", record.run_id, problem)
        folder = runs / record.run_id
        self.predictor = Predictor(models.load(folder), folder, "cpu", data_root)
        if self.predictor.card.weights_sha256 != record.model:
            raise UserError("--runs", folder, "not the model of this record")
        self.data = load_images(record, data_root)
        self.split = split_of(config, self.data, class_tasks(self.predictor.method) is not None)
        if record.sources and split_digest(self.split) != record.sources.split:
            raise UserError(
                "--data-root", record.dataset, "must have the training and test images of the record"
            )
        self.pool = ClassPool(self.data.labels[self.split.novel_images].numpy())
        self.names = [self.data.class_names[c] for c in self.pool.classes]

    def images(self, chosen: np.ndarray) -> torch.Tensor:
        """Images of the novel pool at `chosen`, uint8 ``[..., 3, H, W]``."""
        index = self.split.novel_images[torch.from_numpy(chosen.reshape(-1))]
        return self.data.images[index].unflatten(0, chosen.shape)

    def pixels(self, chosen: np.ndarray) -> np.ndarray:
        """`images` with channels last, uint8 ``[..., H, W, 3]``."""
        return self.images(chosen).movedim(-3, -1).numpy()

    def embeddings(self, chosen: np.ndarray) -> torch.Tensor:
        """Embeddings ``[..., D]`` of the images of the novel pool at `chosen`."""
        images, back = np.unique(chosen, return_inverse=True)
        index = self.split.novel_images[torch.from_numpy(images)]
        own = self.predictor
        made = embed_images(own.method, self.data.images, index, own.normalise, own.card.precision)
        return made[torch.from_numpy(back.reshape(-1))].unflatten(0, chosen.shape)

    def episodes(self, way: int, count: int) -> tuple[Setting, EpisodeList]:
        """The first 1-shot episodes of the run's list, of all novel classes at once if `way` is 0.

        Raises:
            UserError: the classes are too few or too small.
        """
        setting = Setting(way, 1, min(QUERIES, self.pool.smallest - 1), count)
        if problem := does_not_fit(setting, self.pool):
            raise UserError("--split", self.record.split, problem)
        key = episode_key(self.record.images_id, self.split.name, setting)
        return setting, draw(self.pool, key, setting)

    def answers(self, episodes: EpisodeList) -> np.ndarray:
        """The predicted class of each query, as a position in its episode: int64 ``[E, Q]``."""
        parts = episodes.support, episodes.query
        if self.predictor.method.fixed_embedding:  # each image once
            made = self.embeddings(np.concatenate([part.ravel() for part in parts]))
            sizes = [part.size for part in parts]
            given = [m.unflatten(0, part.shape) for m, part in zip(made.split(sizes), parts, strict=True)]
            each: Iterable[tuple[torch.Tensor, torch.Tensor]] = zip(*given, strict=True)
        else:  # one episode at a time, since images are large
            each = ((self.images(support), self.images(query)) for support, query in zip(*parts, strict=True))
        found = [self.predictor.logits(support[None], query[None])[0] for support, query in each]
        return np.stack([logits.argmax(dim=1).numpy() for logits in found])
