"""Temperature scaling finds the temperature that was used; the calibration error is that of a plain loop."""

import numpy as np
import pytest

from bench.statistics import expected_calibration_error, fit_temperature


def simulated(temperature: float, n: int = 40_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and labels that are right as often as ``softmax(scores / temperature)`` says."""
    rng = np.random.default_rng(seed)
    scores = temperature * rng.normal(0, 2, (n, 5))
    chances = np.exp(scores / temperature)
    chances /= chances.sum(1, keepdims=True)
    return scores, (chances.cumsum(1) > rng.random((n, 1))).argmax(1)


@pytest.mark.parametrize("temperature", [0.05, 1.0, 40.0])
def test_the_temperature_of_the_labels_is_found(temperature):
    scores, labels = simulated(temperature)
    assert fit_temperature(scores, labels) == pytest.approx(temperature, rel=0.03)
    assert expected_calibration_error(scores / temperature, labels) < 0.01
    assert expected_calibration_error(3 * scores / temperature, labels) > 0.1


def test_answers_that_are_always_right_are_not_certain():
    """As Platt's targets: the right class has probability (n + 1) / (n + classes)."""
    labels = np.arange(400) % 4
    scores = np.eye(4)[labels]
    error = expected_calibration_error(scores / fit_temperature(scores, labels), labels)
    assert error == pytest.approx(3 / 404, rel=1e-3)


def test_the_error_is_that_of_its_definition():
    scores, labels = simulated(1.0, n=500)
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    confidence, right = chances.max(1), chances.argmax(1) == labels
    expected = 0.0
    for number in range(15):
        inside = (confidence >= number / 15) & (confidence < (number + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_a_certain_answer_is_in_the_last_bin():
    assert expected_calibration_error(np.array([[1000.0, 0.0]]), np.array([1])) == 1.0
