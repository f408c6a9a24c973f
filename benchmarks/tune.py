"""Try hyperparameters on validation images only, and log what came out.

    python -m benchmarks.tune --method protonet --split cifar-fs --try distance=l2 --try "scale=10 steps=800"

Each `--try` is one training; those that differ in test-only hyperparameters alone share it. Novel images are
never embedded: nothing here can be tuned to them. A line per trial is added to
``benchmarks/tuning/<method>.csv``.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.common.errors import UserError
from bench.config.run_config import RunConfig, read_sets, resolve

LOGS = Path(__file__).parent / "tuning"
COLUMNS = (
    "date", "commit", "split", "preset", "backbone", "weights", "seed", "steps", "changes",
    "validation_accuracy", "seconds", "images_per_s", "threads",
)  # fmt: skip


def main() -> int:
    """Run every trial, one after another."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tune", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--method", required=True)
    parser.add_argument("--split", default="cifar-fs")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--backbone", help="not the preset's")
    parser.add_argument("--weights", help="start from these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-root", type=Path, help="where CIFAR-100 lies (default: as for `bench run`)")
    parser.add_argument(
        "--runs", type=Path, help="keep checkpoints and curves here (default: throw them away)"
    )
    parser.add_argument("--try", dest="trials", action="append", default=[], metavar="'KEY=VALUE ...'")
    args = parser.parse_args()
    try:
        trials = [(text, _config(args, text)) for text in args.trials or [""]]
        with tempfile.TemporaryDirectory() as scratch:
            for text, config in trials:
                row = trial(config, args.data_root, args.runs or Path(scratch))
                add(LOGS / f"{args.method}.csv", row | {"changes": text, "weights": args.weights or ""})
                print(f"{row['validation_accuracy']}  {config.split} {config.preset} {text}", flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _config(args: argparse.Namespace, changes: str) -> RunConfig:
    given = {key: getattr(args, key) for key in ("method", "split", "preset", "backbone", "weights", "seed")}
    return resolve(given, {}, read_sets(shlex.split(changes)))


def trial(config: RunConfig, data_root: Path | None, runs: Path) -> dict[str, Any]:
    """Train once, and say how good the best checkpoint is on validation images."""
    import torch

    from bench.common import environment
    from bench.common.progress import Progress
    from bench.run.learning import learn
    from bench.run.plan import Options
    from bench.run.preparation import prepare
    from bench.training.callbacks import Curves, Validation

    environment.keep_freed_memory()
    options = Options(runs, runs, "", data_root)
    prepared = prepare(config, options)
    learned = learn(prepared, options, Progress())
    training = learned.shared or learned.training
    accuracy = learned.best_validation
    if accuracy is None:  # it has no training of its own
        where = (prepared.data, prepared.split, prepared.normalise, prepared.precision)
        validation = Validation(*where, 1, Curves(1), prepared.method.fixed_embedding)
        scores = validation.scores(prepared.method.to(prepared.device))
        accuracy = sum(scores.values()) / len(scores)
    commit, dirty = prepared.git
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": f"{(commit or '')[:7]}{'+' if dirty else ''}",
        "split": config.split,
        "preset": config.preset,
        "backbone": config.backbone,
        "seed": config.seed,
        "steps": config.hyperparameters["steps"],
        "validation_accuracy": f"{100 * accuracy:.2f}",
        "seconds": round(training.seconds),
        "images_per_s": round(training.images / training.seconds) if training.steps else "",
        "threads": torch.get_num_threads(),
    }


def add(log: Path, row: dict[str, Any]) -> None:
    """Add a line to a log, which begins with the names of its columns."""
    log.parent.mkdir(parents=True, exist_ok=True)
    new = not log.exists()
    with log.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    sys.exit(main())
