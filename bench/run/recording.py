"""Describes a run: a few lines before it, and the record after it."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import textwrap
from datetime import UTC, datetime

import torch

from bench import PROTOCOL_VERSION, __version__
from bench.common import environment
from bench.common.errors import one_line
from bench.config.backbone import ENCODER
from bench.config.run_config import method_info
from bench.data.inspect import remarks
from bench.data.photos import listed
from bench.evaluation.protocol import Evaluation
from bench.records.parts import (
    Environment,
    EpisodeInfo,
    Metric,
    OpenSetInfo,
    Sources,
    SplitCounts,
    Timings,
)
from bench.records.schema import Record
from bench.run.outcome import Learned
from bench.run.plan import Options, Prepared
from bench.run.run_id import novel_digest
from bench.sampling.keys import SEED
from bench.statistics import Interval
from methods import backbones


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
    dropped += f", {split.copies} copies dropped from validation and test" if split.copies else ""
    if split.no_training:
        names = [prepared.data.class_names[c] for c in split.no_training]
        dropped += f", {listed('base classes without training images left out', names)}"
    dropped += f", {split.alone} images alone in their class dropped" if split.alone else ""
    size = backbones.parameter_count(method.backbone)
    stage = prepared.start
    training = f"{method.training_steps:,} steps" if config.train else "none (--no-train)"
    if stage and stage.config.method == config.method:
        training = "shared with a run that differs only in test-only hyperparameters"
    hyperparameters = ", ".join(f"{key}={value}" for key, value in config.hyperparameters.items())
    device = environment.device_name(prepared.device)
    in_file = config.weights and not config.backbone.startswith(ENCODER)
    start = f", from {config.weights}" if in_file else ", with timm's weights" * config.pretrained
    lines = {
        "run": prepared.run_id,
        "data": f"{prepared.data.name}, {len(prepared.data):,} images",
        "images": remarks(prepared.data),
        "split": f"{split.name}: {', '.join(parts)}; {len(split.train):,} training images{dropped}",
        "method": f"{info.name} ({info.paper or 'no paper given'}), preset {config.preset}",
        "code": f"{info.source} runs with your permissions" if info.source.endswith(".py") else "",
        "backbone": f"{config.backbone}, {size:,} parameters{start}",
        "start": f"{stage.run_id}, {stage.method.training_steps:,} steps" if stage else "",
        "training": f"{training}, seed {config.seed}",
        "settings": hyperparameters,
        "measures": ", ".join(prepared.plan.names),
        "left out": "; ".join(prepared.left_out),
        "device": f"{device}, {prepared.precision}, {torch.get_num_threads()} threads",
    }
    wrapper = textwrap.TextWrapper(
        shutil.get_terminal_size().columns, subsequent_indent=" " * 10, break_long_words=False
    )
    return "\n".join(wrapper.fill(f"{key:<9} {one_line(text)}") for key, text in lines.items() if text)


def make_record(
    prepared: Prepared,
    options: Options,
    evaluation: Evaluation,
    timings: Timings,
    learned: Learned | None = None,
    model: str | None = None,
    failure: str | None = None,
) -> Record:
    """The record of a run, with everything needed to check or repeat it."""
    config, split, info = prepared.config, prepared.split, method_info(prepared.config.method)
    commit, dirty = prepared.git
    own = learned.training if learned and config.train and failure is None else None
    return Record(
        protocol_version=PROTOCOL_VERSION,
        run_id=prepared.run_id,
        created=datetime.now(UTC),
        bench_version=__version__,
        command=options.command,
        method=info.name,
        family=info.family,
        paper=info.paper,
        transductive=prepared.method.transductive,
        external_data=prepared.method.external_data or prepared.weights_sha256 is not None,
        labelled_novel_images=largest_class(prepared.data.labels[split.novel_labelled]),
        preset=config.preset,
        hyperparameters=dataclasses.asdict(prepared.method.hp),
        config=config.model_dump(),
        backbone=config.backbone,
        parameters=backbones.parameter_count(prepared.method.backbone),
        trained=config.train,
        weights=prepared.weights_sha256,
        dataset=config.dataset,
        fingerprint=prepared.data.fingerprint,
        drawn_by=None if prepared.data.drawn_by == prepared.data.fingerprint else prepared.data.drawn_by,
        left_out_images=prepared.data.left_out,
        left_out_classes=len(prepared.data.left_out_classes),
        no_training_classes=[prepared.data.class_names[c] for c in split.no_training],
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
            dropped_copies=split.copies,
        ),
        metrics=metrics_of(evaluation.metrics),
        per_class={name: metrics_of(own) for name, own in evaluation.per_class.items()},
        constant_answer=evaluation.constant_answer,
        thresholds=evaluation.thresholds,
        episodes={
            name: EpisodeInfo(
                way=s.way,
                shot=s.shot,
                query=s.query,
                count=s.count,
                seed=SEED,
                sha256=evaluation.hashes[name],
            )
            for name, s in evaluation.settings.items()
            if not s.others
        },
        open_set={
            name: OpenSetInfo(**dataclasses.asdict(s), seed=SEED, sha256=evaluation.hashes[name])
            for name, s in evaluation.settings.items()
            if s.others
        },
        pools=evaluation.pools,
        pretraining=learned.pretraining if learned else None,
        shared_training=learned.shared if learned else None,
        images=own.images if own else None,
        kept_step=own.kept_step if own else None,
        failure=failure,
        sources=Sources(
            **{key: getattr(prepared.identity, key) for key in ("split", "method", "bench", "plugin")},
            novel=novel_digest(split),
        ),
        model=model,
        timings=timings,
        environment=Environment(
            libraries=environment.package_versions(),
            platform=sys.platform,
            cpu=environment.cpu_name(),
            device=environment.device_name(prepared.device),
            precision=prepared.precision,
            threads=torch.get_num_threads(),
            compiled=bool(learned and learned.compiled),
            devices=options.devices,
            git_commit=commit,
            git_dirty=dirty,
        ),
    )


def largest_class(labels: torch.Tensor) -> int:
    """Number of images of the largest class; 0 without images."""
    return int(torch.bincount(labels).max()) if len(labels) else 0


def metrics_of(intervals: dict[str, Interval]) -> dict[str, Metric]:
    """Intervals as metrics of a record."""
    return {key: Metric(**interval._asdict()) for key, interval in intervals.items()}
