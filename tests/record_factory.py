"""Valid records for tests: every field filled in, any of them replaced by keyword."""

import re
from datetime import UTC, datetime
from typing import Any

import numpy as np

from bench.records.store import Record

QUERIES = {"5w1s": 75, "5w5s": 75, "allw1s": 5990}
SETTINGS = {"5w1s": (5, 1, 15), "5w5s": (5, 5, 15), "allw1s": (10, 1, 0)}  # way, shot, queries per class
EPISODES = 40


def metric(value: float, half: float = 0.01, n: int = EPISODES) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half), "n": n}


def episode_info(way: int, shot: int, query: int, **changes: Any) -> dict[str, Any]:
    info = {"way": way, "shot": shot, "query": query, "count": EPISODES, "seed": 0, "sha256": "0" * 64}
    return info | changes


def record_fields(**changes: Any) -> dict[str, Any]:
    """The fields of a valid record as JSON holds them; `run_id` follows from method, preset and seed."""
    method, preset, seed = [
        changes.get(*one) for one in (("method", "protonet"), ("preset", "quick"), ("seed", 0))
    ]
    fields = {
        "protocol_version": 1,
        "run_id": re.sub(r"[^A-Za-z0-9]+", "-", f"cifar100-{method}-{preset}-{seed}"),
        "created": datetime(2025, 3, 1, 12, tzinfo=UTC).isoformat(),
        "bench_version": "0.1.0",
        "command": f"python -m bench run --method {method} --split 90-10 --preset {preset} --seed {seed}",
        "method": "protonet",
        "family": "metric",
        "paper": "Snell et al. 2017",
        "transductive": False,
        "external_data": False,
        "preset": "quick",
        "hyperparameters": {"lr": 0.05, "distance": "l2", "milestones": [10, 20], "bias": False},
        "config": {"method": method, "split": "90-10", "seed": seed, "overrides": {}},
        "backbone": "conv4",
        "parameters": 112_832,
        "trained": True,
        "weights": None,
        "dataset": "cifar100",
        "fingerprint": "ab" * 32,
        "split": "90-10",
        "seed": 0,
        "classes": {
            "base": 90,
            "validation": 0,
            "novel": 10,
            "train_images": 45_000,
            "validation_images": 4_500,
            "base_test_images": 4_500,
            "novel_images": 5_990,
            "novel_dropped_duplicates": 10,
        },
        "metrics": {
            "fewshot/5w1s": metric(0.64),
            "fewshot/5w5s": metric(0.77),
            "fewshot/allw1s": metric(0.51),
            "novel/pair_accuracy": metric(0.767, n=20_000),
            "novel/triplet_accuracy": metric(0.834, n=20_000),
            "base/pair_accuracy": metric(0.80, n=20_000),
            "base/triplet_accuracy": metric(0.876, n=20_000),
        },
        "per_class": {"whale": {"novel/pair_accuracy": metric(0.8)}},
        "constant_answer": {"novel/unbalanced_pair_accuracy": 0.9},
        "thresholds": {"pair": 0.31},
        "images": 384_000,
        "kept_step": 2_900,
        "episodes": {
            name: episode_info(*setting, sha256=f"{i}" * 64)
            for i, (name, setting) in enumerate(SETTINGS.items())
        },
        "timings": {
            "data_s": 1.0,
            "train_s": 594.2,
            "evaluate_s": 9.5,
            "total_s": 610.0,
            "steps": 3000,
            "train_images_per_s": 900.0,
            "episodes_per_s": 3000.0,
            "peak_memory_mib": 1200.0,
        },
        "environment": {
            "libraries": {"python": "3.11.9", "torch": "2.15.0"},
            "platform": "Linux",
            "cpu": "x86-64",
            "device": "cpu",
            "precision": "bf16-mixed",
            "threads": 2,
            "git_commit": "0" * 40,
            "git_dirty": False,
        },
    }
    return fields | changes


ON_GPU = record_fields()["environment"] | {"device": "NVIDIA H200"}


def make_record(**changes: Any) -> Record:
    return Record.model_validate(record_fields(**changes))


def make_episodes(accuracy: float = 0.64, seed: int = 0, count: int = EPISODES) -> dict[str, np.ndarray]:
    """Numbers of correct queries of `count` episodes a setting, as `records.write` takes them."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for name, queries in QUERIES.items():
        arrays[name] = rng.binomial(queries, accuracy, size=count).astype(np.uint16)
        arrays[f"{name}/queries"] = np.array(queries)
    return arrays
