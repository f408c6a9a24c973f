"""Figures that need a trained method and its data: embeddings, confusions, an episode. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench.common.errors import UserError
from bench.evaluation.answers import ContractError
from bench.records.schema import MODEL_FILE
from bench.reporting.figures.novel import (
    Points,
    draw_confusions,
    draw_episode,
    draw_points,
    most_confused,
    t_sne,
    typical,
)
from bench.reporting.figures.per_class import ends, ranked
from bench.reporting.figures.picture import Gap, Picture
from bench.reporting.figures.rows import Section
from bench.reporting.figures.style import of_model, plain
from bench.reporting.figures.trained import Trained
from bench.reporting.ranking.rows import Row

TSNE, CONFUSIONS, EPISODE = "Embeddings of novel classes", "Confusions of novel classes", "An episode"
GENERATED = "Real and generated features"
GENERATES = "test_generated"  # hyperparameter: generated features per class
TSNE_CLASSES, TSNE_IMAGES = 10, 60  # that a reader can distinguish
DRAWS, ADAPTED_DRAWS = 20, 5
LOOKED_AT, SHOWN_QUERIES = 100, 5  # episodes from which a typical one is chosen; its shown queries


def pictures(section: Section, runs: Path, data_root: Path | None) -> list[Picture | Gap]:
    """Figures of the best row with a model, and generated features if a row has them."""
    best = section.best()
    why = "needs the model of one of these runs (RUN/model.safetensors) in the folder --runs"
    makers: dict[str, Callable[[Trained], Picture]] = {
        TSNE: partial(_embeddings, section), CONFUSIONS: _confusions, EPISODE: _episode,
    }  # fmt: skip
    found = _made(makers, best, why, runs, data_root)
    generating = [row for row in best if row.first.hyperparameters.get(GENERATES, 0) != 0]
    if generating:
        why = "needs a model that generates features in the folder --runs"
        found += _made({GENERATED: _of_generator}, generating, why, runs, data_root)
    return found


def _made(
    makers: dict[str, Callable[[Trained], Picture]],
    rows: Iterable[Row],
    why: str,
    runs: Path,
    data_root: Path | None,
) -> list[Picture | Gap]:
    """Pictures (title -> function) of the first run that has a model; a gap for each that cannot be drawn."""
    records = (record for row in rows for record in row.records)
    record = next((record for record in records if (runs / record.run_id / MODEL_FILE).is_file()), None)
    if record is None:
        return [Gap(title, why) for title in makers]
    try:
        trained = Trained(record, runs, data_root)
    except UserError as error:
        return [Gap(title, f"{error.flag} {error.value}: {error.allowed}") for title in makers]
    found: list[Picture | Gap] = []
    for title, make in makers.items():
        try:
            found.append(make(trained))
        except UserError as error:  # no flag was given
            found.append(Gap(title, error.allowed))
        except ContractError as error:
            found.append(Gap(title, str(error)))
    return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(plain(name).strip() for name in names)


def _embeddings(section: Section, trained: Trained) -> Picture:
    order = ranked(section)
    names = [name for name in order.names if name in trained.names] if order else []
    names = ends(names or trained.names, TSNE_CLASSES)
    chosen, classes = [], []
    for number, name in enumerate(names):
        position = trained.names.index(name)
        count = min(TSNE_IMAGES, int(trained.pool.counts[position]))
        chosen.append(trained.pool.starts[position] + np.arange(count))
        classes.append(np.full(count, number))
    made = trained.embeddings(np.concatenate(chosen)).flatten(1).numpy()
    points = Points(t_sne(made), np.concatenate(classes), names)
    every = len(names) == len(trained.names)
    some = "All novel classes" if every else f"The {len(names)} hardest and easiest classes"
    return Picture(
        name="embeddings",
        title=of_model(TSNE, trained.record),
        caption=f"{some}, up to {TSNE_IMAGES} images of each; nearby images have similar "
        "embeddings (t-SNE). Distances between distant clusters mean little.",
        alt=f"Clusters of points, one for each of {_listed(names)}.",
        draw=partial(draw_points, points),
    )


def _confusions(trained: Trained) -> Picture:
    from sklearn.metrics import confusion_matrix

    method = trained.predictor.method
    way = 5 if method.transductive else 0  # queries classified together must fit in a batch
    setting, episodes = trained.episodes(way, DRAWS if method.fixed_embedding else ADAPTED_DRAWS)
    truth, answers = (
        np.take_along_axis(episodes.classes, own, axis=1).ravel()
        for own in (episodes.labels, trained.answers(episodes))
    )
    every = np.arange(len(trained.names))
    shares = confusion_matrix(truth, answers, labels=every, normalize="true")
    shown = most_confused(shares)
    off = shares - np.diag(np.diag(shares))
    true, answer = np.unravel_index(off.argmax(), off.shape)
    ways = f"{way} novel classes" if way else f"All {len(every)} novel classes"
    left_out = f" The {len(shown)} hardest classes are shown." if len(shown) < len(every) else ""
    return Picture(
        name="confusions",
        title=of_model(CONFUSIONS, trained.record),
        caption=f"{ways} at once, one support image per class, {setting.count} draws. A row "
        f"is a class and sums to 100%.{left_out}",
        alt=f"Confusion matrix; most often {plain(trained.names[true]).strip()} is classified as "
        f"{plain(trained.names[answer]).strip()}, {100 * off.max():.0f}% of its images.",
        draw=partial(draw_confusions, shares[np.ix_(shown, shown)], [trained.names[c] for c in shown]),
    )


def _episode(trained: Trained) -> Picture:
    setting, episodes = trained.episodes(min(5, len(trained.names)), LOOKED_AT)
    way, given = setting.way, trained.answers(episodes)
    accuracies = (given == episodes.labels).mean(axis=1)
    known = trained.record.metrics.get(f"fewshot/{setting.name}")
    mean = known.value if known else float(accuracies.mean())
    chosen = typical(accuracies, mean)
    queries = min(SHOWN_QUERIES, setting.query)
    own = np.stack([np.flatnonzero(episodes.labels[chosen] == c)[:queries] for c in range(way)])
    names = [trained.names[c] for c in episodes.classes[chosen]]
    answers = given[chosen][own]
    right = int((answers == np.arange(way)[:, None]).sum())
    support = trained.pixels(episodes.support[chosen][:, 0])
    query = trained.pixels(episodes.query[chosen][own])
    return Picture(
        name="episode",
        title=of_model(EPISODE, trained.record),
        caption=f"{way} classes, one support image per class; {queries} of {setting.query} queries per "
        f"class are shown. Accuracy {100 * accuracies[chosen]:.0f}%, the nearest to the mean of "
        f"{100 * mean:.1f}% among the first {LOOKED_AT} episodes. Blue and ✓: correct; orange and "
        "dashed: wrong, with the answer.",
        alt=f"Support and query images of {_listed(names)}; {right} of {answers.size} shown queries are "
        "correct.",
        draw=partial(draw_episode, support, query, answers, names),
    )


def _of_generator(trained: Trained) -> Picture:
    _, episodes = trained.episodes(min(5, len(trained.names)), 1)
    support, query = trained.embeddings(episodes.support), trained.embeddings(episodes.query)
    with torch.inference_mode():
        generated = trained.predictor.method.hallucinate(support)  # type: ignore[operator]
    way, made = generated.shape[1:3]
    features = torch.cat([query[0], support.flatten(0, 2), generated.flatten(0, 2)]).numpy()
    classes = np.concatenate([episodes.labels[0], np.arange(way), np.repeat(np.arange(way), made)])
    kinds = np.repeat([0, 2, 1], [len(query[0]), way, way * made])  # positions in `KINDS`
    names = [trained.names[c] for c in episodes.classes[0]]
    return Picture(
        name="generated",
        title=of_model(GENERATED, trained.record),
        caption=f"One episode of {way} classes with one support image each, and the "
        f"{made} features generated from each (t-SNE). Good ones are among the real features of their class.",
        alt=f"Points of real, crosses of generated features: {_listed(names)}.",
        draw=partial(draw_points, Points(t_sne(features), classes, names), kinds),
    )
