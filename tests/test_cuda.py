"""What runs on a GPU gives what it gives on the CPU; skipped where there is no GPU."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import bench, complaint
from fitting import SMOKE_RUNS, fit, killed_after, smoke_method
from small_budget import small_budget

import bench as package
from bench.common.environment import pick_device
from bench.data.normalisation import Normaliser
from bench.evaluation import adapted, fewshot
from bench.evaluation.embedding import autocast, embed_images
from bench.records import store
from bench.sampling.episodes import ClassPool, Setting, draw
from bench.training.batches import TrainingBatches
from methods import registry

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU, CPU = torch.device("cuda"), torch.device("cpu")
NAMES = sorted(name for name, info in registry.available().items() if info.source == f"methods.{name}")
STARTS = [(name, []) for name in NAMES] + [
    (name, ["--set", f"init={start}"])
    for name in NAMES
    if "init" in registry.available()[name].parameters
    for start in ("scratch", "pretrained")
    if name != "mtl" or start == "pretrained"
]
SHORT = ["run", "--dataset", "glyphs", "--split", "90-10", "--preset", "smoke", "--device", "cuda"]


@pytest.fixture(autouse=True)
def exact(monkeypatch, tmp_path):
    """Convolutions in full fp32, as a run makes them; few episodes."""
    pick_device("cuda")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    small_budget(monkeypatch, validation_episodes=10, adapted_validation_episodes=4)


@pytest.mark.parametrize("name, given", STARTS, ids=str)
def test_every_method_gets_a_record(name, given):
    answer = bench(*SHORT, "--method", name, *given)
    assert answer.code == 0, answer.err
    assert "warning" not in answer.err, answer.err
    (path,) = Path("results").rglob("*.json")
    record = store.read(path)
    assert record.failure is None
    assert record.environment.device == torch.cuda.get_device_name()
    assert record.environment.precision == "bf16-mixed"
    assert all(np.isfinite(metric.value) for metric in record.metrics.values())
    assert bench("validate").code == 0


@pytest.mark.parametrize("name, given", SMOKE_RUNS, ids=str)
def test_the_first_step_is_that_of_the_cpu(name, given, tiny, tiny_split):
    """Loss and gradient on the same batch from the same weights."""
    normalise = Normaliser(tiny.images, tiny_split.train)
    found = {}
    for device in (CPU, GPU):
        method = smoke_method(name, len(tiny_split.base), **given).to(device)
        if not method.automatic_optimization:
            pytest.skip("takes its own steps: see the next test")
        torch.manual_seed(0)
        spec = method.batches()
        batches = TrainingBatches(tiny, tiny_split, spec, normalise, 0, CPU)
        batch = type(first := next(iter(batches)))(*(part.to(device) for part in first))
        method.train()
        method.on_fit_start()
        torch.manual_seed(0)
        loss = method.training_step(batch, 0)
        loss.backward()
        gradient = [p.grad.flatten().cpu() for p in method.parameters() if p.grad is not None]
        found[device] = loss.item(), torch.cat(gradient)
    (loss, gradient), (on_gpu, gradient_on_gpu) = found[CPU], found[GPU]
    assert on_gpu == pytest.approx(loss, rel=1e-3)
    assert (gradient_on_gpu - gradient).norm() < 0.01 * gradient.norm()


@pytest.mark.parametrize("name", ["maml", "reptile", "siamese_reptile"])
def test_steps_of_their_own_are_those_of_the_cpu(name, tiny, tiny_split, tmp_path):
    """Two steps of methods that take their own, on GPU tasks all at once, move the weights as on the CPU."""
    moved = []
    split = replace(tiny_split, validation_images=tiny_split.validation_images[:0])  # the last weights stay
    for device in (CPU, GPU):
        method = smoke_method(name, len(split.base), steps=2)
        before = torch.cat([weights.detach().flatten().clone() for weights in method.parameters()])
        fit(method, tiny, split, tmp_path / device.type, device=device)
        after = torch.cat([weights.detach().flatten().cpu() for weights in method.parameters()])
        moved.append(after - before)
    assert moved[0].norm() > 0
    assert (moved[0] - moved[1]).norm() < 0.05 * moved[0].norm()


@pytest.mark.parametrize("name, given", SMOKE_RUNS, ids=str)
def test_a_trained_method_answers_as_on_the_cpu(name, given, tiny, tiny_split, tmp_path):
    method = smoke_method(name, len(tiny_split.base), filters=16, **given)
    trained = fit(method, tiny, tiny_split, tmp_path, device=GPU)
    assert np.isfinite(trained.curves["loss"]).all()
    normalise = Normaliser(tiny.images, tiny_split.train)
    pool = ClassPool(tiny.labels[tiny_split.novel_images].numpy())
    episodes = draw(pool, "cuda", Setting(5, 1, 5, 40))
    answers = []
    for device in (CPU, GPU):
        where = (copy.deepcopy(method).to(device).eval(), tiny.images, tiny_split.novel_images, normalise)
        if method.fixed_embedding:
            result = fewshot.evaluate(where[0], embed_images(*where, "32-true"), pool, episodes)
        else:
            result = adapted.evaluate(*where, "32-true", pool, episodes)
        answers.append(result.accuracies)
    # Rounding may decide a draw between two classes.
    assert np.abs(answers[0] - answers[1]).mean() < 0.01


@pytest.mark.parametrize("name, given", SMOKE_RUNS, ids=str)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    name, given, tiny, tiny_split, tmp_path, monkeypatch
):
    small_budget(monkeypatch, save_every_s=0.0)
    method = smoke_method(name, len(tiny_split.base), **given)
    fit(method, tiny, tiny_split, tmp_path / "whole", device=GPU)
    with killed_after(7):
        killed = smoke_method(name, len(tiny_split.base), **given)
        fit(killed, tiny, tiny_split, tmp_path / "k", device=GPU)
    resumed = smoke_method(name, len(tiny_split.base), **given)
    fit(resumed, tiny, tiny_split, tmp_path / "k", device=GPU)
    assert (tmp_path / "k" / "logs" / "from-7").is_dir()
    for parameter, value in method.state_dict().items():
        assert torch.equal(resumed.state_dict()[parameter].cpu(), value.cpu()), parameter


def test_a_model_answers_on_either_device():
    assert bench(*SHORT, "--method", "protonet").code == 0
    (folder,) = {path.parent for path in Path("runs").rglob("model.safetensors")}
    rng = np.random.default_rng(0)
    pictures = list(rng.integers(0, 256, (12, 40, 40, 3), dtype=np.uint8))
    answers = {}
    for device in ("cpu", "cuda"):
        model = package.load(folder, device=device)
        answers[device] = model.classify(pictures[:8], list("abababab"), pictures[8:])
    # One rounds to bfloat16, if the CPU has it, and the other does not.
    assert (answers["cpu"] - answers["cuda"]).abs().max() < 0.05


def test_jobs_of_a_sweep_share_a_gpu():
    grid = "preset: smoke\ndataset: glyphs\nsplit: 90-10\nmethod: [nearest_centroid, protonet, anil]\n"
    Path("grid.yaml").write_text(grid)
    answer = bench("sweep", "grid.yaml", "--jobs", "3", "--device", "cuda", "--results", "results")
    assert answer.code == 0, answer.err
    assert len(list(Path("results").rglob("*.json"))) == 3


def test_a_gpu_that_is_not_there():
    missing = torch.cuda.device_count()
    said = complaint("run", "--dataset", "glyphs", "--device", f"cuda:{missing}", "--method", "protonet")
    assert said.startswith(f"--device cuda:{missing}: not on this machine; allowed: auto, cpu, cuda")


def test_gpu_memory_that_runs_out():
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        answer = bench(*SHORT, "--method", "protonet")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert answer.code == 2 and "memory" in answer.err and "Traceback" not in answer.err, answer.err


def test_autocast_is_that_of_the_device():
    with autocast(GPU, "bf16-mixed"):
        assert (torch.ones(2, 2, device=GPU) @ torch.ones(2, 2, device=GPU)).dtype == torch.bfloat16
