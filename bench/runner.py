"""One run: data -> train -> evaluate -> record."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bench import PROTOCOL_VERSION, __version__, environment, records
from bench.batches import Normaliser
from bench.config import RunConfig, method_info
from bench.data import sources
from bench.data.images import ImageSet
from bench.data.splits import Split, resolve
from bench.episodes import ClassPool, Setting
from bench.errors import UserError
from bench.evaluation.protocol import Evaluation, Evaluator, does_not_fit, episode_arrays, standard_settings
from bench.progress import Progress
from bench.records import EpisodeInfo, Metric, Record, SplitCounts
from bench.statistics import Interval
from methods import backbones, registry
from methods.method import Episodes, Method


@dataclass(frozen=True)
class Options:
    """Where things are and go; none of it changes a number.

    Attributes:
        results: folder of records. runs: folder of checkpoints, logs and resolved configurations.
        data_root: where data sets lie. device: as ``--device`` names it.
        overwrite: run again what is recorded. offline: no download.
        command: recorded as the command that made the run.
    """

    results: Path
    runs: Path
    command: str
    data_root: Path | None = None
    device: str = "auto"
    overwrite: bool = False
    offline: bool = False


@dataclass(frozen=True)
class Prepared:
    """A run that has passed every check that needs no training."""

    config: RunConfig
    run_id: str
    data: ImageSet
    split: Split
    method: Method
    normalise: Normaliser
    settings: list[Setting]
    device: torch.device
    precision: str
    data_s: float
    weights_sha256: str | None


def run(config: RunConfig, options: Options, progress: Progress) -> tuple[Path, Record]:
    """Run one configuration, or find its record.

    Returns:
        The record's path and content.

    Raises:
        UserError: the configuration cannot run here.
    """
    started = time.perf_counter()
    weights_sha256 = _weights_sha256(config.weights)
    run_id = config.run_id(weights_sha256)
    recorded = records.find(options.results, run_id)
    if recorded and not options.overwrite:
        _say(f"{run_id} is recorded already; --overwrite runs it again")
        return recorded, records.read(recorded)

    prepared = prepare(config, options, progress, run_id, weights_sha256)
    run_dir = options.runs / run_id
    _write_config(config, run_dir)
    method, device = prepared.method, prepared.device
    _say(describe(prepared))
    trained = None
    if config.train:
        from bench.training import train

        trained = train(
            method,
            prepared.data,
            prepared.split,
            prepared.normalise,
            seed=config.seed,
            precision=prepared.precision,
            device=device,
            run_dir=run_dir,
            progress=progress,
        )
    method.to(device).eval()
    evaluation_started = time.perf_counter()
    evaluator = Evaluator(
        method, prepared.data, prepared.split, prepared.normalise, prepared.precision, progress
    )
    evaluation = evaluator.run(prepared.settings)
    evaluate_s = time.perf_counter() - evaluation_started
    timings = records.Timings(
        data_s=prepared.data_s,
        train_s=trained.seconds if trained else 0.0,
        evaluate_s=evaluate_s,
        total_s=time.perf_counter() - started,
        steps=config.hyperparameters["steps"] if trained else 0,
        train_images_per_s=trained.images_per_s if trained else None,
        episodes_per_s=evaluation.episodes / evaluate_s if evaluation.episodes else None,
        peak_memory_mib=environment.peak_memory_mib(),
    )
    record = make_record(prepared, options, evaluation, timings)
    return records.write(record, options.results, episode_arrays(evaluation)), record


def prepare(
    config: RunConfig, options: Options, progress: Progress, run_id: str, weights_sha256: str | None
) -> Prepared:
    """Everything that can go wrong before training goes wrong here.

    Raises:
        UserError: naming the flag.
    """
    device = environment.pick_device(options.device)
    precision = environment.pick_precision(config.precision, device)
    started = time.perf_counter()
    data = load_data(config.dataset, options, progress, config.image_size)
    split = resolve(data, config.split)
    settings = _settings(config, split, data)
    normalise = Normaliser(data.images, split.train)
    data_s = time.perf_counter() - started

    info = method_info(config.method)
    try:
        method_class = registry.load(info)
        torch.manual_seed(config.seed)
        hp = method_class.Hyperparameters(**config.hyperparameters)
        backbone = backbones.build(config.backbone)
    except ValueError as error:
        raise UserError("--backbone" if "backbone" in str(error) else "--method", config.method, str(error)) from None
    if config.weights is not None:
        try:
            backbones.load_weights(backbone, config.weights)
        except ValueError as error:
            raise UserError("--weights", config.weights, f"{error} ({config.backbone})") from None
    try:
        with torch.no_grad():
            backbone.eval()(torch.zeros(1, *data.images.shape[1:]))
            backbone.train()
    except (RuntimeError, AssertionError) as error:
        size = "x".join(map(str, data.images.shape[2:]))
        reason = str(error).splitlines()[0]
        raise UserError("--backbone", config.backbone, f"takes no images of {size}: {reason}") from None
    try:
        method = method_class(backbone, hp, len(split.base))
        if config.train:
            _check_batches(method, split, data)
    except ValueError as error:
        raise UserError("--method", config.method, str(error)) from None
    method.to(memory_format=torch.channels_last)
    return Prepared(
        config, run_id, data, split, method, normalise, settings, device, precision, data_s, weights_sha256
    )


def load_data(
    dataset: str, options: Options, progress: Progress, image_size: int | None = None
) -> ImageSet:
    """Load a data set, with a progress bar where it takes long."""

    def show(what: str, done: int, total: int) -> None:
        if (progress.what, progress.total) != (what, total):
            progress.start(what, total, "items")
        progress.advance(done - progress.done)

    try:
        return sources.load(
            dataset, options.data_root, image_size=image_size, offline=options.offline, progress=show
        )
    finally:
        progress.stop()


def _settings(config: RunConfig, split: Split, data: ImageSet) -> list[Setting]:
    pool = ClassPool(data.labels[split.novel_images].numpy())
    settings = standard_settings(split.name)
    if not split.novel:
        settings = []
    if config.way is not None and config.shot is not None:
        own = Setting(config.way, config.shot, config.query or 15, config.episodes or 10_000)
        problem = does_not_fit(own, pool)
        if problem:
            key, _, rest = problem.partition(" ")
            raise UserError(f"--{key}", "", rest)
        settings = [*(s for s in settings if s.name != own.name), own]
    for setting in settings:
        if problem := does_not_fit(setting, pool):
            _say(f"{setting.name} is left out: {problem}")
    return [setting for setting in settings if not does_not_fit(setting, pool)]


def _check_batches(method: Method, split: Split, data: ImageSet) -> None:
    """Refuse training batches that the base classes cannot fill."""
    spec = method.batches()
    smallest = ClassPool(data.labels[split.train].numpy()).smallest
    needed = {"images": getattr(spec, "images", 0)} if not isinstance(spec, Episodes) else {}
    if isinstance(spec, Episodes):
        needed = {"train_shot + train_query": spec.shot + spec.query}
    way = getattr(spec, "way", getattr(spec, "classes", 0))
    if way > len(split.base):
        raise ValueError(f"trains on {way} classes at a time; the split has {len(split.base)} base classes")
    for name, count in needed.items():
        if type(spec).__name__ in ("Balanced", "Episodes") and count + 1 > smallest:
            raise ValueError(f"{name} is {count}; the smallest base class has {smallest} training images")
    if type(spec).__name__ in ("Pairs", "Triplets") and smallest < 2:
        raise ValueError("needs at least 2 training images in every base class")


def describe(prepared: Prepared) -> str:
    """What the run will do, in a few lines."""
    config, split, method = prepared.config, prepared.split, prepared.method
    info = method_info(config.method)
    parts = [
        f"{len(split.base)} base",
        *([f"{len(split.validation)} validation"] if split.validation else []),
        f"{len(split.novel)} novel classes",
    ]
    dropped = f", {split.dropped} novel duplicates of training images dropped" if split.dropped else ""
    size = backbones.parameter_count(method.backbone)
    training = f"{config.hyperparameters['steps']:,} steps" if config.train else "none (--no-train)"
    lines = {
        "run": prepared.run_id,
        "data": f"{prepared.data.name}, {len(prepared.data):,} images, fingerprint {prepared.data.fingerprint[:12]}",
        "split": f"{split.name}: {', '.join(parts)}; {len(split.train):,} training images{dropped}",
        "method": f"{info.name} ({info.paper or 'no paper given'}), preset {config.preset}",
        "backbone": f"{config.backbone}, {size:,} parameters" + (f", from {config.weights}" if config.weights else ""),
        "training": f"{training}, seed {config.seed}",
        "device": f"{environment.device_name(prepared.device)}, {prepared.precision}, {torch.get_num_threads()} threads",
    }
    return "\n".join(f"{key:<9} {value}" for key, value in lines.items())


def make_record(
    prepared: Prepared, options: Options, evaluation: Evaluation, timings: records.Timings
) -> Record:
    """Put everything a reader needs to believe the run into one record."""
    config, split, info = prepared.config, prepared.split, method_info(prepared.config.method)
    commit, dirty = environment.git_state()
    return Record(
        protocol_version=PROTOCOL_VERSION,
        run_id=prepared.run_id,
        created=datetime.now(UTC),
        bench_version=__version__,
        command=options.command,
        method=info.name,
        family=info.family,
        paper=info.paper,
        transductive=info.transductive,
        external_data=info.external_data or config.weights is not None,
        preset=config.preset,
        hyperparameters=dataclasses.asdict(prepared.method.hp),
        config=config.model_dump(),
        backbone=config.backbone,
        parameters=backbones.parameter_count(prepared.method.backbone),
        trained=config.train,
        weights=prepared.weights_sha256,
        dataset=config.dataset,
        fingerprint=prepared.data.fingerprint,
        split=split.name,
        seed=config.seed,
        classes=SplitCounts(
            base=len(split.base),
            validation=len(split.validation),
            novel=len(split.novel),
            train_images=len(split.train),
            validation_images=len(split.validation_images),
            base_test_images=len(split.base_test),
            novel_images=len(split.novel_images),
            novel_dropped_duplicates=split.dropped,
        ),
        metrics=_metrics(evaluation.metrics),
        per_class={name: _metrics(own) for name, own in evaluation.per_class.items()},
        constant_answer=evaluation.constant_answer,
        thresholds=evaluation.thresholds,
        episodes={
            name: EpisodeInfo(
                way=s.way, shot=s.shot, query=s.query, count=s.count, seed=0, sha256=evaluation.hashes[name]
            )
            for name, s in evaluation.settings.items()
        },
        timings=timings,
        environment=records.Environment(
            libraries=environment.library_versions(),
            platform=sys.platform,
            cpu=environment.cpu_name(),
            device=environment.device_name(prepared.device),
            precision=prepared.precision,
            threads=torch.get_num_threads(),
            git_commit=commit,
            git_dirty=dirty,
        ),
    )


def _metrics(intervals: dict[str, Interval]) -> dict[str, Metric]:
    return {key: Metric(value=i.value, low=i.low, high=i.high, n=i.n) for key, i in intervals.items()}


def _weights_sha256(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError("--weights", path, f"cannot be read: {error.strerror or error}") from None


def _write_config(config: RunConfig, run_dir: Path) -> None:
    records.write_files({run_dir / "config.yaml": config.to_yaml().encode()}, "--runs")


def _say(message: Any) -> None:
    print(message, file=sys.stderr, flush=True)
