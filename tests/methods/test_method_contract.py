"""What the harness relies on, for every method of the package."""

import ast
import dataclasses
from pathlib import Path

import pytest
import torch

import bench
from bench.data.normalisation import Normaliser
from bench.run.method_template import OwnMethod
from bench.training.batches import TrainingBatches
from methods import registry
from methods.backbones import build
from methods.base_classifier import BaseClassifier
from methods.batches import AnchorTasks, Balanced, EpisodeBatch, Episodes, Pairs, Shuffled, Triplets
from methods.method import Method, class_means
from methods.outer_loop import OuterLoop

NAMES = sorted(name for name, info in registry.available().items() if info.source == f"methods.{name}")
TRAINS_ON = {
    "shuffled": Shuffled,
    "balanced": Balanced,
    "pairs": Pairs,
    "triplets": Triplets,
    "episodes": Episodes,
    "tasks": AnchorTasks,
}
SMALL = {
    Shuffled: {"images": 8},
    Balanced: {"images": 4},
    Pairs: {"pairs": 8},
    Triplets: {"triplets": 8},
    Episodes: {"shot": 2, "query": 2, "episodes": 1},
    AnchorTasks: {"tasks": 2, "batches": 2, "triplets": 4},
}
PRESETS = [(name, preset) for name in NAMES for preset in registry.available()[name].presets]


def once_for_its_settings() -> list:
    """`PRESETS` as cases; those that repeat the step of an earlier one are for soak."""
    cases, seen = [], []
    for name, preset in PRESETS:
        own = name, dict(registry.available()[name].presets[preset]) | {"steps": 0, "backbone": "conv4"}
        cases.append(pytest.param(name, preset, marks=pytest.mark.soak if own in seen else ()))
        seen.append(own)
    return cases


def make(name: str, preset: str | None = None, num_classes: int = 8, **changes) -> Method:
    """A method on a small backbone, for images of 16 pixels."""
    method_class = registry.load(registry.available()[name])
    of_preset = method_class.presets[preset] if preset else {}
    changes = {k: v for k, v in of_preset.items() if k != "backbone"} | changes
    if "pretrained" in changes:
        changes["pretrained"] = False  # no network here
    torch.manual_seed(0)
    return method_class(build("conv4", 16), method_class.Hyperparameters(**changes), num_classes)


every_method = pytest.mark.parametrize("name", NAMES)
fixed_embedding = pytest.mark.parametrize(
    "name", [name for name in NAMES if registry.available()[name].fixed_embedding]
)


def test_there_are_methods():
    assert {"protonet", "siamese_triplet"} <= set(NAMES)


def test_the_harness_names_no_method():
    """Help and docstrings may, in examples."""
    for path in Path(bench.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Constant) and node.value in NAMES), f"{path.name} {node.lineno}"


@every_method
def test_a_method_describes_itself(name):
    info = registry.available()[name]
    assert info.family and info.paper and info.trains_on in {*TRAINS_ON, "pretraining"}
    assert all(parameter.help for parameter in info.parameters.values())


@every_method
def test_hyperparameters_are_frozen(name):
    hp = make(name).hp
    with pytest.raises(dataclasses.FrozenInstanceError):
        hp.steps = 3


@every_method
def test_presets(name):
    presets = list(registry.available()[name].presets)
    assert presets[:3] == ["smoke", "quick", "standard"]
    assert presets[3:] in (["paper"], ["original"], ["paper", "original"])


@pytest.mark.parametrize("name, preset", PRESETS)
def test_every_preset_constructs(name, preset):
    method = make(name, preset)
    hp = method.hp
    for field in dataclasses.fields(hp):
        value = getattr(hp, field.name)
        if value is None:
            assert field.type.endswith(" | None"), field
            continue
        if field.type.startswith("Literal["):
            assert value in ast.literal_eval(field.type.removeprefix("Literal")), field
            continue
        types = {"int": int, "float": (int, float), "bool": bool}
        assert isinstance(value, types.get(field.type.removesuffix(" | None"), str)), field
    build(method.presets[preset]["backbone"])
    assert hp.steps > 0
    if method.training_steps:
        method.batches()
        method.configure_optimizers()
    else:
        assert method.pretraining is not None and method.pretraining.steps == hp.steps


@every_method
def test_it_trains_on_what_it_says(name):
    method = make(name)
    if method.trains_on == "pretraining":
        assert method.training_steps == 0 and method.pretraining is not None
    else:
        assert isinstance(method.batches(), TRAINS_ON[method.trains_on])


OFFER_A_START = [name for name in NAMES if "init" in registry.available()[name].parameters]


def test_methods_that_offer_both_starts():
    assert set(OFFER_A_START) == {
        "maml", "anil", "reptile", "mtl", "protonet", "protonet_hallucination", "matching",
        "pair_classifier", "siamese_triplet",
    }  # fmt: skip


BUDGETS = {"quick": 3200 * 128, "standard": 4000 * 128}
"""Training images, pretraining included."""


@pytest.mark.parametrize("name, preset", [(n, p) for n, p in PRESETS if p in BUDGETS])
def test_presets_cost_as_many_images_whatever_they_start_from(name, preset):
    for init in ("scratch", "pretrained"):
        if init == "pretrained" and name not in OFFER_A_START:
            continue
        given = {"init": init} | registry.available()[name].starts.get(init, {})
        method = make(name, preset, num_classes=60, **(given if name in OFFER_A_START else {}))
        own = method.training_steps * method.batches().size if method.training_steps else 0
        first = method.pretraining.steps * method.pretraining.images if method.pretraining else 0
        assert own + first == pytest.approx(BUDGETS[preset], rel=0.001)
        assert (method.pretraining is None) == (init == "scratch" and method.trains_on != "pretraining")
        if method.pretraining and own:
            # One network serves all of them.
            assert method.pretraining.steps == 3 * BUDGETS[preset] // (4 * 128)


@pytest.mark.parametrize("preset", BUDGETS)
def test_a_method_that_new_method_writes_costs_as_many(preset):
    values = {key: value for key, value in OwnMethod.presets[preset].items() if key != "backbone"}
    method = OwnMethod(build("conv4", 32), OwnMethod.Hyperparameters(**values), num_classes=60)
    assert method.training_steps * method.batches().size == BUDGETS[preset]


@pytest.mark.slow
@pytest.mark.parametrize("name, preset", once_for_its_settings())
def test_a_training_step_reaches_every_parameter(name, preset, tiny, tiny_split):
    method = make(name, preset, **({"inner_steps": 2} if name in ("maml", "reptile") else {}))
    if not method.training_steps:
        pytest.skip("it answers with the pretrained network")
    if method.pretraining:
        method.start_from(BaseClassifier(build("conv4", 16), method.pretraining, 8))
    normalise = Normaliser(tiny.images, tiny_split.train)
    spec = method.batches()
    spec = dataclasses.replace(spec, **SMALL[type(spec)])
    batch = next(iter(TrainingBatches(tiny, tiny_split, spec, normalise, 0, torch.device("cpu"))))
    before = {parameter: parameter.detach().clone() for parameter in method.parameters()}
    if isinstance(method, OuterLoop):
        method.manual_backward = torch.Tensor.backward  # there is no trainer
        loss = method.outer_step(batch, method.configure_optimizers()["optimizer"])
    else:
        loss = method.training_step(batch, 0)
        loss.backward()
    assert loss.shape == () and loss.dtype == torch.float32 and torch.isfinite(loss) and loss > 0
    for parameter_name, parameter in method.named_parameters():
        if isinstance(method, OuterLoop):
            assert torch.isfinite(parameter).all(), parameter_name
            assert not torch.equal(parameter, before[parameter]), parameter_name
            continue
        if not parameter.requires_grad:  # a pretrained network that stays as it is
            continue
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@fixed_embedding
def test_embeddings_are_one_vector_an_image(name):
    method = make(name).eval()
    with torch.no_grad():
        made = method.embed(torch.randn(5, 3, 16, 16))
    assert made.ndim == 2 and len(made) == 5 and torch.isfinite(made).all()


def embeddings(method: Method, *shape: int) -> torch.Tensor:
    """Random ones of the width that the method makes: ``[*shape, D]``."""
    with torch.no_grad():
        width = method.embed(torch.zeros(1, 3, 16, 16)).shape[1]
    return torch.randn(*shape, width, generator=torch.Generator().manual_seed(len(shape)))


@fixed_embedding
def test_a_query_s_answer_depends_on_no_other_query(name):
    method = make(name).eval()
    support, query = embeddings(method, 2, 4, 3), embeddings(method, 2, 9)
    with torch.no_grad():
        logits = method.episode_logits(support, query)
        assert logits.shape == (2, 9, 4)
        alone = torch.cat([method.episode_logits(support, query[:, i : i + 1]) for i in range(9)], dim=1)
        other_episode_gone = method.episode_logits(support[1:], query[1:])
    torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits[1:], other_episode_gone, rtol=1e-4, atol=1e-5)


@fixed_embedding
def test_the_order_of_classes_and_shots_does_not_matter(name):
    method = make(name).eval()
    support, query = embeddings(method, 2, 4, 3), embeddings(method, 2, 9)
    with torch.no_grad():
        logits = method.episode_logits(support, query)
        shots = method.episode_logits(support[:, :, [2, 0, 1]], query)
        classes = method.episode_logits(support[:, [3, 1, 0, 2]], query)
    torch.testing.assert_close(shots, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(classes, logits[:, :, [3, 1, 0, 2]], rtol=1e-4, atol=1e-5)


@fixed_embedding
def test_similarity_is_symmetric_and_highest_for_the_same_image(name):
    method = make(name).eval()
    a, b = torch.nn.functional.normalize(embeddings(method, 2, 20), dim=-1)
    with torch.no_grad():
        forth, back, self_similar = method.similarity(a, b), method.similarity(b, a), method.similarity(a, a)
    assert forth.shape == (20,)
    torch.testing.assert_close(forth, back)
    assert (self_similar > forth).all()


def test_class_means():
    support = torch.arange(2 * 3 * 2 * 4).view(2, 3, 2, 4)
    means = class_means(support.bfloat16())
    assert means.dtype == torch.float32 and means.shape == (2, 3, 4)
    assert means[1, 2].tolist() == [(a + b) / 2 for a, b in support[1, 2].T.tolist()]


def test_support_and_queries_are_embedded_in_one_forward():
    class Means(Method):
        def embed(self, images):
            return images.mean((2, 3))

    support, query = torch.randn(2, 3, 4, 3, 8, 8), torch.randn(2, 5, 3, 8, 8)
    batch = EpisodeBatch(support, query, torch.zeros(2, 5), torch.zeros(2, 3))
    of_support, of_query = Means(build("conv4"), Method.Hyperparameters(), 3).embed_episodes(batch)
    torch.testing.assert_close(of_support, support.mean((4, 5)))
    torch.testing.assert_close(of_query, query.mean((3, 4)))


def test_a_method_that_answers_nothing_says_so():
    method = Method(build("conv4"), Method.Hyperparameters(), 8)
    for call in (
        method.batches,
        lambda: method.episode_logits(torch.ones(1), torch.ones(1)),
        lambda: method.similarity(torch.ones(1), torch.ones(1)),
    ):
        with pytest.raises(NotImplementedError):
            call()
