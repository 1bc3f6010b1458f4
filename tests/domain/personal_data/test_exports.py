"""Exports of a customer's data: what they hold, who may read them and for how long, and what the audit log records."""

from __future__ import annotations

import grpc
import pytest

from storekeep.v1 import audit_pb2, customers_pb2, orders_pb2, quotes_pb2
from storekeep.v1.addresses_pb2 import Address
from tests.support.hostile.accounts import make_account, sign_in
from tests.support.refusals import refused
from tests.support.shops import Shop, new_request_id


def start_export(shop: Shop, name: str, **fields: object) -> customers_pb2.CustomerExport:
    return shop.customers.ExportCustomerData(customers_pb2.ExportCustomerDataRequest(name=name, **fields))


def read_page(shop: Shop, name: str, token: str, **fields: object) -> customers_pb2.ReadCustomerDataResponse:
    request = customers_pb2.ReadCustomerDataRequest(name=name, export_token=token, **fields)
    return shop.customers.ReadCustomerData(request)


def read_all(shop: Shop, name: str, token: str, *, page_size: int) -> list[customers_pb2.CustomerRecord]:
    page = read_page(shop, name, token, page_size=page_size)
    records = list(page.records)
    while page.next_page_token:
        assert len(page.records) == page_size
        page = read_page(shop, name, token, page_size=page_size, page_token=page.next_page_token)
        records += page.records
    return records


def list_exports(shop: Shop, name: str) -> list[audit_pb2.AuditEntry]:
    request = audit_pb2.ListAuditEntriesRequest(filter=f'resource = "{name}/exports/*"')
    return list(shop.audit.ListAuditEntries(request).audit_entries)


def place_orders(shop: Shop, customer: str) -> list[orders_pb2.Order]:
    """Place two orders with a note, a shipped fulfilment and a reservation each."""
    placed = []
    for number in range(2):
        sku = shop.variant(stock=9).sku
        reservation = shop.reserve((sku, 1), reference=f"cart {number}")
        order = shop.order((sku, 2), customer=customer, reservation=reservation.name, email="ada@example.com")
        shop.orders.AddOrderNote(orders_pb2.AddOrderNoteRequest(parent=order.name, content=f"note {number}"))
        shop.ship(shop.fulfill(shop.confirm(order)), tracking_number=f"track {number}")
        placed.append(shop.get_order(order))
    return placed


def make_quotes(shop: Shop, customer: str) -> list[quotes_pb2.Quote]:
    """Make two drafts with an address."""
    line, address = (
        orders_pb2.PlaceOrderLine(sku=shop.variant().sku, quantity=1),
        Address(recipient="Ada", region_code="AT"),
    )
    quote = quotes_pb2.Quote(customer=customer, lines=[line], currency_code="EUR", shipping_address=address)
    return [shop.quotes.CreateQuote(quotes_pb2.CreateQuoteRequest(quote=quote)) for _ in range(2)]


@pytest.mark.parametrize("page_size", [1, 3, 1000])
def test_export_has_everything_about_a_customer_and_nothing_about_others(shop: Shop, page_size: int) -> None:
    customer, stranger = shop.customer(email="ada@example.com"), shop.customer()
    placed = place_orders(shop, customer.name)
    quoted = make_quotes(shop, customer.name)
    place_orders(shop, stranger.name)
    make_quotes(shop, stranger.name)
    records = read_all(shop, customer.name, start_export(shop, customer.name).export_token, page_size=page_size)
    kinds = [str(record.WhichOneof("record")) for record in records]
    found = {kind: [getattr(one, kind) for one in records if one.WhichOneof("record") == kind] for kind in set(kinds)}
    assert found["customer"] == [customer]
    assert found["order"] == placed
    assert sorted(note.content for note in found["order_note"]) == ["note 0", "note 1"]
    assert sorted(one.tracking_number for one in found["fulfillment"]) == ["track 0", "track 1"]
    assert sorted(one.reference for one in found["reservation"]) == ["cart 0", "cart 1"]
    assert found["quote"] == quoted
    changes = [(entry.resource, entry.sequence) for entry in found["audit_entry"]]
    assert len(changes) == len(set(changes))
    named = {record.name for kind in found if kind != "audit_entry" for record in found[kind]}
    assert {resource for resource, _ in changes} == named
    order = ["customer", "order", "order_note", "fulfillment", "reservation", "quote", "audit_entry"]
    assert kinds == sorted(kinds, key=order.index)


@pytest.mark.parametrize("page_size", [1, 2, 1000])
def test_export_has_the_customers_that_were_merged_into_it(shop: Shop, page_size: int) -> None:
    """Also through others. The customer that remains comes first; another merge is not a part of it."""
    last, middle, first, stranger, other = (
        shop.customer(email=f"{label}@example.com") for label in ("last", "middle", "first", "stranger", "other")
    )
    for target, source in ((middle, first), (last, middle), (stranger, other)):
        shop.customers.MergeCustomers(customers_pb2.MergeCustomersRequest(name=target.name, source=source.name))
    records = read_all(shop, last.name, start_export(shop, last.name).export_token, page_size=page_size)
    customers = [one.customer for one in records if one.WhichOneof("record") == "customer"]
    assert customers[0] == last
    assert {one.email for one in customers[1:]} == {first.email, middle.email}
    changed = [one.audit_entry.resource for one in records if one.WhichOneof("record") == "audit_entry"]
    assert set(changed) == {last.name, middle.name, first.name}
    assert sorted(changed) == sorted([last.name] + [middle.name] * 2 + [first.name] * 2)


def test_export_is_recorded_once_and_a_dry_run_is_not(shop: Shop) -> None:
    customer = shop.customer()
    assert start_export(shop, customer.name, validate_only=True).export_token == ""
    assert list_exports(shop, customer.name) == []
    request_id = new_request_id()
    first, again = (start_export(shop, customer.name, request_id=request_id) for _ in range(2))
    assert first == again
    (entry,) = list_exports(shop, customer.name)
    assert (entry.actor, entry.method) == (shop.subject, "storekeep.v1.CustomerService/ExportCustomerData")


def test_export_of_a_deleted_customer_works(shop: Shop) -> None:
    customer = shop.customer()
    shop.customers.DeleteCustomer(customers_pb2.DeleteCustomerRequest(name=customer.name))
    token = start_export(shop, customer.name).export_token
    assert read_page(shop, customer.name, token).records[0].customer.name == customer.name


def test_export_of_a_missing_customer_is_refused(shop: Shop) -> None:
    with refused("CUSTOMER_NOT_FOUND"):
        start_export(shop, "customers/none")


def test_token_of_another_account_is_refused(shop: Shop, channel: grpc.Channel) -> None:
    customer = shop.customer()
    token = start_export(shop, customer.name).export_token
    other = sign_in(channel, shop, make_account(shop, roles=["roles/admin"]))
    with refused("INVALID_FIELD") as refusal:
        read_page(other, customer.name, token)
    assert list(refusal.violations) == ["export_token"]
    same = sign_in(channel, shop, shop.subject)  # an account may read its export with another key
    assert read_page(same, customer.name, token).records


def test_token_of_another_customer_or_page_is_refused(shop: Shop) -> None:
    one, other = shop.customer(), shop.customer()
    token = start_export(shop, one.name).export_token
    for wrong in ("x", f"{token}A", read_page(shop, one.name, token, page_size=1).next_page_token):
        with refused("INVALID_FIELD") as refusal:
            read_page(shop, one.name, wrong)
        assert list(refusal.violations) == ["export_token"]
    with refused("INVALID_FIELD"):
        read_page(shop, other.name, token)
    page_token = read_page(shop, one.name, token, page_size=1).next_page_token
    with refused("INVALID_PAGE_TOKEN"):
        read_page(shop, one.name, start_export(shop, one.name).export_token, page_token=page_token)
