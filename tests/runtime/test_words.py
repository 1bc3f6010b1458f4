"""Words: what a query finds in a text, in many scripts, without a database."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storekeep.server.runtime.words import (
    MARKS_MAX,
    TOO_MANY_MARKS,
    AllOf,
    AnyOf,
    Condition,
    Term,
    list_words,
    parse_query,
)

MANY = 1_000_000
"""More words than any text of these tests has."""

FULL_WIDTH = "".join(chr(ord(letter) + 0xFEE0) for letter in "Full") + "-Width \uff11\uff12"
FOUND = [
    ("Rössle Sauerkraut", "rossle"),
    ("Straße", "strasse"),
    ("STRASSE", "straße"),
    ("Łódź", "lodz"),
    ("Ærø", "aero"),
    ("İstanbul \u0131ş\u0131k", "istanbul isik"),
    (FULL_WIDTH, "full width 12"),
    ("ﬁne oﬃce", "fine office"),
    ("O'Neill's", "oneills"),
    ("O'Neill's", "o'neill"),
    ("O\u2019Neill\u2019s", "O'Neill's"),
    ("ONeills", "O'Neill's"),
    ("l'eau de parfum", "eau"),
    ("T-Shirt", "tshirt"),
    ("Tshirt", "t-shirt"),
    ("T-Shirt", "shirt"),
    ("NOTE-NOTEPAD-001", "notepad 001"),
    ("NOTE-NOTEPAD-001", "notenotepad001"),
    ("U.S.A.", "usa"),
    ("H&M", "hm"),
    ("Müller", "mueller"),
    ("Mueller", "Müller"),
    ("Müller", "muller"),
    ("LEGO™ set", "lego set"),
    ("10 m² Folie", "m2"),
    ("soft\u00adware", "software"),
    ("宇治緑茶", "緑茶"),
    ("宇治緑茶", "茶"),
    ("宇治緑茶ティーバッグ", "ティー"),
    ("ｶﾞﾗｽのｺｯﾌﾟ", "ガラス"),
    ("コカ・コーラ", "コカコーラ"),
    ("제주녹차", "녹차"),
    ("ชาเขียวมะลิ", "มะลิ"),
    ("ชาเขียวมะลิ", "ชาเขียวมะลิ"),
    ("मसाला चाय", "चाय मसाला"),
    ("шкатулка Ёлка", "елка"),
    ("Καφές", "ΚΑΦΕΣ"),
    ("שָׁלוֹם", "שלום"),
    ("قَهْوَة", "قهوة"),
    ("رقم ٣٤", "34"),
    ("x" * 300, "x" * 300),
    ("tea", "te"),
]
NOT_FOUND = [
    ("tea", "ea"),
    ("green tea", "gre tea"),
    ("宇治緑茶", "緑紅"),
    ("ชาเขียว", "กาแฟ"),
    ("मसाला", "मसली"),
    ("running", "runs"),
    ("tea", "coffee"),
]


def matches(condition: Condition, words: set[str]) -> bool:
    """Return whether a document with these words matches: what each engine must do."""
    match condition:
        case Term(word, True):
            return any(other.startswith(word) for other in words)
        case Term(word):
            return word in words
        case AllOf(operands):
            return all(matches(operand, words) for operand in operands)
        case AnyOf(operands):
            return any(matches(operand, words) for operand in operands)
    raise AssertionError


def finds(query: str, text: str) -> bool:
    condition = parse_query(query)
    return condition is not None and matches(condition, list_words([text], words_max=MANY))


@pytest.mark.parametrize(("text", "query"), FOUND)
def test_query_finds_what_people_expect(text: str, query: str):
    assert finds(query, text)


@pytest.mark.parametrize(("text", "query"), NOT_FOUND)
def test_query_does_not_find_other_words(text: str, query: str):
    assert not finds(query, text)


@pytest.mark.parametrize("query", ["", " ", "%", "' - .", "\u0301", "☕", "\x01", "\x00"])
def test_query_without_a_word_has_no_condition(query: str):
    assert parse_query(query) is None


@given(text=st.text(max_size=60))
def test_every_text_is_found_by_itself(text: str):
    condition = parse_query(text)
    assert condition is None or matches(condition, list_words([text], words_max=MANY))


@given(text=st.text(max_size=60), before=st.text(max_size=9), after=st.text(max_size=9))
def test_every_text_is_found_among_others(text: str, before: str, after: str):
    condition = parse_query(text)
    assert condition is None or matches(condition, list_words([f"{before} {text} {after}"], words_max=MANY))


@given(text=st.text(max_size=200))
def test_words_have_nothing_that_an_index_would_read(text: str):
    words = list_words([text], words_max=MANY)
    assert all(word and len(word) <= 64 and not set(word) & set(" '\"\x00\x01*:&|()\\") for word in words)
    assert len(words) <= 6 * len(text)


def test_words_are_words_of_themselves():
    for text, _ in FOUND:
        words = list_words([text], words_max=MANY)
        assert {word for word in words if word in list_words([word], words_max=MANY)} == words


def test_document_has_the_first_words_of_its_texts():
    texts = ["one two", "two up-on", "five six"]
    assert list_words(texts, words_max=4) == {"one", "two", "up", "on"}
    assert list_words(texts, words_max=2) == {"one", "two"}
    assert list_words(["緑茶の缶"] * 3, words_max=2) == {"緑茶の", "茶の缶"}


@given(texts=st.lists(st.text(max_size=80), max_size=5), words_max=st.integers(1, 12))
def test_document_never_has_more_words_than_it_may(texts: list[str], words_max: int):
    words = list_words(texts, words_max=words_max)
    assert len(words) <= words_max
    assert words <= list_words(texts, words_max=MANY) or len("".join(texts)) > words_max


def test_texts_beyond_the_room_for_words_are_not_read():
    assert list_words(["a " * 50, "last"], words_max=20) == {"a"}
    assert "last" not in list_words(["\ufdfa " * 99 + "last"], words_max=99)  # each decomposes to 18 letters


def test_every_mark_that_is_sorted_counts_as_one():
    """Normalization sorts the marks of a letter in quadratic time."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.combining(unicodedata.normalize("NFKD", character)[0]):
            assert TOO_MANY_MARKS.fullmatch(character * (MARKS_MAX + 1)), hex(code)


@pytest.mark.parametrize("mark", ["\u0301", "\u0f73", "\uff9e", "\u1dc0", "-"])
def test_text_with_too_many_marks_is_found_by_its_letters(mark: str):
    text = f"か{mark * 5_000} end"
    assert finds("end", text)
    assert finds(text, text)
