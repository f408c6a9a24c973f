"""Weights of a backbone from a file, without executing pickled code."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from methods.timm_backbone import TimmBackbone

UNREAD = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.dtype",
    "numpy.ndarray",
)
"""What checkpoints may contain beside weights, such as an accuracy; it is skipped, not built."""


def load_weights(backbone: nn.Module, path: str) -> list[str]:
    """Start a backbone from a file of weights, without executing pickled code.

    Reads safetensors, or a PyTorch checkpoint: a state dict, or one under ``state_dict``, ``model`` or
    another key. Names may have any prefix; of several networks that fit, the one with the fewest prefixes is
    taken.

    Returns:
        Names in the file that the backbone has no place for (its classifier, say).

    Raises:
        ValueError: the file cannot be read, or does not fit the backbone, or has several equally named
            networks; the message names the first missing, misshapen or surplus parameter.
    """
    found = _read_state(path)
    wanted = backbone.state_dict()
    needed = [name for name in wanted if not name.endswith(("num_batches_tracked", "_extra_state"))]
    best: dict[str, Tensor] = {}
    offered: dict[str, Tensor] = {}
    chosen: list[str] = []
    most = 0
    for prefix in _prefixes(found, wanted):
        stripped = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
        # timm's own checkpoints carry no prefix, while the wrapper calls its model `model`.
        for lead in ("", "model."):
            renamed = {lead + k: v for k, v in stripped.items()}
            candidate = {k: v for k, v in renamed.items() if k in wanted}
            fitting = sum(name in candidate for name in needed)
            if fitting > most:
                best, offered, chosen, most = candidate, renamed, [prefix], fitting
            elif most and fitting == most and prefix.count(".") == chosen[0].count("."):
                chosen.append(prefix)
    if missing := [name for name in needed if name not in best]:
        problem = f"{len(missing)} of {len(wanted)} missing, e.g. {missing[0]}"
        raise ValueError(f"does not fit the backbone: {problem}; the file has {next(iter(found))}, ...")
    if len(chosen) > 1:
        names = ", ".join(prefix.rstrip(".") for prefix in chosen)
        raise ValueError(f"holds {len(chosen)} networks: {names}; save only one of them")
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


def _prefixes(names: Iterable[str], wanted: Collection[str]) -> list[str]:
    """What names of a file have before a wanted name, fewest parts first."""
    found = set()
    for name in names:
        parts = name.split(".")
        for start in range(len(parts)):
            end = ".".join(parts[start:])
            if end in wanted or f"model.{end}" in wanted:
                found.add(name.removesuffix(end))
    return sorted(found, key=lambda prefix: (prefix.count("."), prefix))


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
    named = _tensors(content)
    if isinstance(content, dict):  # under other keys
        named |= {f"{key}.{name}": v for key, inner in content.items() for name, v in _tensors(inner).items()}
    # torch.compile puts _orig_mod where the compiled module is.
    state = {name.replace("._orig_mod.", "."): value for name, value in named.items()}
    if not state:
        raise ValueError("holds no named tensors")
    return state


def _tensors(content: object) -> dict[str, Tensor]:
    pairs = content.items() if isinstance(content, dict) else ()
    return {str(name): value for name, value in pairs if isinstance(value, Tensor)}
