"""The rows of tests/fault/mutants.txt and the sources: what a row takes away is there, once.  Whether it is noticed takes longer: make test-long."""
import runpy

import pytest
from conftest import ROOT

ROWS = runpy.run_path(str(ROOT / "tests" / "fault" / "mutants.py"))["rows"]()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_a_mutant_fits_the_sources(row):
    assert (ROOT / row["file"]).read_text().count(row["old"]) == 1
    assert row["old"] != row["new"] and row["test"]


def test_each_mutant_has_a_name_of_its_own():
    assert len({row["name"] for row in ROWS}) == len(ROWS) > 100
