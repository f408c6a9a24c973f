"""EASY: mixing, turning, views and schedule against slow references."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from bench.common.progress import Progress
from bench.data.normalisation import Normaliser
from bench.training.loop import train
from methods.backbones import build
from methods.base_classifier import BaseClassifier
from methods.batches import LabelledBatch
from methods.distillation import distillation_loss
from methods.easy import Easy, cyclic
from methods.pretraining import Pretraining

N, CLASSES = 16, 6


def method(**changes) -> Easy:
    torch.manual_seed(0)
    return Easy(build("conv4", image_size=16), Easy.Hyperparameters(**changes), CLASSES)


def batch() -> LabelledBatch:
    rng = torch.Generator().manual_seed(1)
    images = torch.randn(N, 3, 16, 16, generator=rng)
    return LabelledBatch(images, torch.randint(CLASSES, (N,), generator=rng))


def loss_of(ours: Easy) -> torch.Tensor:
    torch.manual_seed(5)
    return copy.deepcopy(ours).train().training_step(batch(), 0)


def features(ours: Easy, images: torch.Tensor) -> torch.Tensor:
    return copy.deepcopy(ours.backbone).train()(images)


def turned(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A quarter of the images by 0, 90, 180 and 270 degrees each, by numpy."""
    turns = np.repeat(np.arange(4), len(images) // 4)
    pictures = [np.rot90(i.numpy(), k, axes=(1, 2)).copy() for i, k in zip(images, turns, strict=True)]
    return torch.from_numpy(np.stack(pictures)), torch.from_numpy(turns)


def test_without_both_it_is_a_plain_classifier():
    ours, (images, labels) = method(rotations=False, mixup=0.0), batch()
    expected = F.cross_entropy(ours.head(features(ours, images)), labels)
    torch.testing.assert_close(loss_of(ours), expected)


def test_rotated_images_keep_their_class_and_get_a_rotation_label():
    ours, (images, labels) = method(mixup=0.0), batch()
    half = N // 2  # the other half, that of `mixup`, is plain
    pictures, turns = turned(images[half:])
    found = features(ours, torch.cat([images[:half], pictures]))
    classes = F.cross_entropy(ours.head(found), labels, reduction="none")
    turning = F.cross_entropy(ours.turn_head(found[half:]), turns, reduction="none")
    expected = torch.cat([classes[:half], (classes[half:] + turning) / 2]).mean()
    torch.testing.assert_close(loss_of(ours), expected)


def test_mixed_images_have_two_labels_by_their_shares():
    ours, (images, labels) = method(rotations=False, mixup=2.0), batch()
    torch.manual_seed(5)
    share = float(torch.distributions.Beta(2.0, 2.0).sample())
    half = N // 2  # the other half, that of `rotations`, is plain
    others = [(i - 1) % half for i in range(half)]
    blended = torch.stack([share * images[i] + (1 - share) * images[others[i]] for i in range(half)])
    logits = ours.head(features(ours, torch.cat([blended, images[half:]]))).log_softmax(1)
    expected = [
        -share * logits[i, labels[i]] - (1 - share) * logits[i, labels[others[i]]] for i in range(half)
    ] + [-logits[i, labels[i]] for i in range(half, N)]
    torch.testing.assert_close(loss_of(ours), torch.stack(expected).mean())


def test_half_of_a_batch_is_mixed_and_half_is_turned(monkeypatch):
    ours, (images, _) = method(), batch()
    seen = []
    forward = ours.backbone.forward
    monkeypatch.setattr(ours.backbone, "forward", lambda x: seen.append(x) or forward(x))
    ours.train().training_step(batch(), 0)
    torch.testing.assert_close(seen[0][N // 2 :], turned(images[N // 2 :])[0])
    assert not torch.isclose(seen[0][: N // 2], images[: N // 2]).all(dim=(1, 2, 3)).any()


def test_the_mean_feature_is_that_of_upright_images():
    ours, (images, _) = method(mixup=0.0), batch()
    half = N // 2
    found = features(ours, torch.cat([images[:half], turned(images[half:])[0]]))[: half + N // 8].mean(0)
    ours.train().training_step(batch(), 0)
    torch.testing.assert_close(ours.mean, 0.1 * found)


def test_a_student_learns_from_its_teacher_too():
    changes = {"rotations": False, "mixup": 0.0, "steps": 10}
    plain, ours, (images, _) = method(**changes), method(**changes, distillation=0.4), batch()
    assert (ours.training_steps, ours.pretraining) == (5, Pretraining(5, 128))
    assert plain.training_steps == 10 and plain.pretraining is None
    torch.manual_seed(3)
    teacher = BaseClassifier(build("conv4", image_size=16), Pretraining(1), CLASSES).eval()
    ours.start_from(teacher)
    says = teacher.head(teacher.embed(images))
    expected = 0.6 * loss_of(plain) + 0.4 * distillation_loss(ours.head(features(ours, images)), says)
    torch.testing.assert_close(loss_of(ours), expected)


@pytest.mark.parametrize("crops, shifts", [(1, [0]), (9, [-1, 0, 1])])
@pytest.mark.parametrize("mirror", [False, True])
def test_an_image_is_the_mean_of_its_views(crops, shifts, mirror):
    ours, (images, _) = method(crops=crops, mirror=mirror).eval(), batch()
    ours.mean.fill_(0.1)
    total, views = torch.zeros(N, ours.backbone.dim), 0
    for y in shifts:
        for x in shifts:
            rows, columns = (np.clip(np.arange(16) + by, 0, 15) for by in (y, x))  # edges are repeated
            crop = images[:, :, rows][..., columns]
            for view in [crop, crop.flip(-1)][: 1 + mirror]:
                total, views = total + ours.backbone(view), views + 1
    expected = nn.functional.normalize(total / views - 0.1, dim=1)
    torch.testing.assert_close(ours.embed(images), expected)
    torch.testing.assert_close(ours.embed(images[:1]), expected[:1])  # whatever else is in the batch


def test_five_crops_are_the_corners_and_the_centre():
    ours, images = method(crops=5, mirror=False), torch.arange(256.0).reshape(1, 1, 16, 16)
    assert [int(view[0, 0, 8, 8]) for view in ours.views(images)] == [136, 119, 121, 151, 153]


def test_the_rate_follows_cosine_cycles():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = CosineAnnealingWarmRestarts(optimizer, T_0=20)
    for step in range(100):
        expected = 0.9 ** (step // 20) * scheduler.get_last_lr()[0]
        assert cyclic(step, 100) == pytest.approx(expected)
        optimizer.step()
        scheduler.step()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="images must be at least 8 with rotations"):
        method(images=7)
    assert method(images=7, rotations=False)


def test_validation_in_training_embeds_one_view(tiny, tiny_split, tmp_path):
    torch.manual_seed(0)
    ours = Easy(build("conv4", image_size=16), Easy.Hyperparameters(steps=2, images=16), 8)
    views = []
    ours.views = lambda images: views.append(len(images)) or Easy.views(ours, images)
    normalise = Normaliser(tiny.images, tiny_split.train)
    where = {"device": torch.device("cpu"), "run_dir": tmp_path, "progress": Progress(io.StringIO())}
    found = train(ours, tiny, tiny_split, normalise, seed=0, precision="32-true", **where)
    assert found.best_validation is not None and not views
    ours.eval().embed(torch.randn(2, 3, 16, 16))
    assert views == [2]
