"""Distances against scipy's."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from methods.distances import Cosine, Dot, Euclidean, SquaredEuclidean

REFERENCE = {
    Cosine: lambda a, b: 1 - cdist(a, b, "cosine"),
    Euclidean: lambda a, b: -cdist(a, b, "euclidean"),
    SquaredEuclidean: lambda a, b: -cdist(a, b, "sqeuclidean"),
    Dot: lambda a, b: a @ b.T,
}
ALL = pytest.mark.parametrize("distance", REFERENCE, ids=lambda distance: distance.__name__)


def embeddings(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(1, 2, shape))


@ALL
def test_matrix(distance):
    a, b = embeddings(40, 16), embeddings(30, 16, seed=1)
    expected = REFERENCE[distance](a.numpy(), b.numpy())
    made = distance().matrix(a, b)
    assert made.dtype == torch.float32
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-4, atol=1e-4)


@ALL
def test_batches_of_matrices(distance):
    a, b = embeddings(2, 3, 7, 16), embeddings(2, 3, 5, 16, seed=1)
    made = distance().matrix(a, b)
    assert made.shape == (2, 3, 7, 5)
    for i in range(2):
        for j in range(3):
            expected = REFERENCE[distance](a[i, j].numpy(), b[i, j].numpy())
            np.testing.assert_allclose(made[i, j].numpy(), expected, rtol=1e-4, atol=1e-4)


@ALL
def test_rows(distance):
    a, b = embeddings(40, 16), embeddings(40, 16, seed=1)
    expected = np.diag(REFERENCE[distance](a.numpy(), b.numpy()))
    made = distance().rows(a, b)
    assert made.shape == (40,) and made.dtype == torch.float32
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-5, atol=1e-5)


@ALL
def test_inside_autocast_all_digits_are_kept(distance):
    """bfloat16 has 8 bits of mantissa; a rounded product would be off by about 0.4%."""
    a, b = embeddings(40, 64).float(), embeddings(40, 64, seed=1).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert (a @ b.T).dtype == torch.bfloat16
        matrix, rows = distance().matrix(a, b), distance().rows(a, b)
    assert matrix.dtype == rows.dtype == torch.float32
    torch.testing.assert_close(matrix, distance().matrix(a, b), rtol=0, atol=0)
    torch.testing.assert_close(rows, distance().rows(a, b), rtol=0, atol=0)


@ALL
def test_half_precision_embeddings_are_compared_in_single(distance):
    a, b = embeddings(8, 16).bfloat16(), embeddings(8, 16, seed=1).bfloat16()
    expected = REFERENCE[distance](a.double().numpy(), b.double().numpy())
    for made, wanted in ((distance().matrix(a, b), expected), (distance().rows(a, b), np.diag(expected))):
        assert made.dtype == torch.float32
        np.testing.assert_allclose(made.numpy(), wanted, rtol=1e-4, atol=1e-4)


@ALL
def test_an_embedding_is_most_like_itself(distance):
    a = torch.nn.functional.normalize(embeddings(20, 8), dim=1)
    assert (distance().matrix(a, a).argmax(dim=1) == torch.arange(20)).all()


@ALL
def test_gradients_are_finite_where_embeddings_meet(distance):
    """The slope of a norm at 0 is where a distance turns into NaN."""
    a = embeddings(6, 4).float().requires_grad_()
    (distance().matrix(a, a).sum() + distance().rows(a, a.detach()).sum()).backward()
    assert a.grad is not None and torch.isfinite(a.grad).all()


def test_the_zero_vector_has_no_direction():
    zero, one = torch.zeros(1, 3), torch.ones(1, 3)
    assert Cosine().matrix(zero, one).item() == Cosine().rows(zero, one).item() == 0
