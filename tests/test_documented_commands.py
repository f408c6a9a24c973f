"""The program takes every command that the documents show, `run` up to its configuration; cheap ones run."""

import argparse
import functools
import importlib
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import typer.main
from command_line import bench, write_images

from bench.cli.commands import app
from bench.data import glyphs
from bench.records import store
from bench.run import runner
from bench.serving.shipped import shipped

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
OTHERS = [*ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("docs/**/*.md")]
PAGES = list(dict.fromkeys([README, *sorted(OTHERS)]))
COMMAND = re.compile(r"python -m (bench(?:marks\.\w+)?) ([^`\n|#]+)")
TABLE = re.compile(r"^\| (`[^|]+`) \|", re.MULTILINE)  # README's commands, one or more in the first column
NEEDED = {
    "run": ["--method", "protonet"],
    "predict": ["--run", "RUN", "--support", "photos", "--query", "new_photos"],
    "new-method": ["soft_prototypes"],
    "check-method": ["protonet"],
}
"""What the table leaves out."""

ONLY_TAKEN = {
    "benchmarks.": "take minutes to hours; tests/test_benchmarks.py runs parts of them",
    "bench check-method": "trains; tests/test_own_method.py runs it",
    "bench demo": "serves until it is stopped; tests/demo starts it and uses the page",
    "bench export RUN --format onnx": "takes seconds; tests/serving exports other runs",
    "bench figures": "takes seconds; tests/test_figures.py runs it on other records",
    "bench new-method": "tests/test_own_method.py runs the whole tutorial",
    "bench run": "trains for minutes to hours, or downloads weights; the first one runs below",
    "bench sweep studies/main.yaml --device cuda": "needs a GPU; tests/sweep runs others",
}
"""Beginning of a command -> why it is not run here."""

OTHER_LINES = {
    "nvidia-cuda-mps-control": "needs a GPU",
    "python -m pip install uv": "installs",
    "uv run --extra test pytest": "the test of tests/test_own_method.py",
    "uv run pytest": "a test that runs the tests; files that it names are there",
    "uv sync": "installs",
    "uvx --with tox-uv tox": "CI runs each of its environments",
}
"""Beginning of a line of a shell block that is not the bench's -> why it is not run here."""

OWN_METHOD = re.compile(r"\S+\.py:\w+")


class Taken(Exception):
    """The command line is right; its work would begin here."""


def taken(*_, **__):
    raise Taken


@functools.cache
def commands() -> dict[tuple[str, ...], Path]:
    """Program and arguments -> the first page that shows them."""
    found: dict[tuple[str, ...], Path] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for program, rest in COMMAND.findall(text):
            if "..." in rest:
                continue
            arguments = shlex.split(rest.replace("'", ""))
            arguments = [OWN_METHOD.sub("protonet", one.split("/$")[0]) for one in arguments]
            arguments = [re.sub(r"\$\w+", "1", one) for one in arguments]
            found.setdefault((program, *arguments), page)
    section = README.read_text(encoding="utf-8").partition("\n## Commands\n")[2]
    for cell in TABLE.findall(section.partition("\n#")[0]):
        for command in cell.strip("`").split("`, `"):
            arguments = command.split()
            found.setdefault(("bench", *arguments, *NEEDED.get(arguments[0], [])), README)
    return found


def why_not(command: str, reasons: dict[str, str]) -> list[str]:
    return [reason for start, reason in reasons.items() if command.startswith(start)]


CHEAP = [command for command in commands() if not why_not(" ".join(command), ONLY_TAKEN)]


@pytest.mark.parametrize(
    "page", dict.fromkeys(commands().values()), ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_program_takes_it(page, monkeypatch):
    monkeypatch.setattr(runner, "run_all", taken)
    for program, *arguments in (command for command, where in commands().items() if where == page):
        for path in (one for one in arguments if one.startswith("studies/") and "NAME" not in one):
            assert (ROOT / path).is_file(), path
        try:
            take(program, arguments, monkeypatch)
        except (Exception, SystemExit) as error:
            error.add_note(f"{program} {shlex.join(arguments)}")
            raise


def take(program: str, arguments: list[str], monkeypatch) -> None:
    if program != "bench":
        real = argparse.ArgumentParser.parse_args

        def parsed(self, *given):
            real(self, *given)
            raise Taken

        with monkeypatch.context() as patch, pytest.raises(Taken):
            patch.setattr(argparse.ArgumentParser, "parse_args", parsed)
            patch.setattr(sys, "argv", [program, *arguments])
            importlib.import_module(program).main()
        return
    group = typer.main.get_command(app)
    with group.make_context("bench", [*arguments]) as context:
        name, own, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        with own.make_context(name, rest, parent=context) as found:
            if name == "run":
                with pytest.raises(Taken):
                    own.invoke(found)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photographs, records of two runs, a model and small studies, named as in the documents."""
    folder = tmp_path_factory.mktemp("documented")
    write_images(folder / "photos", classes=3, each=3)
    shutil.copytree(folder / "photos" / "class0", folder / "new_photos")
    shutil.copytree(folder / "photos", folder / "support")
    for name in ("a", "b"):
        shutil.copy(folder / "new_photos" / "00.png", folder / f"{name}.png")
    (folder / "results").mkdir()
    both = [("siamese-triplet", changed) for changed in ({}, {"init": "pretrained"})]
    for method, changed in (("nearest-centroid", {}), *both):
        for path in (ROOT / "results").glob(f"{method}_cifar100_90-10_quick_s0_*.json"):
            if json.loads(path.read_text())["config"]["overrides"] == changed:
                shutil.copy(path, folder / "results")
                shutil.copy(path.with_suffix(".npz"), folder / "results")
    model = shipped()
    kept = folder / "runs" / model.record.run_id / "calibration.json"
    shutil.copytree(model.folder, kept.parent)
    content = json.loads(kept.read_text())
    content["calibrations"]["3w3s"] = content["calibrations"]["3w1s"]  # else all glyphs would be drawn
    kept.write_text(json.dumps(content))
    write_images(folder / "images", classes=12, each=30)
    (folder / "studies").mkdir()
    for path in (ROOT / "studies").glob("*.yaml"):
        (folder / "studies" / path.name).write_text(
            "{preset: smoke, dataset: 'folder:images', split: 50-50, method: [protonet, nearest_centroid]}"
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FEWSHOT_CACHE", str(folder / "cache"))
        yield folder


@pytest.mark.slow
@pytest.mark.parametrize("command", [pytest.param(one[1:], id=" ".join(one)) for one in CHEAP])
def test_it_runs(command, place, two_runs):
    """`report`, `show` and `validate` on other records, with fewer episodes."""
    name, *_ = command
    recorded = sorted(path.stem for path in (two_runs if name == "show" else Path("results")).glob("*.json"))
    names = {
        "RUN": recorded[0] if name == "show" else shipped().record.run_id,
        "A": recorded[0] if name == "compare" else "a.png",
        "B": recorded[1] if name == "compare" else "b.png",
        "FOLDER": "photos",
        "FILE": "studies/main.yaml",
        "studies/NAME.yaml": "studies/main.yaml",
        "WHAT": "methods",
        "NAME": "protonet",
    }
    more = {
        "data": ["--dataset", "folder:photos"],
        "rank": ["--preset", "smoke", "--device", "cpu"],
        "report": ["--results", two_runs],
        "show": ["--results", two_runs],
        "sweep": ["--dry-run"],
        "validate": ["--results", two_runs],
    }
    answer = bench(*(names.get(word, word) for word in command), *more.get(name, []))
    assert answer.code == 0, answer
    assert answer.out


def test_every_other_line_of_the_documents_is_known():
    """Installing and testing are not tested here; the tests that a line names are there."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            for line in filter(str.strip, block.splitlines()):
                assert COMMAND.search(line) or len(why_not(line, OTHER_LINES)) == 1, (page.name, line)
                for path in re.findall(r"\btests/\S+", line):
                    assert (ROOT / path).exists(), line
    for reasons, lines in (
        (ONLY_TAKEN, [" ".join(command) for command in commands()]),
        (OTHER_LINES, "\n".join(page.read_text(encoding="utf-8") for page in PAGES).splitlines()),
    ):
        assert all(any(why_not(line, {start: ""}) for line in lines) for start in reasons)


@pytest.mark.slow
def test_the_first_command_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", "cache")
    for name, value in (("IMAGES_PER_CLASS", 30), ("HELD_OUT_PER_CLASS", 5), ("BATCH", 30)):
        monkeypatch.setattr(glyphs, name, value)
    first = next(iter(commands()))
    answer = bench(*first[1:], "--device", "cpu")
    assert answer.code == 0, answer.err
    record = store.read(Path(answer.out.splitlines()[-1]))
    assert record.preset == "smoke" and record.metrics
    assert record.run_id in bench("list", "runs").out
