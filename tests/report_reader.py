"""Records for the HTML report, and the report as a browser would read it."""

import html.parser
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import figure_records

from bench.records import store
from bench.reporting import report
from bench.reporting.figures import Gap, Options, collect
from bench.reporting.figures.rows import sections

VOID = {"meta", "link", "input", "br", "path", "use", "image"}
HOSTILE = figure_records.HOSTILE[:3]


class Page(html.parser.HTMLParser):
    """What a browser would make of the page: elements with attributes, and the text of each table's cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.values: dict[str, list[list[str]]] = {}
        self.text: Counter[str] = Counter()
        self.open: list[str] = []
        self.table = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.table = attributes["id"]
            self.tables[self.table], self.values[self.table] = [], []
        elif tag == "tr":
            self.tables[self.table].append([])
            self.values[self.table].append([])
        elif tag in ("td", "th"):
            self.tables[self.table][-1].append("")
            self.values[self.table][-1].append(attributes.get("data-value"))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text[data.strip()] += 1
        if {"td", "th"} & set(self.open):
            self.tables[self.table][-1][-1] += data

    def column(self, table: str, heading: str) -> list[tuple[str, str]]:
        """What is shown in a column and what it is sorted by, row by row."""
        shown, values = self.tables[f"{table}-table"], self.values[f"{table}-table"]
        where = shown[0].index(heading)
        return [(row[where], own[where]) for row, own in zip(shown[1:], values[1:], strict=True)]


def write_records(directory: Path) -> None:
    for number, method in enumerate(("protonet", *HOSTILE)):
        figure_records.write(directory, 90, 0.5 + 0.05 * number, method=method)
    for seed in range(3):
        figure_records.write(directory, 90, 0.6, method="siamese_triplet", seed=seed)
    figure_records.write(directory, 50, 0.45, method="protonet")
    figure_records.write(
        directory, 90, 0.4, method="outsider", external_data=True, dataset="<b>glyphs</b>",
        backbone='"><img src=x onerror=alert(1)>',
        command="python -m bench run\n</script><script>alert(2)</script>",
    )  # fmt: skip


def made(directory: Path, names: Sequence[str] = ("90-10-shots", "per-class")) -> str:
    """The report of a folder, with only the pictures whose name contains one of `names`."""
    found, problems = store.read_all(directory)
    assert problems == []
    own = sections(found, directory)
    pictures = [
        one
        for one in collect(own, Options(directory, directory / "no runs"))
        if isinstance(one, Gap) or any(name in one.name for name in names)
    ]
    return report.render(own, pictures, found, lambda *_: None, "")
