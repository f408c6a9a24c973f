"""`rank`, `predict` and `similarity` on photographs that nobody here made: two that scikit-learn ships."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import bench
from PIL import Image
from sklearn.datasets import load_sample_image

pytestmark = pytest.mark.slow
SIDE, EACH = 64, 12
PARTS = {
    "pagoda": ("china.jpg", (90, 100, 330, 340)),
    "trees": ("china.jpg", (340, 300, 640, 427)),
    "flower": ("flower.jpg", (180, 90, 440, 350)),
    "leaves": ("flower.jpg", (0, 60, 170, 330)),
}
"""Class -> photograph, and the part of it that shows the class: left, top, right, bottom."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """JPEG crops: `support` has the middle of each part, `query` has random places, and `all` has both."""
    place = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name, (photograph, (left, top, right, bottom)) in PARTS.items():
        pixels = load_sample_image(photograph)
        for number in range(EACH):
            x, y = rng.integers((left, top), (right - SIDE, bottom - SIDE))
            if number == 0:
                x, y = (left + right - SIDE) // 2, (top + bottom - SIDE) // 2
            crop = Image.fromarray(pixels[y : y + SIDE, x : x + SIDE])
            for folder in ("all", "support" if number == 0 else "query"):
                path = place / folder / name / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                crop.save(path, quality=90)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("FEWSHOT_CACHE", str(place / "cache"))
        yield place


def test_new_photographs_are_classified_and_compared(photos):
    answer = bench("predict", "--support", "support", "--query", "query", "--json", "--device", "cpu")
    assert answer.code == 0, answer.err
    answers = json.loads(answer.out)["answers"]
    assert len(answers) == len(PARTS) * (EACH - 1)
    right = [Path(one["file"]).parent.name == one["label"] for one in answers]
    assert np.mean(right) > 0.45  # from one image per class; guessing gives 0.25
    flower, leaves = "support/flower/0.jpg", "support/leaves/0.jpg"
    Image.open(flower).resize((96, 96)).save("again.jpg", quality=60)
    compared = [
        bench("similarity", flower, other, "--json", "--device", "cpu") for other in ("again.jpg", leaves)
    ]
    same, other = (json.loads(one.out) for one in compared)
    assert same["answer"] == "same" and same["score"] > other["score"]


def test_rank_recommends_and_the_next_command_works(photos):
    answer = bench("rank", "all", "--preset", "smoke", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert answer.out.startswith(
        f"all: 4 classes, {len(PARTS) * EACH} images; the smallest class, flower, has {EACH}."
        " No unreadable or duplicate images.\n"
        f"Images of {SIDE}x{SIDE} pixels are resized to 32x32"
    )
    assert "Recommendation: embedding of characters (frozen).\n" in answer.out
    assert "better than guessing" not in answer.out  # because it is
    following = answer.out.splitlines()[-1].removeprefix("next: python -m bench ").split()
    found = bench(*following[:-1], "query", "--csv", "--device", "cpu")
    assert found.code == 0 and found.out.count("query/pagoda/") == EACH - 1, found.err
