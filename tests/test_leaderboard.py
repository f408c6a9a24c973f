"""The file leaderboard.md: text stays text, commands can be copied, and it is written where it is stale."""

import re
from collections import Counter

import pytest
from board_reader import as_html, boards, render, with_metrics
from markdown_reader import plain
from record_factory import make_episodes, make_record, metric, record_fields

from bench.common.errors import UserError
from bench.records import store
from bench.reporting import leaderboard

pytestmark = pytest.mark.usefixtures("nothing_published")

HOSTILE = [
    "<script>alert(1)</script>",
    "a|b",
    "a\\|b\\",
    "`tick`",
    "``two`` `",
    "](http://example.org) [x](javascript:alert(1))",
    "https://example.org www.example.org a@example.org",
    "**bold** __bold__ ~~gone~~ # heading &amp; &lt; <!-- $x$",
    "two\nlines\r\n\n| a | b |\n",
    "\x1b[31m\u202e\x00",
    "</details>",
    "# heading",
    "- item\n1. first\n> quote\n---\n",
]


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_record_becomes_markup(text):
    def document(text: str) -> str:
        hostile = {name: text for name in ("method", "preset", "backbone", "dataset", "command")}
        overrides = {"overrides": {text: text}}
        generalized = {f"generalized/90+1/1s/{name}": metric(0.5) for name in ("novel", "base")}
        failed = {"failure": text, "metrics": {}, "per_class": {}, "episodes": {}}
        return render(
            [
                make_record(run_id="failed", split="90-10", **failed, **hostile),
                *(
                    make_record(
                        run_id=f"{split}{seed}",
                        split=f"{text}{split}",
                        config=overrides,
                        metrics=with_metrics({}) | generalized,
                        episodes={name: info | {"sha256": f"{seed}" * 64} for name, info in episodes.items()},
                        **hostile,
                    )
                    for split in (1, 2)
                    for seed in (1, 2)
                ),
            ]
        )

    episodes = record_fields()["episodes"]
    markdown = document(text)
    # No element, link or heading that the same leaderboard of tame names does not have.
    shown = as_html(markdown), as_html(document("tame"))
    tags, tame = (Counter(re.findall(r"<(/?[a-z0-9]+)", one)) for one in shown)
    assert tags == tame
    assert {len(table) for table in boards(markdown)} == {2}
    assert not re.search("[\x00\x1b\u202e]", markdown)


@pytest.mark.parametrize(
    "text", ["<b>&amp;", "a|b", "a\\|b\\", "`tick`", "``", "x ` y", " padded ", "_x_ *y*"]
)
def test_text_is_shown_as_it_is(text):
    [[row]] = boards(render([make_record(method=text)]))
    escaped = text.strip().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert row["method"] == f"<code>{escaped} (quick)</code>"
    assert re.sub(r"\s+", " ", plain(row["method"])) == f"{text.strip()} (quick)"


def test_the_commands_can_be_copied(tmp_path):
    fence = "run --set note='\n```\n</details>'"
    rows = [make_record(seed=seed) for seed in (0, 1)] + [make_record(method="m", command=fence)]
    html = as_html(render(rows))
    blocks = re.findall(r'<pre><code class="language-sh">(.*?)</code></pre>', html, re.DOTALL)
    assert sorted(blocks) == sorted(
        [
            "".join(f"{record.command}\n" for record in rows[:2]),
            fence.replace("<", "&lt;").replace(">", "&gt;") + "\n",
        ]
    )
    assert html.count("<details>") == html.count("</details>") == 1


def test_write_and_is_stale(tmp_path):
    results, output = tmp_path / "results", tmp_path / "docs" / "leaderboard.md"
    for seed in (0, 1):
        store.write(make_record(seed=seed), results, make_episodes(seed=seed))
    assert leaderboard.is_stale(results, output)[0]
    assert leaderboard.write(results, output) == []
    assert not leaderboard.is_stale(results, output)[0]
    assert output.read_text(encoding="utf-8") == render(store.read_all(results)[0], results)
    output.write_bytes(output.read_bytes().replace(b"\n", b"\r\n"))  # as git may check it out on Windows
    assert not leaderboard.is_stale(results, output)[0]
    store.write(make_record(seed=7), results)
    assert leaderboard.is_stale(results, output)[0]
    (results / "broken.json").write_text("{")
    [problem] = leaderboard.write(results, output)
    assert "broken.json" in problem
    assert not leaderboard.is_stale(results, output)[0]
    output.write_bytes(b"\xff")
    assert leaderboard.is_stale(results, output)[0]


def test_places_that_do_not_work_are_the_users_to_mend(tmp_path):
    with pytest.raises(UserError, match="--results"):
        leaderboard.write(tmp_path / "absent", tmp_path / "leaderboard.md")
    assert not (tmp_path / "leaderboard.md").exists()
    with pytest.raises(UserError, match="--output"):
        leaderboard.write(tmp_path, tmp_path)
    with pytest.raises(UserError, match="--output"):
        leaderboard.is_stale(tmp_path, tmp_path)
