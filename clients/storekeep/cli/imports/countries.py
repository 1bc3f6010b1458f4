"""Conversion of country names to ISO 3166-1 alpha-2 codes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import pycountry

from storekeep.cli.imports.columns import InvalidCell

ALIASES: Mapping[str, str] = {
    "uk": "GB",
    "u.k.": "GB",
    "great britain": "GB",
    "england": "GB",
    "scotland": "GB",
    "wales": "GB",
    "northern ireland": "GB",
    "eire": "IE",
    "republic of ireland": "IE",
    "u.s.": "US",
    "u.s.a.": "US",
    "united states of america": "US",
    "holland": "NL",
    "the netherlands": "NL",
    "rsa": "ZA",
    "uae": "AE",
    "ivory coast": "CI",
    "cape verde": "CV",
    "czech republic": "CZ",
    "macedonia": "MK",
    "swaziland": "SZ",
    "burma": "MM",
    "turkey": "TR",
    "russia": "RU",
    "south korea": "KR",
    "north korea": "KP",
    "brunei": "BN",
    "east timor": "TL",
    "palestine": "PS",
    "vatican": "VA",
}
"""Common names that are not in the standard, in lower case."""


@lru_cache(maxsize=1024)
def parse_region_code(country: str) -> str:
    """Return the alpha-2 code of a country given by name, code or common alias. Case is ignored.

    Raises: InvalidCell.
    """
    if alias := ALIASES.get(country.lower()):
        return alias
    try:
        return str(pycountry.countries.lookup(country).alpha_2)
    except LookupError:
        raise InvalidCell(f"country: {country!r} is not a country of ISO 3166") from None
