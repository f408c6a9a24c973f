"""Records of runs on the same few episodes, and what `compare` says of them."""

import json
from pathlib import Path

import numpy as np
from command_line import bench
from record_factory import make_record

from bench.records import store

EPISODES = 40
QUERIES = 75
COMMON = 10 * np.random.default_rng(7).normal(size=EPISODES)  # what makes an episode hard for everyone


def answers(mean: float, seed: int = 0, noise: float = 1.0) -> np.ndarray:
    """Correct queries of each episode."""
    own = noise * np.random.default_rng(seed + int(1000 * mean)).normal(size=EPISODES)
    return np.clip(np.round(QUERIES * mean + COMMON + own), 0, QUERIES).astype(np.uint8)


def episode_info(**changes) -> dict:
    info = {"way": 5, "shot": 1, "query": 15, "count": EPISODES, "seed": 0, "sha256": "ab" * 32}
    return {"5w1s": info | changes}


def write(correct: np.ndarray, results: str = "results", **changes) -> str:
    """Record a run; its id says method, preset and seed."""
    changes = {"episodes": episode_info(), "metrics": {}, "per_class": {}} | changes
    record = make_record(**changes)
    store.write(record, Path(results), {"5w1s": correct, "5w1s/queries": np.array(QUERIES)})
    return record.run_id


def compared(*arguments: object) -> dict:
    answer = bench("compare", *arguments, "--json")
    assert (answer.code, answer.err) == (0, "")
    return json.loads(answer.out)


def said(*arguments: object) -> list[str]:
    """The sentence of each comparison and what it rests on."""
    answer = bench("compare", *arguments)
    assert (answer.code, answer.err) == (0, ""), answer.err
    return [line.strip() for line in answer.out.split("\n\n")[-1].strip().splitlines()]


def write_seeds(method: str, correct: list[int], **changes) -> list[str]:
    """One run a seed, each with the same number of correct queries in every episode."""
    return [
        write(np.full(EPISODES, own, dtype=np.uint8), method=method, seed=seed, **changes)
        for seed, own in enumerate(correct)
    ]
