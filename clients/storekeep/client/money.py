"""Conversion between exact decimals and `google.type.Money`.

Floats are not accepted and nothing is rounded: an amount that does not fit raises ValueError.
"""

from __future__ import annotations

from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation

from google.type.money_pb2 import Money

NANOS_PER_UNIT = 1_000_000_000
UNITS_MAX = 2**63 - 1

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
        raise ValueError(f"{amount} does not fit in 64 bits")
    return Money(currency_code=currency_code, units=sign * units, nanos=sign * remainder)


def to_decimal(money: Money) -> Decimal:
    """Return the exact amount of `money` in major units, without trailing zeros: 19.99, or 18."""
    amount = Decimal(money.units * NANOS_PER_UNIT + money.nanos).scaleb(-9, context=_EXACT)
    whole = amount.to_integral_value()
    return whole if amount == whole else amount.normalize()


def _to_nanos(amount: Decimal | int | str) -> int:
    if isinstance(amount, float):
        raise TypeError("an amount must be a Decimal, int or str, because a float is not exact")
    try:
        nanos = _EXACT.multiply(_EXACT.create_decimal(amount), NANOS_PER_UNIT)
    except DecimalException:
        raise ValueError(f"{amount!r} is not an amount") from None
    if not nanos.is_finite() or nanos != nanos.to_integral_value():
        raise ValueError(f"{amount!r} is not an amount, or has more than 9 decimal places")
    return int(nanos)
