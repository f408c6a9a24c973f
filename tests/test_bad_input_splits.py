"""Splits that do not fit the data, invalid split files, and settings with too little data."""

import pytest
from bad_inputs import RUN, with_images
from command_line import complaint

BASE = "".join(f"c{i},base\n" for i in range(4))
NOVEL = "".join(f"c{i},novel\n" for i in range(4, 8))
GOOD = f"class,part\n{BASE}{NOVEL}"
HEADER = "needs a header line `class,part` and one line per class"
UNKNOWN = "folder:images has no class"

FILES = {
    "empty": ("", HEADER),
    "only a header": ("class,part\n", HEADER),
    "no header": ("c0,base\nc1,base\n", HEADER),
    "one column": ("class\nc0\nc1\n", HEADER),
    "other capitals in the header": (GOOD.replace("class,part", "Class,Part"), HEADER),
    "semicolons": (GOOD.replace(",", ";"), HEADER),
    "tabs": (GOOD.replace(",", "\t"), HEADER),
    "columns in the other order": ("part,class\nc0,base\n", f"line 2: {UNKNOWN} 'base'"),
    "an unknown class": (f"{GOOD}zebra,base\n", f"line 10: {UNKNOWN} 'zebra'; allowed: c0, c1"),
    "no class": ("class,part\n,base\n", f"line 2: {UNKNOWN} ''"),
    "a class above the folder": ("class,part\n../c0,base\n", f"line 2: {UNKNOWN} '../c0'; did you mean c0?"),
    "an escape sequence": ("class,part\n\x1b[2J,base\n", f"line 2: {UNKNOWN} '\\x1b[2J'"),
    "a NUL": ("class,part\nc0\0,base\n", f"line 2: {UNKNOWN} 'c0\\x00'; did you mean c0?"),
    "an open quote": ('class,part\n"c0,base\n', f"line 2: {UNKNOWN} 'c0,base'"),
    "an unknown part": (GOOD.replace("novel", "test"), "line 6: part 'test'; allowed: base, validation, nov"),
    "a part misspelt": (GOOD.replace("novel", "nvoel"), "line 6: part 'nvoel'; did you mean novel?"),
    "no part": ("class,part\nc0\n", "line 2: part ''; allowed: base, validation, novel"),
    "a class twice": (f"{GOOD}c0,novel\n", "line 10: class 'c0' is listed twice"),
    "one base class": ("class,part\nc0,base\nc1,novel\nc2,novel\n", "needs at least 2 base classes"),
    "no base class": (GOOD.replace("base", "novel"), "needs at least 2 base classes"),
    "one novel class": ("class,part\nc0,base\nc1,base\nc2,novel\n", "must have 0 or at least 2 novel"),
    "one validation class": (GOOD.replace("c3,base", "c3,validation"), "must have 0 or at least 2"),
    "no novel class and no pairs": (f"class,part\n{BASE}", "leaves nothing to measure: no pairs and triplet"),
    "a field of 200,000 letters": (f"class,part\n{'a' * 200_000},base\n", "is not a CSV file: field larger"),
    "UTF-16": (GOOD.encode("utf-16"), "cannot be read as UTF-8 text: "),
    "Latin 1": ("class,part\né,base\n".encode("latin1"), "cannot be read as UTF-8 text: "),
    "a picture": (bytes(range(256)), "cannot be read as UTF-8 text: "),
}  # fmt: skip

FLAGS = [
    ("--split folder.csv", "--split folder.csv: no such file; must be a CSV"),
    ("--split ../link.csv", "--split ../link.csv: no such file; must be a CSV"),
    ("--split 99-1", "--split 99-1: leaves fewer than 2 base or novel classes of the 8"),
    ("--split 1-99", "--split 1-99: leaves fewer than 2 base or novel classes of the 8"),
    ("--split 100-0", "--split 100-0: leaves nothing to measure"),
    ("--split mini-imagenet", "--split mini-imagenet: can only be used with --dataset mini-imagenet"),
    ("--split omniglot", "--split omniglot: can only be used with --dataset omniglot"),
    ("--split fc100", "--split fc100: needs 100 classes in 20 superclasses; folder:images has 8 classes"),
    ("--way 5 --shot 1", "--way 5: at most 4, the number of novel classes"),
    (f"--way {10**17} --shot 1", f"--way {10**17}: at most 4, the number of novel classes"),
    ("--way 2 --shot 6", "--shot 6 + --query 15: at most 6 in total, because fewer than 2 novel classes"),
    (f"--way 2 --shot {10**17}", f"--shot {10**17} + --query 15: at most 6 in total"),
    ("--way 2 --shot 4 --query 3", "--shot 4 + --query 3: at most 6 in total"),
    (f"--way 2 --shot 1 --query {10**17}", f"--shot 1 + --query {10**17}: at most 6 in total"),
    ("--set images=1", "--method siamese_triplet: classes and images must be at least 2"),
    ("--set classes=1", "--method siamese_triplet: classes and images must be at least 2"),
    (f"--set images={10**17}", f"--method siamese_triplet: needs {10**17 + 1} training images per class"),
    ("--backbone timm:..", "--backbone timm:..: no backbone 'timm:..'"),
    ("--backbone timm:resnet81", "--backbone timm:resnet81: no backbone 'timm:resnet81'; did you mean"),
    ("--backbone timm:resnet18.nope", "--backbone timm:resnet18.nope: no backbone 'timm:resnet18.nope': Inv"),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def workspace(tmp_path_factory):
    """A working directory with decoded images and things that are not CSV files."""
    folder = tmp_path_factory.mktemp("splits") / "here"
    (folder / "folder.csv").mkdir(parents=True)
    (folder.parent / "link.csv").symlink_to("nowhere.csv")
    with with_images(folder):
        yield folder


@pytest.mark.parametrize("name", FILES)
def test_an_invalid_split_file(workspace, name):
    content, expected = FILES[name]
    (workspace / "mine.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert complaint(*RUN, "--split", "mine.csv").startswith(f"--split mine.csv: {expected}")


@pytest.mark.parametrize(("flags", "expected"), FLAGS, ids=[flags for flags, _ in FLAGS])
def test_what_the_data_cannot_give(flags, expected):
    given = [] if "--split" in flags else ["--split", "50-50"]
    assert complaint(*RUN, *given, *flags.split()).startswith(expected)
