"""Texts of the catalogue in other languages than the default one, by language tag."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

NO_TRANSLATIONS = "{}"
"""The stored form of a resource without translations."""


class LocalizedText(msgspec.Struct, frozen=True):
    """The texts of a product or a category in one language; an empty one stands for that in the default language."""

    display_name: str = ""
    description: str = ""


class LocalizedVariant(msgspec.Struct, frozen=True):
    """The texts of a variant in one language; an empty one stands for that in the default language."""

    display_name: str = ""
    options: dict[str, str] = {}


_decode_texts = msgspec.json.Decoder(dict[str, LocalizedText]).decode
_decode_variants = msgspec.json.Decoder(dict[str, LocalizedVariant]).decode


def list_names(stored: Iterable[str]) -> list[str]:
    """Return the display names in stored translations of products, categories or variants."""
    translated = [_decode_variants(each).values() for each in stored if each != NO_TRANSLATIONS]
    return [text.display_name for texts in translated for text in texts if text.display_name]


def list_descriptions(stored: str) -> list[str]:
    """Return the descriptions in stored translations of a product or a category."""
    return [text.description for text in _decode_texts(stored).values() if text.description]
