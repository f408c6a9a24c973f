"""Published splits: class lists, and numbers of classes and images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.data.images import ImageSet

_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
""".split()  # noqa: SIM905

_CIFAR_FS_VALIDATION = """
beaver beetle butterfly camel cattle crab crocodile flatfish lamp maple_tree motorcycle otter sea shark
television tractor
""".split()  # noqa: SIM905

_CIFAR_FS_NOVEL = """
baby bed bicycle chimpanzee fox leopard man pickup_truck plain poppy rocket rose snail sweet_pepper table
telephone wardrobe whale woman worm
""".split()  # noqa: SIM905

CIFAR_FS: dict[str, tuple[str, ...]] = {
    "base": tuple(name for name in _CIFAR100 if name not in {*_CIFAR_FS_VALIDATION, *_CIFAR_FS_NOVEL}),
    "validation": tuple(_CIFAR_FS_VALIDATION),
    "novel": tuple(_CIFAR_FS_NOVEL),
}
"""Classes of CIFAR-FS (Bertinetto et al. 2019, "Meta-learning with differentiable closed-form solvers")."""

FC100: dict[str, tuple[str, ...]] = {
    "base": (
        "fish",
        "flowers",
        "food_containers",
        "fruit_and_vegetables",
        "household_electrical_devices",
        "household_furniture",
        "large_man-made_outdoor_things",
        "large_natural_outdoor_scenes",
        "reptiles",
        "trees",
        "vehicles_1",
        "vehicles_2",
    ),
    "validation": (
        "large_carnivores",
        "large_omnivores_and_herbivores",
        "non-insect_invertebrates",
        "small_mammals",
    ),
    "novel": ("aquatic_mammals", "insects", "medium_mammals", "people"),
}
"""Superclasses of FC100 (Oreshkin et al. 2018, "TADAM")."""

MINI_IMAGENET = {"base": (64, 600), "validation": (16, 600), "novel": (20, 600)}
"""Part -> classes, and images per class (Ravi and Larochelle 2017, "Optimization as a model ...")."""

OMNIGLOT = {"base": (883, 20), "validation": (81, 20), "novel": (659, 20)}
"""Part -> characters, and drawings per character.

Novel are the 20 alphabets of Omniglot's evaluation set, as its authors recommend (Lake et al. 2015). Of the
30 background alphabets the 5 with the fewest characters are validation (Triantafillou et al. 2020,
"Meta-Dataset"). Alphabets are not divided, unlike in the frequently used random split of characters.
"""

OMNIGLOT_VALIDATION = (
    "Alphabet_of_the_Magi",
    "Blackfoot_(Canadian_Aboriginal_Syllabics)",
    "Inuktitut_(Canadian_Aboriginal_Syllabics)",
    "Ojibwe_(Canadian_Aboriginal_Syllabics)",
    "Tagalog",
)


def differences(data: ImageSet, published: Mapping[str, tuple[int, int]]) -> list[str]:
    """Differences between the numbers of classes and images and the published ones, one line each.

    Args:
        data: an image set with its own parts.
        published: part -> number of classes, and of images per class.
    """
    counts = data.labels.bincount(minlength=len(data.class_names)).tolist()
    lines = []
    for part, (classes, each) in published.items():
        own = [i for i, of_class in enumerate(data.part) if of_class == part]
        if len(own) != classes:
            lines.append(f"{len(own)} {part} classes, not {classes}")
        if wrong := [f"{data.class_names[i]} {counts[i]}" for i in own if counts[i] != each]:
            named = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
            lines.append(f"{len(wrong)} {part} classes do not have {each} images: {named}")
    return lines
