"""Batches beside other callers and through a kill: nobody waits for all of one, and a repeated call does the rest."""

from __future__ import annotations

import threading

import grpc

from storekeep.server.domain.standard.batches import SLICE_ITEMS
from storekeep.v1 import products_pb2
from tests.conftest import MakeServer
from tests.support.batches import PER_ITEM, WHOLE, build_batch
from tests.support.buyers import open_shop
from tests.support.records import Records
from tests.support.shops import Shop, new_id, new_request_id

COUNT = 1000
FIRST_SLICES = 2 * SLICE_ITEMS


def build_products(count: int) -> list[products_pb2.CreateProductRequest]:
    """Build requests for new products."""
    return [
        products_pb2.CreateProductRequest(product={"display_name": f"Product {number}"}, product_id=new_id("p"))
        for number in range(count)
    ]


def list_created(records: Records) -> list[str]:
    """Return the names of all created products, in order."""
    rows = records.rows("SELECT resource FROM audit_entries WHERE type = 'product.created' ORDER BY sequence")
    return [name for (name,) in rows]


def test_other_changes_are_committed_between_the_items_of_a_batch(shop: Shop, records: Records):
    items = build_products(COUNT)
    batch = shop.products.BatchCreateProducts.future(build_batch("BatchCreateProducts", items, mode=PER_ITEM))
    others = []
    while not batch.done():
        others.append(shop.product().name)
    assert len(batch.result().results) == COUNT
    created = list_created(records)
    names = [f"products/{item.product_id}" for item in items]
    first, last = created.index(names[0]), created.index(names[-1])
    between = [name for name in created[first:last] if name in set(others)]
    assert between
    assert [name for name in created if name in set(names)] == names


def test_kill_in_the_middle_loses_nothing_and_the_retry_does_the_rest(make_server: MakeServer):
    server = make_server()
    records = Records(server.database)
    for mode in (PER_ITEM, WHOLE):
        items = build_products(COUNT)
        names = [f"products/{item.product_id}" for item in items]
        request = build_batch("BatchCreateProducts", items, mode=mode, request_id=new_request_id())
        with open_shop(server) as shop:
            before = len(list_created(records))
            call = shop.products.BatchCreateProducts.future(request)
            while mode == PER_ITEM and len(list_created(records)) < before + FIRST_SLICES and not call.done():
                pass
            server.kill()
            assert isinstance(call.exception(), grpc.RpcError) or len(call.result().results) == COUNT
        done = list_created(records)[before:]
        assert done == names[: len(done)]
        assert len(done) % SLICE_ITEMS == 0
        assert mode == PER_ITEM or len(done) in (0, COUNT)
        server.start()
        with open_shop(server) as shop:
            reply = shop.products.BatchCreateProducts(request)
        assert [result.product.name for result in reply.results] == names
        assert list_created(records)[before:] == names
    assert server.stop() == 0
    assert server.run("verify").returncode == 0


def test_batches_of_several_callers_do_not_mix(shops: list[Shop], records: Records):
    requests = [build_batch("BatchCreateProducts", build_products(200), mode=PER_ITEM) for _ in shops]
    threads = [
        threading.Thread(target=shop.products.BatchCreateProducts, args=(request,))
        for shop, request in zip(shops, requests, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    created = list_created(records)
    for request in requests:
        names = [f"products/{item.product_id}" for item in request.requests]
        assert [name for name in created if name in set(names)] == names
