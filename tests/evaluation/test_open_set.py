"""Open set: queries of two further novel classes are told from the others by their largest score."""

import io
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import bench, write_images
from record_factory import make_record
from sklearn.metrics import roc_auc_score
from torch import nn

from bench.common.errors import UserError
from bench.common.progress import Progress
from bench.config.run_config import resolve as configured
from bench.data.normalisation import Normaliser
from bench.data.splits import resolve
from bench.evaluation.embedding import embed_images
from bench.evaluation.measurements import pools_of, possible
from bench.evaluation.protocol import Evaluation, Evaluator
from bench.records import store
from bench.records.recomputing import recompute
from bench.reporting.reach import reaches
from bench.run.measurable import measured
from bench.run.recording import metrics_of
from bench.sampling.episodes import ClassPool, Setting, draw
from bench.statistics import class_jackknife, pairs_won
from methods.protonet import ProtoNet

SETTING = Setting(4, 1, 10, 25, others=2)
NAME = "open4w1s10q"


class Adapting(ProtoNet):
    """Answers episodes by `adapt` too, as methods without a fixed embedding do."""

    def adapt(self, support):
        made = self.embed(support.flatten(0, 2)).unflatten(0, support.shape[:3])

        def answer(query):
            own = self.embed(query.flatten(0, 1)).unflatten(0, query.shape[:2])
            return self.episode_logits(made, own)

        return answer


class Known(Adapting):
    """Knows the class of each image, from a pixel; or sees nothing."""

    def __init__(self, normalise: Normaliser, sees: bool, fixed: bool) -> None:
        super().__init__(nn.Identity(), ProtoNet.Hyperparameters(), 8)
        self.normalise, self.sees, self.fixed_embedding = normalise, sees, fixed
        self.eval()

    def embed(self, images):
        pixel = images[:, 0, 0, 0] * self.normalise.std[0].item() + self.normalise.mean[0].item()
        return nn.functional.one_hot((pixel / 10).round().long() * self.sees, 19).float()


@pytest.fixture(scope="module")
def marked(tiny, tiny_split):
    """`tiny` with each image's class in a pixel."""
    images = tiny.images.clone()
    images[:, 0, 0, 0] = tiny.labels.byte() * 10
    data = replace(tiny, images=images)
    return data, tiny_split, Normaliser(images, tiny_split.train)


def evaluated(data, split, normalise, method, settings=(SETTING,), others=()) -> Evaluation:
    evaluator = Evaluator(method, data, split, normalise, "32-true", Progress(io.StringIO()))
    return evaluator.run(possible(method, pools_of(data, split), settings, others)[0])


def values(found: Evaluation) -> dict[str, float]:
    return {key.partition("/")[2]: interval.value for key, interval in found.metrics.items()}


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("sees", [True, False])
def test_a_method_whose_right_numbers_are_known(marked, sees, fixed):
    found = evaluated(*marked, Known(marked[2], sees, fixed))
    assert {key.partition("/")[0] for key in found.metrics} == {NAME} == set(found.thresholds)
    # Scores that are all the same accept every query: no threshold is better.
    right = {"auroc": 1, "false_accepts": 0} if sees else {"auroc": 0.5, "false_accepts": 1}
    assert values(found) == right | {"false_rejects": 0}


def test_the_area_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores, known = rng.integers(0, 9, (50, 28)).astype(float), np.arange(28) < 20
    known = rng.permuted(np.tile(known, (50, 1)), axis=1)
    expected = [roc_auc_score(own, row) for own, row in zip(known, scores, strict=True)]
    np.testing.assert_allclose(pairs_won(scores, known) / (2 * 20 * 8), expected, rtol=1e-12)


class Colour(Adapting):
    """The colour of one pixel."""

    def __init__(self, fixed: bool = True) -> None:
        super().__init__(nn.Identity(), ProtoNet.Hyperparameters(), 8)
        self.fixed_embedding = fixed
        self.eval()

    def embed(self, images):
        return images[:, :, 3, 5]


def by_hand(data, split, normalise, found: Evaluation) -> dict[str, float]:
    """Each episode on its own: one score at a time."""
    pool = ClassPool(data.labels[split.novel_images].numpy())
    key = f"{data.fingerprint}/{split.name}/open2/4/1/10/0"
    episodes = draw(pool, key, SETTING)
    assert episodes.sha256() == found.hashes[NAME] and episodes.classes.shape == (25, 6)
    made = embed_images(Colour(), data.images, split.novel_images, normalise, "32-true").double()
    areas, accepts, rejects = [], [], []
    for support, query, labels in zip(episodes.support, episodes.query, episodes.labels, strict=True):
        scores = [max(-float((made[q] - made[s[0]]).pow(2).sum()) for s in support[:4]) for q in query]
        known, right = labels < 4, np.array(scores) >= found.thresholds[NAME]
        areas.append(roc_auc_score(known, scores))
        accepts.append(right[~known].mean())
        rejects.append((~right[known]).mean())
    return {"auroc": np.mean(areas), "false_accepts": np.mean(accepts), "false_rejects": np.mean(rejects)}


def test_numbers_against_single_episodes(marked):
    found = evaluated(*marked, Colour())
    expected = by_hand(*marked, found)
    assert values(found) == pytest.approx(expected, abs=2e-3)
    assert 0.55 < expected["auroc"] < 0.99 and 0.02 < expected["false_accepts"] < 0.9


@pytest.mark.parametrize("fixed", [True, False])
def test_novel_images_do_not_move_the_threshold(marked, fixed):
    data, split, normalise = marked
    images = data.images.clone()
    images[split.novel_images] = 255 - images[split.novel_images].flip(0)
    before = evaluated(*marked, Colour(fixed))
    changed = evaluated(replace(data, images=images), split, normalise, Colour(fixed))
    assert changed.thresholds == before.thresholds and changed.metrics != before.metrics


def test_other_measurements_stay_the_same(marked):
    usual = [Setting(5, 1, 15, 20)]
    alone = evaluated(*marked, Colour(), usual, ("pairs", "triplets"))
    beside = evaluated(*marked, Colour(), [*usual, SETTING], ("pairs", "triplets"))
    assert alone.metrics == {key: own for key, own in beside.metrics.items() if not key.startswith("open")}


@pytest.fixture(scope="module")
def recorded(marked):
    data, split, _ = marked
    found = evaluated(*marked, Colour())
    record = make_record(
        fingerprint=data.fingerprint,
        split=split.name,
        pools=found.pools,
        episodes={},
        metrics=metrics_of(found.metrics),
        thresholds=found.thresholds,
        per_class={},
        open_set={NAME: asdict(SETTING) | {"seed": 0, "sha256": found.hashes[NAME]}},
    )
    return record, found.arrays


def test_validate_recomputes_them(recorded):
    record, arrays = recorded
    again = recompute(record, arrays, record.pools)
    assert not again.problems and again.episodes == {NAME}
    for key, number in again.metrics.items():
        assert (number.value, number.low, number.high, number.n) == pytest.approx(
            tuple(record.metrics[key].model_dump(exclude={"std"}).values())
        )
    assert again.metrics.keys() == record.metrics.keys()


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({f"{NAME}/won": np.full(25, 8001, dtype=np.uint32)}, "from 0 to 1600"),
        ({f"{NAME}/accepted": np.full((25, 6), 11, dtype=np.uint8)}, "from 0 to 10"),
        ({f"{NAME}/accepted": np.zeros((25, 5), dtype=np.uint8)}, "not [25, 6]"),
        # All known queries above the threshold and all others below it: then the known ones win.
        (
            {f"{NAME}/accepted": np.tile(np.array([10] * 4 + [0] * 2, dtype=np.uint8), (25, 1))},
            "no threshold accepts these",
        ),
        ({f"{NAME}/won": np.zeros(25, dtype=np.uint32)}, "no threshold accepts these"),
    ],
)
def test_wrong_answers_are_named(recorded, wrong, problem):
    record, arrays = recorded
    [found] = recompute(record, arrays | wrong, record.pools).problems
    assert problem in found


def test_other_episodes_are_named(recorded):
    record, arrays = recorded
    info = record.open_set[NAME].model_copy(update={"sha256": "0" * 64})
    [found] = recompute(record.model_copy(update={"open_set": {NAME: info}}), arrays, record.pools).problems
    assert "another SHA-256" in found


def asked(data, split, *names: str) -> tuple[list[str], list[str]]:
    given = {"method": "protonet", "dataset": "glyphs", "measure": list(names) or None}
    plan, left_out = measured(configured(given, {}, {}), split, data, Colour())
    return [setting.name for setting in plan.settings], left_out


def test_it_is_measured_only_if_asked_for(tiny, tiny_split):
    ratio = resolve(tiny, "47-53")  # 10 novel classes
    assert asked(tiny, ratio)[0] == ["5w1s", "5w5s", "allw1s"]
    assert asked(tiny, ratio, "open5w1s", "5w1s") == (["5w1s", "open5w1s"], [])
    names, left_out = asked(tiny, tiny_split, "open5w1s")  # 6 novel classes
    assert names == ["open4w1s"]
    assert left_out == [
        "open5w1s (way 5 + 2 further classes: at most 6, the number of novel classes), "
        "measured as open4w1s instead"
    ]
    with pytest.raises(UserError, match=r"allowed: .*, open5w1s, open5w5s"):
        asked(tiny, ratio, "open5w2s")


def test_without_validation_images_there_is_no_threshold(tiny):
    data = replace(tiny, held_out=torch.zeros(len(tiny), dtype=torch.bool))
    split = resolve(data, "47-53")
    names, [left_out] = asked(data, split, "open5w1s")
    assert names == ["open5w1s"] and left_out.startswith("a threshold for open5w1s")
    found = evaluated(data, split, Normaliser(data.images, split.train), Colour(), [Setting(5, 1, 15, 9, 2)])
    assert list(found.metrics) == ["open5w1s/auroc"] and not found.thresholds


def test_classes_count_as_a_sample(marked):
    """The interval for new classes comes from the classes of each episode."""
    found = evaluated(*marked, Colour(), [Setting(3, 1, 10, 60, others=2)])
    data, split, _ = marked
    pool = ClassPool(data.labels[split.novel_images].numpy())
    drawn = draw(pool, f"{data.fingerprint}/{split.name}/open2/3/1/10/0", Setting(3, 1, 10, 60, others=2))
    wide = class_jackknife(found.arrays["open3w1s10q/won"] / (2 * 3 * 10 * 2 * 10), drawn.classes)
    own = found.metrics["open3w1s10q/auroc"]
    assert wide.value == pytest.approx(own.value) and wide.half_width > own.half_width


@pytest.mark.slow
def test_a_run_records_shows_and_validates_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", "cache")
    write_images(tmp_path / "images", classes=16, each=24)
    command = ["run", "--method", "protonet", "--preset", "smoke", "--device", "cpu", "--set", "train_way=4"]
    command += ["--dataset", "folder:images", "--split", "50-50", "--measure", "open5w1s"]
    command += ["--image-size", "16", "--steps", "3"]
    answer = bench(*command)
    assert answer.code == 0, answer.err
    record = store.read(Path(answer.out.splitlines()[-1]))
    assert set(record.metrics) == {f"open5w1s/{name}" for name in ("auroc", "false_accepts", "false_rejects")}
    assert record.metrics["open5w1s/auroc"].value > 0.5 and "open5w1s" in record.thresholds
    assert bench("validate").out == "1 records: no problems\n"
    page = bench("show", record.run_id).out
    assert "open5w1s/auroc" in page
    (reach,) = reaches(record, Path("results", "own"))
    assert reach[0] == "open5w1s/auroc"
