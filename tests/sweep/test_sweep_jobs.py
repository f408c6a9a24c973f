"""What a sweep plans, what it thinks that costs, and what its workers do with a job."""

import sys
from pathlib import Path

import pytest
import yaml
from command_line import bench, complaint
from record_factory import make_record

from bench.common import environment
from bench.config.grid import build
from bench.config.run_config import resolve
from bench.records import store
from bench.records.schema import MODEL_FILE
from bench.run import runner
from bench.run.models import CARD, PRETRAINING
from bench.run.plan import Options
from bench.run.preparation import prepare
from bench.run.sweep import worker
from bench.run.sweep.cost import Costs
from bench.run.sweep.jobs import Job, plan
from bench.run.sweep.worker import Outcome, given_for, work

CONFIG = resolve({"method": "protonet", "preset": "smoke"}, {}, {})
OPTIONS = Options(Path("results"), Path("runs"), "", device="cpu")
GRID = {
    "dataset": "folder:images",
    "image_size": 16,
    "split": "50-50",
    "preset": "smoke",
    "seed": [0, 1],
    "runs": [
        {"method": ["nearest_centroid", "logistic_head"]},
        {"method": "protonet", "hyperparameters": {"init": ["scratch", "pretrained"], "train_way": 3}},
    ],
}
SOURCES = {"split": "1" * 64, "method": "0" * 64, "bench": "0" * 64}


@pytest.fixture
def grid(here):
    Path("grid.yaml").write_text(yaml.safe_dump(GRID))
    return build(Path("grid.yaml"), {}, {})


@pytest.mark.slow
def test_a_shared_training_is_one_job_before_the_runs_that_need_it(grid):
    found = plan(grid, OPTIONS, [])
    assert not found.recorded and not found.refused
    shared = [job for job in found.jobs if job.shared]
    runs = [job for job in found.jobs if not job.shared]
    assert [job.config for job in runs] == grid and len({job.key for job in found.jobs}) == len(found.jobs)
    # A whole classifier for each seed, of which two methods answer; and a quarter of one for protonet.
    assert len(shared) == 4
    for job in runs:
        first = next((one for one in shared if one.name == job.needs), None)
        scratch = job.config.hyperparameters.get("init") == "scratch"
        assert (first is None) == scratch
        assert first is None or found.jobs.index(first) < found.jobs.index(job)
        assert first is None or first.config.seed == job.config.seed
    assert len({job.needs for job in runs if job.config.method != "protonet"}) == 2


@pytest.mark.slow
def test_a_record_of_other_code_counts_unless_it_is_to_be_remade(grid, tmp_path, capsys):
    """The record says the same configuration, images and split, and another run id."""
    run = prepare(grid[0], OPTIONS)
    sources = {"split": run.identity.split, "method": "0" * 64, "bench": "0" * 64}
    given = {"config": run.config.model_dump(mode="json"), "fingerprint": run.data.fingerprint}
    other = make_record(**given, sources=sources)
    found = plan(grid[:1], OPTIONS, [other])
    assert (found.jobs, found.recorded, found.by_other_code) == ([], 1, 1)
    assert len(plan(grid[:1], OPTIONS, [other], remake=True).jobs) == 2
    before = {name: value for name, value in run.config.hyperparameters.items() if name != "weight_decay"}
    earlier = given["config"] | {"hyperparameters": before}  # before the method had this hyperparameter
    found = plan(grid[:1], OPTIONS, [make_record(**(given | {"config": earlier, "sources": sources}))])
    assert len(before) < len(run.config.hyperparameters) and found.by_other_code == 1
    for name, config in (("0" * 8, earlier), ("1" * 8, earlier | {"seed": 1})):
        store.write(make_record(run_id=run.run_id[:-8] + name, config=config), tmp_path)
    runner._name_relatives(run, tmp_path)  # `run` says so too
    (line,) = capsys.readouterr().err.splitlines()
    assert "00000000.json has the same configuration but other code or images" in line
    for changes in ({"fingerprint": "1" * 64}, {"sources": sources | {"split": "1" * 64}}, {"config": {}}):
        assert (
            len(plan(grid[:1], OPTIONS, [make_record(**(given | {"sources": sources} | changes))]).jobs) == 2
        )
    own = plan(grid[:1], OPTIONS, [make_record(run_id=run.run_id)])
    assert (own.jobs, own.recorded, own.by_other_code) == ([], 1, 0)


@pytest.fixture(scope="module")
def prepared() -> dict:
    """Runs of the grid, prepared once for many plans: configuration -> run."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("of", [1, 3, 6])
def test_shards_are_a_partition_that_keeps_shared_trainings_together(grid, prepared, monkeypatch, of):
    def once(config, *rest):
        key = str(config.model_dump())
        if key not in prepared:
            prepared[key] = prepare(config, *rest)
        return prepared[key]

    monkeypatch.setattr("bench.run.sweep.jobs.prepare", once)
    parts = [plan(grid, OPTIONS, [], (number, of)).jobs for number in range(1, of + 1)]
    runs = [[job.name for job in part if not job.shared] for part in parts]
    whole = [job.name for job in plan(grid, OPTIONS, []).jobs if not job.shared]
    assert sorted(name for own in runs for name in own) == sorted(whole)
    shared = [job.name for part in parts for job in part if job.shared]
    assert len(shared) == len(set(shared)) == 4
    assert of > 4 or max(map(len, runs)) - min(map(len, runs)) <= 2


@pytest.mark.slow
def test_the_dry_run_writes_nothing_and_says_what_cannot_run(grid):
    content = GRID | {"runs": [*GRID["runs"], {"method": "protonet", "hyperparameters": {"train_way": 500}}]}
    content["runs"][-1]["hyperparameters"]["train_shot"] = 5000
    Path("more.yaml").write_text(yaml.safe_dump(content))
    answer = bench("sweep", "more.yaml", "--dry-run", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert "0 recorded, 8 to do, 4 trainings that they share, 2 that cannot run" in answer.out
    assert answer.out.count("cannot run: protonet") == 2
    assert not Path("results").exists() and not Path("runs").exists()


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--shard", "0/4"], "--shard 0/4: must be I/N"),
        (["--shard", "5/4"], "--shard 5/4"),
        (["--jobs", "0"], "--jobs 0: must be 1 or more"),
        (["--engine", "rey"], "--engine rey: did you mean ray?"),
        (["--address", "auto"], "--address auto: can only be used with --engine ray"),
        (["--engine", "ray", "--device", "cuda:1"], "--device cuda:1: must be auto or cpu"),
        (["--device", "gpu"], "--device gpu"),
    ],
)
def test_bad_flags(grid, flags, told):
    assert complaint("sweep", "grid.yaml", *flags).startswith(told)


def test_costs_are_those_of_the_records_that_are_most_alike():
    here = {"cpu": environment.cpu_name()}

    def record(seconds, cpu="another processor, 64 cores", device="cpu", **changes):
        made = make_record(**{"sources": SOURCES} | changes)
        timings = made.timings.model_copy(update={"processor_s": seconds, "total_s": seconds + 1})
        where = made.environment.model_copy(update={"cpu": cpu, "device": device})
        return made.model_copy(update={"timings": timings, "environment": where})

    config = resolve({"method": "protonet", "preset": "quick"}, {}, {})
    hyperparameters = config.hyperparameters
    alike = {"hyperparameters": hyperparameters, "backbone": config.backbone}

    def costs(records, gpu=False):
        return Costs([record(*one[:1], **(alike | one[1])) for one in records], gpu)

    def cost(records, gpu=False, shares=False):
        return costs(records, gpu).of(config, shares)

    assert cost([]) is None
    assert cost([(10.0, {}), (30.0, {}), (20.0, {})]) == 20.0
    assert cost([(10.0, {}), (500.0, here)]) == 500.0, "this machine's records come first"
    assert cost([(10.0, {}), (500.0, {"split": "10-90"})]) == 10.0, "the same split comes first"
    assert cost([(500.0, {"split": "10-90"})]) == 500.0
    other = {"hyperparameters": hyperparameters | {"train_way": 7}}
    assert cost([(10.0, {"split": "10-90"}), (500.0, other)]) == 10.0, "the same hyperparameters come first"
    assert cost([(500.0, other)]) == 500.0
    assert cost([(500.0, {"hyperparameters": hyperparameters | {"init": "pretrained"}})]) is None
    assert cost([(500.0, {"method": "matching"})]) is None, "unknown is better than that of another method"
    assert cost([(500.0, {"preset": "standard"})]) is None
    assert cost([(500.0, {"sources": None})]) is None, "the oldest records may include a shared training"
    on_gpu = {"device": "NVIDIA H200"}
    assert cost([(10.0, on_gpu)]) is None, "a GPU says nothing about the processor"
    assert cost([(10.0, on_gpu), (500.0, {})], gpu=True) == 11.0, "there a process waits"
    shared = {"steps": 10, "kept_step": 10, "images": 100, "seconds": 1.0, "processor_s": 7.0, "run_id": "a"}
    shared |= {"model": "0" * 64}
    timings = {"data_s": 0.0, "train_s": 0.0, "evaluate_s": 1.0, "total_s": 1.0, "steps": 0}
    variant = {"shared_training": shared, "images": 0, "kept_step": 0, "model": "0" * 64, "timings": timings}
    both = [(500.0, {}), (3.0, variant)]
    assert cost(both) == 500.0, "a variant costs its evaluation alone"
    assert cost(both, shares=True) == 3.0 and cost(both[:1], shares=True) is None
    classifier = {"method": PRETRAINING.name, "hyperparameters": {"steps": 20, "images": 10}}
    trained = costs([(500.0, {"pretraining": shared})])
    assert trained.of_shared(config.model_copy(update=classifier)) == pytest.approx(14.0), "per image"


@pytest.mark.slow
def test_what_only_answers_with_a_shared_training_costs_only_that(here):
    """Also the run whose own training it is, which is a job of its own, under the same name."""
    runs = [{"method": "imprinted", "hyperparameters": {"finetune": [False, True]}}]
    Path("grid.yaml").write_text(yaml.safe_dump(GRID | {"seed": 0, "runs": runs}))
    jobs = plan(build(Path("grid.yaml"), {}, {}), OPTIONS, []).jobs
    assert [job.shared for job in jobs] == [False, True, False] and jobs[0].name == jobs[1].name
    assert all(job.seconds is None for job in jobs)
    config = jobs[0].config
    given = {"method": config.method, "preset": config.preset, "backbone": config.backbone}
    timings = {
        "data_s": 0.0,
        "train_s": 0.0,
        "evaluate_s": 1.0,
        "total_s": 1.0,
        "steps": 0,
        "processor_s": 500.0,
    }
    known = make_record(**given, sources=SOURCES, timings=timings, kept_step=0)
    jobs = plan(build(Path("grid.yaml"), {}, {}), OPTIONS, [known]).jobs
    assert [job.seconds for job in jobs] == [None, 500.0, None]


@pytest.mark.slow
def test_a_node_takes_a_shared_training_from_the_driver(grid, tmp_path, monkeypatch):
    """Not its own one, and it does not train it again: all runs start from the same weights."""
    options = Options(tmp_path / "results", tmp_path / "runs", "", device="cpu")
    monkeypatch.setattr(sys, "path", [*sys.path])
    job = next(job for job in plan(grid, options, []).jobs if job.shared)
    folder = options.runs / job.name
    made = work(job, options, Path.cwd(), {}, True)
    card = (folder / CARD).read_bytes()
    assert made.failure == "" and made.files[folder / CARD] == card
    given = given_for(job, options)
    for there in (None, b"weights that the node trained"):
        (folder / CARD).unlink()
        (folder / MODEL_FILE).write_bytes(there) if there else (folder / MODEL_FILE).unlink()
        again = work(job, options, Path.cwd(), given, True)
        assert again == made and (folder / CARD).read_bytes() == card, "its seconds would differ"


def test_the_record_of_a_diverged_run_is_collected_from_the_node(tmp_path, monkeypatch):
    """Without a record, the next sweep would train to divergence again."""
    options = Options(tmp_path / "results", tmp_path / "runs", "", device="cpu")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def diverge(job, options):
        record = make_record(run_id=job.name, failure="diverged", metrics={}, per_class={}, episodes={})
        store.write(record, options.results)
        return "diverged"

    monkeypatch.setattr(worker, "_make", diverge)
    outcome = work(Job("a_s0_1", CONFIG), options, tmp_path, {}, True)
    path = options.results / "a_s0_1.json"
    assert outcome.failure == "diverged" and outcome.files == {path: path.read_bytes()}
    monkeypatch.setattr(worker, "_make", lambda job, options: "out of memory")
    assert work(Job("b_s0_2", CONFIG), options, tmp_path, {}, True) == Outcome("out of memory")
