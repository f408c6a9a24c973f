"""Names of data sets and splits, checked before heavy imports and before reading data."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bench.common.errors import UserError, one_of
from bench.common.files import is_file

IMAGE_SIZES = range(8, 1025)
DEFAULT_IMAGE_SIZE = 32


class DataSet(NamedTuple):
    """What is known of a data set before it is read.

    Attributes:
        about: one line for users.
        licence: of its images.
        largest_size: largest useful image size, if images are resized when loaded; None for a fixed size.
        characters: of characters, which are not flipped by default: mirrored they are others, or none.
    """

    about: str
    licence: str
    largest_size: int | None = None
    characters: bool = False


DATASETS = {
    "cifar100": DataSet(
        "60,000 photographs of 32x32 pixels, 100 classes in 20 superclasses (Krizhevsky 2009)", "none stated"
    ),
    "glyphs": DataSet(
        "60,000 generated pictures of characters, same shape as cifar100; nothing to download",
        "MIT, like the code",
        characters=True,
    ),
    "letters": DataSet(
        "49,100 generated pictures of 491 letters and digits, dark on light; nothing to download",
        "MIT, like the code",
        characters=True,
    ),
    "mini-imagenet": DataSet(
        "60,000 photographs of 84x84 pixels, 100 classes of ImageNet (Vinyals et al. 2016)",
        "ImageNet's terms: research and education, not commercial",
    ),
    "omniglot": DataSet(
        "32,460 drawings, at 28x28 pixels: 1,623 characters of 50 alphabets (Lake et al. 2015)",
        "MIT",
        largest_size=105,  # its original size
        characters=True,
    ),
    "mnist": DataSet(
        "70,000 handwritten digits of 28x28 pixels, 10 classes (LeCun et al. 1998)",
        "CC BY-SA 3.0",
        characters=True,
    ),
    "folder:PATH": DataSet(
        "your own images: PATH/<class>/<image> or PATH/{train,val,test}/<class>/<image>",
        "unknown; ask the owner of the images",
        IMAGE_SIZES.stop - 1,
    ),
    "hf:NAME": DataSet(
        "a Hugging Face data set, by name or local folder; needs the extra hf",
        "unknown; see the data set's page on the hub, or ask the owner of the images",
        IMAGE_SIZES.stop - 1,
    ),
}

_KINDS = {name.partition(":")[0]: one for name, one in DATASETS.items()}

TENS = range(10, 91, 10)
ARROW = " -> "  # between two data sets: base classes are from the first, novel ones from the second
FOREIGN = "foreign"  # part of the second one's classes
DEFAULT_SPLIT = "90-10"
GIVEN = "own"  # the split that the parts of folder:, hf: and published data sets give
OWN = ("mini-imagenet", "omniglot")  # splits that come with the data set of the same name
BASE, BASE_AND_VALIDATION = "base", "base+val"  # classes that are trained on
NO_NOVEL = "100-0"
NO_BASE = "all-novel"  # all classes are novel: for encoders that are not trained
INVISIBLE = re.compile("[\u200b\ufeff]")  # spaces of no width, which str.strip keeps
RATIOS = (*(f"{base}-{100 - base}" for base in TENS), NO_NOVEL)
PUBLISHED = ("cifar-fs", "fc100", *OWN)
SPLITS = {
    **{
        ratio: f"the first {ratio.partition('-')[0]}% of the classes (A-Z) are base, the rest novel"
        for ratio in RATIOS[:-1]
    },
    "ratios": "with run: all ten, from 10-90 to 90-10 and, if it can be measured, 100-0",
    NO_NOVEL: "all classes are base; without novel classes there are no few-shot numbers",
    NO_BASE: "all classes are novel: for frozen encoders with timm's weights (--no-train)",
    "B-N@SEED": "the same sizes with the classes drawn by the seed, e.g. 90-10@3",
    "cifar-fs": "64 base, 16 validation, 20 novel classes (Bertinetto et al. 2019)",
    "fc100": "60 base, 20 validation, 20 novel classes, by superclass (Oreshkin et al. 2018)",
    "mini-imagenet": "64 base, 16 validation, 20 novel classes of mini-imagenet (Ravi and Larochelle 2017)",
    "omniglot": "883 base, 81 validation, 659 novel characters of omniglot, by alphabet (Lake et al. 2015)",
    GIVEN: "classes of a data set's own train, (val) and test parts are base, (validation) and novel",
    "FILE.csv": "your own: a CSV with the columns class,part (part: base, validation or novel)",
}


def canonical(dataset: str) -> str:
    """Canonical form of a data set's name: ``folder:./T/`` is ``folder:T``."""
    if ARROW in dataset:
        return ARROW.join(map(canonical, dataset.split(ARROW)))
    kind, _, place = dataset.partition(":")
    if kind != "folder" or not place:
        return dataset
    path = str(Path(place))
    # Without its ./ this would be a user's home folder.
    return dataset if path.startswith("~") and not place.startswith("~") else f"folder:{path}"


def data_set(dataset: str) -> DataSet:
    """What is known of a data set: of the first, which has the base classes, where two are joined."""
    return _KINDS.get(dataset.partition(ARROW)[0].partition(":")[0], DataSet("", "unknown"))


def class_key(name: str) -> str:
    """Key that is equal for names of one class: without case, Unicode form, outer spaces and invisible text.

    Normalised with NFC, which keeps the text; NFKC would also merge x2 and x with a superscript 2, which may
    be two classes of characters. For the same reason single characters keep their case.
    """
    visible = INVISIBLE.sub("", name).strip()
    composed = unicodedata.normalize("NFC", visible or name)
    return composed if len(composed) == 1 else unicodedata.normalize("NFC", composed.casefold())


def check_classes(names: Iterable[str], dataset: str) -> None:
    """Refuse different names of the same class, which would count as two classes.

    Raises:
        UserError: there are such names.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(class_key(name), name)
        if other != name:
            both = " and ".join(quoted(other, name))
            problem = f"classes {both} differ only in case, Unicode form or spaces; rename or merge them"
            raise UserError("--dataset", dataset, problem)


def quoted(*names: str) -> list[str]:
    """Names in quotes, with escapes if they would look the same."""
    same = len({unicodedata.normalize("NFC", INVISIBLE.sub("", name)) for name in names}) < len(set(names))
    return [ascii(name) if same else repr(name) for name in names]


def check_dataset(dataset: str, flag: str = "--dataset") -> None:
    """Refuse an unknown data set.

    Raises:
        UserError: suggests the nearest name.
    """
    first, arrow, second = dataset.partition(ARROW)
    if arrow and ARROW not in second:
        check_dataset(first, flag)
        check_dataset(second, flag)
        return
    kind, colon, place = dataset.partition(":")
    known = kind in ("folder", "hf") and place if colon else dataset in DATASETS
    if not known:
        raise UserError(flag, dataset, one_of(dataset, DATASETS))


def check_split(split: str, flag: str = "--split") -> None:
    """Refuse a name that cannot be a split.

    Raises:
        UserError: suggests the nearest name.
    """
    if split.endswith(".csv"):
        if not is_file(Path(split)):
            raise UserError(flag, split, "no such file; must be a CSV file with the columns class,part")
    elif split not in (*PUBLISHED, GIVEN, NO_BASE):
        parse_ratio(split, flag)


def parse_ratio(split: str, flag: str = "--split") -> tuple[int, int | None]:
    """``90-10`` -> (90, None); ``90-10@3`` -> (90, 3).

    Raises:
        UserError: it is not a ratio.
    """
    match = re.fullmatch(r"(100|[1-9]?[0-9])-(100|[1-9]?[0-9])(?:@(0|[1-9][0-9]{0,8}))?", split)
    if not match:
        raise UserError(flag, split, one_of(split, SPLITS))
    base, novel = int(match[1]), int(match[2])
    if base + novel != 100 or base == 0:
        raise UserError(flag, split, "must be percentages B-N with B + N = 100 and B at least 1, e.g. 90-10")
    return base, None if match[3] is None else int(match[3])
