"""Concurrent clients: no unit is allocated twice, no change is lost, no retry has a second effect."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from storekeep.v1 import inventory_pb2, orders_pb2, products_pb2
from tests.conftest import MakeServer
from tests.support.concurrent_clients import CLIENTS, call_at_once, reasons
from tests.support.processes import ServerProcess
from tests.support.records import Records
from tests.support.refusals import Refusal, parse_refusal, refusal, refused
from tests.support.resources import KINDS, PRODUCT, Kind
from tests.support.shops import MAIN, Shop, new_id, new_request_id

each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


# -- stock


def test_last_unit_goes_to_exactly_one(shops: list[Shop], shop: Shop):
    sku, customer = shop.variant(stock=1).sku, shop.customer().name
    outcomes = call_at_once(shops, lambda client: client.order((sku, 1), customer=customer))
    assert reasons(outcomes) == {"": 1, "OUT_OF_STOCK": CLIENTS - 1}
    assert (shop.level(sku).allocated, shop.level(sku).available) == (1, 0)


def test_last_units_are_taken_by_orders_that_name_the_sku_twice(shops: list[Shop], shop: Shop):
    sku, customer = shop.variant(stock=7).sku, shop.customer().name
    outcomes = call_at_once(shops, lambda client: client.order((sku, 1), (sku, 1), customer=customer))
    assert reasons(outcomes) == {"": 3, "OUT_OF_STOCK": CLIENTS - 3}
    assert shop.level(sku).allocated == 6


def test_thousands_of_orders_allocate_each_unit_once(shops: list[Shop], shop: Shop, records: Records):
    stock, clients, orders = 60, 40, 50
    skus = [shop.variant(stock=stock).sku for _ in range(20)]
    customer = shop.customer().name

    def buy(client: Shop) -> Counter[str]:
        dice = random.Random(threading.get_ident())
        bought: Counter[str] = Counter()
        for _ in range(orders):
            lines = [(sku, dice.randint(1, 3)) for sku in dice.choices(skus, k=dice.randint(1, 3))]
            outcome = refusal(client.order, *lines, customer=customer)
            if outcome is None:
                for sku, quantity in lines:
                    bought[sku] += quantity
            else:
                assert outcome.reason == "OUT_OF_STOCK"
        return bought

    sold = sum(call_at_once(shops, buy, clients=clients), Counter())
    for sku in skus:
        level = shop.level(sku)
        assert (level.on_hand, level.allocated, level.available) == (stock, sold[sku], stock - sold[sku])
    lines = records.rows(
        "SELECT sku, SUM(quantity) FROM order_lines JOIN orders ON id = order_id WHERE customer_id = ? GROUP BY sku",
        customer.rpartition("/")[2],
    )
    assert dict(lines) == dict(sold)
    assert sum(sold.values()) > stock * len(skus) * 0.9


def test_adjustments_at_once_are_all_in_the_ledger(shops: list[Shop], shop: Shop, records: Records):
    sku = shop.variant().sku
    outcomes = call_at_once(shops, lambda client: client.adjust(sku, 1))
    assert sorted(level.on_hand for level in outcomes) == list(range(1, CLIENTS + 1))
    ledger = records.rows("SELECT on_hand FROM stock_movements WHERE sku = ? ORDER BY id", sku)
    assert ledger == [(units,) for units in range(1, CLIENTS + 1)]


def test_counts_at_once_with_the_expected_quantity_have_one_winner(shops: list[Shop], shop: Shop):
    sku = shop.variant(stock=5).sku
    name = f"{MAIN}/stockLevels/{sku}"
    request = inventory_pb2.SetStockRequest(name=name, quantity=9, expected_quantity=5)
    outcomes = call_at_once(shops, lambda client: client.inventory.SetStock(request))
    assert reasons(outcomes) == {"": 1, "QUANTITY_MISMATCH": CLIENTS - 1}


# -- retries


def test_same_request_id_at_once_has_one_effect_and_equal_replies(shops: list[Shop], shop: Shop, records: Records):
    request = shop.order_request((shop.variant(stock=CLIENTS).sku, 1), request_id=new_request_id())
    raw = request.SerializeToString()
    before = records.last_sequence()
    replies = call_at_once(shops, lambda client: client.send("/storekeep.v1.OrderService/PlaceOrder", raw))
    assert len(set(replies)) == 1
    assert orders_pb2.Order.FromString(replies[0]).customer == request.customer
    assert len(records.events_after(before)) == 1
    assert shop.level(request.lines[0].sku).allocated == 1


def test_same_request_id_at_once_with_different_payloads_has_one_winner(shops: list[Shop], shop: Shop):
    sku, customer, request_id = shop.variant(stock=CLIENTS).sku, shop.customer().name, new_request_id()
    outcomes = call_at_once(
        shops, lambda client: client.order((sku, 1), customer=customer, request_id=request_id, note=new_id())
    )
    assert reasons(outcomes) == {"": 1, "REQUEST_ID_REUSED": CLIENTS - 1}
    assert shop.level(sku).allocated == 1


# -- resources


@each_kind
def test_updates_at_once_with_the_same_etag_have_one_winner(shops: list[Shop], shop: Shop, kind: Kind):
    resource = kind.make(shop)

    def update(client: Shop) -> Any:
        changed = kind.changed(resource, etag=resource.etag)
        changed.display_name = new_id()
        return kind.update(client, changed, "display_name")

    outcomes = call_at_once(shops, update, clients=20)
    assert reasons(outcomes) == {"": 1, "ETAG_MISMATCH": 19}
    (winner,) = [outcome for outcome in outcomes if not isinstance(outcome, Refusal)]
    assert kind.get(shop, resource.name) == winner


def test_updates_at_once_without_etag_all_count(shops: list[Shop], shop: Shop):
    product = shop.product()

    def rename(client: Shop) -> Any:
        return PRODUCT.update(client, products_pb2.Product(name=product.name, display_name=new_id()), "display_name")

    assert {reply.etag for reply in call_at_once(shops, rename, clients=20)} == {f"v{n}" for n in range(2, 22)}


@each_kind
def test_creations_at_once_under_one_id_have_one_winner(shops: list[Shop], shop: Shop, kind: Kind):
    request = kind.create_request(shop, new_id())
    outcomes = call_at_once(shops, lambda client: client.stub(f"Create{kind.noun}")(request), clients=20)
    taken = "SKU_TAKEN" if kind.noun == "Variant" else "ALREADY_EXISTS"
    assert reasons(outcomes) == {"": 1, taken: 19}


# -- orders


def test_concurrent_cancellations_release_the_stock_once(shops: list[Shop], shop: Shop):
    sku = shop.variant(stock=10).sku
    kept, order = shop.order((sku, 3)), shop.order((sku, 4))
    outcomes = call_at_once(shops, lambda client: client.cancel(order), clients=20)
    assert reasons(outcomes) == {"": 1, "ILLEGAL_STATE": 19}
    assert shop.level(sku).allocated == kept.lines[0].quantity


def test_confirmation_against_cancellation_with_the_same_etag_has_one_winner(shops: list[Shop], shop: Shop):
    sku = shop.variant(stock=1).sku
    order = shop.order((sku, 1))
    turns = iter([Shop.confirm, Shop.cancel] * 10)
    outcomes = call_at_once(shops, lambda client: next(turns)(client, order, etag=order.etag), clients=20)
    assert reasons(outcomes) == {"": 1, "ETAG_MISMATCH": 19}
    state = shop.orders.GetOrder(orders_pb2.GetOrderRequest(name=order.name)).state
    assert shop.level(sku).allocated == (1 if state == orders_pb2.ORDER_STATE_CONFIRMED else 0)


def test_confirmation_against_cancellation_ends_cancelled_with_a_whole_history(shops: list[Shop], shop: Shop):
    sku = shop.variant(stock=1).sku
    order = shop.order((sku, 1))
    turns = iter([Shop.confirm, Shop.cancel] * 10)
    call_at_once(shops, lambda client: next(turns)(client, order), clients=20)
    history = shop.orders.ListOrderHistory(orders_pb2.ListOrderHistoryRequest(name=order.name)).entries
    assert [entry.sequence for entry in history] == list(range(1, len(history) + 1))
    assert all(one.to_state == other.from_state for one, other in itertools.pairwise(history))
    assert history[-1].to_state == orders_pb2.ORDER_STATE_CANCELLED
    assert shop.level(sku).allocated == 0


# -- overload and deadlines


@pytest.fixture
def busy(make_server: MakeServer) -> Iterator[tuple[ServerProcess, Shop]]:
    """Start a server with a write queue of one, and connect a client."""
    server = make_server(write_queue_max="1")
    with grpc.insecure_channel(server.address) as channel:
        yield server, Shop(channel, api_key=server.admin_key)


def build_adjust_request(sku: str, **fields: Any) -> inventory_pb2.AdjustStockRequest:
    return inventory_pb2.AdjustStockRequest(name=f"{MAIN}/stockLevels/{sku}", quantity_delta=1, **fields)


def get_outcome(call: grpc.Future) -> Any:
    try:
        return call.result()
    except grpc.RpcError as error:
        return parse_refusal(error)


def make_variant(shop: Shop) -> str:
    """Create a variant and return its SKU. The only place in the queue may have a write of the server itself."""
    give_up = time.monotonic() + 60
    while True:
        try:
            return shop.variant().sku
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def test_full_queue_rejects_at_once_and_loses_nothing(busy: tuple[ServerProcess, Shop]):
    server, shop = busy
    sku = make_variant(shop)
    with server.database.write_lock():
        calls = [shop.inventory.AdjustStock.future(build_adjust_request(sku))]
        time.sleep(0.5)  # the blocked writer holds this call, so later calls cannot share its commit
        calls += [shop.inventory.AdjustStock.future(build_adjust_request(sku)) for _ in range(30)]
        give_up = time.monotonic() + 60
        while sum(call.done() for call in calls) < 29 and time.monotonic() < give_up:
            time.sleep(0.01)
        rejected = [get_outcome(call) for call in calls if call.done()]
    assert reasons(rejected).keys() == {"OVERLOADED"}
    assert len(rejected) >= 29  # all except the one in the queue
    assert all(refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED for refusal in rejected)
    assert all(0 < refusal.retry_after_s <= 1 for refusal in rejected)
    outcomes = reasons([get_outcome(call) for call in calls])
    assert outcomes.total() == len(calls)
    assert shop.level(sku).on_hand == outcomes[""] > 0


def test_reads_are_answered_while_no_write_is(shop: Shop, server: ServerProcess):
    name = shop.product().name
    with server.database.write_lock():
        waiting = shop.products.CreateProduct.future(PRODUCT.create_request(shop, new_id()))
        assert PRODUCT.get(shop, name).name == name
        assert not waiting.done()
    assert waiting.result().name


@pytest.mark.parametrize("behind", [0, 1], ids=["first in the queue", "second in the queue"])
def test_write_whose_deadline_passes_in_the_queue_is_never_made(make_server: MakeServer, behind: int):
    server = make_server()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        sku, other = shop.variant().sku, shop.variant().sku
        with server.database.write_lock():
            ahead = [shop.inventory.AdjustStock.future(build_adjust_request(other)) for _ in range(behind)]
            with pytest.raises(grpc.RpcError) as late:
                shop.inventory.AdjustStock(build_adjust_request(sku), timeout=1)
            give_up = time.monotonic() + 2  # less than the server waits for the lock
            while '"reason":"DEADLINE_EXCEEDED"' not in server.log() and time.monotonic() < give_up:
                time.sleep(0.01)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert all(call.result().on_hand == 1 for call in ahead)
        with refused("STOCK_LEVEL_NOT_FOUND"):
            shop.level(sku)
        server.await_log('"reason":"DEADLINE_EXCEEDED"')


def list_orders_placed_after(records: Records, sequence: int) -> list[str]:
    """Return the names of the orders placed after an event."""
    return [name for event, name, _ in records.events_after(sequence) if event == "order.placed"]


def test_deadline_that_has_passed_already_changes_nothing(shop: Shop, server: ServerProcess, records: Records):
    request = shop.order_request(request_id=new_request_id())
    before = records.last_sequence()
    with server.database.write_lock():
        for timeout in (0, 1e-9, 1e-6):
            with pytest.raises(grpc.RpcError) as late:
                shop.orders.PlaceOrder(request, timeout=timeout)
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        # Calls that reached the server have a deadline of about 1 ms from when it read them, which is before it answers
        # the later call below. The writer stays blocked until that deadline has certainly passed.
        assert shop.level(request.lines[0].sku).allocated == 0
        time.sleep(0.1)
    assert shop.adjust(shop.variant().sku, 1).on_hand == 1
    assert list_orders_placed_after(records, before) == []
    assert [shop.orders.PlaceOrder(request).name for _ in range(2)] == list_orders_placed_after(records, before) * 2


def test_cancelled_calls_that_are_retried_have_one_effect_each(shop: Shop):
    sku = shop.variant().sku
    requests = [build_adjust_request(sku, request_id=new_request_id()) for _ in range(30)]
    for request in requests:
        shop.inventory.AdjustStock.future(request).cancel()
    assert [shop.inventory.AdjustStock(request).on_hand for request in requests]
    assert shop.level(sku).on_hand == len(requests)
