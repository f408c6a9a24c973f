"""Pictures of records: what they show, how they look, and what becomes of records that lack something."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from importlib import import_module
from pathlib import Path

import figure_records
import numpy as np
import pytest
from command_line import bench, complaint
from figure_records import everything, pictures
from PIL import Image
from record_factory import ON_GPU, make_record, record_fields

from bench.records import store
from bench.records.arrays import pairs
from bench.reporting.figures import Gap, Picture, per_class, style
from bench.reporting.figures.collect import drawn
from bench.reporting.figures.rows import sections

pytestmark = pytest.mark.slow
METHODS = ("protonet", "siamese_triplet", "<script>alert(1)</script>", "**x** | y")
UNIT = re.compile(r"\(.+\)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four methods at 90-10, two at 50-50, and three seeds of one."""
    directory = tmp_path_factory.mktemp("results")
    for number, method in enumerate(METHODS):
        seeds = range(3) if method == "siamese_triplet" else range(1)
        for seed in seeds:
            figure_records.write(directory, 90, 0.5 + 0.05 * number, method=method, seed=seed)
    for number, method in enumerate(METHODS[:2]):
        figure_records.write(directory, 50, 0.45 + 0.05 * number, method=method)
    return directory


@pytest.fixture(scope="module")
def found(folder) -> dict[str, Picture]:
    return pictures(folder)


def test_everything_is_drawn_that_records_alone_can_tell(folder, found):
    names = ["shots", "generalized-90+10", "training-time-bf16", "validation", "roc", "per-class"]
    assert set(found) == {
        "cifar100-splits",
        *(f"cifar100-90-10-{name}" for name in names),
        *(f"cifar100-50-50-{name}" for name in names if "+" not in name),
    }
    gaps = [item for item in everything(folder) if isinstance(item, Gap)]
    assert {gap.section for gap in gaps} == {"cifar100 90-10", "cifar100 50-50"}
    assert all("model" in gap.why for gap in gaps)


def test_every_axis_has_its_unit_and_every_picture_says_what_it_shows(found):
    """In at most eight panels."""
    for picture in found.values():
        assert picture.title and picture.caption and picture.alt
        with drawn(picture) as figure:
            shared = [figure.get_supxlabel(), figure.get_supylabel()]
            for axes in figure.axes:
                for own, common in zip((axes.get_xlabel(), axes.get_ylabel()), shared, strict=True):
                    label = own or common or next(a.get_xlabel() for a in reversed(figure.axes))
                    assert UNIT.search(label), (picture.name, label)
            assert figure.get_size_inches()[0] == style.WIDTH and len(figure.axes) <= 8, picture.name


def test_pictures_are_the_same_bytes_every_time(found):
    made = []
    for _ in range(2):
        with drawn(found["cifar100-90-10-roc"]) as figure:
            made.append((style.svg(figure), style.png(figure), style.inline_svg(figure, "p")))
    assert made[0] == made[1]
    assert not re.search(r"<dc:date>|\b20\d\d-\d\d-\d\d", made[0][0])


def test_a_page_s_svg_takes_the_page_s_colours_and_shares_no_id(found):
    seen: Counter[str] = Counter()
    for number, name in enumerate(("cifar100-90-10-validation", "cifar100-90-10-roc")):
        with drawn(found[name]) as figure:
            text = style.inline_svg(figure, f"p{number}")
        root = ET.fromstring(text)
        assert "width" not in root.attrib and root.attrib["viewBox"]
        own = re.findall(r'\bid="([^"]+)"', text)
        used = {match.strip("#)") for match in re.findall(r"#p\d-[^\")]+", text)}
        assert used == set(own)
        seen.update(own)
        assert "var(--ink)" in text and "var(--series-0)" in text
        assert not re.search(r"#[0-9a-f]{6}\b", text)
        assert "<style" not in text and "<!--" not in text
    assert max(seen.values()) == 1


def test_lines_pass_through_the_records_numbers_and_have_their_names(found):
    with drawn(found["cifar100-90-10-shots"]) as figure:
        (axes,) = figure.axes
        lines = [container.lines[0].get_data(orig=False) for container in axes.containers]
        names = {text.get_text().replace("\n", " "): text for text in axes.texts}
    best = ["**x** | y", "<script>alert(1)</script>", "siamese_triplet", "protonet"]
    assert set(names) == {f"{name} (quick)" for name in best}
    for accuracy, (x, y) in zip((65, 60, None, 50), lines, strict=True):
        assert x.tolist() == [1, 5]
        if accuracy:  # the other one has several seeds
            np.testing.assert_allclose(y, [accuracy, accuracy + 10])
    ends = {name: text.xy for name, text in names.items()}
    assert ends["protonet (quick)"] == pytest.approx((lines[3][0][1], 60))


def test_bars_are_the_records_numbers_beside_the_published_ones(found):
    """The best of the two methods that are recorded on both splits, and the re-measured source."""
    picture = found["cifar100-splits"]
    assert "siamese_triplet (quick)" in picture.title and "re-measured" in picture.caption
    with drawn(picture) as figure:
        heights = {
            axes.get_title(loc="left"): [[bar.get_height() for bar in own] for own in axes.containers
                                         if hasattr(own, "patches")]
            for axes in figure.axes
        }  # fmt: skip
        diamonds = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_marker() == "D"]
        assert [tick.get_text() for tick in figure.axes[-1].get_xticklabels()] == ["50-50", "90-10"]
    np.testing.assert_allclose(heights["triplets"], [[75], [80], [62], [67]])
    np.testing.assert_allclose(heights["5-way 1-shot"], [[50], [55]], atol=1)  # 3 seeds at 90-10
    np.testing.assert_allclose(diamonds[0], 86.44)
    assert len(diamonds) == 4


def test_of_many_methods_the_leading_ones_are_named_and_the_others_grey(tmp_path):
    for number in range(9):
        changed = {"overrides": {"steps": number, "distance": "cosine"}}
        figure_records.write(tmp_path, accuracy=0.4 + 0.03 * number, method=f"method{number}", config=changed)
    found = pictures(tmp_path)
    leading = {f"method{n} (quick, distance=cosine, steps={n})" for n in range(2, 9)}
    for name in ("shots", "validation", "training-time-bf16", "roc"):
        picture = found[f"cifar100-90-10-{name}"]
        assert "7 leading methods are named; 2 others are grey" in picture.caption
        with drawn(picture) as figure:
            (axes,) = figure.axes
            texts = [*axes.texts, *(text for legend in figure.legends for text in legend.get_texts())]
            named = {text.get_text().replace("\n", " ").partition(", AUC")[0] for text in texts}
            assert named == leading
            grey = [line for line in axes.lines if line.get_color() == style.GREY.light]
            assert len(grey) >= 2
    with drawn(found["cifar100-90-10-generalized-90+10"]) as figure:
        *_, last = figure.axes
        assert len(last.texts) == 7 and last.get_xticks().tolist() == [1, 5, 10, 20]
    assert "best 7 of 9" in found["cifar100-90-10-generalized-90+10"].caption


def test_names_are_shown_as_they_are_written(found, recwarn):
    with drawn(found["cifar100-90-10-per-class"]) as figure:
        style.png(figure)
        labels = [label.get_text().strip() for label in figure.axes[0].get_yticklabels()]
    assert labels[:5] == list(figure_records.HOSTILE[:5]) or labels[0] == "<script>alert(1)</scrip…"
    assert "$x_1^2$" in labels and "_hidden" in labels and "a?[2J?b" in labels
    assert not recwarn.list


def test_times_of_a_gpu_and_of_each_precision_are_pictures_of_their_own(tmp_path):
    in_fp32 = record_fields()["environment"] | {"precision": "32-true"}
    figure_records.write(tmp_path, accuracy=0.6)
    figure_records.write(tmp_path, accuracy=0.65, method="anil", environment=in_fp32)
    figure_records.write(tmp_path, accuracy=0.7, method="reptile", environment=ON_GPU)
    found = pictures(tmp_path)
    of_one_core, fp32, on_gpu = (
        found[f"cifar100-90-10-training-time-{name}"] for name in ("bf16", "fp32", "gpu-bf16")
    )
    for picture, own in ((of_one_core, "protonet"), (fp32, "anil"), (on_gpu, "reptile")):
        assert [name for name in ("protonet", "anil", "reptile") if name in picture.alt] == [own]
    assert "training time of one core in fp32" in fp32.alt and "wall-clock time" in on_gpu.alt
    for picture, of in ((of_one_core, " of one core"), (on_gpu, "")):
        with drawn(picture) as figure:
            assert figure.axes[0].get_xlabel() == f"training time (minutes{of}, logarithmic)"


def test_records_from_before_lack_pictures_and_break_none(tmp_path):
    store.write(make_record(), tmp_path)
    found = everything(tmp_path)
    drawn_names = {item.name for item in found if isinstance(item, Picture)}
    assert drawn_names == {"cifar100-90-10-" + n for n in ("shots", "training-time-bf16", "per-class")}
    missing = {item.title for item in found if isinstance(item, Gap)}
    assert {"ROC curves of pairs", "Base and novel classes from split to split"} <= missing


def test_a_damaged_file_costs_its_own_pictures_only(folder, tmp_path):
    for path in folder.glob("*-90-0.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = next(path for path in sorted(tmp_path.glob("*.npz")))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    found = everything(tmp_path)
    about = [item.why for item in found if isinstance(item, Gap) and damaged.stem in item.why]
    assert len(about) == 2 and "does not belong" in about[0]
    with drawn(next(p for p in found if isinstance(p, Picture) and p.name.endswith("roc"))) as figure:
        assert len(figure.legends[0].get_texts()) == len(METHODS) - 1


def test_pairs_are_drawn_again_from_the_pools(folder):
    record = next(r for r in store.read_all(folder)[0])
    found = pairs(record, folder)
    np.testing.assert_array_equal(found.same, found.scores > 0.5)
    assert found.same.sum() == figure_records.PAIRS / 2


def test_hardest_and_easiest_classes(folder):
    section = next(s for s in sections(store.read_all(folder)[0], folder) if "50-50" in s.title)
    found = per_class.ranked(section)
    assert [name for name, _ in found.classes] == figure_records.CLASSES
    assert found.row.label == "siamese_triplet (quick)" and len(found.others[0]) == 1
    assert per_class.ends("abcdefg", 4) == ["a", "b", "f", "g"] and per_class.ends("abc", 4) == list("abc")


def test_files(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "PIXELS_PER_INCH", 50)
    figure_records.write(tmp_path / "results")
    answer = bench(
        "figures", "--results", tmp_path / "results", "--output", tmp_path / "out", "--runs", tmp_path
    )
    assert answer.code == 0, answer.err
    paths = [Path(line) for line in answer.out.splitlines()]
    assert sorted(paths) == sorted((tmp_path / "out").iterdir())
    captions = (tmp_path / "out/captions.txt").read_text(encoding="utf-8").splitlines()
    files = [path for path in paths if path.suffix != ".txt"]
    assert {path.suffix for path in files} == {".png", ".svg"}
    assert len(files) == 2 * len(captions) > 0
    assert sorted(line.split(": ")[0] for line in captions) == sorted({path.stem for path in files})
    for path in files:
        if path.suffix == ".png":
            assert Image.open(path).size[0] == style.WIDTH * style.PIXELS_PER_INCH
        else:
            ET.parse(path)
    assert "not drawn: cifar100 90-10: " in answer.err


def test_only_the_named_runs_are_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, nothing in (("png", b""), ("svg", "")):  # captions show what would be in the files
        module = import_module("bench.reporting.figures.collect")
        monkeypatch.setattr(module, name, lambda _, nothing=nothing: nothing)
    records = [
        figure_records.write(tmp_path / "results", base, 0.5, method=method)
        for method in ("protonet", "matching")
        for base in (90, 50)
    ]
    command = ["figures", "--results", tmp_path / "results", "--output", tmp_path / "out", "--runs", tmp_path]
    answer = bench(*command, "--method", "matching", "--split", "90-10")
    assert answer.code == 0, answer.err
    captions = (tmp_path / "out/captions.txt").read_text(encoding="utf-8")
    assert "matching" in captions and "protonet" not in captions and "50-50" not in captions
    answer = bench(*command, "--run", records[2].run_id)
    assert answer.code == 0, answer.err
    assert (tmp_path / "out/captions.txt").read_text(encoding="utf-8") == captions
    said = complaint(*command, "--method", "matchin")
    assert said.startswith("--method matchin: has no records; did you mean matching?")
    assert "--split 10-90: has no records; " in complaint(*command, "--split", "10-90")
    assert "--run none: no such run in " in complaint(*command, "--run", "none")


def test_records_that_are_damaged_are_named(tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    answer = bench("figures", "--results", tmp_path, "--output", tmp_path / "out")
    assert answer.code == 1 and "warning:" in answer.err and "bad.json" in answer.err


def test_torch_is_not_imported_for_records_alone():
    code = "import bench.reporting.figures, bench.reporting.report, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
