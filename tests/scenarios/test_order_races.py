"""Races over gRPC: losing calls write nothing, and no unit is lost or allocated twice."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.v1 import inventory_pb2, orders_pb2, orders_pb2_grpc
from tests.conftest import MakeServer
from tests.support.buyers import verify
from tests.support.concurrent_clients import (
    CLIENTS,
    call_at_once,
    call_concurrently,
    check_levels,
    order_units,
    reasons,
    run_clients,
)
from tests.support.order_cases import apply, make_confirmed, make_two_line_order, units
from tests.support.order_cases import edit as order_edit
from tests.support.processes import ServerProcess
from tests.support.records import Records
from tests.support.refusals import Refusal, refusal
from tests.support.shops import MAIN, Shop, new_request_id

ROUNDS = 8


def count_rows(records: Records) -> Counter[str]:
    """Return table -> number of rows."""
    return Counter({table: len(rows) for table, rows in records.everything().items()})


def count_new_rows(records: Records, before: Counter[str]) -> dict[str, int]:
    """Return table -> number of new rows, without unchanged tables."""
    after = count_rows(records)
    return {table: after[table] - before[table] for table in after if after[table] != before[table]}


# -- losers


def test_losers_of_the_last_units_leave_no_row(shops: list[Shop], shop: Shop, records: Records):
    sku, other, customer = shop.variant(stock=2).sku, shop.variant(stock=CLIENTS).sku, shop.customer().name
    before = count_rows(records)

    def buy(client: Shop) -> Any:
        return client.order((other, 1), (sku, 1), (sku, 1), customer=customer, request_id=new_request_id())

    outcomes = call_at_once(shops, buy)
    assert reasons(outcomes) == {"": 1, "OUT_OF_STOCK": CLIENTS - 1}
    # The second entry of the audit log is the event that the stock is out.
    written = {"orders": 1, "order_lines": 3, "stock_movements": 3, "audit_entries": 2, "replies": 1}
    assert count_new_rows(records, before) == written
    assert [shop.level(one).allocated for one in (sku, other)] == [2, 1]


def test_losers_of_the_last_reservation_leave_no_row(shops: list[Shop], shop: Shop, records: Records):
    sku, other = shop.variant(stock=3).sku, shop.variant(stock=CLIENTS).sku
    before = count_rows(records)
    outcomes = call_at_once(shops, lambda client: client.reserve((other, 1), (sku, 2), request_id=new_request_id()))
    assert reasons(outcomes) == {"": 1, "OUT_OF_STOCK": CLIENTS - 1}
    written = {"reservations": 1, "reservation_lines": 2, "stock_movements": 2, "audit_entries": 1, "replies": 1}
    assert count_new_rows(records, before) == written


def test_losers_of_one_order_leave_no_row(shops: list[Shop], shop: Shop, records: Records):
    order = make_confirmed(shop)
    made = shop.fulfill(order)
    before = count_rows(records)
    request = orders_pb2.ShipFulfillmentRequest(name=made.name, carrier="Post")
    outcomes = call_at_once(shops, lambda client: client.orders.ShipFulfillment(request))
    assert reasons(outcomes) == {"": 1, "ILLEGAL_STATE": CLIENTS - 1}
    assert count_new_rows(records, before) == {"stock_movements": 2, "audit_entries": 2}


# -- many reservations


def test_many_concurrent_reservations_lose_no_unit(
    shops: list[Shop], shop: Shop, server: ServerProcess, records: Records
):
    stock = {shop.variant(stock=40).sku: 40 for _ in range(20)}
    before = records.value("SELECT COUNT(*) FROM reservations")
    account = run_clients(shops, list(stock), customer=shop.customer().name, clients=40, reservations=1_000)
    check_levels(shop, account, stock=stock)
    assert account.asked == 1_000
    assert account.refused.keys() == {"OUT_OF_STOCK"}
    made = account.asked - account.refused.total()
    assert records.value("SELECT COUNT(*) FROM reservations") - before == made > 0
    verify(server)


# -- edits


def test_edits_of_many_who_saw_the_same_have_one_winner(shops: list[Shop], shop: Shop, records: Records):
    order = make_two_line_order(shop)
    before = count_rows(records)

    def edit(client: Shop) -> Any:
        request = apply(order, change={1: random.randint(4, 8)})
        request.etag = order.etag
        return client.orders.ApplyOrderEdit(request)

    outcomes = call_at_once(shops, edit)
    assert reasons(outcomes) == {"": 1, "ETAG_MISMATCH": CLIENTS - 1}
    lost = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    assert {refusal.metadata["etag"] for refusal in lost} == {shop.get_order(order).etag} == {"v2"}
    assert count_new_rows(records, before) == {"stock_movements": 1, "audit_entries": 1}
    assert shop.level(order.lines[0].sku).allocated == shop.get_order(order).lines[0].quantity


def test_edits_that_are_tried_again_with_the_current_order_all_count(shops: list[Shop], shop: Shop):
    order = shop.order((shop.variant(stock=50).sku, 1))

    def add_one(client: Shop) -> int:
        for attempt in range(1, 200):
            seen = client.get_order(order)
            request = apply(order, change={1: seen.lines[0].quantity + 1})
            request.etag = seen.etag
            lost = refusal(client.orders.ApplyOrderEdit, request)
            if lost is None:
                return attempt
            assert lost.reason == "ETAG_MISMATCH"
        raise AssertionError("never was first")

    call_at_once(shops, add_one, clients=15)
    after = shop.get_order(order)
    assert (after.lines[0].quantity, after.etag) == (16, "v16")
    assert shop.level(order.lines[0].sku).allocated == 16


# -- conflicting calls on one order


def call_conflicting(stub: orders_pb2_grpc.OrderServiceStub, name: str, fulfillment: str) -> list[Any]:
    """Make conflicting calls on one order concurrently and return their outcomes."""
    edit = orders_pb2.ApplyOrderEditRequest(name=name, edit=order_edit(change={1: 2}, remove=(2,)))
    bind = orders_pb2.CreateFulfillmentRequest(parent=name, lines=units((1, 0)))
    return call_concurrently(
        [
            lambda: stub.CancelOrder(orders_pb2.CancelOrderRequest(name=name)),
            lambda: stub.ShipFulfillment(orders_pb2.ShipFulfillmentRequest(name=fulfillment)),
            lambda: stub.CancelOrderLines(orders_pb2.CancelOrderLinesRequest(name=name, lines=units((1, 2)))),
            lambda: stub.ApplyOrderEdit(edit),
            lambda: stub.CreateFulfillment(bind),
            lambda: stub.HoldOrder(orders_pb2.HoldOrderRequest(name=name)),
        ]
    )


def test_order_with_conflicting_calls_stays_consistent(shop: Shop, server: ServerProcess):
    for _ in range(ROUNDS):
        order = make_confirmed(shop)
        outcomes = call_conflicting(shop.orders, order.name, shop.fulfill(order, (1, 1)).name)
        assert reasons(outcomes).keys() <= {"", "ILLEGAL_STATE", "UNITS_NOT_OPEN", "ORDER_HELD"}
        after = shop.get_order(order)
        for line, (ordered, still_open, fulfilled, cancelled_units) in zip(
            after.lines, order_units(after), strict=True
        ):
            assert ordered == still_open + fulfilled + cancelled_units
            level = shop.level(line.sku)
            assert (level.on_hand, level.allocated) == (9 - fulfilled, still_open)
        cancelled, shipped = (not isinstance(outcome, Refusal) for outcome in outcomes[:2])
        assert shipped == any(fulfilled for _, _, fulfilled, _ in order_units(after))
        assert not (cancelled and shipped)
        assert cancelled == (after.state == orders_pb2.ORDER_STATE_CANCELLED)
    verify(server)


# -- expiry time


EXPIRING = 40
ROUNDS_MAX = 10
"""On a busy machine, all calls of a round may come before the expiry, or all after it."""


def plan_around_expiry(expire_times: list[Timestamp], calls: list[Callable[[], Any]]) -> list[tuple[float, Any]]:
    """Return calls with their times: most are just before the expiry of what they are about, the others after it."""
    return [
        (expire_time.ToMicroseconds() / 1e6 + (number - 0.7 * len(calls)) * 0.03, call)
        for number, (expire_time, call) in enumerate(zip(expire_times, calls, strict=True))
    ]


def call_at_times(calls: list[tuple[float, Callable[[], Any]]]) -> list[Any]:
    """Make calls at the given times (Unix time in seconds) and return their outcomes."""

    def wait(when: float, call: Callable[[], Any]) -> Any:
        time.sleep(max(0.0, when - time.time()))
        return call()

    return call_concurrently([lambda when=when, call=call: wait(when, call) for when, call in calls])


@pytest.fixture
def hasty(make_server: MakeServer) -> Iterator[tuple[ServerProcess, Shop]]:
    """Start a server on which orders expire after three seconds, and connect a client."""
    server = make_server(unpaid_order_ttl_s="3")
    with grpc.insecure_channel(server.address) as channel:
        yield server, Shop(channel, api_key=server.admin_key)


def test_expiry_against_confirmation_leaves_each_order_one_end(hasty: tuple[ServerProcess, Shop]):
    server, shop = hasty
    ends: set[str] = set()
    for _ in range(ROUNDS_MAX):
        ends |= confirm_around_expiry(shop)
        if ends == {"", "ILLEGAL_STATE"}:
            break
    assert ends == {"", "ILLEGAL_STATE"}
    verify(server)


def confirm_around_expiry(shop: Shop) -> set[str]:
    """Confirm orders around their expiry, check the end of each, and return how the confirmations ended."""
    orders, sku, customer = EXPIRING, shop.variant(stock=EXPIRING).sku, shop.customer().name
    placed = [shop.orders.PlaceOrder.future(shop.order_request((sku, 1), customer=customer)) for _ in range(orders)]
    made = [call.result() for call in placed]
    confirmations = [lambda order=order: shop.confirm(order) for order in made]
    outcomes = call_at_times(plan_around_expiry([order.expire_time for order in made], confirmations))
    for order, outcome in zip(made, outcomes, strict=True):
        state = shop.get_order(order).state
        lost = isinstance(outcome, Refusal)
        assert state == (orders_pb2.ORDER_STATE_EXPIRED if lost else orders_pb2.ORDER_STATE_CONFIRMED)
        assert not lost or (outcome.metadata["state"], outcome.metadata["wanted"]) == ("EXPIRED", "CONFIRMED")
    confirmed_count = reasons(outcomes)[""]
    level = shop.level(sku)
    assert (level.allocated, level.available) == (confirmed_count, orders - confirmed_count)
    if confirmed_count < orders:
        assert shop.order((sku, orders - confirmed_count), customer=customer).state == orders_pb2.ORDER_STATE_PLACED
    return set(reasons(outcomes))


def test_expiry_against_commitment_leaves_each_reservation_one_end(shop: Shop, server: ServerProcess):
    ends: set[str] = set()
    for _ in range(ROUNDS_MAX):
        ends |= commit_around_expiry(shop)
        if ends == {"", "ILLEGAL_STATE"}:
            break
    assert ends == {"", "ILLEGAL_STATE"}
    verify(server)


def commit_around_expiry(shop: Shop) -> set[str]:
    """Commit reservations around their expiry, check the stock, and return how the commitments ended."""
    count, sku = EXPIRING, shop.variant(stock=EXPIRING).sku
    request = inventory_pb2.ReserveStockRequest(
        lines=[inventory_pb2.ReserveStockLine(sku=sku, quantity=1)], ttl=Duration(seconds=3)
    )
    made = [call.result() for call in [shop.inventory.ReserveStock.future(request) for _ in range(count)]]
    requests = [inventory_pb2.CommitReservationRequest(name=one.name) for one in made]
    commitments = [lambda request=request: shop.inventory.CommitReservation(request) for request in requests]
    outcomes = call_at_times(plan_around_expiry([one.expire_time for one in made], commitments))
    level, shipped = shop.level(sku), reasons(outcomes)[""]
    assert (level.on_hand, level.reserved, level.available) == (count - shipped, 0, count - shipped)
    if shipped < count:
        shop.order((sku, count - shipped))
    return set(reasons(outcomes))


# -- retries


def _reserved(shop: Shop, units: int = 2) -> inventory_pb2.Reservation:
    return shop.reserve((shop.variant(stock=9).sku, units))


def _transfer(shop: Shop, **fields: Any) -> inventory_pb2.TransferStockRequest:
    lines = [inventory_pb2.TransferLine(sku=shop.variant(stock=9).sku, quantity=1)]
    return inventory_pb2.TransferStockRequest(source=MAIN, destination=shop.location().name, lines=lines, **fields)


RETRIED: dict[str, tuple[Callable[[Shop], Any], int]] = {
    "inventory.ReserveStock": (
        lambda shop: inventory_pb2.ReserveStockRequest(
            lines=[inventory_pb2.ReserveStockLine(sku=shop.variant(stock=9).sku, quantity=1)]
        ),
        1,
    ),
    "inventory.CommitReservation": (
        lambda shop: inventory_pb2.CommitReservationRequest(name=_reserved(shop).name),
        1,
    ),
    "inventory.ReleaseReservation": (
        lambda shop: inventory_pb2.ReleaseReservationRequest(name=_reserved(shop).name),
        1,
    ),
    "inventory.TransferStock": (_transfer, 2),
    "orders.CancelOrder": (lambda shop: orders_pb2.CancelOrderRequest(name=make_two_line_order(shop).name), 1),
    "orders.CancelOrderLines": (
        lambda shop: orders_pb2.CancelOrderLinesRequest(name=make_two_line_order(shop).name, lines=units((1, 1))),
        1,
    ),
    "orders.ApplyOrderEdit": (lambda shop: apply(make_two_line_order(shop), change={1: 5}), 1),
    "orders.CreateFulfillment": (
        lambda shop: orders_pb2.CreateFulfillmentRequest(parent=make_confirmed(shop).name, lines=units((1, 1))),
        1,
    ),
    "orders.ShipFulfillment": (
        lambda shop: orders_pb2.ShipFulfillmentRequest(name=shop.fulfill(make_confirmed(shop)).name),
        2,
    ),
}
"""Mutation -> its request and the number of its events."""


@pytest.mark.parametrize("rpc", RETRIED)
def test_same_request_id_of_many_has_one_effect_and_equal_replies(
    shops: list[Shop], shop: Shop, records: Records, rpc: str
):
    service, method = rpc.split(".")
    prepare, events = RETRIED[rpc]
    request = prepare(shop)
    request.request_id = new_request_id()
    before = records.last_sequence()
    replies = call_at_once(shops, lambda client: getattr(getattr(client, service), method)(request))
    assert reasons(replies) == {"": CLIENTS}
    assert len({reply.SerializeToString(deterministic=True) for reply in replies}) == 1
    assert len(records.events_after(before)) == events
