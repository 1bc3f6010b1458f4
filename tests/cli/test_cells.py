"""Values of the contract read well on a terminal, and cannot steer it."""

from __future__ import annotations

import pytest

from storekeep.cli.cells import amount, cell, printable, whole_numbers
from storekeep.client import Money, Order, OrderState, Product, ProductState, ServiceAccount, Variant, to_money


@pytest.mark.parametrize(
    ("money", "text"),
    [
        (to_money("19.9", currency_code="EUR"), "19.90 EUR"),
        (to_money("18", currency_code="USD"), "18.00 USD"),
        (to_money("1800", currency_code="JPY"), "1800 JPY"),
        (to_money("1.234", currency_code="KWD"), "1.234 KWD"),
        (to_money("-0.5", currency_code="EUR"), "-0.50 EUR"),
        (to_money("1000000000000", currency_code="EUR"), "1000000000000.00 EUR"),
    ],
)
def test_amount_has_the_decimals_of_its_currency(money: Money, text: str) -> None:
    assert amount(money) == text


def test_cell_shows_each_kind_of_value() -> None:
    product = Product(state=ProductState.PRODUCT_STATE_ACTIVE, labels={"b": "2", "a": "1"})
    product.create_time.FromJsonString("2026-01-02T03:04:05.678Z")
    assert cell(product, "state") == "ACTIVE"
    assert cell(product, "labels") == "a=1, b=2"
    assert cell(product, "create_time") == "2026-01-02 03:04:05Z"
    assert cell(product, "delete_time") == ""
    assert cell(ServiceAccount(roles=["roles/a", "roles/b"]), "roles") == "roles/a, roles/b"
    assert cell(ServiceAccount(disabled=True), "disabled") == "yes"
    assert cell(Variant(), "weight_g") == ""
    assert cell(Variant(weight_g=0), "weight_g") == "0"
    assert cell(Order(state=OrderState.ValueType(99)), "state") == "99"


def test_control_characters_are_replaced() -> None:
    assert printable("a\x1b[2Jb\nc") == "a\N{REPLACEMENT CHARACTER}[2Jb\nc"


def test_whole_doubles_are_shown_as_integers() -> None:
    assert whole_numbers({"a": [1.0, 1.5], "b": "1.0", "c": True}) == {"a": [1, 1.5], "b": "1.0", "c": True}
