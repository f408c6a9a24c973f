"""The value of ``--backbone``: a name, or an alias of a model of timm."""

from __future__ import annotations

import re
from typing import Any

from bench.common.errors import UserError, one_of
from methods.backbone_names import ALIASES, BACKBONES

BACKBONE = re.compile(r"conv4(-[1-9]\d{0,3})?|resnet12(-[1-9]\d{0,3})?|resnet(20|32|56)|timm:[\w.-]+")
ENCODER = "encoder:"  # begins the name of what `bench.evaluate` was given


def full_backbone(name: Any, flag: str = "--backbone") -> str:
    """The backbone that a name or an alias means: ``dinov2-s`` is ``timm:vit_small_patch14_dinov2``.

    Raises:
        UserError: the name is unknown.
    """
    full = ALIASES.get(name, name) if isinstance(name, str) else name
    if not (isinstance(full, str) and BACKBONE.fullmatch(full)):
        raise UserError(flag, name, one_of(name, [*BACKBONES, *ALIASES]))
    return full
