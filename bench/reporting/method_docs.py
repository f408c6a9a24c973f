"""Generates the page of each built-in method from its source and the records, reproducibly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.common.files import check_writable, read_text, write_files
from bench.common.markdown import code, plain, table
from bench.config.run_config import BRIEF, method_info
from bench.records.identity import as_set, overrides, untrained, value_as_set
from bench.records.store import Record, read_all
from bench.reporting.blocks import percent_text
from bench.reporting.leaderboard.cells import TIME, images, kept_step, share, training_time
from bench.reporting.ranking.rows import columns
from bench.reporting.show import choices, marks, settings_of, starts_from, what_it_is
from methods.method_info import MethodInfo
from methods.registry import places

GENERATED = "Generated from the methods' source and the records by `python -m bench docs`; do not edit."
USE, COST = "Use it when ", "It costs "
CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)


def split_docstring(docstring: str) -> tuple[list[str], str, str]:
    """What the method is, by paragraph, and the paragraphs ``Use it when ...`` and ``It costs ...``."""
    paragraphs = [text.strip() for text in re.split(r"\n\s*\n", docstring) if text.strip()]
    use, cost = (next((p for p in paragraphs if p.startswith(words)), "") for words in (USE, COST))
    return [p for p in paragraphs if not p.startswith((USE, COST))], use, cost


def built_in() -> list[MethodInfo]:
    """The methods of this package, without plug-ins.

    Raises:
        UserError: the file of one cannot be imported; its page must not be removed then.
    """
    built_in = [name for name, place in sorted(places().items()) if place.source == f"methods.{name}"]
    return [method_info(name) for name in built_in]


def write(results: Path, output: Path) -> list[str]:
    """Write one page per built-in method and the index, and remove pages of removed methods.

    Returns:
        One line per file of `results` that is not a valid record.

    Raises:
        UserError: `results` or a method's file cannot be read, or a page cannot be written.
    """
    check_writable(output, "--output")
    records, problems = read_all(results, own=False)
    pages = render(built_in(), records)
    write_files({output / name: text.encode() for name, text in pages.items()}, "--output")
    for path in _left_over(output, pages):
        path.unlink()
    return problems


def stale(results: Path, output: Path) -> tuple[list[str], list[str]]:
    """The pages that are missing or out of date, and pages of removed methods.

    Returns:
        Also one line per file of `results` that is not a valid record.

    Raises:
        UserError: `results`, a method's file or a page cannot be read.
    """
    records, problems = read_all(results, own=False)
    pages = render(built_in(), records)
    changed = [name for name, text in pages.items() if read_text(output / name, "--output") != text]
    return changed + [path.name for path in _left_over(output, pages)], problems


def render(methods: Iterable[MethodInfo], records: Sequence[Record]) -> dict[str, str]:
    """File name -> Markdown: one page per method, and the index."""
    shown = list(methods)
    pages = {f"{info.name}.md": _page(info, [r for r in records if r.method == info.name]) for info in shown}
    return pages | {"index.md": _index(shown)}


def _left_over(output: Path, pages: Iterable[str]) -> list[Path]:
    """Pages of removed methods. Other files in that folder are ignored."""
    others = (path for path in sorted(output.glob("*.md")) if path.name not in pages)
    return [path for path in others if GENERATED in (read_text(path, "--output") or "")]


def _index(methods: Sequence[MethodInfo]) -> str:
    rows = [
        {
            "method": f"[{code(info.name)}]({info.name}.md)",
            "what it is": _prose(next(iter(split_docstring(info.description)[0]), "")),
            "family": _prose(info.family),
            "trains on": _prose(info.trains_on),
            "starts from": _prose(starts_from(info)),
            "marks": _prose(", ".join(marks(info)) or "–"),
            "paper": _prose(info.paper),
        }
        for info in methods
    ]
    return _joined("# Methods", GENERATED, _table(rows))


def _page(info: MethodInfo, records: Sequence[Record]) -> str:
    what, use, cost = split_docstring(info.description)
    facts = {
        "family": info.family,
        "paper": info.paper,
        "trains on": info.trains_on,
        "starts from": starts_from(info),
        "at test time": "embeds each image once"
        if info.fixed_embedding
        else "adapts to the support images of each episode",
        "marks": ", ".join(marks(info)) or "–",
    }
    presets = [
        {"preset": code(name), "sets": _settings(values)} for name, values in settings_of(info).items()
    ]
    hyperparameters = [
        {
            "name": code(p.name),
            "type": _prose(choices(p.annotation)),
            "default": code(value_as_set(p.default)),
            "what it is": _prose(what_it_is(p, info)),
        }
        for p in info.parameters.values()
    ]
    return _joined(
        f"# {code(info.name)}",
        GENERATED,
        *(_prose(text) for text in what),
        "\n".join(f"- {name}: {_prose(text)}" for name, text in facts.items()),
        *(("## When to use it", _prose(use)) if use else ()),
        *(("## What it costs", _prose(cost)) if cost else ()),
        "## Run it",
        f"```sh\npython -m bench run --method {info.name} --split 90-10\n```",
        "What each `--preset` sets; `standard` is the default:",
        _table(presets),
        "## Hyperparameters",
        "Defaults, which a preset can change. `--set name=value` overrides both. "
        "Runs that differ only in test-only hyperparameters share one training, with the preset's values.",
        _table(hyperparameters),
        "## Results",
        *_results(records),
    )


def _results(records: Sequence[Record]) -> list[str]:
    shown = sorted(
        (record for record in records if record.preset != BRIEF),
        key=lambda r: (r.dataset, r.split, -r.protocol_version, r.preset, r.seed, r.run_id),
    )
    if not shown:
        return ["There are no records yet."]
    headings = columns(shown)
    rows = [
        {
            "data set": code(record.dataset),
            "split": code(record.split),
            "preset": code(record.preset),
            "changed": _settings(overrides(record)),
            "backbone": code(record.backbone),
            "seed": str(record.seed),
            "protocol": str(record.protocol_version),
            **{heading: percent_text(record.metrics.get(key)) for heading, (key, _) in headings.items()},
            "images": "".join(images([record])),
            "pretraining": "".join(share([record])),
            "kept step": "".join(kept_step([record])),
            TIME: _training(record),
        }
        for record in shown
    ]
    note = "Percent with 95% intervals, one row per run. The leaderboard says what the columns mean."
    return [note, _table(rows)]


def _training(record: Record) -> str:
    if record.failure is not None:
        return "failed"
    return "untrained" if untrained(record) else "".join(training_time([record]))


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(map(code, as_set(values))) or "–"


def _prose(text: str) -> str:
    """Text as Markdown: code spans stay; other markup and HTML is escaped."""
    parts, end = [], 0
    for span in CODE_SPAN.finditer(text):
        parts += [plain(text[end : span.start()]), span[0]]
        end = span.end()
    return "".join([*parts, plain(text[end:])])


def _table(rows: Sequence[dict[str, str]]) -> str:
    return table(list(rows[0]), (row.values() for row in rows))


def _joined(*parts: str) -> str:
    return "\n\n".join(parts) + "\n"
