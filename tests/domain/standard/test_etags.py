"""Etags: a change with an old etag is rejected, and the error has the current etag."""

from __future__ import annotations

import grpc
import pytest

from storekeep.v1 import inventory_pb2, orders_pb2
from tests.support.mutations import CHANGES, CREATES, STALE, Change, etag_holder, with_etag
from tests.support.records import Records
from tests.support.refusals import refused
from tests.support.resources import KINDS, Kind
from tests.support.shops import Shop

WITH_ETAG = [change for change in CHANGES if change.rpc not in {*CREATES, "PlaceOrder", "ReserveStock"}]
each_change = pytest.mark.parametrize("change", WITH_ETAG, ids=str)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


def current(shop: Shop, request) -> str:
    """Return the current etag of the resource that a request changes."""
    name = getattr(request, "name", "") or getattr(request, "parent", "") or etag_holder(request).name
    if "/stockLevels/" in name:
        return shop.level(name.rpartition("/")[2]).etag
    if "/fulfillments/" in name:
        return shop.orders.GetFulfillment(orders_pb2.GetFulfillmentRequest(name=name)).etag
    if name.startswith("reservations/"):
        return shop.inventory.GetReservation(inventory_pb2.GetReservationRequest(name=name)).etag
    if name.startswith("orders/"):
        return shop.orders.GetOrder(orders_pb2.GetOrderRequest(name=name)).etag
    return next(kind for kind in KINDS if _matches_name(kind, name)).get(shop, name).etag


def _matches_name(kind: Kind, name: str) -> bool:
    return kind.missing.split("/")[::2] == name.split("/")[::2]


@each_change
def test_change_with_current_etag_succeeds(shop: Shop, change: Change):
    request = change.prepare(shop)
    etag = current(shop, request)
    reply = change.send(shop, with_etag(request, etag))
    assert change.event.endswith((".created", ".added")) or reply.etag != etag


@each_change
def test_change_with_stale_etag_is_refused_with_the_current_one(shop: Shop, records: Records, change: Change):
    request = change.prepare(shop)
    etag = current(shop, request)
    before = records.everything()
    with refused("ETAG_MISMATCH") as refusal:
        change.send(shop, with_etag(request, STALE))
    assert refusal.code is grpc.StatusCode.ABORTED
    assert refusal.metadata["etag"] == etag
    assert refusal.metadata["resource"] in str(request)
    assert records.everything() == before


@each_kind
def test_etag_changes_with_every_change(shop: Shop, kind: Kind):
    first = kind.make(shop)
    second = kind.update(shop, kind.changed(first), *kind.changes)
    third = kind.do(shop, "Delete", first.name)
    assert len({first.etag, second.etag, third.etag}) == 3
    assert kind.get(shop, first.name).etag == third.etag


@each_kind
def test_update_without_etag_overwrites(shop: Shop, kind: Kind):
    resource = kind.make(shop)
    kind.update(shop, kind.changed(resource, fields=["display_name"]), "display_name")
    resource.etag = ""
    assert kind.update(shop, resource, "display_name").display_name == resource.display_name


@each_kind
@pytest.mark.parametrize("etag", ["v", "v01", " v1", "V1", "*", "v1\x00", "é", "v" * 64])
def test_etag_that_is_none_of_ours_is_a_mismatch(shop: Shop, kind: Kind, etag: str):
    name = kind.make(shop).name
    with refused("ETAG_MISMATCH") as refusal:
        kind.do(shop, "Delete", name, etag=etag)
    assert refusal.metadata == {"resource": name, "etag": "v1"}


def test_etag_beyond_its_limit_is_refused(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        KINDS[0].do(shop, "Delete", KINDS[0].make(shop).name, etag="v" * 65)
    assert list(refusal.violations) == ["etag"]


def test_order_changes_the_etag_of_the_levels_that_it_takes_from(shop: Shop):
    sku = shop.variant(stock=5).sku
    before = shop.level(sku).etag
    shop.order((sku, 1))
    with refused("ETAG_MISMATCH"):
        shop.adjust(sku, 1, etag=before)


@pytest.mark.parametrize("rpc", ["AdjustStock", "SetStock"])
def test_etag_of_a_level_that_is_not_there_yet_is_a_mismatch(shop: Shop, rpc: str):
    name = f"locations/main/stockLevels/{shop.variant().sku}"
    fields = {"quantity_delta": 1} if rpc == "AdjustStock" else {"quantity": 1}
    request = getattr(inventory_pb2, f"{rpc}Request")(name=name, etag="v1", **fields)
    with refused("ETAG_MISMATCH") as refusal:
        shop.stub(rpc)(request)
    assert refusal.metadata == {"resource": name, "etag": "v0"}
