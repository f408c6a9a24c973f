"""What transfer methods share: they answer with the classifier of the base classes as it is."""

from __future__ import annotations

import dataclasses

from methods.method import Method
from methods.pretraining import Pretraining


class Transfer(Method):
    """Base of the methods that learn nothing on the base classes beyond the classifier.

    Hyperparameters of a subclass that have the name of an attribute of `Pretraining` are the classifier's.
    """

    @property
    def training_steps(self) -> int:
        """None of its own."""
        return 0

    @property
    def pretraining(self) -> Pretraining:
        """The classifier, as the hyperparameters say."""
        names = [field.name for field in dataclasses.fields(Pretraining)]
        return Pretraining(**{name: getattr(self.hp, name) for name in names if hasattr(self.hp, name)})
