"""What a calibration reports, against plain loops over the answers of a scorer that are known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.common.errors import UserError
from bench.evaluation.budget import Budget
from bench.serving.calibration import measure
from bench.statistics import fit_temperature

EPISODES = Budget.calibration_episodes
WAY, SHOT, HALF = 3, 2, EPISODES // 2


class Stub:
    """Sees the classes, under noise: more of it, and larger scores, in the half that is not fitted."""

    card = SimpleNamespace(run_id="stub")
    method = SimpleNamespace(fixed_embedding=True)

    def __init__(self):
        self.rng, self.said = np.random.default_rng(0), []

    def features(self, pixels):
        return pixels[:, 0, 0, :1]

    def logits(self, support, query):
        made = []
        for classes, asked in zip(support[:, :, 0, 0].tolist(), query[:, :, 0].tolist(), strict=True):
            assert len(classes) == WAY
            spread, scale = (1, 1) if len(self.said) < HALF else (2, 3)
            seen = np.array([[name == own for name in classes] for own in asked])
            scores = (scale * (2 * seen + self.rng.normal(0, spread, seen.shape))).astype(np.float32)
            self.said.append([(own, classes.index(q) if q in classes else None)
                              for own, q in zip(scores.tolist(), asked, strict=True)])  # fmt: skip
            made.append(torch.from_numpy(scores))
        return torch.stack(made)


@pytest.fixture(scope="module")
def found(tiny, tiny_split):
    images = tiny.images.clone()
    images[:, 0, 0, 0] = tiny.labels.byte()
    stub = Stub()
    return measure(stub, replace(tiny, images=images), tiny_split, WAY, SHOT), stub.said


def answers(episodes):
    return [one for episode in episodes for one in episode]


def calibration_error(answered, temperature):
    """Fifteen bins of probability."""
    bins = [[] for _ in range(15)]
    for scores, right in answered:
        powers = np.exp(np.array(scores) / temperature)
        chances = powers / powers.sum()
        bins[min(int(chances.max() * 15), 14)].append((chances.max(), chances.argmax() == right))
    return sum(abs(sum(sure - hit for sure, hit in own)) for own in bins) / len(answered)


def test_temperature_and_threshold_are_fitted_on_the_first_half(found):
    calibration, said = found
    assert len(said) == calibration.episodes == EPISODES
    assert (calibration.way, calibration.shot, calibration.classes) == (WAY, SHOT, "validation")
    fitted = answers(said[:HALF])
    known = [(scores, right) for scores, right in fitted if right is not None]
    expected = fit_temperature(np.array([s for s, _ in known]), np.array([right for _, right in known]))
    assert calibration.temperature == pytest.approx(expected, rel=1e-4)

    own = np.sort([max(scores) for scores, _ in known])
    others = np.sort([max(scores) for scores, right in fitted if right is None])

    def balanced(threshold):
        return (
            1 - np.searchsorted(own, threshold) / len(own) + np.searchsorted(others, threshold) / len(others)
        )

    best = max(balanced(threshold) for threshold in [*own, *others])
    assert balanced(calibration.threshold) == pytest.approx(best, abs=1e-12)


def test_errors_are_those_of_the_other_half(found):
    calibration, said = found
    rest = answers(said[HALF:])
    known = [(scores, right) for scores, right in rest if right is not None]
    others = [scores for scores, right in rest if right is None]
    assert len(known) == WAY * len(others) > 0
    for reported, temperature in (
        (calibration.calibration_error, calibration.temperature),
        (calibration.uncalibrated_error, 1),
    ):
        assert reported == pytest.approx(calibration_error(known, temperature), abs=1e-6)
    accepted = sum(max(scores) >= calibration.threshold for scores in others)
    rejected = sum(max(scores) < calibration.threshold for scores, _ in known)
    assert calibration.false_accepts == pytest.approx(accepted / len(others))
    assert calibration.false_rejects == pytest.approx(rejected / len(known))
    rates = calibration.false_accepts, calibration.false_rejects
    assert len({round(rate, 1) for rate in (*rates, *(1 - rate for rate in rates))}) == 4  # none is another


def test_three_classes_of_validation_images_are_needed(tiny, tiny_split):
    labels = tiny.labels[tiny_split.validation_images]
    few = tiny_split.validation_images[labels < labels.unique()[2]]
    with pytest.raises(UserError, match="fewer than 3 classes of validation images"):
        measure(Stub(), tiny, replace(tiny_split, validation_images=few), WAY, SHOT)
