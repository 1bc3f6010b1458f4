"""Ids: the last part of a resource name, made of a cell."""

from __future__ import annotations

import re
import unicodedata

from storekeep.cli.imports.columns import CellRefused

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
ID_CHARS_MAX = 63


def id_of(value: str, *, target: str) -> str:
    """Return `value`, which must be an id as it is.

    Raises: CellRefused.
    """
    if not ID.fullmatch(value):
        raise CellRefused(f"{target}: {value!r} is no id: 1 to 63 letters, digits and _.-, beginning with no sign")
    return value


def sku_of(value: str) -> str:
    """Return `value`, which must be a SKU as it is.

    Raises: CellRefused.
    """
    if not SKU.fullmatch(value):
        raise CellRefused(f"sku: {value!r} is no SKU: 1 to 64 letters, digits and _.+-, beginning with no sign")
    return value


def slug_of(text: str, *, target: str) -> str:
    """Return an id made of words: `Dairy & Eggs` becomes `dairy-eggs`.

    Raises: CellRefused when nothing of it can stand in an id.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9_.]+", "-", plain).strip("-_.")[:ID_CHARS_MAX]
    if not slug:
        raise CellRefused(f"{target}: {text!r} holds nothing that an id can be made of")
    return slug
