"""`--pretrained`, and `--no-train` with a model of timm: as if its weights were given with `--weights`."""

from pathlib import Path

import pytest
import timm
import torch
from command_line import bench, settle, write_images

from bench.common.errors import UserError
from bench.config.run_config import RunConfig, resolve
from bench.config.yaml_files import read_yaml
from bench.data.inspect import sizes_of
from bench.records import store
from bench.run.plan import Options, Prepared
from bench.run.preparation import prepare
from bench.run.rank import plan
from bench.run.weights import at_hand, of_timm
from bench.serving.shipped import shipped
from methods import registry
from methods.timm_backbone import TimmBackbone

SIZE = 160  # of test_resnet's images
TIMM = {"method": "nearest_centroid", "backbone": "timm:test_resnet"}
CONTRADICTION = {"pretrained": "false"}


@pytest.mark.parametrize(
    ("taken", "given", "sets"),
    [
        (True, TIMM | {"train": False}, {}),
        (True, TIMM | {"backbone": "dinov2-s", "train": False}, {}),
        (True, TIMM | {"pretrained": True}, {}),
        (True, TIMM | {"pretrained": True, "train": False}, {}),
        (True, {"method": "siamese_triplet", "backbone": "resnet18", "pretrained": True}, {}),
        (False, TIMM, {}),
        (False, TIMM | {"backbone": "dinov2-s"}, {}),
        (False, TIMM | {"train": False, "weights": "mine.pt"}, {}),
        (False, {"method": "finetune", "preset": "original", "weights": "mine.pt"}, {}),
        (False, {"method": "finetune", "preset": "original", "pretrained": False}, {}),
        (False, {"method": "finetune", "preset": "original"}, CONTRADICTION),
        (True, {"method": "finetune", "preset": "original"}, {}),
        (True, TIMM | {"method": "finetune", "train": False}, {}),
        (True, TIMM | {"method": "finetune"}, {"pretrained": "true"}),
        (True, TIMM | {"method": "finetune", "pretrained": True}, {}),
        (
            True,
            TIMM | {"method": "finetune", "pretrained": True, "hyperparameters": {"pretrained": False}},
            {},
        ),
    ],
)
def test_which_runs_take_timm_s_weights(taken, given, sets, tmp_path):
    config = resolve(given, {}, sets)
    assert config.pretrained is taken
    if "weights" not in given and given["method"] == "finetune":
        assert config.hyperparameters["pretrained"] is taken
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert resolve(read_yaml(path), {}, {}) == config


def test_the_hyperparameter_and_the_flag_are_one_configuration():
    finetune = TIMM | {"method": "finetune"}
    assert resolve(finetune, {}, {"pretrained": "true"}) == resolve(finetune | {"pretrained": True}, {}, {})


@pytest.mark.parametrize(
    ("given", "sets", "problem"),
    [
        ({"backbone": "conv4", "pretrained": True}, {}, "--pretrained: the backbone conv4 has no pretrained"),
        (
            {"pretrained": True},
            {},
            "--pretrained: the backbone resnet12-32 has no pretrained weights; must be",
        ),
        (
            {"pretrained": True, "weights": "a.pt"} | TIMM,
            {},
            "--pretrained: cannot be combined with --weights",
        ),
        ({"pretrained": "yes"} | TIMM, {}, "--pretrained yes: must be true or false"),
        ({"backbone": "conv4", "train": False}, {}, "--train: needs trained weights: --weights FILE"),
        (
            TIMM | {"pretrained": True, "method": "finetune"},
            CONTRADICTION,
            "--set pretrained=false: cannot be combined with --pretrained",
        ),
        (
            TIMM | {"train": False, "method": "finetune"},
            CONTRADICTION,
            "--train: needs trained weights: --weights FILE or --set pretrained=true",
        ),
    ],
)
def test_what_is_refused(given, sets, problem):
    with pytest.raises(UserError) as caught:
        resolve({"method": "nearest_centroid"} | given, {}, sets)
    assert str(caught.value).startswith(problem)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """An image folder, and beside it the cache with what was decoded."""
    place = tmp_path_factory.mktemp("photos")
    write_images(place / "images", classes=6, each=20)
    return place


@pytest.fixture
def asked(photos, tmp_path, monkeypatch) -> list[str]:
    """An image folder, and a hub that gives the same weights at each request; the models it was asked for."""
    names = []

    def load(backbone: TimmBackbone) -> None:
        names.append(backbone.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            backbone.model = timm.create_model(backbone.name, pretrained=False, num_classes=0)
        backbone.external = True

    monkeypatch.setattr(TimmBackbone, "load_pretrained", load)
    settle(photos, tmp_path, monkeypatch)
    return names


def prepared(runs: str = "runs", **given) -> Prepared:
    folder = {"preset": "smoke", "dataset": "folder:images", "split": "50-50"}
    options = Options(Path("results"), Path(runs), "", device="cpu")
    return prepare(resolve(TIMM | folder | given, {}, {}), options)


def test_they_are_as_given_by_weights(asked):
    """Same images, normalisation and name, wherever the file lies; asked for once."""
    one, again, elsewhere = prepared(train=False), prepared(train=False), prepared("others", train=False)
    file = prepared(train=False, weights="runs/weights/test_resnet.safetensors")
    assert asked == ["test_resnet"] * 2 and at_hand(Path("runs")) == ["timm:test_resnet"]
    assert len({run.run_id for run in (one, again, elsewhere, file)}) == 1
    assert one.weights_sha256 == file.weights_sha256 and one.data.images.shape[-1] == SIZE
    assert prepared(pretrained=True).run_id != prepared().run_id
    images = one.data.images[:2]
    expected = (images.float() / 255 - 0.5) / 0.5  # timm's constants for test_resnet
    torch.testing.assert_close(one.normalise(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", sorted(registry.available()))
def test_trainings_start_from_them(method, asked):
    """The method's own training, or the shared one of the base classes."""
    run = prepared(method=method, pretrained=True)
    own = run.start.method if run.start else run.method
    torch.manual_seed(5)
    wanted = timm.create_model("test_resnet", pretrained=False, num_classes=0).state_dict()
    found = own.backbone.model.state_dict()
    assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert run.weights_sha256


@pytest.mark.slow
def test_the_second_method_takes_the_features_of_the_first(asked, monkeypatch, unquestioned):
    """Two commands, each from the name of a model to a record."""
    seen = []
    forward = TimmBackbone.forward
    monkeypatch.setattr(TimmBackbone, "forward", lambda own, x: seen.append(len(x)) or forward(own, x))
    through = []
    for method in ("nearest_centroid", "logistic_head"):
        command = ["run", "--method", method, "--backbone", TIMM["backbone"], "--no-train", "--device", "cpu"]
        answer = bench(*command, "--dataset", "folder:images", "--preset", "smoke", "--measure", "5w1s")
        assert answer.code == 0, answer.err
        record = store.read(Path(answer.out.splitlines()[-1]))
        assert record.external_data and record.method == method and "fewshot/5w1s" in record.metrics
        through.append(sum(seen))
        seen.clear()
    # One more image each time, which shows that the method takes features as they are.
    assert through == [120 + 1, 0 + 1] and asked == ["test_resnet"]


def test_one_line_where_they_cannot_be_had(asked, monkeypatch):
    def refuse(backbone: TimmBackbone) -> None:
        raise ValueError("the weights cannot be had: no network")

    monkeypatch.setattr(TimmBackbone, "load_pretrained", refuse)
    with pytest.raises(UserError) as caught:
        prepared(train=False)
    wanted = (
        "--backbone timm:test_resnet: the weights cannot be had: no network; name a file with --weights FILE"
    )
    assert str(caught.value) == wanted


def test_rank_tries_those_at_hand(asked):
    options = Options(Path("results"), Path("runs"), "", device="cpu")
    of_timm("timm:test_resnet", options)
    Path("runs/weights/not a name.safetensors").touch()
    found = plan("images", (), None, shipped().folder, options, preset="smoke")
    assert "timm:test_resnet (frozen)" in found.runs and len(found.runs) == 2 and not found.left_out
    file = "runs/weights/test_resnet.safetensors"
    named = plan("images", (), ["timm:test_resnet"], shipped().folder, options, "smoke", weights_file=file)
    ones = [made.runs["timm:test_resnet (frozen)"] for made in (found, named)]
    assert len({one.weights_sha256 for one in ones}) == 1 and ones[1].config.weights == file
    assert "Images of 32x32 pixels are resized to 32x32" in found.about


def test_the_smallest_and_the_largest_file(tmp_path):
    from PIL import Image

    for number, size in enumerate([(60, 40), (20, 30), (900, 7)]):
        Image.new("L", size).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_text("broken")
    files = sorted(tmp_path.iterdir())
    assert (
        sizes_of(files) == "20x30 to 900x7" and sizes_of(files[:1]) == "60x40" and sizes_of(files[3:]) == ""
    )


def test_a_record_of_an_older_version_is_of_the_same_configuration():
    """It lacks the key."""
    config = resolve({"method": "protonet"}, {}, {})
    older = {key: value for key, value in config.model_dump().items() if key != "pretrained"}
    assert RunConfig.model_validate(older) == config
