"""Batches: all or none, or each item by itself; once for each request id; the same errors as single calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2, status_pb2
from msgspec.structs import replace

from storekeep.client import AlreadyExists, CreateProductRequest, Storekeep
from storekeep.server.domain.catalog.products import PRODUCTS, Product
from storekeep.server.domain.catalog.search import search_products
from storekeep.server.domain.catalog.variants import VARIANTS, Variant
from storekeep.server.domain.errors import InvalidField, ProductNotFound
from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.mutations import Mutation
from storekeep.server.domain.standard.batches import SLICE_BYTES, SLICE_ITEMS, ItemResult, run_batch
from storekeep.server.domain.standard.pages import PAGE_BYTES_MAX, PageTokens
from storekeep.server.domain.standard.searches import SearchRequest
from storekeep.server.store.tables.search import SearchIndex
from storekeep.v1 import addresses_pb2, customers_pb2, inventory_pb2, products_pb2
from tests.support.batches import BATCH_ITEMS, PER_ITEM, WHOLE, build_batch
from tests.support.databases import Database
from tests.support.hostile.calls import PREPARED
from tests.support.mutations import STALE, copy_message
from tests.support.placing import CALL
from tests.support.records import Records
from tests.support.refusal_cases import SINGLE_CASES, build_adjustment, list_declared_cases, make_allocated_sku
from tests.support.refusals import refused
from tests.support.shops import Shop, new_id, new_request_id
from tests.support.stores import open_store

COUNT = 1000
FAILING = 500
REQUEST_ID = "0b1f0b9e-8f3b-4b52-9c4e-6f0f6f0f6f0f"
each_batch = pytest.mark.parametrize("rpc", BATCH_ITEMS)
each_mode = pytest.mark.parametrize("mode", [WHOLE, PER_ITEM], ids=["whole", "per_item"])
BATCH_CASES = [(batch, reason) for batch, reason in list_declared_cases() if batch in BATCH_ITEMS]


def build_products(count: int, **fields: Any) -> list[products_pb2.CreateProductRequest]:
    """Build requests for new products."""
    return [
        products_pb2.CreateProductRequest(
            product=products_pb2.Product(display_name=f"Product {number}", **fields), product_id=new_id("p")
        )
        for number in range(count)
    ]


def read_info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    """Return the reason and the metadata in the status of an item."""
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def list_entries(records: Records, *, after: int) -> list[tuple[str, str]]:
    """Return the event type and the resource of each later entry."""
    return [(kind, name) for kind, name, _ in records.events_after(after)]


def list_outcomes(reply: Any) -> Iterator[str]:
    """Yield the reason of each failure, and an empty text for each success."""
    for result in reply.results:
        yield read_info(result.error).reason if result.HasField("error") else ""


def read_item(result: Any) -> Any:
    """Return the resource of an item that succeeded."""
    return getattr(result, result.WhichOneof("outcome"))


# -- one item


@each_mode
@each_batch
def test_batch_of_one_does_what_the_single_call_does(shop: Shop, records: Records, rpc: str, mode: int):
    item = PREPARED[BATCH_ITEMS[rpc]](shop)
    request = build_batch(rpc, [item], mode=mode, request_id=new_request_id())
    before = records.last_sequence()
    (result,) = shop.stub(rpc)(request).results
    resource = read_item(result)
    entries = [entry for entry in records.audit_entries_after(before) if entry[3] == request.request_id]
    assert [(method.rpartition("/")[2], name) for _, method, name, *_ in entries] == [(rpc, resource.name)]
    single = shop.stub(BATCH_ITEMS[rpc])(PREPARED[BATCH_ITEMS[rpc]](shop))
    assert {field.name for field, _ in resource.ListFields()} == {field.name for field, _ in single.ListFields()}


@pytest.mark.parametrize("case", BATCH_CASES, ids="-".join)
def test_item_fails_with_the_reason_of_the_single_call(shop: Shop, records: Records, case: tuple[str, str]):
    rpc, reason = case
    item = SINGLE_CASES[BATCH_ITEMS[rpc], reason](shop)
    before = records.last_sequence()
    reply = shop.stub(rpc)(build_batch(rpc, [item], mode=PER_ITEM))
    assert list(list_outcomes(reply)) == [reason]
    with refused(reason) as refusal:
        shop.stub(BATCH_ITEMS[rpc])(item)
    status = reply.results[0].error
    assert (status.code, status.message) == (refusal.code.value[0], refusal.text)
    assert read_info(status).metadata.keys() == refusal.metadata.keys()
    assert not list_entries(records, after=before)


# -- many items


def test_batch_of_the_largest_size_succeeds_as_a_whole(shop: Shop, records: Records):
    items = build_products(COUNT)
    before = records.last_sequence()
    reply = shop.products.BatchCreateProducts(build_batch("BatchCreateProducts", items))
    names = [f"products/{item.product_id}" for item in items]
    assert [result.product.name for result in reply.results] == names
    assert list_entries(records, after=before) == [("product.created", name) for name in names]


def test_item_that_fails_prevents_all_others_of_a_whole_batch(shop: Shop, records: Records):
    items = build_products(COUNT)
    items[FAILING].product_id = shop.product().name.rpartition("/")[2]
    before = records.everything()
    with refused("ALREADY_EXISTS") as refusal:
        shop.products.BatchCreateProducts(build_batch("BatchCreateProducts", items))
    assert refusal.metadata["index"] == str(FAILING)
    assert refusal.text.startswith(f"requests[{FAILING}]: ")
    assert records.everything() == before


def test_item_that_fails_prevents_no_other_if_each_counts_by_itself(shop: Shop, records: Records):
    items = build_products(COUNT)
    items[FAILING].product_id = shop.product().name.rpartition("/")[2]
    before = records.last_sequence()
    reply = shop.products.BatchCreateProducts(build_batch("BatchCreateProducts", items, mode=PER_ITEM))
    assert list(list_outcomes(reply)) == [""] * FAILING + ["ALREADY_EXISTS"] + [""] * (COUNT - FAILING - 1)
    created = [f"products/{item.product_id}" for number, item in enumerate(items) if number != FAILING]
    assert list_entries(records, after=before) == [("product.created", name) for name in created]


def test_changes_of_an_item_that_fails_late_are_rolled_back(database: Database):
    store = open_store(database.url)
    products = [Product(new_id("p"), display_name="New") for _ in range(3)]

    def fail_late(mutation: Mutation) -> Product:
        PRODUCTS.add(mutation, products[1])
        raise InvalidField("product", "is refused late")

    effects = [lambda mutation: PRODUCTS.add(mutation, products[0]), fail_late]
    effects.append(lambda mutation: PRODUCTS.add(mutation, products[2]))
    results = list(run_batch(store, CALL, effects, resource=Product, per_item=True))
    assert [result.failure is None for result in results] == [True, False, True]
    with pytest.raises(ProductNotFound):
        PRODUCTS.get(store, (products[1].id,))
    assert not [finding for finding in verify(store) if finding.breaches]
    store.close()
    with database.opened() as session:
        rows = session.rows("SELECT resource FROM audit_entries WHERE type = 'product.created' ORDER BY sequence")
    assert [name for (name,) in rows] == [products[0].name, products[2].name]


def test_first_item_has_room_in_the_reply_however_large_it_is(database: Database):
    large = Product(new_id("p"), display_name="x" * (PAGE_BYTES_MAX + 1))
    small = Product(new_id("p"), display_name="Small")
    with closing(open_store(database.url)) as store:
        assert list(run_batch(store, CALL, [lambda _: large], resource=Product, per_item=False)) == [ItemResult(large)]
        first, second = run_batch(store, CALL, [lambda _: large, lambda _: small], resource=Product, per_item=True)
    assert first == ItemResult(large)
    assert second.failure is not None
    assert second.failure.text.endswith("such as the first 1")


def test_batch_is_a_replay_only_if_each_of_its_slices_is(database: Database):
    products = [Product(new_id("p"), display_name="New") for _ in range(2 * SLICE_ITEMS)]
    effects = [partial(lambda product, mutation: PRODUCTS.add(mutation, product), product) for product in products]
    replays: list[str] = []
    with closing(open_store(database.url)) as store:
        for attempt in ("lost", "retry", "replay"):
            call = replace(CALL, request_id=REQUEST_ID, on_replay=partial(replays.append, attempt))
            results = run_batch(store, call, effects, resource=Product, per_item=True)
            if attempt == "lost":
                next(results)  # the first slice is committed, and the caller is gone
                continue
            assert [result.resource and result.resource.id for result in results] == [one.id for one in products]
    assert replays == ["replay"]


@pytest.mark.engine("sqlite", reason="slices are the same on each engine")
def test_slice_ends_after_many_bytes_so_that_others_write_in_between(database: Database):
    products = [Product(new_id("p"), display_name="New") for _ in range(7)]
    effects = [partial(lambda product, mutation: PRODUCTS.add(mutation, product), product) for product in products]
    effects[4] = lambda _: replace(products[4], display_name="x" * (PAGE_BYTES_MAX + 1))
    sizes = [SLICE_BYTES - 1, 1, SLICE_BYTES, 0, 1, 0, 1]
    with closing(open_store(database.url)) as store:
        call, before = replace(CALL, request_id=REQUEST_ID), store.commits
        results = list(run_batch(store, call, effects, resource=Product, per_item=True, sizes=sizes))
        assert store.commits - before == 3
        again = list(run_batch(store, call, effects, resource=Product, per_item=True, sizes=sizes))
    assert again == results
    assert [index for index, result in enumerate(results) if result.failure is not None] == [4]
    assert results[4].failure is not None
    assert results[4].failure.text.endswith("such as the first 4")


@pytest.mark.engine("sqlite", reason="slices are the same on each engine")
@pytest.mark.parametrize(("first", "retry"), [(0, SLICE_BYTES // 20), (SLICE_BYTES // 20, 0)])
def test_retry_after_an_upgrade_with_other_slices_repeats_no_item(database: Database, first: int, retry: int):
    products = [Product(new_id("p"), display_name="New") for _ in range(2 * SLICE_ITEMS + 7)]
    effects = [partial(lambda product, mutation: PRODUCTS.add(mutation, product), product) for product in products]
    call = replace(CALL, request_id=REQUEST_ID)
    run = partial(run_batch, call=call, items=effects, resource=Product, per_item=True)
    with closing(open_store(database.url)) as store:
        next(run(store, sizes=[first] * len(products)))  # the first slice is committed, and the caller is gone
        for _ in range(2):
            results = run(store, sizes=[retry] * len(products))
            assert [result.resource and result.resource.id for result in results] == [one.id for one in products]


def test_long_items_of_a_batch_have_slices_of_their_own(shop: Shop, records: Records):
    items = build_products(8, description="\u8336" * (SLICE_BYTES // 6))
    before = records.last_sequence()
    reply = shop.stub("BatchCreateProducts")(build_batch("BatchCreateProducts", items, mode=PER_ITEM))
    assert list(list_outcomes(reply)) == [""] * 8
    assert records.last_sequence() == before + 8


# -- what an item must not be


@each_batch
def test_second_item_for_the_same_resource_is_refused(shop: Shop, rpc: str):
    item = PREPARED[BATCH_ITEMS[rpc]](shop)
    with refused("INVALID_FIELD") as refusal:
        shop.stub(rpc)(build_batch(rpc, [item, item]))
    assert [field.startswith("requests[1].") for field in refusal.violations] == [True]
    reply = shop.stub(rpc)(build_batch(rpc, [item, item], mode=PER_ITEM))
    assert list(list_outcomes(reply)) == ["", "INVALID_FIELD"]


@each_batch
@pytest.mark.parametrize("option", [{"request_id": REQUEST_ID}, {"validate_only": True}], ids=str)
def test_item_with_an_option_of_its_own_is_refused(shop: Shop, rpc: str, option: dict[str, Any]):
    item = copy_message(PREPARED[BATCH_ITEMS[rpc]](shop), **option)
    with refused("INVALID_FIELD") as refusal:
        shop.stub(rpc)(build_batch(rpc, [item], mode=PER_ITEM))
    assert list(refusal.violations) == [f"requests[0].{next(iter(option))}"]


@pytest.mark.parametrize("rpc", [rpc for rpc in BATCH_ITEMS if rpc.endswith(("Variants", "Stock"))])
def test_item_of_another_parent_is_refused(shop: Shop, rpc: str):
    item = PREPARED[BATCH_ITEMS[rpc]](shop)
    parent = "locations/other" if rpc.endswith("Stock") else "products/other"
    with refused("INVALID_FIELD") as refusal:
        shop.stub(rpc)(build_batch(rpc, [item], parent=parent))
    assert [field.startswith("requests[0].") for field in refusal.violations] == [True]


@pytest.mark.parametrize("per_item", [False, True])
def test_batch_of_variants_indexes_their_product_once_for_each_transaction(
    database: Database, per_item: bool, monkeypatch: pytest.MonkeyPatch
):
    store = open_store(database.url)
    product = PRODUCTS.create(store, CALL, Product(new_id("p"), display_name="Oolong"))
    written: list[str] = []
    put = SearchIndex.put
    monkeypatch.setattr(
        SearchIndex, "put", lambda index, tx, key, words: (written.append(key), put(index, tx, key, words))
    )
    items = [
        partial(VARIANTS.add, new_resource=Variant(product.id, f"v{n}", new_id("SKU"), display_name=f"Size{n}"))
        for n in range(2 * SLICE_ITEMS)
    ]
    list(run_batch(store, CALL, items, resource=Variant, per_item=per_item))
    assert written == [product.id] * (2 if per_item else 1)
    request = SearchRequest(method="SearchProducts", query=f"size{2 * SLICE_ITEMS - 1}")
    found = search_products(store, request, tokens=PageTokens(Keyring.from_secret(b"secret")))
    assert [one.id for one in found.items] == [product.id]
    assert not [finding for finding in verify(store) if finding.breaches]
    store.close()


@each_batch
@pytest.mark.parametrize("count", [0, COUNT + 1])
def test_batch_of_none_or_too_many_is_refused(shop: Shop, rpc: str, count: int):
    item = type(PREPARED[BATCH_ITEMS[rpc]](shop))()
    with refused("INVALID_FIELD") as refusal:
        shop.stub(rpc)(build_batch(rpc, [item] * count))
    assert list(refusal.violations) == ["requests"]


def test_partial_update_needs_no_other_fields_and_a_full_one_does(shop: Shop):
    names = [shop.product().name for _ in range(2)]
    mask = FieldMask(paths=["labels"])
    items = [
        products_pb2.UpdateProductRequest(product={"name": name, "labels": {"a": "b"}}, update_mask=mask)
        for name in names
    ]
    reply = shop.products.BatchUpdateProducts(build_batch("BatchUpdateProducts", items))
    assert [result.product.labels["a"] for result in reply.results] == ["b", "b"]
    items[1].update_mask.paths[:] = ["*"]
    items[0].product.name = ""
    with refused("INVALID_FIELD") as refusal:
        shop.products.BatchUpdateProducts(build_batch("BatchUpdateProducts", items))
    assert set(refusal.violations) == {"requests[1].product.display_name", "requests[0].product.name"}


def test_each_item_has_its_own_etag(shop: Shop):
    customers = [shop.customer() for _ in range(2)]
    items = [customers_pb2.UpdateCustomerRequest(customer=copy_message(one, phone="1")) for one in customers]
    items[1].customer.etag = STALE
    reply = shop.customers.BatchUpdateCustomers(build_batch("BatchUpdateCustomers", items, mode=PER_ITEM))
    assert list(list_outcomes(reply)) == ["", "ETAG_MISMATCH"]


def test_shortage_of_an_item_has_its_details_and_its_index(shop: Shop):
    plenty, short = shop.variant(stock=5), make_allocated_sku(shop)
    items = [build_adjustment(plenty.sku, -1), build_adjustment(short, -1)]
    with refused("OUT_OF_STOCK") as single:
        shop.inventory.AdjustStock(items[1])
    assert single.metadata["sku-1"] == short
    with refused("OUT_OF_STOCK") as whole:
        shop.inventory.BatchAdjustStock(build_batch("BatchAdjustStock", items))
    assert whole.metadata == single.metadata | {"index": "1"}
    request = build_batch("BatchAdjustStock", items, mode=PER_ITEM, request_id=new_request_id())
    for _ in range(2):  # the reply, and the stored one
        reply = shop.inventory.BatchAdjustStock(request)
        assert list(list_outcomes(reply)) == ["", "OUT_OF_STOCK"]
        assert read_info(reply.results[1].error).metadata == single.metadata


def test_replies_have_a_limit_and_what_exceeds_it_is_not_done(shop: Shop):
    labels = {f"label {number}": "x" * 255 for number in range(64)}
    new = customers_pb2.CreateCustomerRequest(customer={"display_name": "Large", "labels": labels})
    names = [
        result.customer.name
        for _ in range(5)
        for result in shop.customers.BatchCreateCustomers(build_batch("BatchCreateCustomers", [new] * 45)).results
    ]
    items = [customers_pb2.UpdateCustomerRequest(customer={"name": name, "phone": "1"}) for name in names]
    with refused("MESSAGE_TOO_LARGE") as refusal:
        shop.customers.BatchUpdateCustomers(build_batch("BatchUpdateCustomers", items))
    fitting = int(refusal.metadata["index"])
    reply = shop.customers.BatchUpdateCustomers(build_batch("BatchUpdateCustomers", items, mode=PER_ITEM))
    assert list(list_outcomes(reply)) == [""] * fitting + ["MESSAGE_TOO_LARGE"] * (len(items) - fitting)
    assert not shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=names[-1])).phone


# -- retries and dry runs


@each_mode
@each_batch
def test_retry_returns_the_first_reply_and_changes_nothing(shop: Shop, records: Records, rpc: str, mode: int):
    item = PREPARED[BATCH_ITEMS[rpc]](shop)
    request = build_batch(rpc, [item], mode=mode, request_id=new_request_id())
    first = shop.stub(rpc)(request)
    before = records.last_sequence()
    assert shop.stub(rpc)(request) == first
    assert not list_entries(records, after=before)


@each_mode
def test_retry_of_several_slices_with_failures_returns_the_first_reply(shop: Shop, records: Records, mode: int):
    items = build_products(3 * SLICE_ITEMS)
    if mode == PER_ITEM:
        items[2 * SLICE_ITEMS].product.category = "categories/nowhere"
    request = build_batch("BatchCreateProducts", items, mode=mode, request_id=new_request_id())
    first = shop.products.BatchCreateProducts(request)
    before = records.last_sequence()
    replayed, call = shop.products.BatchCreateProducts.with_call(request)
    assert ("storekeep-replayed", "true") in call.trailing_metadata()
    for reply in (first, replayed):  # the ids of the calls differ
        for result in reply.results:
            if result.HasField("error"):  # touching the error of another result would clear its product
                del result.error.details[1:]
    expected = [f"products/{item.product_id}" for item in items]
    if mode == PER_ITEM:
        expected[2 * SLICE_ITEMS] = ""
    assert not list_entries(records, after=before)
    assert [result.product.name for result in first.results] == expected


def test_same_request_id_with_another_payload_or_mode_is_refused(shop: Shop):
    items = build_products(2)
    request = build_batch("BatchCreateProducts", items, mode=PER_ITEM, request_id=new_request_id())
    shop.products.BatchCreateProducts(request)
    for other in (copy_message(request, mode=WHOLE), build_batch("BatchCreateProducts", items[:1])):
        other.request_id = request.request_id
        with refused("REQUEST_ID_REUSED"):
            shop.products.BatchCreateProducts(other)


@each_mode
@each_batch
def test_dry_run_returns_the_reply_and_changes_nothing(shop: Shop, records: Records, rpc: str, mode: int):
    item = PREPARED[BATCH_ITEMS[rpc]](shop)
    before = records.last_sequence()
    reply = shop.stub(rpc)(build_batch(rpc, [item], mode=mode, validate_only=True))
    assert list(list_outcomes(reply)) == [""]
    assert not list_entries(records, after=before)


# -- the client library


def test_client_returns_resources_and_errors_in_order(client: Storekeep, shop: Shop):
    taken = shop.product().name.rpartition("/")[2]
    items = [
        CreateProductRequest(product={"display_name": "New"}, product_id=product_id)
        for product_id in (new_id("p"), taken, new_id("p"))
    ]
    results = client.products.batch_create(items, per_item=True)
    assert list(results.failures) == [1]
    assert isinstance(results.items[1], AlreadyExists)
    assert [product.name for product in results.resources] == [f"products/{items[i].product_id}" for i in (0, 2)]
    with pytest.raises(AlreadyExists) as raised:
        client.products.batch_create(items)
    assert raised.value.metadata["index"] == "0"


def test_client_changes_variants_customers_and_stock(client: Storekeep, shop: Shop):
    item = PREPARED["CreateVariant"](shop)
    (variant,) = client.variants.batch_create([item], parent=item.parent).resources
    update = products_pb2.UpdateVariantRequest(variant={"name": variant.name, "barcode": "4006381333931"})
    (variant,) = client.variants.batch_update([update]).resources
    assert variant.barcode == "4006381333931"
    (level,) = client.inventory.batch_adjust_stock([build_adjustment(variant.sku, 3)]).resources
    (level,) = client.inventory.batch_set_stock(
        [inventory_pb2.SetStockRequest(name=level.name, quantity=9, expected_quantity=3)]
    ).resources
    assert level.on_hand == 9
    (customer,) = client.customers.batch_create([PREPARED["CreateCustomer"](shop)]).resources
    change = customers_pb2.UpdateCustomerRequest(customer={"name": customer.name, "phone": "+49 30 1234"})
    (customer,) = client.customers.batch_update([change]).resources
    assert customer.phone == "+49 30 1234"
    (product,) = client.products.batch_update([PREPARED["UpdateProduct"](shop)]).resources
    assert product.etag == "v2"


def test_caller_without_the_permission_is_refused(shop: Shop, channel: grpc.Channel):
    bare = channel.unary_unary("/storekeep.v1.ProductService/BatchCreateProducts")
    with refused("UNAUTHENTICATED"):
        bare(build_batch("BatchCreateProducts", build_products(1)).SerializeToString(), timeout=60)


def test_items_after_too_many_search_words_are_refused(shop: Shop):
    """A customer has up to three hashes for each Chinese character, and a batch of 1 MB had a million of them."""
    addresses = [
        customers_pb2.CustomerAddress(
            address=addresses_pb2.Address(address_lines=["\u8336" * 200] * 5, region_code="JP")
        )
        for _ in range(20)
    ]
    customer = customers_pb2.Customer(display_name="Ada", addresses=addresses)
    items = [customers_pb2.CreateCustomerRequest(customer=customer, customer_id=new_id("c")) for _ in range(6)]
    rpc = "BatchCreateCustomers"
    with refused("MESSAGE_TOO_LARGE") as refusal:
        shop.stub(rpc)(build_batch(rpc, items))
    assert refusal.metadata["index"] == "2"
    reply = shop.stub(rpc)(build_batch(rpc, items, mode=PER_ITEM))
    assert list(list_outcomes(reply)) == ["", "", *["MESSAGE_TOO_LARGE"] * 4]
