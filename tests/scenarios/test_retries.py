"""Retries: the same `request_id` and payload has one effect and one reply, in every mutation."""

from __future__ import annotations

import grpc
import pytest

from storekeep.v1 import auth_pb2, inventory_pb2, orders_pb2
from tests.support.mutations import (
    CHANGES,
    CREATES,
    STALE,
    Change,
    copy_message,
    etag_holder,
    with_etag,
    with_other_payload,
)
from tests.support.records import Records
from tests.support.refusals import refused
from tests.support.resources import LOCATION
from tests.support.shops import Shop, new_id, new_request_id

REPLAYED = ("storekeep-replayed", "true")
each_change = pytest.mark.parametrize("change", CHANGES, ids=str)


@each_change
def test_retry_gives_the_same_bytes_and_changes_nothing(shop: Shop, records: Records, change: Change):
    request = copy_message(change.prepare(shop), request_id=new_request_id())
    raw = request.SerializeToString()
    path = f"/{change.method}"
    first = shop.send(path, raw)
    before = records.everything()
    assert shop.send(path, raw) == first
    assert records.everything() == before


@each_change
def test_retry_is_marked_in_the_trailing_metadata(shop: Shop, change: Change):
    request = copy_message(change.prepare(shop), request_id=new_request_id())
    method = shop.stub(change.rpc)
    first, again = (method.with_call(request) for _ in range(2))
    assert REPLAYED not in list(first[1].trailing_metadata())
    assert list(again[1].trailing_metadata()).count(REPLAYED) == 1
    assert first[0] == again[0]


@each_change
def test_reused_request_id_is_refused_without_effect(shop: Shop, records: Records, change: Change):
    request = copy_message(change.prepare(shop), request_id=new_request_id())
    change.send(shop, request)
    before = records.everything()
    with refused("REQUEST_ID_REUSED") as refusal:
        change.send(shop, with_other_payload(request))
    assert refusal.metadata == {"request_id": request.request_id}
    assert records.everything() == before


@each_change
def test_failed_request_is_not_remembered(shop: Shop, change: Change):
    request = copy_message(change.prepare(shop), request_id=new_request_id())
    if change.rpc in CREATES:
        taken = copy_message(request, request_id="")
        change.send(shop, taken)
        with refused("SKU_TAKEN" if change.rpc == "CreateVariant" else "ALREADY_EXISTS"):
            change.send(shop, request)
        request = copy_message(change.prepare(shop), request_id=request.request_id)
    elif etag_holder(request) is None:
        with refused("LOCATION_NOT_FOUND"):
            change.send(shop, copy_message(request, location=LOCATION.missing))
    else:
        with refused("ETAG_MISMATCH"):
            change.send(shop, with_etag(request, STALE))
    assert change.send(shop, request).name


def test_retry_after_another_change_gives_the_first_reply(shop: Shop):
    sku = shop.variant(stock=5).sku
    request = inventory_pb2.AdjustStockRequest(
        name=f"locations/main/stockLevels/{sku}", quantity_delta=1, request_id=new_request_id()
    )
    first = shop.inventory.AdjustStock(request)
    shop.adjust(sku, 10)
    assert shop.inventory.AdjustStock(request) == first
    assert shop.level(sku).on_hand == 16


def test_dry_run_after_the_call_returns_its_reply(shop: Shop):
    request = shop.order_request(request_id=new_request_id())
    placed = shop.orders.PlaceOrder(request)
    reply, call = shop.orders.PlaceOrder.with_call(copy_message(request, validate_only=True))
    assert reply == placed
    assert REPLAYED in list(call.trailing_metadata())


def test_retry_whose_effect_would_fail_is_marked(shop: Shop):
    request = shop.order_request((shop.variant(stock=1).sku, 1), request_id=new_request_id())
    placed = shop.orders.PlaceOrder(request)
    reply, call = shop.orders.PlaceOrder.with_call(request)
    assert reply == placed
    assert REPLAYED in list(call.trailing_metadata())


def test_calls_without_a_request_id_and_failed_calls_are_not_marked(shop: Shop):
    for _ in range(2):
        _, call = shop.orders.PlaceOrder.with_call(shop.order_request())
        assert REPLAYED not in list(call.trailing_metadata())
    request = shop.order_request((shop.variant().sku, 1), request_id=new_request_id())
    for _ in range(2):
        failed = shop.orders.PlaceOrder.future(request).exception()
        assert REPLAYED not in list(failed.trailing_metadata())


def test_request_id_of_one_method_is_free_in_another(shop: Shop):
    request_id = new_request_id()
    order = shop.orders.PlaceOrder(shop.order_request(request_id=request_id))
    assert shop.confirm(order, request_id=request_id).etag != order.etag


def make_clerk(shop: Shop) -> Shop:
    """Create another account and connect as it."""
    account = shop.auth.CreateServiceAccount(
        auth_pb2.CreateServiceAccountRequest(
            service_account=auth_pb2.ServiceAccount(display_name="Clerk", roles=["roles/operator"]),
            service_account_id=new_id("clerk"),
        )
    )
    created = shop.auth.CreateApiKey(
        auth_pb2.CreateApiKeyRequest(parent=account.name, api_key=auth_pb2.ApiKey(display_name="till"))
    )
    return Shop(shop.bare_channel, api_key=created.secret)


def test_request_id_of_one_caller_is_free_for_another(shop: Shop):
    clerk = make_clerk(shop)
    request = shop.order_request(request_id=new_request_id())
    assert shop.orders.PlaceOrder(request).name != clerk.orders.PlaceOrder(request).name


def test_each_method_and_caller_gets_its_own_reply_to_a_request_id(shop: Shop):
    request_id = new_request_id()
    clerk = make_clerk(shop)
    placing = shop.order_request(request_id=request_id)
    placed = [one.orders.PlaceOrder(placing) for one in (shop, clerk)]
    confirming = [orders_pb2.ConfirmOrderRequest(name=order.name, request_id=request_id) for order in placed]
    confirmed = [one.orders.ConfirmOrder(request) for one, request in zip((shop, clerk), confirming, strict=True)]
    for _ in range(2):
        assert [one.orders.PlaceOrder(placing) for one in (shop, clerk)] == placed
        again = [one.orders.ConfirmOrder(request) for one, request in zip((shop, clerk), confirming, strict=True)]
        assert again == confirmed


def test_failure_is_not_answered_by_what_another_method_or_caller_did(shop: Shop):
    clerk = make_clerk(shop)
    request_id = new_request_id()
    order = shop.orders.PlaceOrder(shop.order_request(request_id=request_id))
    with refused("ORDER_NOT_FOUND"):
        shop.orders.ConfirmOrder(orders_pb2.ConfirmOrderRequest(name="orders/none", request_id=request_id))
    confirming = orders_pb2.ConfirmOrderRequest(name=order.name, request_id=new_request_id())
    shop.orders.ConfirmOrder(confirming)
    shop.cancel(order)
    with refused("ILLEGAL_STATE"):
        clerk.orders.ConfirmOrder(confirming)


def test_request_id_is_free_without_any(shop: Shop):
    request = shop.order_request()
    assert shop.orders.PlaceOrder(request).name != shop.orders.PlaceOrder(request).name


@pytest.mark.parametrize(
    "request_id", ["1", "not-a-uuid", "01a20515-8e15-77eb-9eed-db54863c8f7f0", "\x00" * 36, "é" * 36]
)
def test_request_id_that_is_no_uuid_is_refused(shop: Shop, request_id: str):
    with refused("INVALID_FIELD") as refusal:
        shop.inventory.CreateLocation(copy_message(LOCATION.create_request(shop, new_id()), request_id=request_id))
    assert list(refusal.violations) == ["request_id"]


def test_retry_survives_a_restart(make_server):
    server = make_server()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        request = shop.order_request(request_id=new_request_id())
        placed = shop.orders.PlaceOrder(request)
        server.kill()
        server.restart()
        assert shop.stub("PlaceOrder")(request, wait_for_ready=True) == placed
