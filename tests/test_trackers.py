"""`--logger`: training curves in Weights & Biases and MLflow, which change nothing else."""

import importlib.util
from pathlib import Path

import pytest
from command_line import bench, complaint, write_images
from pytorch_lightning.loggers.logger import DummyLogger

from bench.records import store
from bench.run import trackers

RUN = [
    "run", "--method", "protonet", "--dataset", "folder:images", "--split", "50-50", "--preset", "smoke",
    "--device", "cpu", "--measure", "5w1s",
]  # fmt: skip


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_CACHE", "cache")
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


@pytest.fixture
def images():
    write_images(Path("images"), classes=12, each=12)


def recorded(*flags: str) -> store.Record:
    answer = bench(*RUN, *flags, "--overwrite")
    assert answer.code == 0, answer.err
    return store.read(Path(answer.out.splitlines()[-1]))


def assert_same_run(a: store.Record, b: store.Record) -> None:
    assert (a.run_id, a.metrics, a.config, a.model) == (b.run_id, b.metrics, b.config, b.model)


@pytest.mark.slow
def test_wandb_offline_keeps_its_files_in_the_folder_of_the_run(images, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with_tracker, without = recorded("--logger", "wandb"), recorded()
    assert_same_run(with_tracker, without)
    [logged] = Path("runs", without.run_id, "wandb").glob("offline-run-*/run-*.wandb")
    assert logged.stat().st_size > 0 and wandb.run is None and not Path("wandb").exists()
    content = logged.read_bytes()
    assert b"train/loss" in content and without.run_id.encode() in content


@pytest.mark.slow
def test_mlflow_has_the_settings_and_the_curve(images):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy", reason="mlflow-skinny has no local store")
    from mlflow.tracking import MlflowClient

    with_tracker, without = recorded("--logger", "mlflow"), recorded()
    assert_same_run(with_tracker, without)
    client = MlflowClient("sqlite:///runs/mlflow.db")
    experiment = client.get_experiment_by_name("fewshot-bench")
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == (without.run_id, "FINISHED")
    assert run.data.params["split"] == "50-50" and run.data.params["hyperparameters/steps"] == "12"
    assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 12


@pytest.mark.slow
def test_a_tracker_that_cannot_start_is_one_line(images, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://x")
    answer = bench(*RUN, "--logger", "mlflow")
    assert answer.code == 2 and answer.err.splitlines()[-1].startswith(
        "error: --logger mlflow: cannot start: "
    )


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
