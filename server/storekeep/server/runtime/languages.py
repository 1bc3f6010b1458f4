"""Language tags (BCP 47) and the choice of a language by `Accept-Language` (RFC 9110, 12.5.4; RFC 4647, 3.4 Lookup).

A tag has a language, and optionally a script, a region and variants; extensions are not supported.
"""

from __future__ import annotations

import re
from collections.abc import Container
from functools import lru_cache

TAG = r"^[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3})){0,2}$"
"""The pattern of a tag; the contract has the same."""
REPLACED = {"in": "id", "iw": "he", "ji": "yi", "jw": "jv", "mo": "ro"}
"""Deprecated languages that clients still send, with the present ones (IANA Language Subtag Registry)."""
HEADER_LENGTH_MAX = 1_000
"""The most characters of a header. A longer one is ignored: browsers send some 50."""
HEADERS_CACHED_MAX = 1_000
_RANGE = re.compile(
    r"([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*|[*])[ \t]*(?:;[ \t]*[qQ]=(0(?:[.][0-9]{0,3})?|1(?:[.]0{0,3})?))?"
)


def canonicalize_tag(tag: str) -> str:
    """Return a tag in its canonical form (RFC 5646, 4.5), such as `zh-Hant-TW` for `ZH-hant-tw`."""
    language, *subtags = tag.lower().split("-")
    parts = [REPLACED.get(language, language)]
    for subtag in subtags:
        if len(subtag) == 4 and subtag.isalpha():
            parts.append(subtag.capitalize())
        else:
            parts.append(subtag.upper() if len(subtag) == 2 else subtag)
    return "-".join(parts)


@lru_cache(HEADERS_CACHED_MAX)
def list_accepted_tags(header: str) -> tuple[str, ...]:
    """Return the tags to look up for an `Accept-Language` header, best first, each followed by its shorter forms.

    Malformed elements and wildcards are ignored, and so is a header longer than `HEADER_LENGTH_MAX`. A tag with the
    quality 0 is left out. A shorter form comes before tags of a lower quality.
    """
    if len(header) > HEADER_LENGTH_MAX:
        return ()
    matches = [match for part in header.split(",") if (match := _RANGE.fullmatch(part.strip(" \t")))]
    ranges = [(canonicalize_tag(tag), float(quality or 1)) for tag, quality in (match.groups() for match in matches)]
    excluded = {tag for tag, quality in ranges if not quality}
    accepted: dict[str, None] = {}
    for tag, quality in sorted(ranges, key=lambda each: -each[1]):  # stable: equal qualities stay in their order
        if quality and tag != "*":
            accepted.update(dict.fromkeys(form for form in _list_forms(tag) if form not in excluded))
    return tuple(accepted)


def _list_forms(tag: str) -> list[str]:
    """Return a tag and its shorter forms: without the last subtag, and a single letter before that (RFC 4647, 3.4)."""
    subtags = tag.split("-")
    forms = []
    while subtags:
        forms.append("-".join(subtags))
        subtags.pop()
        if subtags and len(subtags[-1]) == 1:
            subtags.pop()
    return forms


def find_language(header: str, available: Container[str], *, default: str) -> str:
    """Return the best of the available languages for an `Accept-Language` header.

    Args:
        available: tags in canonical form, beside the default.
        default: the tag to return if none is accepted, in canonical form. Its shorter forms stand for it.
    """
    defaults = _list_forms(default)
    for tag in list_accepted_tags(header):
        if tag in available:
            return tag
        if tag in defaults:
            return default
    return default
