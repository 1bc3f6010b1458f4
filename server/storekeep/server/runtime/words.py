"""The tokenizer of text search: cuts documents and queries into folded words, for every script and both engines.

Words end as Unicode says (UAX #29), nearly: a compound such as `T-Shirt` or `O'Neill's` is found by its parts and as
one word. Scripts without spaces are cut into n-grams. There is no stemming, no synonym and no correction of typos.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

WORDS_VERSION = "2"
"""Changes with every change of the words: indexes must then be rebuilt, and page tokens of before are invalid."""
WORD_LENGTH_MAX = 64
"""Characters of a word that count. Longer words are cut, in documents and in queries."""
CHARACTERS_PER_WORD = 5
"""The characters of texts that are read for each word that a document may have."""
DECOMPOSED_MAX = 3
"""Characters that each of a document's may decompose to on average, as those of Korean do; a few have 18."""
FOLDS_MAX = 100_000
"""Code points whose folded form is remembered, in some 10 MB: more than all scripts in use have."""
MARKS_MAX = 30
"""Marks and signs in a row that count, as in Unicode's stream-safe format (UAX #15). To sort more of them takes
quadratic time."""
TOO_MANY_MARKS = re.compile(rf"((?:[^\w\s]|[\uff9e\uff9f]){{{MARKS_MAX}}})(?:[^\w\s]|[\uff9e\uff9f])+")
GRAM_UNITS = 3
"""Length of an n-gram, in characters with their marks."""
BLOCK = 256
"""N-grams that are made at a time."""
JOINT = "\x01"
"""Stands between the parts of a compound."""
JOINERS = frozenset("'`-._/&\u00b4\u00b7\u02bc\u05f3\u05f4\u2010\u2013\u2018\u2019\u2044\u2212\u30fb")
"""Signs that join the parts of a compound if no space is beside them."""
LETTERS = {
    "ł": "l",
    "ø": "o",
    "đ": "d",
    "ð": "d",
    "þ": "th",
    "æ": "ae",
    "œ": "oe",
    "\u0131": "i",
    "ħ": "h",
    "ŧ": "t",
    "ŋ": "n",
    "ĸ": "k",
    "ƒ": "f",
}
"""Folded letters that Unicode does not decompose."""
SPELLED_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "Å": "Aa"})
"""Other spellings of letters: `Müller` is also `Mueller`."""
SPELLED = re.compile("[äöüåÄÖÜÅ]")
SIGNS = str.maketrans({"™": " ", "℠": " ", "\u00b4": "'", "\u200b": " "})
"""Characters that would become letters, or vanish, when a text is decomposed."""
UNSPACED = "\u0e01-\u0e4e\u0e81-\u0ecf\u1000-\u109f\u1780-\u17d3\u17dd\u1950-\u19df\u1a20-\u1aaf" + (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uaa60-\uaa7f\uac00-\ud7a3\uf900-\ufaff"
    "\U0001aff0-\U0001b16f\U00020000-\U000323af"
)
"""Scripts that are written without spaces, or whose compounds are: Thai, Lao, Burmese, Khmer, Han, Kana and Hangul."""
RUN = re.compile(f"[{UNSPACED}]+|[^{UNSPACED}]+")
UNSPACED_RUN = re.compile(f"[{UNSPACED}]")
DROPPED_MARKS = re.compile("[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670]")
"""Marks that writers leave out: accents, the vowels of Hebrew and Arabic. Marks of Indic and Thai letters count."""


@dataclass(frozen=True, slots=True)
class Term:
    """A word that a document must contain.

    Attributes:
        is_prefix: whether a word that begins with it is enough.
    """

    word: str
    is_prefix: bool = False


@dataclass(frozen=True, slots=True)
class AllOf:
    """Conditions that must all hold."""

    operands: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Conditions of which one must hold."""

    operands: tuple[Condition, ...]


Condition = Term | AllOf | AnyOf


class _Folds(dict[int, str]):
    """Maps each code point of a decomposed, case-folded text to what it is in words: for `str.translate`."""

    def __missing__(self, code: int) -> str:
        folded = _fold_character(chr(code))
        if len(self) < FOLDS_MAX:
            self[code] = folded
        return folded


def _fold_character(character: str) -> str:
    """Return the folded letter or digit, nothing for a dropped character, and a space or `JOINT` between words."""
    category = unicodedata.category(character)
    if character in JOINERS:
        return JOINT
    if category == "Cf" or DROPPED_MARKS.fullmatch(character):
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    return LETTERS.get(character, character) if category[0] in "LMN" else " "


FOLDS = _Folds()


def list_words(texts: Iterable[str], *, words_max: int) -> set[str]:
    """Return the words by which a document with these texts is found: the first of them, in the order of the texts.

    Each is at most `WORD_LENGTH_MAX` characters long, folded, and has no space and no ASCII sign.

    Args:
        words_max: the most words to return. They are read from `CHARACTERS_PER_WORD` times as many characters.
    """
    words: dict[str, None] = {}
    left = words_max * CHARACTERS_PER_WORD
    for text in texts:
        if left <= 0 or len(words) >= words_max:
            break
        for spelling in filter(None, _list_spellings(text[:left])):
            compounds = _cut(spelling, length_max=WORD_LENGTH_MAX + DECOMPOSED_MAX * len(spelling))
            words.update(dict.fromkeys(_cut_compounds(compounds, words_max=words_max)))
        left -= len(text)
    return set(islice(words, words_max))


def parse_query(query: str) -> Condition | None:
    """Return the condition for documents that match a query; None if it has no words.

    Every word must match, the last one as a prefix.
    """
    chunks = [chunk for chunk in query.split() if _cut(_limit_marks(chunk))]
    conditions = []
    for number, chunk in enumerate(chunks, start=1):
        is_last = number == len(chunks)
        spellings = [_match_compounds(_cut(spelling), is_last) for spelling in _list_spellings(chunk) if spelling]
        conditions.append(_combine(AnyOf, spellings))
    return _combine(AllOf, conditions) if conditions else None


def _list_spellings(text: str) -> tuple[str, str]:
    """Return a text and its words with another spelling; see `_spell_out`."""
    limited = _limit_marks(text)
    return limited, _spell_out(limited)


def _limit_marks(text: str) -> str:
    """Return a text without the marks that are more than `MARKS_MAX` in a row."""
    return text if text.isascii() else TOO_MANY_MARKS.sub(r"\1 ", text)


def _spell_out(text: str) -> str:
    """Return the words with letters that have another spelling, spelled so; empty without such words."""
    if text.isascii():
        return ""
    words = unicodedata.normalize("NFC", text).split()
    return " ".join(word.translate(SPELLED_OUT) for word in words if SPELLED.search(word))


def _cut(text: str, *, length_max: int | None = None) -> list[str]:
    """Fold a text and cut it into compounds: parts with `JOINT` between them.

    Args:
        length_max: the characters that count after decomposition; None for all.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text.translate(SIGNS))[:length_max]
        text = unicodedata.normalize("NFKD", text.casefold())
        text = unicodedata.normalize("NFC", text.translate(FOLDS))
    else:
        text = text.lower().translate(FOLDS)
    return [compound for compound in text.split() if compound.strip(JOINT)]


def _cut_compounds(compounds: list[str], *, words_max: int) -> Iterable[str]:
    """Return at least `words_max` different words of compounds, in order, or all if there are fewer."""
    text = " ".join(compounds)
    if JOINT not in text and (text.isascii() or not UNSPACED_RUN.search(text)):  # in most texts each is one word
        return [compound[:WORD_LENGTH_MAX] for compound in compounds]
    words: dict[str, None] = {}
    for compound in compounds:
        listed = _list_compound_words(compound)
        while len(words) < words_max and (some := dict.fromkeys(islice(listed, words_max))):
            words.update(some)
    return words


def _list_compound_words(compound: str) -> Iterator[str]:
    if JOINT not in compound:
        yield from _list_part_words(compound)
        return
    for part in dict.fromkeys(compound.split(JOINT)):
        yield from _list_part_words(part)
    yield from _list_part_words(compound.replace(JOINT, ""))


def _list_part_words(part: str) -> Iterator[str]:
    if part.isascii() or not UNSPACED_RUN.search(part):
        if part:
            yield part[:WORD_LENGTH_MAX]
        return
    for run in dict.fromkeys(RUN.findall(part)):
        if UNSPACED_RUN.match(run):
            if run.isalnum():  # no marks, as in Chinese: 0.2 µs for each n-gram, not 0.6
                for begin in range(0, len(run), BLOCK):  # not all at once: the caller may need the first ones only
                    yield from [run[index : index + GRAM_UNITS] for index in range(begin, min(begin + BLOCK, len(run)))]
                continue
            units = _split_units(run)
            yield from ("".join(units[index : index + GRAM_UNITS])[:WORD_LENGTH_MAX] for index in range(len(units)))
        else:
            yield run[:WORD_LENGTH_MAX]


def list_beginnings(word: str) -> list[str]:
    """Return a word, and the shorter n-grams that it begins with if it is one of a script without spaces."""
    if word.isascii() or not UNSPACED_RUN.match(word):
        return [word]
    if word.isalnum():  # no marks
        return [word[:length] for length in range(1, len(word) + 1)]
    units = _split_units(word)
    return [word, *("".join(units[:count]) for count in range(1, len(units)))]


def _split_units(run: str) -> list[str]:
    """Split a run of letters into letters with their marks."""
    units: list[str] = []
    for character in run:
        if units and unicodedata.category(character)[0] == "M":
            units[-1] += character
        else:
            units.append(character)
    return units


def _match_compounds(compounds: list[str], is_last: bool) -> Condition:
    conditions = []
    for number, compound in enumerate(compounds, start=1):
        is_prefix = is_last and number == len(compounds)
        parts = [part for part in compound.split(JOINT) if part]
        condition = _combine(
            AllOf, [_match_part(part, is_prefix and index == len(parts)) for index, part in enumerate(parts, start=1)]
        )
        if len(parts) > 1:
            condition = _combine(AnyOf, [condition, _match_part("".join(parts), is_prefix)])
        conditions.append(condition)
    return _combine(AllOf, conditions)


def _match_part(part: str, is_prefix: bool) -> Condition:
    terms: list[Condition] = []
    runs = RUN.findall(part)
    for number, run in enumerate(runs, start=1):
        if not UNSPACED_RUN.match(run):
            terms.append(Term(run[:WORD_LENGTH_MAX], is_prefix and number == len(runs)))
            continue
        units = _split_units(run)
        if len(units) < GRAM_UNITS:  # an n-gram begins at each letter, so one of them begins with these
            terms.append(Term("".join(units)[:WORD_LENGTH_MAX], is_prefix=True))
            continue
        for index in range(len(units) - GRAM_UNITS + 1):
            terms.append(Term("".join(units[index : index + GRAM_UNITS])[:WORD_LENGTH_MAX]))
    return _combine(AllOf, terms)


def _combine(kind: type[AllOf | AnyOf], conditions: list[Condition]) -> Condition:
    """Return the conjunction or disjunction of conditions, each once."""
    distinct = tuple(dict.fromkeys(conditions))
    return distinct[0] if len(distinct) == 1 else kind(distinct)
