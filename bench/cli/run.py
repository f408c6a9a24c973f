"""`run`: train and evaluate."""

from __future__ import annotations

import atexit
import gc
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

from bench.cli.app import DATA_ROOT, DEVICE, IMAGE_SIZE, NO_DOWNLOAD, OWN_RESULTS, RUNS, app, flag, int_parser
from bench.common.errors import UserError
from bench.common.streams import say
from bench.config.lists import MEASURES, read_sets, separated

WHAT, OWN, WHERE, HOW = (
    "What to run",
    "An additional few-shot setting",
    "Folders",
    "How to run it",
)


@app.command()
def run(
    method: Annotated[
        list[str] | None,
        flag(
            "--method",
            "NAME,...",
            "See `list methods`; all; or path/to/file.py:Class, whose code runs with your permissions.",
            WHAT,
        ),
    ] = None,
    split: Annotated[
        list[str] | None, flag("--split", "NAME,...", "See `list splits`.", WHAT, "90-10")
    ] = None,
    seed: Annotated[list[str] | None, flag("--seed", "N,...", "Training seeds.", WHAT, "0")] = None,
    preset: Annotated[
        str | None, flag("--preset", "NAME", "smoke, quick, standard, paper or original.", WHAT, "standard")
    ] = None,
    dataset: Annotated[
        str | None,
        flag("--dataset", "NAME", "See `list datasets`; or folder:PATH, hf:NAME.", WHAT, "cifar100"),
    ] = None,
    novel_dataset: Annotated[
        str | None,
        flag("--novel-dataset", "NAME", "Use all classes of this data set as the novel classes.", WHAT),
    ] = None,
    image_size: Annotated[int | None, flag("--image-size", "N", IMAGE_SIZE, WHAT)] = None,
    backbone: Annotated[
        str | None, flag("--backbone", "NAME", "Instead of the preset's; see `list backbones`.", WHAT)
    ] = None,
    weights: Annotated[
        Path | None, flag("--weights", "FILE", "Starting weights: safetensors or a PyTorch checkpoint.", WHAT)
    ] = None,
    pretrained: Annotated[
        bool,
        flag("--pretrained", "", "Start from timm's weights; for --backbone timm:NAME or an alias.", WHAT),
    ] = False,
    no_train: Annotated[
        bool,
        flag("--no-train", "", "Evaluate the weights as they are: of --weights, or timm's.", WHAT),
    ] = False,
    steps: Annotated[
        int | None, flag("--steps", "N", "Training steps, instead of the preset's.", WHAT)
    ] = None,
    set_: Annotated[
        list[str] | None,
        flag("--set", "KEY=VALUE", "A hyperparameter; see `list methods --method NAME`. Repeatable.", WHAT),
    ] = None,
    train_on: Annotated[
        str | None,
        flag("--train-on", "PARTS", "base, or base+val: the validation classes too.", WHAT, "base"),
    ] = None,
    augment: Annotated[
        list[str] | None,
        flag(
            "--augment",
            "NAME,...",
            "Random changes of training images: crop, flip, jitter; or none.",
            WHAT,
            "crop,flip; for characters crop",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        flag("--config", "FILE", "YAML: a run's config.yaml, or a list of `runs`; flags override it.", WHAT),
    ] = None,
    way: Annotated[int | None, flag("--way", "N", "Classes per episode.", OWN)] = None,
    shot: Annotated[int | None, flag("--shot", "N", "Support images per class.", OWN)] = None,
    query: Annotated[int | None, flag("--query", "N", "Query images per class.", OWN, "15")] = None,
    episodes: Annotated[int | None, flag("--episodes", "N", "Number of episodes.", OWN, "10,000")] = None,
    measure: Annotated[
        list[str] | None,
        flag(
            "--measure",
            "NAME,...",
            f"Measure only these: {', '.join(MEASURES)}, or the setting of --way and --shot by its name.",
            HOW,
            "all that the split allows, without open5w1s and open5w5s",
        ),
    ] = None,
    data_root: Annotated[Path | None, flag("--data-root", "DIR", DATA_ROOT, WHERE)] = None,
    results: Annotated[Path, flag("--results", "DIR", "Folder of records to write to.", WHERE)] = OWN_RESULTS,
    runs: Annotated[
        Path, flag("--runs", "DIR", "Folder of checkpoints, logs and resolved configurations.", WHERE)
    ] = RUNS,
    device: Annotated[str, flag("--device", "NAME", DEVICE, HOW)] = "auto",
    devices: Annotated[
        int | None, flag("--devices", "N", "Number of devices to train each run on.", HOW, "1")
    ] = None,
    precision: Annotated[str | None, flag("--precision", "NAME", "auto, fp32 or bf16.", HOW, "auto")] = None,
    logger: Annotated[
        list[str] | None,
        flag("--logger", "NAME,...", "Also log training to wandb or mlflow (extras of these names).", HOW),
    ] = None,
    overwrite: Annotated[bool, flag("--overwrite", "", "Run again even if recorded.", HOW)] = False,
    offline: Annotated[bool, flag("--offline", "", NO_DOWNLOAD, HOW)] = False,
    verbose: Annotated[bool, flag("--verbose", "", "Print all numbers, also per class.", HOW)] = False,
    as_json: Annotated[
        bool,
        flag("--json", "", "Print the records, one JSON object per line, instead of tables and paths.", HOW),
    ] = False,
) -> None:
    """Train and evaluate, and write one record per method, split and seed.

    Give several methods, splits or seeds as lists: `--method protonet,siamese_triplet --seed 0,1,2`.
    """
    from bench.common.environment import check_device
    from bench.config.grid import build
    from bench.run.trackers import check_trackers

    flags = {
        "method": separated("--method", method) or None, "split": separated("--split", split) or None,
        "seed": [int_parser("--seed")(text) for text in separated("--seed", seed)] or None,
        "preset": preset, "dataset": dataset, "novel_dataset": novel_dataset,
        "image_size": image_size, "backbone": backbone,
        "weights": weights and str(weights), "pretrained": True if pretrained else None,
        "train": False if no_train else None, "steps": steps,
        "way": way, "shot": shot, "query": query, "episodes": episodes, "precision": precision,
        "augment": separated("--augment", augment) or None, "train_on": train_on,
        "measure": separated("--measure", measure) or None,
    }  # fmt: skip
    given = {key: value for key, value in flags.items() if value is not None}
    check_device(device)
    loggers = separated("--logger", logger)
    check_trackers(loggers)

    # Exclude imported modules from garbage collection, which would take two seconds.
    first = "torch" not in sys.modules
    gc.disable()
    try:
        grid = build(config, given, read_sets(set_ or []))
        from bench.reporting.show import headline, result_table
        from bench.run.plan import Options
        from bench.run.runner import run_all
    finally:
        gc.enable()
    if first:
        gc.freeze()
        atexit.register(gc.unfreeze)  # otherwise libraries report leaks at exit

    command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    options = Options(
        results,
        runs,
        command,
        data_root,
        device,
        overwrite,
        offline,
        devices=1 if devices is None else devices,
        loggers=tuple(loggers),
    )
    paths, failed = [], []
    for path, record in run_all(grid, options):
        if record.failure is None or as_json:
            text = result_table(record) if verbose else headline(record, path.parent)
            print(json.dumps(record.model_dump(mode="json")) if as_json else text, flush=True)
        if record.failure is not None:
            failed.append(UserError("--method", record.method, f"{record.failure} (recorded in {path})"))
        paths.append(path)
    for path in paths:
        print(path, file=sys.stderr if as_json else sys.stdout)
    for error in failed[:-1]:
        say(f"error: {error}")
    if failed:
        raise failed[-1]
