"""Two data sets as one: base classes from the first, novel classes from the second."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.common.errors import UserError
from bench.data.images import ImageSet
from bench.data.names import ARROW, FOREIGN, class_key


def joined(base: ImageSet, novel: ImageSet) -> ImageSet:
    """All images of both; every class of the second has the part `FOREIGN`.

    A class of the second whose name the first has too is called ``name (data set)``.

    Raises:
        UserError: their images differ in size.
    """
    sizes = ["x".join(map(str, data.images.shape[2:])) for data in (base, novel)]
    if sizes[0] != sizes[1]:
        problem = f"has images of {sizes[1]} pixels, {base.name} of {sizes[0]}; --image-size may change one"
        raise UserError("--novel-dataset", novel.name, problem)
    known = {class_key(name) for name in base.class_names}
    names = [f"{name} ({novel.name})" if class_key(name) in known else name for name in novel.class_names]
    made = ImageSet.build(
        f"{base.name}{ARROW}{novel.name}",
        np.concatenate([base.images.numpy(), novel.images.numpy()]),
        np.concatenate([base.labels.numpy(), novel.labels.numpy() + len(base.class_names)]),
        np.concatenate([base.held_out.numpy(), novel.held_out.numpy()]),
        [*base.class_names, *names],
        [*base.superclass, *novel.superclass],
        [*base.part, *[FOREIGN] * len(names)],
        np.concatenate([base.validation.numpy(), novel.validation.numpy()]),
    )
    return replace(
        made,
        left_out=base.left_out + novel.left_out,
        left_out_classes=base.left_out_classes + novel.left_out_classes,
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
