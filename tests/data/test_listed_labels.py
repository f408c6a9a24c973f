"""Labels of a folder's train.csv."""

from pathlib import Path

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
