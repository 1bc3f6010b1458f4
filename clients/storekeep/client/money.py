"""Money: exact decimals on one side, `google.type.Money` on the other.

No float goes in or comes out, and nothing is rounded: an amount that does not fit is refused.
"""

from __future__ import annotations

from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation

from google.type.money_pb2 import Money

NANOS_PER_UNIT = 1_000_000_000
UNITS_MAX = 2**63 - 1

_EXACT = Context(prec=60, traps=[Inexact, InvalidOperation])


def to_money(amount: Decimal | int | str, *, currency_code: str) -> Money:
    """Return `amount`, in major units such as `19.99`, as a message.

    Raises: ValueError when it is not a finite number, finer than 10^-9, or beyond 64 bits.
    """
    nanos = _nanos(amount)
    sign = -1 if nanos < 0 else 1
    units, rest = divmod(abs(nanos), NANOS_PER_UNIT)
    if units > UNITS_MAX:
        raise ValueError(f"{amount} does not fit into 64 bits")
    return Money(currency_code=currency_code, units=sign * units, nanos=sign * rest)


def to_decimal(money: Money) -> Decimal:
    """Return the amount of `money` in major units, exactly: 19.99, and 18 rather than 18.000000000."""
    amount = Decimal(money.units * NANOS_PER_UNIT + money.nanos).scaleb(-9, context=_EXACT)
    whole = amount.to_integral_value()
    return whole if amount == whole else amount.normalize()


def _nanos(amount: Decimal | int | str) -> int:
    if isinstance(amount, float):
        raise TypeError("An amount is a Decimal, an int or a str: a float is not exact")
    try:
        nanos = _EXACT.multiply(_EXACT.create_decimal(amount), NANOS_PER_UNIT)
    except DecimalException:
        raise ValueError(f"{amount!r} is not an amount") from None
    if not nanos.is_finite() or nanos != nanos.to_integral_value():
        raise ValueError(f"{amount!r} is not an amount, or finer than a billionth")
    return int(nanos)
