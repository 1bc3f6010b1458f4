"""Texts of the catalogue in other languages than the default one, by language tag."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from storekeep.server.runtime.languages import list_accepted_tags

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


def translate_name(name: str, stored: str | None, *, language: str) -> str:
    """Return the display name of a product or variant in a language, or in a shorter form of its tag.

    Args:
        name: the name in the default language, which stands for one that is missing.
        stored: the stored translations; None if the SKU does not exist.
        language: a canonical tag.
    """
    if stored is None or stored == NO_TRANSLATIONS:
        return name
    texts = _decode_variants(stored)
    tags = list_accepted_tags(language)
    return next((texts[tag].display_name for tag in tags if tag in texts), "") or name


def list_names(stored: Iterable[str]) -> list[str]:
    """Return the display names in stored translations of products, categories or variants."""
    translated = [_decode_variants(each).values() for each in stored if each != NO_TRANSLATIONS]
    return [text.display_name for texts in translated for text in texts if text.display_name]


def list_descriptions(stored: str) -> list[str]:
    """Return the descriptions in stored translations of a product or a category."""
    return [text.description for text in _decode_texts(stored).values() if text.description]
