"""Calibration of probabilities: temperature scaling, and how far probabilities are from frequencies."""

from __future__ import annotations

import numpy as np

LOWEST, HIGHEST = -12.0, 12.0  # log of the temperature: scores may be cosines or squared distances
BINS = 15  # of the calibration error


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T that minimises the cross-entropy of ``softmax(logits / T)``.

    One number for all answers, so that no answer changes. The cross-entropy is convex in 1/T, so the minimum
    is found by bounded search. As many answers as there are classes are added, one of each class: otherwise
    n answers that are all right would give probabilities of 1.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2; the added answers: Platt
    1999, Probabilistic Outputs for Support Vector Machines, section 2.2.

    Args:
        logits: ``[n, C]`` finite. labels: int ``[n]``, the right columns.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    centred = logits - logits[np.arange(len(labels)), labels][:, None]

    n, classes = centred.shape
    added = classes / (n + classes)

    def cross_entropy(log_temperature: float) -> float:
        scaled = centred / np.exp(log_temperature)
        return float(logsumexp(scaled, axis=1).mean() - added * scaled.mean())

    found = minimize_scalar(
        cross_entropy, bounds=(LOWEST, HIGHEST), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x))


def expected_calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean difference between the probability of an answer and the share of right answers.

    Answers are put into bins of equal width by their probability; the differences of the bins' means are
    averaged with the numbers of answers as weights. It is biased upwards for few answers per bin.

    Source: Naeini et al. 2015; Guo et al. 2017, section 2, with 15 bins.

    Args:
        logits: ``[n, C]``, of ``softmax(logits)``. labels: int ``[n]``, the right columns.
    """
    from scipy.special import softmax

    probabilities = softmax(logits, axis=1)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bin_of = np.minimum((confidence * BINS).astype(int), BINS - 1)
    differences = np.bincount(bin_of, weights=right - confidence, minlength=BINS)
    return float(np.abs(differences).sum() / len(labels))
