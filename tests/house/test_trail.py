"""Every file and name in the table of CONTRIBUTING.md exists."""

from __future__ import annotations

import re

import pytest

from tests.support.checkout import ROOT, text

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
ROWS = re.findall(
    r"^\| (.+?) \| `([\w./]+)`(?:: `(\w+)`)?(?:: a new migration; `([\w.]+)` created them)? \|$", PAGE, re.MULTILINE
)


def test_trail_has_its_seven_lines() -> None:
    assert len(ROWS) == 7


@pytest.mark.parametrize(("change", "place", "name", "file"), ROWS)
def test_place_of_a_change_is_where_the_table_says(change: str, place: str, name: str, file: str) -> None:
    path = ROOT / place / file if file else ROOT / place
    assert path.is_file(), f"{change}: {path} does not exist"
    assert name in text(path.relative_to(ROOT)), f"{change}: {place} has no {name}"
