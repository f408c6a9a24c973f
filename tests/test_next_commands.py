"""Commands that the program prints for the next step are ones that it takes, and do what they say."""

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import bench as command
from parsed_commands import parsed
from record_factory import make_record

import bench
from bench.cli.rank import predict_command
from bench.common.clock import NOTHING
from bench.common.errors import UserError
from bench.config.run_config import RunConfig, method_info, resolve
from bench.demo.runs import chosen
from bench.records import store
from bench.records.commands import command_of, made_by
from bench.records.identity import with_defaults
from bench.run import runner
from bench.run.models import CARD, Card
from bench.run.plan import Options
from bench.serving.finding import find_folder


@pytest.mark.parametrize("run_code", [False, True])
def test_the_command_after_rank(run_code):
    name, given = parsed(predict_command("r_s0_ab", Path("my runs"), "own photos", run_code))
    assert name == "predict" and given["run_code"] is run_code
    assert (given["run"], given["runs"], given["support"]) == ("r_s0_ab", Path("my runs"), Path("own photos"))
    assert list(given["query"]) == [Path("YOUR_IMAGES")] and not given["more"]


@pytest.mark.parametrize(
    "given",
    [
        {"method": "protonet"},
        {"method": "maml", "preset": "quick", "seed": 3, "split": "cifar-fs", "precision": "bf16"},
        {"method": "protonet", "backbone": "resnet18", "augment": "none", "measure": "pairs,5w1s"},
        {"method": "protonet", "hyperparameters": {"scale": 8.0, "steps": 7}, "way": 3, "shot": 2},
        {"method": "nearest_centroid", "train": False, "weights": "my weights.pt", "backbone": "conv4"},
        {"method": "protonet", "backbone": "timm:resnet18", "pretrained": True},
        {"method": "nearest_centroid", "train": False, "backbone": "timm:resnet18"},
        {"method": "protonet", "dataset": "folder:my photos", "novel_dataset": "omniglot", "image_size": 28},
        {"method": "protonet", "hyperparameters": {"init": "pretrained"}, "train_on": "base+val"},
    ],
)  # fmt: skip
def test_the_command_of_a_configuration_makes_it_again(given, monkeypatch):
    config, taken = resolve(given, {}, {}), []
    monkeypatch.setattr(runner, "run_all", lambda grid, _: iter(taken.extend(grid) or ()))
    answer = command(*command_of(config.model_dump())[3:])
    assert answer.code == 0 and taken == [config], answer.err


@pytest.mark.slow
def test_the_command_and_name_of_each_committed_record_give_it_again(monkeypatch):
    """Where a preset has changed since, the old value has to be named, or the record removed."""
    root, taken = Path(store.__file__).parents[2], []
    monkeypatch.chdir(root)
    monkeypatch.setattr(runner, "run_all", lambda grid, _: iter(taken.extend(grid) or ()))
    records, problems = store.read_all(root / "results", own=False)
    assert records and not problems
    for record in records:
        taken.clear()
        answer = command(*shlex.split(made_by(record))[3:])
        assert answer.code == 0, answer.err
        cell = record.method, record.split, record.seed, record.backbone
        [made] = [one for one in taken if (one.method, one.split, one.seed, one.backbone) == cell]
        recorded = with_defaults(RunConfig(**record.config), method_info(record.method))
        assert recorded.hyperparameters == made.hyperparameters, record.run_id
        assert recorded.overrides == made.overrides, record.run_id  # they are in the row's name


def test_a_run_of_a_sweep_has_a_command_of_its_own():
    config = resolve({"method": "protonet", "preset": "quick", "split": "cifar-fs", "seed": 2}, {}, {})
    record = make_record(config=config.model_dump(mode="json"), command="python -m bench sweep a.yaml")
    assert made_by(record) == shlex.join(command_of(config.model_dump()))
    alone = "python -m bench run --split all"
    assert made_by(make_record(command=alone)) == alone


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = {"config": {"method": "protonet", "split": "cifar-fs", "overrides": {}}}
    shipped = {"config": common["config"] | {"weights": "glyphs.safetensors"}}
    grid = common | {"command": "python -m bench sweep studies/main.yaml --jobs 18"}
    for record in (
        make_record(run_id="protonet_a_s0_11", **grid),
        make_record(run_id="protonet_a_s1_22", **grid),
        make_record(run_id="own_s0", backbone="encoder:mine", **common),
        make_record(run_id="broken_s0", failure="the loss became NaN", metrics={}, per_class={}, **common),
        make_record(run_id="frozen_s0", command="python -m bench rank photos", weights="a" * 64, **shipped),
    ):
        store.write(record, Path("results/own" if record.run_id == "frozen_s0" else "results"))
    return Path("results")


def model(folder: str, **changes) -> Path:
    card = Card(
        bench_version="0", run_id=Path(folder).name, method="protonet", hyperparameters={}, backbone="conv4",
        dataset="cifar100", fingerprint="f", split="90-10", base_classes=[], image_size=(32, 32),
        pixel_mean=[0, 0, 0], pixel_std=[1, 1, 1], precision="32-true", thresholds={}, weights_sha256="w",
    )  # fmt: skip
    Path(folder).mkdir(parents=True)
    Path(folder, CARD).write_text(card.model_copy(update=changes).model_dump_json())
    return Path(folder)


AGAIN = "`python -m bench run --method protonet --split cifar-fs{more} --overwrite` makes it again"


@pytest.mark.parametrize(
    ("run", "runs", "said"),
    [
        ("protonet_a_s0_11", "runs", "is recorded, but its model is not in runs; " + AGAIN.format(more="")),
        ("protonet_a_s0", "there", "its model is not in there; " + AGAIN.format(more=" --runs there")),
        ("results/protonet_a_s1_22.json", "runs", "is recorded, but its model is not in runs; "),
        ("protonet", "runs", "2 recorded runs start with this, but none of their models is in runs; "),
        ("frozen", "runs", "`python -m bench rank photos --overwrite` makes it again"),
        ("own_s0", "runs", "own_s0: was made by bench.evaluate, which does not keep the encoder; use mine "),
        ("broken", "runs", "--run broken: has no model: the loss became NaN"),
        ("nothing", "runs", "no such run in runs; there are none: `python -m bench run` makes one"),
    ],
)  # fmt: skip
def test_a_run_without_its_model(results, run, runs, said):
    with pytest.raises(UserError) as error:
        find_folder(run, Path(runs))
    assert said in str(error.value)
    if "`" in said and "makes it again" in said:
        parsed(str(error.value).split("`")[1])


def test_the_model_of_an_encoder_cannot_be_loaded(results):
    folder = model("runs/own_s0", backbone="encoder:mine")
    with pytest.raises(UserError, match=r"^--run own_s0: was made by bench\.evaluate, .* use mine itself$"):
        bench.load(folder)


def test_the_page_takes_the_run_whose_model_is_there(results):
    folder = model("runs/protonet_a_s1_22")
    run = chosen("protonet_a", results, Path("runs"))
    assert (run.record.run_id, run.runs) == (folder.name, Path("runs"))
    model("elsewhere/nobody")
    with pytest.raises(UserError, match="--results results: has no record of nobody"):
        chosen("elsewhere/nobody", results, Path("runs"))


@pytest.mark.parametrize(
    ("run_id", "there", "said"),
    [
        ("protonet_a_s0_11", True, "is already recorded; --overwrite"),
        ("protonet_a_s0_11", False, "is already recorded, but its model is not in runs; --overwrite"),
        ("broken_s0", False, "is already recorded; --overwrite"),
    ],
)
def test_run_says_that_a_model_is_gone(results, capsys, run_id, there, said):
    if there:
        model(f"runs/{run_id}")

    class Prepared:
        config, spent = None, NOTHING

    Prepared.run_id = run_id
    path, _ = runner.run(Prepared, Options(results, Path("runs"), ""), None)
    assert path == results / f"{run_id}.json"
    assert capsys.readouterr().err == f"{run_id} {said} runs it again\n"


def test_a_record_of_the_same_configuration_is_named_and_a_damaged_one_is_not(tmp_path, capsys):
    config = resolve({"method": "protonet", "dataset": "glyphs", "preset": "smoke"}, {}, {})
    record = make_record(run_id="protonet_s0_11", config=config.model_dump())
    store.write(record, tmp_path)
    (tmp_path / "protonet_s0_22.json").write_text("{")
    runner._name_relatives(SimpleNamespace(config=config, run_id="protonet_s0_33"), tmp_path)
    said = "has the same configuration but other code or images, so it is not reused"
    assert capsys.readouterr().err == f"{tmp_path / 'protonet_s0_11.json'} {said}\n"
