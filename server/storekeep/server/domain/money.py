"""Money: an amount in a currency's minor unit, such as cents. Never a fraction of one, never a float."""

from __future__ import annotations

import msgspec

from storekeep.server.domain.errors import InvalidAmount, UnknownCurrency

AMOUNT_MINOR_MAX = 10**12
"""The largest amount that a request may contain: ten billion of a currency with cents."""
TOTAL_MINOR_MAX = 2**63 - 1
"""The largest sum: what the database's integers hold."""
NANOS = 1_000_000_000

WITH_CENTS = """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF
    CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL
    HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP
    MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD
    SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS
    VED VES WST XCD XCG YER ZAR ZMW ZWG
"""
WITHOUT_MINOR_UNIT = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
WITH_MILLS = "BHD IQD JOD KWD LYD OMR TND"
MINOR_DIGITS: dict[str, int] = {
    **dict.fromkeys(WITH_CENTS.split(), 2),
    **dict.fromkeys(WITHOUT_MINOR_UNIT.split(), 0),
    **dict.fromkeys(WITH_MILLS.split(), 3),
}
"""Digits behind the point of each active currency of ISO 4217 (List One, without funds, metals and test codes)."""


class Money(msgspec.Struct, frozen=True):
    """An amount in one currency.

    Attributes:
        currency_code: ISO 4217.
        amount_minor: in the currency's minor unit: 1999 is 19.99 EUR, and 1,999 JPY.
    """

    currency_code: str
    amount_minor: int


def minor_digits(currency_code: str, *, field: str) -> int:
    """Digits behind the point of a currency.

    Args:
        field: the field of the request that names it, for the error.

    Raises: UnknownCurrency.
    """
    digits = MINOR_DIGITS.get(currency_code)
    if digits is None:
        raise UnknownCurrency(field, f"{currency_code!r} is not an active currency of ISO 4217")
    return digits


def money_of(currency_code: str, *, units: int, nanos: int, field: str) -> Money:
    """The amount that `google.type.Money` writes as whole units and billionths.

    Raises: UnknownCurrency; InvalidAmount for less than nothing, too much, or a fraction of a minor unit.
    """
    digits = minor_digits(currency_code, field=field)
    if units < 0 or not 0 <= nanos < NANOS:
        raise InvalidAmount(field, "must not be negative, nor its nanos beyond 999,999,999")
    unit_nanos = NANOS // 10**digits
    if nanos % unit_nanos:
        raise InvalidAmount(field, f"{currency_code} has {digits} digits behind the point, not more")
    amount_minor = units * 10**digits + nanos // unit_nanos
    if amount_minor > AMOUNT_MINOR_MAX:
        raise InvalidAmount(field, f"must be at most {AMOUNT_MINOR_MAX} minor units")
    return Money(currency_code, amount_minor)


def share_of(amount_minor: int, part: int, whole: int) -> int:
    """Return `part / whole` of an amount, rounded half up: the one rounding rule. A `whole` of 0 gives 0."""
    return (2 * amount_minor * part + whole) // (2 * whole) if whole else 0
