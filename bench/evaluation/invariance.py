"""Checks whether outputs for changed inputs are the same up to rounding.

If tensors keep their shapes, kernels compute each row in the same way: a row may change by a thousandth of
the outputs' spread. If shapes change, so does the rounding. Its effect depends on the method: small for a
cosine, large for Adam steps in bfloat16. So it is measured, with inputs changed by about as much as rounding
does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bench.evaluation.answers import ContractError

SHARE = 1e-3  # of the outputs' spread
ROUNDINGS = 20  # times the measured effect of rounding

Answer = Callable[[Tensor], Tensor]


class Reference(NamedTuple):
    """Reference outputs for comparisons.

    Attributes:
        answers: ``[..., columns]``, one row in the last dimension.
        moves: ``[..., 1]``, the effect of rounding on each row.
        spread: standard deviation over rows.
    """

    answers: Tensor
    moves: Tensor
    spread: float

    @classmethod
    def of(cls, answers: Tensor, rounded: Tensor) -> Reference:
        """From outputs for an input, and for the same input with perturbed values."""
        moves = (rounded - answers).abs().amax(-1, keepdim=True)
        rows = answers.flatten(0, -2)
        spread = float((rows - rows.mean(0)).square().mean().sqrt())
        # A single row may happen not to move, so use at least the typical effect.
        return cls(answers, moves.clamp(min=float(moves.median())), spread)

    def first(self, axis: int, count: int) -> Reference:
        """The reference of the first rows."""
        return Reference(self.answers.narrow(axis, 0, count), self.moves.narrow(axis, 0, count), self.spread)

    def of_classes(self, order: Tensor) -> Reference:
        """The reference with reordered columns."""
        return self._replace(answers=self.answers[..., order])

    def compare(self, answers: Tensor, what: str, hint: str = "", times: int = ROUNDINGS) -> None:
        """Compare with outputs that should be equal.

        Args:
            answers: of the same shape.
            what, hint: for the error message.
            times: allowed multiple of the measured effect of rounding.

        Raises:
            ContractError: they differ by more than rounding.
        """
        moved = (answers - self.answers).abs().amax(-1, keepdim=True)
        if bool((moved > SHARE * self.spread + times * self.moves).any()):
            by = f" (by {float(moved.max()) / self.spread:.1%} of their spread)" if self.spread else ""
            raise ContractError(f"{what}{by}{hint and '; '}{hint}")


class Rows(NamedTuple):
    """Description of the rows of a batch, for error messages.

    Attributes:
        asked: name of the function. one, many: names of a row, e.g. ``a query``, and of several.
        hint: advice.
        axis: of the rows.
    """

    asked: str
    one: str
    many: str
    hint: str
    axis: int = 0


def check_independent(answer: Answer, batch: Tensor, others: Tensor, rounding: float, rows: Rows) -> None:
    """Check that the output for a row of a batch does not depend on other rows.

    Args:
        answer: maps rows to outputs, with one row in the last dimension.
        batch: at least two rows.
        others: the same number of other rows.
        rounding: see `perturbed`.
        rows: their description.

    Raises:
        ContractError: the output of a row depends on other rows.
    """
    axis, size = rows.axis, batch.shape[rows.axis]
    half = size // 2
    given = Reference.of(answer(batch), answer(perturbed(batch, rounding)))
    kept = batch.narrow(axis, 0, half)
    replaced = answer(torch.cat([kept, others.narrow(axis, half, size - half)], axis))
    alone = answer(kept.flip(axis)).flip(axis)
    for answers, times, when in (
        (replaced.narrow(axis, 0, half), 1, f"other {rows.many} are replaced"),
        (alone, ROUNDINGS, f"other {rows.many} are left out, or their order changes"),
    ):
        what = f"{rows.asked} gives another answer for {rows.one} when {when}"
        given.first(axis, half).compare(answers, what, rows.hint, times)


def perturbed(tensor: Tensor, by: float) -> Tensor:
    """Values changed randomly, relative to their size."""
    chance = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))
    return tensor * (1 + by * chance.to(tensor.device))


def centred(logits: Tensor) -> Tensor:
    """Logits minus their mean per query: adding a constant to all logits does not change the answer."""
    return logits.float() - logits.float().mean(-1, keepdim=True)
