"""Two data sets as one: base classes from the first, novel classes from the second."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from bench.common.errors import UserError
from bench.data.images import ImageSet
from bench.data.names import ARROW, FOREIGN, class_key
from bench.data.photos import listed


def joined(base: ImageSet, novel: ImageSet) -> ImageSet:
    """All images of both; every class of the second has the part `FOREIGN`.

    Both keep the order of their images, so that episodes are the same at every image size. A class of the
    second whose name the first has too is called ``name (data set)``, and a note says so.

    Raises:
        UserError: their images differ in size, or the second is the first.
    """
    if novel.fingerprint == base.fingerprint:
        problem = f"has the images of --dataset {base.name}, so its classes are not novel"
        raise UserError("--novel-dataset", novel.name, problem)
    sizes = ["x".join(map(str, data.images.shape[2:])) for data in (base, novel)]
    if sizes[0] != sizes[1]:
        problem = f"its images are {sizes[1]} pixels, those of {base.name} {sizes[0]}; set --image-size"
        raise UserError("--novel-dataset", novel.name, problem)
    known = {class_key(name) for name in base.class_names}
    common = [name for name in novel.class_names if class_key(name) in known]
    names = [f"{name} ({novel.name})" if name in common else name for name in novel.class_names]
    notes = (listed(f"{novel.name} and {base.name} have classes of the same name", common),) if common else ()
    count = len(base) + len(novel)
    made = ImageSet.build(
        f"{base.name}{ARROW}{novel.name}",
        np.concatenate([base.images.numpy(), novel.images.numpy()]),
        np.concatenate([base.labels.numpy(), novel.labels.numpy() + len(base.class_names)]),
        np.concatenate([base.held_out.numpy(), novel.held_out.numpy()]),
        [*base.class_names, *names],
        [*base.superclass, *novel.superclass],
        [*base.part, *[FOREIGN] * len(names)],
        np.concatenate([base.validation.numpy(), novel.validation.numpy()]),
        np.arange(count, dtype=">u8")[:, None].view(np.uint8),  # keep the order, which may be of another size
    )
    return replace(
        made,
        drawn_by=hashlib.sha256(f"{base.drawn_by} {novel.drawn_by}".encode()).hexdigest(),
        left_out=base.left_out + novel.left_out,
        # A split file names classes of the first data set only.
        left_out_classes=(*base.left_out_classes, *(f"{c} ({novel.name})" for c in novel.left_out_classes)),
        notes=notes,
        chosen=base.chosen,
        spans=base.spans,
    )


def first_only(data: ImageSet) -> tuple[ImageSet, list[int]]:
    """The classes of the first data set, without images; and their indices in the joined one."""
    own = [i for i, part in enumerate(data.part) if part != FOREIGN]
    name = data.name.partition(ARROW)[0]
    names, superclasses, parts = (
        tuple(of_class[i] for i in own) for of_class in (data.class_names, data.superclass, data.part)
    )
    return replace(data, name=name, class_names=names, superclass=superclasses, part=parts), own
