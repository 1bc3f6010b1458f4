"""Money is converted exactly or rejected."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storekeep.client import Money, to_decimal, to_money

AMOUNTS = st.decimals(min_value=-(10**18), max_value=10**18, places=9, allow_nan=False, allow_infinity=False)


@given(AMOUNTS)
def test_amount_there_and_back_is_the_same(amount: Decimal) -> None:
    assert to_decimal(to_money(amount, currency_code="EUR")) == amount


@given(AMOUNTS)
def test_units_and_nanos_have_the_same_sign(amount: Decimal) -> None:
    money = to_money(amount, currency_code="EUR")
    assert money.units * money.nanos >= 0


@pytest.mark.parametrize(
    ("amount", "units", "nanos"),
    [("19.99", 19, 990_000_000), (18, 18, 0), (Decimal("-0.5"), 0, -500_000_000), ("1e3", 1000, 0)],
)
def test_amount_becomes_units_and_nanos(amount: Decimal | int | str, units: int, nanos: int) -> None:
    assert to_money(amount, currency_code="EUR") == Money(currency_code="EUR", units=units, nanos=nanos)


@pytest.mark.parametrize("amount", ["", "a", "NaN", "Infinity", "0.0000000001", "1." + "0" * 150 + "1", "1e30", "1,5"])
def test_amount_that_does_not_fit_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match=r"amount|64 bits"):
        to_money(amount, currency_code="EUR")


def test_float_is_refused() -> None:
    with pytest.raises(TypeError):
        to_money(0.1, currency_code="EUR")  # type: ignore[arg-type]


def test_decimal_of_whole_amount_has_no_zeros() -> None:
    assert str(to_decimal(Money(currency_code="EUR", units=100))) == "100"
    assert str(to_decimal(Money(currency_code="EUR", units=19, nanos=900_000_000))) == "19.9"
