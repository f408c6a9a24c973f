"""Compares a record's statements about its method with the method's source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePosixPath

from bench.config.run_config import METHOD_FILE
from bench.records.identity import overrides
from bench.records.store import Record
from methods import registry
from methods.backbone_names import parameter_count
from methods.method_info import MethodInfo

MARKS = ("transductive", "external_data", "labelled_novel_images")
PART_OF_PATH = re.compile(r"[/\\\\]")  # on any operating system
SPLIT_FILE = re.compile(r"(?P<name>.+)@[0-9a-f]{8}")


def contradictions(record: Record) -> Iterator[str]:
    """One line per statement that contradicts the record's method.

    For a method that is not installed, another version of a plug-in, or a method in a file (whose code may
    have changed), only what follows from the record itself is checked.
    """
    given = record.config.get("method")
    file = METHOD_FILE.fullmatch(given) if isinstance(given, str) else None
    expected = PurePosixPath(PART_OF_PATH.split(file["path"])[-1]).stem if file else given
    if given is not None and record.method != expected:
        yield f"method: {record.method}, but config says {given}"
    if record.weights and not record.external_data:
        yield "external_data: false, with a file of starting weights"
    info = None if file else _installed(record.method)
    if info is None or (record.sources and record.sources.plugin != info.plugin):
        return
    # Records without sources describe the method as it was then.
    for name in ("family", "paper") if record.sources else ():
        recorded, said = getattr(record, name), getattr(info, name)
        if recorded != said:
            yield f"{name}: {recorded}, but {info.name} says {said}"
    if unknown := sorted(record.hyperparameters.keys() - info.parameters.keys()):
        yield f"hyperparameters: {info.name} has no {', '.join(unknown)}"
    built_in = not info.plugin
    for mark in MARKS:
        recorded, from_file = bool(getattr(record, mark)), mark == "external_data" and bool(record.weights)
        must = from_file or info.has_mark(mark.replace("_", " "), record.hyperparameters)
        # A plug-in may set additional marks, but not remove one.
        if recorded != must and (must or built_in):
            is_, was = str(must).lower(), str(recorded).lower()
            yield f"{mark}: {was}, but must be {is_} for {info.name} with these settings"
    if built_in and record.sources and record.trained and record.failure is None:
        chosen = record.hyperparameters
        taught = bool(chosen.get("distillation"))  # the teacher is one
        pretrained = chosen.get("init") == "pretrained" or info.trains_on == "pretraining" or taught
        if pretrained and record.pretraining is None:
            yield f"pretraining: none, but {info.name} with these settings starts from one"
        if record.pretraining and not pretrained:
            yield f"pretraining: {record.pretraining.run_id}, but {info.name} with these settings has none"
    if record.shared_training and not overrides(record).keys() & set(info.test_only):
        shared = record.shared_training.run_id
        yield f"shared_training: {shared}, but {info.name} with these settings trains itself"
    count = parameter_count(record.backbone) if built_in and not info.extends_backbone else None
    if count not in (None, record.parameters):
        yield f"parameters: {record.parameters}, but {record.backbone} has {count}"


def _installed(name: str) -> MethodInfo | None:
    if name in registry.places():
        with suppress(ValueError):
            return registry.find(name)
    return None


def same_split(recorded: str, given: str) -> bool:
    """Whether a record's split is that of its configuration: a CSV file's name gets a digest."""
    file = SPLIT_FILE.fullmatch(recorded)
    return recorded == given or (
        file is not None and given.endswith(".csv") and PART_OF_PATH.split(given)[-1] == file["name"]
    )
