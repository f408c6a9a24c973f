"""The report: one HTML page from the records, which opens from disk and needs no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from markdown_it import MarkdownIt

from bench.common.files import check_output, write_files
from bench.common.progress import Report
from bench.records.store import Record, read_all
from bench.reporting.figures.collect import Options, collect, drawn
from bench.reporting.figures.picture import Gap, Picture
from bench.reporting.figures.rows import Section, sections
from bench.reporting.figures.style import inline_svg, style_sheet
from bench.reporting.html_table import escape
from bench.reporting.leaderboard import hidden
from bench.reporting.leaderboard.document import LEGEND
from bench.reporting.ranking.rows import grouped
from bench.reporting.report_tables import tables


def write(output: Path, options: Options, progress: Report) -> list[str]:
    """Write the report of all valid records of a folder.

    Returns:
        One line per file of the folder that is not a valid record.

    Raises:
        UserError: if the folder cannot be read or the file cannot be written.
    """
    check_output(output, "--output")
    records, problems = read_all(options.results)
    found = sections(records, options.results)
    said = hidden(records, [table for section in found for table in section.tables])
    text = render(found, collect(found, options), records, progress, said)
    write_files({output: text.encode()}, "--output")
    return problems


def render(
    found: Sequence[Section],
    pictures: Sequence[Picture | Gap],
    records: Sequence[Record],
    progress: Report,
    said: str,
) -> str:
    """The page: tables, embedded figures, and a line `said` about what is left out."""
    page = files("bench.reporting") / "report_page"
    template, style, script = (
        (page / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    parts, hints = tables(found, records)
    contents = {"reading": "How to read this"} | {identity: title for identity, (title, _) in parts.items()}
    contents |= {"pictures": "Figures"}
    return Template(template).substitute(
        policy=_policy(script),
        variables=style_sheet(),
        style=style,
        script=script,
        facts=escape(f"{_facts(found)} {said}".rstrip()),
        datasets=_choices(section.first.dataset for section in found),
        splits=_choices(section.first.split for section in found),
        contents="".join(f'<li><a href="#{key}">{escape(title)}</a></li>' for key, title in contents.items()),
        legend=MarkdownIt().render(LEGEND),
        hints="".join(f"<dt>{escape(key)}</dt><dd>{escape(text)}</dd>\n" for key, text in hints.items()),
        tables="\n".join(text for _, text in parts.values()),
        pictures=_groups(found, pictures, progress),
    )


def _policy(script: str) -> str:
    """Content security policy: load nothing, and run only the page's own script."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"


def _facts(found: Sequence[Section]) -> str:
    records = [record for section in found for row in section.rows for record in row.records]
    if not records:
        return "No results yet."
    newest = max(record.created for record in records)
    methods, datasets = (len({getattr(r, name) for r in records}) for name in ("method", "dataset"))
    counts = f"Records: {len(records):,}, methods: {methods}, data sets: {datasets}"
    return f"{counts}; the newest of {newest:%Y-%m-%d}."


def _choices(names) -> str:
    return "".join(f'<option value="{escape(name)}">{escape(name)}</option>' for name in dict.fromkeys(names))


def _groups(found: Sequence[Section], pictures: Sequence[Picture | Gap], progress: Report) -> str:
    """Figures under the heading of their data set, or data set and split."""
    of_section = {section.title: (section.first.dataset, section.first.split) for section in found}
    total = sum(isinstance(item, Picture) for item in pictures)
    parts: list[str] = []
    done = 0
    for title, items in grouped(pictures, lambda item: item.section).items():
        dataset, split = of_section.get(title, (title, ""))
        figures = []
        for picture in items:
            if isinstance(picture, Picture):
                progress("drawing", done, total)
                figures.append(_figure(picture, f"p{done}"))
                done += 1
        # Only the first group is open, because laying out a hundred figures is slow.
        parts.append(
            f'<details class="group"{"" if parts else " open"} data-dataset="{escape(dataset)}" '
            f'data-split="{escape(split)}">\n<summary>{escape(title)}</summary>\n'
            f'<div class="pictures">\n{"".join(figures)}</div>\n'
            f"{_gaps([item for item in items if isinstance(item, Gap)])}</details>"
        )
    if total:
        progress("drawing", total, total)
    return "\n".join(parts)


def _figure(picture: Picture, prefix: str) -> str:
    with drawn(picture) as figure:
        svg = inline_svg(figure, prefix)
    return (
        f'<figure id="{picture.name}"><figcaption><h3>{escape(picture.title)}</h3></figcaption>\n'
        f'<div role="img" aria-label="{escape(picture.alt)}">\n{svg}\n</div>\n'
        f"<p>{escape(picture.caption)}</p></figure>\n"
    )


def _gaps(gaps: Sequence[Gap]) -> str:
    if not gaps:
        return ""
    lines = "".join(f"<li>{escape(gap.title)}: {escape(gap.why)}.</li>" for gap in gaps)
    return f'<div class="gaps">Not drawn:<ul>{lines}</ul></div>\n'
