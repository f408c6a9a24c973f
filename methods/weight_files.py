"""Weights of a backbone from a file, without executing pickled code."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from methods.timm_backbone import TimmBackbone

WRAPPERS = ("module", "_orig_mod", "backbone", "model", "encoder")
"""Modules that contain a backbone: of DataParallel, torch.compile, Lightning and others."""

UNREAD = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.dtype",
    "numpy.ndarray",
)
"""What checkpoints may contain beside weights, such as an accuracy; it is skipped, not built."""


def load_weights(backbone: nn.Module, path: str) -> list[str]:
    """Start a backbone from a file of weights, without executing pickled code.

    Reads safetensors, or a PyTorch checkpoint: a state dict, or one under ``state_dict`` or ``model``.
    Names may have any of the prefixes `WRAPPERS`, one after another.

    Returns:
        Names in the file that the backbone has no place for (its classifier, say).

    Raises:
        ValueError: the file cannot be read, or does not fit the backbone; the message names the first
            missing, misshapen or surplus parameter.
    """
    found = _read_state(path)
    wanted = backbone.state_dict()
    best: dict[str, Tensor] = {}
    offered: dict[str, Tensor] = {}
    for prefix in _prefixes(found):
        stripped = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
        # timm's own checkpoints carry no prefix, while the wrapper calls its model `model`.
        for lead in ("", "model."):
            renamed = {lead + k: v for k, v in stripped.items()}
            candidate = {k: v for k, v in renamed.items() if k in wanted}
            if len(candidate) > len(best):
                best, offered = candidate, renamed
    optional = {name for name in wanted if name.endswith(("num_batches_tracked", "_extra_state"))}
    missing = [name for name in wanted if name not in best and name not in optional]
    if missing:
        raise ValueError(
            f"does not fit the backbone: {len(missing)} of {len(wanted)} missing, e.g. {missing[0]}"
        )
    for name, value in best.items():
        kind = wanted[name].dtype
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise ValueError(f"{name} is not a plain tensor")
        if value.is_floating_point() != kind.is_floating_point or value.is_complex():
            raise ValueError(f"{name} is {value.dtype}, the backbone's is {kind}")
    # The first blocks of a deeper network fit a shallower one, and would be another network's features.
    known = _elements(wanted)
    sequences = {element.rpartition(".")[0] for element in known}
    extra = sorted(e for e in _elements(offered) - known if e.rpartition(".")[0] in sequences)
    if extra:
        raise ValueError(f"does not fit the backbone, which has no {extra[0]}")
    if isinstance(backbone, TimmBackbone):
        backbone.make_ready(best)
        wanted = backbone.state_dict()
    for name, value in best.items():
        if value.shape != wanted[name].shape:
            raise ValueError(f"{name} is {list(value.shape)}, the backbone's is {list(wanted[name].shape)}")
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinite numbers")
    backbone.load_state_dict(best, strict=False)
    used = {id(value) for value in best.values()}
    return [name for name, value in found.items() if id(value) not in used]


def _prefixes(names: Iterable[str]) -> list[str]:
    """The beginnings of names that consist of `WRAPPERS`, shortest first."""
    found = {""}
    for name in names:
        parts = itertools.takewhile(WRAPPERS.__contains__, name.split("."))
        found.update(itertools.accumulate(f"{part}." for part in parts))
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def _elements(names: Iterable[str]) -> set[str]:
    """The elements of sequences among the modules of parameters: layer1.0 of layer1.0.conv1.weight."""
    found: set[str] = set()
    for name in names:
        parts = name.split(".")
        found.update(".".join(parts[: i + 1]) for i, part in enumerate(parts) if part.isdigit())
    return found


class _Unread:
    """Takes the place of an object of `UNREAD`."""

    def __init__(self, *content: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _read_state(path: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        try:
            content: Any = load_file(path)
        except SafetensorError:
            with torch.serialization.safe_globals([(_Unread, name) for name in UNREAD]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None
    except Exception as error:  # torch.load raises whatever its unpickler stumbles over
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = f"it contains {refused[1]}, which is not loaded" if refused else type(error).__name__
        raise ValueError(f"is not a safetensors file or plain PyTorch checkpoint ({why})") from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    named = content.items() if isinstance(content, dict) else ()
    # torch.compile puts _orig_mod where the compiled module is.
    state = {str(k).replace("._orig_mod.", "."): v for k, v in named if isinstance(v, Tensor)}
    if not state:
        raise ValueError("holds no named tensors")
    return state
