"""Records of older versions are read as they are, and stay as they are."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import bench, complaint

from bench.records import store

pytestmark = pytest.mark.slow
FIRST = Path(__file__).parent / "data_files" / "siamese-triplet_cifar100_90-10_standard_s0_559cc747.json"
"""The first record of this repository, of schema version 1, without all that was added to it since."""


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    """A folder with that record and its arrays."""
    monkeypatch.chdir(tmp_path)
    Path("results").mkdir()
    for suffix in (".json", ".npz"):
        shutil.copy(FIRST.with_suffix(suffix), "results")
    return Path("results")


def test_the_first_record_is_read_by_every_command(results):
    fields = json.loads(FIRST.read_text())
    assert fields["schema_version"] == 1
    assert not {"pools", "failure"} & fields.keys() and '"std"' not in FIRST.read_text()
    before = {path.name: path.read_bytes() for path in results.iterdir()}
    found = store.read(results / FIRST.name)
    value = fields["metrics"]["fewshot/5w1s"]["value"]
    assert found.metrics["fewshot/5w1s"].value == value
    assert (found.pools, found.failure, found.metrics["fewshot/5w1s"].std) == ({}, None, None)
    for command in ("leaderboard", "validate", "report", ["list", "runs"], ["show", FIRST.stem]):
        answer = bench(*([command] if isinstance(command, str) else command))
        assert answer.code == 0, answer
    assert f"{100 * value:.2f} ± " in Path("leaderboard.md").read_text(encoding="utf-8").replace(
        "\N{NO-BREAK SPACE}", " "
    )
    assert {path.name: path.read_bytes() for path in results.iterdir()} == before


def test_a_newer_version_is_one_clear_line(results):
    path = results / FIRST.name
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2, "surprise": 1}))
    line = complaint("show", FIRST.stem)
    assert "schema_version: this bench reads version 1, not 2: a newer bench wrote it" in line
