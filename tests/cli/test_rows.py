"""Any file is read as rows with their line numbers, or rejected."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storekeep.imports.columns import InvalidCell
from storekeep.imports.countries import parse_region_code
from storekeep.imports.ids import ID, make_slug
from storekeep.imports.records import FileUnreadable
from storekeep.imports.rows import BadRow, Row, RowReader


def read(content: bytes) -> list[Row | BadRow]:
    return list(RowReader(io.BytesIO(content)))


@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_refused(content: bytes) -> None:
    try:
        rows = read(content)
    except FileUnreadable:
        return
    lines = [row.line for row in rows]
    assert lines == sorted(set(lines))


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])), min_size=2, max_size=2), max_size=20))
def test_quoted_text_comes_back(table: list[list[str]]) -> None:
    quoted = "".join(",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in cells) + "\n" for cells in table)
    rows = read(f"a,b\n{quoted}".encode())
    expected = [{name: cell.strip() for name, cell in zip("ab", cells, strict=True)} for cells in table]
    present = [{name: cell for name, cell in cells.items() if cell} for cells in expected]
    assert [row.cells for row in rows if isinstance(row, Row)] == list(filter(None, present))


def test_line_number_counts_the_lines_of_quoted_cells() -> None:
    rows = read(b'a,b\n"1\n2",x\n3,y\n')
    assert [row.line for row in rows] == [2, 4]


def test_cells_cut_by_an_unquoted_comma_are_joined_only_when_that_fits() -> None:
    good, ambiguous, wrong = read(b"a,b\n24, place,x\n1, 2,3, 4,5\n1,2,3\n")
    assert isinstance(good, Row)
    assert good.cells == {"a": "24, place", "b": "x"}
    assert isinstance(ambiguous, BadRow)
    assert isinstance(wrong, BadRow)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "compressed with gzip"),
        (bz2.compress(b"a,b\n1,2\n"), "compressed with bzip2"),
        (bz2.compress(b"a,b\n1,2\n", 1), "compressed with bzip2"),
        (lzma.compress(b"a,b\n1,2\n", lzma.FORMAT_ALONE), "compressed with LZMA"),
        (b"\x1f\x9d\x90a,b", "compress .\\.Z."),
        (b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\x00", "a RAR archive"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"PK\x05\x06" + bytes(18), "an empty ZIP archive"),
        (b"PK\x07\x08PK\x03\x04", "a part of a ZIP archive"),
        (lzma.compress(b"a,b\n1,2\n"), "compressed with xz"),
        (b"PK\x03\x04\x14\x00\x06\x00", "save the sheet as CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "save the sheet as CSV UTF-8"),
    ],
)
def test_file_of_another_kind_is_named(content: bytes, problem: str) -> None:
    with pytest.raises(FileUnreadable, match=problem):
        read(content)


@pytest.mark.parametrize(
    ("country", "code"),
    [
        ("Germany", "DE"),
        ("UK", "GB"),
        ("USA", "US"),
        ("venezuela", "VE"),
        ("de", "DE"),
        ("EIRE", "IE"),
        ("Atlantis", ""),
    ],
)
def test_country_is_resolved_or_refused(country: str, code: str) -> None:
    if code:
        assert parse_region_code(country) == code
    else:
        with pytest.raises(InvalidCell):
            parse_region_code(country)


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("Dairy & Eggs", "dairy-eggs"),
        ("Gr\u00fcner Tee", "gruner-tee"),
        ("Stra\u00dfe", "strasse"),
        ("\u0427\u0430\u0439", "chai"),
        ("\u03a4\u03c3\u03ac\u03b9", "tsai"),
        ("1", "1"),
    ],
)
def test_slug_is_made_of_latin_letters(text: str, slug: str) -> None:
    assert make_slug(text) == slug


@pytest.mark.parametrize("text", ["\u65e5\u672c\u8336", "\u8336 tea", "!?", "x" * 80, "\u0639\u0631\u0628\u064a"])
def test_slug_of_other_letters_is_an_id_of_its_own(text: str) -> None:
    slug = make_slug(text)
    assert ID.fullmatch(slug)
    assert slug == make_slug(text) != make_slug(f"{text}2")
