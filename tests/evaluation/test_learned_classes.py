"""Methods that learn each tested class first: what they are handed, what they answer, how they are marked."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import bench, complaint, write_images
from small_budget import budget_of_file
from torch import nn

from bench.common.progress import Progress
from bench.config.run_config import resolve as configuration
from bench.data.images import ImageSet
from bench.data.splits import resolve, with_labelled_novel
from bench.evaluation import learned_classes
from bench.evaluation.learned_classes import LearnedClasses, check_enough
from bench.evaluation.measurements import pools_of, possible
from bench.evaluation.protocol import Evaluator
from bench.run.preparation import Options, prepare
from bench.run.recording import largest_class
from bench.sampling.episodes import ClassPool, Setting
from bench.sampling.pairs import draw_pairs, draw_triplets
from bench.statistics import pair_metrics
from bench.training.batches import Normaliser
from methods.abilities import LearnsClasses
from methods.batches import ClassTasks
from methods.method import Method
from methods.siamese_reptile import SiameseReptile

small = budget_of_file(pairs=300)
MARK = "20 labelled images of each novel class"


class Learner(LearnsClasses, Method):
    """Weighs the colours of an image by the mean colour of the anchors; remembers what it was handed."""

    class_tasks = ClassTasks(batches=3, triplets=4, threshold=-0.5)

    def __init__(self) -> None:
        super().__init__(nn.Identity(), self.Hyperparameters(), 9)
        self.handed: list[tuple[torch.Tensor, ...]] = []

    def learn_class(self, batches):
        parts = [torch.cat(part) for part in zip(*batches, strict=True)]
        self.handed.append(tuple(parts))
        weight = parts[0].mean((0, 2, 3))
        return lambda images: images.mean((2, 3)) * weight

    def similarity(self, a, b):
        return -(a - b).norm(dim=1)


class Undeclared(Learner):
    """Would learn classes, but does not say so."""

    class_tasks = None

    def embed(self, images):
        return images.mean((2, 3))

    def episode_logits(self, support, query):
        return query.new_zeros(*query.shape[:2], support.shape[1])


@pytest.fixture(scope="module")
def split(tiny):
    """9 base classes with held-out images, and 10 novel ones with 20 labelled images and 10 to test."""
    return with_labelled_novel(tiny, resolve(tiny, "47-53"))


def evaluate(method: Method, data, split, settings=()):
    normalise = Normaliser(data.images, split.train)
    where = (data, split, normalise, "32-true", Progress(io.StringIO()))
    plan, _ = possible(method, pools_of(data, split), settings, ("pairs", "triplets"))
    return Evaluator(method.eval(), *where).run(plan)


def plainly(monkeypatch) -> None:
    """Hand over images as they are."""
    monkeypatch.setattr(learned_classes, "augmented", lambda images, generator, augment: images)


def test_labelled_and_tested_images_of_novel_classes_are_apart(tiny, split):
    plain = resolve(tiny, "47-53")
    assert not len(plain.novel_labelled)
    assert (
        sorted(torch.cat([split.novel_labelled, split.novel_images]).tolist()) == plain.novel_images.tolist()
    )
    assert tiny.held_out[split.novel_images].all() and not tiny.held_out[split.novel_labelled].any()
    for part in ("train", "validation_images", "base_test"):
        assert torch.equal(getattr(split, part), getattr(plain, part))
    assert largest_class(tiny.labels[split.novel_labelled]) == 20
    assert largest_class(tiny.labels[plain.novel_labelled]) == 0


def test_a_class_is_learned_from_its_own_training_images_against_base_classes(tiny, split, monkeypatch):
    plainly(monkeypatch)
    normalise = Normaliser(tiny.images, split.train)
    place = {normalise(tiny.images[i : i + 1]).numpy().tobytes(): i for i in range(len(tiny))}
    method = Learner()
    evaluate(method, tiny, split)
    assert len(method.handed) == len(split.base) + len(split.novel)
    train, labelled = set(split.train.tolist()), set(split.novel_labelled.tolist())
    for label, handed in zip((*split.base, *split.novel), method.handed, strict=True):
        own, positives, others = ([place[x[None].numpy().tobytes()] for x in part] for part in handed)
        own += positives
        assert {int(tiny.labels[i]) for i in own} == {label}
        assert set(own) <= (train if label in split.base else labelled)
        assert set(others) <= train and label not in {int(tiny.labels[i]) for i in others}
        for first in range(0, 12, 4):  # no image of the class is in a batch twice
            assert len({*own[first : first + 4], *positives[first : first + 4]}) == 8


def test_no_other_method_is_handed_an_image_of_a_novel_class(tiny, split):
    method = Undeclared()
    found = evaluate(method, tiny, split, [Setting(5, 1, 2, 4)])
    assert not method.handed and "fewshot/5w1s2q" in found.metrics
    with pytest.raises(ValueError, match="only a method with class_tasks"):
        LearnedClasses(method.eval(), tiny, split, lambda images: images, "32-true", "key")


def test_a_method_in_training_mode_is_refused(tiny, split):
    with pytest.raises(ValueError, match="evaluation mode"):
        LearnedClasses(Learner().train(), tiny, split, Normaliser(tiny.images, split.train), "32-true", "")


def test_answers_are_those_of_the_network_of_the_first_image_s_class(tiny, split, monkeypatch):
    """Each pair and triplet by itself, in a slow loop."""
    plainly(monkeypatch)
    method = Learner()
    found = evaluate(method, tiny, split)
    normalise = Normaliser(tiny.images, split.train)
    weights = dict(
        zip((*split.base, *split.novel), (h[0].mean((0, 2, 3)) for h in method.handed), strict=True)
    )
    for part, index in (("base", split.base_test), ("novel", split.novel_images)):
        pool, key = ClassPool(tiny.labels[index].numpy()), f"{tiny.fingerprint}/47-53/{part}/0"

        def score(i: int, j: int, index=index) -> float:
            left, right = (normalise(tiny.images[index[k]][None]).mean((2, 3))[0] for k in (i, j))
            return -float(((left - right) * weights[int(tiny.labels[index[i]])]).norm())

        a, b, same = draw_pairs(pool, f"{key}/pairs", 300)
        scores = np.array([score(i, j) for i, j in zip(a, b, strict=True)])
        assert found.arrays[f"{part}/pair_scores"] == pytest.approx(scores, rel=1e-4, abs=1e-6)
        expected = pair_metrics(scores, same, -0.5)["pair_accuracy"].value
        assert found.metrics[f"{part}/pair_accuracy"].value == pytest.approx(expected) and 0.5 < expected < 1
        triplets = zip(*draw_triplets(pool, f"{key}/triplets", 300), strict=True)
        won = [score(anchor, positive) > score(anchor, negative) for anchor, positive, negative in triplets]
        assert found.arrays[f"{part}/triplets_won"].tolist() == [2 * one for one in won]
    owner, right = tiny.labels[index].numpy(), (scores >= -0.5) == same
    for c in split.novel:  # a class's pairs are those whose first image is of it
        ours = owner[a] == c
        accuracy = (right[ours & same].mean() + right[ours & ~same].mean()) / 2
        assert found.per_class[tiny.class_names[c]]["novel/pair_accuracy"].value == pytest.approx(accuracy)
    assert found.thresholds == {"similarity": -0.5} and not found.settings
    assert not any("unbalanced" in key for key in found.metrics)


@pytest.mark.slow
def test_learning_the_class_raises_accuracy():
    """Of a random linear map, on classes that noise hides."""
    rng = np.random.default_rng(0)
    patterns = 8 * rng.normal(size=(10, 1, 3, 8, 4))
    pixels = (
        128 + np.concatenate([patterns, patterns[..., ::-1]], axis=-1) + rng.normal(0, 50, (10, 50, 3, 8, 8))
    )
    images = pixels.clip(0, 255).astype(np.uint8).reshape(-1, 3, 8, 8)
    kinds = np.repeat(np.arange(10), 50), np.tile(np.arange(50) >= 34, 10)
    data = ImageSet.build("hard", images, *kinds, [f"class{c}" for c in range(10)])
    split = with_labelled_novel(data, resolve(data, "60-40"))
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(192, 16))
    before = {name: value.clone() for name, value in backbone.state_dict().items()}

    def learned(rate: float, steps: int = 20):
        hp = SiameseReptile.Hyperparameters(
            adapt_to_class=True, adapt_triplets=16, adapt_steps=steps, adapt_learning_rate=rate
        )
        return evaluate(SiameseReptile(backbone, hp, 6), data, split)

    after, untrained = (learned(rate).metrics["novel/triplet_accuracy"].value for rate in (0.01, 1e-9))
    assert after > untrained + 0.1
    once, again = (learned(0.01, steps=1).arrays["novel/pair_scores"] for _ in range(2))
    assert np.array_equal(once, again)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_too_few_labelled_images_are_named(tiny, split):
    check_enough(ClassTasks(1, 10, 0.7), tiny, split)
    with pytest.raises(ValueError, match=r"from batches of 22 labelled training images; 'class00' has 20"):
        check_enough(ClassTasks(1, 11, 0.7), tiny, split)
    whole = replace(tiny, held_out=torch.zeros_like(tiny.held_out))
    with pytest.raises(ValueError, match="'class09' of tiny lacks one of these"):
        with_labelled_novel(whole, resolve(tiny, "47-53"))


RUN = (
    "run", "--method", "siamese_reptile", "--preset", "smoke", "--steps", 2, "--device", "cpu",
    "--image-size", 16,
    "--split", "50-50", "--set", "triplets=4", "--set", "adapt_to_class=true", "--set", "adapt_triplets=4",
    "--set", "adapt_steps=2", "--dataset",
)  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder with the record of a run on 6 classes of 20 training and 10 test images."""
    place = tmp_path_factory.mktemp("learned")
    write_images(place / "images" / "train", classes=6, each=30)
    for name in range(6):
        own, test = (place / "images" / part / f"class{name}" for part in ("train", "test"))
        test.mkdir(parents=True)
        for image in range(20, 30):
            shutil.move(own / f"{image}.png", test)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("FEWSHOT_CACHE", str(place / "cache"))
        answer = bench(*RUN, "folder:images")
        assert answer.code == 0, answer.err
        yield place


@pytest.mark.slow
def test_only_such_a_method_is_prepared_with_labelled_novel_images(recorded):
    given = {"method": "siamese_reptile", "preset": "smoke", "dataset": "folder:images", "split": "50-50"}
    options = Options(Path("results"), Path("runs"), "", device="cpu")
    few_shot = prepare(configuration(given, {}, {}), options)
    assert not len(few_shot.split.novel_labelled) and "allw1s" in few_shot.plan.names
    adapted = prepare(configuration(given, {}, {"adapt_to_class": "true", "adapt_triplets": "5"}), options)
    assert adapted.plan.names == ["pairs", "triplets"]
    left_out = ["5w1s", "5w5s", "allw1s", "choice of the training step"]
    assert [reason.split(" (")[0] for reason in adapted.left_out] == left_out
    held_out = adapted.data.held_out
    assert held_out[adapted.split.novel_images].all() and not held_out[adapted.split.novel_labelled].any()
    assert largest_class(adapted.data.labels[adapted.split.novel_labelled]) == 20
    assert torch.equal(adapted.split.train, few_shot.split.train)
    assert adapted.identity.split != few_shot.identity.split


def test_a_record_is_marked_and_validated(recorded):
    (path,) = (recorded / "results").rglob("*.json")
    record = json.loads(path.read_text())
    assert record["labelled_novel_images"] == 20 and record["classes"]["novel_images"] == 30
    assert record["thresholds"] == {"similarity": 0.7} and not record["episodes"]
    assert set(record["per_class"]["class5"]) == {"novel/pair_accuracy", "novel/triplet_accuracy"}
    assert bench("validate").code == 0
    shown = bench("show", record["run_id"]).out
    assert MARK in shown and "similarity: 0.7000, given" in shown and "threshold given" in shown


DAMAGE = {
    "the mark is gone": (
        lambda r: r.update(labelled_novel_images=0),
        "labelled_novel_images: false, but must be true for siamese_reptile with these settings",
    ),
    "another method has the mark": (
        lambda r: r["hyperparameters"].update(adapt_to_class=False),
        "labelled_novel_images: true, but must be false for siamese_reptile with these settings",
    ),
    "other numbers": (
        lambda r: r["metrics"].update({"generalized/3+1/1s/all": r["metrics"]["novel/pair_auc"]}),
        "labelled_novel_images: such a run must have only pairs and triplets",
    ),
    "a class": (
        lambda r: r["per_class"]["class4"]["novel/pair_accuracy"].update(value=0.99, high=1.0),
        "class4: novel/pair_accuracy value: 0.99, recomputed ",
    ),
    "the threshold": (lambda r: r["thresholds"].update(similarity=0.1), "novel/pair_accuracy"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused(recorded, tmp_path, damage):
    change, expected = DAMAGE[damage]
    shutil.copytree(recorded / "results", tmp_path / "results")
    (path,) = (tmp_path / "results").rglob("*.json")
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    answer = bench("validate", "--results", tmp_path / "results")
    assert answer.code == 1 and expected in answer.out, answer


def test_what_cannot_be_is_said_in_a_line(recorded):
    told = complaint(*RUN, "folder:images", "--set", "adapt_triplets=128")
    needs = "learns each class from batches of 256 labelled training images"
    assert told == f"--method siamese_reptile: {needs}; 'class0' has 20"
    own = ("--way", 2, "--shot", 1, "--query", 2, "--episodes", 3)
    line = "cannot be measured: siamese_reptile learns from labelled images of the novel classes"
    assert complaint(*RUN, "folder:images", *own) == f"--way 2: {line}"
    told = complaint(*RUN, "folder:images", "--measure", "5w1s")
    assert told.endswith("nothing to measure: no 5w1s (learns from labelled images of the novel classes)")
    told = complaint(*RUN, "folder:images", "--measure", "generalized")
    assert "no generalized accuracy (learns from labelled images of the novel classes)" in told
