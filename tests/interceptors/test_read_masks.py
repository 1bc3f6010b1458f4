"""Read masks (AIP-157): which fields a mask keeps, and which masks are refused, for every read that has one."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.server.domain.errors import InvalidField
from storekeep.server.interceptors.read_masks import find_resource, parse_read_mask
from storekeep.v1 import audit_pb2, customers_pb2, orders_pb2, products_pb2
from tests.support.mutations import DESCRIPTORS
from tests.support.refusals import refused
from tests.support.resources import ADDRESS, KINDS, Kind
from tests.support.shops import Shop

MASKED = tuple(rpc for rpc, method in DESCRIPTORS.items() if "read_mask" in method.input_type.fields_by_name)
ORDER = orders_pb2.Order.DESCRIPTOR


def set_fields(message: Any) -> set[str]:
    """Return the names of the fields that a message has."""
    return {field.name for field, _ in message.ListFields()}


def get_order(shop: Shop, name: str, *paths: str) -> orders_pb2.Order:
    return shop.orders.GetOrder(orders_pb2.GetOrderRequest(name=name, read_mask=FieldMask(paths=paths)))


@pytest.mark.parametrize("rpc", MASKED)
def test_every_read_has_one_type_of_resource(rpc: str):
    _, resource = find_resource(DESCRIPTORS[rpc].output_type)
    assert resource.fields


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_mask_keeps_the_fields_that_it_names_in_every_read(shop: Shop, kind: Kind):
    resource = kind.make(shop)
    mask = FieldMask(paths=["name", "create_time"])
    expected = type(resource)(name=resource.name, create_time=resource.create_time)
    assert shop.stub(f"Get{kind.noun}")(kind.by_name("Get", resource.name, read_mask=mask)) == expected
    batch = kind.batch_request([resource.name])
    batch.read_mask.CopyFrom(mask)
    assert list(getattr(shop.stub(f"BatchGet{kind.plural}")(batch), kind.items)) == [expected]
    page = kind.list(shop, read_mask=mask, page_size=1, order_by="create_time desc", include_total_size=True)
    assert [set_fields(item) for item in getattr(page, kind.items)] == [{"name", "create_time"}]
    assert page.total_size


@pytest.mark.parametrize("paths", [(), ("*",), ("*", "name"), ("name", "*")])
def test_mask_of_all_fields_keeps_all(shop: Shop, paths: tuple[str, ...]):
    order = shop.order(shipping_address=ADDRESS)
    assert get_order(shop, order.name, *paths) == order


@pytest.mark.parametrize("paths", [("lines", "lines.sku"), ("lines.sku", "lines"), ("lines",)])
def test_whole_field_wins_over_a_part_of_it(shop: Shop, paths: tuple[str, ...]):
    order = shop.order()
    assert get_order(shop, order.name, *paths) == orders_pb2.Order(lines=order.lines)


def test_mask_reaches_into_messages_lists_and_maps(shop: Shop):
    order = shop.order((shop.variant(stock=3).sku, 1), (shop.variant(stock=3).sku, 2), shipping_address=ADDRESS)
    got = get_order(shop, order.name, "shipping_address.region_code", "lines.sku", "lines.unit_price.units")
    assert set_fields(got) == {"shipping_address", "lines"}
    assert set_fields(got.shipping_address) == {"region_code"}
    assert [line.sku for line in got.lines] == [line.sku for line in order.lines]
    assert [set_fields(line) for line in got.lines] == [{"sku", "unit_price"}] * 2
    assert [set_fields(line.unit_price) for line in got.lines] == [{"units"}] * 2
    product = shop.product(labels={"color": "red", "a.b": "1", "size": "L"})
    request = products_pb2.GetProductRequest(name=product.name)
    for paths, kept in (
        (["labels.color"], {"color": "red"}),
        (["labels.a.b", "labels.size"], {"a.b": "1", "size": "L"}),
        (["labels.none"], {}),
        (["labels", "labels.color"], dict(product.labels)),
    ):
        request.read_mask.paths[:] = paths
        assert shop.products.GetProduct(request) == products_pb2.Product(labels=kept)


@pytest.mark.parametrize("paths", [("name", "total"), ("lines.sku",), ("*",), ("lines", "name")])
def test_list_of_orders_with_a_mask_is_the_list_of_their_masked_gets(shop: Shop, paths: tuple[str, ...]):
    customer = shop.customer().name
    names = [shop.order((shop.variant(stock=3).sku, 2), customer=customer).name for _ in range(3)]
    options: dict[str, Any] = {"filter": f"customer = {customer}", "order_by": "create_time", "page_size": 2}
    first = shop.orders.ListOrders(orders_pb2.ListOrdersRequest(**options, read_mask=FieldMask(paths=paths)))
    rest = shop.orders.ListOrders(orders_pb2.ListOrdersRequest(**options, page_token=first.next_page_token))
    assert list(first.orders) == [get_order(shop, name, *paths) for name in names[:2]]
    assert list(rest.orders) == [get_order(shop, names[2])]


def test_field_without_a_value_is_absent_like_the_others(shop: Shop):
    order = shop.order()
    assert get_order(shop, order.name, "cancel_reason", "shipping_address.region_code") == orders_pb2.Order()


def test_search_and_audit_log_take_masks(shop: Shop):
    product = shop.product(display_name=f"Mask {shop.product().name.rpartition('-')[2]}")
    request = products_pb2.SearchProductsRequest(query=product.display_name, read_mask=FieldMask(paths=["name"]))
    assert list(shop.products.SearchProducts(request).products) == [products_pb2.Product(name=product.name)]
    entries = audit_pb2.ListAuditEntriesRequest(page_size=1, read_mask=FieldMask(paths=["sequence", "after"]))
    (entry,) = shop.audit.ListAuditEntries(entries).audit_entries
    assert set_fields(entry) == {"sequence", "after"}


BAD_PATHS = [
    "",
    ".",
    "nothing",
    "name.x",
    "lines.nothing",
    "lines..sku",
    "lines.",
    "Lines",
    "shippingAddress",
    "a" * 500,
    "é",
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_unknown_path_is_refused_before_the_resource_is_read(shop: Shop, path: str):
    with refused("INVALID_FIELD") as refusal:
        get_order(shop, "orders/none", "name", path)
    assert list(refusal.violations) == ["read_mask"]


@pytest.mark.parametrize("rpc", MASKED)
def test_unknown_path_is_refused_in_every_read(shop: Shop, rpc: str):
    request_type = DESCRIPTORS[rpc].input_type._concrete_class
    request = request_type(read_mask=FieldMask(paths=["nothing"]))
    for name, value in VALUES.get(rpc, {}).items():
        if isinstance(value, list):
            getattr(request, name).extend(value)
        else:
            setattr(request, name, value)
    with refused("INVALID_FIELD") as refusal:
        shop.stub(rpc)(request)
    assert list(refusal.violations) == ["read_mask"]


def _find_names(rpc: str) -> dict[str, Any]:
    """Return values for the required fields of a read's request."""
    nouns = {
        "GetVariant": "products/x/variants/x",
        "GetStockLevel": "locations/x/stockLevels/x",
        "GetStockMovement": "stockMovements/1",
        "GetFulfillment": "orders/x/fulfillments/x",
        "GetApiKey": "serviceAccounts/x/apiKeys/x",
        "GetAuditEntry": "auditEntries/1",
        "GetCategory": "categories/x",
        "BatchGetVariants": "products/x/variants/x",
        "BatchGetStockLevels": "locations/x/stockLevels/x",
        "BatchGetCategories": "categories/x",
        "ListVariants": "products/-",
        "ListStockLevels": "locations/-",
        "ListFulfillments": "orders/-",
        "ListOrderNotes": "orders/-",
        "ListApiKeys": "serviceAccounts/-",
        "ListOrderHistory": "orders/x",
        "SearchProducts": "x",
    }
    noun = rpc.removeprefix("BatchGet").removesuffix("s") if rpc.startswith("Batch") else rpc.removeprefix("Get")
    default = f"{noun[0].lower()}{noun[1:]}s/x"
    fields = DESCRIPTORS[rpc].input_type.fields_by_name
    values: dict[str, Any] = {}
    if "names" in fields:
        values["names"] = [nouns.get(rpc, default)]
        if "parent" in fields:
            values["parent"] = nouns[rpc].split("/")[0] + "/-"
    elif "parent" in fields:
        values["parent"] = nouns[rpc]
    elif "name" in fields:
        values["name"] = nouns.get(rpc, default)
    elif "query" in fields:
        values["query"] = "x"
    return values


VALUES = {rpc: _find_names(rpc) for rpc in MASKED}


def test_mask_with_too_many_paths_is_refused(shop: Shop):
    with refused("INVALID_FIELD"):
        get_order(shop, "orders/none", *["name"] * 1_000)


def test_parsed_masks_are_trees():
    assert parse_read_mask(["lines.sku", "name", "lines.quantity"], ORDER) == {
        "lines": {"sku": {}, "quantity": {}},
        "name": {},
    }
    assert parse_read_mask(["labels.a", "labels"], customers_pb2.Customer.DESCRIPTOR) == {"labels": {}}
    with pytest.raises(InvalidField, match="Order has no field 'x'"):
        parse_read_mask(["x"], ORDER)
