"""Labels of a folder's train.csv."""

from pathlib import Path

import pytest

from bench.common.errors import UserError
from bench.data.listing import scan

HEADER = "filename, label"
ROWS = ["a.png,cat", "b.png, cat ", "c.png,", "d.png,  ", "e.png,dog", "f.png"]


def listed(folder: Path, rows: list[str]):
    (folder / "images").mkdir(exist_ok=True)
    for name in "abcdef":
        if not (path := folder / "images" / f"{name}.png").exists():  # a change of its time is another key
            path.touch()
    (folder / "train.csv").write_text("\n".join([HEADER, *rows]))
    return scan(folder)


def test_labels_are_stripped_and_images_without_one_are_left_out_and_counted(tmp_path):
    found = listed(tmp_path, ROWS)
    assert found.class_names == ["cat", "dog"] and found.labels == [0, 0, 1]
    assert found.unused == ("images/c.png", "images/d.png", "images/f.png")


def test_another_label_is_another_key_of_the_cache(tmp_path):
    rows = ["a.png,cat", "b.png,cat", "e.png,dog"]
    assert listed(tmp_path, rows).key(32) == listed(tmp_path, rows).key(32)
    other = listed(tmp_path, ["a.png,cat", "b.png,dog", "e.png,dog"])
    assert other.files == listed(tmp_path, rows).files and other.key(32) != listed(tmp_path, rows).key(32)


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        scan(folder)
    return caught.value.allowed


def test_lists_that_are_not_text_are_named(tmp_path):
    (tmp_path / "train.csv").write_bytes(b"filename,label\n\xff.png,cat")
    assert refused(tmp_path).startswith("train.csv cannot be read: ")
    (tmp_path / "train.csv").write_text(f"filename,label\n{'x' * 200_000},cat")
    assert refused(tmp_path).startswith("train.csv cannot be read: field larger than")


def test_other_tables_beside_folders_of_images_are_not_lists(tmp_path):
    """Neither a table of another name nor one with other columns."""
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "notes.csv").write_text("filename,label\na/1.png,cat\nb/1.png,cat")
    (tmp_path / "train.csv").write_text("image,size\na/1.png,3")
    assert scan(tmp_path).class_names == ["a", "b"]


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    monkeypatch.setattr("os.scandir", unreadable)
    assert refused(tmp_path) == "cannot be read: [Errno 13] Permission denied"


def unreadable(place):
    raise PermissionError(13, "Permission denied")
