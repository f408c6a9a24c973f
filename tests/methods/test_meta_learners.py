"""What maml, anil and reptile promise alike."""

import pytest
import torch
from meta_learning import answers, batch, on_conv4

from methods.anil import ANIL
from methods.batches import Episodes
from methods.maml import MAML
from methods.pretraining import Pretraining
from methods.reptile import Reptile

adapts = pytest.mark.parametrize("method_class", [MAML, Reptile])


@adapts
@pytest.mark.parametrize("batch_norm", ["support", "running", "transductive"])
def test_a_query_s_answer_depends_on_no_other_query_unless_transductive(method_class, batch_norm):
    method = on_conv4(method_class, batch_norm=batch_norm, test_steps=2)
    given = batch()
    assert method.transductive == (batch_norm == "transductive")
    logits = answers(method, given)
    others = given.query.clone()
    others[:, 1:] *= 3
    changed = answers(method, given._replace(query=others))
    if method.transductive:
        assert (changed[:, 0] - logits[:, 0]).abs().max() > 1e-4
    else:
        torch.testing.assert_close(changed[:, 0], logits[:, 0])
        torch.testing.assert_close(answers(method, given._replace(query=others[:, :1])), logits[:, :1])


@pytest.mark.slow
@adapts
@pytest.mark.parametrize(
    "head, episodes",
    [("zero", 12), *(pytest.param(head, 40, marks=pytest.mark.soak) for head in ("zero", "learned"))],
)
def test_without_training_random_labels_are_guessed(method_class, head, episodes):
    """Queries stand sorted by class, as a learner that leaks their order would like them."""
    method = on_conv4(method_class, head=head, test_steps=3).float()
    given = batch(episodes=episodes, way=5, shot=1, query=5, dtype=torch.float32)
    labels = given.labels.sort(dim=1).values
    hits = (answers(method, given).argmax(2) == labels).float().mean().item()
    assert hits == pytest.approx(0.2, abs=0.05 * (40 / episodes) ** 0.5)


@pytest.mark.parametrize("method_class", [MAML, ANIL])
def test_what_they_train_on(method_class):
    episodes = Episodes(5, 1, 15, 4)
    assert on_conv4(method_class).batches() == episodes
    assert on_conv4(method_class, num_classes=3).batches() == Episodes(3, 1, 15, 4)
    pretrained = on_conv4(method_class, steps=1280, init="pretrained")
    assert pretrained.batches() == episodes and pretrained.training_steps == 320
    assert pretrained.pretraining == Pretraining(960 * 320 // 128)
