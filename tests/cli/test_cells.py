"""Field values are readable in a terminal and cannot control it."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, strategies

from storekeep.cli.cells import format_amount, format_cell, restore_integers
from storekeep.cli.texts import escape_document, replace_unprintable
from storekeep.client import (
    Money,
    Order,
    OrderState,
    Product,
    ProductState,
    Promotion,
    PromotionAction,
    ServiceAccount,
    TaxComponent,
    TaxRate,
    Variant,
    WebhookDelivery,
    to_money,
)
from storekeep.imports.reports import escape_formula, unescape_formula


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
    assert format_amount(money) == text


def test_cell_shows_each_kind_of_value() -> None:
    product = Product(state=ProductState.PRODUCT_STATE_ACTIVE, labels={"b": "2", "a": "1"})
    product.create_time.FromJsonString("2026-01-02T03:04:05.678Z")
    assert format_cell(product, "state") == "ACTIVE"
    assert format_cell(product, "labels") == "a=1, b=2"
    assert format_cell(product, "create_time") == "2026-01-02 03:04:05Z"
    assert format_cell(product, "delete_time") == ""
    assert format_cell(ServiceAccount(roles=["roles/a", "roles/b"]), "roles") == "roles/a, roles/b"
    assert format_cell(ServiceAccount(disabled=True), "disabled") == "yes"
    assert format_cell(Variant(), "weight_g") == ""
    assert format_cell(Variant(weight_g=0), "weight_g") == "0"
    assert [format_cell(WebhookDelivery(last_status=code), "last_status") for code in (0, 503)] == ["", "503"]
    assert format_cell(Order(state=OrderState.ValueType(99)), "state") == "99"
    taxes = [TaxComponent(display_name="GST", rate_ppm=50_000), TaxComponent(display_name="QST", rate_ppm=99_750)]
    assert format_cell(TaxRate(components=taxes), "components") == "GST 5 %, QST 9.975 %"
    action = PromotionAction(percentage_ppm=100_000, buy_units=2, dearest_first=True)
    assert format_cell(Promotion(action=action), "action") == "10 %\nbuy units 2\ndearest first"


def test_control_characters_are_replaced() -> None:
    assert replace_unprintable("a\x1b[2Jb\nc") == "a\N{REPLACEMENT CHARACTER}[2Jb\nc"


def test_whole_doubles_are_shown_as_integers() -> None:
    assert restore_integers({"a": [1.0, 1.5], "b": "1.0", "c": True}) == {"a": [1, 1.5], "b": "1.0", "c": True}


TERMINAL = [
    "\x07",
    "\x1b",
    "\x7f",
    "\x9b",
    "\x9d",
    *(chr(code) for code in range(0x202A, 0x202F)),
    *(chr(code) for code in range(0x2066, 0x206A)),
    "\u200e",
    "\u200f",
    "\u061c",
    "\u2028",
    "\u2029",
    "\ufeff",
    "\U000e0041",
]


@pytest.mark.parametrize("char", TERMINAL)
def test_what_a_terminal_acts_on_reaches_none(char: str) -> None:
    product = Product(display_name=f"a{char}b", labels={f"k{char}": f"v{char}"})
    for text in (
        replace_unprintable(f"a{char}b"),
        format_cell(product, "display_name"),
        format_cell(product, "labels"),
    ):
        assert char not in text
        assert "\N{REPLACEMENT CHARACTER}" in text
    for indent in (None, 2):
        document = {"name": f"a{char}b", f"k{char}": [f"{char}"]}
        text = escape_document(json.dumps(document, ensure_ascii=False, indent=indent))
        assert char not in text
        assert json.loads(text) == document


def test_text_of_all_scripts_is_shown_as_it_is() -> None:
    for text in ("Łódź 緑茶 मसाला चाय ชาเขียว", "می\u200cشود", "👩\u200d🌾", "שלום"):
        assert replace_unprintable(text) == text
        assert escape_document(f'["{text}"]') == f'["{text}"]'


@given(strategies.text())
def test_escaped_document_says_the_same(text: str) -> None:
    shown = escape_document(json.dumps({text: [text]}, ensure_ascii=False))
    assert json.loads(shown) == {text: [text]}
    assert shown.replace("\u200c", "").replace("\u200d", "").isprintable()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=2+2", "'=2+2"),
        ("+49 40", "'+49 40"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =2+2", "'  =2+2"),
        ("\t=2+2", "\t'=2+2"),
        ("\r=2+2", "\r'=2+2"),
        ("Tea;=2+2", "Tea;'=2+2"),
        ("Tea\n=2+2\t@SUM(A1)", "Tea\n'=2+2\t'@SUM(A1)"),
        ("\u00a0=2", "'\u00a0=2"),
        ("\u3000\u200b\ufeff\u202e=2", "'\u3000\u200b\ufeff\u202e=2"),
        ("\x00=2", "'\x00=2"),
        ('"=2', "'\"=2"),
        ("'=2", "''=2"),
        ("\u22122", "'\u22122"),
        ("\ufe662", "'\ufe662"),
        ("Tea, =2", "Tea, =2"),
        ("a;b\n c", "a;b\n c"),
        ("\u200b", "\u200b"),
        ("\uff1d2+2", "'\uff1d2+2"),
        ("A-1", "A-1"),
        ("", ""),
        (-5, "-5"),
        (12, "12"),
    ],
)
def test_cell_of_a_report_is_no_formula(value: object, shown: str) -> None:
    assert escape_formula(value) == shown
    assert unescape_formula(escape_formula(value)) == str(value) or isinstance(value, int)


@given(strategies.text("=+-@\u2212\uff1d'\"; \t\n\u00a0\u200ba"))
def test_escaped_cell_is_read_as_it_was(text: str) -> None:
    assert unescape_formula(escape_formula(text)) == text


def test_long_cell_is_escaped_in_linear_time() -> None:
    text = "\t; '" * 250_000
    began_s = time.thread_time()
    assert escape_formula(text) == text
    assert time.thread_time() - began_s < 3.0
