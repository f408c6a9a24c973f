"""Splits in CSV files; tests/test_bad_input_splits.py has more of those that are refused."""

import dataclasses
import re

import pytest
from random_sets import assert_sound, random_set

from bench.common.errors import UserError
from bench.data.joined import joined
from bench.data.names import check_split
from bench.data.splits import resolve

GOOD = "class,part\nc0,base\nc1,base\nc2,base\nc7,novel\nc8,novel\n"


def csv(tmp_path, content: str) -> str:
    (tmp_path / "mine.csv").write_bytes(content.encode())
    return str(tmp_path / "mine.csv")


def test_a_csv_without_validation_classes(noise, tmp_path):
    split = resolve(noise, csv(tmp_path, GOOD))
    assert_sound(noise, split)
    assert (split.base, split.validation, split.novel) == ((0, 1, 2), (), (7, 8))
    assert [len(i) for i in (split.train, split.validation_images, split.base_test)] == [21, 6, 9]
    assert re.fullmatch(r"mine\.csv@[0-9a-f]{8}", split.name)


def test_a_csv_in_another_case_or_unicode_form(tmp_path):
    data = random_set(4, 6)
    data = dataclasses.replace(data, class_names=("Cat", "caf\u00e9", "dog", "owl"))
    split = resolve(data, csv(tmp_path, "class,part\ncat,base\nCAFE\u0301,base\ndog,novel\nowl,novel\n"))
    assert (split.base, split.novel) == ((0, 1), (2, 3))


def test_a_csv_with_validation_classes(noise, tmp_path):
    path = csv(tmp_path, GOOD + "c4,validation\nc5,validation\n")
    split = resolve(noise, path)
    assert_sound(noise, split)
    assert split.validation == (4, 5)
    assert [len(i) for i in (split.train, split.validation_images, split.base_test)] == [36, 24, 0]


def test_a_csv_may_name_classes_that_are_left_out(noise, tmp_path):
    """Those with too few readable images, of which loading the images has told."""
    path = tmp_path / "split.csv"
    lines = ["class,part", *(f"{name},base" for name in noise.class_names[:3])]
    path.write_text("\n".join(lines))
    expected = resolve(noise, str(path))
    path.write_text("\n".join([*lines, "Tiny,novel"]))
    found = resolve(dataclasses.replace(noise, left_out_classes=("tiny",)), str(path))
    assert (found.base, found.novel, found.name) == (expected.base, (), expected.name)
    novel = dataclasses.replace(random_set(4, 6), left_out_classes=("tiny",))
    for other in (noise, joined(noise, novel)):  # a split of two data sets names classes of the first
        with pytest.raises(UserError, match="has no class 'Tiny'"):
            resolve(other, str(path))


def test_a_csv_s_name_follows_its_content(noise, tmp_path):
    usual = resolve(noise, csv(tmp_path, GOOD)).name
    as_excel = "\ufeff" + "\r\n".join(
        ["part,class,note", "novel,c8,x", *(f"base, c{i} ,y" for i in (2, 1, 0))]
    )
    same = resolve(noise, csv(tmp_path, as_excel + "\r\nnovel,c7,z\r\n"))
    other = resolve(noise, csv(tmp_path, GOOD + "c9,novel\n"))
    assert same.name == usual != other.name


@pytest.mark.parametrize(
    "content, message",
    [
        (GOOD + "\n\ndog,novel\n", "line 9: noise has no class 'dog'; allowed: c0, c1"),
        (GOOD + "C0,novel\n", "line 7: class 'C0' is listed twice, first as 'c0'"),
        ("class,part,class\nc0,base,c1\n", "has 2 columns class; must have one"),
        ("part,class,part\nbase,c0,novel\n", "has 2 columns part; must have one"),
    ],
    ids=["blank lines count", "twice, in another case", "two columns of classes", "two columns of parts"],
)
def test_bad_csv_files(noise, tmp_path, content, message):
    path = csv(tmp_path, content)
    with pytest.raises(UserError) as caught:
        resolve(noise, path, "config.yaml: split")
    assert str(caught.value).startswith(f"config.yaml: split {path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_csv_that_is_not_there(noise, tmp_path):
    path = str(tmp_path / "none.csv")
    with pytest.raises(UserError, match="no such file; must be a CSV"):
        check_split(path)
    with pytest.raises(UserError, match=r"No such file"):
        resolve(noise, path)
