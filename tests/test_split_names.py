"""Every name of a split is listed, suggested and in README's table."""

import re
from pathlib import Path

import pytest

from bench.common.errors import UserError
from bench.data.names import NO_BASE, RATIOS, SPLITS, check_split
from bench.reporting.show import listing

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_all_novel_is_listed_and_suggested():
    check_split(NO_BASE)
    assert NO_BASE in [row["name"] for row in listing("splits")]
    with pytest.raises(UserError, match="did you mean all-novel"):
        check_split("all_novel")


def test_the_table_of_the_readme_has_every_split():
    table = README.partition("| `--split` |")[2].partition("\n\n")[0]
    names = re.findall(r"`([^`]+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:]))
    assert {*SPLITS} - {*RATIOS[1:-1], "B-N@SEED"} <= {*names} - {"..."} | {"90-10", "10-90"}
