"""Reptile's update against its formula, and over several processes."""

import torch

from methods.outer_loop import TowardsLearned


def step(**changes) -> torch.Tensor:
    phi = torch.nn.Parameter(torch.tensor([1.0, 5.0]))
    learned = [{phi: torch.tensor([2.0, 5.0])}, {phi: torch.tensor([4.0, 7.0])}]
    TowardsLearned([phi], rate=0.25).step(learned=learned, **changes)
    return phi.detach()


def test_weights_go_a_share_of_the_way_to_the_mean_of_the_tasks():
    assert step().tolist() == [1.0 + 0.25 * (3.0 - 1.0), 5.0 + 0.25 * (6.0 - 5.0)]


def test_the_closure_is_called_as_by_every_optimizer():
    called = []
    step(closure=lambda: called.append(True))
    assert called == [True]
