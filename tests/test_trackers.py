"""`--logger`: training curves in Weights & Biases and MLflow, which change nothing else."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from command_line import bench, complaint
from pytorch_lightning.loggers.logger import DummyLogger

from bench.records import store
from bench.run import trackers

RUN = [
    "run", "--method", "protonet", "--dataset", "folder:images", "--split", "50-50", "--preset", "smoke",
    "--device", "cpu", "--image-size", "16", "--set", "train_way=3", "--measure", "pairs",
]  # fmt: skip


@pytest.fixture(autouse=True)
def workspace(here, unquestioned, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("logger", ["wandb", "mlflow"])
def test_a_missing_package_is_named_before_any_work(monkeypatch, logger):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = complaint(*RUN, "--logger", logger)
    assert said == (
        f"--logger {logger}: is not installed; install the extra {logger} (in a clone:"
        f' `uv run --extra {logger} python -m bench ...` or `pip install ".[{logger}]"`)'
    )


def test_a_folder_of_logs_is_not_the_package():
    if importlib.util.find_spec("wandb"):
        pytest.skip("wandb is installed")
    Path("wandb").mkdir()
    assert "is not installed" in complaint(*RUN, "--logger", "wandb")


def test_an_unknown_tracker_gets_the_nearest_name():
    assert complaint(*RUN, "--logger", "wnb") == "--logger wnb: did you mean wandb? allowed: mlflow, wandb"


class Recorder(DummyLogger):
    """Keeps what a tracker is told."""

    made: list["Recorder"]

    def __init__(self, *given, **named):
        super().__init__()
        self.given, self.settings, self.losses, self.status = (given, named), {}, {}, ""
        self.made.append(self)

    def log_hyperparams(self, settings):
        self.settings = settings

    def log_metrics(self, metrics, step):
        if "train/loss" in metrics:
            self.losses[step] = metrics["train/loss"]

    def finalize(self, status):
        self.status = status


@pytest.fixture
def recorders(monkeypatch) -> list[Recorder]:
    """Trackers that are made, without their packages; wandb's `finish` says its exit code there too."""
    monkeypatch.setattr(Recorder, "made", [], raising=False)
    for name, logger in (("wandb", "WandbLogger"), ("mlflow", "MLFlowLogger")):
        package = ModuleType(name)
        package.__spec__ = ModuleSpec(name, None, origin="here")
        package.finish = lambda exit_code: Recorder.made.append(exit_code)
        monkeypatch.setitem(sys.modules, name, package)
        monkeypatch.setattr(f"pytorch_lightning.loggers.{logger}", Recorder)
    return Recorder.made


def recorded(*flags: str) -> store.Record:
    answer = bench(*RUN, *flags, "--overwrite")
    assert answer.code == 0, answer.err
    return store.read(Path(answer.out.splitlines()[-1]))


@pytest.mark.slow
def test_trackers_get_the_settings_and_the_curve_and_change_nothing(recorders):
    a, b = recorded("--logger", "wandb,mlflow"), recorded()
    assert (a.run_id, a.metrics, a.config, a.model) == (b.run_id, b.metrics, b.config, b.model)
    *trackers, code = recorders
    runs = Path("runs").resolve()
    assert [one.given for one in trackers] == [
        ((a.run_id, Path("runs", a.run_id)), {"project": "fewshot-bench"}),
        (("fewshot-bench", a.run_id, f"sqlite:///{runs / 'mlflow.db'}"), {}),
    ]
    for one in trackers:
        assert one.settings["split"] == "50-50" and one.settings["hyperparameters"]["steps"] == 12
        assert len(one.losses) == 12 and all(loss > 0 for loss in one.losses.values())
        assert one.status == "success"
    assert code == 0


@pytest.mark.slow
def test_a_tracker_that_cannot_start_is_one_line(recorders, monkeypatch):
    def cannot(*given):
        raise ConnectionError("nobody is there")

    monkeypatch.setattr("pytorch_lightning.loggers.MLFlowLogger", cannot)
    answer = bench(*RUN, "--logger", "wandb,mlflow")
    assert answer.code == 2
    assert answer.err.splitlines()[-1] == "error: --logger mlflow: cannot start: nobody is there"
    wandb, code = recorders
    assert wandb.status == "failed" and code == 1


@pytest.mark.slow
def test_wandb_offline_keeps_its_files_in_the_folder_of_the_run(monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run_id = recorded("--logger", "wandb").run_id
    [logged] = Path("runs", run_id, "wandb").glob("offline-run-*/run-*.wandb")
    assert logged.stat().st_size > 0 and wandb.run is None and not Path("wandb").exists()
    content = logged.read_bytes()
    assert b"train/loss" in content and run_id.encode() in content


@pytest.mark.slow
@pytest.mark.soak
def test_mlflow_has_the_settings_and_the_curve(monkeypatch):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy", reason="mlflow-skinny has no local store")
    from mlflow.tracking import MlflowClient

    run_id = recorded("--logger", "mlflow").run_id
    client = MlflowClient("sqlite:///runs/mlflow.db")
    experiment = client.get_experiment_by_name("fewshot-bench")
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == (run_id, "FINISHED")
    assert run.data.params["split"] == "50-50" and run.data.params["hyperparameters/steps"] == "12"
    assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 12
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://x")
    answer = bench(*RUN, "--logger", "mlflow", "--overwrite")
    assert answer.code == 2 and "error: --logger mlflow: cannot start: " in answer.err.splitlines()[-1]


def test_a_tracker_that_fails_later_costs_one_warning(capsys):
    class GoesAway(DummyLogger):
        logged = 0

        def log_metrics(self, *arguments, **named):
            self.logged += 1
            if self.logged > 2:
                raise ConnectionError("server\nis gone")

        def finalize(self, status):
            raise AssertionError("must not be asked again")

    logger = GoesAway()
    trackers._tolerate(logger, "mlflow")
    for step in range(5):
        logger.log_metrics({"loss": 1.0}, step=step)
    logger.finalize("success")
    assert logger.logged == 3
    assert capsys.readouterr().err == "warning: --logger mlflow: stopped logging: server is gone\n"
