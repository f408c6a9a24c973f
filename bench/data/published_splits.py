"""The class lists of the two published splits of CIFAR-100."""

from __future__ import annotations

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
