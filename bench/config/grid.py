"""A grid of runs: every combination that flags and a ``--config`` file request, resolved and checked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from bench.common.errors import UserError, one_line
from bench.common.streams import say
from bench.config.run_config import FILE_KEYS, KEYS, RunConfig, check_keys, resolve
from bench.data.names import NO_NOVEL, RATIOS
from methods import registry

AXES = ("method", "split", "seed", "preset")
"""Fields that take several values; each combination, also of hyperparameters in a file, is a run."""

ALL = "all"

Given = tuple[dict[str, Any], dict[str, str]]
"""Values of `RunConfig` fields, and the source of each for error messages."""


class Requested(NamedTuple):
    """One run of a grid, not resolved yet.

    Attributes:
        given: values of `RunConfig` fields. sources: of each, for error messages.
        others: equal for runs that differ only in the method.
        optional: left out if it cannot be made: its method was requested as ``all``.
    """

    given: dict[str, Any]
    sources: dict[str, str]
    others: Hashable
    optional: bool


class Grid(list[RunConfig]):
    """Runs in the requested order.

    Attributes:
        optional: those that are left out if they cannot be made: their methods were requested as ``all``.
    """

    def __init__(self, runs: Iterable[RunConfig] = ()) -> None:
        super().__init__(runs)
        self.optional: list[RunConfig] = []


class LeftOut:
    """Collects the methods that cannot run where others of ``--method all`` can.

    Attributes:
        problems: cell of the grid (split, seed and so on), method and error.
    """

    def __init__(self) -> None:
        self.problems: list[tuple[Hashable, str, UserError]] = []

    @contextmanager
    def attempt(self, cell: Hashable, method: str, optional: bool) -> Iterator[None]:
        """Collect the error of a method in a cell if it is optional there."""
        try:
            yield
        except UserError as error:
            if not optional:
                raise
            self.problems.append((cell, method, error))

    def report(self, made: Collection[Hashable]) -> None:
        """Say in one line what is left out and why.

        Args:
            made: cells in which some method can run.

        Raises:
            UserError: no method can run in one of the cells; the reason of the first.
        """
        reasons: dict[str, list[str]] = {}
        for cell, method, error in self.problems:
            if cell not in made:
                raise error
            reason = error.allowed if error.flag == "--method" else str(error)
            # Without what differs from method to method: its name, and what it allows instead.
            reason = reason.partition("; ")[0].replace(f" (of {method})", "")
            reason = re.sub(rf"(?<!\w){method} ", "", reason)
            own = reasons.setdefault(reason, [])
            own += [] if method in own else [method]
        if reasons:
            listed = "; ".join(f"{', '.join(own)} ({reason})" for reason, own in reasons.items())
            say(one_line(f"left out of --method {ALL}: {listed}"))


def cell_of(config: RunConfig) -> Hashable:
    """What the methods of ``--method all`` have in common, so that they are compared."""
    return config.dataset, config.split, config.seed, config.preset, config.image_size, config.train


def build(path: Path | None, flags: Mapping[str, Any], sets: Mapping[str, str]) -> Grid:
    """The runs in the requested order, without duplicates.

    The method ``all`` stands for every registered one; those that do not fit the other values are left out.

    Args:
        path: of the ``--config`` file.
        flags: the given ones: field -> value, or list of values for `AXES`; and `steps`. They override the
            file.
        sets: hyperparameters from ``--set``, as text, for all runs.

    Raises:
        UserError: a flag or the file is wrong.
    """
    if "steps" in flags:
        sets = {**sets, "steps": str(flags["steps"])}
    grid, left_out = Grid(), LeftOut()
    made = set()
    for one in requested(path, flags):
        with left_out.attempt(one.others, str(one.given["method"]), one.optional):
            config = resolve(one.given, one.sources, sets)
            made.add(one.others)
            if config not in grid:
                grid.append(config)
                grid.optional += [config] if one.optional else []
    left_out.report(made)
    return grid


def requested(path: Path | None, flags: Mapping[str, Any] = MappingProxyType({})) -> Iterator[Requested]:
    """The runs in the requested order, as they are written: without importing methods and thus torch.

    Args:
        path, flags: as in `build`.

    Raises:
        UserError: the file cannot be read, or is not a grid.
    """
    named = {key: "--no-train" if key == "train" else f"--{key.replace('_', '-')}" for key in flags}
    fields = {key: value for key, value in flags.items() if key != "steps"}
    for number, (from_file, places) in enumerate(_in_file(path)):
        given, sources = from_file | fields, places | named
        axes = [_several(sources.get(key, key), given.get(key)) for key in AXES]
        if every := ALL in axes[0]:
            axes[0] = [one for name in axes[0] for one in (registry.places() if name == ALL else [name])]
        axes[AXES.index("split")] = _splits(axes[AXES.index("split")], given.get("measure"))
        for *cell, hyperparameters in itertools.product(*axes, _variants(given, sources)):
            own = dict(zip(AXES, cell, strict=True)) | hyperparameters
            yield Requested(given | own, sources, (number, *cell[1:], str(hyperparameters)), every)


def _several(source: str, value: Any) -> list[Any]:
    if value == []:
        raise UserError(source, value, "must name at least one")
    return value if isinstance(value, list) else [value]


def _variants(given: Mapping[str, Any], sources: Mapping[str, str]) -> list[dict[str, Any]]:
    """One set of hyperparameters for each combination of those of which the file lists several values."""
    key = "hyperparameters"
    if not isinstance(given.get(key), dict):
        return [{}]
    values = [
        _several(sources.get(f"{key}.{name}", f"{sources.get(key, key)}.{name}"), value)
        for name, value in given[key].items()
    ]
    return [{key: dict(zip(given[key], cell, strict=True))} for cell in itertools.product(*values)]


def _splits(names: list[Any], measure: Any) -> list[Any]:
    """Replaces ``ratios`` by all ten, or by nine if only novel classes are measured: 100-0 has none."""
    ratios = list(RATIOS)
    measured = measure.split(",") if isinstance(measure, str) else measure
    if isinstance(measured, list) and not {"pairs", "triplets"} & {str(one).strip() for one in measured}:
        ratios.remove(NO_NOVEL)
    return [one for name in names for one in (ratios if name == "ratios" else [name])]


def _in_file(path: Path | None) -> Iterator[Given]:
    """The values of each run of the file: of the list `runs`, or of the whole file without that key."""
    if path is None:
        yield {}, {}
        return
    from bench.config.yaml_files import read_yaml

    common = read_yaml(path)
    check_keys(common, FILE_KEYS, lambda key: f"{path}: {key}")
    places = {key: f"{path}: {key}" for key in common}
    if "runs" not in common:
        yield common, places
        return
    runs = common.pop("runs")
    if not isinstance(runs, list) or not runs:
        raise UserError(f"{path}: runs", runs, "must be a list of maps, e.g. `runs: [{method: protonet}]`")
    for number, own in enumerate(runs, start=1):
        where = f"{path}: run {number}"
        if not isinstance(own, dict) or not all(isinstance(key, str) for key in own):
            raise UserError(where, own, "must be a map from names to values, e.g. `method: protonet`")
        # A key that is in neither is missing from the run.
        in_run = {key: f"{where}: {key}" for key in (*KEYS, *own)}
        yield _merged((common, in_run | places), (own, in_run))


def _merged(common: Given, own: Given) -> Given:
    """A run's own values override the common ones; hyperparameters are merged one by one."""
    key = "hyperparameters"
    values = common[0] | own[0]
    sources = common[1] | {name: own[1][name] for name in own[0]}
    inner: dict[str, Any] = {}
    for given, places in (common, own):
        part = {} if given.get(key) is None else given[key]
        if not isinstance(part, dict):
            raise UserError(places[key], part, "must be a map from name to value")
        inner |= part
        sources |= {f"{key}.{name}": f"{places[key]}.{name}" for name in part}
    return values | {key: inner}, sources
