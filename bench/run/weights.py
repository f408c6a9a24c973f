"""The file of a run's starting weights: that of ``--weights``, or timm's own, written at the first use."""

from __future__ import annotations

import hashlib
from pathlib import Path

import safetensors.torch

from bench.common.errors import UserError
from bench.common.files import check_regular, write_files
from bench.config.backbone import BACKBONE
from bench.config.run_config import RunConfig
from bench.run.plan import Options
from methods.timm_backbone import TimmBackbone, hub

FOLDER, ENDING = "weights", ".safetensors"  # of timm's weights among the runs
TIMM = "timm:"


def starting_weights(config: RunConfig, options: Options) -> str | None:
    """The file that the backbone's weights come from; None for random ones.

    Raises:
        UserError: timm's weights cannot be loaded.
    """
    if not config.pretrained:
        return config.weights
    try:
        return str(of_timm(config.backbone, options))
    except ValueError as error:
        problem = f"{error}; name a file with --weights FILE"
        raise UserError("--backbone", config.backbone, problem) from None


def of_timm(backbone: str, options: Options) -> Path:
    """The file of the weights of ``timm:NAME``: taken from the hub, or where it keeps them on this machine.

    Raises:
        UserError: timm has no such model.
        ValueError: the weights cannot be loaded.
    """
    name = backbone.removeprefix(TIMM)
    path = options.runs / FOLDER / f"{name}{ENDING}"
    if not path.is_file():
        try:
            model = TimmBackbone(name)
        except ValueError as error:
            raise UserError("--backbone", backbone, str(error)) from None
        with hub(options.offline):
            model.load_pretrained()
        state = {key: value.contiguous().clone() for key, value in model.state_dict().items()}
        write_files({path: safetensors.torch.save(state, {"format": "pt"})}, "--runs")
    return path


def at_hand(runs: Path) -> list[str]:
    """Backbones of timm whose weights are among the runs, in alphabetical order."""
    names = (f"{TIMM}{path.name.removesuffix(ENDING)}" for path in (runs / FOLDER).glob(f"*{ENDING}"))
    return sorted(name for name in names if BACKBONE.fullmatch(name))


def digest(path: str | None) -> str | None:
    """SHA-256 (hex) of a file of weights; None for none.

    Raises:
        UserError: it cannot be read.
    """
    if path is None:
        return None
    try:
        check_regular(Path(path))
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError("--weights", path, f"cannot be read: {reason}") from None
