"""new-method writes a method and a test that run; check-method says what a wrong method does wrong."""

import io
import re
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

import pytest
import torch
from command_line import bench, complaint
from small_budget import small_budget
from torch import nn

from bench.data import glyphs
from bench.run import method_check
from bench.run.method_template import OwnMethod
from methods.batches import EpisodeBatch

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("empty_folder")]


@pytest.fixture
def one_step(monkeypatch):
    """A check trains for as little as can be."""
    monkeypatch.setattr(method_check, "STEPS", 1)


def test_what_new_method_writes_passes_its_own_test(one_step, monkeypatch):
    answer = bench("new-method", "soft_prototypes")
    assert answer.code == 0, answer.err
    assert answer.out.split()[:2] == ["soft_prototypes.py", "test_soft_prototypes.py"]
    monkeypatch.setattr(sys, "path", [*sys.path])
    with redirect_stdout(io.StringIO()) as said:
        code = pytest.main(["-q", "test_soft_prototypes.py", "-p", "no:cacheprovider"])
    for name in ("soft_prototypes", "test_soft_prototypes"):
        sys.modules.pop(name, None)
    assert code == 0 and "2 passed" in said.getvalue(), said.getvalue()
    assert complaint("new-method", "soft_prototypes").endswith("soft_prototypes.py already exists")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("protonet", "NAME protonet: is already the name of a method"),
        ("Soft-Prototypes", "NAME Soft-Prototypes: must be lower-case letters"),
        ("class", "NAME class: must be another"),
        (
            "none",
            "NAME none: must be another name: none or its class None is a keyword or is used in the template",
        ),
        ("path", "NAME path: must be another"),
        ("episodes", "NAME episodes: must be another"),  # a name that the written file imports
        ("random", "NAME random: is the name of a Python module"),
        ("numpy", "NAME numpy: is the name of a Python module"),
    ],
)
def test_names_that_are_refused(name, problem):
    assert complaint("new-method", name).startswith(problem)


WRONG = [
    (
        "return Cosine().matrix(query, class_means(support))",
        "return Cosine().matrix(query, class_means(support)).mT",
        "before training",
        "episode_logits must return shape",
    ),
    (
        "return Cosine().matrix(query, class_means(support))",
        "return Cosine().matrix(query - query.mean(1, keepdim=True), class_means(support))",
        "before training",
        "gives another answer for a query when other queries are replaced",
    ),
    (
        "return Cosine().matrix(query, class_means(support))",
        "return Cosine().matrix(query, class_means(support)).cumsum(2)",
        "before training",
        "changes its answers when the order of the classes",
    ),
    (
        "return Cosine().matrix(query, class_means(support))",
        "return (1 + torch.rand(())) * Cosine().matrix(query, class_means(support))",
        "before training",
        "changes its answers for an episode when it is called again",
    ),
    (
        "return self.log_loss(",
        "raise RuntimeError('oops') or self.log_loss(",
        "trains",
        "RuntimeError: oops",
    ),
    (
        "return self.log_loss(F.cross_entropy(",
        "import random; return self.log_loss(random.SystemRandom().random() * F.cross_entropy(",
        "same seed",
        "different weights",
    ),
    (
        "support, query = self.embed_episodes(batch)",
        "support, query = self.embed_episodes(batch); support = support * leaked()",
        "new classes",
        "change if only images of new classes change",
    ),
    ("steps: int = 4000", "shots: int  # x\n        steps: int = 4000", "", "shots has no default"),
    ("self.hp.shot, self.hp.query", "self.hp.shot, 40", "its batches", "training images per class"),
]  # fmt: skip
LEAK = """

def leaked():
    import sys

    from bench.data.images import ImageSet

    frame = sys._getframe()
    while not isinstance(data := frame.f_locals.get("data"), ImageSet):
        frame = frame.f_back
    return 1 + float(data.images[-30:].float().mean())
"""


@pytest.mark.parametrize(("right", "wrong", "check", "problem"), WRONG)
def test_check_method_says_what_fails(tmp_path, one_step, right, wrong, check, problem):
    bench("new-method", "mine")
    source = Path("mine.py").read_text()
    assert right in source
    Path("mine.py").write_text(source.replace(right, wrong) + (LEAK if "leaked" in wrong else ""))
    answer = bench("check-method", f"{tmp_path}/mine.py:Mine")
    if not check:
        assert answer.code == 2 and problem in answer.err
        return
    failed = [line for line in answer.out.splitlines() if line.startswith("FAILS")]
    assert answer.code == 1 and len(failed) == 1 and check in failed[0], answer.out + answer.err
    assert problem in answer.out


@pytest.mark.parametrize("method", ["nearest_centroid", "reptile", "siamese_triplet"])
def test_methods_of_the_bench_pass(one_step, method):
    answer = bench("check-method", method)
    assert answer.code == 0 and "FAILS" not in answer.out, answer.out + answer.err


def test_a_method_that_is_not_there():
    assert complaint("check-method", "mine.py:Mine").startswith("METHOD mine.py:Mine: no such file")


def test_every_command_of_the_tutorial(tmp_path, one_step, monkeypatch):
    """It ends in a row on the leaderboard, beside the committed records of a clone."""
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(glyphs, "IMAGES_PER_CLASS", 30)
    monkeypatch.setattr(glyphs, "HELD_OUT_PER_CLASS", 5)
    monkeypatch.setattr(glyphs, "BATCH", 30)
    small_budget(monkeypatch, episodes=300)
    shutil.copytree(ROOT / "tests" / "data_files", tmp_path / "results")
    text = (ROOT / "docs" / "own_method.md").read_text(encoding="utf-8")
    commands = [
        line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]
    assert len(commands) >= 5
    for command in commands:
        shorter = command.replace("--preset smoke", "--preset smoke --steps 2")
        shorter = shorter.replace("--preset quick", "--preset quick --steps 2 --measure 5w1s")
        program, *rest = shorter.removeprefix("uv run ").removeprefix("--extra test ").split()
        if program == "pytest":  # test_what_new_method_writes_passes_its_own_test
            assert all(Path(name).is_file() for name in rest)
            continue
        assert (program, *rest[:2]) == ("python", "-m", "bench")
        answer = bench(*rest[2:])
        assert answer.code == 0, (command, answer)
    assert "leaderboard --show" in command and "soft_prototypes (quick" in answer.out
    assert not Path("leaderboard.md").exists()


def test_the_template_learns_its_training_episodes():
    torch.manual_seed(0)
    method = OwnMethod(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), OwnMethod.Hyperparameters(), 3)
    labels, classes = torch.arange(12).reshape(2, 6) % 3, torch.arange(3).expand(2, 3)
    given = EpisodeBatch(torch.randn(2, 3, 2, 3, 2, 2), torch.randn(2, 6, 3, 2, 2), labels, classes)
    optimizer = method.configure_optimizers()
    losses = []
    for _ in range(50):
        optimizer.zero_grad()
        losses.append(method.training_step(given, 0))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    a, b = torch.eye(3), torch.tensor([[2.0, 0, 0], [1, 1, 0], [-1, 0, -1]])
    torch.testing.assert_close(method.similarity(a, b), torch.tensor([1, 0.5**0.5, -(0.5**0.5)]))


def test_the_name_of_a_module_that_was_not_imported_from_a_file(monkeypatch):
    monkeypatch.setitem(sys.modules, "made_up", ModuleType("made_up"))
    assert complaint("new-method", "made_up").startswith("NAME made_up: is the name of a Python module")
