"""Pages of the methods: nothing is lost, nothing is markup that was text, and a stale page is noticed."""

import re
from pathlib import Path

import pytest
from command_line import bench, complaint
from markdown_reader import as_html, cells, plain
from record_factory import make_record, metric

from bench.common.errors import UserError
from bench.records import store
from bench.reporting import method_docs
from bench.reporting.show import settings_of
from methods import registry
from methods.method_info import MethodInfo, Parameter
from methods.registry import Place

DOCSTRING = """Mine: a method.

    Its *stars* cost 3 * 4, see `a_b * c` and [N, D] in <b>.

    Use it when there is
    nothing else.

    It costs 1 & 2.
    """


def info(**changes) -> MethodInfo:
    fields = {
        "family": "none | other",
        "paper": "Me & <you>, 2025",
        "trains_on": "pairs",
        "description": DOCSTRING.replace("\n    ", "\n"),
        "parameters": {
            "kind": Parameter("kind", "Literal['a_b', 'c'] | None", None, "one | `two|three` <br> *four*"),
            "rate": Parameter("rate", "float", 5e-4, "of `learning`"),
            "nesterov": Parameter("nesterov", "bool", True, "a ` alone"),
        },
        "presets": {"quick": {"kind": "a|b", "nesterov": False}, "standard": {}},
    }
    return MethodInfo("mine", "methods.mine", "Mine", **(fields | changes))


def page(method: MethodInfo | None = None, found=()) -> str:
    return method_docs.render([method or info()], list(found))["mine.md"].replace("\N{NO-BREAK SPACE}", " ")


def tables(markdown: str) -> list[list[list[str]]]:
    """Rows of cells, as a reader sees them, of each table."""
    return [[list(map(plain, row)) for row in table] for table in cells(markdown)]


def test_a_docstring_is_taken_apart():
    what, use, cost = method_docs.split_docstring(info().description)
    assert what == ["Mine: a method.", "Its *stars* cost 3 * 4, see `a_b * c` and [N, D] in <b>."]
    assert use == "Use it when there is\nnothing else."
    assert cost == "It costs 1 & 2."
    assert method_docs.split_docstring("Only this.") == (["Only this."], "", "")


@pytest.mark.parametrize("name", [own.name for own in method_docs.built_in()])
def test_every_built_in_method_says_when_to_use_it_and_what_it_costs(name):
    what, use, cost = method_docs.split_docstring(registry.available()[name].description)
    assert what and len(use.split()) > 8 and len(cost.split()) > 8


@pytest.mark.parametrize("own", method_docs.built_in(), ids=lambda own: own.name)
def test_a_page_has_all_that_the_source_says(own):
    made = method_docs.render([own], [])[f"{own.name}.md"]
    shown = " ".join(plain(as_html(made)).split())
    for text in [*method_docs.split_docstring(own.description)[0], own.paper, own.family, own.trains_on]:
        assert " ".join(text.replace("`", "").split()) in shown
    presets, hyperparameters = tables(made)
    assert [row[0] for row in presets[1:]] == list(settings_of(own))
    for (_, sets), values in zip(presets[1:], settings_of(own).values(), strict=True):
        assert [part.partition("=")[0] for part in sets.split(", ")] == list(values)
    assert [row[0] for row in hyperparameters[1:]] == list(own.parameters)
    for row, parameter in zip(hyperparameters[1:], own.parameters.values(), strict=True):
        mark = "; test-only" if parameter.name in own.test_only else ""
        assert row[3] == " ".join(parameter.help.replace("`", "").split()) + mark
    assert f"python -m bench run --method {own.name} " in made


def test_text_stays_text():
    made = page()
    shown = as_html(made)
    assert not {"<b>", "<br>", "<em>", "<you>", "<a "} & set(re.findall(r"<\w+[ >]", shown))
    assert "Its *stars* cost 3 * 4, see a_b * c and [N, D] in <b>." in plain(shown)
    assert "<code>a_b * c</code>" in shown
    assert "paper: Me & <you>, 2025" in plain(shown) and "family: none | other" in plain(shown)
    presets, hyperparameters = tables(made)
    assert presets[1:] == [["quick", "kind=a|b, nesterov=false"], ["standard", "–"]]
    assert hyperparameters[1:] == [
        ["kind", "a_b, c | None", "none", "one | two|three <br> *four*"],
        ["rate", "float", "0.0005", "of learning"],
        ["nesterov", "bool", "true", "a ` alone"],
    ]


def test_paragraphs_have_their_headings():
    headings = re.findall(r"<h2>(.*?)</h2>", as_html(page()))
    assert headings == ["When to use it", "What it costs", "Run it", "Hyperparameters", "Results"]
    assert "Use it when there is\nnothing else." in page().partition("## What it costs")[0]
    silent = re.findall(r"<h2>(.*?)</h2>", as_html(page(info(description="Mine."))))
    assert silent == ["Run it", "Hyperparameters", "Results"]


def test_results_are_the_method_s_own_records():
    ours = make_record(method="mine", seed=1, config={"overrides": {"steps": 9, "kind": "a|b"}})
    more = make_record(method="mine", seed=0, metrics={"fewshot/5w1s": metric(0.5)}, trained=False)
    others = [make_record(method="mine", preset="smoke"), make_record(method="protonet")]
    made = page(found=[ours, *others, more])
    heads, first, second = tables(made)[2]
    assert len(tables(made)[2]) == 3
    first, second = dict(zip(heads, first, strict=True)), dict(zip(heads, second, strict=True))
    assert (first["seed"], first["changed"], first["5w1s"]) == ("0", "–", "50.00 ± 1.00")
    assert first["5w5s"] == "–" and first["time (threads)"] == "untrained"
    assert (second["seed"], second["changed"]) == ("1", "kind=a|b, steps=9")
    assert second["novel pairs"] == "76.70 ± 1.00" and second["time (threads)"] == "10 min 10 s wall (2)"
    assert "There are no records yet." in page(found=others) and len(tables(page(found=others))) == 2


def test_the_index_leads_to_every_page():
    made = method_docs.render([info(), info(transductive=True)], [])["index.md"]
    (heads, first, second) = tables(made)[0]
    assert heads == ["method", "what it is", "family", "trains on", "starts from", "marks", "paper"]
    assert first == ["mine", "Mine: a method.", "none | other", "pairs", "scratch", "–", "Me & <you>, 2025"]
    assert second[5] == "transductive"
    assert '<a href="mine.md"><code>mine</code></a>' in as_html(made)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with an empty folder of records."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    return tmp_path


def test_a_page_for_each_built_in_method_and_none_for_a_plug_in(folder, monkeypatch):
    found = {**registry.places(), "plugged": Place("elsewhere.plugged")}
    monkeypatch.setattr("bench.reporting.method_docs.places", lambda: found)
    assert bench("docs").out == "docs/methods\n"
    names = {path.stem for path in Path("docs/methods").iterdir()}
    assert names == {own.name for own in method_docs.built_in()} | {"index"}
    assert {"protonet", "siamese_triplet", "siamese_reptile"} <= names and "plugged" not in names


def test_check_says_what_is_stale(folder):
    missing = bench("docs", "--check", "--output", "pages")
    assert (
        missing.code == 1 and missing.err.startswith("pages is out of date (") and "index.md" in missing.err
    )
    assert not Path("pages").exists()
    assert bench("docs", "--output", "pages").code == 0
    assert bench("docs", "--check", "--output", "pages").out == "pages is up to date\n"
    store.write(make_record(method="protonet"), folder / "results")
    stale = bench("docs", "--check", "--output", "pages")
    assert (stale.code, stale.err) == (1, "pages is out of date (protonet.md): run `python -m bench docs`\n")
    assert bench("docs", "--output", "pages").code == 0
    assert bench("docs", "--check", "--output", "pages").code == 0


def test_pages_of_methods_that_are_gone_go_too_and_no_other_file(folder):
    pages = folder / "pages"
    assert bench("docs", "--output", pages).code == 0
    (pages / "gone.md").write_text((pages / "protonet.md").read_text())
    (pages / "notes.md").write_text("# My own\n")
    assert method_docs.stale(folder / "results", pages) == (["gone.md"], [])
    assert bench("docs", "--output", pages).code == 0
    assert not (pages / "gone.md").exists() and (pages / "notes.md").read_text() == "# My own\n"
    assert method_docs.stale(folder / "results", pages) == ([], [])


def test_line_ends_of_another_system_do_not_count_as_a_change(folder):
    bench("docs")
    path = Path("docs/methods/protonet.md")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert bench("docs", "--check").code == 0


def test_bad_input(folder, monkeypatch):
    assert complaint("docs", "--results", "nowhere").startswith("--results nowhere: ")
    Path("file").write_text("")
    assert complaint("docs", "--output", "file").startswith("--output file: must be a writable folder")
    (folder / "results" / "broken.json").write_text("{")
    answer = bench("docs")
    assert answer.code == 1 and answer.err.startswith("warning: --results results/broken.json: ")
    bad = {"bad": Place("methods.bad")}
    for module in ("methods.registry", "bench.reporting.method_docs"):
        monkeypatch.setattr(f"{module}.places", lambda: bad)
    with pytest.raises(UserError, match=r"No module named 'methods\.bad'"):
        method_docs.stale(folder / "results", Path("docs/methods"))
