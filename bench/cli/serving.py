"""Commands that use a run's model: predict, similarity, export."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.app import RESULTS, RUNS, DataRoot, Device, Results, Runs, app, flag, report_problems
from bench.common.errors import UserError, one_of
from bench.common.streams import say

RUN = "A run id, the start of one, or the folder of a run."
Run = Annotated[str | None, flag("--run", "RUN", RUN, default="a model that ships with the package")]
RunCode = Annotated[bool, flag("--run-code", "", "Run the code of a method that is a Python file.")]
AsJson = Annotated[bool, flag("--json", "", "Print JSON.")]
NONE = "none of these"


@app.command()
def predict(
    support: Annotated[
        Path,
        flag("--support", "DIR", "Labelled images: `DIR/<class>/<image>`, or one image per class in DIR."),
    ],
    query: Annotated[
        list[Path], flag("--query", "DIR", "Images to classify: a folder or files. Repeatable.")
    ],
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="More images to classify.")
    ] = None,
    run: Run = None,
    runs: Runs = RUNS,
    data_root: DataRoot = None,
    device: Device = "auto",
    run_code: RunCode = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, flag("--csv", "", "Print CSV: file, label, probability, known.")] = False,
) -> None:
    """Classify images by a few labelled ones per class: label, probability, or "none of these"."""
    if as_json and as_csv:
        raise UserError("--json", "", "cannot be combined with --csv")
    from bench.reporting import terminal
    from bench.serving.files import predict_files

    answering, said = _model(run)
    found = predict_files(answering, support, [*query, *(more or [])], runs, data_root, device, run_code)
    answers = [
        {"file": str(file), "label": str(label), "probability": round(probability, 4), "known": known}
        for file, label, probability, known in found.answers
    ]
    if said:
        say(said)
    for path in found.unused:
        say(f"note: not used: {path}")
    with report_problems(found.problems):
        if as_json:
            calibration = found.calibration and found.calibration.model_dump()
            print(json.dumps({"answers": answers, "calibration": calibration, "note": found.note}, indent=1))
        elif as_csv:
            writer = csv.DictWriter(sys.stdout, list(answers[0]) if answers else [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(answers)
        else:
            print(terminal.text([_shown(answer) for answer in answers]))
        if not as_json:
            for text in (found.note, found.calibration and f"calibration: {found.calibration}"):
                if text:
                    print(text, file=sys.stderr)


def _shown(answer: dict[str, Any]) -> dict[str, Any]:
    label = answer["label"] if answer["known"] else f"{NONE} (nearest: {answer['label']})"
    return {"file": answer["file"], "label": label, "probability": f"{answer['probability']:.3f}"}


def _model(run: str | None) -> tuple[str, str]:
    """The run, or the folder of the shipped model, and then a line that says so."""
    if run is not None:
        return run, ""
    from bench.serving.shipped import shipped

    model = shipped()
    what = f"{model.record.run_id}, trained on pictures of characters, which ships with the package"
    return str(model.folder), f"model: {what}; --run takes another"


@app.command()
def similarity(
    first: Annotated[Path, typer.Argument(metavar="A", help="An image.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="An image.")],
    run: Run = None,
    runs: Runs = RUNS,
    device: Device = "auto",
    run_code: RunCode = False,
    as_json: AsJson = False,
) -> None:
    """Say whether two images show the same class, with the score and the threshold from validation pairs."""
    from bench.serving.predictor import load

    answering, said = _model(run)
    predictor = load(answering, runs=runs, device=device, run_code=run_code)
    threshold = predictor.threshold
    score = float(predictor.similarity([first], [second])[0])
    answer = "same" if score >= threshold else "different"
    if said:
        say(said)
    if as_json:
        print(json.dumps({"answer": answer, "score": score, "threshold": threshold}))
    else:
        print(f"{answer} (score {score:.4f}; same from {threshold:.4f})")


@app.command()
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN)],
    format_: Annotated[str, flag("--format", "NAME", "safetensors, onnx or torchscript.")] = "safetensors",
    output: Annotated[
        Path | None, flag("--output", "DIR", "Folder to write.", default="export/RUN-FORMAT")
    ] = None,
    results: Results = RESULTS,
    runs: Runs = RUNS,
    run_code: RunCode = False,
) -> None:
    """Write a run's model for use elsewhere, with a model card; the written model gives the same answers."""
    formats = ("safetensors", "onnx", "torchscript")
    if format_ not in formats:
        raise UserError("--format", format_, one_of(format_, formats))
    from bench.serving.export import write

    for path in write(run, format_, output, results, runs, run_code):
        print(path)
