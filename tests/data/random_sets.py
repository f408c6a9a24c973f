"""Image sets of noise, and what holds for every split of one."""

import numpy as np

from bench.data.images import ImageSet
from bench.data.splits import Split


def random_set(
    classes: int, each: int, held_out: int = 0, superclasses: int = 0, prefix: str = "c"
) -> ImageSet:
    """Noise of 8 x 8 pixels; the last `held_out` of each class are set aside."""
    rng = np.random.default_rng(classes)
    digits = len(str(classes - 1))
    return ImageSet.build(
        "noise",
        rng.integers(0, 256, (classes * each, 3, 8, 8), dtype=np.uint8),
        np.repeat(np.arange(classes), each),
        np.tile(np.arange(each) >= each - held_out, classes),
        [f"{prefix}{c:0{digits}d}" for c in range(classes)],
        [f"s{c * superclasses // classes:02d}" for c in range(classes)] if superclasses else None,
    )


def assert_sound(data: ImageSet, split: Split) -> None:
    """What holds for every split, in terms of labels and Python sets."""
    labels = data.labels.tolist()
    base, validation, novel = set(split.base), set(split.validation), set(split.novel)
    assert len(base) + len(validation) + len(novel) == len(base | validation | novel)
    parts = (split.train, split.validation_images, split.base_test, split.novel_images)
    images = [part.tolist() for part in parts]
    assert all(part == sorted(part) for part in images)
    assert sum(len(part) for part in images) == len({i for part in images for i in part})
    train, validation_images, base_test, novel_images = ({labels[i] for i in part} for part in images)
    assert train == base and novel_images == novel
    assert base_test <= base and validation_images <= (validation or base)
