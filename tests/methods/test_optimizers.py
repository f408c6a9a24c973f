"""Optimizers and schedules: the peak is reached, and no length of training breaks them."""

import pytest
import torch

from methods.optimizers import configure


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 7, 8, 50])
def test_one_cycle_rises_to_the_peak_and_falls_whatever_the_steps(steps):
    weight = torch.nn.Parameter(torch.ones(2, 2))
    made = configure([weight], steps, "sgd", "one_cycle", 0.3, 0.0)
    rates = []
    for _ in range(steps):
        rates.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert max(rates) <= 0.3 + 1e-9
    if steps >= 8:
        assert max(rates) == pytest.approx(0.3, rel=0.05) and rates[-1] < 0.01
