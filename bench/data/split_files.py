"""Splits in CSV files: a line per class, with the columns `class` and `part`."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

from bench.common.errors import UserError, one_of
from bench.common.files import read_regular
from bench.data.images import ImageSet
from bench.data.names import class_key, quoted

PARTS = ("base", "validation", "novel")


def read_split(data: ImageSet, path: str, flag: str) -> tuple[str, dict[str, tuple[int, ...]]]:
    """The name of a split, with a digest of its content, and part -> class indices, ascending.

    Args:
        data: with the classes. path: of the file. flag: named in messages.

    Raises:
        UserError: the file cannot be read or has an invalid line; names the line.
    """
    try:
        text = read_regular(Path(path)).decode("utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(flag, path, f"cannot be read as UTF-8 text: {reason}") from None
    reader = csv.DictReader(text.splitlines())
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise UserError(flag, path, f"is not a CSV file: {error}") from None
    header = list(reader.fieldnames or ())
    if not rows or not {"class", "part"} <= set(header):
        raise UserError(flag, path, "needs a header line `class,part` and one line per class")
    for column in ("class", "part"):
        if header.count(column) > 1:
            raise UserError(flag, path, f"has {header.count(column)} columns {column}; must have one")
    ids = {class_key(name): i for i, name in enumerate(data.class_names)}
    left_out = set(map(class_key, data.left_out_classes))  # which is said when images are loaded
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    seen: dict[str, str] = {}
    for line, row in rows:
        name, part = (row["class"] or "").strip(), (row["part"] or "").strip()
        key = class_key(name)
        if key not in ids and key not in left_out:
            known = one_of(name, data.class_names)
            raise UserError(flag, path, f"line {line}: {data.name} has no class {name!r}; {known}")
        if part not in PARTS:
            raise UserError(flag, path, f"line {line}: part {part!r}; {one_of(part, PARTS)}")
        if key in seen:
            again, first = quoted(name, seen[key])
            as_well = "" if again == first else f", first as {first}"
            raise UserError(flag, path, f"line {line}: class {again} is listed twice{as_well}")
        seen[key] = name
        parts[part] += [ids[key]] if key in ids else []
    gone = sum(key not in ids for key in seen)
    why = f" ({gone} of its classes have too few images)" if gone else ""
    if len(parts["base"]) < 2:
        raise UserError(flag, path, f"needs at least 2 base classes{why}")
    for part in ("validation", "novel"):
        if len(parts[part]) == 1:
            raise UserError(flag, path, f"must have 0 or at least 2 {part} classes{why}")
    content = "\n".join(f"{part}:{sorted(parts[part])}" for part in PARTS)
    name = f"{Path(path).name}@{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    return name, {part: tuple(sorted(parts[part])) for part in PARTS}
