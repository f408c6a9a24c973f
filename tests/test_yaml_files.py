"""Configuration files are YAML 1.2."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bench.common.errors import UserError
from bench.config.yaml_files import dumped, read_yaml


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: [1", "is not YAML in line 1"),
        (b"a: 1\nb: :\n  - {", "is not YAML in line"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"- method", "must be a map from names to values"),
        (b"", "must be a map from names to values"),
        (b"just text", "must be a map from names to values"),
        (b"1: 2", "must be a map from names to values"),
        (b"seed: !!int 1:30", "is not YAML"),
        (b"!!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_an_invalid_file(tmp_path, content, expected):
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"--config {path}: {expected}")


def test_a_file_that_cannot_be_read(tmp_path):
    for path, reason in ((tmp_path / "gone.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError, match=f"--config {path}: {reason}"):
            read_yaml(path)


def test_powers_of_ten_in_a_file_are_numbers(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("a: 1e-3\nb: -2E5\nc: 1.e+2\nd: 90-10\ne: 1e\nf: 5\n")
    assert read_yaml(path) == {"a": 0.001, "b": -2e5, "c": 100.0, "d": "90-10", "e": "1e", "f": 5}
    assert yaml.safe_load("1e-3") == "1e-3"  # nobody else's YAML has changed


@pytest.mark.parametrize(
    "text, value",
    [
        ("010", 10),
        ("-010", -10),
        ("0o10", 8),
        ("0x1F", 31),
        ("+3", 3),
        ("1:30", "1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("2020-13-45", "2020-13-45"),
        ("2001-12-14", "2001-12-14"),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("OFF", "OFF"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("~", None),
        ("Null", None),
        ("", None),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5e1", -5.0),
        ("-.inf", float("-inf")),
        (".", "."),
        ("'010'", "010"),
    ],
)
def test_values_are_those_of_yaml_1_2(tmp_path, text, value):
    path = tmp_path / "run.yaml"
    path.write_text(f"a: {text}\n")
    (found,) = read_yaml(path).values()
    assert found == value and type(found) is type(value)


@pytest.mark.slow
@given(st.dictionaries(st.text("ab", min_size=1), st.text("0189.:_-+eExobyYnNsfTt~<=", max_size=6)))
def test_text_that_is_written_is_read_again_as_text(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("yaml") / "run.yaml"
    path.write_text(dumped(content))
    assert content == ({} if not content else read_yaml(path))
    assert content == (yaml.safe_load(path.read_text()) or {})  # and by others, whose YAML is 1.1
