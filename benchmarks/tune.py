"""Try hyperparameters on validation images only, and log what came out.

    python -m benchmarks.tune --method protonet --split cifar-fs --try distance=l2 --try "scale=10 steps=800"

Each `--try` is one training; those that differ in test-only hyperparameters alone share it. Novel images are
never embedded: nothing here can be tuned to them. A line per trial is added to ``benchmarks/tuning/log.csv``.

    python -m benchmarks.tune --plan benchmarks/tuning/trials.yaml

A plan names trials for each method. Those that the log has are skipped, so an interrupted plan resumes.

With `--score harmonic` each validation class joins the base classes alone, from 1 and from 5 images, and a
trial is judged by the harmonic mean of the accuracy on the class that joined and on the base classes:

    python -m benchmarks.tune --method imprinted --score harmonic --try finetune=false --try finetune=true
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import shlex
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.common.errors import UserError
from bench.config.lists import read_sets
from bench.config.run_config import RunConfig, resolve
from bench.config.yaml_files import read_yaml

if TYPE_CHECKING:
    from bench.data.images import ImageSet
    from bench.data.splits import Split
    from bench.run.preparation import Prepared

LOG = Path(__file__).parent / "tuning" / "log.csv"
COLUMNS = (
    "plan", "method", "date", "commit", "split", "preset", "backbone", "weights", "seed", "steps", "changes",
    "validation_accuracy", "seconds", "images_per_s", "threads",
)  # fmt: skip
SHOTS = (1, 5)
"""Support images of each class that joins, of `--score harmonic`."""


def main() -> int:
    """Run every trial, one after another."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tune", description=(__doc__ or "").split("\n")[0]
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--method")
    what.add_argument("--plan", type=Path, help="a file of trials for each method")
    parser.add_argument("--split", default="cifar-fs")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--backbone", help="not the preset's")
    parser.add_argument("--weights", help="start from these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-root", type=Path, help="where CIFAR-100 lies (default: as for `bench run`)")
    parser.add_argument(
        "--runs", type=Path, help="keep checkpoints and curves here (default: throw them away)"
    )
    parser.add_argument("--score", choices=("accuracy", "harmonic"), default="accuracy")
    parser.add_argument("--try", dest="trials", action="append", default=[], metavar="'KEY=VALUE ...'")
    args = parser.parse_args()
    if args.plan and args.trials:
        parser.error("--try: the trials of --plan are in its file")
    try:
        tries = read_plan(args.plan) if args.plan else {args.method: args.trials or [""]}
        trials = [(text, _config(args, method, text)) for method, texts in tries.items() for text in texts]
        with tempfile.TemporaryDirectory() as scratch:
            for text, config in trials:
                own = _names(args, config, text)
                if args.plan and any(own.items() <= row.items() for row in logged(LOG)):
                    continue
                row = trial(config, args.data_root, args.runs or Path(scratch), args.score)
                add(LOG, row | own)
                print(f"{row['validation_accuracy']}  {config.method} {config.split} {text}", flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _config(args: argparse.Namespace, method: str, changes: str) -> RunConfig:
    given = {key: getattr(args, key) for key in ("split", "preset", "backbone", "weights", "seed")}
    return resolve(given | {"method": method}, {}, read_sets(shlex.split(changes)))


def read_plan(path: Path) -> dict[str, list[str]]:
    """Method -> its trials.

    Raises:
        UserError: the file is not a map from methods to lists of texts.
    """
    tries = read_yaml(path)
    for method, texts in tries.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UserError("--plan", path, f"{method} must be a list of trials, e.g. `- steps=800 scale=10`")
    return tries


def _names(args: argparse.Namespace, config: RunConfig, changes: str) -> dict[str, str]:
    """The columns of the log that tell a trial from all others, except by its commit."""
    columns = ("method", "split", "preset", "backbone", "seed")
    return {key: str(getattr(config, key)) for key in columns} | {
        "plan": args.plan.stem if args.plan else "",
        "weights": args.weights or "",
        "changes": changes if args.score == "accuracy" else f"--score {args.score} {changes}".strip(),
    }


def trial(config: RunConfig, data_root: Path | None, runs: Path, score: str = "accuracy") -> dict[str, Any]:
    """Train once, and say how good the best checkpoint is on validation images, by one of the scores.

    Raises:
        UserError: it cannot run here, or the split or the method has not what the score takes.
    """
    import torch

    from bench.common import environment
    from bench.common.progress import Progress
    from bench.evaluation import budget
    from bench.run.learning import learn
    from bench.run.materials import Materials
    from bench.run.plan import Options
    from bench.run.preparation import prepare
    from bench.training.callbacks import Curves, Validation

    environment.keep_freed_memory()
    options = Options(runs, runs, "", data_root)
    materials = Materials(options, with_joining_classes) if score == "harmonic" else Materials(options)
    prepared = prepare(config, options, materials)
    if score == "harmonic":
        check_joins(prepared)
    learned = learn(prepared, options, Progress())
    training = learned.shared or learned.training
    if score == "harmonic":
        accuracy = harmonic(prepared)
    else:  # of the kept weights, on the same episodes in every trial, however often it was validated
        where = (prepared.data, prepared.split, prepared.normalise, prepared.precision)
        every = budget.FULL.adapted_validation_episodes
        validation = Validation(*where, every, Curves(1), prepared.method.fixed_embedding)
        scores = validation.scores(prepared.method.to(prepared.device))
        accuracy = sum(scores.values()) / len(scores)
    commit, dirty = prepared.git
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": f"{(commit or '')[:7]}{'+' if dirty else ''}",
        "steps": config.hyperparameters["steps"],
        "validation_accuracy": f"{100 * accuracy:.2f}",
        "seconds": round(training.seconds),
        "images_per_s": round(training.images / training.seconds) if training.steps else "",
        "threads": torch.get_num_threads(),
    }


def with_joining_classes(config: RunConfig, data: ImageSet) -> Split:
    """The split with its validation classes in place of the novel ones, whose images are then out of reach.

    Images of base classes that the data set sets apart for testing are kept out of training, to be asked for.

    Raises:
        UserError: it has no validation classes.
    """
    from bench.run.materials import split_of

    split = split_of(config, data)
    if not split.validation:
        raise UserError(
            "--split", config.split, "has no validation classes; allowed: cifar-fs, fc100, FILE.csv"
        )
    held_out = data.held_out[split.train]
    return dataclasses.replace(
        split,
        novel=split.validation,
        novel_images=split.validation_images,
        train=split.train[~held_out],
        base_test=split.train[held_out],
    )


def harmonic(prepared: Prepared) -> float:
    """The harmonic mean of both accuracies where `with_joining_classes` join, the mean over `SHOTS`."""
    from bench.common.progress import Progress
    from bench.evaluation.generalized import mean_harmonic
    from bench.evaluation.joining import FromImages

    method = prepared.method.to(prepared.device).eval()
    images = FromImages(method, prepared.data, prepared.split, prepared.normalise, prepared.precision)
    return sum(mean_harmonic(images, shot, Progress()) for shot in SHOTS) / len(SHOTS)


def check_joins(prepared: Prepared) -> None:
    """Refuse a method to which no class can be joined, and a data set without images to ask for.

    Raises:
        UserError: it is one of these.
    """
    from bench.evaluation.generalized import plan
    from bench.sampling.episodes import ClassPool

    data, split, config = prepared.data, prepared.split, prepared.config
    pools = [ClassPool(data.labels[index].numpy()) for index in (split.base_test, split.novel_images)]
    if not set(SHOTS) <= set(plan(prepared.method, *pools)[0]):
        raise UserError(
            "--score", "harmonic", f"no classes can be joined to {config.method} on {config.split}"
        )


def logged(log: Path) -> list[dict[str, str]]:
    """The lines of a log, one dictionary of columns each; none without a log."""
    if not log.exists():
        return []
    with log.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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
