import pytest

from bench.common.errors import UserError
from bench.config import run_config
from bench.config.lists import read_sets
from bench.config.run_config import RunConfig, method_info, resolve
from bench.config.yaml_files import read_yaml
from bench.records.identity import as_set
from methods.registry import available

METHOD = '''
from dataclasses import dataclass
from typing import Literal

from methods.method import Method


class Mine(Method):
    """Has a hyperparameter of every type."""

    presets = {"standard": {}, "tiny": {"steps": 2, "rate": 0.5}}

    @dataclass(frozen=True)
    class Hyperparameters:
        steps: int = 10
        rate: float = 0.25
        bias: bool = True
        name: str = "a"
        kind: Literal["x", "y"] = "x"
        order: Literal[1, 2] = 1
        limit: int | None = None
        one: Literal["only"] = "only"
'''


def resolved(sets=None, **given) -> RunConfig:
    return resolve({"method": "siamese_triplet", **given}, {}, sets or {})


def problem(sets=None, sources=None, **given) -> str:
    with pytest.raises(UserError) as caught:
        resolve({"method": "siamese_triplet", **given}, sources or {}, sets or {})
    return str(caught.value)


@pytest.fixture
def mine(tmp_path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(METHOD)
    return f"{path}:Mine"


def test_defaults_then_preset_then_file_then_flags():
    info = available()["siamese_triplet"]
    defaults = {name: parameter.default for name, parameter in info.parameters.items()}
    preset = {**info.presets["quick"]}
    backbone = preset.pop("backbone")
    assert preset["learning_rate"] != defaults["learning_rate"]

    plain = resolved(preset="quick")
    assert plain.hyperparameters == defaults | preset
    assert (plain.backbone, plain.overrides) == (backbone, {})

    file = {"learning_rate": 0.3, "margin": 0.7}
    from_file = resolved(preset="quick", hyperparameters=file)
    assert from_file.hyperparameters == defaults | preset | file
    assert from_file.overrides == file

    both = resolved({"learning_rate": "0.4"}, preset="quick", hyperparameters=file, backbone="resnet20")
    assert both.hyperparameters == defaults | preset | file | {"learning_rate": 0.4}
    assert both.overrides == {"learning_rate": 0.4, "margin": 0.7, "backbone": "resnet20"}


def test_without_anything_it_is_the_standard_run_on_cifar100():
    plain = resolved()
    assert (plain.preset, plain.dataset, plain.split, plain.seed) == ("standard", "cifar100", "90-10", 0)
    assert plain.train and plain.precision == "auto" and plain.weights is None
    assert resolved(preset=None, seed=None) == plain  # None is "not given"


def test_zero_where_the_type_says_so():
    for value, found in (("0", 0), ("7", 7), ("none", None)):
        config = resolved({"test_generated": value}, method="protonet_hallucination")
        assert config.hyperparameters["test_generated"] == found
    assert problem({"test_generated": "-1"}, method="protonet_hallucination") == (
        "--set test_generated=-1: must be at least 0"
    )


def test_a_repeated_default_does_not_count_as_an_override():
    assert resolved({"learning_rate": "0.1"}, backbone="resnet12-32").overrides == {}


def test_text_is_read_as_its_type(mine):
    text = {
        "steps": "7", "rate": "1e-3", "bias": "false", "name": "5", "kind": "y", "order": "2", "limit": "3",
        "one": "only",
    }  # fmt: skip
    expected = {
        "steps": 7, "rate": 0.001, "bias": False, "name": "5", "kind": "y", "order": 2, "limit": 3,
        "one": "only",
    }  # fmt: skip
    found = resolved(text, method=mine).hyperparameters
    assert found == expected
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in expected.items()
    }
    assert resolved({"limit": "none"}, method=mine).hyperparameters["limit"] is None


def test_a_whole_number_in_a_file_will_do_for_a_fraction(mine):
    rate = resolved(method=mine, hyperparameters={"rate": 1}).hyperparameters["rate"]
    assert rate == 1.0 and type(rate) is float


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("steps", "abc", "must be a whole number"),
        ("steps", "1.5", "must be a whole number"),
        ("steps", "0", "must be at least 1"),
        ("steps", "-3", "must be at least 1"),
        ("steps", "", "must be a whole number"),
        ("steps", "none", "must be a whole number"),
        ("rate", "fast", "must be a number"),
        ("rate", "-1", "must be at least 0"),
        ("rate", "nan", "must be a finite number"),
        ("rate", "inf", "must be a finite number"),
        ("rate", "-inf", "must be a finite number"),
        ("bias", "maybe", "must be true or false"),
        ("kind", "Y", "did you mean y? allowed: x, y"),
        ("order", "3", "allowed: 1 or 2"),
        ("one", "other", "allowed: only"),
        ("limit", "few", "must be a whole number"),
        ("stepz", "3", "mine has no such hyperparameter; did you mean steps? allowed: steps, rate, bias"),
    ],
)
def test_set_refuses_what_the_type_does_not_take(mine, name, value, allowed):
    assert problem({name: value}, method=mine).startswith(f"--set {name}={value}: {allowed}")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("steps", "7", "must be a whole number"),
        ("steps", True, "must be a whole number"),
        ("steps", 7.0, "must be a whole number"),
        ("rate", "0.1", "must be a number"),
        ("rate", True, "must be a number"),
        ("rate", [1], "must be a number"),
        ("bias", 1, "must be true or false"),
        ("name", 5, "must be text"),
        ("kind", None, "allowed: x, y"),
        ("nothing", 1, "mine has no such hyperparameter"),
    ],
)
def test_a_file_has_types_and_they_must_be_right(mine, name, value, allowed):
    sources = {"hyperparameters": "run.yaml: hyperparameters"}
    text = problem(sources=sources, method=mine, hyperparameters={name: value})
    assert text.startswith(f"run.yaml: hyperparameters.{name} {value}: {allowed}")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"method": None}, "--method: is missing; allowed: "),
        ({"preset": ["quick"]}, "--preset ['quick']: did you mean quick? allowed: smoke"),
        ({"backbone": "resnet12-0"}, "--backbone resnet12-0: did you mean resnet"),
        ({"backbone": 4}, "--backbone 4: allowed: conv4"),
        ({"seed": "0"}, "--seed 0: must be a whole number"),
        ({"image_size": 7}, "--image-size 7: must be at least 8"),
        ({"image_size": 1025}, "--image-size 1025: must be at most 1024"),
        ({"way": 5, "shot": 0}, "--shot 0: must be at least 1"),
        ({"way": 5, "shot": 1, "query": 0}, "--query 0: must be at least 1"),
        ({"way": 5, "shot": 1, "episodes": 1}, "--episodes 1: must be at least 2"),
        ({"way": 5, "shot": 1, "episodes": 10**6 + 1}, "--episodes 1000001: must be at most 1000000"),
        ({"hyperparameters": [1]}, "hyperparameters [1]: must be a map from name to value"),
        ({"learning_rate": 0.1}, "; hyperparameters go under `hyperparameters:`"),
    ],
)
def test_refused_values_and_their_messages(given, expected):
    """More of them are in test_bad_input_config.py and test_bad_input_flags.py."""
    assert expected in problem(**given)


def test_untrained_weights_are_not_evaluated():
    """They would be ranked as if something had been learned."""
    nothing = {"train": False, "sources": {"train": "--no-train"}}
    assert problem(**nothing) == "--no-train: needs trained weights: --weights FILE"
    either = "--no-train: needs trained weights: --weights FILE or --set pretrained=true"
    assert problem(method="finetune", **nothing) == either
    assert problem({"pretrained": "false"}, method="finetune", preset="original", **nothing) == either
    assert not resolved(
        method="finetune", preset="original", train=False
    ).train  # it begins with timm's weights
    assert not resolved({"pretrained": "true"}, method="finetune", train=False).train
    assert not resolved(weights="trained.pt", train=False).train


def test_the_message_names_where_the_value_came_from():
    assert problem(sources={"seed": "run.yaml: seed"}, seed=-1) == "run.yaml: seed -1: must be at least 0"
    assert problem({"steps": "0"}, {"steps": "--steps"}) == "--steps 0: must be at least 1"


@pytest.mark.parametrize(
    "backbone", ["conv4", "resnet12", "resnet12-32", "resnet56", "timm:resnet18", "timm:vit_a.b-c"]
)
def test_backbones_that_may_be_asked_for(backbone):
    assert resolved(backbone=backbone).backbone == backbone


def test_a_user_s_method_may_have_its_own_presets(mine):
    tiny = resolved(method=mine, preset="tiny")
    assert (tiny.hyperparameters["steps"], tiny.hyperparameters["rate"], tiny.backbone) == (2, 0.5, "conv4")
    assert problem(method=mine, preset="quick").endswith("allowed: standard, tiny (of mine)")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            (' "tiny": {', ' "tiny": {"stepz": 1, '),
            "--preset tiny: mine has no such hyperparameter; did you mean steps?",
        ),
        (('"rate": 0.5', '"rate": "much"'), "--preset tiny: must be a number"),
        (
            ("rate: float", "rate: complex"),
            "--method mine: the hyperparameter rate has type complex; allowed: int, float",
        ),
        (
            ("limit: int | None", "limit: int | str"),
            "hyperparameter limit has type int | str; allowed: int,",
        ),
    ],
)
def test_a_user_s_method_that_contradicts_itself(tmp_path, change, expected):
    path = tmp_path / "mine.py"
    path.write_text(METHOD.replace(*change))
    assert expected in problem(method=str(path), preset="tiny")


def test_an_additional_setting_has_the_default_queries_and_episodes():
    own = resolved(way=3, shot=2)
    assert (own.way, own.shot, own.query, own.episodes, own.overrides) == (3, 2, 15, 10_000, {})
    assert own == resolved(way=3, shot=2, query=15, episodes=10_000)


def test_the_resolved_yaml_is_the_same_configuration_again(tmp_path):
    first = resolved(
        {"learning_rate": "1e-3"}, preset="smoke", split="cifar-fs", seed=3, way=3, shot=2, precision="fp32"
    )
    path = tmp_path / "config.yaml"
    path.write_text(first.to_yaml())
    again = resolve(read_yaml(path), {}, {})
    assert again == first
    assert again.overrides == {"learning_rate": 1e-3, "precision": "fp32"}


def test_a_folder_has_one_name_however_it_is_spelled():
    found = [
        resolved(dataset=f"folder:{place}")
        for place in ("T", "T/", "./T", "T/.", "../T", "~/T", "./~T", "~T")
    ]
    assert [one.dataset for one in found[:4]] == ["folder:T"] * 4
    assert len({one.dataset for one in found[3:]}) == 5


def test_a_method_can_be_given_as_a_file_with_or_without_its_class(mine):
    path = mine.removesuffix(":Mine")
    assert method_info(path).class_name == method_info(mine).class_name == "Mine"
    with pytest.raises(UserError, match=r"mine.py:Yours: .*mine.py has no class Yours; it has Mine"):
        method_info(f"{path}:Yours")


def test_sets_are_key_value_pairs():
    assert read_sets(["a=1", " b = x=y ", "a=2", "c="]) == {"a": "2", "b": "x=y", "c": ""}
    for text in ("a", "=1", " =1", ""):
        with pytest.raises(UserError, match="must be key=value"):
            read_sets([text])


def test_every_preset_of_every_method_resolves():
    for name, info in available().items():
        for preset in info.presets:
            found = resolve({"method": name, "preset": preset}, {}, {})
            assert found.overrides == {} and found.hyperparameters.keys() == info.parameters.keys()
    assert run_config.PRESETS.keys() == {"smoke", "quick", "standard", "paper", "original"}


@pytest.mark.parametrize("method", available())
def test_hyperparameters_as_pages_show_them_can_be_given_back(method):
    for preset in method_info(method).presets:
        known = resolved(method=method, preset=preset).hyperparameters
        given = resolved(read_sets(as_set(known)), method=method, preset="smoke")
        assert given.hyperparameters == known
