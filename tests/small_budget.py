"""Runs that measure less, or whose training is validated and saved more often, than those of the protocol."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from bench.evaluation import budget


def small_budget(patch: pytest.MonkeyPatch, **numbers: Any) -> None:
    """Other numbers of `Budget`, until the patch is undone; smoke runs keep their own."""
    patch.setattr(budget, "FULL", replace(budget.FULL, **numbers))


def budget_of_file(**numbers: Any) -> Any:
    """A fixture: the same for all tests and fixtures of a file."""

    @pytest.fixture(scope="module", autouse=True)
    def small() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            small_budget(patch, **numbers)
            yield

    return small
