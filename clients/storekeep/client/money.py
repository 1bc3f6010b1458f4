"""Conversion between exact decimals and `google.type.Money`.

Floats are not accepted and nothing is rounded: an amount that does not fit raises ValueError.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation

from google.type.money_pb2 import Money

NANOS_PER_UNIT = 1_000_000_000
UNITS_MAX = 2**63 - 1
NANOS_DIGITS_MAX = len(str(UNITS_MAX * NANOS_PER_UNIT))
SHOWN_CHARS_MAX = 40
"""Characters of a wrong amount that its error repeats."""

WHOLE_CURRENCIES = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"}
)
"""Currencies without a minor unit (ISO 4217). Their amounts are written without decimals."""

_CURRENCY_FIRST = re.compile(r"([A-Za-z]{3})\s*([^A-Za-z\s].*)")
_CURRENCY_LAST = re.compile(r"(.*[^A-Za-z\s])\s*([A-Za-z]{3})")
_PLAIN = re.compile(r"[0-9]{1,19}(?:[.][0-9]{1,9})?")
_DECIMAL_COMMA = re.compile(r"[0-9. ]+,[0-9]+")
_EXACT = Context(prec=60, traps=[Inexact, InvalidOperation])


def to_money(amount: Decimal | int | str, *, currency_code: str) -> Money:
    """Convert an amount in major units, such as `19.99`, to a `Money` message.

    `currency_code` is an ISO 4217 code such as `EUR`.

    Raises: TypeError for a float. ValueError if the amount is not a finite number, has more than 9 decimal places, or
    its whole units exceed 64 bits.
    """
    nanos = _to_nanos(amount)
    sign = -1 if nanos < 0 else 1
    units, remainder = divmod(abs(nanos), NANOS_PER_UNIT)
    if units > UNITS_MAX:
        raise ValueError(f"{_shorten(str(amount))} does not fit in 64 bits")
    return Money(currency_code=currency_code, units=sign * units, nanos=sign * remainder)


def split_currency(text: str) -> tuple[str, str]:
    """Split `5.00 EUR` or `EUR 5.00` into the currency, in capitals, and the amount. `5.00` has no currency."""
    text = text.strip()
    if match := _CURRENCY_FIRST.fullmatch(text):
        return match[1].upper(), match[2]
    if match := _CURRENCY_LAST.fullmatch(text):
        return match[2].upper(), match[1]
    return "", text


def parse_amount(text: str, *, currency_code: str = "") -> Money:
    """Parse an amount as people write it: `5.00`, `5.00 EUR` or `EUR 5.00`.

    The only rule for amounts in options, arguments and forms: digits of ASCII, with decimals after a point. No sign, no
    exponent and no group separator. Cells of imports are spelled as their file says.

    Args:
        currency_code: the currency that it must have (default: the one in the text, or none).

    Raises: ValueError, also if the text has another currency.
    """
    own, amount = split_currency(text)
    code = currency_code.upper()
    if own and code and own != code:
        raise ValueError(f"{text!r} is not an amount in {code}")
    if not _PLAIN.fullmatch(amount):
        raise ValueError(f"{_shorten(text)!r} is not an amount such as 4.50{_explain_amount(amount)}")
    return to_money(amount, currency_code=code or own)


def to_decimal(money: Money) -> Decimal:
    """Return the exact amount of `money` in major units, without trailing zeros: 19.99, or 18."""
    amount = Decimal(money.units * NANOS_PER_UNIT + money.nanos).scaleb(-9, context=_EXACT)
    whole = amount.to_integral_value()
    return whole if amount == whole else amount.normalize()


def format_decimals(money: Money) -> str:
    """Return an amount with the decimals of its currency, or more if it has more: `19.90`, or `1990` of JPY."""
    exact = to_decimal(money)
    exponent = exact.as_tuple().exponent
    decimals = max(0 if money.currency_code in WHOLE_CURRENCIES else 2, -exponent if isinstance(exponent, int) else 0)
    return f"{exact.quantize(Decimal(1).scaleb(-decimals), context=_EXACT):f}"


def _explain_amount(amount: str) -> str:
    """Return what to write instead of an amount that is refused; empty if nothing is known."""
    if amount.startswith("-"):
        return "; it must not be negative"
    return "; write decimals after a point" if _DECIMAL_COMMA.fullmatch(amount) else ""


def _shorten(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[:SHOWN_CHARS_MAX]}..."


def _to_nanos(amount: Decimal | int | str) -> int:
    if isinstance(amount, float):
        raise TypeError("an amount must be a Decimal, int or str, because a float is not exact")
    try:
        nanos = _EXACT.multiply(_EXACT.create_decimal(amount), NANOS_PER_UNIT)
    except DecimalException:
        raise ValueError(f"{_shorten(str(amount))!r} is not an amount such as 4.50") from None
    if nanos.is_finite() and nanos.adjusted() > NANOS_DIGITS_MAX:  # before `int`, which takes seconds for 1e500000
        raise ValueError(f"{_shorten(str(amount))} does not fit in 64 bits")
    if not nanos.is_finite() or nanos != nanos.to_integral_value():
        raise ValueError(f"{_shorten(str(amount))!r} is not an amount, or has more than 9 decimal places")
    return int(nanos)
