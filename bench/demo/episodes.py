"""Episodes of a recorded run as HTML: its support images, its queries, right and wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.demo.pictures import encode
from bench.reporting.html_table import escape
from bench.serving.shipped import Run

EPISODES = 100
WAY = 5


class Browser:
    """The first episodes of a run, with its answers.

    Args:
        run: with a model.
        data_root: ``--data-root``.

    Raises:
        UserError: the model or its data is not there.
    """

    def __init__(self, run: Run, data_root: Path | None) -> None:
        from bench.reporting.figures.trained import Trained  # imports torch: the page opens before

        self.trained = Trained(run.record, run.runs, data_root)
        way = min(WAY, len(self.trained.pool.classes))
        setting, self.episodes = self.trained.episodes(way, EPISODES)
        self.name = setting.name
        self.answers = self.trained.answers(self.episodes)

    def show(self, number: int, only_wrong: bool) -> str:
        """An episode as HTML.

        Args:
            number: from 1 to `EPISODES`.
            only_wrong: leave out the queries that are classified correctly.
        """
        i = min(max(number, 1), EPISODES) - 1
        episodes, answers = self.episodes, self.answers[i]
        names = [self.trained.names[c].replace("_", " ") for c in episodes.classes[i]]
        right = answers == episodes.labels[i]
        support = self.trained.pixels(episodes.support[i][:, 0])
        queries = self.trained.pixels(episodes.query[i])
        rows = []
        for c, name in enumerate(names):
            own = np.flatnonzero((episodes.labels[i] == c) & ~(right & only_wrong))
            tiles = "".join(_query(queries[q], names[answers[q]], bool(right[q])) for q in own)
            rows.append(
                f'<section><h3>{escape(name)}</h3><div class="row"><figure class="support">'
                f'<img src="{encode(support[c])}" alt="support image of {escape(name)}">'
                f"<figcaption>support</figcaption></figure>{tiles or '<p>No mistakes.</p>'}</div></section>"
            )
        accuracy, mean = right.mean(), (self.answers == episodes.labels).mean()
        return (
            f'<div class="episode"><p>Episode {i + 1}, {escape(self.name)}: {right.sum()} of {len(right)} '
            f"queries are correct, {accuracy:.0%}. Over the first {EPISODES} episodes: {mean:.1%}. "
            f"Guessing gives {1 / len(names):.0%}.</p>{''.join(rows)}</div>"
        )


def _query(pixels: np.ndarray, answer: str, right: bool) -> str:
    kind, said = ("right", "✓") if right else ("wrong", f"✗ {answer}")
    told = "correct" if right else f"wrong, classified as {answer}"
    return (
        f'<figure class="{kind}"><img src="{encode(pixels)}" alt="query, {escape(told)}">'
        f"<figcaption>{escape(said)}</figcaption></figure>"
    )
