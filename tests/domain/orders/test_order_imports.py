"""Imports of historic orders: once, with their own numbers, prices and dates, each completely or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.errors import InvalidField
from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.money import Money
from storekeep.server.domain.orders.historic import HistoricLine, HistoricOrder
from storekeep.server.domain.orders.imports import IMPORTED as IMPORTED_TEXT
from storekeep.server.domain.orders.imports import import_orders
from storekeep.server.domain.orders.numbers import OrderNumbers
from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.domain.stock.reservations import NewReservation, reserve
from storekeep.server.store.engine import Store
from storekeep.server.wiring.expirers import EXPIRERS
from storekeep.v1 import addresses_pb2, audit_pb2, auth_pb2, inventory_pb2, products_pb2
from storekeep.v1 import orders_pb2 as pb
from tests.support.databases import Database
from tests.support.historic_orders import (
    PLACED_S,
    SHIPPED,
    historic,
    import_batch,
    import_order,
    import_problem,
    line,
    seconds,
)
from tests.support.processes import ServerProcess
from tests.support.records import Records
from tests.support.refusals import refused
from tests.support.shops import MAIN, Shop, money, new_id, new_request_id
from tests.support.statements import record_statements
from tests.support.stores import open_store

IMPORTED, ALREADY_THERE, REFUSED = (
    pb.ORDER_IMPORT_OUTCOME_IMPORTED,
    pb.ORDER_IMPORT_OUTCOME_ALREADY_THERE,
    pb.ORDER_IMPORT_OUTCOME_REFUSED,
)
CALL = Call(Caller("serviceAccounts/test"), "storekeep.v1.OrderService/ImportOrders")
NUMBERS = OrderNumbers("T-{sequence}")
ADDRESS = addresses_pb2.Address(recipient="Ann Devon", locality="London", region_code="GB")


def import_outcomes(shop: Shop, *orders: pb.HistoricOrder) -> list[int]:
    """Import orders in one batch and return the outcomes."""
    return [result.outcome for result in import_batch(shop, *orders)]


def copy_with(order: pb.HistoricOrder, **fields: Any) -> pb.HistoricOrder:
    """Return a copy of the order with other values in some fields."""
    copy = pb.HistoricOrder()
    copy.CopyFrom(order)
    for name in fields:
        copy.ClearField(name)
    copy.MergeFrom(pb.HistoricOrder(**fields))
    return copy


def copy_without(order: pb.HistoricOrder, field: str) -> pb.HistoricOrder:
    """Return a copy of the order without a field."""
    copy = copy_with(order)
    copy.ClearField(field)
    return copy


# -- shipped orders


def test_import_takes_an_order_over_with_its_number_prices_and_dates(shop: Shop):
    wanted = historic(shop, shipping=money("4.50"), shipping_address=ADDRESS, note="by telephone", **SHIPPED)
    order = import_order(shop, wanted)
    assert (order.number, order.customer, order.note) == (wanted.number, wanted.customer, "by telephone")
    assert (order.state, order.create_time) == (pb.ORDER_STATE_FULFILLED, wanted.order_time)
    assert [(one.sku, one.quantity, one.fulfilled_quantity) for one in order.lines] == [(wanted.lines[0].sku, 3, 3)]
    assert (order.lines[0].unit_price, order.lines[0].total) == (money("7"), money("21"))
    assert (order.shipping, order.total, order.shipping_address) == (money("4.50"), money("25.50"), ADDRESS)


def test_import_takes_over_what_describes_the_order(shop: Shop):
    fields = {
        "billing_address": ADDRESS,
        "email": "ann@devon.example",
        "phone": "+44 1",
        "language_code": "en-GB",
        "labels": {"channel": "telephone"},
        "ship_by_time": seconds(PLACED_S),
        "deliver_by_time": seconds(PLACED_S + 1),
    }
    wanted = historic(shop, **fields)
    wanted.lines[0].cancelled_quantity = 3
    order = import_order(shop, wanted)
    assert {name for name, value in fields.items() if getattr(order, name) != value} == set()
    assert import_outcomes(shop, wanted) == [ALREADY_THERE]
    for name in fields:
        assert import_problem(shop, copy_without(wanted, name)) == "NUMBER_TAKEN"
    assert import_problem(shop, copy_with(wanted, deliver_by_time=seconds(PLACED_S - 1))) == "TIME"


def test_imported_order_has_no_contacts_of_today(shop: Shop):
    customer = shop.customer(email="ann@devon.example", phone="+44 1")
    order = import_order(shop, historic(shop, customer=customer.name, **SHIPPED))
    assert (order.email, order.phone) == ("", "")


def test_order_that_was_corrected_since_its_import_is_already_there(shop: Shop):
    wanted = historic(shop, **SHIPPED)
    order = import_order(shop, wanted)
    (shipped,) = shop.orders.ListFulfillments(pb.ListFulfillmentsRequest(parent=order.name)).fulfillments
    shop.orders.UpdateOrder(pb.UpdateOrderRequest(order=pb.Order(name=order.name, note="Corrected.")))
    parcels = [pb.Parcel(tracking_number=number) for number in ("P-1", "P-2")]
    corrected = pb.Fulfillment(name=shipped.name, carrier="Post", parcels=parcels)
    shop.orders.UpdateFulfillment(pb.UpdateFulfillmentRequest(fulfillment=corrected))
    assert import_outcomes(shop, wanted) == [ALREADY_THERE]


def test_shipped_order_has_its_fulfilment(shop: Shop, records: Records):
    order = import_order(shop, historic(shop, **SHIPPED))
    (row,) = records.rows(
        "SELECT fulfillments.id, location_id, state, carrier, ship_time_us FROM fulfillments WHERE order_id = ?",
        order.name.partition("/")[2],
    )
    shipped_us = SHIPPED["ship_time"].seconds * 1_000_000
    assert row[1:] == ("main", "SHIPPED", SHIPPED["carrier"], shipped_us)
    lines = records.rows("SELECT line_number, quantity FROM fulfillment_lines WHERE fulfillment_id = ?", row[0])
    assert [tuple(one) for one in lines] == [(1, 3)]


def test_shipped_order_touches_no_stock(shop: Shop):
    sku = shop.variant(stock=2).sku
    import_order(shop, historic(shop, line(sku, quantity=5), **SHIPPED))
    assert (shop.level(sku).on_hand, shop.level(sku).allocated) == (2, 0)
    movements = shop.inventory.ListStockMovements(inventory_pb2.ListStockMovementsRequest(filter=f"sku = {sku}"))
    assert len(movements.stock_movements) == 1


def test_order_of_products_off_sale_is_imported(shop: Shop):
    product = shop.product()
    wanted = historic(shop, line(shop.variant(parent=product.name).sku), **SHIPPED)
    shop.products.ArchiveProduct(products_pb2.ArchiveProductRequest(name=product.name))
    assert import_order(shop, wanted).lines[0].display_name.startswith(product.display_name)


@pytest.mark.parametrize(
    ("quantity", "price", "discount", "total", "taken_off"),
    [
        (1, "0.10", {"discount_ppm": 50_000}, "0.10", "0"),  # 0.095
        (1, "0.30", {"discount_ppm": 50_000}, "0.29", "0.01"),  # 0.285
        (3, "7.35", {"discount_ppm": 150_000}, "18.74", "3.31"),  # 18.7425
        (1, "0.01", {"discount_ppm": 500_000}, "0.01", "0"),  # 0.005
        (2, "9.99", {"discount_ppm": 1_000_000}, "0", "19.98"),
        (2, "9.99", {"discount_ppm": 0}, "19.98", "0"),
        (2, "9.99", {"discount_amount": money("1.99")}, "17.99", "1.99"),
        (4, "0", {}, "0", "0"),
    ],
)
def test_line_is_rounded_half_up_after_its_discount(
    quantity: int, price: str, discount: dict[str, Any], total: str, taken_off: str, shop: Shop
):
    wanted = line(shop.variant().sku, quantity=quantity, unit_price=price, total=money(total), **discount)
    order = import_order(shop, historic(shop, wanted, total=money(total), **SHIPPED))
    assert (order.lines[0].total, order.total) == (money(total), money(total))
    assert order.lines[0].discount == (pb.OrderLine().discount if taken_off == "0" else money(taken_off))


def test_discount_is_taken_off_what_was_not_cancelled(shop: Shop):
    wanted = line(shop.variant().sku, quantity=3, unit_price="10", cancelled_quantity=1, discount_ppm=100_000)
    assert import_order(shop, historic(shop, wanted, **SHIPPED)).total == money("18")


def test_cancelled_units_are_neither_shipped_nor_paid(shop: Shop):
    order = import_order(shop, historic(shop, line(shop.variant().sku, quantity=5, cancelled_quantity=2), **SHIPPED))
    (only,) = order.lines
    counts = (only.quantity, only.fulfilled_quantity, only.cancelled_quantity, only.open_quantity)
    assert (counts, order.state) == ((5, 3, 2, 0), pb.ORDER_STATE_FULFILLED)
    assert order.total == money("21")


def test_order_that_was_cancelled_whole_is_cancelled_and_ships_nothing(shop: Shop, records: Records):
    order = import_order(shop, historic(shop, line(shop.variant().sku, cancelled_quantity=3), **SHIPPED))
    assert (order.state, order.total) == (pb.ORDER_STATE_CANCELLED, money("0"))
    assert records.value("SELECT COUNT(*) FROM fulfillments WHERE order_id = ?", order.name.partition("/")[2]) == 0


def test_partly_shipped_order_ships_its_units_and_takes_stock_for_the_others(shop: Shop, records: Records):
    sku, other = shop.variant(stock=5).sku, shop.variant(stock=5).sku
    lines = line(sku, quantity=4, cancelled_quantity=1, shipped_quantity=2), line(other, shipped_quantity=0)
    wanted = historic(shop, *lines, **SHIPPED)
    order = import_order(shop, wanted)
    assert order.state == pb.ORDER_STATE_PARTIALLY_FULFILLED
    assert [(one.fulfilled_quantity, one.open_quantity) for one in order.lines] == [(2, 1), (0, 3)]
    assert (shop.level(sku).on_hand, shop.level(sku).allocated, shop.level(other).allocated) == (5, 1, 3)
    shipped = records.rows(
        "SELECT line_number, quantity FROM fulfillment_lines JOIN fulfillments ON fulfillments.id = fulfillment_id"
        " WHERE order_id = ?",
        order.name.partition("/")[2],
    )
    assert [tuple(row) for row in shipped] == [(1, 2)]
    shop.ship(shop.fulfill(order))
    assert shop.get_order(order).state == pb.ORDER_STATE_FULFILLED
    assert import_outcomes(shop, wanted) == [ALREADY_THERE]
    wanted.lines[0].shipped_quantity = 3
    assert import_problem(shop, wanted) == "NUMBER_TAKEN"


@pytest.mark.parametrize(
    ("fields", "order_fields"),
    [({"shipped_quantity": 3, "cancelled_quantity": 1}, SHIPPED), ({"shipped_quantity": 1}, {})],
    ids=["more than remain", "no ship time"],
)
def test_shipped_units_that_cannot_be_are_refused(fields: dict[str, Any], order_fields: dict[str, Any], shop: Shop):
    wanted = historic(shop, line(shop.variant(stock=5).sku, **fields), **order_fields)
    assert import_problem(shop, wanted) == "AMOUNT"


# -- open orders


def test_open_order_is_confirmed_and_takes_stock(shop: Shop):
    sku = shop.variant(stock=5).sku
    order = import_order(shop, historic(shop, line(sku, quantity=2), line(sku, quantity=1)))
    assert (order.state, [one.open_quantity for one in order.lines]) == (pb.ORDER_STATE_CONFIRMED, [2, 1])
    assert not order.HasField("expire_time")
    assert (shop.level(sku).on_hand, shop.level(sku).allocated) == (5, 3)
    shop.cancel(order)
    assert shop.level(sku).allocated == 0


def test_open_order_without_stock_is_refused_and_leaves_nothing(shop: Shop, records: Records):
    wanted = historic(shop, line(shop.variant(stock=5).sku), line(shop.variant(stock=2).sku, quantity=3))
    before = records.everything()
    assert import_problem(shop, wanted) == "OUT_OF_STOCK"
    assert records.everything() == before


def test_open_orders_of_a_batch_take_stock_in_its_order(shop: Shop):
    sku = shop.variant(stock=5).sku
    orders = [historic(shop, line(sku, quantity=quantity)) for quantity in (3, 3, 2)]
    assert import_outcomes(shop, *orders) == [IMPORTED, REFUSED, IMPORTED]
    assert shop.level(sku).allocated == 5


def test_open_order_takes_from_several_locations_unless_it_names_one(shop: Shop):
    sku, other = shop.variant(stock=2).sku, shop.location().name
    shop.adjust(sku, 2, location=other)
    assert import_problem(shop, historic(shop, line(sku), location=other)) == "OUT_OF_STOCK"
    import_order(shop, historic(shop, line(sku, quantity=1), location=other))
    import_order(shop, historic(shop, line(sku)))
    assert [shop.level(sku, location=location).allocated for location in (MAIN, other)] == [2, 2]


def test_open_order_takes_no_more_than_is_open_of_it(shop: Shop):
    sku = shop.variant(stock=2).sku
    import_order(shop, historic(shop, line(sku, cancelled_quantity=1)))
    assert shop.level(sku).allocated == 2


# -- repeated imports


def test_import_of_the_same_again_changes_nothing(shop: Shop, records: Records):
    orders = [
        historic(shop, shipping=money("1"), shipping_address=ADDRESS, **SHIPPED),
        historic(shop, make_stocked_line(shop)),
    ]
    first = import_batch(shop, *orders)
    before = records.everything()
    again = import_batch(shop, *orders)
    assert [result.outcome for result in again] == [ALREADY_THERE, ALREADY_THERE]
    assert [result.order for result in again] == [result.order for result in first]
    assert records.everything() == before


def make_stocked_line(shop: Shop, units: int = 9) -> pb.HistoricOrderLine:
    """Return a line of a new SKU with enough stock."""
    return line(shop.variant(stock=units).sku)


def test_import_of_the_same_again_changes_nothing_though_the_order_has_gone_on(shop: Shop):
    wanted = historic(shop, make_stocked_line(shop))
    shop.cancel(import_order(shop, wanted))
    assert import_outcomes(shop, wanted) == [ALREADY_THERE]


@pytest.mark.parametrize(
    "difference",
    [
        {"note": "another"},
        {"shipping": money("1")},
        {"order_time": seconds(PLACED_S + 1)},
        {"ship_time": seconds(PLACED_S + 2)},
        {"carrier": "another"},
        {"tracking_number": "another"},
        {"shipping_address": ADDRESS},
        {"billing_address": ADDRESS},
        {"email": "another@home.example"},
        {"phone": "+43 1 234"},
        {"language_code": "de"},
        {"labels": {"gift": "no"}},
        {"external_reference": "another"},
        {"source": "another"},
        {"ship_by_time": seconds(PLACED_S + 3)},
        {"deliver_by_time": seconds(PLACED_S + 3)},
        {"currency_code": "USD", "lines": []},
    ],
    ids=lambda difference: next(iter(difference)),
)
def test_number_with_other_content_is_refused(difference: dict[str, Any], shop: Shop):
    wanted = historic(shop, **SHIPPED)
    import_order(shop, wanted)
    other = copy_with(wanted, **difference)
    if not other.lines:
        other.lines.add(sku=wanted.lines[0].sku, quantity=3, unit_price=money("7", "USD"))
    assert import_problem(shop, other) == "NUMBER_TAKEN"


def test_number_of_another_customer_is_refused(shop: Shop):
    wanted = historic(shop, **SHIPPED)
    import_order(shop, wanted)
    assert import_problem(shop, copy_with(wanted, customer=shop.customer().name)) == "NUMBER_TAKEN"


@pytest.mark.parametrize("shipped", [SHIPPED, {}], ids=["shipped", "open"])
def test_number_of_an_order_from_another_location_is_refused(shipped: dict[str, Any], shop: Shop):
    location = shop.location().name
    sku = shop.variant(stock=9).sku
    shop.adjust(sku, 9, location=location)
    wanted = historic(shop, line(sku), location=location, **shipped)
    import_order(shop, wanted)
    assert import_problem(shop, copy_with(wanted, location=MAIN)) == "NUMBER_TAKEN"
    assert import_outcomes(shop, wanted) == [ALREADY_THERE]


LINE_DIFFERENCES: dict[str, dict[str, Any]] = {
    "quantity": {"quantity": 4},
    "unit_price": {"unit_price": money("7.01")},
    "cancelled_quantity": {"cancelled_quantity": 2},
    "discount_ppm": {"discount_ppm": 100_000},
    "discount_amount": {"discount_amount": money("0.01")},
}


@pytest.mark.parametrize("difference", LINE_DIFFERENCES.values(), ids=LINE_DIFFERENCES)
@pytest.mark.parametrize("shipped", [SHIPPED, {}], ids=["shipped", "open"])
def test_number_with_other_content_in_a_line_is_refused(
    difference: dict[str, Any], shipped: dict[str, Any], shop: Shop
):
    first, second = make_stocked_line(shop), make_stocked_line(shop)
    wanted = historic(shop, first, second, **shipped)
    import_order(shop, wanted)
    other = copy_with(wanted, lines=[first, second])
    other.lines[1].MergeFrom(pb.HistoricOrderLine(**difference))
    assert import_problem(shop, other) == "NUMBER_TAKEN"
    assert import_outcomes(shop, wanted) == [ALREADY_THERE]


def test_number_with_other_lines_is_refused(shop: Shop):
    first, second, other = (make_stocked_line(shop) for _ in range(3))
    wanted = historic(shop, first, second, **SHIPPED)
    import_order(shop, wanted)
    for lines in ([first], [first, second, other], [first, other], [second, first]):
        assert import_problem(shop, copy_with(wanted, lines=lines)) == "NUMBER_TAKEN"


def test_number_of_what_was_shipped_is_refused_where_it_is_open(shop: Shop):
    wanted = historic(shop, make_stocked_line(shop), **SHIPPED)
    import_order(shop, wanted)
    assert import_problem(shop, copy_with(wanted, ship_time=None, carrier="", tracking_number="")) == "NUMBER_TAKEN"


def test_number_that_stands_twice_in_a_batch_is_imported_once(shop: Shop):
    wanted = historic(shop, **SHIPPED)
    assert import_outcomes(shop, wanted, wanted, copy_with(wanted, note="another")) == [
        IMPORTED,
        ALREADY_THERE,
        REFUSED,
    ]


def test_number_of_a_placed_order_is_not_imported(shop: Shop):
    assert import_problem(shop, historic(shop, number=shop.order().number)) == "NUMBER_RESERVED"


# -- refused orders


PROBLEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "unknown currency": ("CURRENCY", {"currency_code": "XQQ", "lines": [line("A", unit_price="1")]}),
    "lines in another currency": ("CURRENCY", {"currency_code": "USD"}),
    "shipping in another currency": ("CURRENCY", {"shipping": money("1", "USD")}),
    "finer than a cent": ("AMOUNT", {"lines": [line("A", unit_price="1.005")]}),
    "less than nothing": ("AMOUNT", {"shipping": money("-1")}),
    "more cancelled than ordered": ("AMOUNT", {"lines": [line("A", cancelled_quantity=4)]}),
    "more off than it costs": ("AMOUNT", {"lines": [line("A", discount_amount=money("21.01"))]}),
    "more than any order costs": (
        "AMOUNT",
        {"lines": [line("A", quantity=1_000_000, unit_price="10000000000") for _ in range(10)]},
    ),
    "number of ours": ("NUMBER_RESERVED", {"number": "SK-00000001"}),
    "line comes to something else": ("DOES_NOT_ADD_UP", {"lines": [line("A", total=money("20.99"))]}),
    "order comes to something else": ("DOES_NOT_ADD_UP", {"total": money("21.01")}),
    "placed in the future": ("TIME", {"order_time": seconds(4_000_000_000)}),
    "shipped in the future": ("TIME", {"ship_time": seconds(4_000_000_000)}),
    "shipped before it was placed": ("TIME", {"ship_time": seconds(PLACED_S - 1)}),
    "no such customer": ("CUSTOMER_NOT_FOUND", {"customer": "customers/nobody"}),
    "no such location": ("LOCATION_NOT_FOUND", {"location": "locations/nowhere"}),
    "no such SKU": ("SKU_NOT_FOUND", {"lines": [line("NO-SUCH-SKU")]}),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_problem_refuses_an_order_alone_and_leaves_nothing_of_it(case: str, shop: Shop, records: Records):
    problem, fields = PROBLEMS[case]
    good = [historic(shop, **SHIPPED) for _ in range(2)]
    bad = copy_with(historic(shop, **SHIPPED), **fields)
    before = records.last_sequence()
    results = import_batch(shop, good[0], bad, good[1])
    assert [result.outcome for result in results] == [IMPORTED, REFUSED, IMPORTED]
    assert results[1].problem == pb.OrderImportProblem.Value(f"ORDER_IMPORT_PROBLEM_{problem}")
    orders = {resource for kind, resource, _ in records.events_after(before) if kind.startswith("order.")}
    assert orders == {results[0].order, results[2].order}
    assert not records.rows("SELECT id FROM orders WHERE number = ?", bad.number)


def test_every_problem_is_provoked():
    provoked = {f"ORDER_IMPORT_PROBLEM_{problem}" for problem, _ in PROBLEMS.values()}
    elsewhere = {"UNSPECIFIED", "NUMBER_TAKEN", "REFERENCE_TAKEN", "OUT_OF_STOCK"}
    assert provoked | {f"ORDER_IMPORT_PROBLEM_{name}" for name in elsewhere} == set(pb.OrderImportProblem.keys())


def test_deleted_location_is_where_it_was_shipped_from_but_not_where_stock_is_taken(shop: Shop):
    where = shop.location().name
    shop.inventory.DeleteLocation(inventory_pb2.DeleteLocationRequest(name=where))
    assert import_problem(shop, historic(shop, make_stocked_line(shop), location=where)) == "LOCATION_NOT_FOUND"
    assert import_order(shop, historic(shop, location=where, **SHIPPED)).location == where


def test_batch_of_too_many_lines_is_refused_whole(shop: Shop):
    orders = [historic(shop, *[line("A")] * 501, customer="customers/nobody") for _ in range(2)]
    with refused("INVALID_FIELD"):
        import_batch(shop, *orders)


# -- mutation rules


def test_each_order_and_its_fulfilment_have_an_event_and_an_entry(shop: Shop, records: Records):
    orders = [historic(shop, **SHIPPED), historic(shop, make_stocked_line(shop))]
    before = records.last_sequence()
    request_id = new_request_id()
    results = import_batch(shop, *orders, request_id=request_id)
    entries = records.audit_entries_after(before)
    assert {entry[:4] for entry in entries} == {
        (shop.subject, "storekeep.v1.OrderService/ImportOrders", entry[2], request_id) for entry in entries
    }
    assert [entry[4] for entry in entries] == [None] * len(entries)
    recorded = {(kind, resource) for kind, resource, _ in records.events_after(before)}
    assert recorded >= {("order.imported", result.order) for result in results}
    assert shop.audit.VerifyAuditChain(audit_pb2.VerifyAuditChainRequest()).valid


def test_history_begins_with_the_import(shop: Shop):
    order = import_order(shop, historic(shop, **SHIPPED))
    (entry,) = shop.orders.ListOrderHistory(pb.ListOrderHistoryRequest(name=order.name)).entries
    assert (entry.method, entry.to_state) == ("ImportOrders", pb.ORDER_STATE_FULFILLED)


def test_retry_gives_the_same_reply_and_changes_nothing(shop: Shop, records: Records):
    orders = [historic(shop, **SHIPPED), copy_with(historic(shop), customer="customers/nobody")]
    request_id = new_request_id()
    first = import_batch(shop, *orders, request_id=request_id)
    before = records.everything()
    assert import_batch(shop, *orders, request_id=request_id) == first
    assert records.everything() == before
    with refused("REQUEST_ID_REUSED"):
        import_batch(shop, orders[0], request_id=request_id)


def test_dry_run_returns_the_same_results_and_writes_nothing(shop: Shop, records: Records):
    orders = [historic(shop, **SHIPPED), historic(shop, make_stocked_line(shop)), historic(shop, number="SK-1")]
    before = records.everything()
    tried = [result.outcome for result in import_batch(shop, *orders, validate_only=True)]
    assert records.everything() == before
    assert tried == import_outcomes(shop, *orders) == [IMPORTED, IMPORTED, REFUSED]


def test_import_needs_a_permission_of_its_own(shop: Shop):
    role = auth_pb2.Role(display_name="Clerk", permissions=["orders.read", "orders.write"])
    made = shop.auth.CreateRole(auth_pb2.CreateRoleRequest(role=role, role_id=new_id("r")))
    account = auth_pb2.ServiceAccount(display_name="Clerk", roles=[made.name])
    request = auth_pb2.CreateServiceAccountRequest(service_account=account, service_account_id=new_id("a"))
    parent = shop.auth.CreateServiceAccount(request).name
    key = shop.auth.CreateApiKey(auth_pb2.CreateApiKeyRequest(parent=parent, api_key=auth_pb2.ApiKey()))
    clerk = Shop(shop.bare_channel, api_key=key.secret)
    with refused("PERMISSION_DENIED") as refusal:
        import_batch(clerk, historic(shop, **SHIPPED))
    assert refusal.metadata == {"permission": "orders.import"}


def test_database_is_sound_after_it(shop: Shop, server: ServerProcess):
    import_batch(shop, historic(shop, **SHIPPED), historic(shop, make_stocked_line(shop)))
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout


# -- without a server


@pytest.fixture
def now_us() -> list[int]:
    """Return the current time in microseconds, in a list that a test can change."""
    return [1_700_000_000 * 1_000_000]


@pytest.fixture
def store(database: Database, now_us: list[int]) -> Iterator[Store]:
    """Open a store with the sample and the test's own clock. Verify it at the end."""
    with closing(open_store(database.url, clock=lambda: now_us[0])) as opened:
        set_expirers(opened, EXPIRERS)
        load_sample(opened)
        yield opened
        assert [finding for finding in verify(opened) if not finding.holds] == []


def import_open(store: Store, units: int, *, location_id: str) -> str:
    """Import an open order of shortbread and return the outcome."""
    lines = (HistoricLine("SHORTBREAD-12", units, Money("EUR", 500)),)
    item = HistoricOrder(new_id("N"), "ada-marsh", "EUR", PLACED_S * 1_000_000, lines=lines, location_id=location_id)
    (result,) = import_orders(store, CALL, [item], numbers=NUMBERS)
    return result.outcome


@pytest.mark.parametrize("location_id", ["", "main"])
def test_open_order_takes_the_units_of_an_expired_reservation(location_id: str, store: Store, now_us: list[int]):
    reserve(store, CALL, NewReservation((("SHORTBREAD-12", 30),), ttl_us=60_000_000))
    assert import_open(store, 20, location_id=location_id) == "REFUSED"
    now_us[0] += 60_000_000
    assert import_open(store, 20, location_id=location_id) == "IMPORTED"
    assert import_open(store, 20, location_id=location_id) == "REFUSED"


def test_batch_has_a_thousand_lines_at_most(store: Store):
    def batch(*lines: int) -> list[str]:
        one = HistoricLine("MUG-BLUE", 1, Money("EUR", 500))
        items = [
            HistoricOrder(
                new_id("N"), "ada-marsh", "EUR", PLACED_S * 1_000_000, (one,) * count, ship_time_us=PLACED_S * 1_000_000
            )
            for count in lines
        ]
        return [result.outcome for result in import_orders(store, CALL, items, numbers=NUMBERS)]

    with pytest.raises(InvalidField) as refusal:
        batch(500, 501)
    assert "orders" in str(refusal.value)
    assert batch(500, 500) == [IMPORTED_TEXT] * 2


def test_batch_costs_fifteen_statements_however_many_orders_and_lines(store: Store):
    lines = tuple(HistoricLine(sku, 1, Money("EUR", 500)) for sku in ("MUG-BLUE", "TIN-RED", "STRAINER"))

    def batch(orders: int, lines_each: int) -> list[str]:
        items = [
            HistoricOrder(
                f"N{orders}-{lines_each}-{number}",
                "ada-marsh",
                "EUR",
                PLACED_S * 1_000_000,
                lines * lines_each,
                ship_time_us=None if number == 0 else PLACED_S * 1_000_000,
            )
            for number in range(orders)
        ]
        results = import_orders(store, CALL, items, numbers=NUMBERS)
        return [result.outcome for result in results]

    batch(1, 1)  # caches the data key of the customer
    for orders, lines_each in ((2, 1), (100, 1), (2, 10)):
        outcomes: list[str] = []

        def run(orders: int = orders, lines_each: int = lines_each, outcomes: list[str] = outcomes) -> None:
            outcomes += batch(orders, lines_each)

        assert len(record_statements(run)) == 15
        assert outcomes == [IMPORTED_TEXT] * orders
