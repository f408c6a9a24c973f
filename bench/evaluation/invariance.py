"""Whether answers to a changed question are the same, but for rounding.

Where tensors keep their shapes, kernels compute each row alike: a row may move by a thousandth of the
answers' spread. Where shapes change, so does the rounding, and how much that matters depends on the method:
hardly where a cosine is taken, much where Adam takes steps in bfloat16. So it is measured, by asking the same
question with values changed by about as much as rounding changes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bench.evaluation.answers import Broken

SHARE = 1e-3  # of the answers' spread
ROUNDINGS = 20  # times what rounding was measured to change

Answer = Callable[[Tensor], Tensor]


class Given(NamedTuple):
    """Answers that others are compared with.

    Attributes:
        answers: ``[..., columns]``, the last dimension holds one row's.
        moves: ``[..., 1]``, by how much rounding moves each row's.
        spread: standard deviation over rows.
    """

    answers: Tensor
    moves: Tensor
    spread: float

    @classmethod
    def of(cls, answers: Tensor, rounded: Tensor) -> Given:
        """From answers to a question, and to the same question with rounded values."""
        moves = (rounded - answers).abs().amax(-1, keepdim=True)
        rows = answers.flatten(0, -2)
        spread = float((rows - rows.mean(0)).square().mean().sqrt())
        # One row may not move by chance; that its rounding is like the others' is no chance.
        return cls(answers, moves.clamp(min=float(moves.median())), spread)

    def first(self, axis: int, count: int) -> Given:
        """Those of the first rows."""
        return Given(self.answers.narrow(axis, 0, count), self.moves.narrow(axis, 0, count), self.spread)

    def of_classes(self, order: Tensor) -> Given:
        """With the columns in another order."""
        return self._replace(answers=self.answers[..., order])

    def compare(self, answers: Tensor, what: str, hint: str = "", times: int = ROUNDINGS) -> None:
        """Compare them with the same answers, given in another way.

        Args:
            answers: of the same shape.
            what: for the message, as is `hint`.
            times: how much more than the measured rounding is allowed.

        Raises:
            Broken: they differ by more than rounding.
        """
        moved = (answers - self.answers).abs().amax(-1, keepdim=True)
        if bool((moved > SHARE * self.spread + times * self.moves).any()):
            by = f" (by {float(moved.max()) / self.spread:.1%} of their spread)" if self.spread else ""
            raise Broken(f"{what}{by}{hint and '; '}{hint}")


class Rows(NamedTuple):
    """What the rows of a batch are, for the message.

    Attributes:
        asked: the function that answers them. one, many: a row, e.g. ``a query``, and several.
        hint: what to do.
        axis: that rows lie along.
    """

    asked: str
    one: str
    many: str
    hint: str
    axis: int = 0


def one_by_one(answer: Answer, batch: Tensor, others: Tensor, rounding: float, rows: Rows) -> None:
    """See that each row of a batch is answered by itself.

    Args:
        answer: from rows to answers, whose last dimension holds one row's.
        batch: at least two rows.
        others: other rows, as many.
        rounding: see `rounded`.
        rows: what they are.

    Raises:
        Broken: a row's answer depends on other rows.
    """
    axis, size = rows.axis, batch.shape[rows.axis]
    half = size // 2
    given = Given.of(answer(batch), answer(rounded(batch, rounding)))
    kept = batch.narrow(axis, 0, half)
    replaced = answer(torch.cat([kept, others.narrow(axis, half, size - half)], axis))
    alone = answer(kept.flip(axis)).flip(axis)
    for answers, times, when in (
        (replaced.narrow(axis, 0, half), 1, f"other {rows.many} are replaced"),
        (alone, ROUNDINGS, f"other {rows.many} are left out, or they come in another order"),
    ):
        what = f"{rows.asked} answers {rows.one} differently when {when}"
        given.first(axis, half).compare(answers, what, rows.hint, times)


def rounded(tensor: Tensor, by: float) -> Tensor:
    """Values changed by chance, relative to their size."""
    chance = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))
    return tensor * (1 + by * chance.to(tensor.device))


def centred(logits: Tensor) -> Tensor:
    """What decides: what is added to all logits of a query changes no answer."""
    return logits.float() - logits.float().mean(-1, keepdim=True)
