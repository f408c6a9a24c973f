"""Text of `list`, `show` and the headline of `run`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.common.errors import UserError, one_line
from bench.config.run_config import PRESETS
from bench.data.names import ARROW, DATASETS, SPLITS
from bench.records.identity import name_of
from bench.records.store import Record, read_all
from bench.reporting import terminal
from bench.reporting.blocks import percent_text
from bench.reporting.frame import frame, runs
from bench.reporting.leaderboard.cells import images, kept_step
from bench.reporting.ranking.rows import by_size
from methods.backbone_names import ALIASES, BACKBONES
from methods.method_info import MethodInfo, Parameter
from methods.pretraining import PRETRAINED_SHARE
from methods.registry import available

if TYPE_CHECKING:
    from bench.statistics import Interval

Row = dict[str, Any]

NAMED: dict[str, Mapping[str, str]] = {
    "splits": SPLITS,
    "datasets": {name: one.about for name, one in DATASETS.items()},
    "backbones": BACKBONES | {name: f"short for {full}" for name, full in ALIASES.items()},
    "presets": PRESETS,
}
"""What `list` shows other than methods and runs: name -> what it is."""


def listing(what: str) -> list[Row]:
    """Rows of `list`: methods, splits, datasets, backbones or presets."""
    if what == "methods":
        return _methods()
    return [{"name": name, "what it is": text} for name, text in NAMED[what].items()]


def _methods() -> list[Row]:
    return [
        {
            "name": info.name,
            "family": info.family,
            "trains on": info.trains_on,
            "starts from": starts_from(info),
            "marks": ", ".join(marks(info)),
            "paper": info.paper,
        }
        for info in available().values()
    ]


def settings_of(info: MethodInfo) -> dict[str, Mapping[str, Any]]:
    """The values that each preset sets, and those of a start other than the default."""
    return {**info.presets, **{f"any, with init={start}": values for start, values in info.starts.items()}}


def starts_from(info: MethodInfo) -> str:
    """Random weights, or a classifier of the base classes with its share of training images."""
    if info.trains_on == "pretraining":
        return "pretrained (100%)"
    init = info.parameters.get("init")
    starts = {"scratch": "scratch", "pretrained": f"pretrained ({PRETRAINED_SHARE:.0%})"}
    if init is None or init.default not in starts:
        return "scratch"
    default = starts.pop(init.default)
    return f"{default}, or {', '.join(starts.values())}"


def marks(info: MethodInfo) -> list[str]:
    """Marks of a method: reasons why its rows are not comparable with all others, or why it is unusable."""
    words = {
        "transductive": info.transductive,
        "external data": info.external_data,
        f"unusable: {info.problem}": bool(info.problem),
    }
    found = [word for word, on in words.items() if on]
    return found + [f"{word} if {what}" for word, what in info.marked_when.items()]


def run_list(results: Path) -> tuple[list[Row], list[str]]:
    """The recorded runs, and one line per file that is not a valid record."""
    if not results.exists():
        return [], []
    records, problems = read_all(results)
    headings, found = ("run", "method", "5w1s", "5w5s", "created"), frame(records)
    lines = runs(found).to_dict("records")
    rows = [
        {heading: "".join(line[heading]) for heading in headings}
        | {
            "track": track.partition(",")[0] if isinstance(track, str) else "–",
            "images": "".join(images([record])),
            "kept step": "".join(kept_step([record])),
        }
        for line, record, track in zip(lines, records, found["track"], strict=True)
    ]
    return rows, problems


def narrow(rows: Iterable[Row]) -> list[Row]:
    """Rows of `run_list` shortened for a terminal, where they fit 100 columns."""
    return [
        {
            "run": row["run"],
            "track": row["track"],
            "images": row["images"],
            "kept step": row["kept step"]
            .replace(" of ", "/")
            .replace("the pretrained network", "pretrained")
            .removesuffix(" pretraining"),
            "5w1s": row["5w1s"].partition(" ")[0],
        }
        for row in rows
    ]


def method_page(info: MethodInfo) -> str:
    """Description of one method, with its hyperparameters and the values of each preset."""
    rows = [
        {
            "hyperparameter": p.name,
            "type": choices(p.annotation),
            "default": p.default,
            "what it is": what_it_is(p, info),
        }
        for p in info.parameters.values()
    ]
    presets = [
        {"preset": name, "sets": ", ".join(f"{key}={value}" for key, value in values.items())}
        for name, values in settings_of(info).items()
    ]
    facts = {
        "paper": info.paper,
        "family": info.family,
        "trains on": info.trains_on,
        "starts from": starts_from(info),
    }
    head = "\n".join(f"{name}: {text}" for name, text in facts.items() if text)
    return "\n\n".join(
        (
            f"{info.name}: {info.description}",
            head,
            terminal.text(rows, {"type": 24, "what it is": 50}),
            terminal.text(presets, {"sets": 90}),
        )
    )


def what_it_is(parameter: Parameter, info: MethodInfo) -> str:
    """The help of a hyperparameter, with a mark if it is test-only."""
    return f"{parameter.help}; test-only" if parameter.name in info.test_only else parameter.help


def choices(annotation: str) -> str:
    """A hyperparameter's type as text: ``Literal['sgd', 'adam']`` -> ``sgd, adam``."""
    annotation = annotation.replace("int | Literal[0]", "int from 0")
    if annotation.startswith("Literal["):
        return annotation.removeprefix("Literal[").replace("]", "").replace("'", "")
    return annotation


HEADLINE = 9
"""Maximum number of lines; `run` adds the path of the record."""


def headline(record: Record, directory: Path) -> str:
    """The main numbers of a run, and the commands for more.

    On a user's own images, which are a sample, few-shot intervals are those for fresh images where there are
    enough; their value then is the mean of episodes without common images.

    Args:
        record: the record. directory: its folder.
    """
    settings, verification = [], []
    own_images = record.dataset.split(ARROW)[-1].startswith(("folder:", "hf:"))
    fresh = _fresh(record, directory) if own_images else {}
    for key, metric in sorted(record.metrics.items(), key=lambda item: by_size(item[0])):
        part, _, what = key.partition("/")
        if part == "fewshot" and what in record.episodes:
            reach = f"on {'fresh' if key in fresh else 'these'} images; " if own_images else ""
            note = f"{reach}guessing gives {100 / record.episodes[what].way:.3g}"
            settings.append([what, percent_text(fresh.get(key, metric)), note])
    for name in record.open_set:
        settings.append(
            [f"{name} AUROC", percent_text(record.metrics.get(f"{name}/auroc")), "guessing gives 50"]
        )
    for what in ("pair", "triplet"):
        novel, base = (record.metrics.get(f"{part}/{what}_accuracy") for part in ("novel", "base"))
        if novel or base:
            beside = f", base classes {percent_text(base)}" if novel and base else ""
            name = f"{'novel' if novel else 'base'} {what}s"
            verification.append([name, percent_text(novel or base), f"guessing gives 50{beside}"])
    if (left := len(settings) + len(verification) - (HEADLINE - 2)) > 0:
        settings[-left - 1 :] = [["...", f"{left + 1} more settings", ""]]
    title = (
        f"{name_of(record)} on {record.dataset} {record.split}, seed {record.seed}: percent, 95% intervals"
    )
    following = f"next: python -m bench show {record.run_id}, or python -m bench leaderboard --show"
    from tabulate import tabulate

    table = tabulate([*settings, *verification], tablefmt="plain", disable_numparse=True).splitlines()
    return "\n".join([one_line(title), *(f"  {line}" for line in table), following])


def _fresh(record: Record, directory: Path) -> dict[str, Interval]:
    from bench.reporting.reach import fresh_images

    try:
        return fresh_images(record, directory)
    except UserError:  # the file of answers is gone or damaged, which `validate` reports
        return {}


def result_table(record: Record) -> str:
    """The numbers of one run, in percent with 95% intervals, and its classes from hardest to easiest."""
    parts = [
        one_line(f"{name_of(record)} on {record.dataset} {record.split}, seed {record.seed}"),
        terminal.text(metric_rows(record, record.metrics)),
    ]
    if record.per_class:
        rows = class_rows(record)
        cut = rows if len(rows) <= 20 else [*rows[:10], {"novel class": "..."}, *rows[-10:]]
        parts.append(terminal.text(cut))
    return "\n\n".join(parts) + "\n"


def metric_rows(record: Record, keys: Iterable[str]) -> list[Row]:
    """Metrics of a run, one row each, with notes."""
    metrics = [(key, record.metrics[key]) for key in keys]
    return [
        {"metric": key, "percent": percent_text(metric), "n": f"{metric.n:,}", "note": _note(record, key)}
        for key, metric in sorted(metrics, key=lambda item: by_size(item[0]))
    ]


def class_rows(record: Record) -> list[Row]:
    """The novel classes of a run, from hardest to easiest."""
    shown = ("fewshot/5w1s", "novel/pair_accuracy", "novel/triplet_accuracy")
    classes = sorted(
        record.per_class.items(),
        key=lambda item: (item[1][shown[0]].value if shown[0] in item[1] else 0.0, item[0]),
    )
    keys = [key for key in shown if any(key in own for _, own in classes)]
    return [
        {"novel class": one_line(name)} | {key: percent_text(own.get(key)) for key in keys}
        for name, own in classes
    ]


def _note(record: Record, key: str) -> str:
    if (std := record.metrics[key].std) is not None:
        return f"standard deviation {100 * std:.1f}"
    if key in record.constant_answer:
        return f"constant answer: {100 * record.constant_answer[key]:.1f}"
    if key.endswith("/pair_accuracy"):
        return "threshold given" if record.labelled_novel_images else "validation's threshold"
    if key.endswith(("/false_accepts", "/false_rejects")):
        return "validation's threshold"
    if key.endswith("oracle"):
        return "diagnostic: best threshold"
    return ""


def fact_table(facts: Mapping[str, Any]) -> str:
    """Nested facts as aligned `name  value` lines."""

    def flat(facts: Mapping[str, Any], owner: str = "") -> Iterator[tuple[str, Any]]:
        for key, value in facts.items():
            if isinstance(value, Mapping):
                yield from flat(value, f"{owner}{key}: ")
            else:
                yield f"{owner}{key}", value

    lines = {
        key.replace("_", " "): f"{value:,}" if type(value) is int else value for key, value in flat(facts)
    }
    width = max(map(len, lines))
    return "\n".join(f"{key:<{width}}  {one_line(value)}" for key, value in lines.items())
