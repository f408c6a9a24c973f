"""`new-method`: a method to begin with, and its test."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from bench.common.errors import UserError
from bench.common.files import write_files
from methods import registry

TEMPLATE, CLASS = Path(__file__).with_name("method_template.py"), "OwnMethod"

TEST = '''\
"""{name} keeps the contract of the bench, and answers as it should."""

from pathlib import Path

import torch
from {name} import {class_name}
from torch import nn

from bench.run.method_check import check


def test_it_keeps_the_contract():
    method = f"{{Path(__file__).with_name('{name}.py')}}:{class_name}"
    assert [problem for _, problems in check(method) for problem in problems] == []


def test_a_query_takes_the_class_that_it_is_most_similar_to():
    method = {class_name}(nn.Identity(), {class_name}.Hyperparameters(), num_classes=3)
    support = torch.eye(3)[None, :, None]  # one episode, three classes, one image each
    assert method.episode_logits(support, support[:, :, 0]).argmax(2).tolist() == [[0, 1, 2]]
'''


def write(name: str, folder: Path) -> tuple[str, list[Path]]:
    """Write ``NAME.py`` and ``test_NAME.py``.

    Returns:
        The name of the class, and the files.

    Raises:
        UserError: the name is taken, also by a Python module, or not a Python name, or a file already exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError("NAME", name, "must be lower-case letters, digits and _, such as soft_prototypes")
    if name in registry.places():
        raise UserError("NAME", name, "is already the name of a method")
    class_name = "".join(word.capitalize() for word in name.split("_"))
    template = TEMPLATE.read_text("utf-8")
    others = (template + TEST).replace(CLASS, "")
    if {name, class_name} & {*keyword.kwlist} or re.search(rf"\b{class_name}\b", others):
        taken = f"{name} or its class {class_name} is a keyword or is used in the template"
        raise UserError("NAME", name, f"must be another name: {taken}")
    if name in sys.stdlib_module_names or _is_module(name, folder):
        raise UserError("NAME", name, "is the name of a Python module, which the file would hide")
    source = template.replace(CLASS, class_name).replace("  # noqa: RUF012", "")
    files = {
        folder / f"{name}.py": source.encode(),
        folder / f"test_{name}.py": TEST.format(name=name, class_name=class_name).encode(),
    }
    for path in files:
        if path.exists():
            raise UserError("NAME", name, f"{path} already exists")
    write_files(files, "--output")
    return class_name, list(files)


def _is_module(name: str, folder: Path) -> bool:
    """Whether Python finds a module of this name that is not a file of this folder."""
    try:
        found = find_spec(name)
    except ValueError:  # a module without a specification
        return True
    where = found.origin if found else None  # None for a folder without code
    return where is not None and Path(where).resolve().parent != folder.resolve()
