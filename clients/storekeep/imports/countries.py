"""Conversion of country names to ISO 3166-1 alpha-2 codes.

The spellings are a closed list: the names and codes of the standard, and `SPELLINGS`. Case, accents, punctuation, an
article and `&` for `and` do not matter; nothing else is guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache

import pycountry

from storekeep.imports.columns import InvalidCell
from storekeep.imports.letters import DOTLESS_I

SPELLINGS: Mapping[str, str] = {
    "AE": "uae, emirates",
    "AG": "antigua",
    "AL": "shqiperia",
    "AT": "osterreich",
    "AX": "aland, aland island",
    "BA": "bosnia, bosnia herzegovina, bosna i hercegovina",
    "BE": "belgie, belgique, belgien",
    "BL": "saint barth, saint barts",
    "BN": "brunei",
    "BO": "bolivia",
    "BQ": "bonaire, caribbean netherlands, bonaire saint eustatius and saba",
    "BR": "brasil",
    "BY": "belorussia, byelorussia",
    "CC": "cocos islands, keeling islands",
    "CD": "dr congo, drc, congo kinshasa, democratic republic of congo, congo dr, congo drc, zaire",
    "CG": "republic of congo, congo brazzaville, congo republic",
    "CH": "swiss confederation, schweiz, suisse, svizzera",
    "CI": "ivory coast, cote divoire",
    "CN": "peoples republic of china, prc, china mainland, mainland china",
    "CV": "cape verde",
    "CZ": "czech republic, czechia czech republic, cesko, ceska republika",
    "DE": "federal republic of germany, brd, deutschland",
    "DK": "danmark",
    "DM": "commonwealth of dominica",
    "DO": "dominican rep",
    "EE": "eesti",
    "EG": "arab republic of egypt",
    "ES": "espana",
    "FI": "suomi",
    "FK": "falkland islands, falklands, malvinas, islas malvinas, falkland islands islas malvinas",
    "FM": "micronesia, federated states of micronesia",
    "FO": "faeroe islands, faroes",
    "GB": "uk, united kingdom uk, great britain, britain, england, scotland, wales, northern ireland, "
    "great britain and northern ireland",
    "GG": "channel islands guernsey",
    "GM": "republic of gambia",
    "GR": "hellas, ellada",
    "GS": "south georgia, south georgia sandwich islands, south georgia south sandwich islands, "
    "south georgia and south sandwich islands",
    "HK": "hong kong sar, hong kong sar china, hongkong, hong kong china",
    "HM": "heard and mcdonald islands, heard mcdonald islands",
    "HR": "hrvatska",
    "HU": "magyarorszag",
    "IE": "eire, republic of ireland, ireland republic of",
    "IM": "isle of man uk",
    "IR": "iran, islamic republic of iran, persia",
    "IS": "island",
    "IT": "italia",
    "KG": "kyrgyz republic",
    "KN": "saint kitts, saint kitts nevis, saint christopher and nevis",
    "KP": "north korea, dprk, korea north, democratic peoples republic of korea",
    "KR": "south korea, korea south, republic of korea",
    "LA": "laos",
    "LC": "santa lucia",
    "LT": "lietuva",
    "LU": "letzebuerg",
    "LV": "latvija",
    "LY": "libyan arab jamahiriya",
    "MD": "moldova, republic of moldova",
    "MF": "saint martin, saint martin french part, saint martin french",
    "MK": "macedonia, north macedonia, fyrom, former yugoslav republic of macedonia, macedonia fyrom, "
    "republic of macedonia, macedonia the former yugoslav republic of",
    "MM": "burma, myanmar burma, burma myanmar",
    "MO": "macau, macau sar, macao sar, macau sar china, macao sar china",
    "NL": "holland, nederland",
    "NO": "norge, noreg",
    "PL": "polska",
    "PM": "saint pierre miquelon",
    "PN": "pitcairn islands, pitcairn island",
    "PS": "palestine, palestinian territories, palestinian territory, occupied palestinian territory, "
    "palestinian territory occupied, west bank and gaza",
    "PT": "portuguese republic",
    "PW": "belau, republic of palau",
    "RE": "reunion island",
    "RS": "srbija",
    "RU": "russia, russian fed",
    "SE": "sverige",
    "SH": "saint helena, ascension island, tristan da cunha, saint helena ascension and tristan da cunha",
    "SI": "slovenija",
    "SJ": "svalbard, svalbard jan mayen, svalbard and jan mayen islands",
    "SK": "slovak republic, slovensko",
    "ST": "sao tome, sao tome principe",
    "SX": "sint maarten, saint maarten, saint martin dutch part, sint maarten dutch",
    "SY": "syria",
    "SZ": "swaziland",
    "TC": "turks caicos islands, turks and caicos",
    "TF": "french southern lands",
    "TL": "east timor",
    "TR": "turkey, turkiye, turkey turkiye",
    "TT": "trinidad, trinidad tobago",
    "TW": "taiwan, taiwan roc, chinese taipei, republic of china",
    "TZ": "tanzania, united republic of tanzania",
    "UM": "us minor outlying islands, us outlying islands, united states us minor outlying islands",
    "US": "usa, us, united states us, united states of america usa, united states usa",
    "VA": "vatican, vatican city, vatican city state, holy see vatican, holy see vatican city, "
    "vatican city holy see, vatican city state holy see",
    "VC": "saint vincent, saint vincent grenadines",
    "VE": "venezuela",
    "VG": "british virgin islands, virgin islands british, bvi, uk virgin islands",
    "VI": "us virgin islands, virgin islands us, usvi, united states virgin islands, american virgin islands",
    "VN": "vietnam, viet nam",
    "WF": "wallis futuna",
    "XK": "kosovo, republic of kosovo",
    "ZA": "rsa, republic of south africa",
}
"""Spellings that are not in the standard, by code. XK is user-assigned for Kosovo, as the EU and shops use it."""
SIMILARITY_MIN = 0.8
"""Minimum similarity for a country to be suggested, where 1 is equality: `Germny` and `Germany` have 0.92."""
_ARTICLES = re.compile(r"\bthe\b")
_SAINT = re.compile(r"\bst\b|\bste\b|\bsainte\b")
_INITIALS = re.compile(r"\b([a-z])\.(?:\s(?=[a-z]\.))?")
_OTHER = re.compile(r"[^a-z0-9]+")
_NAME_FIELDS = ("name", "official_name", "common_name", "alpha_2", "alpha_3")


@lru_cache(maxsize=1024)
def parse_region_code(country: str) -> str:
    """Return the alpha-2 code of a country given by name, code or common spelling.

    Raises: InvalidCell.
    """
    code = _get_codes().get(_fold(country))
    if code is None:
        close = get_close_matches(_fold(country), _get_codes(), n=1, cutoff=SIMILARITY_MIN) if len(country) > 3 else []
        advice = f"; did you mean {_get_name(_get_codes()[close[0]])}?" if close else ""
        raise InvalidCell(f"country: {country!r} is not a country of ISO 3166{advice}")
    return code


def _get_name(code: str) -> str:
    found = pycountry.countries.get(alpha_2=code)
    return code if found is None else str(getattr(found, "common_name", found.name))


@lru_cache(maxsize=1)
def _get_codes() -> Mapping[str, str]:
    """Return the codes of all spellings, folded. Names of the standard take precedence."""
    codes: dict[str, str] = {}
    for code, name in _list_names():
        codes.setdefault(_fold(name), code)
    return codes


def _list_names() -> Iterator[tuple[str, str]]:
    for country in pycountry.countries:
        for field in _NAME_FIELDS:
            if name := getattr(country, field, None):
                yield country.alpha_2, name
                main, _, inverted = name.partition(", ")
                if inverted:
                    yield country.alpha_2, f"{inverted} {main}"
    for code, names in SPELLINGS.items():
        yield code, code
        for name in names.split(", "):
            yield code, name


def _fold(name: str) -> str:
    """Return a name without what does not matter: `St. Kitts & Nevis` becomes `saint kitts and nevis`."""
    lowered = unicodedata.normalize("NFKD", name.casefold().replace(DOTLESS_I, "i").replace("ø", "o"))
    plain = "".join(char for char in lowered if not unicodedata.combining(char))
    plain = plain.replace("'", "").replace("\u2019", "").replace("&", " and ")
    plain = _INITIALS.sub(r"\1", plain)
    words = _OTHER.sub(" ", _ARTICLES.sub(" ", plain))
    return _SAINT.sub("saint", " ".join(words.split()))
