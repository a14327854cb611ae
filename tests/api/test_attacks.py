"""tests/attacks.tsv: each of the 60 attacks has a test, and each test that it names is there."""
import re

import pytest
from conftest import ROOT

TESTS = ROOT / "tests"
ROWS = [line.split("\t") for line in (TESTS / "attacks.tsv").read_text().splitlines() if not line.startswith("#")]


def exists(name):
    path, test = name.split("::")
    file = TESTS / path if "/" in path else TESTS / "api" / path
    if not file.exists():
        return False
    text = file.read_text()
    pattern = rf"\n    +T\({test}\)|\bcmocka_unit_test\w*\({test}\b" if file.suffix == ".c" else rf"(^|\n)def {test}\("
    return re.search(pattern, text) or (file.suffix == ".c" and len(re.findall(rf"\b{test}\b", text)) > 1)


def test_every_attack_has_a_row():
    assert [int(row[0]) for row in ROWS] == list(range(1, 61))


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_every_attack_has_a_test_that_exists(row):
    names = row[2].split()
    assert names and not [name for name in names if not exists(name)]
