"""Conversion of translations, and the check that a request does not store texts that a reply had translated."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping
from typing import Any, TypeVar

from storekeep.server.domain.catalog.translations import LocalizedText, LocalizedVariant
from storekeep.server.domain.errors import InvalidField
from storekeep.server.runtime.languages import canonicalize_tag
from storekeep.v1 import products_pb2 as pb

TEXTS = frozenset({"display_name", "description", "options", "translations"})
"""The fields that depend on the language of a reply."""
T = TypeVar("T")


def parse_language(tag: str) -> str:
    """Return a language tag in its canonical form; empty for none."""
    return canonicalize_tag(tag) if tag else ""


def fill_texts(messages: MutableMapping[str, pb.LocalizedText], translations: Mapping[str, LocalizedText]) -> None:
    """Fill the translations of a product or a category."""
    for tag, text in translations.items():
        message = messages[tag]
        message.display_name, message.description = text.display_name, text.description


def fill_variants(
    messages: MutableMapping[str, pb.LocalizedVariant], translations: Mapping[str, LocalizedVariant]
) -> None:
    """Fill the translations of a variant."""
    for tag, text in translations.items():
        message = messages[tag]
        message.display_name = text.display_name
        message.options.update(text.options)


def parse_texts(messages: Mapping[str, pb.LocalizedText], *, field: str) -> dict[str, LocalizedText]:
    """Parse the translations of a product or a category; the tags become canonical.

    Raises: InvalidField.
    """
    return _parse(messages, lambda message: LocalizedText(message.display_name, message.description), field=field)


def parse_variants(messages: Mapping[str, pb.LocalizedVariant], *, field: str) -> dict[str, LocalizedVariant]:
    """Parse the translations of a variant; the tags become canonical.

    Raises: InvalidField.
    """
    return _parse(messages, lambda message: LocalizedVariant(message.display_name, dict(message.options)), field=field)


def _parse(messages: Mapping[str, Any], parse: Callable[[Any], T], *, field: str) -> dict[str, T]:
    parsed: dict[str, T] = {}
    for tag in sorted(messages):
        canonical = canonicalize_tag(tag)
        if canonical in parsed:
            raise InvalidField(f'{field}["{tag}"]', f"a second translation into {canonical}")
        if not messages[tag].ListFields():
            raise InvalidField(f'{field}["{tag}"]', "a translation needs a text")
        parsed[canonical] = parse(messages[tag])
    return dict(sorted(parsed.items()))


def check_language(message: Any, *, field: str, changed: Collection[str] = TEXTS) -> None:
    """Raise if a request would store texts of a reply in one language, which lacks the others.

    Args:
        message: a resource in a request.
        field: the field of the request that holds it.
        changed: the fields that the request changes.

    Raises: InvalidField.
    """
    if message.language_code and not TEXTS.isdisjoint(changed):
        problem = "the texts are those of one language; read the resource without accept-language to change them"
        raise InvalidField(f"{field}.language_code", problem)
