"""Postal addresses of customers, orders and locations, and the codes of the countries that they can be in."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from storekeep.server.domain.errors import InvalidField

_CODES = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO
FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE
JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO
MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW
PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM
TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW
"""
REGION_CODES = frozenset(_CODES.split())
"""The codes of ISO 3166-1 alpha-2, and XK, which is user-assigned for Kosovo and used by the EU and by carriers."""


class Address(msgspec.Struct, frozen=True, omit_defaults=True):
    """A shipping or billing address; see `Address` in the contract."""

    recipient: str = ""
    organization: str = ""
    address_lines: tuple[str, ...] = ()
    locality: str = ""
    administrative_area: str = ""
    postal_code: str = ""
    region_code: str = ""
    phone: str = ""


def check_address(address: Address | None, *, field: str, old: Address | None = None) -> None:
    """Raise unless the country of a new address exists. That of `old` is accepted, as it is stored already.

    Raises: InvalidField.
    """
    if address is not None:
        check_region(address.region_code, field=field, known=() if old is None else (old.region_code,))


def check_region(region_code: str, *, field: str, known: Collection[str] = ()) -> None:
    """Raise unless a region code is in ISO 3166 or already stored.

    `field`: the message with the code. `known`: the codes that are stored.

    Raises: InvalidField.
    """
    if region_code not in REGION_CODES and region_code not in known:
        raise InvalidField(f"{field}.region_code", f"{region_code} is not a country of ISO 3166")
