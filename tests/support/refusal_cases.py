"""For each RPC of catalogue, inventory, customers and orders, and each error reason that the contract declares for it:
a request that fails with that reason. A test compares the table with the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money

from storekeep.v1 import customers_pb2, errors_pb2, inventory_pb2, options_pb2, orders_pb2, products_pb2
from tests.support.batches import BATCH_ITEMS, build_batch
from tests.support.mutations import DESCRIPTORS, STALE, copy_message
from tests.support.order_cases import NO_ORDER, ORDER_CASES
from tests.support.resources import CATEGORY, CUSTOMER, KINDS, LOCATION, PRODUCT, VARIANT, Kind
from tests.support.shops import MAIN, Shop, money, new_id

Case = tuple[str, str]
"""An RPC and an error reason."""
Prepare = Callable[[Shop], Any]
"""Creates the required resources and returns the request."""
BATCH = 10**9
NO_SKU = "NO-SUCH-SKU"


def read_declared_reasons(rpc: str) -> list[str]:
    """Return the error reasons that the contract declares for an RPC, in order of precedence."""
    reasons = DESCRIPTORS[rpc].GetOptions().Extensions[options_pb2.errors].reasons
    return [errors_pb2.ErrorReason.Name(reason).removeprefix("ERROR_REASON_") for reason in reasons]


def list_declared_cases() -> list[Case]:
    """Return every (RPC, reason) of the contract once, without what only a damaged database causes."""
    return [
        (rpc, reason)
        for rpc in DESCRIPTORS
        for reason in dict.fromkeys(read_declared_reasons(rpc))
        if reason != "AUDIT_ENTRY_UNREADABLE"
    ]


# -- the standard methods


def make_deleted(kind: Kind, shop: Shop) -> str:
    """Return the name of a deleted resource."""
    name: str = kind.make(shop).name
    kind.do(shop, "Delete", name)
    return name


def build_erasure(name: str, **fields: Any) -> customers_pb2.EraseCustomerRequest:
    """Build a request to erase a customer."""
    return customers_pb2.EraseCustomerRequest(name=name, **fields)


def make_erased(shop: Shop) -> str:
    """Return the name of an erased customer."""
    return str(shop.customers.EraseCustomer(build_erasure(shop.customer().name)).name)


def build_merge(shop: Shop, **fields: Any) -> customers_pb2.MergeCustomersRequest:
    """Build a request to merge a new customer, or the given one, into another new customer."""
    return customers_pb2.MergeCustomersRequest(
        **{"name": shop.customer().name, "source": shop.customer().name, **fields}
    )


def make_merged(shop: Shop) -> str:
    """Return the name of a customer that was merged into another one."""
    request = build_merge(shop)
    shop.customers.MergeCustomers(request)
    return request.source


def build_export_page(shop: Shop, *, page_token: str) -> customers_pb2.ReadCustomerDataRequest:
    """Return the request for a page of a new export."""
    name = shop.customer().name
    export = shop.customers.ExportCustomerData(customers_pb2.ExportCustomerDataRequest(name=name))
    return customers_pb2.ReadCustomerDataRequest(name=name, export_token=export.export_token, page_token=page_token)


def make_used(kind: Kind, shop: Shop) -> str:
    """Return the name of a resource that is in use."""
    if kind is CATEGORY:
        category: str = shop.category().name
        shop.product(category=category)
        return category
    if kind is VARIANT:
        return str(shop.variant(stock=1).name)
    location: str = shop.location().name
    shop.variant(stock=1, location=location)
    return location


def _updates(kind: Kind) -> Iterator[tuple[str, Prepare]]:
    def named(name: str, **fields: Any) -> Any:
        return getattr(kind.messages, kind.noun)(name=name, display_name="Other", **fields)

    yield "INVALID_UPDATE_MASK", lambda shop: kind.update_request(kind.make(shop), "no_such_field")
    yield kind.not_found, lambda shop: kind.update_request(named(kind.missing), "display_name")
    yield "RESOURCE_DELETED", lambda shop: kind.update_request(named(make_deleted(kind, shop)), "display_name")
    yield "ETAG_MISMATCH", lambda shop: kind.update_request(named(kind.make(shop).name, etag=STALE), "display_name")


def _steps(kind: Kind, verb: str) -> Iterator[tuple[str, Prepare]]:
    def archived(shop: Shop, *, to: bool) -> str:
        name: str = kind.make(shop).name
        if to:
            kind.do(shop, "Archive", name)
        return name

    archive = verb == "Archive"
    yield kind.not_found, lambda shop: kind.by_name(verb, kind.missing)
    yield "RESOURCE_DELETED", lambda shop: kind.by_name(verb, make_deleted(kind, shop))
    yield "ETAG_MISMATCH", lambda shop: kind.by_name(verb, archived(shop, to=not archive), etag=STALE)
    yield "ILLEGAL_STATE", lambda shop: kind.by_name(verb, archived(shop, to=archive))


def _publishing() -> Iterator[tuple[str, Prepare]]:
    yield "PRODUCT_NOT_FOUND", lambda shop: PRODUCT.by_name("Publish", PRODUCT.missing)
    yield "RESOURCE_DELETED", lambda shop: PRODUCT.by_name("Publish", make_deleted(PRODUCT, shop))
    yield "ETAG_MISMATCH", lambda shop: PRODUCT.by_name("Publish", shop.draft().name, etag=STALE)
    yield "ILLEGAL_STATE", lambda shop: PRODUCT.by_name("Publish", shop.product().name)


def build_late_publish_time(shop: Shop, **fields: Any) -> Any:
    """Build an update that gives a product that is on sale a publish time."""
    product = products_pb2.Product(name=shop.product().name, publish_time=Timestamp(seconds=4_000_000_000), **fields)
    return products_pb2.UpdateProductRequest(product=product)


def _deletions(kind: Kind) -> Iterator[tuple[str, Prepare]]:
    yield kind.not_found, lambda shop: kind.by_name("Delete", kind.missing)
    yield "ETAG_MISMATCH", lambda shop: kind.by_name("Delete", kind.make(shop).name, etag=STALE)
    if kind in (CATEGORY, VARIANT, LOCATION):
        yield "RESOURCE_IN_USE", lambda shop: kind.by_name("Delete", make_used(kind, shop))


def _undeletions(kind: Kind) -> Iterator[tuple[str, Prepare]]:
    yield kind.not_found, lambda shop: kind.by_name("Undelete", kind.missing)
    yield "RESOURCE_NOT_DELETED", lambda shop: kind.by_name("Undelete", kind.make(shop).name)
    yield "ETAG_MISMATCH", lambda shop: kind.by_name("Undelete", make_deleted(kind, shop), etag=STALE)


def _existing(kind: Kind, shop: Shop) -> Any:
    """Build a request to create a resource that exists."""
    request = kind.create_request(shop, kind.make(shop).name.rpartition("/")[2])
    if kind is VARIANT:
        variant = shop.variant()
        request.parent, request.variant_id = variant.name.split("/variants/")
        request.variant.sku = new_id()
    return request


def _lists(request: Callable[..., Any]) -> Iterator[tuple[str, Prepare]]:
    yield "INVALID_FILTER", lambda shop: request(filter="=")
    yield "INVALID_ORDER_BY", lambda shop: request(order_by="no_such_field")
    yield "INVALID_PAGE_TOKEN", lambda shop: request(page_token="AAAA")


def _standard(kind: Kind) -> Iterator[tuple[Case, Prepare]]:
    noun, plural = kind.noun, kind.plural
    parent = {"parent": "products/-"} if kind.parent else {}
    yield (f"Get{noun}", kind.not_found), lambda shop: kind.by_name("Get", kind.missing)
    yield (
        (f"BatchGet{plural}", kind.not_found),
        lambda shop: kind.batch_request([kind.make(shop).name, kind.missing]),
    )
    yield (f"Create{noun}", "ALREADY_EXISTS"), lambda shop: _existing(kind, shop)
    families = {
        f"List{plural}": _lists(lambda **fields: kind.request(f"List{plural}", **parent, **fields)),
        f"Update{noun}": _updates(kind),
        f"Delete{noun}": _deletions(kind),
        f"Undelete{noun}": _undeletions(kind),
    }
    if kind.archives:
        families |= {f"{verb}{noun}": _steps(kind, verb) for verb in ("Archive", "Unarchive")}
    if kind is PRODUCT:
        families["PublishProduct"] = _publishing()
    for rpc, cases in families.items():
        for reason, prepare in cases:
            yield (rpc, reason), prepare


# -- the catalogue


def build_category_cycle(shop: Shop) -> Any:
    """Build an update that makes two categories parents of each other."""
    above = shop.category()
    below = shop.category(parent_category=above.name)
    return CATEGORY.update_request(copy_message(above, parent_category=below.name), "parent_category")


def build_new_variant(shop: Shop, *prices: Money, parent: str = "", sku: str = "") -> Any:
    """Build a request for a variant of a new product."""
    variant = products_pb2.Variant(sku=sku or new_id(), prices=prices)
    return products_pb2.CreateVariantRequest(parent=parent or shop.product().name, variant=variant)


def build_priced_variant(shop: Shop, *prices: Money, **fields: Any) -> Any:
    """Build a request for other prices of a variant."""
    variant = products_pb2.Variant(name=shop.variant().name, prices=prices, **fields)
    return products_pb2.UpdateVariantRequest(variant=variant, update_mask=FieldMask(paths=["prices"]))


UNKNOWN = Money(currency_code="ZZZ", units=1)
TOO_FINE = Money(currency_code="EUR", nanos=5_000_000)
TWICE = (Money(currency_code="EUR", units=1), Money(currency_code="EUR", units=2))
CATALOGUE: dict[Case, Prepare] = {
    ("CreateCategory", "CATEGORY_NOT_FOUND"): lambda shop: CATEGORY.create_request(
        shop, new_id(), parent_category=CATEGORY.missing
    ),
    ("UpdateCategory", "CATEGORY_CYCLE"): build_category_cycle,
    ("CreateProduct", "CATEGORY_NOT_FOUND"): lambda shop: PRODUCT.create_request(
        shop, new_id(), category=CATEGORY.missing
    ),
    ("UpdateProduct", "ILLEGAL_STATE"): build_late_publish_time,
    ("UpdateProduct", "CATEGORY_NOT_FOUND"): lambda shop: PRODUCT.update_request(
        copy_message(shop.product(), category=make_deleted(CATEGORY, shop)), "category"
    ),
    ("CreateVariant", "PRODUCT_NOT_FOUND"): lambda shop: build_new_variant(shop, parent=PRODUCT.missing),
    ("CreateVariant", "RESOURCE_DELETED"): lambda shop: build_new_variant(shop, parent=make_deleted(PRODUCT, shop)),
    ("CreateVariant", "UNKNOWN_CURRENCY"): lambda shop: build_new_variant(shop, UNKNOWN),
    ("CreateVariant", "CURRENCY_MISMATCH"): lambda shop: build_new_variant(shop, *TWICE),
    ("CreateVariant", "INVALID_AMOUNT"): lambda shop: build_new_variant(shop, TOO_FINE),
    ("CreateVariant", "SKU_TAKEN"): lambda shop: build_new_variant(shop, sku=shop.variant().sku),
    ("UpdateVariant", "UNKNOWN_CURRENCY"): lambda shop: build_priced_variant(shop, UNKNOWN),
    ("UpdateVariant", "CURRENCY_MISMATCH"): lambda shop: build_priced_variant(shop, *TWICE),
    ("UpdateVariant", "INVALID_AMOUNT"): lambda shop: build_priced_variant(shop, TOO_FINE),
    ("SearchProducts", "INVALID_PAGE_TOKEN"): lambda shop: products_pb2.SearchProductsRequest(
        query="tea", page_token="AAAA"
    ),
    ("SearchCustomers", "INVALID_PAGE_TOKEN"): lambda shop: customers_pb2.SearchCustomersRequest(
        query="tea", page_token="AAAA"
    ),
    ("UndeleteCustomer", "ILLEGAL_STATE"): lambda shop: customers_pb2.UndeleteCustomerRequest(name=make_erased(shop)),
    ("EraseCustomer", "CUSTOMER_NOT_FOUND"): lambda shop: build_erasure(CUSTOMER.missing),
    ("EraseCustomer", "ILLEGAL_STATE"): lambda shop: build_erasure(make_merged(shop)),
    ("EraseCustomer", "ETAG_MISMATCH"): lambda shop: build_erasure(shop.customer().name, etag=STALE),
    ("EraseCustomer", "RESOURCE_IN_USE"): lambda shop: build_erasure(shop.order().customer),
    ("MergeCustomers", "CUSTOMER_NOT_FOUND"): lambda shop: build_merge(shop, source=CUSTOMER.missing),
    ("MergeCustomers", "RESOURCE_DELETED"): lambda shop: build_merge(shop, source=make_deleted(CUSTOMER, shop)),
    ("MergeCustomers", "ETAG_MISMATCH"): lambda shop: build_merge(shop, etag=STALE),
    ("ExportCustomerData", "CUSTOMER_NOT_FOUND"): lambda shop: customers_pb2.ExportCustomerDataRequest(
        name=CUSTOMER.missing
    ),
    ("ReadCustomerData", "INVALID_PAGE_TOKEN"): lambda shop: build_export_page(shop, page_token="AAAA"),
    ("SearchOrders", "INVALID_PAGE_TOKEN"): lambda shop: orders_pb2.SearchOrdersRequest(query="tea", page_token="AAAA"),
}


# -- stock


def build_adjustment(sku: str, quantity_delta: int = 1, *, location: str = MAIN, **fields: Any) -> Any:
    """Build a request to adjust a level."""
    name = f"{location}/stockLevels/{sku}"
    return inventory_pb2.AdjustStockRequest(name=name, quantity_delta=quantity_delta, **fields)


def build_set_stock(sku: str, quantity: int = 1, *, location: str = MAIN, **fields: Any) -> Any:
    """Build a request to set a level."""
    name = f"{location}/stockLevels/{sku}"
    return inventory_pb2.SetStockRequest(name=name, quantity=quantity, **fields)


def make_allocated_sku(shop: Shop) -> str:
    """Return a SKU whose 5 units are all allocated."""
    sku: str = shop.variant(stock=5).sku
    shop.order((sku, 5))
    return sku


def build_overfull_adjustment(shop: Shop) -> Any:
    """Fill a level to its maximum; build a request for one more unit."""
    sku = shop.variant().sku
    for _ in range(10):
        calls = [shop.inventory.AdjustStock.future(build_adjustment(sku, BATCH)) for _ in range(100)]
        assert all(call.result() for call in calls)
    return build_adjustment(sku)


def _levels(change: Callable[..., Any]) -> dict[str, Prepare]:
    """Return the errors that adjusting and setting share."""
    return {
        "LOCATION_NOT_FOUND": lambda shop: change(shop.variant().sku, location=LOCATION.missing),
        "SKU_NOT_FOUND": lambda shop: change(NO_SKU),
        "RESOURCE_DELETED": lambda shop: change(shop.variant().sku, location=make_deleted(LOCATION, shop)),
        "ETAG_MISMATCH": lambda shop: change(shop.variant(stock=1).sku, etag=STALE),
    }


def _no_level(shop: Shop) -> str:
    return f"{MAIN}/stockLevels/{shop.variant().sku}"


STOCK: dict[Case, Prepare] = {
    **{("AdjustStock", reason): prepare for reason, prepare in _levels(build_adjustment).items()},
    **{("SetStock", reason): prepare for reason, prepare in _levels(build_set_stock).items()},
    ("AdjustStock", "OUT_OF_STOCK"): lambda shop: build_adjustment(make_allocated_sku(shop), -1),
    ("AdjustStock", "INVALID_AMOUNT"): build_overfull_adjustment,
    ("SetStock", "COUNT_BELOW_COMMITTED"): lambda shop: build_set_stock(make_allocated_sku(shop), 4),
    ("SetStock", "QUANTITY_MISMATCH"): lambda shop: build_set_stock(shop.variant(stock=5).sku, 9, expected_quantity=6),
    ("GetStockLevel", "STOCK_LEVEL_NOT_FOUND"): lambda shop: inventory_pb2.GetStockLevelRequest(name=_no_level(shop)),
    ("BatchGetStockLevels", "STOCK_LEVEL_NOT_FOUND"): lambda shop: inventory_pb2.BatchGetStockLevelsRequest(
        parent=MAIN, names=[_no_level(shop)]
    ),
    ("CheckAvailability", "LOCATION_NOT_FOUND"): lambda shop: inventory_pb2.CheckAvailabilityRequest(
        skus=[shop.variant().sku], location=LOCATION.missing
    ),
    ("CheckAvailability", "SKU_NOT_FOUND"): lambda shop: inventory_pb2.CheckAvailabilityRequest(
        skus=[shop.variant().sku, NO_SKU]
    ),
    ("GetStockMovement", "STOCK_MOVEMENT_NOT_FOUND"): lambda shop: inventory_pb2.GetStockMovementRequest(
        name="stockMovements/9999999999999999999"
    ),
    **{
        ("ListStockLevels", reason): prepare
        for reason, prepare in _lists(
            lambda **fields: inventory_pb2.ListStockLevelsRequest(parent="locations/-", **fields)
        )
    },
    **{("ListStockMovements", reason): prepare for reason, prepare in _lists(inventory_pb2.ListStockMovementsRequest)},
}


def build_transfer(shop: Shop, sku: str = "", quantity: int = 1, **fields: Any) -> Any:
    """Build a request to move units of a SKU, or of a new SKU with 5 units, to a new location."""
    places = {"source": MAIN, "destination": fields.get("destination") or shop.location().name} | fields
    line = inventory_pb2.TransferLine(sku=sku or shop.variant(stock=5).sku, quantity=quantity)
    return inventory_pb2.TransferStockRequest(lines=[line], **places)


def build_overfull_transfer(shop: Shop) -> Any:
    """Build a transfer of one unit to a full level."""
    request = build_overfull_adjustment(shop)
    sku = request.name.rpartition("/")[2]
    location = shop.location().name
    shop.adjust(sku, 1, location=location)
    return build_transfer(shop, sku, source=location, destination=MAIN)


def build_reserve_stock(sku: str, quantity: int = 1, **fields: Any) -> Any:
    """Build a request to reserve units of a SKU."""
    line = inventory_pb2.ReserveStockLine(sku=sku, quantity=quantity)
    return inventory_pb2.ReserveStockRequest(lines=[line], **fields)


def make_reservation(shop: Shop, **fields: Any) -> str:
    """Reserve 2 units; return the name of the reservation."""
    return str(shop.inventory.ReserveStock(build_reserve_stock(shop.variant(stock=5).sku, 2, **fields)).name)


def make_released_reservation(shop: Shop) -> str:
    """Return the name of a released reservation."""
    name = make_reservation(shop)
    shop.inventory.ReleaseReservation(inventory_pb2.ReleaseReservationRequest(name=name))
    return name


def make_backordered_reservation(shop: Shop) -> str:
    """Return the name of a reservation of units that are not on hand."""
    sku = shop.variant().sku
    update_level(shop, sku, backorder_limit=2)
    return str(shop.inventory.ReserveStock(build_reserve_stock(sku, 2)).name)


def build_level_update(sku: str, *paths: str, location: str = MAIN, etag: str = "", **fields: Any) -> Any:
    """Build a request to change a level."""
    name = f"{location}/stockLevels/{sku}"
    level = inventory_pb2.StockLevel(name=name, etag=etag, **fields or {"safety_threshold": 1})
    return inventory_pb2.UpdateStockLevelRequest(stock_level=level, update_mask=FieldMask(paths=paths))


def update_level(shop: Shop, sku: str, **fields: Any) -> Any:
    """Change a level."""
    return shop.inventory.UpdateStockLevel(build_level_update(sku, *fields, **fields))


def build_overcommitment(shop: Shop) -> Any:
    """Build a request that lowers a backorder limit below the backordered units."""
    sku = shop.variant().sku
    update_level(shop, sku, backorder_limit=2)
    shop.order((sku, 2))
    return build_level_update(sku, "backorder_limit", backorder_limit=1)


NO_RESERVATION = "reservations/none"


def build_reservation_update(name: str, *lines: tuple[str, int], location: str = "", **fields: Any) -> Any:
    """Build a request to change the lines of a reservation, or other fields."""
    requested = [inventory_pb2.ReservationLine(sku=sku, quantity=quantity) for sku, quantity in lines]
    reservation = inventory_pb2.Reservation(name=name, lines=requested, **fields)
    return inventory_pb2.UpdateReservationRequest(reservation=reservation, location=location)


def build_reservation_line(shop: Shop, sku: str, quantity: int = 1, **fields: Any) -> Any:
    """Build a request to change a new reservation to one line."""
    return build_reservation_update(make_reservation(shop), (sku, quantity), **fields)


def build_taken_reservation_reference(shop: Shop) -> Any:
    """Build a request to change the unique reference of a reservation to that of another."""
    reference = new_id("cart")
    make_reservation(shop, reference=reference, unique_reference=True)
    return build_reservation_update(make_reservation(shop), reference=reference, unique_reference=True)


def _reservation_steps(rpc: str, request: Callable[..., Any]) -> Iterator[tuple[Case, Prepare]]:
    yield (rpc, "RESERVATION_NOT_FOUND"), lambda shop: request(name=NO_RESERVATION)
    yield (rpc, "ETAG_MISMATCH"), lambda shop: request(name=make_reservation(shop), etag=STALE)
    yield (rpc, "ILLEGAL_STATE"), lambda shop: request(name=make_released_reservation(shop))


STOCK |= {
    **{("UpdateStockLevel", reason): prepare for reason, prepare in _levels(build_level_update).items()},
    ("UpdateStockLevel", "INVALID_UPDATE_MASK"): lambda shop: build_level_update(shop.variant().sku, "on_hand"),
    ("UpdateStockLevel", "OUT_OF_STOCK"): build_overcommitment,
    ("TransferStock", "LOCATION_NOT_FOUND"): lambda shop: build_transfer(shop, destination=LOCATION.missing),
    ("TransferStock", "RESOURCE_DELETED"): lambda shop: build_transfer(shop, destination=make_deleted(LOCATION, shop)),
    ("TransferStock", "SKU_NOT_FOUND"): lambda shop: build_transfer(shop, NO_SKU),
    ("TransferStock", "OUT_OF_STOCK"): lambda shop: build_transfer(shop, make_allocated_sku(shop)),
    ("TransferStock", "INVALID_AMOUNT"): build_overfull_transfer,
    ("ListLowStock", "LOCATION_NOT_FOUND"): lambda shop: inventory_pb2.ListLowStockRequest(location=LOCATION.missing),
    ("ListLowStock", "INVALID_PAGE_TOKEN"): lambda shop: inventory_pb2.ListLowStockRequest(page_token="AAAA"),
    ("ReconcileStock", "INVALID_PAGE_TOKEN"): lambda shop: inventory_pb2.ReconcileStockRequest(page_token="AAAA"),
    ("ReconcileStock", "SKU_NOT_FOUND"): lambda shop: inventory_pb2.ReconcileStockRequest(skus=[NO_SKU]),
    ("ReserveStock", "LOCATION_NOT_FOUND"): lambda shop: build_reserve_stock(
        shop.variant().sku, location=LOCATION.missing
    ),
    ("ReserveStock", "RESOURCE_DELETED"): lambda shop: build_reserve_stock(
        shop.variant().sku, location=make_deleted(LOCATION, shop)
    ),
    ("ReserveStock", "SKU_NOT_FOUND"): lambda shop: build_reserve_stock(NO_SKU),
    ("ReserveStock", "NOT_FOR_SALE"): lambda shop: build_reserve_stock(create_unsellable_sku(shop)),
    ("ReserveStock", "QUANTITY_NOT_ALLOWED"): lambda shop: build_reserve_stock(create_boxed_sku(shop)),
    ("ReserveStock", "OUT_OF_STOCK"): lambda shop: build_reserve_stock(make_allocated_sku(shop)),
    ("UpdateReservation", "INVALID_UPDATE_MASK"): lambda shop: inventory_pb2.UpdateReservationRequest(
        reservation=inventory_pb2.Reservation(name=make_reservation(shop)), update_mask=FieldMask(paths=["state"])
    ),
    ("UpdateReservation", "RESERVATION_NOT_FOUND"): lambda shop: build_reservation_update(NO_RESERVATION),
    ("UpdateReservation", "ETAG_MISMATCH"): lambda shop: build_reservation_update(make_reservation(shop), etag=STALE),
    ("UpdateReservation", "ILLEGAL_STATE"): lambda shop: build_reservation_update(make_released_reservation(shop)),
    ("UpdateReservation", "REFERENCE_TAKEN"): build_taken_reservation_reference,
    ("UpdateReservation", "LOCATION_NOT_FOUND"): lambda shop: build_reservation_line(
        shop, shop.variant().sku, location=LOCATION.missing
    ),
    ("UpdateReservation", "RESOURCE_DELETED"): lambda shop: build_reservation_line(
        shop, shop.variant().sku, location=make_deleted(LOCATION, shop)
    ),
    ("UpdateReservation", "SKU_NOT_FOUND"): lambda shop: build_reservation_line(shop, NO_SKU),
    ("UpdateReservation", "NOT_FOR_SALE"): lambda shop: build_reservation_line(shop, create_unsellable_sku(shop)),
    ("UpdateReservation", "QUANTITY_NOT_ALLOWED"): lambda shop: build_reservation_line(shop, create_boxed_sku(shop)),
    ("UpdateReservation", "OUT_OF_STOCK"): lambda shop: build_reservation_line(shop, make_allocated_sku(shop)),
    ("GetReservation", "RESERVATION_NOT_FOUND"): lambda shop: inventory_pb2.GetReservationRequest(name=NO_RESERVATION),
    ("CommitReservation", "OUT_OF_STOCK"): lambda shop: inventory_pb2.CommitReservationRequest(
        name=make_backordered_reservation(shop)
    ),
    **dict(_reservation_steps("ExtendReservation", inventory_pb2.ExtendReservationRequest)),
    **dict(_reservation_steps("ReleaseReservation", inventory_pb2.ReleaseReservationRequest)),
    **dict(_reservation_steps("CommitReservation", inventory_pb2.CommitReservationRequest)),
    **{("ListReservations", reason): prepare for reason, prepare in _lists(inventory_pb2.ListReservationsRequest)},
}


# -- orders


def build_excessive_total(shop: Shop) -> Any:
    """Build an order with ten lines of the maximum price, whose total exceeds the maximum."""
    sku = shop.variant(prices={"JPY": str(10**12)}).sku
    return shop.order_request(*[(sku, 10**6)] * 10, currency_code="JPY")


def create_unsellable_sku(shop: Shop) -> str:
    """Return the SKU of an archived variant."""
    variant = shop.variant(stock=5)
    VARIANT.do(shop, "Archive", variant.name)
    return str(variant.sku)


def create_boxed_sku(shop: Shop) -> str:
    """Return a SKU that is sold in boxes of 6, without stock."""
    return str(shop.variant(quantity_rules={"multiple": 6}).sku)


def build_taken_order_reference(shop: Shop) -> Any:
    """Build an order with the unique reference of another."""
    taken = {"source": "market", "external_reference": new_id("ref")}
    shop.order(**taken)
    return shop.order_request(**taken, unique_external_reference=True)


def build_quote(shop: Shop, *lines: tuple[str, int], **fields: Any) -> orders_pb2.QuoteOrderRequest:
    """Build a request to quote what `order_request` would order."""
    order = shop.order_request(*lines, **fields)
    return orders_pb2.QuoteOrderRequest(
        customer=order.customer, lines=order.lines, currency_code=order.currency_code, coupon_codes=order.coupon_codes
    )


def build_excessive_quote(shop: Shop) -> orders_pb2.QuoteOrderRequest:
    """Build a request to quote an order that exceeds the maximum total."""
    order = build_excessive_total(shop)
    return orders_pb2.QuoteOrderRequest(lines=order.lines, currency_code=order.currency_code)


QUOTES: dict[Case, Prepare] = {
    ("QuoteOrder", "UNKNOWN_CURRENCY"): lambda shop: build_quote(shop, currency_code="ZZZ"),
    ("QuoteOrder", "CUSTOMER_NOT_FOUND"): lambda shop: build_quote(shop, customer=CUSTOMER.missing),
    ("QuoteOrder", "RESOURCE_DELETED"): lambda shop: build_quote(shop, customer=make_deleted(CUSTOMER, shop)),
    ("QuoteOrder", "SKU_NOT_FOUND"): lambda shop: build_quote(shop, (NO_SKU, 1)),
    ("QuoteOrder", "NOT_FOR_SALE"): lambda shop: build_quote(shop, (create_unsellable_sku(shop), 1)),
    ("QuoteOrder", "CURRENCY_MISMATCH"): lambda shop: build_quote(shop, currency_code="USD"),
    ("QuoteOrder", "INVALID_AMOUNT"): build_excessive_quote,
}

ORDERS: dict[Case, Prepare] = {
    **QUOTES,
    ("PlaceOrder", "UNKNOWN_CURRENCY"): lambda shop: shop.order_request(currency_code="ZZZ"),
    ("PlaceOrder", "QUOTE_NOT_FOUND"): lambda shop: shop.order_request(quote="quotes/none"),
    ("PlaceOrder", "CUSTOMER_NOT_FOUND"): lambda shop: shop.order_request(customer=CUSTOMER.missing),
    ("PlaceOrder", "LOCATION_NOT_FOUND"): lambda shop: shop.order_request(location=LOCATION.missing),
    ("PlaceOrder", "RESOURCE_DELETED"): lambda shop: shop.order_request(customer=make_deleted(CUSTOMER, shop)),
    ("PlaceOrder", "SKU_NOT_FOUND"): lambda shop: shop.order_request((NO_SKU, 1)),
    ("PlaceOrder", "NOT_FOR_SALE"): lambda shop: shop.order_request((create_unsellable_sku(shop), 1)),
    ("PlaceOrder", "CURRENCY_MISMATCH"): lambda shop: shop.order_request(currency_code="USD"),
    ("PlaceOrder", "QUANTITY_NOT_ALLOWED"): lambda shop: shop.order_request((create_boxed_sku(shop), 1)),
    ("PlaceOrder", "INVALID_AMOUNT"): build_excessive_total,
    ("PlaceOrder", "COUPON_NOT_APPLICABLE"): lambda shop: shop.order_request(coupon_codes=["NOWHERE"]),
    ("PlaceOrder", "PRICE_CHANGED"): lambda shop: shop.order_request(expected_total=money("9.99")),
    ("PlaceOrder", "REFERENCE_TAKEN"): build_taken_order_reference,
    ("PlaceOrder", "RESERVATION_NOT_FOUND"): lambda shop: shop.order_request(reservation=NO_RESERVATION),
    ("PlaceOrder", "ILLEGAL_STATE"): lambda shop: shop.order_request(reservation=make_released_reservation(shop)),
    ("PlaceOrder", "OUT_OF_STOCK"): lambda shop: shop.order_request((shop.variant(stock=1).sku, 2)),
    ("GetOrder", "ORDER_NOT_FOUND"): lambda shop: orders_pb2.GetOrderRequest(name=NO_ORDER),
    ("BatchGetOrders", "ORDER_NOT_FOUND"): lambda shop: orders_pb2.BatchGetOrdersRequest(
        names=[shop.order().name, NO_ORDER]
    ),
    ("ListOrderHistory", "ORDER_NOT_FOUND"): lambda shop: orders_pb2.ListOrderHistoryRequest(name=NO_ORDER),
    ("ListOrderHistory", "INVALID_PAGE_TOKEN"): lambda shop: orders_pb2.ListOrderHistoryRequest(
        name=shop.order().name, page_token="AAAA"
    ),
    **{("ListOrders", reason): prepare for reason, prepare in _lists(orders_pb2.ListOrdersRequest)},
}
SINGLE_CASES: dict[Case, Prepare] = {
    **{case: prepare for kind in KINDS for case, prepare in _standard(kind)},
    **CATALOGUE,
    **STOCK,
    **ORDERS,
    **ORDER_CASES,
}


def _batch(rpc: str, prepare: Prepare) -> Prepare:
    return lambda shop: build_batch(rpc, [prepare(shop)])


CASES: dict[Case, Prepare] = {
    **SINGLE_CASES,
    **{
        (batch, reason): _batch(batch, prepare)
        for batch, rpc in BATCH_ITEMS.items()
        for (single, reason), prepare in SINGLE_CASES.items()
        if single == rpc
    },
}
