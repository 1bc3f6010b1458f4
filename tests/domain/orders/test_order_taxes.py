"""Orders with tax: placed, edited, cancelled unit by unit, moved to another zone, and refused at another price."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money

from storekeep.v1 import addresses_pb2, customers_pb2, orders_pb2, pricing_pb2, quotes_pb2
from tests.domain.orders.test_order_changes import list_changes, list_history
from tests.support.buyers import verify
from tests.support.order_cases import apply, update
from tests.support.processes import ServerProcess
from tests.support.refusals import refused
from tests.support.shops import Shop, get_amount, money

GERMANY = addresses_pb2.Address(recipient="Ada", region_code="DE")
FRANCE = addresses_pb2.Address(recipient="Ada", region_code="FR")
ITALY = addresses_pb2.Address(recipient="Ada", region_code="IT")
PAST, FUTURE = Timestamp(seconds=1_000_000_000), Timestamp(seconds=4_000_000_000)
JAPAN = addresses_pb2.Address(recipient="Ada", region_code="JP")


def add_zone(shop: Shop, zone_id: str, region_code: str, **rates: int) -> None:
    """Create a tax zone with the rates of its classes in parts per million; `standard` is the class without a name."""
    shop.pricing.CreateTaxZone(
        pricing_pb2.CreateTaxZoneRequest(
            tax_zone_id=zone_id,
            tax_zone=pricing_pb2.TaxZone(areas=[pricing_pb2.TaxArea(region_code=region_code)]),
        )
    )
    for tax_class, ppm in rates.items():
        rate = pricing_pb2.TaxRate(
            tax_zone=f"taxZones/{zone_id}",
            tax_class="" if tax_class == "standard" else tax_class,
            components=[pricing_pb2.TaxComponent(display_name="VAT", rate_ppm=ppm)],
        )
        shop.pricing.CreateTaxRate(
            pricing_pb2.CreateTaxRateRequest(tax_rate_id=f"{zone_id}-{tax_class}", tax_rate=rate)
        )


@pytest.fixture(scope="module", autouse=True)
def zones(shop: Shop, server: ServerProcess) -> Iterator[None]:
    """Net prices and tax in three countries."""
    add_zone(shop, "de", "DE", standard=190_000, reduced=70_000)
    add_zone(shop, "fr", "FR", standard=200_000)
    add_zone(shop, "it", "IT", standard=220_000)
    yield
    verify(server)


def show(amount: Money) -> str:
    """Return an amount with two digits."""
    return f"{get_amount(amount):.2f}"


def amounts(order: orders_pb2.Order) -> tuple[str, str, str]:
    """Return net, tax and gross total."""
    details = order.price_details
    return tuple(show(part) for part in (details.net_total, details.tax_total, details.gross_total))  # type: ignore[return-value]


def test_list_orders_without_lines_shows_orders_with_tax(shop: Shop):
    order = shop.order((shop.variant(stock=9).sku, 2), shipping_address=GERMANY)
    request = orders_pb2.ListOrdersRequest(order_by="create_time desc", page_size=1)
    request.read_mask.paths.extend(("name", "total", "price_details"))
    [listed] = shop.orders.ListOrders(request).orders
    assert listed == orders_pb2.Order(name=order.name, total=order.total, price_details=order.price_details)


def test_place_order_adds_the_tax_of_the_address(shop: Shop):
    book, pen = shop.variant(stock=9, tax_class="reduced").sku, shop.variant(stock=9, prices={"EUR": "1.23"}).sku
    order = shop.order((book, 2), (pen, 3), shipping_address=GERMANY, shipping=money("5"))
    details = order.price_details
    assert amounts(order) == ("28.69", "3.05", "31.74")
    assert get_amount(order.total) == get_amount(details.gross_total)
    assert [show(line.tax_total) for line in order.lines] == ["1.40", "0.70"]
    assert [(tax.tax_rate, show(tax.amount)) for tax in details.taxes] == [
        ("taxRates/de-reduced", "1.40"),
        ("taxRates/de-standard", "1.65"),
    ]
    assert (details.tax_zone, show(details.shipping.tax_total)) == ("taxZones/de", "0.95")
    assert shop.get_order(order) == order


def test_quote_is_what_the_order_costs(shop: Shop):
    sku = shop.variant(stock=9, prices={"EUR": "1.23"}).sku
    request = orders_pb2.QuoteOrderRequest(
        lines=[orders_pb2.PlaceOrderLine(sku=sku, quantity=3)], currency_code="EUR", shipping_address=FRANCE
    )
    quote = shop.orders.QuoteOrder(request)
    order = shop.order((sku, 3), shipping_address=FRANCE, expected_total=quote.total)
    assert quote.price_details == order.price_details
    assert show(quote.total) == "4.43"


def test_another_price_than_expected_is_refused_with_both_totals(shop: Shop):
    with refused("PRICE_CHANGED") as refusal:
        shop.order(shipping_address=GERMANY, expected_total=money("10"))
    assert (refusal.metadata["expected_minor"], refusal.metadata["total_minor"]) == ("1000", "1190")
    assert refusal.text == "the order costs 11.90 EUR, but 10.00 EUR was expected"


def test_unknown_code_is_refused(shop: Shop):
    with refused("COUPON_NOT_APPLICABLE") as refusal:
        shop.order(coupon_codes=["SPRING"])
    assert (refusal.metadata["code"], refusal.metadata["problem"]) == ("SPRING", "UNKNOWN")


def test_exempt_order_pays_no_tax_and_tells_why(shop: Shop):
    exemption = orders_pb2.OrderTaxExemption(reason="reseller", certificate="C-1")
    order = shop.order(shipping_address=GERMANY, tax_exemption=exemption)
    assert amounts(order) == ("10.00", "0.00", "10.00")
    assert order.price_details.tax_exemption == exemption
    assert [tax.exempt for tax in order.lines[0].taxes] == [True]


def test_exemption_with_a_blank_reason_is_refused(shop: Shop):
    request = shop.order_request(tax_exemption={"reason": " "})
    inquiry = orders_pb2.QuoteOrderRequest(
        lines=request.lines, currency_code="EUR", tax_exemption=request.tax_exemption
    )
    quote = quotes_pb2.Quote(
        customer=request.customer, lines=request.lines, currency_code="EUR", tax_exemption=request.tax_exemption
    )
    for work, parent in (
        (lambda: shop.orders.PlaceOrder(request), ""),
        (lambda: shop.orders.QuoteOrder(inquiry), ""),
        (lambda: shop.quotes.CreateQuote(quotes_pb2.CreateQuoteRequest(quote=quote)), "quote."),
    ):
        with refused("INVALID_FIELD") as refusal:
            work()
        assert list(refusal.violations) == [f"{parent}tax_exemption.reason"]


def exempt_customer(shop: Shop, **fields: Any) -> str:
    """Create a customer with an exemption; return its name."""
    exemption = customers_pb2.CustomerTaxExemption(reason="reseller", certificate="R-7", **fields)
    return str(shop.customer(tax_exemption=exemption).name)


@pytest.mark.parametrize(
    ("window", "total"),
    [
        ({}, "10.00"),
        ({"start_time": PAST, "end_time": FUTURE}, "10.00"),
        ({"end_time": PAST}, "11.90"),
        ({"start_time": FUTURE}, "11.90"),
    ],
)
def test_exemption_of_a_customer_holds_for_its_orders_while_it_is_valid(
    shop: Shop, window: dict[str, Timestamp], total: str
):
    order = shop.order(shipping_address=GERMANY, customer=exempt_customer(shop, **window))
    assert amounts(order)[2] == total
    reason = order.price_details.tax_exemption.reason
    assert (reason, [tax.exempt for tax in order.lines[0].taxes]) == (
        ("reseller", [True]) if total == "10.00" else ("", [False])
    )


def test_exemption_of_an_order_comes_before_that_of_its_customer(shop: Shop):
    own = orders_pb2.OrderTaxExemption(reason="diplomat")
    order = shop.order(shipping_address=GERMANY, customer=exempt_customer(shop), tax_exemption=own)
    assert order.price_details.tax_exemption == own


def test_order_keeps_the_exemption_that_it_was_placed_with(shop: Shop):
    customer = exempt_customer(shop)
    order = shop.order((shop.variant(stock=9).sku, 2), shipping_address=GERMANY, customer=customer)
    changed = customers_pb2.Customer(name=customer)
    mask = FieldMask(paths=["tax_exemption"])
    shop.customers.UpdateCustomer(customers_pb2.UpdateCustomerRequest(customer=changed, update_mask=mask))
    away = shop.orders.UpdateOrder(update(order, "shipping_address", shipping_address=FRANCE))
    assert amounts(away) == ("20.00", "0.00", "20.00")
    assert amounts(shop.order(shipping_address=GERMANY, customer=customer))[2] == "11.90"


def test_change_of_address_moves_the_order_to_another_zone_and_back(shop: Shop):
    first = shop.order(shipping_address=GERMANY)
    away = shop.orders.UpdateOrder(update(first, "shipping_address", shipping_address=FRANCE))
    export = shop.orders.UpdateOrder(update(away, "shipping_address", shipping_address=JAPAN))
    back = shop.orders.UpdateOrder(update(export, "shipping_address", shipping_address=GERMANY))
    assert [amounts(order)[2] for order in (first, away, export, back)] == ["11.90", "12.00", "10.00", "11.90"]
    assert back.price_details == first.price_details
    changes = list_changes(list_history(shop, away)[1])
    assert changes["total"] == ("11.90", "12.00")
    assert changes["price_details.tax_total"] == ("1.90", "2.00")


def test_order_keeps_its_rates_when_they_change(shop: Shop):
    sku = shop.variant(stock=9).sku
    order = shop.order((sku, 3), shipping_address=ITALY)
    shop.pricing.DeleteTaxRate(pricing_pb2.DeleteTaxRateRequest(name="taxRates/it-standard"))
    edited = shop.orders.ApplyOrderEdit(apply(order, change={1: 2}))
    assert amounts(edited) == ("20.00", "4.40", "24.40")
    assert amounts(shop.order((sku, 1), shipping_address=ITALY)) == ("10.00", "0.00", "10.00")


def test_cancelling_unit_by_unit_adds_up_to_the_whole(shop: Shop):
    sku = shop.variant(stock=9, prices={"EUR": "3.33"}).sku
    order = shop.order((sku, 3), (sku, 1), shipping_address=GERMANY)
    totals = [show(order.total)]
    for line_number in (1, 2, 1, 1):
        units = [orders_pb2.OrderLineUnits(line_number=line_number, quantity=1)]
        order = shop.orders.CancelOrderLines(orders_pb2.CancelOrderLinesRequest(name=order.name, lines=units))
        totals.append(show(order.total))
    assert totals == ["15.85", "11.89", "7.93", "3.96", "0.00"]


def test_added_line_is_taxed_by_its_own_class(shop: Shop):
    order = shop.order(shipping_address=GERMANY)
    book = shop.variant(stock=9, tax_class="reduced").sku
    edited = shop.orders.ApplyOrderEdit(apply(order, add={book: 1}))
    assert amounts(edited) == ("20.00", "2.60", "22.60")


def test_order_without_an_address_pays_no_tax(shop: Shop):
    assert amounts(shop.order()) == ("10.00", "0.00", "10.00")
