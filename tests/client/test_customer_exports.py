"""The page with all data about a customer: amounts, times and states for people, and every text as a text."""

from __future__ import annotations

from datetime import UTC, datetime

from google.type.money_pb2 import Money

from storekeep.client import (
    Customer,
    CustomerExport,
    CustomerRecord,
    Order,
    OrderState,
    build_customer_document,
    build_customer_page,
    to_timestamp,
)
from storekeep.v1.orders_pb2 import OrderLine

EXPORT = CustomerExport(
    customer="customers/ada", create_time=to_timestamp(datetime(2026, 11, 30, 10, microsecond=123_000, tzinfo=UTC))
)


def build(*records: CustomerRecord) -> str:
    return build_customer_page(build_customer_document(EXPORT, records))


def test_page_writes_amounts_times_and_states_for_people() -> None:
    lines = [
        OrderLine(
            line_number=number, sku=f"TEA-{number}", unit_price=Money(currency_code="EUR", units=7, nanos=900000000)
        )
        for number in (1, 2)
    ]
    order = Order(number="SK-1", state=OrderState.ORDER_STATE_PARTIALLY_FULFILLED, lines=lines)
    page = build(CustomerRecord(order=order))
    assert "Exported 2026-11-30 10:00:00 UTC." in page
    assert "<h3>SK-1</h3>" in page
    assert "<th>State<td>Partially fulfilled" in page
    assert page.count("<th>Unit price<td>7.90 EUR") == 2
    assert "<h2>Quotes" not in page


def test_page_shows_texts_that_look_like_something_else_as_they_are() -> None:
    labels = {"currency_code": "EUR", "units": "x", "state": "A_STATE_B", "a<b": "<i>"}
    page = build(CustomerRecord(customer=Customer(display_name="<b>Ada</b>", labels=labels)))
    for text in (
        "&lt;b&gt;Ada",
        "<th>currency_code<td>EUR",
        "<th>units<td>x",
        "<td>A_STATE_B",
        "<th>a&lt;b<td>&lt;i&gt;",
    ):
        assert text in page
    assert "<i>" not in page
