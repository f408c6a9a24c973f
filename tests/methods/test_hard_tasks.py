"""Rounds of random and of hard tasks."""

import torch
from torch.nn import functional as F

from methods.hard_tasks import Rounds, worst_classes


def test_the_worst_class_of_each_episode():
    """By share of its own queries, which need not be equally many."""
    labels = torch.tensor([[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 2, 2]])
    answers = torch.tensor([[0, 1, 1, 1, 0, 1], [0, 1, 2, 1, 2, 2]])
    classes = torch.tensor([[7, 3, 5], [2, 6, 0]])
    logits = F.one_hot(answers, 3).float()
    assert worst_classes(logits, labels, classes).tolist() == [5, 2]


def test_hard_tasks_are_made_of_the_classes_that_failed():
    rounds = Rounds(at_random=3, hard=2, seed=1)
    for start in (0, 20):  # two rounds; nothing is left over from the first
        for turn in range(3):
            assert rounds.draw(2, way=5, num_classes=60) is None
            rounds.collect(torch.tensor([start + 2 * turn, start + 2 * turn + 1]))
        for _ in range(2):
            drawn = rounds.draw(2, way=5, num_classes=60)
            assert drawn.shape == (2, 5) and drawn.dtype == torch.int64
            for episode in drawn.tolist():
                assert len(set(episode)) == 5 and set(episode) <= set(range(start, start + 6))
            rounds.collect(torch.tensor([50, 51]))  # hard tasks leave nothing
    assert rounds.draw(2, way=5, num_classes=60) is None


def test_too_few_failed_classes_are_filled_up_with_others():
    seen = set()
    for seed in range(40):
        rounds = Rounds(at_random=1, hard=1, seed=seed)
        rounds.draw(1, way=4, num_classes=10)
        rounds.collect(torch.tensor([3, 8, 3, 8, 3]))
        episode = rounds.draw(1, way=4, num_classes=10)[0].tolist()
        assert len(set(episode)) == 4 and set(episode[:2]) == {3, 8}
        seen |= set(episode)
    assert seen == set(range(10))
