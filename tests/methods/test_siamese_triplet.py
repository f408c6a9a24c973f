"""Triplet losses against pytorch-metric-learning and an enumeration of all triplets."""

import copy
from itertools import product
from math import exp, log, log1p

import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor, nn

from methods.backbones import build
from methods.batches import Balanced, LabelledBatch, TripletBatch, Triplets
from methods.siamese_reptile import SiameseReptile
from methods.siamese_triplet import SiameseTriplet

BOTH = pytest.mark.parametrize("distance", ["cosine", "euclidean"])


def siamese(backbone: nn.Module | None = None, num_classes: int = 8, **changes) -> SiameseTriplet:
    hp = SiameseTriplet.Hyperparameters(**changes)
    return SiameseTriplet(backbone or nn.Identity(), hp, num_classes)


def clouds(spread: float, seed: int = 0) -> LabelledBatch:
    """Five classes of four points in 3 dimensions; the wider spread, the more they overlap."""
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, 1, 3, generator=rng)
    points = centres + spread * torch.randn(5, 4, 3, generator=rng)
    return LabelledBatch(points.flatten(0, 1), torch.arange(5).repeat_interleave(4))


def alike(distance: str, a: Tensor, b: Tensor) -> float:
    """Similarity in plain double precision."""
    x, y = a.double().numpy(), b.double().numpy()
    if distance == "cosine":
        return float(x @ y / (np.sqrt(x @ x) * np.sqrt(y @ y)))
    return -float(np.sqrt(((x - y) ** 2).sum()))


@BOTH
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_soft_mining_equals_nt_xent(distance, temperature):
    batch = clouds(0.7)
    ours = siamese(distance=distance, temperature=temperature)
    embeddings = ours.embed(batch.images).requires_grad_()
    theirs_at = embeddings.detach().clone().requires_grad_()
    loss = ours.soft_triplet_loss(embeddings, batch.labels)
    metric = {} if distance == "cosine" else {"distance": LpDistance(normalize_embeddings=False)}
    theirs = NTXentLoss(temperature=temperature, **metric)(theirs_at, batch.labels)
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-4)
    loss.backward()
    theirs.backward()
    assert embeddings.grad is not None and theirs_at.grad is not None
    if distance == "cosine":  # theirs normalises once more, which takes out the radial part
        radial = (embeddings.grad * embeddings.detach()).sum(1, keepdim=True) * embeddings.detach()
        torch.testing.assert_close(embeddings.grad - radial, theirs_at.grad, rtol=1e-3, atol=1e-4)
    else:
        torch.testing.assert_close(embeddings.grad, theirs_at.grad, rtol=1e-3, atol=1e-4)


@BOTH
def test_soft_mining_equals_a_slow_loop(distance):
    batch = clouds(0.7)
    labels = batch.labels.tolist()
    terms = []
    for a, p in product(range(20), repeat=2):
        if a != p and labels[a] == labels[p]:
            negatives = [
                exp(alike(distance, batch.images[a], batch.images[n]) / 0.1)
                for n in range(20)
                if labels[n] != labels[a]
            ]
            terms.append(
                log1p(exp(log(sum(negatives)) - alike(distance, batch.images[a], batch.images[p]) / 0.1))
            )
    assert len(terms) == 60
    loss = siamese(distance=distance).training_step(batch, 0)
    assert loss.item() == pytest.approx(sum(terms) / 60, rel=1e-4)


def mined(distance: str, mining: str, margin: float, batch: LabelledBatch) -> list[float]:
    """By how much each mined triplet violates the margin (Schroff et al. 2015, section 3.2)."""
    found = []
    labels = batch.labels.tolist()
    for a, p, n in product(range(len(labels)), repeat=3):
        if a == p or labels[a] != labels[p] or labels[a] == labels[n]:
            continue
        near, far = (alike(distance, batch.images[a], batch.images[i]) for i in (p, n))
        chosen = {
            "all": far - near + margin >= 0,
            "hard": far >= near,
            "semihard": near > far and far - near + margin >= 0,
        }
        if chosen[mining]:
            found.append(far - near + margin)
    return found


@BOTH
@pytest.mark.parametrize("mining", ["all", "hard", "semihard"])
@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_mining_equals_an_enumeration(distance, mining, margin):
    batch = clouds(0.5)
    used = margin or {"cosine": 0.3, "euclidean": 1.0}[distance]
    violations = mined(distance, mining, used, batch)
    assert 10 < len(violations) < 1200
    method = siamese(distance=distance, mining=mining, margin=margin)
    assert method.training_step(batch, 0).item() == pytest.approx(sum(violations) / len(violations), rel=1e-4)
    assert len(method.miner(method.embed(batch.images), batch.labels)[0]) == len(violations)


@BOTH
@pytest.mark.parametrize("mining", ["all", "hard", "semihard"])
def test_mining_sees_all_digits_inside_autocast(distance, mining):
    batch = clouds(0.5)
    method = siamese(distance=distance, mining=mining)
    with torch.autocast("cpu", torch.bfloat16):
        inside = method.training_step(batch, 0)
    assert inside.dtype == torch.float32
    assert inside.item() == method.training_step(batch, 0).item()


@BOTH
@pytest.mark.parametrize("mining", ["all", "hard", "semihard"])
def test_without_a_violated_triplet_the_loss_is_zero(distance, mining):
    """Classes far apart: nothing to mend, and nothing to break."""
    points = torch.eye(5).repeat_interleave(4, dim=0) * 100
    torch.manual_seed(0)
    layer = nn.Linear(5, 5)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(5))
        layer.bias.zero_()
    method = siamese(layer, distance=distance, mining=mining)
    batch = LabelledBatch(points, torch.arange(5).repeat_interleave(4))
    assert mined(distance, mining, method.margin, batch) == []
    loss = method.training_step(batch, 0)
    loss.backward()
    assert loss.item() == 0
    assert layer.weight.grad is not None and (layer.weight.grad == 0).all()


@BOTH
@pytest.mark.parametrize("mining", ["soft", "all", "hard", "semihard"])
def test_gradients_are_finite_where_embeddings_coincide(distance, mining):
    layer = nn.Linear(3, 4)
    method = siamese(layer, distance=distance, mining=mining)
    images = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    loss = method.training_step(LabelledBatch(images, torch.tensor([0, 1, 2, 3] * 2)), 0)
    loss.backward()
    assert torch.isfinite(loss) and layer.weight.grad is not None and torch.isfinite(layer.weight.grad).all()


@BOTH
@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_random_triplets_by_hand(distance, margin):
    rng = torch.Generator().manual_seed(0)
    batch = TripletBatch(*(torch.randn(30, 3, generator=rng) for _ in range(3)))
    method = siamese(distance=distance, mining="random", margin=margin)
    used = margin or {"cosine": 0.3, "euclidean": 1.0}[distance]
    violations = [
        alike(distance, a, n) - alike(distance, a, p) + used for a, p, n in zip(*batch, strict=True)
    ]
    kept = [max(0.0, v) for v in violations]
    assert 0.0 in kept  # unlike with mining, satisfied triplets count, with 0
    assert method.training_step(batch, 0).item() == pytest.approx(sum(kept) / 30, rel=1e-4)


@pytest.mark.parametrize("mining", ["soft", "all", "random"])
def test_each_image_goes_through_the_backbone_once(mining):
    calls = []
    backbone = build("conv4")
    backbone.register_forward_hook(lambda module, images, features: calls.append(images[0]))
    method = siamese(backbone, mining=mining)
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(12, 3, 16, 16, generator=rng)
    if mining == "random":
        batch: LabelledBatch | TripletBatch = TripletBatch(*images.chunk(3))
    else:
        batch = LabelledBatch(images, torch.arange(3).repeat_interleave(4))
    loss = method.training_step(batch, 0)
    assert len(calls) == 1 and torch.equal(calls[0], images)
    assert torch.isfinite(loss)


def test_embeddings_have_length_1_where_the_angle_counts():
    torch.manual_seed(0)
    backbone = build("conv4").eval()
    images = torch.randn(6, 3, 16, 16)
    features = backbone(images)
    cosine, euclidean = (
        siamese(copy.deepcopy(backbone), distance=d).eval().embed(images) for d in ("cosine", "euclidean")
    )
    torch.testing.assert_close(cosine.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(cosine, features / features.norm(dim=1, keepdim=True))
    assert torch.equal(euclidean, features)


@BOTH
def test_a_query_takes_the_class_of_the_mean_it_is_most_like(distance):
    rng = torch.Generator().manual_seed(0)
    support, query = torch.randn(2, 4, 3, 6, generator=rng), torch.randn(2, 9, 6, generator=rng)
    method = siamese(distance=distance)
    logits = method.episode_logits(support, query)
    assert logits.shape == (2, 9, 4)
    for e, q, c in product(range(2), range(9), range(4)):
        expected = alike(distance, query[e, q], support[e, c].double().mean(0))
        assert logits[e, q, c].item() == pytest.approx(expected, abs=1e-5)
    similar = method.similarity(query[0], query[1])
    assert similar.tolist() == pytest.approx(
        [alike(distance, a, b) for a, b in zip(query[0], query[1], strict=True)], abs=1e-5
    )


@pytest.mark.parametrize("too_few", [{"classes": 1}, {"images": 1}])
def test_batches_without_triplets_are_refused(too_few):
    with pytest.raises(ValueError, match="at least 2"):
        siamese(**too_few)


def test_batches():
    assert siamese(num_classes=64).batches() == Balanced(32, 4)
    assert siamese(num_classes=10, images=6).batches() == Balanced(10, 6)
    assert siamese(mining="random", triplets=99).batches() == Triplets(99)


@BOTH
def test_new_classes_join_the_means_of_the_base_classes(distance):
    rng = torch.Generator().manual_seed(5)
    base, support, query = (torch.randn(*shape, generator=rng) for shape in ((6, 3), (2, 4, 3), (5, 3)))
    method = siamese(distance=distance)
    logits = method.joint_logits(base, support, query)
    means = [*base, *(sum(own) / 4 for own in support)]
    expected = [[alike(distance, q, m) for m in means] for q in query]
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(method.joint_logits(base, support[:0], query), logits[:, :6])


@BOTH
def test_soft_mining_is_siamese_reptile_s_where_one_class_has_positives(distance):
    a, p, n = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    theirs = SiameseReptile(nn.Identity(), SiameseReptile.Hyperparameters(distance=distance), 8)
    labels = torch.tensor([0] * 12 + [1, 2, 3, 4, 5, 6])
    loss = siamese(distance=distance).training_step(LabelledBatch(torch.cat([a, p, n]), labels), 0)
    assert loss.item() == pytest.approx(theirs.triplet_loss(a, p, n).item(), rel=1e-5)


@BOTH
def test_answers_are_siamese_reptile_s(distance):
    torch.manual_seed(0)
    ours = siamese(build("conv4"), distance=distance).eval()
    theirs = SiameseReptile(ours.backbone, SiameseReptile.Hyperparameters(distance=distance), 8).eval()
    images = torch.randn(12, 3, 16, 16)
    made = ours.embed(images)
    assert torch.equal(made, theirs.embed(images))
    support, query = made[:6].view(1, 3, 2, -1), made[None, 6:]
    assert torch.equal(ours.episode_logits(support, query), theirs.episode_logits(support, query))
    base = torch.randn(4, made.shape[1])
    joint = ours.joint_logits(base, support[0], query[0])
    assert torch.equal(joint, theirs.joint_logits(base, support[0], query[0])) and joint.shape == (6, 7)
    assert torch.equal(ours.similarity(made[:6], made[6:]), theirs.similarity(made[:6], made[6:]))
