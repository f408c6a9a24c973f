"""Training batches: what is in them, where it comes from, and that it is the same again."""

from collections import Counter
from dataclasses import replace
from itertools import islice, product

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy.stats import chisquare
from torchvision.transforms import functional as reference

from bench.data.augmentation import augmented, jitter
from bench.data.normalisation import Normaliser
from bench.sampling.episodes import ClassPool
from bench.training.batches import TrainingBatches, check_fit
from methods.batches import (
    Balanced,
    EpisodeBatch,
    Episodes,
    LabelledBatch,
    PairBatch,
    Pairs,
    Shuffled,
    TripletBatch,
    Triplets,
)

SPECS = [Shuffled(20), Balanced(3, 4), Pairs(6), Triplets(5), Episodes(3, 2, 4, episodes=2)]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def make(tiny, tiny_split):
    normalise = Normaliser(tiny.images, tiny_split.train)

    def made(spec, seed=0) -> TrainingBatches:
        return TrainingBatches(tiny, tiny_split, spec, normalise, seed, CPU)

    return made


def first(batches, count: int = 1) -> list:
    return list(islice(iter(batches), count))


def test_shapes(make):
    image = (3, 16, 16)
    labelled, balanced, pairs, triplets, episodes = (first(make(spec))[0] for spec in SPECS)
    assert isinstance(labelled, LabelledBatch) and isinstance(balanced, LabelledBatch)
    assert labelled.images.shape == (20, *image) and labelled.labels.shape == (20,)
    assert balanced.images.shape == (12, *image) and balanced.labels.shape == (12,)
    assert isinstance(pairs, PairBatch) and isinstance(triplets, TripletBatch)
    assert pairs.a.shape == pairs.b.shape == (6, *image) and pairs.same.shape == (6,)
    assert all(part.shape == (5, *image) for part in triplets)
    assert isinstance(episodes, EpisodeBatch)
    assert episodes.support.shape == (2, 3, 2, *image) and episodes.query.shape == (2, 12, *image)
    assert episodes.labels.shape == (2, 12) and episodes.classes.shape == (2, 3)
    for batch in (labelled, balanced, pairs, triplets, episodes):
        for tensor in batch:
            floats = tensor.ndim > 2 or tensor is pairs.same
            assert tensor.dtype == (torch.float32 if floats else torch.int64)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_the_seed_decides(make, spec):
    once, again, other = (first(make(spec, seed), 3) for seed in (5, 5, 6))
    for left, right, different in zip(once, again, other, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))
        assert not torch.equal(left[0], different[0])
    assert not torch.equal(once[0][0], once[1][0])


def test_labels_are_base_classes_from_0_on(tiny, tmp_path, class_of, tiny_split):
    """Base classes scattered over the data set are numbered without gaps."""
    from bench.data.splits import resolve

    path = tmp_path / "scattered.csv"
    path.write_text("class,part\n" + "".join(f"class{c:02d},base\n" for c in (3, 7, 11, 18)))
    split = resolve(tiny, str(path))
    batches = TrainingBatches(tiny, split, Balanced(4, 2), lambda images: images.float(), 0, CPU)
    batches._take = lambda index, generator: batches.images[torch.from_numpy(index)]
    owners = {tiny.images[i].numpy().tobytes(): int(tiny.labels[i]) for i in split.train.tolist()}
    seen = set()
    for batch in first(batches, 10):
        for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
            seen.add((owners[image.numpy().tobytes()], label))
    assert seen == {(3, 0), (7, 1), (11, 2), (18, 3)}


def test_shuffled_sees_every_image_once_an_epoch(raw_batches, tiny_split, class_of):
    assert len(tiny_split.train) == 240
    epochs = []
    for epoch in range(2):
        batches = first(raw_batches(Shuffled(20)), 24)[12 * epoch : 12 * epoch + 12]
        images = torch.cat([batch.images for batch in batches])
        labels = torch.cat([batch.labels for batch in batches])
        assert labels.tolist() == class_of(images)
        assert len({image.numpy().tobytes() for image in images}) == 240
        assert set(Counter(labels.tolist()).values()) == {30}
        epochs.append(images)
    assert not torch.equal(*epochs)


def test_shuffled_leaves_out_what_fills_no_batch(raw_batches):
    batches = first(raw_batches(Shuffled(100)), 4)
    assert [len(batch.images) for batch in batches] == [100] * 4
    for epoch in (batches[:2], batches[2:]):
        assert len({image.numpy().tobytes() for batch in epoch for image in batch.images}) == 200
    (all_there_are,) = first(raw_batches(Shuffled(1000)))
    assert len({image.numpy().tobytes() for image in all_there_are.images}) == 240


def test_balanced_has_p_classes_of_k_images(raw_batches, class_of):
    seen = Counter()
    for batch in first(raw_batches(Balanced(3, 4)), 400):
        labels = batch.labels.tolist()
        assert labels == class_of(batch.images)
        assert sorted(Counter(labels).values()) == [4, 4, 4]
        assert labels == [c for c in labels[::4] for _ in range(4)]
        assert len({image.numpy().tobytes() for image in batch.images}) == 12
        seen.update(labels[::4])
    assert chisquare([seen[c] for c in range(8)]).pvalue > 0.001


def test_pairs_are_half_same(raw_batches, class_of):
    for batch in first(raw_batches(Pairs(6)), 300):
        same = [a == b for a, b in zip(class_of(batch.a), class_of(batch.b), strict=True)]
        assert same == batch.same.bool().tolist() and sum(same) == 3
        assert all(not torch.equal(a, b) for a, b in zip(batch.a, batch.b, strict=True))


def test_triplets_have_the_right_classes(raw_batches, class_of):
    batches = first(raw_batches(Triplets(5)), 300)  # more than are drawn at once
    for batch in batches:
        anchor, positive, negative = (class_of(part) for part in batch)
        assert anchor == positive and all(a != n for a, n in zip(anchor, negative, strict=True))
        assert all(not torch.equal(a, p) for a, p in zip(batch.anchor, batch.positive, strict=True))
    assert not torch.equal(batches[0].anchor, batches[256].anchor)


def test_episodes_have_the_right_labels(raw_batches, class_of):
    for batch in first(raw_batches(Episodes(3, 2, 4, episodes=2)), 150):
        for support, query, labels in zip(*batch[:3], strict=True):
            classes = class_of(support[:, 0])
            assert classes == class_of(support[:, 1]) and len(set(classes)) == 3
            assert class_of(query) == [classes[label] for label in labels]
            assert len({i.numpy().tobytes() for i in [*support.flatten(0, 1), *query]}) == 18
            assert sorted(Counter(labels.tolist()).values()) == [4, 4, 4]
            assert labels.tolist() != sorted(labels.tolist())


def test_more_episodes_a_step_than_are_drawn_at_once(raw_batches):
    """The stream is the same list however it is cut into steps."""
    spec = {n: first(raw_batches(Episodes(2, 1, 1, episodes=n)), -(-600 // n)) for n in (1, 3, 300)}
    joined = [torch.cat([batch.query for batch in batches])[:600] for batches in spec.values()]
    assert [len(batch.query) for batch in spec[300]] == [300, 300]
    assert torch.equal(joined[0], joined[1]) and torch.equal(joined[0], joined[2])


def test_only_base_training_images_are_held(tiny, tiny_split, make):
    batches = make(Shuffled(8))
    assert torch.equal(batches.images, tiny.images[tiny_split.train])
    assert batches.images.data_ptr() != tiny.images.data_ptr()
    assert batches.images.untyped_storage().nbytes() == len(tiny_split.train) * 3 * 16 * 16


def variants(image: torch.Tensor, pad: int) -> dict[bytes, tuple[int, int, bool]]:
    """Every crop of the zero-padded image, plain and flipped, by torchvision."""
    padded = reference.pad(image, [pad] * 4, fill=0)
    found = {}
    for top, left in product(range(2 * pad + 1), repeat=2):
        crop = reference.crop(padded, top, left, *image.shape[1:])
        found[crop.numpy().tobytes()] = (top, left, False)
        found[reference.hflip(crop).numpy().tobytes()] = (top, left, True)
    return found


@pytest.mark.parametrize("size, pad", [(16, 2), (32, 4), (8, 1)])
def test_augmentation_is_torchvision_s_pad_crop_and_flip(size, pad):
    images = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (4, 3, size, size), dtype=np.uint8))
    known = [variants(image, pad) for image in images]
    places = Counter()
    rounds = 40 * (2 * pad + 1) ** 2 // 4
    made = augmented(images.repeat(rounds, 1, 1, 1), torch.Generator().manual_seed(0), ("crop", "flip"))
    assert made.dtype == torch.uint8
    for i, image in enumerate(made):
        places[known[i % 4][image.numpy().tobytes()]] += 1
    # Each place, flipped and not, is equally likely.
    observed = [places[place] for place in product(range(2 * pad + 1), range(2 * pad + 1), (False, True))]
    assert sum(observed) == 4 * rounds and chisquare(observed).pvalue > 0.001


def test_images_of_a_batch_are_augmented_one_by_one():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(64, 3, 1, 1)
    made = augmented(images, torch.Generator().manual_seed(0), ("crop", "flip", "jitter"))
    assert len({image.numpy().tobytes() for image in made}) > 30


def test_batches_are_augmented_and_then_normalised(make, tiny, tiny_split):
    """Pixels outside the image are black before normalisation, not the mean colour after it."""
    normalise = Normaliser(tiny.images, tiny_split.train)
    known = {}
    for i in tiny_split.train.tolist():
        known |= variants(tiny.images[i], 2)
    (batch,) = first(make(Balanced(4, 4)))
    for image in batch.images:
        pixels = (image * normalise.std + normalise.mean).round().to(torch.uint8)
        assert pixels.numpy().tobytes() in known


def test_classes_of_an_episode_are_told(raw_batches, class_of):
    for batch in first(raw_batches(Episodes(3, 2, 4, episodes=2)), 3):
        for e in range(2):
            classes = batch.classes[e].tolist()
            assert [class_of(shots) for shots in batch.support[e]] == [[c, c] for c in classes]
            assert class_of(batch.query[e]) == [classes[label] for label in batch.labels[e]]


def test_a_method_may_ask_for_classes(tiny, tiny_split, class_of):
    wanted = torch.tensor([[5, 0, 2], [1, 7, 6]])
    asked = iter([None, wanted])
    spec = Episodes(3, 2, 4, episodes=2)
    batches = TrainingBatches(tiny, tiny_split, spec, lambda i: i.float(), 0, CPU, lambda: next(asked))
    batches._take = lambda index, generator: batches.images[torch.from_numpy(index)]
    by_chance, chosen = first(batches, 2)
    assert not torch.equal(by_chance.classes, wanted) and torch.equal(chosen.classes, wanted)
    for e in range(2):
        assert [class_of(shots) for shots in chosen.support[e]] == [[c, c] for c in wanted[e].tolist()]
        assert class_of(chosen.query[e]) == [wanted[e, label] for label in chosen.labels[e]]
        images = torch.cat([chosen.support[e].flatten(0, 1), chosen.query[e]]).flatten(1)
        assert len(images.unique(dim=0)) == len(images)  # no image is support and query


def test_characters_are_not_flipped(tiny, tiny_split):
    images = tiny.images[:40]
    plain, flipped = (
        augmented(images, torch.Generator().manual_seed(0), names) for names in (["crop"], ["crop", "flip"])
    )
    for own, either, image in zip(plain, flipped, images, strict=True):
        assert not variants(image, 2)[own.numpy().tobytes()][2]
        assert torch.equal(either, own) or torch.equal(either, own.flip(-1))
    for name, wanted in (("glyphs", False), ("omniglot", False), ("mnist", False), ("cifar100", True)):
        data = replace(tiny, name=name)
        batches = TrainingBatches(data, tiny_split, Shuffled(4), lambda i: i.float(), 0, CPU)
        assert ("flip" in batches.augment) is wanted


def test_no_augmentation_gives_the_images_as_they_are(tiny, tiny_split):
    """Where left and right matter, as with arrows."""
    known = {image.numpy().tobytes() for image in tiny.images[tiny_split.train]}
    for augment, expected in (([], True), (["flip"], False)):
        batches = TrainingBatches(
            tiny, tiny_split, Shuffled(64), lambda i: i.float(), 0, CPU, augment=augment
        )
        (batch,) = first(batches)
        assert all(i.byte().numpy().tobytes() in known for i in batch.images) is expected


@pytest.mark.parametrize(
    "factors", [(0.6, 1, 1), (1.4, 1, 1), (1, 0.6, 1), (1, 1.4, 1), (1, 1, 0), (1.2, 0.7, 1.3)]
)
def test_jitter_is_pillow_s_enhancement(factors):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for enhancer, factor in zip(enhancers, factors, strict=True):
        image = enhancer(image).enhance(factor)
    images = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]
    made = jitter(images, *(torch.tensor([float(factor)]) for factor in factors))
    difference = made[0].numpy().transpose(1, 2, 0).astype(int) - np.asarray(image).astype(int)
    assert abs(difference).max() <= 3  # Pillow rounds after each step


@pytest.mark.parametrize("spec", [Pairs(4), Triplets(4)])
def test_pairs_and_triplets_need_two_images_of_each_of_two_classes(spec):
    assert check_fit(spec, ClassPool(np.array([0, 0, 1, 1]))) == ""
    with pytest.raises(ValueError, match="needs 2 training images per class; the smallest base class has 1"):
        check_fit(spec, ClassPool(np.array([0, 0, 1])))
    with pytest.raises(ValueError, match="trains on 2 classes per batch; there are 1 base classes"):
        check_fit(spec, ClassPool(np.array([0, 0])))
