"""The speed benchmark's pieces do the work they say, on a small image set; no timing is judged."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from bench.common.errors import UserError
from bench.data.images import ImageSet
from benchmarks import eager, measure, memory, ours, peers, predict, speed

EACH = 20
STEPS = {"conv4": 7, "resnet12-32": 7}
TINY = measure.Counts(
    ours=32, gathered=3, peer=2, indices=2, steps=7, peer_steps=7, eager_steps=STEPS, ready=2
)


@pytest.fixture(scope="module")
def material() -> ours.Material:
    """100 classes of 20 images in 20 superclasses; the images of a class have nearly one colour."""
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(100), EACH)
    colour = np.stack([classes % 5, classes // 5 % 5, classes // 25], axis=1) * 50
    images = colour[:, :, None, None] + rng.integers(0, 5, (len(classes), 3, 16, 16))
    data = ImageSet.build(
        "colours",
        images.astype(np.uint8),
        classes,
        np.tile(np.arange(EACH) >= 15, 100),
        [f"class{c:02}" for c in range(100)],
        [f"group{c // 5:02}" for c in range(100)],
    )
    return ours.Material.of(data)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.fixture(scope="module")
def fc100(material, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fc100")
    peers.write_fc100(material.data, material.split, folder)
    return folder


def test_learn2learn_reads_the_images_and_labels_of_our_split(material, fc100):
    from learn2learn.vision.datasets import FC100

    modes = {
        "train": material.split.train,
        "validation": material.split.validation_images,
        "test": material.split.novel_images,
    }
    for mode, index in modes.items():
        theirs = FC100(str(fc100), mode)
        assert np.array_equal(theirs.images.transpose(0, 3, 1, 2), material.data.images[index].numpy())
        assert theirs.labels == material.data.labels[index].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("in_memory", [False, True])
def test_learn2learn_answers_tasks_that_pixels_decide(fc100, in_memory):
    from learn2learn.algorithms.lightning import LightningPrototypicalNetworks

    net = LightningPrototypicalNetworks(torch.nn.Flatten())
    tasks = peers.learn2learn_tasks(fc100, in_memory=in_memory)
    assert peers.learn2learn_evaluate(net, tasks.test, 5) == 1.0


def test_learn2learn_indices_are_a_whole_task_without_images(material, fc100):
    tasks = peers.learn2learn_tasks(fc100, in_memory=False).test
    index = torch.as_tensor(peers.learn2learn_indices(tasks).sample())
    assert index.numel() == 5 * 16 and not index.is_floating_point()
    labels = material.data.labels[material.split.novel_images][index.flatten()]
    assert labels.unique(return_counts=True)[1].tolist() == [16] * 5


@pytest.mark.slow
def test_learn2learn_training_changes_its_backbone(fc100):
    net = peers.learn2learn_protonet()
    before = weights(net.features)
    tasks = peers.learn2learn_tasks(fc100, in_memory=True).train
    assert peers.learn2learn_train_seconds(net, tasks, ours.WARM_UP + 1) > 0
    assert not torch.equal(before, weights(net.features))


def test_easyfsl_answers_tasks_that_features_decide(material):
    labels = material.data.labels[material.split.novel_images]
    features = peers.easyfsl_dataset(torch.nn.functional.one_hot(labels).float(), labels)
    assert peers.easyfsl_evaluate(None, features, 5) == 1.0
    for index in peers.easyfsl_sampler(features, 3):
        assert labels[index].unique(return_counts=True)[1].tolist() == [16] * 5


def test_easyfsl_features_are_the_backbones(material):
    index = material.split.novel_images[:40]
    images = material.data.images[index].float()
    backbone = peers.learn2learn_protonet().features
    made = peers.easyfsl_features(backbone, peers.easyfsl_dataset(images, material.data.labels[index]))
    with torch.no_grad():
        assert torch.allclose(made.embeddings, backbone.eval()(images), atol=1e-5)


def test_gathering_takes_every_image_of_every_episode(material):
    assert ours.draw_and_gather(material, 40) == 40 * 5 * 16


def test_evaluation_answers_all_episodes_from_images(material):
    method = ours.protonet(steps=1).eval()
    interval = ours.evaluate(material, method, "32-true", 50)
    assert interval.n == 50
    assert interval.value > 0.9


@pytest.mark.slow
def test_bare_loop_trains_as_lightning_does(material):
    through_lightning, bare = ours.siamese_quick(TINY.steps), ours.siamese_quick(TINY.steps)
    batches = ours.ready_batches(material, bare, TINY.steps)
    assert ours.train_seconds(material, through_lightning, "32-true") > 0
    assert ours.bare_loop_seconds(bare, batches, "32-true") > 0
    start, *ends = (weights(m) for m in (ours.siamese_quick(1), through_lightning, bare))
    assert not torch.allclose(start, ends[0], atol=1e-3)
    assert torch.allclose(*ends, atol=1e-5)


def test_the_textbook_s_network_is_ours_in_another_order():
    for name in eager.GOALS:
        method, bare = ours.siamese_quick(1, name), ours.siamese_textbook(1, name)
        images = torch.randn(4, 3, 32, 32)
        assert type(bare.backbone[0] if name == "conv4" else bare.backbone.blocks[0]) is not type(
            method.backbone[0] if name == "conv4" else method.backbone.blocks[0]
        )
        torch.testing.assert_close(bare.embed(images), method.embed(images))


@pytest.mark.parametrize("layout", eager.LAYOUTS.values())
def test_the_bare_loop_trains_in_the_layout_of_its_row(material, layout):
    method = ours.siamese_textbook(1, "conv4", layout)
    (batch,) = ours.in_layout(ours.ready_batches(material, method, 1), layout)
    assert batch.images.is_contiguous(memory_format=layout)
    assert method.backbone[1][0].weight.is_contiguous(memory_format=layout)


@pytest.mark.slow
def test_threads_are_as_they_were_afterwards(material):
    before = torch.get_num_threads()
    batches = ours.ready_batches(material, ours.siamese_quick(1), 1)
    assert ours.bare_loop_seconds(ours.siamese_textbook(7, "conv4"), batches, "32-true", before + 1) > 0
    assert torch.get_num_threads() == before


@pytest.mark.slow
@pytest.mark.soak
def test_every_line_of_the_table_is_measured(material, monkeypatch):
    monkeypatch.setattr(ours, "compile_training", lambda *_, **__: False)  # which takes minutes
    monkeypatch.setattr(eager, "GOALS", {"conv4": 1.3})  # a step of resnet12 takes a second
    rows = speed.timings(material, repeats=1, counts=TINY, say=lambda _: None)
    assert all(float(row.ratio.rstrip("x").replace(",", "")) > 0 for row in rows)
    assert [row.goal.partition(":")[0] for row in rows if row.goal] == [
        ">= 100x",
        ">= 50x",
        ">= 2x",
        ">= 0.9x",
        *(f">= {goal}x" for goal in eager.GOALS.values() for _ in eager.thread_counts()),
    ]
    lines = measure.table(rows).splitlines()
    assert len(lines) == len(rows) + 2
    assert len({line.count("|") for line in lines}) == 1


def test_sides_take_turns():
    turns = []

    def side(name, value):
        return lambda: turns.append(name) or value

    found = measure.interleave({"a": side("a", 1.0), "b": side("b", 2.0)}, 3, lambda _: None)
    assert turns == ["a", "b"] * 3
    assert found == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_ratios_are_taken_within_a_repeat():
    # A machine three times slower in the second repeat changes no ratio.
    measured = {"own": [0.1, 0.3, 0.1], "theirs": [0.25, 0.75, 0.25]}
    line = measure.Comparison("work", "peer", "own", "theirs", measure.a_second, "how", goal=2)
    row = measure.compare(line, measured)
    assert (row.ours, row.peer) == ("10 (3.33 to 10)", "4 (1.33 to 4)")
    assert row.ratio == "2.5x (2.5 to 2.5)"
    assert row.goal == ">= 2x: met"
    assert measure.verdict(1.99, 2) == ">= 2x: missed"


def test_peak_memory_is_the_commands_own():
    # This process holds torch, several hundred MiB; a command started from it must not be charged with it.
    allocate = "x = b'x' * (%d << 20)"
    small, large = (
        memory.peak_gib([sys.executable, "-S", "-c", allocate % mebibytes], {}) for mebibytes in (1, 200)
    )
    assert small < 0.1
    assert 0.19 < large - small < 0.21


def test_peak_memory_of_a_failing_command_is_none():
    with pytest.raises(subprocess.CalledProcessError):
        memory.peak_gib([sys.executable, "-S", "-c", "raise SystemExit(3)"], {})


def test_missing_data_is_one_line(monkeypatch, capsys):
    from bench.data import sources

    def absent(*_):
        raise UserError("--data-root", "nowhere", "a folder with CIFAR-100")

    monkeypatch.setattr(sources, "load", absent)
    monkeypatch.setattr(sys, "argv", ["speed"])
    assert speed.main() == 2
    assert capsys.readouterr().err == "error: --data-root nowhere: a folder with CIFAR-100\n"


def test_prediction_is_timed_against_the_same_embeddings(tmp_path):
    from bench.serving.predictor import load
    from bench.serving.shipped import shipped

    own = shipped()
    predictor = load(own.record.run_id, runs=own.runs, device="cpu")
    paths = predict.photographs(tmp_path, 6)
    torch.testing.assert_close(predict.embed(predictor, predictor.pixels(paths)), predictor.embed(paths))
    assert predict.decode_and_embed(predictor, paths).shape == predictor.embed(paths).shape
    memory, files, one = predict.timings(predictor, paths, 1)
    assert memory.ratio.endswith("x") and files.ratio.endswith("x") and one.goal.startswith("< 100 ms: ")
    assert memory.goal.startswith(">= 0.9x: ") and files.goal.startswith(">= 0.9x: ")
