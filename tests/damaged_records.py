"""Folders of real records, made by tiny runs, that tests damage and show to `validate`."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import bench, write_images
from small_budget import small_budget

Json = dict[str, Any]
FIRST, SECOND = "nearest-centroid", "protonet"


def run_methods(place: Path) -> Path:
    """Records of two methods, both of which novel classes can join, with fewer pairs and episodes."""
    write_images(place / "images", classes=12, each=40)
    from bench.config import run_config
    from bench.evaluation import contract

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSHOT_CACHE", str(place / "cache"))
        patch.setattr(run_config, "BRIEF", "")  # small trainings, but everything is measured
        small_budget(patch, pairs=200, episodes=300)
        patch.setattr(contract, "check", lambda *given: None)
        answer = bench(
            "run", "--method", "nearest_centroid,protonet", "--preset", "smoke", "--steps", 2,
            "--precision", "fp32", "--device", "cpu", "--way", 3, "--shot", 2, "--query", 5, "--episodes", 20,
            "--dataset", f"folder:{place / 'images'}", "--split", "50-50",
            "--results", place / "results", "--runs", place / "runs",
        )  # fmt: skip
    assert answer.code == 0, answer.err
    return place / "results"


class Folder:
    """A copy of the records, to be damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (self.first,), (self.second,) = (list(path.glob(f"{name}*.json")) for name in (FIRST, SECOND))

    def edit(self, change: Callable[[Json], Any], path: Path | None = None) -> Json:
        """Change the content of one record, else of the first."""
        path = path or self.first
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))
        return record

    def rewrite(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change arrays of the first record's npz, and the hash with it, as a forger would."""
        with np.load(self.first.with_suffix(".npz")) as file:
            arrays = {name: file[name].copy() for name in file}
        change(arrays)
        np.savez(self.first.with_suffix(".npz"), **arrays)
        self.rehash()

    def replace(self, content: bytes) -> None:
        """Another content of the first record's npz, hash and all."""
        self.first.with_suffix(".npz").write_bytes(content)
        self.rehash()

    def rehash(self) -> None:
        digest = hashlib.sha256(self.first.with_suffix(".npz").read_bytes()).hexdigest()
        self.edit(lambda record: record.update(episode_file_sha256=digest))

    def without_npz(self, path: Path) -> None:
        path.with_suffix(".npz").unlink()
        self.edit(lambda record: record.update(episode_file=None, episode_file_sha256=None), path)

    def lines(self, code: int = 1) -> list[str]:
        """What `validate` says, problems before notes."""
        answer = bench("validate", "--results", self.path)
        assert answer.code == code, answer
        if code:
            count = len([line for line in answer.out.splitlines() if not line.startswith("note: ")])
            assert answer.err.startswith(f"{count} problems in ")
            return answer.out.splitlines()
        assert answer.err == "" and answer.out.endswith(" records: no problems\n")
        return answer.out.splitlines()[:-1]

    def of_first(self) -> list[str]:
        """The problems, all of which the first record has, without its name."""
        start = f"{self.first.stem}: "
        lines = [line for line in self.lines() if not line.startswith("note: ")]
        assert all(line.startswith(start) for line in lines), lines
        return [line.removeprefix(start) for line in lines]
