"""Folders of records with everything that pictures are drawn from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from record_factory import make_episodes, make_record, metric, record_fields

from bench.records import store
from bench.records.store import Record
from bench.reporting.figures import Gap, Options, Picture, collect
from bench.reporting.figures.rows import sections
from bench.sampling.episodes import ClassPool
from bench.sampling.pairs import draw_pairs

HOSTILE = (
    "<script>alert(1)</script>",
    "**x** | y",
    '"><img src=x onerror=alert(1)>',
    "$x_1^2$",
    "_hidden",
    "a\x1b[2J\u202eb",
)
CLASSES = [*HOSTILE, *(f"class {number:02}" for number in range(24))]
PAIRS = 400


def metrics(accuracy: float, generalized: bool = True) -> dict[str, Any]:
    """Numbers of a run; all rise with `accuracy`."""
    found = {
        "fewshot/5w1s": metric(accuracy),
        "fewshot/5w5s": metric(accuracy + 0.1),
        "fewshot/allw1s": metric(accuracy - 0.2),
        "novel/pair_accuracy": metric(accuracy + 0.05, n=PAIRS),
        "novel/pair_auc": metric(accuracy + 0.15, n=PAIRS),
        "novel/pair_eer": metric(0.3, n=PAIRS),
        "novel/triplet_accuracy": metric(accuracy + 0.12, n=PAIRS),
        "base/pair_accuracy": metric(accuracy + 0.2, n=PAIRS),
        "base/triplet_accuracy": metric(accuracy + 0.25, n=PAIRS),
    }
    for shots in (1, 5, 10, 20) if generalized else ():
        for part, value in (("novel", 0.3), ("base", 0.6), ("all", 0.5), ("harmonic", 0.4)):
            found[f"generalized/90+10/{shots}s/{part}"] = metric(value + shots / 100 * (part != "base"))
    return found


def pair_scores(record: Record) -> np.ndarray:
    """Scores that tell the pairs' kind: above 0.5 where both images are of one class."""
    counts = list(record.pools["novel"].values())
    labels = np.repeat(np.arange(len(counts)), counts)
    key = f"{record.fingerprint}/{record.split}/novel/0/pairs"
    a, b, _ = draw_pairs(ClassPool(labels), key, PAIRS)
    rng = np.random.default_rng(record.seed)
    return ((labels[a] == labels[b]) * 0.5 + rng.uniform(0, 0.5, PAIRS)).astype(np.float32)


def write(directory: Path, base: int = 90, accuracy: float = 0.6, **changes: Any) -> Record:
    """A record of `base` base classes on cifar100, with its arrays."""
    names = CLASSES[: min(len(CLASSES), 100 - base)]
    method, seed = changes.get("method", "protonet"), changes.get("seed", 0)
    fields: dict[str, Any] = {
        "split": f"{base}-{100 - base}",
        "run_id": f"run-{abs(hash_of(method)):x}-{base}-{seed}",
        "classes": record_fields()["classes"] | {"base": base, "novel": 100 - base},
        "metrics": metrics(accuracy, generalized=base == 90),
        "per_class": {
            name: {"fewshot/5w1s": metric(0.3 + 0.02 * position)} for position, name in enumerate(names)
        },
        "pools": {"novel": dict.fromkeys(names, 60)},
        "thresholds": {"similarity": 0.5},
    }
    record = make_record(**(fields | changes))
    arrays = (
        make_episodes(accuracy, record.seed) | curves(accuracy) | {"novel/pair_scores": pair_scores(record)}
    )
    path = store.write(record, directory, arrays)
    return store.read(path)


def hash_of(name: str) -> int:
    """Some number that tells names apart."""
    return int.from_bytes(name.encode()[:12], "big") + len(name)


def curves(accuracy: float) -> Mapping[str, np.ndarray]:
    """Training curves, as `bench run` keeps them."""
    steps = np.arange(100.0, 1100.0, 100.0)
    return {
        "curve/loss": np.stack([steps, 3.0 / steps], axis=1),
        "curve/accuracy": np.stack([steps, accuracy - 10 / steps], axis=1),
    }


def everything(directory: Path, runs: str = "no runs") -> list[Picture | Gap]:
    """What is drawn of a folder of records and what is not; `runs`, relative to it, has the models."""
    found, problems = store.read_all(directory)
    assert problems == []
    return collect(sections(found, directory), Options(directory, directory / runs))


def pictures(directory: Path) -> dict[str, Picture]:
    """Pictures by name."""
    return {item.name: item for item in everything(directory) if isinstance(item, Picture)}
