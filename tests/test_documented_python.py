"""The Python that README, the guide to your own encoder and docstrings show runs, on a small CIFAR-100."""

import doctest
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_budget import small_budget

import bench
from bench.api.runs import run
from bench.data import cifar100

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
TRAIN, TEST = 16, 4  # images per class: 20 of each novel class, as many as 5-shot episodes need
SMALLER = {
    'preset="quick"': 'preset="smoke"',
    "pretrained=True": "pretrained=False, pretrained_cfg_overlay={'input_size': (3, 32, 32)}",
    "resnet18": "test_resnet",
}
"""What is changed in the code, so that it takes seconds and downloads nothing."""

PAGES = {
    page: "".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL))
    for page in ("README.md", "docs/own_encoder.md")
}
DOCSTRINGS = {
    shown.__name__: "".join(one.source for one in doctest.DocTestParser().get_examples(shown.__doc__))
    for shown in (run, bench.evaluate, bench.load, bench.results, bench.Episodes)
}


def write_cifar100(folder: Path) -> None:
    """100 classes of one colour each, under noise, as torchvision stores them."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    colours = rng.integers(40, 200, (100, 1, 3, 1))
    for part, each in (("train", TRAIN), ("test", TEST)):
        pixels = colours + rng.integers(-40, 40, (100, each, 3, 1024))
        fine = np.repeat(np.arange(100), each).tolist()
        value = {
            "data": pixels.astype(np.uint8).reshape(-1, 3072),
            "fine_labels": fine,
            "coarse_labels": [label % 20 for label in fine],
        }
        (folder / part).write_bytes(pickle.dumps(value, protocol=2))
    names = {"fine_label_names": cifar100.FINE_NAMES, "coarse_label_names": cifar100.COARSE_NAMES}
    (folder / "meta").write_bytes(pickle.dumps(names, protocol=2))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The run that the examples begin with, in a folder with a few pictures."""
    folder = tmp_path_factory.mktemp("examples")
    write_cifar100(folder / cifar100.PICKLES)
    for name in ("cat", "dog", "unknown", "a", "b"):
        Image.new("RGB", (40, 40), (len(name), 99, ord(name[0]))).save(folder / f"{name}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FEWSHOT_CACHE", str(folder / "cache"))
        patch.setenv("FEWSHOT_DATA", str(folder))
        small_budget(patch, episodes=300, pairs=1000, joining_draws=2)
        yield bench.run("protonet", "cifar-fs", preset="smoke", seed=1)


def carried_out(code: str, made) -> dict:
    """The names that the code leaves, which finds pictures of the user as `images`, `a` and `b`."""
    for shown, smaller in SMALLER.items():
        code = code.replace(shown, smaller)
    code = re.sub(r'"runs/protonet_[^"]*"', f'"runs/{made.run_id}"', code)
    names = {"images": ["cat.png", "dog.png"], "a": ["a.png"], "b": ["b.png"]}
    exec(code, names)
    return names


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page, made):
    found = carried_out(PAGES[page], made)
    assert found["result"].metrics["fewshot/5w1s"].low > 0.2


@pytest.mark.parametrize("name", DOCSTRINGS)
def test_the_example_of_a_docstring_runs(name, made):
    assert f"bench.{name}(" in DOCSTRINGS[name]
    carried_out(DOCSTRINGS[name], made)
