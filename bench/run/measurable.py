"""Decides what can be measured in a run, once, before it trains."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bench.common.errors import UserError, one_of
from bench.config.lists import OTHER_MEASUREMENTS
from bench.config.run_config import RunConfig
from bench.data.images import ImageSet
from bench.data.photos import listed
from bench.data.splits import Split
from bench.evaluation.measurements import Measurements, pools_of, possible
from bench.evaluation.open_set import OTHERS, rehearsal
from bench.evaluation.settings import does_not_fit, nearest, standard_settings
from bench.sampling.episodes import ClassPool, Setting
from methods.abilities import class_tasks
from methods.method import Method

KNOWS_NOVEL = "learns from labelled images of the novel classes"
"""Why a method with `class_tasks` has no few-shot numbers."""


def measured(
    config: RunConfig, split: Split, data: ImageSet, method: Method
) -> tuple[Measurements, list[str]]:
    """What will be measured, and what cannot be and why.

    Raises:
        UserError: the additional setting does not fit, or nothing can be measured.
    """
    pools = pools_of(data, split)
    settings: list[Setting] = []
    left_out: list[str] = []
    few_shot = class_tasks(method) is None
    standard = standard_settings(split.name, method.fixed_embedding, method.transductive, config.brief)
    own = _own_setting(config)
    open_set = {s.name: replace(s, others=OTHERS) for s in (*standard, *own) if s.way}.values()
    wanted = _wanted(config, *([setting.name for setting in some] for some in ((*standard, *own), open_set)))
    for setting in (*standard, *open_set) if split.novel else ():
        if setting.name not in wanted:
            continue
        if not few_shot:
            left_out.append(f"{setting.name} ({KNOWS_NOVEL})")
            continue
        found = nearest(setting, pools["novel"])
        if found and found.name in {other.name for other in (*settings, *own)}:
            found = None
        if problem := does_not_fit(setting, pools["novel"]):
            instead = f", measured as {found.name} instead" if found else ""
            left_out.append(f"{setting.name} ({problem}){instead}")
        settings += [found] if found else []
    for setting in own:
        if not few_shot:
            raise UserError("--way", setting.way, f"cannot be measured: {config.method} {KNOWS_NOVEL}")
        if problem := does_not_fit(setting, pools["novel"]):
            given, _, allowed = problem.partition(": ")
            raise UserError(re.sub(r"\b(?=way|shot|query)", "--", given), "", allowed)
        settings = [*(other for other in settings if other.name != setting.name), setting]
    for setting in settings:
        if setting.others and not _threshold_exists(setting, split, data):
            left_out.append(f"a threshold for {setting.name} (too few validation classes or images)")
        left_out += _small_classes(setting.name, setting.images, pools["novel"], data)
    others = [name for name in wanted if split.novel or name != "generalized"]
    plan, missing = possible(method, pools, settings, others)
    pairs = " and ".join(name for name in ("pairs", "triplets") if name in wanted)
    if pairs and few_shot and "validation" not in plan.pools:
        left_out.append(f"{pairs} (too few validation images to choose a threshold)")
    few = len(split.base) - len(pools["base"].classes)
    if plan.verified and few and len(split.base_test):
        left_out.append(f"{pairs} of {few} base classes (fewer than 2 test images)")
    if "generalized" in others and not few_shot:
        left_out.append(f"generalized accuracy ({KNOWS_NOVEL})")
    left_out += missing + _not_joining(plan.shots, pools["novel"], data)
    if not plan.names:
        if not left_out:  # there are no novel classes, and nothing else was requested
            allowed = "has no novel classes; allowed: pairs, triplets"
            raise UserError("--measure", ",".join(wanted), f"{config.split} {allowed}")
        raise UserError("--split", config.split, f"leaves nothing to measure: no {'; no '.join(left_out)}")
    return plan, left_out


def _threshold_exists(setting: Setting, split: Split, data: ImageSet) -> bool:
    drawn = rehearsal(data, split, setting.way, setting.shot, count=1)
    return drawn is not None and drawn.is_of(setting)


def _not_joining(shots: Sequence[int], pool: ClassPool, data: ImageSet) -> list[str]:
    """The classes that are too small to join the base classes; shots with the same ones in one line."""
    alike: dict[int, list[int]] = {}
    for shot in shots:
        alike.setdefault(len(pool.with_images(shot + 1)), []).append(shot)
    return [
        line
        for own in alike.values()
        for line in _small_classes(f"generalized {' '.join(f'{s}s' for s in own)}", own[0] + 1, pool, data)
    ]


def _small_classes(what: str, images: int, pool: ClassPool, data: ImageSet) -> list[str]:
    """The classes without so many images, which `what` leaves out, as a list of at most one line."""
    small = np.flatnonzero(pool.counts < images)
    if not len(small):
        return []
    counted = [f"{data.class_names[pool.classes[c]]} ({pool.counts[c]})" for c in small]
    which = "1 novel class" if len(small) == 1 else f"{len(small)} novel classes"
    return [listed(f"{what} of {which} with fewer than {images} images", counted)]


def _own_setting(config: RunConfig) -> list[Setting]:
    if config.way and config.shot and config.query and config.episodes:
        return [Setting(config.way, config.shot, config.query, config.episodes)]
    return []


def _wanted(config: RunConfig, settings: list[str], open_set: list[str]) -> list[str]:
    """Names of what to measure, if the classes allow it; open-set settings only if they are asked for."""
    known = [*settings, *OTHER_MEASUREMENTS]
    if config.measure is None:
        return [name for name in known if name != "generalized" or not config.brief]
    known += open_set
    for name in config.measure:
        if name not in known:
            others = "; others with --way and --shot" if name[:1].isdigit() else ""
            raise UserError("--measure", name, one_of(name, known) + others)
    return config.measure
