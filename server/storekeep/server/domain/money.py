"""Money: integer amounts in a currency's minor unit, such as cents. No floats and no fractions of a minor unit."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storekeep.server.domain.errors import InvalidAmount, UnknownCurrency

AMOUNT_MINOR_MAX = 10**12
"""The maximum amount in a request, in minor units: ten billion euros, for example."""
TOTAL_MINOR_MAX = 2**63 - 1
"""The maximum total, in minor units: the largest integer of the database."""
NANOS = 1_000_000_000

TWO_DIGIT_CURRENCIES = """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF
    CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL
    HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP
    MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD
    SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS
    VED VES WST XCD XCG YER ZAR ZMW ZWG
"""
ZERO_DIGIT_CURRENCIES = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
THREE_DIGIT_CURRENCIES = "BHD IQD JOD KWD LYD OMR TND"
MINOR_DIGITS: dict[str, int] = {
    **dict.fromkeys(TWO_DIGIT_CURRENCIES.split(), 2),
    **dict.fromkeys(ZERO_DIGIT_CURRENCIES.split(), 0),
    **dict.fromkeys(THREE_DIGIT_CURRENCIES.split(), 3),
}
"""Currency code -> decimal digits, for the active currencies of ISO 4217 (List One, no funds, metals or test codes)."""


class Money(msgspec.Struct, frozen=True):
    """An amount in one currency.

    Attributes:
        currency_code: the ISO 4217 code, such as `EUR`.
        amount_minor: the amount in minor units: 1999 is 19.99 EUR or 1,999 JPY.
    """

    currency_code: str
    amount_minor: int


def get_minor_digits(currency_code: str, *, field: str) -> int:
    """Return the number of decimal digits of a currency.

    Args:
        field: the request field that contains the code, for the error.

    Raises: UnknownCurrency.
    """
    digits = MINOR_DIGITS.get(currency_code)
    if not currency_code:
        raise UnknownCurrency(field, "the currency is required: a code of ISO 4217, such as EUR")
    if digits is None:
        raise UnknownCurrency(field, f"{currency_code!r} is not an active currency of ISO 4217")
    return digits


def parse_money(currency_code: str, *, units: int, nanos: int, field: str) -> Money:
    """Convert the whole units and the nanos (billionths) of `google.type.Money` to minor units.

    Args:
        field: the request field that contains the amount, for the error.

    Raises: UnknownCurrency; InvalidAmount for a negative or too large amount, or a fraction of a minor unit.
    """
    digits = get_minor_digits(currency_code, field=field)
    if units < 0 or nanos < 0:
        raise InvalidAmount(field, "must not be negative")
    if nanos >= NANOS:
        raise InvalidAmount(field, "nanos must be at most 999,999,999")
    unit_nanos = NANOS // 10**digits
    if nanos % unit_nanos:
        raise InvalidAmount(field, f"{currency_code} allows at most {digits} decimal digits")
    amount_minor = units * 10**digits + nanos // unit_nanos
    if amount_minor > AMOUNT_MINOR_MAX:
        raise InvalidAmount(field, f"must be at most {format_amount(AMOUNT_MINOR_MAX, currency_code)}")
    return Money(currency_code, amount_minor)


def format_amount(amount_minor: int, currency_code: str) -> str:
    """Return an amount as people write it, such as `19.99 EUR` or `1999 JPY`."""
    digits = MINOR_DIGITS[currency_code]
    whole, fraction = divmod(amount_minor, 10**digits)
    return f"{whole}.{fraction:0{digits}} {currency_code}" if digits else f"{whole} {currency_code}"


def prorate_amount(amount_minor: int, part: int, whole: int) -> int:
    """Return `amount_minor * part / whole`, rounded half up. Return 0 if `whole` is 0."""
    return round_ratio(amount_minor * part, whole) if whole else 0


def round_ratio(numerator: int, denominator: int, *, half_even: bool = False) -> int:
    """Return a ratio as an integer: the only rounding rule.

    Args:
        numerator: not negative.
        denominator: positive.
        half_even: round .5 to the even neighbour, not up.
    """
    whole, rest = divmod(2 * numerator + denominator, 2 * denominator)
    return whole - 1 if half_even and not rest and whole % 2 else whole


def round_parts(amounts_minor: Sequence[int], part: int, whole: int, *, half_even: bool = False) -> list[int]:
    """Return `amount * part / whole` of each amount, rounded as by `round_ratio`, which costs twice as much."""
    if half_even:
        return [round_ratio(amount * part, whole, half_even=True) for amount in amounts_minor]
    part, doubled = 2 * part, 2 * whole
    return [(amount * part + whole) // doubled for amount in amounts_minor]


def spread_amount(amount_minor: int, weights: Sequence[int]) -> list[int]:
    """Spread an amount in proportion to weights, by largest remainder, the earlier share first.

    The shares add up to the amount, unless all weights are 0: then all shares are 0.

    Args:
        amount_minor: may be negative; the shares then are those of the positive amount, negated.
        weights: not negative.
    """
    total = sum(weights)
    if not total:
        return [0] * len(weights)
    sign = -1 if amount_minor < 0 else 1
    ratios = [divmod(sign * amount_minor * weight, total) for weight in weights]
    missing = sign * amount_minor - sum([share for share, _ in ratios])
    shares = [share for share, _ in ratios]
    for index in sorted(range(len(weights)), key=lambda index: -ratios[index][1])[:missing]:
        shares[index] += 1
    return [sign * share for share in shares]
