"""Adds novel classes to the base classes of a method, and classifies all images."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from bench.data.images import ImageSet
from bench.data.normalisation import Normaliser
from bench.data.splits import Split
from bench.evaluation import contract
from bench.evaluation.answers import checked
from bench.evaluation.embedding import autocast
from methods.abilities import JoinsAsNetwork
from methods.batches import LabelledBatch
from methods.method import Method

ROWS_AT_ONCE = 8192
IMAGES_AT_ONCE = 512
PROBED = 16  # images that the first network is asked about, one by one
SAVED_BYTES = 2**24  # of saved networks per number of shots


class FromEmbeddings:
    """Predictions of `joint_logits`.

    Args:
        method: in evaluation mode.
        means: float ``[B, D]``, of the base training images; ``[0, D]`` if the method has a classifier.
        base: float ``[M, D]``, embeddings of the base-test images.
        novel: float ``[N, D]``, of the novel pool.
    """

    def __init__(self, method: Method, means: Tensor, base: Tensor, novel: Tensor) -> None:
        self.method, self.means, self.base, self.novel = method, means, base, novel

    @torch.inference_mode()
    def answers(self, support: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Predicted classes of the base-test images and of the pool's images at `rows`.

        Args:
            support: int64 ``[new, shot]``, indices into the pool; these classes join.
            rows: int64 ``[R]``, indices into the pool.

        Returns:
            int64 ``[M + R]``: base classes are ``0..B-1``, new ones come after them.
        """
        chosen, rest = (torch.from_numpy(index).to(self.novel.device) for index in (support, rows))
        made = self.novel.index_select(0, chosen.flatten()).view(*chosen.shape, self.novel.shape[1])
        query = torch.cat([self.base, self.novel.index_select(0, rest)])
        classes = (len(self.means) or self.method.num_classes) + len(support)
        found = []
        for part in query.split(ROWS_AT_ONCE):
            logits = self.method.joint_logits(self.means.clone(), made, part)
            checked(logits, "joint_logits", (len(part), classes))
            found.append(logits.argmax(dim=1))
        return torch.cat(found).cpu().numpy()


class FromImages:
    """Predictions of the networks that `join` returns.

    Args:
        method: in evaluation mode.
        data, split: images and their parts.
        normalise: the one that training used.
        precision: as Lightning names it.
    """

    def __init__(
        self, method: Method, data: ImageSet, split: Split, normalise: Normaliser, precision: str
    ) -> None:
        self.method, self.data, self.split = method, data, split
        self.normalise, self.precision = normalise, precision
        self.labels = torch.searchsorted(torch.tensor(split.base), data.labels[split.train])
        self.probed = method.transductive

    def network(self, support: np.ndarray) -> nn.Module:
        """The network after the classes of `support` joined, see `answers`."""
        # The base images depend only on the support set.
        generator = torch.Generator().manual_seed(zlib.crc32(support.tobytes()))
        index = self.split.novel_images[torch.from_numpy(support).flatten()]
        images = self._take(index).view(*support.shape, *self.data.images.shape[1:])
        assert isinstance(self.method, JoinsAsNetwork)
        with autocast(self.method.device, self.precision), torch.enable_grad():
            return self.method.join(images, partial(self._base_images, generator))

    def answers(self, support: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """As `FromEmbeddings.answers`.

        Raises:
            ContractError: the network's answer to an image depends on other images of a method that is not
                `transductive`.
        """
        network = self.network(support)
        if not self.probed:
            spread_out = np.linspace(0, len(self.split.base_test) - 1, PROBED).astype(np.int64)
            contract.check_joined(network, self._take(self.split.base_test[spread_out]), self.precision)
            self.probed = True
        index = torch.cat([self.split.base_test, self.split.novel_images[torch.from_numpy(rows)]])
        found = []
        for part in index.split(IMAGES_AT_ONCE):
            with autocast(self.method.device, self.precision), torch.inference_mode():
                logits = network(self._take(part))
            shape = (len(part), self.method.num_classes + len(support))
            found.append(checked(logits, "the network that join returns", shape).argmax(dim=1))
        return torch.cat(found).cpu().numpy()

    def _base_images(self, generator: torch.Generator, count: int) -> LabelledBatch:
        chosen = torch.randint(len(self.labels), (count,), generator=generator)
        labels = self.labels[chosen].to(self.method.device)
        return LabelledBatch(self._take(self.split.train[chosen]), labels)

    def _take(self, index: Tensor) -> Tensor:
        return self.normalise(self.data.images.index_select(0, index).to(self.method.device))


def saved(images: FromImages, supports: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    """Networks that one class joined, as safetensors files with the weights that differ from the method's.

    Args:
        images: makes the networks.
        supports: name of a novel class -> ``[1, shot]``, its support; the first networks are saved, at least
            one and up to 16 MiB in total.

    Returns:
        File name, like ``5s_whale.safetensors``, -> content, with the names of all classes, in the order of
        the logits, under ``classes`` in its metadata.
    """
    own = {tensor.data_ptr() for tensor in images.method.state_dict().values()}
    base = [images.data.class_names[c] for c in images.split.base]
    files: dict[str, bytes] = {}
    for name, support in supports.items():
        state = images.network(support).state_dict()
        weights = {key: t.detach().cpu().contiguous() for key, t in state.items() if t.data_ptr() not in own}
        content = save(weights, {"classes": json.dumps([*base, name])})
        if files and sum(map(len, files.values())) + len(content) > SAVED_BYTES:
            break
        slug = re.sub(r"[^\w.@+-]+", "-", name)
        files[f"{support.shape[1]}s_{slug}.safetensors"] = content
    return files
