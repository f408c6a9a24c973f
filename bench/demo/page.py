"""The page: same or different, your own classes, episodes of a run, the leaderboard.

Pictures are not written to disk: a canvas is sent as text, and classes are kept in their visitor's session.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from statistics import fmean
from threading import Lock
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from bench.common.errors import UserError
from bench.common.markdown import code
from bench.demo.episodes import EPISODES, Browser
from bench.demo.pictures import NotAPicture, decode, encode, fit
from bench.demo.runs import with_models
from bench.records.store import read_all
from bench.reporting.figures.rows import Section, sections
from bench.reporting.html_table import escape
from bench.reporting.leaderboard.cells import board, track_name
from bench.reporting.report_tables import concatenated, in_order
from bench.serving.shipped import Run

if TYPE_CHECKING:  # torch and Lightning take seconds to import; the page opens before
    from bench.serving.predictor import Predictor

MOST_CLASSES = 10
LONGEST_NAME = 30
HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

Classes = tuple[tuple[str, np.ndarray], ...]
"""A visitor's classes: name and image, uint8 ``[size, size, 3]``."""


class Page:
    """The contents of the page and its answers.

    Args:
        run: whose model compares and classifies. It is loaded at its first use.
        results, runs, data_root: as the flags of these names.
    """

    def __init__(self, run: Run, results: Path, runs: Path, data_root: Path | None) -> None:
        self.run, self.record = run, run.record
        self.results, self.folder, self.data_root = results, runs, data_root
        self._model: Predictor | None = None
        self._runs: dict[str, Run] = {}
        self._browsers: dict[str, Browser] = {}
        self._lock, self._loading = Lock(), Lock()

    def model(self) -> Predictor:
        """The model; the first caller loads it, others wait.

        Raises:
            UserError: the model cannot be used.
        """
        with self._loading:
            if self._model is None:
                from bench.serving.predictor import load

                loaded = load(self.record.run_id, runs=self.run.runs, data_root=self.data_root)
                _ = loaded.threshold  # it must have one
                self._model = loaded
            return self._model

    def blocks(self) -> gr.Blocks:
        """The page for Gradio."""
        with gr.Blocks(title="fewshot-bench", analytics_enabled=False) as made:
            gr.Markdown(f"# Few-shot bench\n{self._about()}")
            with gr.Tab("Same or different"):
                self._pair_tab()
            with gr.Tab("Your own classes"):
                self._classes_tab()
            with gr.Tab("Episodes") as tab:
                self._episodes_tab(tab)
            with gr.Tab("Leaderboard") as tab:
                self._board_tab(tab)
        return made

    def _image(self, url: str) -> np.ndarray:
        """A canvas as the model sees it: uint8 ``[size, size, 3]``."""
        model = self.model()
        return fit(decode(url), model.size, fmean(model.card.pixel_mean)).transpose(1, 2, 0)

    def _about(self) -> str:
        record = self.record
        of_data = f"{record.classes.base} classes of {code(record.dataset)}"
        text = f"The model is {code(record.method)}, trained on {of_data}."
        if found := record.metrics.get("novel/pair_accuracy"):
            text += f" Of pairs of images of classes that it has never seen, it gets {found.value:.0%} right."
        return text

    # Same or different.

    def _pair_tab(self) -> None:
        gr.Markdown("Draw a character in each square, or upload pictures. Do they show the same one?")
        with gr.Row():
            pads = [_pad("First", "first"), _pad("Second", "second")]
        answer = gr.HTML(self.compare("", ""), elem_id="same")
        for pad in pads:
            pad.change(self.compare, pads, answer, trigger_mode="always_last", **HIDDEN)

    def compare(self, first: str, second: str) -> str:
        """Whether two canvases show the same class, as HTML."""
        if not (first and second):
            return _box("Waiting for two pictures")
        try:
            a, b = (self._image(url) for url in (first, second))
        except NotAPicture as error:
            return _box("Cannot be compared", escape(str(error)))
        score, threshold = float(self.model().similarity([a], [b])), self.model().threshold
        low, high = min(-0.2, score, threshold - 0.2), max(1.0, score, threshold + 0.2)
        at, mark = (100 * (value - low) / (high - low) for value in (score, threshold))
        tiles = _tile(a, "first, as the model sees it") + _tile(b, "second, as the model sees it")
        return _box(
            "Same" if score >= threshold else "Different",
            "<span>Similarity {}, threshold {}.</span>".format(*distinct(score, threshold))
            + '<div class="scale" aria-hidden="true">'
            f'<i style="left:{mark:.1f}%"></i><b style="left:{at:.1f}%"></b></div>'
            '<div class="ends"><span>different</span><span>same</span></div>'
            f'<div class="tiles">{tiles}</div>',
        )

    # Your own classes.

    def _classes_tab(self) -> None:
        gr.Markdown(
            "Draw or upload one picture per class and add it. Then draw another picture of one of them."
        )
        classes = gr.State(())
        with gr.Row():
            with gr.Column():
                example = _pad("A class", "example")
                name = gr.Textbox(label="Its name", max_length=LONGEST_NAME, elem_id="name")
                with gr.Row():
                    add, reset = gr.Button("Add class", variant="primary"), gr.Button("Remove all")
                support = gr.HTML(self.listed(()), elem_id="support")
            with gr.Column():
                query = _pad("Which class is this?", "query")
                answer = gr.Label(label="Answer", num_top_classes=5, elem_id="answer")
                said = gr.HTML("", elem_id="said")
        added = [classes, example, name, support]
        for event in (add.click, name.submit):
            event(self.add, [classes, example, name], added, **HIDDEN).then(
                self.classify, [classes, query], [answer, said], **HIDDEN
            )
        reset.click(lambda: ((), "", "", self.listed(())), None, added, **HIDDEN).then(
            self.classify, [classes, query], [answer, said], **HIDDEN
        )
        query.change(self.classify, [classes, query], [answer, said], trigger_mode="always_last", **HIDDEN)

    def add(self, classes: Classes, url: str, name: str) -> tuple[Classes, str, str, str]:
        """A class more, or a new picture of a class; the new values of classes, canvas, name and list."""
        name = " ".join(str(name).split())[:LONGEST_NAME] or f"class {len(classes) + 1}"
        others = tuple(one for one in classes if one[0] != name)
        if len(others) >= MOST_CLASSES:
            return classes, url, name, self.listed(classes, f"At most {MOST_CLASSES} classes.")
        if not url:
            return classes, url, name, self.listed(classes, "Draw or upload a picture first.")
        try:
            image = self._image(url)
        except NotAPicture as error:
            return classes, "", name, self.listed(classes, f"{error}.")
        classes = (*others, (name, image))
        return classes, "", "", self.listed(classes)

    @staticmethod
    def listed(classes: Classes, problem: str = "") -> str:
        """The classes as HTML, after a problem."""
        tiles = "".join(_tile(image, name) for name, image in classes)
        text = problem or ("" if len(classes) > 1 else "Add at least two classes.")
        return f'<p role="status">{escape(text)}</p><div class="tiles">{tiles}</div>'

    def classify(self, classes: Classes, url: str) -> tuple[dict[str, float] | None, str]:
        """The probability of each class, and a sentence."""
        if len(classes) < 2 or not url:
            return None, ""
        try:
            image = self._image(url)
        except NotAPicture as error:
            return None, escape(f"{error}.")
        support, names = [own for _, own in classes], [name for name, _ in classes]
        found = self.model().answer(support, range(len(names)), [image])
        said = escape(found.note) if bool(found.known[0]) else "It is probably none of these."
        return dict(zip(names, found.probabilities[0].tolist(), strict=True)), said

    # Episodes.

    def _episodes_tab(self, tab: gr.Tab) -> None:
        gr.Markdown("One support image per class. Queries: blue and ✓ is correct, dashed and ✗ is wrong.")
        own = self.record.run_id
        run = gr.Dropdown([own], value=own, label="Run")  # in a row its name is cut in a narrow window
        tab.select(lambda: gr.update(choices=list(self.runs())), None, run, **HIDDEN)
        with gr.Row():
            number = gr.Slider(1, EPISODES, 1, step=1, label="Episode")
            wrong = gr.Checkbox(label="Only mistakes")
        show = gr.Button("Show", variant="primary")
        shown = gr.HTML("", elem_id="episode")
        inputs = [run, number, wrong]
        events = [show.click, number.release, wrong.change, run.change]
        how: dict[str, Any] = HIDDEN | {"show_progress": "full", "trigger_mode": "always_last"}
        gr.on(events, self.episode, inputs, shown, **how)

    def runs(self) -> dict[str, Run]:
        """Run id -> run, for all whose model is there; read at the first use, since records are many."""
        if not self._runs:
            self._runs = {self.record.run_id: self.run} | with_models(self.results, self.folder)
        return self._runs

    def episode(self, run_id: str, number: float, only_wrong: bool) -> str:
        """An episode of a run as HTML."""
        if run_id not in self.runs():
            return _box("No such run")
        try:
            with self._lock:  # one visitor loads, the others wait
                if run_id not in self._browsers:
                    self._browsers[run_id] = Browser(self.runs()[run_id], self.data_root)
        except UserError as error:
            return _box("The episodes of this run cannot be shown", escape(str(error)))
        return self._browsers[run_id].show(int(number), bool(only_wrong))

    # Leaderboard.

    def _board_tab(self, tab: gr.Tab) -> None:
        which = gr.Dropdown([], label="Data set and split", elem_id="which")
        note = gr.Markdown()
        look: dict[str, Any] = {"wrap": True, "show_search": "filter", "pinned_columns": 1}
        grid = gr.Dataframe(**look, interactive=False, elem_id="board", visible=False)
        tab.select(self.boards, None, [which, note, grid], **HIDDEN)
        which.input(self.board, which, [note, grid], **HIDDEN)

    def _sections(self) -> dict[str, Section]:
        records = read_all(self.results)[0] if self.results.is_dir() else []
        return {one.title: one for one in sections(records, self.results)}

    def boards(self) -> tuple[Any, ...]:
        """The choice of tables, and the first of them."""
        found = self._sections()
        if not found:
            hidden = gr.update(visible=False)
            return hidden, f"There are no records in `{self.results}`.", hidden
        first = max(found, key=lambda title: len(found[title].rows))
        return gr.update(choices=list(found), value=first), *self.board(first)

    def board(self, title: str) -> tuple[str, Any]:
        """A note and the table of a data set and split."""
        section = self._sections().get(title)
        if section is None:
            return "", gr.update(visible=False)
        tables = concatenated((board(one), {"track": track_name(one.track)}) for one in section.tables)
        cells = in_order(tables).cells.map("".join)
        note = "Percent ± half of the 95% interval. Ranks are within a track: a preset, backbone and budget."
        widths = ["170px", *["130px"] * (len(cells.columns) - 1)]
        return note, gr.update(value=cells, column_widths=widths, visible=True)


def distinct(score: float, threshold: float) -> tuple[str, str]:
    """Two numbers with three decimals, or with as many as show which one is larger."""
    for decimals in range(3, 17):
        shown = f"{score:.{decimals}f}", f"{threshold:.{decimals}f}"
        if score == threshold or shown[0] != shown[1]:
            break
    return shown


def _box(title: str, text: str = "") -> str:
    return f'<div class="answer" role="status"><strong>{title}</strong>{text}</div>'


def _tile(image: np.ndarray, name: str) -> str:
    return f'<figure><img src="{encode(image)}" alt=""><figcaption>{escape(name)}</figcaption></figure>'


def _pad(title: str, elem_id: str) -> gr.HTML:
    """A canvas to draw on, or to upload a picture to; its value is a data URL, empty if nothing is drawn."""
    parts = files("bench.demo") / "pad"
    html, css, js = ((parts / f"pad.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    return gr.HTML(
        "",
        html_template=html,
        css_template=css,
        js_on_load=js,
        apply_default_css=False,
        label=title,
        show_label=True,
        container=True,
        padding=True,
        elem_id=elem_id,
        min_width=300,
        scale=1,
        title=title,
    )
