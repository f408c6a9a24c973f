"""Normalisation goes by the base training images alone."""

import numpy as np
import pytest
import torch

from bench.data.normalisation import Normaliser
from bench.data.splits import resolve


def test_normalisation_of_cifar100(cifar100):
    split = resolve(cifar100, "100-0")
    normalise = Normaliser(cifar100.images, split.train)
    # The constants that the literature gives for CIFAR-100's 50,000 training images.
    mean, std = (0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)
    assert normalise.mean.flatten().tolist() == pytest.approx([255 * m for m in mean], abs=1e-3)
    assert normalise.std.flatten().tolist() == pytest.approx([255 * s for s in std], abs=1e-3)


def test_normalisation_sees_base_training_images_alone(noise):
    split = resolve(noise, "50-50")
    normalise = Normaliser(noise.images, split.train)
    base = noise.images[split.train].numpy().astype(np.float64)
    assert normalise.mean.flatten().tolist() == pytest.approx(base.mean(axis=(0, 2, 3)), rel=1e-6)
    assert normalise.std.flatten().tolist() == pytest.approx(base.std(axis=(0, 2, 3)), rel=1e-6)
    for index in (split.novel_images, split.base_test, split.validation_images):
        changed = noise.images.clone()
        changed[index] = 255 - changed[index]
        again = Normaliser(changed, split.train)
        assert torch.equal(again.mean, normalise.mean) and torch.equal(again.std, normalise.std)
    changed = noise.images.clone()
    changed[split.train[0]] = 255
    assert not torch.equal(Normaliser(changed, split.train).mean, normalise.mean)


def test_normalised_images_have_mean_0_and_deviation_1(noise):
    split = resolve(noise, "50-50")
    normalise = Normaliser(noise.images, split.train)
    made = normalise(noise.images[split.train])
    assert made.dtype == torch.float32 and made.is_contiguous(memory_format=torch.channels_last)
    assert made.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert made.std(dim=(0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_images_of_one_grey_are_normalised_to_zero():
    images = torch.full((4, 3, 8, 8), 77, dtype=torch.uint8)
    assert Normaliser(images, torch.arange(4))(images).abs().max() == 0
