"""Load the benchmarks' catalogue into a running Storekeep, over gRPC."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import Message

from benchmarks import catalogue
from benchmarks.subjects import CALL_TIMEOUT_S, Storekeep
from storekeep.v1 import (
    customers_pb2,
    customers_pb2_grpc,
    inventory_pb2,
    inventory_pb2_grpc,
    products_pb2,
    products_pb2_grpc,
)

BATCH = 1_000
IN_FLIGHT = 16
"""Few enough that the server rejects hardly any call."""
ATTEMPTS_MAX = 20
RETRY_AFTER_S = 0.2
"""Rejected calls are sent again, because a slow disk can cause them."""
LOCATION = "locations/main"

Requests = Iterator[Message]


def stock_catalogue(shop: Storekeep) -> None:
    """Create categories, products, variants, customers, and enough stock of every variant.

    Raises: grpc.RpcError.
    """
    products = products_pb2_grpc.ProductServiceStub(shop.channel)
    customers = customers_pb2_grpc.CustomerServiceStub(shop.channel)
    inventory = inventory_pb2_grpc.InventoryServiceStub(shop.channel)
    for method, requests in (
        (products.CreateCategory, _build_categories()),
        (products.CreateProduct, _build_products()),
        (products.CreateVariant, _build_variants()),
        (inventory.SetStock, _build_stock_levels()),
        (customers.CreateCustomer, _build_customers()),
    ):
        call_all(method, requests, metadata=shop.build_metadata())


def create_persons(shop: Storekeep) -> None:
    """Create customers with a name, an address, an email address and a phone number.

    Raises: grpc.RpcError.
    """
    create = customers_pb2_grpc.CustomerServiceStub(shop.channel).CreateCustomer
    call_all(create, map(_build_person, catalogue.list_person_ids()), metadata=shop.build_metadata())


def create_many_persons(shop: Storekeep, count: int) -> None:
    """Create so many customers as `create_persons` does, in batches.

    Raises: grpc.RpcError.
    """
    create = customers_pb2_grpc.CustomerServiceStub(shop.channel).BatchCreateCustomers
    for first in range(0, count, BATCH):
        requests = [_build_person(catalogue.build_person_id(n)) for n in range(first, min(first + BATCH, count))]
        batch = customers_pb2.BatchCreateCustomersRequest(requests=requests)
        call_all(create, iter([batch]), metadata=shop.build_metadata())


def call_all(method: Callable[..., Any], requests: Requests, *, metadata: tuple[tuple[str, str], ...]) -> None:
    """Call a method with each request, a few at a time. Rejected calls are sent again.

    Raises: grpc.RpcError.
    """
    calls: deque[tuple[Message, grpc.Future[Any]]] = deque()

    def await_first() -> None:
        request, call = calls.popleft()
        for _ in range(ATTEMPTS_MAX):
            error: Any = call.exception()
            if error is None or error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                break
            time.sleep(RETRY_AFTER_S)
            call = method.future(request, timeout=CALL_TIMEOUT_S, metadata=metadata)  # type: ignore[attr-defined]
        call.result()

    for request in requests:
        call = method.future(request, timeout=CALL_TIMEOUT_S, metadata=metadata)  # type: ignore[attr-defined]
        calls.append((request, call))
        if len(calls) >= IN_FLIGHT:
            await_first()
    while calls:
        await_first()


def _build_categories() -> Requests:
    for category_id in catalogue.list_category_ids():
        yield products_pb2.CreateCategoryRequest(
            category=products_pb2.Category(display_name=category_id), category_id=category_id
        )


def _build_products() -> Requests:
    for item in catalogue.list_items():
        product = products_pb2.Product(
            display_name=item.display_name,
            description=item.description,
            category=f"categories/{item.category_id}",
            labels=item.labels,
        )
        yield products_pb2.CreateProductRequest(product=product, product_id=item.product_id)


def _build_variants() -> Requests:
    for item in catalogue.list_items():
        units, cents = divmod(item.price_minor, 100)
        price = {"currency_code": catalogue.CURRENCY, "units": units, "nanos": cents * 10_000_000}
        variant = products_pb2.Variant(sku=item.sku, prices=[price])
        parent = f"products/{item.product_id}"
        yield products_pb2.CreateVariantRequest(parent=parent, variant=variant, variant_id="standard")


def _build_stock_levels() -> Requests:
    for sku in catalogue.list_skus():
        yield inventory_pb2.SetStockRequest(name=f"{LOCATION}/stockLevels/{sku}", quantity=catalogue.UNITS)


def _build_customers() -> Requests:
    for customer_id in catalogue.list_customer_ids():
        customer = customers_pb2.Customer(display_name=customer_id)
        yield customers_pb2.CreateCustomerRequest(customer=customer, customer_id=customer_id)


def _build_person(person_id: str) -> customers_pb2.CreateCustomerRequest:
    customer = customers_pb2.Customer(
        display_name=f"{catalogue.NAME} {person_id}",
        email=catalogue.build_email(person_id),
        phone=catalogue.PHONE,
        addresses=[customers_pb2.CustomerAddress(label="home", address=catalogue.ADDRESS)],
    )
    return customers_pb2.CreateCustomerRequest(customer=customer, customer_id=person_id)
