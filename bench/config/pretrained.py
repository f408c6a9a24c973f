"""Which runs start from timm's own weights: with ``--pretrained``, or ``--no-train`` without others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bench.common.errors import UserError
from methods.method_info import MethodInfo

EXTERNAL = "external data"  # mark of rows whose weights have seen other images
PRETRAINED = "pretrained"  # key of a run, and the hyperparameter of a method that has it: both say the same


def settle_pretrained(
    info: MethodInfo,
    values: dict[str, Any],
    own: Mapping[str, Any],
    sets: Mapping[str, str],
    flag: Callable[[str], str],
) -> None:
    """Set `pretrained`, and the hyperparameter of that name: whether a run starts from timm's own weights.

    Args:
        info: the method.
        values: of the run; `hyperparameters` has all of them.
        own: hyperparameters of the file and of flags. sets: those of ``--set``, as text.
        flag: key -> its source for error messages.

    Raises:
        UserError: ``--pretrained`` does not fit the backbone or other flags.
    """
    asked, weights, backbone = values.get(PRETRAINED), values.get("weights"), values["backbone"]
    hyperparameters = values["hyperparameters"]
    has_own = info.marked_when.get(EXTERNAL) == f"{PRETRAINED}=true"
    given = own.get(PRETRAINED) if has_own else None
    of_timm = backbone.startswith("timm:")
    if asked:
        if not of_timm:
            problem = f"{backbone} has no pretrained weights; must be timm:NAME or an alias, e.g. resnet18"
            raise UserError(flag(PRETRAINED), "", f"the backbone {problem}")
        if weights:
            raise UserError(flag(PRETRAINED), "", "cannot be combined with --weights")
        if given is False and PRETRAINED in sets:
            raise UserError(
                "--set", f"{PRETRAINED}={sets[PRETRAINED]}", f"cannot be combined with {flag(PRETRAINED)}"
            )
    elif has_own and asked is False:
        given = hyperparameters[PRETRAINED] = bool(given)
    refused = asked is False or given is False
    needed = values.get("train") is False and not refused and not info.has_mark(EXTERNAL, hyperparameters)
    taken = of_timm and not weights and bool(asked or needed or (has_own and hyperparameters[PRETRAINED]))
    if taken and has_own:
        hyperparameters[PRETRAINED] = True
    values[PRETRAINED] = taken
