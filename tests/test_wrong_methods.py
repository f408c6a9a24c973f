"""Methods that break their contract, or break down, through the command line: one line, and no record."""

from pathlib import Path

import pytest
import torch
from command_line import bench, write_images

from bench.config.run_config import method_info
from bench.records import store
from methods.registry import ENTRY_POINT_GROUP, available, find, places

pytestmark = pytest.mark.slow
START = '''
import sys
from dataclasses import dataclass

import torch

from methods.batches import Shuffled
from methods.siamese_triplet import SiameseTriplet


class Mine(SiameseTriplet):
    """Nearest mean of pixels; the one weight that it learns multiplies all of them."""

    trains_on = "shuffled"
    presets = {"smoke": {"steps": 2}, "standard": {"steps": 2}}

    @dataclass(frozen=True)
    class Hyperparameters(SiameseTriplet.Hyperparameters):
        steps: int = 2

    def __init__(self, backbone, hp, num_classes):
        super().__init__(backbone, hp, num_classes)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def batches(self):
        return Shuffled(16)

    def training_step(self, batch, batch_idx):
        return self.log_loss((self.scale * batch.images).square().mean())

    def configure_optimizers(self):
        return torch.optim.SGD([self.scale], lr=0.001)

    def embed(self, images):
        return self.scale * images.flatten(1)
'''
CENTRED = """
    def episode_logits(self, support, query):
        return super().episode_logits(support, query - query.mean(dim=1, keepdim=True))
"""
RAISES = {
    "training": "training_step(self, batch, batch_idx):",
    "answering": "episode_logits(self, support, query):",
    "embedding": "embed(self, images):",
    "asking for batches": "batches(self):",
    "choosing an optimizer": "configure_optimizers(self):",
    "being made": "__init__(self, backbone, hp, num_classes):",
}
RUN = ["run", "--dataset", "folder:images", "--split", "50-50", "--device", "cpu", "--method"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of images, which are decoded once."""
    place = tmp_path_factory.mktemp("wrong")
    write_images(place / "images", classes=8, each=24)
    return place


@pytest.fixture
def workspace(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", str(images / "cache"))
    Path("images").symlink_to(images / "images")
    method_info.cache_clear()
    yield tmp_path
    method_info.cache_clear()


def refused(text: str, *flags: str, trained: bool = False) -> str:
    """What a run of this method is answered with, after its name."""
    Path("mine.py").write_text(START + text)
    method_info.cache_clear()
    answer = bench(*RUN, "mine.py", *flags)
    assert answer.code == 2 and answer.out == "", answer
    assert "Traceback" not in answer.err and not list(Path().rglob("results/**/*.json"))
    assert bool(list(Path("runs").rglob("*.yaml"))) == trained
    *_, said = answer.err.splitlines()
    assert said.startswith("error: --method mine.py: "), answer.err
    return said.removeprefix("error: --method mine.py: ")


def line_of(text: str) -> str:
    """As a message names it."""
    lines = Path("mine.py").read_text().splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if text in line)
    return f"(mine.py, line {number})"


def test_queries_are_centred_by_methods_that_say_so_alone(workspace):
    said = refused(CENTRED)
    assert said.startswith("episode_logits gives another answer for a query when other queries are replaced")
    assert "`transductive = True`" in said
    Path("mine.py").write_text(START + CENTRED + "\n    transductive = True\n")
    method_info.cache_clear()
    answer = bench(*RUN, "mine.py", "--preset", "smoke", "--measure", "5w1s")
    assert answer.code == 0, answer.err
    assert store.read(Path(answer.out.splitlines()[-1])).transductive


@pytest.mark.parametrize("when", RAISES)
def test_what_a_method_raises_is_one_line_with_its_place(when, workspace):
    text = f"\n    def {RAISES[when]}\n        raise RuntimeError('not today')\n"
    said = refused(text)
    assert said == f"raised RuntimeError: not today {line_of('not today')}"


@pytest.mark.parametrize("when", RAISES)
def test_a_method_that_exits_ends_no_run_as_if_it_were_done(when, workspace):
    said = refused(f"\n    def {RAISES[when]}\n        sys.exit()\n")
    assert said == f"raised SystemExit {line_of('sys.exit()')}"


@pytest.mark.parametrize(("code", "shown"), [("0", ""), ("3", ": 3"), ("'no data'", ": no data")])
def test_the_code_of_an_exit_is_named_unless_it_means_success(code, shown, workspace):
    said = refused(f"\n    def {RAISES['training']}\n        sys.exit({code})\n")
    assert said == f"raised SystemExit{shown} {line_of('sys.exit')}"


def test_a_mistake_in_what_a_method_calls_names_the_method_s_line(workspace):
    said = refused("\n    def similarity(self, a, b):\n        return torch.cat([a, b.T])\n")
    assert said.startswith("raised RuntimeError: Sizes") and said.endswith(line_of("torch.cat"))


def test_a_mistake_of_a_plug_in_names_its_line(workspace, monkeypatch):
    place = workspace / "site"
    (place / "wrong_plugin-1.0.dist-info").mkdir(parents=True)
    text = START + "\n    def similarity(self, a, b):\n        return 1 / 0\n"
    (place / "wrong_plugin.py").write_text(text)
    (place / "wrong_plugin-1.0.dist-info" / "METADATA").write_text("Name: wrong_plugin\nVersion: 1.0\n")
    (place / "wrong_plugin-1.0.dist-info" / "entry_points.txt").write_text(
        f"[{ENTRY_POINT_GROUP}]\nwrong = wrong_plugin:Mine\n"
    )
    monkeypatch.syspath_prepend(str(place))
    available.cache_clear()
    find.cache_clear()
    places.cache_clear()
    try:
        answer = bench(*RUN, "wrong")
    finally:
        available.cache_clear()
        find.cache_clear()
        places.cache_clear()
    line = text.splitlines().index("        return 1 / 0") + 1
    assert answer.code == 2
    assert answer.err.splitlines()[-1] == (
        f"error: --method wrong: raised ZeroDivisionError: division by zero (wrong_plugin.py, line {line})"
    )


def test_a_mistake_of_this_repository_keeps_its_traceback(workspace, monkeypatch):
    def similarity(self, a, b):
        raise RuntimeError("not today")

    monkeypatch.setattr("methods.siamese_triplet.SiameseTriplet.similarity", similarity)
    with pytest.raises(RuntimeError, match="not today"):
        bench(*RUN, "siamese_triplet", "--preset", "smoke")


AFTER_TRAINING = {
    "episode_logits returned NaN or infinite values": """
    def episode_logits(self, support, query):
        logits = super().episode_logits(support, query)
        return logits * (torch.nan if query.shape[1] == 80 else 1)
""",
    "the method changed its input tensors in place": """
    def episode_logits(self, support, query):
        if query.shape[1] == 80:
            query -= query.mean()
        return super().episode_logits(support, query)
""",
    "scale changed during the evaluation": """
    def episode_logits(self, support, query):
        if query.shape[1] == 80:
            self.scale.data += 1
        return super().episode_logits(support, query)
""",
    "episode_logits must return shape [1, 80, 4] here, but returned [1, 80, 1]": """
    def episode_logits(self, support, query):
        logits = super().episode_logits(support, query)
        return logits[..., :1] if query.shape[1] == 80 else logits
""",
}


@pytest.mark.parametrize("finding", AFTER_TRAINING)
def test_what_shows_in_the_evaluation_alone_stops_the_run(finding, workspace):
    """All 80 novel images at once: the questions before the evaluation are smaller."""
    assert refused(
        AFTER_TRAINING[finding], "--preset", "smoke", "--measure", "allw1s", trained=True
    ).startswith(finding)


def test_a_method_that_breaks_in_training_is_found_on_novel_images(workspace):
    """Its embedding depends on other images as soon as its weight has moved."""
    text = """
    def embed(self, images):
        made = images.flatten(1)
        return made - made.mean(0) * (self.scale != 1)
"""
    said = refused(text, trained=True)
    assert said.startswith("embed gives another answer for an image when other images are replaced")


def test_training_that_diverges_is_recorded_as_before(workspace):
    """Its weight becomes NaN in the last step, so that no loss shows it, and answers with NaN."""
    text = """
    def training_step(self, batch, batch_idx):
        return self.log_loss((self.scale - self.scale.detach()).sqrt() + 1)
"""
    Path("mine.py").write_text(START + text)
    # Validation takes 5 classes of 16 images.
    write_images(Path("more"), classes=15, each=20)
    parts = ["base", "validation", "novel"] * 5
    lines = [f"class{number},{part}" for number, part in enumerate(parts)]
    Path("parts.csv").write_text("\n".join(["class,part", *lines]))
    command = ["parts.csv" if one == "50-50" else one for one in RUN]
    more = ["--dataset", "folder:more", "--image-size", "16"]
    answer = bench(*command, "mine.py", "--steps", "1", *more)
    assert answer.code == 2 and "weights are not finite" in answer.err, answer.err
    (path,) = Path("results").rglob("*.json")
    assert store.read(path).failure and not torch.tensor(len(store.read(path).metrics))
