"""Ids of resources and SKUs, parsed or made from the text of cells."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from storekeep.imports.columns import InvalidCell, check_code
from storekeep.imports.letters import LETTERS

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
ID_CHARS_MAX = 63
SUFFIX_CHARS = 8
"""Characters of the suffix that keeps ids of different texts apart: 32 bits of a hash."""


def parse_id(value: str, *, target: str) -> str:
    """Return `value` if it is a valid id.

    Raises: InvalidCell.
    """
    if not ID.fullmatch(check_code(value, target=target)):
        raise InvalidCell(f"{target}: {value!r} is not an id: 1 to 63 letters, digits and _.-, first a letter or digit")
    return value


def parse_sku(value: str) -> str:
    """Return `value` if it is a valid SKU.

    Raises: InvalidCell.
    """
    if not SKU.fullmatch(check_code(value, target="sku")):
        rule = "1 to 64 letters, digits and _.+-, first a letter or digit"
        raise InvalidCell(f"sku: {value!r} is not a SKU: {rule}; --sku-map FILE.csv makes one and keeps the pair")
    return value


def make_slug(text: str) -> str:
    """Return an id made from words: `Dairy & Eggs` becomes `dairy-eggs`, and `Чай` becomes `chai`.

    A text with letters that have no Latin spelling, or with none at all, gets a suffix made from the whole text, so
    that the same text always has the same id.
    """
    slug, complete = _to_latin(text)
    return slug if slug and complete else add_suffix(slug, text)


def add_suffix(slug: str, text: str) -> str:
    """Return an id that is made from `slug` and a hash of `text`, for a slug that is taken or incomplete."""
    digest = hashlib.blake2b(unicodedata.normalize("NFC", text).encode(), digest_size=SUFFIX_CHARS // 2).hexdigest()
    stem = slug[: ID_CHARS_MAX - SUFFIX_CHARS - 1].rstrip("-_.")
    return f"{stem}-{digest}" if stem else f"id-{digest}"


def make_id(text: str) -> str:
    """Return an id made from a SKU, a handle or an email address: the text itself if it is a valid id."""
    return text if ID.fullmatch(text) else make_slug(text)


def make_unique_id(text: str) -> str:
    """Return an id that no other text has: the text itself if it is a valid id, else a slug with a suffix."""
    return text if ID.fullmatch(text) else add_suffix(_to_latin(text)[0], text)


def make_sku(text: str) -> str:
    """Return a SKU that no other text has: the text itself if it is valid, else a slug with a suffix."""
    return text if SKU.fullmatch(text) else add_suffix(_to_latin(text)[0], text).upper()


def _to_latin(text: str) -> tuple[str, bool]:
    """Return a slug, and whether all letters and digits of the text are in it."""
    # The letter й decomposes into и and an accent, so letters are replaced before and after accents are removed.
    lowered = unicodedata.normalize("NFC", text).casefold().translate(LETTERS)
    marked = unicodedata.normalize("NFKD", lowered)
    plain = "".join(char for char in marked if not unicodedata.combining(char)).translate(LETTERS)
    slug = re.sub(r"[^a-z0-9_.]+", "-", plain).strip("-_.")
    complete = len(slug) <= ID_CHARS_MAX and not any(char.isalnum() for char in plain if not char.isascii())
    return slug[:ID_CHARS_MAX].rstrip("-_."), complete
