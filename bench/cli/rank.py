"""`rank`: which method for the classes of a folder."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.app import NO_DOWNLOAD, OWN_RESULTS, RUNS, Device, OwnResults, Runs, app, flag, path_parser
from bench.common.errors import UserError, one_of
from bench.common.streams import say
from methods.registry import FIRST_CHOICES

ALLOWED = ("smoke", "quick", "standard")


@app.command()
def rank(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Your images.", parser=path_parser("FOLDER"))
    ],
    method: Annotated[
        list[str] | None,
        flag("--method", "NAME,...", "Train these.", default=", ".join(FIRST_CHOICES)),
    ] = None,
    backbone: Annotated[
        list[str] | None,
        flag(
            "--backbone",
            "NAME,...",
            "Also try timm:NAME, or an alias, with timm's weights; or none.",
            default="those whose weights are in --runs",
        ),
    ] = None,
    weights: Annotated[
        Path | None, flag("--weights", "FILE", "Take the weights of the one --backbone from a file.")
    ] = None,
    preset: Annotated[str, flag("--preset", "NAME", f"{', '.join(ALLOWED)}.")] = "quick",
    seed: Annotated[int | None, flag("--seed", "N", "Training seed.", default="0")] = None,
    results: OwnResults = OWN_RESULTS,
    runs: Runs = RUNS,
    device: Device = "auto",
    overwrite: Annotated[bool, flag("--overwrite", "", "Run again even if recorded.")] = False,
    offline: Annotated[bool, flag("--offline", "", NO_DOWNLOAD)] = False,
) -> None:
    """Say which method suits the classes of a folder, and how sure that is.

    Trains a few methods briefly and compares them with frozen embeddings on the same classes. Records each
    run, as `run` does.
    """
    from bench.common.environment import check_device
    from bench.config.backbone import full_backbone
    from bench.config.lists import NONE, separated
    from bench.config.run_config import METHOD_FILE, PRESETS

    check_device(device)
    if preset not in ALLOWED:
        raise UserError("--preset", preset, one_of(preset, ALLOWED))
    names = separated("--backbone", backbone)
    backbones = [] if names == [NONE] else [full_backbone(name) for name in names]
    if own := [name for name in backbones if not name.startswith("timm:")]:
        raise UserError("--backbone", own[0], "has no pretrained weights; must be timm:NAME or an alias")
    if weights and len(backbones) != 1:
        raise UserError(
            "--weights", weights, "needs exactly one --backbone timm:NAME, which these weights are for"
        )
    methods = separated("--method", method)

    from bench.reporting import recommend
    from bench.run import models
    from bench.run import rank as ranking
    from bench.run.plan import Options
    from bench.serving.shipped import shipped

    command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    options = Options(results, runs, command, None, device, overwrite, offline)
    own_weights = str(weights) if weights else None
    plan = ranking.plan(
        str(folder),
        methods,
        backbones if names else None,
        shipped().folder,
        options,
        preset,
        seed or 0,
        own_weights,
    )
    print("\n".join([plan.about, *plan.left_out]), flush=True)
    if plan.to_train:
        say(f"trains {', '.join(plan.to_train)}; preset {preset}, each: {PRESETS[preset]}")
    made = {}
    for name, record, path in ranking.carry_out(plan, options):
        if record.failure is None:
            made[name] = record, path.parent
            say(f"{name}: done; {len(made)} of {len(plan.runs)} candidates")
        else:
            say(f"warning: {name} failed: {record.failure} (recorded in {path})")
    if not made:
        raise UserError("FOLDER", folder, "all runs failed")
    said, take = recommend.text(made)
    support = folder if (folder / plan.runs[take].data.class_names[0]).is_dir() else "YOUR_LABELLED_IMAGES"
    run_code = METHOD_FILE.fullmatch(plan.runs[take].config.method) is not None
    chosen = made[take][0].run_id
    following = predict_command(chosen, runs, str(support), run_code)
    if not models.exists(runs / chosen):
        say(f"note: the model of {chosen} is not in {runs}; the next command runs all candidates again")
        following = f"{command} --overwrite"
    print(f"\n{said}\nnext: {following}")


def predict_command(run_id: str, runs: Path, support: str, run_code: bool) -> str:
    """The command that classifies images with a run; the user replaces its last word."""
    words = ["python", "-m", "bench", "predict", "--run", run_id]
    words += ["--runs", str(runs)] if runs != RUNS else []
    words += ["--run-code"] if run_code else []
    return shlex.join([*words, "--support", support, "--query", "YOUR_IMAGES"])
