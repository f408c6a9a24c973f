"""Two runs have one name exactly if the same things decide their numbers."""

import dataclasses
import importlib
from pathlib import Path

import pytest
from command_line import bench, write_images

from bench.config.run_config import method_info, resolve
from bench.data.splits import resolve as split_of
from bench.records import store
from bench.records.schema import RUN_ID
from bench.run import run_id, source_code
from bench.run.plan import Options
from bench.run.preparation import prepare
from bench.run.run_id import identify
from methods import registry

pytestmark = pytest.mark.slow
RUN = [
    "run", "--preset", "smoke", "--device", "cpu", "--precision", "fp32", "--image-size", "16",
    "--dataset", "folder:images",
]  # fmt: skip


@pytest.fixture
def named(tiny, tiny_split):
    """A function from what may differ between two runs to the name of the run."""
    for module in run_id.MEASURING:  # as in a process that has trained
        importlib.import_module(module)

    def name(data=tiny, parts=tiny_split, weights=None, **given) -> str:
        config = resolve({"method": "siamese_triplet"} | given, {}, {})
        info = method_info(config.method)
        registry.load(info)
        return identify(config, info, data, parts, weights).run_id

    return name


def test_the_name_is_readable_and_another_for_whatever_changes_a_number(named, tiny, tiny_split):
    plain = named()
    assert plain.startswith("siamese-triplet_tiny_") and "_standard_s0_" in plain
    fewer = dataclasses.replace(tiny_split, train=tiny_split.train[1:])
    swapped = dataclasses.replace(tiny_split, base=tiny_split.novel, novel=tiny_split.base)
    others = [
        named(seed=1), named(preset="quick"), named(backbone="conv4"), named(method="protonet"),
        named(hyperparameters={"margin": 0.5}), named(precision="fp32"),
        named(way=3, shot=1), named(way=3, shot=2), named(weights="00" * 32),
        named(data=dataclasses.replace(tiny, fingerprint="cd" * 32)),
        named(data=dataclasses.replace(tiny, name="omniglot")),  # its images are not flipped
        named(augment=[]), named(augment=["crop", "flip", "jitter"]),
        named(parts=fewer), named(parts=swapped), named(parts=split_of(tiny, "50-50")),
    ]  # fmt: skip
    assert len({plain, *others}) == len(others) + 1


def test_spelling_does_not_count(named, tiny):
    one, other = (dataclasses.replace(tiny, name=f"folder:{path}") for path in ("a", "/elsewhere/a"))
    assert named(data=one) == named(data=other)
    assert named() == named(augment="flip, crop") != named(augment="none") == named(augment=[])
    assert named(weights="00" * 32) == named(dataset="glyphs", split="cifar-fs", weights="00" * 32)


def test_the_name_is_a_file_name(named, tiny):
    name = named(data=dataclasses.replace(tiny, name="folder:/a b/ü?*/" + "x" * 300))
    assert len(name) < 200 and set(name) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.@+-_"
    )


def test_another_version_of_a_plug_in_is_another_run(named, tiny, tiny_split):
    named()
    info, config = method_info("siamese_triplet"), resolve({"method": "siamese_triplet"}, {}, {})
    versions = [
        identify(config, dataclasses.replace(info, plugin=plugin), tiny, tiny_split, None)
        for plugin in ("", "foreign 1.0", "foreign 1.1")
    ]
    assert len({one.run_id for one in versions}) == 3
    assert versions[1].plugin == "foreign 1.0"


def test_the_longest_name_is_a_record_s_name(named, tiny, tiny_split):
    named()
    info = dataclasses.replace(method_info("siamese_triplet"), name="m" * 90)
    config = resolve({"method": "siamese_triplet", "seed": 4294967295}, {}, {})
    found = identify(
        config.model_copy(update={"preset": "p" * 90}),
        info,
        dataclasses.replace(tiny, name=f"folder:{'a' * 90}"),
        dataclasses.replace(tiny_split, name="b" * 90),
        None,
    )
    assert RUN_ID.fullmatch(found.run_id)
    assert found.run_id.endswith(f"_s4294967295_{found.sha256[:8]}")


def test_the_code_that_measures_counts(named, monkeypatch):
    before = named()
    kept = vars(importlib.import_module("bench.evaluation.fewshot"))
    edited = kept[source_code.KEPT].replace("logits.argmax(dim=2)", "logits.argmin(dim=2)")
    assert edited != kept[source_code.KEPT]
    monkeypatch.setitem(kept, source_code.KEPT, edited)
    assert named() != before


def test_a_file_that_is_edited_while_its_module_runs_does_not_count(named, monkeypatch):
    """The process keeps the old code, so its runs keep their name."""
    before = named()
    monkeypatch.setattr(source_code, "_text", lambda path: "loss = -1")
    assert named()[-8:] == before[-8:]


def test_what_only_shows_results_does_not_count():
    measuring = source_code.own_files(*run_id.MEASURING, without=run_id.NOT_MEASURING)
    assert {
        "bench.evaluation.budget",
        "bench.training.batches",
        "bench.training.loop",
        "bench.sampling.episodes",
        "methods.backbones",
    } <= measuring.keys()
    assert not [
        name
        for name in measuring
        if name.startswith(("bench.reporting.leaderboard", "bench.cli", "bench.reporting.show"))
    ]


# From the command line

OPTIONS = Options(Path("results"), Path("runs"), "", device="cpu")

HELPER = "SIGN = {sign}\n"
METHOD = '''
from dataclasses import dataclass

from helper import SIGN
from methods.siamese_triplet import SiameseTriplet


class Mine(SiameseTriplet):
    """Answers with the sign that a helper says."""

    presets = {"smoke": {"backbone": "conv4", "steps": 2, "classes": 2}}

    @dataclass(frozen=True)
    class Hyperparameters(SiameseTriplet.Hyperparameters):
        steps: int = 2
        classes: int = 2

    def episode_logits(self, support, query):
        return SIGN * super().episode_logits(support, query)
'''


@pytest.fixture
def workspace(here, unquestioned):
    return here


def accuracies() -> dict[str, float]:
    found = (store.read(path) for path in Path("results").rglob("*.json"))
    return {record.run_id: record.metrics["fewshot/5w1s"].value for record in found}


def test_a_helper_of_a_method_that_changes_is_another_run(workspace, monkeypatch):
    monkeypatch.syspath_prepend(workspace)
    Path("mine.py").write_text(METHOD)
    arguments = [*RUN, "--method", "mine.py:Mine", "--split", "25-75"]
    values = []
    for sign in (1, -1):
        Path("helper.py").write_text(HELPER.format(sign=sign))
        importlib.invalidate_caches()
        monkeypatch.delitem(importlib.sys.modules, "helper", raising=False)
        method_info.cache_clear()
        answer = bench(*arguments)
        assert answer.code == 0, answer.err
        values.append(store.read(Path(answer.out.split()[-1])).metrics["fewshot/5w1s"].value)
    assert len(accuracies()) == 2
    # The most similar class, and the least similar one.
    assert values[0] > 0.3 and values[1] < 0.2


def test_the_content_of_a_split_file_counts(workspace):
    """Base and novel classes are swapped in the file: the old record is not the answer."""
    classes = [f"class{number}" for number in range(8)]
    sides = [["base"] * 3 + ["novel"] * 5, ["novel"] * 5 + ["base"] * 3]
    found = []
    for parts in sides:
        lines = [f"{name},{part}" for name, part in zip(classes, parts, strict=True)]
        Path("own.csv").write_text("\n".join(["class,part", *lines]))
        given = {"method": "siamese_triplet", "preset": "smoke", "dataset": "folder:images"}
        found.append(prepare(resolve(given | {"split": "own.csv"}, {}, {}), OPTIONS))
    novel = [[one.data.class_names[number] for number in one.split.novel] for one in found]
    assert novel == [classes[3:], classes[:5]] and found[0].run_id != found[1].run_id


def test_which_images_are_held_out_counts(tmp_path, unquestioned, monkeypatch):
    """The same images with other ones moved from train to test: trained again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", "cache")
    write_images(Path("images"), 8, 24)
    for place in sorted(Path("images").iterdir()):
        for number, image in enumerate(sorted(place.iterdir())):
            side = Path("parts", "test" if number < 12 else "train", place.name)
            side.mkdir(parents=True, exist_ok=True)
            image.rename(side / image.name)
    arguments = [*RUN, "--method", "siamese_triplet", "--set", "classes=2", "--split", "25-75"]
    arguments[arguments.index("folder:images")] = "folder:parts"
    assert bench(*arguments).code == 0
    for place in sorted(Path("parts", "test").iterdir()):
        held_out = sorted(place.iterdir())[:12]
        training = sorted(Path("parts", "train", place.name).iterdir())[:12]
        for one, other in zip(held_out, training, strict=True):
            one.rename(Path("parts", "train", place.name, one.name))
            other.rename(Path("parts", "test", place.name, other.name))
    assert bench(*arguments).code == 0
    paths = sorted(Path("results").rglob("*.json"))
    first, second = (store.read(path) for path in paths)
    assert first.fingerprint == second.fingerprint and first.sources.split != second.sources.split
    assert bench("validate").code == 0


def test_another_way_to_write_the_folder_is_the_same_run(workspace):
    arguments = [*RUN, "--method", "siamese_triplet", "--set", "classes=2", "--split", "25-75"]
    for spelling in ("folder:images", "folder:images/", "folder:./images"):
        arguments[arguments.index("--dataset") + 1] = spelling
        answer = bench(*arguments)
        assert answer.code == 0, answer.err
    assert len(accuracies()) == 1 and "is already recorded" in answer.err


def test_a_record_names_its_code_and_its_model(workspace):
    answer = bench(*RUN, "--method", "siamese_triplet", "--set", "classes=2", "--split", "25-75")
    record = store.read(Path(answer.out.split()[-1]))
    assert record.sources.method == source_code.digest("methods.siamese_triplet")
    assert record.sources.plugin == "" and len(record.model) == 64
