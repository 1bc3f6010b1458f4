"""Ids of resources and SKUs, parsed or made from the text of cells."""

from __future__ import annotations

import re
import unicodedata

from storekeep.cli.imports.columns import InvalidCell

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
ID_CHARS_MAX = 63


def parse_id(value: str, *, target: str) -> str:
    """Return `value` if it is a valid id.

    Raises: InvalidCell.
    """
    if not ID.fullmatch(value):
        raise InvalidCell(f"{target}: {value!r} is not an id: 1 to 63 letters, digits and _.-, first a letter or digit")
    return value


def parse_sku(value: str) -> str:
    """Return `value` if it is a valid SKU.

    Raises: InvalidCell.
    """
    if not SKU.fullmatch(value):
        raise InvalidCell(f"sku: {value!r} is not a SKU: 1 to 64 letters, digits and _.+-, first a letter or digit")
    return value


def make_slug(text: str, *, target: str) -> str:
    """Return an id made from words: `Dairy & Eggs` becomes `dairy-eggs`.

    Raises: InvalidCell if the text has no character that is allowed in an id.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9_.]+", "-", plain).strip("-_.")[:ID_CHARS_MAX]
    if not slug:
        raise InvalidCell(f"{target}: {text!r} has no letter or digit for an id")
    return slug
