"""Callers get every error reason that the contract declares for an RPC, in the declared order of precedence."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.server.interceptors.error_table import ERRORS
from storekeep.v1 import inventory_pb2, orders_pb2, products_pb2
from tests.support.mutations import STALE, copy_message, with_etag
from tests.support.order_cases import NO_ORDER, ORDER_PRECEDENCE
from tests.support.records import Records
from tests.support.refusal_cases import (
    CASES,
    NO_RESERVATION,
    NO_SKU,
    TOO_FINE,
    TWICE,
    UNKNOWN,
    Case,
    Prepare,
    build_adjustment,
    build_category_cycle,
    build_excessive_total,
    build_late_publish_time,
    build_new_variant,
    build_priced_variant,
    build_quote,
    build_reservation_line,
    build_reservation_update,
    build_set_stock,
    build_taken_order_reference,
    build_taken_reservation_reference,
    create_boxed_sku,
    create_unsellable_sku,
    list_declared_cases,
    make_deleted,
    make_released_reservation,
    make_used,
    read_declared_reasons,
)
from tests.support.refusals import refused
from tests.support.resources import CATEGORY, CUSTOMER, KINDS, LOCATION, PRODUCT, VARIANT, Kind
from tests.support.shops import Shop, money

CODES = {row.reason: row.code for row in ERRORS.values()}


def test_every_declared_reason_has_a_case_and_no_case_is_undeclared():
    assert set(CASES) == set(list_declared_cases())


@pytest.mark.parametrize("case", list_declared_cases(), ids=lambda case: f"{case[0]}-{case[1]}")
def test_declared_reason_is_given_and_changes_nothing(shop: Shop, records: Records, case: Case):
    rpc, reason = case
    request = CASES[case](shop)
    before = records.last_sequence()
    with refused(reason) as refusal:
        shop.stub(rpc)(request)
    assert refusal.code is CODES[reason]
    assert records.last_sequence() == before


# -- precedence: (RPC, reported reason, other reason that applies) -> the request to which both apply


def _lists(kind: Kind) -> dict[tuple[str, str, str], Prepare]:
    rpc = f"List{kind.plural}"
    parent = {"parent": "products/-"} if kind.parent else {}

    def request(**fields: str) -> Any:
        return kind.request(rpc, **parent, **fields)

    return {
        (rpc, "INVALID_FILTER", "INVALID_ORDER_BY"): lambda shop: request(filter="=", order_by="x"),
        (rpc, "INVALID_FILTER", "INVALID_PAGE_TOKEN"): lambda shop: request(filter="=", page_token="x"),
        (rpc, "INVALID_ORDER_BY", "INVALID_PAGE_TOKEN"): lambda shop: request(order_by="x", page_token="x"),
    }


def _changes(kind: Kind) -> dict[tuple[str, str, str], Prepare]:
    noun = kind.noun
    resource = getattr(kind.messages, noun)

    def build_update(name: str, *paths: str) -> Any:
        return kind.update_request(resource(name=name, display_name="Other", etag=STALE), *paths)

    pairs: dict[tuple[str, str, str], Prepare] = {
        (f"Update{noun}", "INVALID_UPDATE_MASK", kind.not_found): lambda shop: build_update(kind.missing, "x"),
        (f"Update{noun}", "RESOURCE_DELETED", "ETAG_MISMATCH"): lambda shop: build_update(
            make_deleted(kind, shop), "display_name"
        ),
        (f"Delete{noun}", kind.not_found, "ETAG_MISMATCH"): lambda shop: kind.by_name(
            "Delete", make_deleted(kind, shop), etag=STALE
        ),
        (f"Undelete{noun}", "RESOURCE_NOT_DELETED", "ETAG_MISMATCH"): lambda shop: kind.by_name(
            "Undelete", kind.make(shop).name, etag=STALE
        ),
    }
    if kind in (CATEGORY, VARIANT, LOCATION):
        in_use = (f"Delete{noun}", "ETAG_MISMATCH", "RESOURCE_IN_USE")
        pairs[in_use] = lambda shop: kind.by_name("Delete", make_used(kind, shop), etag=STALE)
    if kind.archives:
        gone = (f"Archive{noun}", "RESOURCE_DELETED", "ETAG_MISMATCH")
        pairs[gone] = lambda shop: kind.by_name("Archive", make_deleted(kind, shop), etag=STALE)
        there = (f"Unarchive{noun}", "ETAG_MISMATCH", "ILLEGAL_STATE")
        pairs[there] = lambda shop: kind.by_name("Unarchive", kind.make(shop).name, etag=STALE)
    return pairs


def _variant_in(shop: Shop, parent: str, *prices: Any) -> Any:
    return build_new_variant(shop, *prices, parent=parent, sku=shop.variant().sku)


def _existing_with_taken_sku(shop: Shop) -> Any:
    product, _, variant_id = shop.variant().name.partition("/variants/")
    return copy_message(_variant_in(shop, product), variant_id=variant_id)


def _priced_and_stale(shop: Shop, *prices: Any) -> Any:
    return build_priced_variant(shop, *prices, etag=STALE)


PRECEDENCE: dict[tuple[str, str, str], Prepare] = {
    **{pair: prepare for kind in KINDS for pair, prepare in (_lists(kind) | _changes(kind)).items()},
    ("CreateCategory", "CATEGORY_NOT_FOUND", "ALREADY_EXISTS"): lambda shop: CATEGORY.create_request(
        shop, shop.category().name.rpartition("/")[2], parent_category=CATEGORY.missing
    ),
    ("UpdateCategory", "ETAG_MISMATCH", "CATEGORY_CYCLE"): lambda shop: with_etag(build_category_cycle(shop), STALE),
    ("UpdateProduct", "ETAG_MISMATCH", "CATEGORY_NOT_FOUND"): lambda shop: PRODUCT.update_request(
        copy_message(shop.product(), category=CATEGORY.missing, etag=STALE), "category"
    ),
    ("UpdateProduct", "ETAG_MISMATCH", "ILLEGAL_STATE"): lambda shop: build_late_publish_time(shop, etag=STALE),
    ("UpdateProduct", "ILLEGAL_STATE", "CATEGORY_NOT_FOUND"): lambda shop: build_late_publish_time(
        shop, category=CATEGORY.missing
    ),
    ("PublishProduct", "ETAG_MISMATCH", "ILLEGAL_STATE"): lambda shop: PRODUCT.by_name(
        "Publish", shop.product().name, etag=STALE
    ),
    ("CreateVariant", "UNKNOWN_CURRENCY", "PRODUCT_NOT_FOUND"): lambda shop: _variant_in(
        shop, PRODUCT.missing, UNKNOWN
    ),
    ("CreateVariant", "INVALID_AMOUNT", "CURRENCY_MISMATCH"): lambda shop: build_new_variant(shop, TOO_FINE, *TWICE),
    ("CreateVariant", "CURRENCY_MISMATCH", "PRODUCT_NOT_FOUND"): lambda shop: _variant_in(
        shop, PRODUCT.missing, *TWICE
    ),
    ("CreateVariant", "PRODUCT_NOT_FOUND", "SKU_TAKEN"): lambda shop: _variant_in(shop, PRODUCT.missing),
    ("CreateVariant", "RESOURCE_DELETED", "SKU_TAKEN"): lambda shop: _variant_in(shop, make_deleted(PRODUCT, shop)),
    ("CreateVariant", "SKU_TAKEN", "ALREADY_EXISTS"): _existing_with_taken_sku,
    ("UpdateVariant", "UNKNOWN_CURRENCY", "ETAG_MISMATCH"): lambda shop: _priced_and_stale(shop, UNKNOWN),
    ("UpdateVariant", "INVALID_AMOUNT", "ETAG_MISMATCH"): lambda shop: _priced_and_stale(shop, TOO_FINE),
    ("UpdateVariant", "ETAG_MISMATCH", "CURRENCY_MISMATCH"): lambda shop: _priced_and_stale(shop, *TWICE),
    ("AdjustStock", "LOCATION_NOT_FOUND", "SKU_NOT_FOUND"): lambda shop: build_adjustment(
        NO_SKU, location=LOCATION.missing
    ),
    ("AdjustStock", "RESOURCE_DELETED", "SKU_NOT_FOUND"): lambda shop: build_adjustment(
        NO_SKU, location=make_deleted(LOCATION, shop)
    ),
    ("AdjustStock", "ETAG_MISMATCH", "OUT_OF_STOCK"): lambda shop: build_adjustment(
        shop.variant(stock=1).sku, -2, etag=STALE
    ),
    ("SetStock", "RESOURCE_DELETED", "SKU_NOT_FOUND"): lambda shop: build_set_stock(
        NO_SKU, location=make_deleted(LOCATION, shop)
    ),
    ("SetStock", "ETAG_MISMATCH", "QUANTITY_MISMATCH"): lambda shop: build_set_stock(
        shop.variant(stock=1).sku, expected_quantity=2, etag=STALE
    ),
    ("CheckAvailability", "LOCATION_NOT_FOUND", "SKU_NOT_FOUND"): lambda shop: inventory_pb2.CheckAvailabilityRequest(
        skus=[NO_SKU], location=LOCATION.missing
    ),
    ("UpdateReservation", "INVALID_UPDATE_MASK", "RESERVATION_NOT_FOUND"): lambda shop: (
        inventory_pb2.UpdateReservationRequest(
            reservation=inventory_pb2.Reservation(name=NO_RESERVATION), update_mask=FieldMask(paths=["state"])
        )
    ),
    ("UpdateReservation", "ETAG_MISMATCH", "ILLEGAL_STATE"): lambda shop: build_reservation_update(
        make_released_reservation(shop), etag=STALE
    ),
    ("UpdateReservation", "REFERENCE_TAKEN", "LOCATION_NOT_FOUND"): lambda shop: copy_message(
        build_taken_reservation_reference(shop), location=LOCATION.missing
    ),
    ("UpdateReservation", "LOCATION_NOT_FOUND", "SKU_NOT_FOUND"): lambda shop: build_reservation_line(
        shop, NO_SKU, location=LOCATION.missing
    ),
    ("PlaceOrder", "REFERENCE_TAKEN", "RESERVATION_NOT_FOUND"): lambda shop: copy_message(
        build_taken_order_reference(shop), reservation=NO_RESERVATION
    ),
    ("PlaceOrder", "UNKNOWN_CURRENCY", "CUSTOMER_NOT_FOUND"): lambda shop: shop.order_request(
        currency_code="ZZZ", customer=CUSTOMER.missing
    ),
    ("PlaceOrder", "CUSTOMER_NOT_FOUND", "LOCATION_NOT_FOUND"): lambda shop: shop.order_request(
        customer=CUSTOMER.missing, location=LOCATION.missing
    ),
    ("PlaceOrder", "LOCATION_NOT_FOUND", "RESOURCE_DELETED"): lambda shop: shop.order_request(
        customer=make_deleted(CUSTOMER, shop), location=LOCATION.missing
    ),
    ("PlaceOrder", "LOCATION_NOT_FOUND", "SKU_NOT_FOUND"): lambda shop: shop.order_request(
        (NO_SKU, 1), location=LOCATION.missing
    ),
    ("PlaceOrder", "RESOURCE_DELETED", "SKU_NOT_FOUND"): lambda shop: shop.order_request(
        (NO_SKU, 1), location=make_deleted(LOCATION, shop)
    ),
    ("PlaceOrder", "SKU_NOT_FOUND", "NOT_FOR_SALE"): lambda shop: shop.order_request(
        (create_unsellable_sku(shop), 1), (NO_SKU, 1)
    ),
    ("PlaceOrder", "NOT_FOR_SALE", "CURRENCY_MISMATCH"): lambda shop: shop.order_request(
        (shop.variant().sku, 1), (create_unsellable_sku(shop), 1), currency_code="USD"
    ),
    ("PlaceOrder", "CURRENCY_MISMATCH", "OUT_OF_STOCK"): lambda shop: shop.order_request(
        (shop.variant().sku, 1), currency_code="USD"
    ),
    ("PlaceOrder", "CURRENCY_MISMATCH", "QUANTITY_NOT_ALLOWED"): lambda shop: shop.order_request(
        (create_boxed_sku(shop), 1), currency_code="USD"
    ),
    ("PlaceOrder", "QUANTITY_NOT_ALLOWED", "OUT_OF_STOCK"): lambda shop: shop.order_request(
        (create_boxed_sku(shop), 1)
    ),
    ("PlaceOrder", "INVALID_AMOUNT", "OUT_OF_STOCK"): build_excessive_total,
    ("PlaceOrder", "COUPON_NOT_APPLICABLE", "PRICE_CHANGED"): lambda shop: shop.order_request(
        coupon_codes=["NOWHERE"], expected_total=money("9.99")
    ),
    ("PlaceOrder", "PRICE_CHANGED", "OUT_OF_STOCK"): lambda shop: shop.order_request(
        (shop.variant().sku, 1), expected_total=money("9.99")
    ),
    ("QuoteOrder", "CUSTOMER_NOT_FOUND", "SKU_NOT_FOUND"): lambda shop: build_quote(
        shop, (NO_SKU, 1), customer=CUSTOMER.missing
    ),
    **ORDER_PRECEDENCE,
    ("ListOrderHistory", "ORDER_NOT_FOUND", "INVALID_PAGE_TOKEN"): lambda shop: orders_pb2.ListOrderHistoryRequest(
        name=NO_ORDER, page_token="x"
    ),
}


@pytest.mark.parametrize("pair", PRECEDENCE, ids="-".join)
def test_first_of_two_reasons_is_told(shop: Shop, pair: tuple[str, str, str]):
    rpc, told, other = pair
    reasons = read_declared_reasons(rpc)
    assert reasons.index(told) < len(reasons) - 1 - reasons[::-1].index(other)
    with refused(told):
        shop.stub(rpc)(PRECEDENCE[pair](shop))


# -- reasons that every RPC shares come first


def _bare(shop: Shop, rpc: str) -> Any:
    """Return the method without a token."""
    descriptor = CUSTOMER.messages.DESCRIPTOR.services_by_name["CustomerService"].methods_by_name[rpc]
    return shop.bare_channel.unary_unary(f"/{descriptor.containing_service.full_name}/{rpc}")


def test_unauthenticated_comes_before_malformed_message(shop: Shop):
    with refused("UNAUTHENTICATED") as refusal:
        _bare(shop, "GetCustomer")(b"\xff", timeout=60)
    assert refusal.code is grpc.StatusCode.UNAUTHENTICATED


def test_invalid_field_comes_before_the_rpcs_own_reasons(shop: Shop):
    request = orders_pb2.PlaceOrderRequest(customer=CUSTOMER.missing, currency_code="ZZZ")
    with refused("INVALID_FIELD") as refusal:
        shop.orders.PlaceOrder(request)
    assert list(refusal.violations) == ["lines"]


def test_every_broken_field_is_named(shop: Shop):
    lines = [orders_pb2.PlaceOrderLine(sku="TEA", quantity=1), orders_pb2.PlaceOrderLine(sku="", quantity=0)]
    request = orders_pb2.PlaceOrderRequest(customer="nobody", lines=lines, currency_code="euro", request_id="1")
    with refused("INVALID_FIELD") as refusal:
        shop.orders.PlaceOrder(request)
    assert set(refusal.violations) == {
        "customer",
        "currency_code",
        "lines[1].sku",
        "lines[1].quantity",
        "request_id",
    }


def test_reason_is_invalid_field_for_a_variant_without_sku(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        shop.products.CreateVariant(
            products_pb2.CreateVariantRequest(parent=shop.product().name, variant=products_pb2.Variant())
        )
    assert list(refusal.violations) == ["variant.sku"]
