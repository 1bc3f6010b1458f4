"""Taxes and discounts of other systems: imported as they are, and kept in proportion by every change."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.v1 import orders_pb2 as pb
from tests.support.historic_orders import (
    SHIPPED,
    historic,
    import_batch,
    import_order,
    import_problem,
    line,
)
from tests.support.order_cases import apply, units, update
from tests.support.processes import ServerProcess
from tests.support.refusals import refused
from tests.support.shops import Shop, get_amount, money

INCLUDED = {"prices_include_tax": True}


def make_line(shop: Shop, **fields: Any) -> pb.HistoricOrderLine:
    """Return a line of a new SKU with enough stock."""
    return line(shop.variant(stock=99).sku, **fields)


def make_taxed(shop: Shop, **fields: Any) -> pb.Order:
    """Import an open order of 3 units at 14.00 less 10.00 with 6.08 tax, 2 at 1.00 with 0.05 tax, and shipping."""
    first = make_line(shop, unit_price="14", discount_amount=money("10"), tax=money("6.08"))
    second = make_line(shop, quantity=2, unit_price="1", tax=money("0.05"))
    return import_order(
        shop, historic(shop, first, second, shipping=money("4.90"), shipping_tax=money("0.93"), **fields)
    )


def cancel_units(shop: Shop, order: pb.Order, *lines: tuple[int, int]) -> pb.Order:
    return shop.orders.CancelOrderLines(pb.CancelOrderLinesRequest(name=order.name, lines=units(*lines)))


def list_amounts(order: pb.Order) -> dict[str, Any]:
    """Return all amounts of an order. Assert that net and tax are gross on every line and in all."""
    details = order.price_details
    parts = [*order.lines, details, *([details.shipping] if details.HasField("shipping") else [])]
    for part in parts:
        assert get_amount(part.net_total) + get_amount(part.tax_total) == get_amount(part.gross_total)
        assert get_amount(part.net_total) >= 0
    for field in ("net_total", "tax_total", "gross_total"):
        assert sum(get_amount(getattr(part, field)) for part in parts if part is not details) == get_amount(
            getattr(details, field)
        )
    assert details.gross_total == order.total
    return {
        "total": order.total,
        "shipping": order.shipping,
        "details": details,
        "lines": [(one.discount, one.total, one.tax_total) for one in order.lines],
    }


# -- imports


def test_tax_that_is_added_is_a_part_of_the_total(shop: Shop):
    order = make_taxed(shop, total=money("45.96"))
    assert [(one.total, one.net_total, one.tax_total, one.gross_total) for one in order.lines] == [
        (money("32"), money("32"), money("6.08"), money("38.08")),
        (money("2"), money("2"), money("0.05"), money("2.05")),
    ]
    details = order.price_details
    assert (details.prices_include_tax, details.subtotal, details.discount_total) == (False, money("44"), money("10"))
    assert (details.net_total, details.tax_total, details.gross_total) == (
        money("38.90"),
        money("7.06"),
        money("45.96"),
    )
    assert (details.shipping.price, details.shipping.tax_total) == (money("4.90"), money("0.93"))
    assert (order.total, order.shipping) == (money("45.96"), money("4.90"))
    list_amounts(order)


def test_tax_that_prices_include_is_not_added(shop: Shop):
    order = make_taxed(shop, total=money("38.90"), **INCLUDED)
    details = order.price_details
    assert (details.prices_include_tax, details.net_total, details.tax_total) == (True, money("31.84"), money("7.06"))
    assert [(one.net_total, one.gross_total) for one in order.lines] == [
        (money("25.92"), money("32")),
        (money("1.95"), money("2")),
    ]
    assert details.shipping.net_total == money("3.97")
    list_amounts(order)


def test_lists_show_the_same_as_get(shop: Shop):
    order = make_taxed(shop)
    request = {"filter": f'number = "{order.number}"'}
    (listed,) = shop.orders.ListOrders(pb.ListOrdersRequest(**request)).orders
    assert listed == order
    mask = FieldMask(paths=["price_details"])
    (masked,) = shop.orders.ListOrders(pb.ListOrdersRequest(read_mask=mask, **request)).orders
    assert (masked.price_details, len(masked.lines)) == (order.price_details, 0)


def test_order_without_tax_has_no_price_details(shop: Shop):
    order = import_order(shop, historic(shop, make_line(shop, discount_amount=money("1"))))
    assert not order.HasField("price_details")
    assert not order.lines[0].HasField("tax_total")
    assert not cancel_units(shop, order, (1, 1)).HasField("price_details")


REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "line tax below nothing": ("AMOUNT", {"tax": money("-1")}, {}),
    "shipping tax below nothing": ("AMOUNT", {}, {"shipping_tax": money("-1")}),
    "line tax finer than a cent": ("AMOUNT", {"tax": money("0.005")}, {}),
    "line tax in another currency": ("CURRENCY", {"tax": money("1", "USD")}, {}),
    "shipping tax in another currency": ("CURRENCY", {}, {"shipping_tax": money("1", "USD")}),
    "more tax than the price includes": ("AMOUNT", {"tax": money("21.01")}, INCLUDED),
    "more tax than the discounted price includes": (
        "AMOUNT",
        {"tax": money("20.01"), "discount_amount": money("1")},
        INCLUDED,
    ),
    "more tax than the shipping includes": (
        "AMOUNT",
        {},
        {"shipping": money("1"), "shipping_tax": money("1.01"), **INCLUDED},
    ),
    "tax of what was cancelled": ("AMOUNT", {"tax": money("1"), "cancelled_quantity": 3}, {}),
    "total without the tax that is added": ("DOES_NOT_ADD_UP", {"tax": money("1")}, {"total": money("21")}),
    "total with the tax that it includes": (
        "DOES_NOT_ADD_UP",
        {"tax": money("1")},
        {"total": money("22"), **INCLUDED},
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_tax_that_cannot_be_is_refused(case: str, shop: Shop):
    problem, fields, order_fields = REFUSED[case]
    assert import_problem(shop, historic(shop, make_line(shop, **fields), **order_fields, **SHIPPED)) == problem


def test_taxes_beyond_the_largest_total_are_refused(shop: Shop):
    lines = [line("A", quantity=1_000_000, unit_price="10000000000") for _ in range(9)]
    lines.append(line("A", quantity=223_372, unit_price="10000000000", tax=money("10000000000")))
    assert import_problem(shop, historic(shop, *lines, **SHIPPED)) == "AMOUNT"
    assert import_problem(shop, historic(shop, *lines, **INCLUDED, **SHIPPED)) == "SKU_NOT_FOUND"


@pytest.mark.parametrize(
    "difference",
    [{"shipping_tax": money("0.50")}, INCLUDED, {"lines": [{"tax": money("1.01")}]}],
    ids=["shipping_tax", "prices_include_tax", "tax"],
)
def test_number_with_other_taxes_is_refused(difference: dict[str, Any], shop: Shop):
    wanted = historic(shop, make_line(shop, tax=money("1")), shipping=money("5"), **SHIPPED)
    import_order(shop, wanted)
    assert import_batch(shop, wanted)[0].outcome == pb.ORDER_IMPORT_OUTCOME_ALREADY_THERE
    lines = difference.get("lines", [{}])
    wanted.MergeFrom(pb.HistoricOrder(**{name: value for name, value in difference.items() if name != "lines"}))
    wanted.lines[0].MergeFrom(pb.HistoricOrderLine(**lines[0]))
    assert import_problem(shop, wanted) == "NUMBER_TAKEN"


# -- changes


@pytest.mark.parametrize("fields", [{}, INCLUDED], ids=["added", "included"])
def test_units_cancelled_one_by_one_add_up_to_the_whole(fields: dict[str, Any], shop: Shop):
    order = make_taxed(shop, **fields)
    seen = [order]
    for number in (1, 2, 1):
        seen.append(cancel_units(shop, seen[-1], (number, 1)))
    at_once = cancel_units(shop, make_taxed(shop, **fields), (1, 2), (2, 1))
    assert list_amounts(seen[-1])["lines"] == list_amounts(at_once)["lines"]
    assert [list_amounts(one)["lines"][0] for one in seen] == [
        (money("10"), money("32"), money("6.08")),
        (money("6.67"), money("21.33"), money("4.05")),
        (money("6.67"), money("21.33"), money("4.05")),
        (money("3.33"), money("10.67"), money("2.03")),
    ]
    last = cancel_units(shop, seen[-1], (1, 1))
    assert (last.lines[0].discount, last.lines[0].total, last.lines[0].tax_total) == (
        pb.OrderLine().discount,
        money("0"),
        money("0"),
    )
    assert last.lines[1].tax_total == money("0.03")
    gone = cancel_units(shop, last, (2, 1))
    assert (gone.state, gone.total) == (pb.ORDER_STATE_CANCELLED, money("0"))


@pytest.mark.parametrize("fields", [{}, INCLUDED], ids=["added", "included"])
def test_order_that_is_changed_back_costs_what_it_did(fields: dict[str, Any], shop: Shop, server: ServerProcess):
    order = make_taxed(shop, **fields)
    first = list_amounts(order)
    for count in (2, 1, 5, 0, 4, 3):
        changes: dict[str, Any] = {"change": {1: count}} if count else {"remove": (1,)}
        changed = shop.orders.ApplyOrderEdit(apply(order, **changes))
        assert (list_amounts(changed)["lines"][0] == first["lines"][0]) == (count == 3)
    assert list_amounts(shop.get_order(order)) == first
    for price in ("9.80", "0", "4.89", "4.90"):
        changed = shop.orders.UpdateOrder(update(order, "shipping", shipping=money(price)))
    assert list_amounts(changed) == first
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout


def test_discount_does_not_drift_when_a_unit_is_cancelled_and_added_back(shop: Shop):
    order = import_order(shop, historic(shop, make_line(shop, unit_price="14", discount_amount=money("10"))))
    cancel_units(shop, order, (1, 1))
    again = shop.orders.ApplyOrderEdit(apply(order, change={1: 3}))
    assert (again.lines[0].discount, again.total) == (money("10"), money("32"))


def test_tax_of_shipping_follows_its_price(shop: Shop):
    order = make_taxed(shop)
    changed = shop.orders.UpdateOrder(update(order, shipping=money("9.80")))
    assert (changed.price_details.shipping.tax_total, changed.total) == (money("1.86"), money("51.79"))
    free = shop.orders.UpdateOrder(update(order, "shipping"))
    assert (free.price_details.HasField("shipping"), free.total) == (False, money("40.13"))


def test_new_line_has_the_price_of_today_and_no_tax(shop: Shop):
    order = make_taxed(shop)
    sku = shop.variant(prices={"EUR": "2.50"}, stock=9).sku
    after = shop.orders.ApplyOrderEdit(apply(order, add={sku: 2}))
    assert (after.lines[2].total, after.lines[2].tax_total, after.total) == (money("5"), money("0"), money("50.96"))
    assert list_amounts(after)["lines"][:2] == list_amounts(order)["lines"]
    assert cancel_units(shop, after, (3, 2)).total == order.total


def test_history_tells_the_change_of_the_tax(shop: Shop):
    order = make_taxed(shop)
    cancel_units(shop, order, (1, 1))
    entries = shop.orders.ListOrderHistory(pb.ListOrderHistoryRequest(name=order.name)).entries
    changes = {one.field: (one.old_value, one.new_value) for one in entries[-1].changes}
    assert changes["price_details.tax_total"] == ("7.06", "5.03")
    assert changes["lines[1].tax_total"] == ("6.08", "4.05")
    assert changes["total"] == ("45.96", "33.26")


def test_tax_of_what_costs_nothing_follows_its_units(shop: Shop):
    free = make_line(shop, unit_price="10", discount_ppm=1_000_000, tax=money("3"))
    order = import_order(shop, historic(shop, free))
    assert cancel_units(shop, order, (1, 1)).total == money("2")


def test_partly_shipped_order_keeps_the_tax_of_its_shipped_units(shop: Shop):
    wanted = historic(
        shop, make_line(shop, quantity=4, unit_price="10", shipped_quantity=3, tax=money("7.60")), **SHIPPED
    )
    after = cancel_units(shop, import_order(shop, wanted), (1, 1))
    assert (after.state, after.total, after.lines[0].tax_total) == (
        pb.ORDER_STATE_FULFILLED,
        money("35.70"),
        money("5.70"),
    )


def test_cancelled_order_has_no_tax(shop: Shop):
    cancelled = shop.cancel(make_taxed(shop))
    assert cancelled.total == money("0")
    assert cancelled.price_details.tax_total in (pb.PriceDetails().tax_total, money("0"))


def test_edit_beyond_the_largest_total_is_refused_before_stock_is_looked_at(shop: Shop):
    sku = shop.variant(stock=10).sku
    lines = [line(sku, quantity=1, unit_price="0", tax=money("10000000000")) for _ in range(10)]
    order = import_order(shop, historic(shop, *lines))
    assert order.total == money("100000000000")
    with refused("INVALID_AMOUNT"):
        shop.orders.ApplyOrderEdit(apply(order, change=dict.fromkeys(range(1, 11), 1_000_000)))
    assert shop.get_order(order) == order


def test_units_that_cost_more_than_the_largest_amount_before_cancellations_are_refused(shop: Shop):
    """The subtotal of a line counts cancelled units, so it can pass the largest integer before the total does."""
    sku = shop.variant(stock=10_000_000).sku
    order = import_order(shop, historic(shop, line(sku, quantity=1, unit_price="10000000000")))
    with refused("INVALID_AMOUNT"):
        for count in (1_000_000, 1) * 10:
            shop.orders.ApplyOrderEdit(apply(order, change={1: count}))
            if count > 1:
                cancel_units(shop, order, (1, count - 1))


def name_tax(name: str, rate_ppm: int, amount: str) -> pb.HistoricTax:
    return pb.HistoricTax(display_name=name, rate_ppm=rate_ppm, amount=money(amount))


def list_taxes(taxes: Iterable[pb.TaxAmount]) -> list[tuple[str, int, Decimal]]:
    """Return name, rate and amount of each tax, none of which has a rate of this server."""
    assert not any(tax.tax_rate for tax in taxes)
    return [(tax.display_name, tax.rate_ppm, get_amount(tax.amount)) for tax in taxes]


def test_names_and_rates_of_taxes_are_kept_and_follow_each_change(shop: Shop):
    gst, qst = name_tax("GST", 50_000, "1.05"), name_tax("QST", 99_750, "2.09")
    first = make_line(shop, quantity=3, unit_price="7.00", taxes=[gst, qst])
    second = make_line(shop, quantity=1, unit_price="2.00", tax=money("0.10"), taxes=[name_tax("GST", 50_000, "0.10")])
    wanted = historic(shop, first, second, shipping=money("4.00"), shipping_taxes=[name_tax("GST", 50_000, "0.20")])
    order = import_order(shop, wanted)
    assert list_taxes(order.lines[0].taxes) == [
        ("GST", 50_000, Decimal("1.05")),
        ("QST", 99_750, Decimal("2.09")),
    ]
    assert list_taxes(order.price_details.shipping.taxes) == [("GST", 50_000, Decimal("0.20"))]
    assert list_taxes(order.price_details.taxes) == [
        ("GST", 50_000, Decimal("1.35")),
        ("QST", 99_750, Decimal("2.09")),
    ]
    assert order.total == money("30.44")
    (again,) = import_batch(shop, wanted)
    assert again.outcome == pb.ORDER_IMPORT_OUTCOME_ALREADY_THERE
    renamed = pb.HistoricOrder()
    renamed.CopyFrom(wanted)
    renamed.lines[0].taxes[0].display_name = "TPS"
    assert import_problem(shop, renamed) == "NUMBER_TAKEN"
    left = [("1.05", "2.09"), ("0.70", "1.39"), ("0.35", "0.70")]
    for parts in left:
        assert [get_amount(tax.amount) for tax in order.lines[0].taxes] == list(map(Decimal, parts))
        assert sum(get_amount(tax.amount) for tax in order.lines[0].taxes) == get_amount(order.lines[0].tax_total)
        order = cancel_units(shop, order, (1, 1))
    assert not order.lines[0].taxes
    assert list_taxes(order.price_details.taxes) == [("GST", 50_000, Decimal("0.30"))]


def test_tax_of_nothing_is_reported_by_its_name(shop: Shop):
    order = import_order(shop, historic(shop, make_line(shop, taxes=[name_tax("Export", 0, "0")])))
    assert list_taxes(order.lines[0].taxes) == [("Export", 0, Decimal())]


def test_taxes_that_do_not_add_up_are_refused(shop: Shop):
    taxes = [name_tax("VAT", 190_000, "1.00")]
    line = make_line(shop, tax=money("1.01"), taxes=taxes)
    assert import_problem(shop, historic(shop, line)) == "DOES_NOT_ADD_UP"
    shipping = {"shipping": money("5"), "shipping_tax": money("0.99"), "shipping_taxes": taxes}
    assert import_problem(shop, historic(shop, make_line(shop), **shipping)) == "DOES_NOT_ADD_UP"
    dollars = pb.HistoricTax(display_name="VAT", amount=money("1", "USD"))
    assert import_problem(shop, historic(shop, make_line(shop, taxes=[dollars]))) == "CURRENCY"


def test_cancelled_order_costs_nothing_though_it_had_shipping(shop: Shop):
    line = make_line(shop, quantity=3, cancelled_quantity=3)
    wanted = historic(shop, line, shipping=money("4.90"), shipping_tax=money("0.93"), total=money("0"))
    order = import_order(shop, wanted)
    assert order.state == pb.ORDER_STATE_CANCELLED
    assert (get_amount(order.total), get_amount(order.shipping), order.HasField("price_details")) == (0, 0, False)
    (again,) = import_batch(shop, wanted)
    assert again.outcome == pb.ORDER_IMPORT_OUTCOME_ALREADY_THERE
