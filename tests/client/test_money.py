"""Money is converted exactly or rejected."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storekeep.client import Money, to_decimal, to_money
from storekeep.client.money import parse_amount, split_currency

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


@pytest.mark.parametrize("amount", ["1e999999", "-1e999999", "9" * 60, Decimal("1e999990"), 10**59])
def test_huge_amount_is_refused_before_it_is_written_out(amount: Decimal | int | str) -> None:
    """Python takes minutes to write 1e999999 out as an integer, and lets no other thread run meanwhile."""
    begun_s = time.process_time()
    with pytest.raises(ValueError, match=r"64 bits|not an amount") as refused:
        to_money(amount, currency_code="EUR")
    assert len(str(refused.value)) < 100
    assert time.process_time() - begun_s < 5


def test_float_is_refused() -> None:
    with pytest.raises(TypeError):
        to_money(0.1, currency_code="EUR")  # type: ignore[arg-type]


def test_decimal_of_whole_amount_has_no_zeros() -> None:
    assert str(to_decimal(Money(currency_code="EUR", units=100))) == "100"
    assert str(to_decimal(Money(currency_code="EUR", units=19, nanos=900_000_000))) == "19.9"


@pytest.mark.parametrize("text", ["5 EUR", "5.00 EUR", "EUR 5", "eur5.00", " 5.00EUR ", "EUR 5.0"])
def test_amount_is_read_with_its_currency_on_either_side(text: str) -> None:
    expected = Money(currency_code="EUR", units=5)
    assert parse_amount(text) == parse_amount(text, currency_code="eur") == expected
    with pytest.raises(ValueError, match="is not an amount in USD"):
        parse_amount(text, currency_code="USD")


def test_amount_without_a_currency_gets_the_one_of_its_place() -> None:
    assert parse_amount("4.50", currency_code="eur") == to_money("4.50", currency_code="EUR")
    assert split_currency("4.50") == ("", "4.50")


@pytest.mark.parametrize(
    "text", ["1e3 EUR", "EUR -5", "EUR +5", "-4.50", "\u0665 EUR", "1_000", "5.", ".5", "1.2.3", "1,000.00", "0x10"]
)
def test_amount_has_digits_and_a_point_only(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an amount such as 4\.50"):
        parse_amount(text, currency_code="EUR")


@pytest.mark.parametrize("text", ["5,50", "EUR 1.234,50", "5,5 EUR"])
def test_error_of_a_decimal_comma_names_the_point(text: str) -> None:
    with pytest.raises(ValueError, match="write decimals after a point"):
        parse_amount(text, currency_code="EUR")


@pytest.mark.parametrize("text", ["EUR", "EUR EUR", "EUR 5 EUR", "5 EURO", "NaN", "inf", "", "EUR five", "1e3e EUR"])
def test_amount_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount"):
        parse_amount(text, currency_code="EUR")
