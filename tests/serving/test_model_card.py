"""The model card states what the model was trained on, and the licence of these images."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.data import names
from bench.serving.model_card import model_card

DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"


def card(dataset: str, trained: bool = True, format_: str = "safetensors", **record: object) -> str:
    card = SimpleNamespace(
        method="protonet", backbone="conv4", image_size=(32, 32), dataset=dataset, split="50-50",
        base_classes=["a", "b"], fingerprint="f", weights_sha256="w", bench_version="0", run_id="r",
        thresholds={}, training=object() if trained else None, spans={"int": (0, 999), "float": (-0.5, 1)},
    )  # fmt: skip
    about = {"command": "c", "metrics": {}, "protocol_version": 1, "failure": None, "weights": None}
    made_by = SimpleNamespace(**(about | {"external_data": False} | record))
    return model_card(SimpleNamespace(card=card, size=32), made_by, format_, [Path("x/embedding")])


def row(name: str, *given: object, **more: object) -> str:
    text = card(*given, **more)
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in text.splitlines()]
    [found] = [line[2] for line in cells if line[1:2] == [name]]
    return found


@pytest.mark.parametrize(
    ("given", "licence"),
    [
        ({"dataset": "omniglot"}, "MIT"),
        ({"dataset": "mnist -> omniglot"}, "CC BY-SA 3.0"),  # base classes are from the first
        ({"dataset": "folder:photos"}, "unknown; ask the owner of the images"),
        ({"dataset": "mnist", "trained": False}, "unknown; ask who made the weights"),
        ({"dataset": "mnist", "trained": False, "failure": "diverged"}, "CC BY-SA 3.0"),
        (
            {"dataset": "mnist", "weights": "sha"},
            "CC BY-SA 3.0; for the data of the starting weights: unknown; ask who made the weights",
        ),
    ],
)
def test_the_licence_of_the_data(given, licence):
    assert row("licence of the data", **given) == licence


def test_weights_that_were_not_trained_here_come_from_other_data():
    assert row("trained on", "mnist") == "the 2 base classes of `mnist`, split `50-50`"
    assert row("trained on", "mnist", trained=False) == "other data; tested on `mnist`"


def test_a_name_cannot_become_markup():
    said = row("trained on", "folder:a|`b`\n# c")
    assert said == "the 2 base classes of ``folder:a\\|`b` # c``, split `50-50`"


def test_every_data_set_has_a_licence_and_the_datasheet_has_the_same():
    rows = [line.split(" | ") for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    listed = {cells[0].strip("| `"): cells[-1].removesuffix(" |") for cells in rows[1:]}  # without headings
    assert listed == {name: names.data_set(name).licence for name in listed} and len(listed) == 6


def test_an_export_without_its_answers_says_so_and_how_deep_images_are_scaled():
    said = card("mnist", format_="torchscript")
    assert "How `protonet` answers from embeddings is not exported" in said
    assert "with whole numbers, 0 to 999 become 0 to 255." in said
    assert "with floating-point numbers, -0.5 to 1 become 0 to 255." in said
