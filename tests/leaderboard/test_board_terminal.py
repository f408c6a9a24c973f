"""The leaderboard fits a terminal of any width, and nothing in it is lost or acted on."""

import re

import pytest
from board_reader import NOWHERE
from record_factory import make_record, metric

from bench.reporting import terminal
from bench.reporting.leaderboard.document import document
from bench.reporting.ranking.tables import tables_of

HOSTILE = ["[bold]x[/bold]", "\x1b[31mred", ":smile:", "a\u202eb", "x" * 300, "名" * 40, "[/]", "https://a.b"]


def shown(monkeypatch, capsys, width: int, records) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    terminal.show(document(tables_of(records, NOWHERE)))
    return capsys.readouterr().out


def some_records():
    names = ("novel", "base", "all", "harmonic")
    joined = {f"generalized/90+1/{shots}s/{name}": metric(0.5) for shots in (1, 5) for name in names}
    made = make_record().model_dump()["metrics"]
    return [
        make_record(method=f"a_method_of_some_length_{i}", run_id=f"r{i}", metrics=made | joined)
        for i in range(3)
    ]


@pytest.mark.usefixtures("nothing_published")
@pytest.mark.parametrize("width", [60, 80, 137, 200])
def test_no_line_is_wider_and_no_cell_is_lost(monkeypatch, capsys, width):
    text = shown(monkeypatch, capsys, width, some_records())
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for i in range(3):
        assert f"a_method_of_some_length_{i}" in text.replace("\n", "") or width < 80
    for number in ("64.00 ± 1.00", "76.7 ± 1.0", "87.6 ± 1.0", "50.0 ± 1.0", "10 min 10 s", "2025-03-01"):
        assert len(re.findall(rf"(?<!\S){re.escape(number)}(?!\S)", text)) >= 3
    assert "<details>" not in text and "bench run" not in text
    assert "`python -m bench show RUN`" in " ".join(text.split())


def test_a_broken_up_table_tells_in_each_part_which_row_is_which(monkeypatch, capsys):
    widths = [4, 10, 30, 30, 30, 60]
    assert terminal._broken_up(widths, 2, 80) == [[0, 1, 2], [0, 1, 3], [0, 1, 4], [0, 1, 5]]
    assert terminal._broken_up(widths, 2, 90) == [[0, 1, 2, 3], [0, 1, 4], [0, 1, 5]]
    assert terminal._broken_up(widths, 2, 200) == [[0, 1, 2, 3, 4, 5]]
    assert terminal._broken_up([4, 10], 2, 80) == [[0, 1]]


@pytest.mark.usefixtures("nothing_published")
@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_record_reaches_the_terminal_as_more_than_text(monkeypatch, capsys, text):
    names = {name: text for name in ("method", "preset", "backbone", "dataset", "split")}
    record = make_record(run_id="r", config={"overrides": {text: text}}, **names)
    out = shown(monkeypatch, capsys, 80, [record])
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", out)
    written = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    assert written[:8] in out
    if "名" not in text:  # which is two columns wide
        assert max(map(len, out.splitlines())) <= 80


def test_without_records_it_still_shows_what_was_published(monkeypatch, capsys):
    out = shown(monkeypatch, capsys, 80, [])
    assert "No results yet." in out and "MetaOptNet-SVM" in out and "bench show RUN" not in out
