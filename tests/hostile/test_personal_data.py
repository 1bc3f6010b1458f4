"""Callers without `customers.personal.read` get no personal data: each text that may be personal has a planted mark.

The marks are then searched in the replies of every way to read them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.v1 import audit_pb2, auth_pb2, customers_pb2, events_pb2, inventory_pb2, orders_pb2, quotes_pb2
from storekeep.v1.addresses_pb2 import Address
from tests.support.databases import new_database
from tests.support.hostile.accounts import make_account, make_role, sign_in
from tests.support.planted import MARK, Planted
from tests.support.processes import ServerProcess
from tests.support.refusals import refused
from tests.support.shops import Shop, new_id
from tests.support.watches import Watch

READ = "customers.personal.read"
MASK = "***"


@pytest.fixture(scope="module")
def planted(admin: Shop) -> Planted:
    """Plant marks."""
    return Planted(admin)


READS: dict[str, Callable[[Shop, Planted], Any]] = {
    "GetCustomer": lambda shop, it: shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=it.customer.name)),
    "BatchGetCustomers": lambda shop, it: shop.customers.BatchGetCustomers(
        customers_pb2.BatchGetCustomersRequest(names=[it.customer.name])
    ),
    "ListCustomers": lambda shop, it: shop.customers.ListCustomers(customers_pb2.ListCustomersRequest(page_size=1000)),
    "GetQuote": lambda shop, it: shop.quotes.GetQuote(quotes_pb2.GetQuoteRequest(name=it.quote.name)),
    "ListQuotes": lambda shop, it: shop.quotes.ListQuotes(quotes_pb2.ListQuotesRequest()),
    "GetOrder": lambda shop, it: shop.get_order(it.order),
    "GetCancelledOrder": lambda shop, it: shop.get_order(it.cancelled),
    "BatchGetOrders": lambda shop, it: shop.orders.BatchGetOrders(
        orders_pb2.BatchGetOrdersRequest(names=[it.order.name])
    ),
    "ListOrders": lambda shop, it: shop.orders.ListOrders(
        orders_pb2.ListOrdersRequest(filter=f'customer = "{it.customer.name}"')
    ),
    "SearchOrders": lambda shop, it: shop.orders.SearchOrders(orders_pb2.SearchOrdersRequest(query=it.order.number)),
    "ListOrderHistory": lambda shop, it: shop.orders.ListOrderHistory(
        orders_pb2.ListOrderHistoryRequest(name=it.order.name)
    ),
    "ListOrderNotes": lambda shop, it: shop.orders.ListOrderNotes(
        orders_pb2.ListOrderNotesRequest(parent=it.order.name)
    ),
    "GetFulfillment": lambda shop, it: shop.orders.GetFulfillment(
        orders_pb2.GetFulfillmentRequest(name=it.fulfillment.name)
    ),
    "ListFulfillments": lambda shop, it: shop.orders.ListFulfillments(
        orders_pb2.ListFulfillmentsRequest(parent=it.order.name)
    ),
    "GetReservation": lambda shop, it: shop.inventory.GetReservation(
        inventory_pb2.GetReservationRequest(name=it.reservation.name)
    ),
    "ListReservations": lambda shop, it: shop.inventory.ListReservations(
        inventory_pb2.ListReservationsRequest(page_size=1000)
    ),
    "ListAuditEntries": lambda shop, it: shop.audit.ListAuditEntries(audit_pb2.ListAuditEntriesRequest(page_size=1000)),
    "ListEvents": lambda shop, it: shop.events.ListEvents(events_pb2.ListEventsRequest(page_size=1000)),
    "ReadCustomerData": lambda shop, it: _read_export(shop, it.customer.name),
    "UpdateCustomer": lambda shop, it: shop.customers.UpdateCustomer(
        customers_pb2.UpdateCustomerRequest(
            customer=customers_pb2.Customer(name=it.customer.name, labels={"seen": new_id()})
        )
    ),
}
"""Ways to read what was planted, by name."""


def _read_export(shop: Shop, name: str) -> Any:
    export = shop.customers.ExportCustomerData(customers_pb2.ExportCustomerDataRequest(name=name))
    request = customers_pb2.ReadCustomerDataRequest(name=name, export_token=export.export_token, page_size=1000)
    return shop.customers.ReadCustomerData(request)


def list_contents(reply: Any) -> Iterator[str]:
    """Yield the reply as text, and the content of each event in it."""
    yield str(reply)
    for event in getattr(reply, "events", ()):
        for kind in (customers_pb2.Customer, orders_pb2.Order, orders_pb2.OrderNote, orders_pb2.Fulfillment):
            content = kind()
            if event.content.Unpack(content):
                yield str(content)
        yield event.content.value.decode("latin-1")


@pytest.mark.parametrize("name", READS)
def test_every_read_masks_what_was_planted(name: str, admin: Shop, impersonal: Shop, planted: Planted) -> None:
    assert any(MARK in text for text in list_contents(READS[name](admin, planted)))
    contents = list(list_contents(READS[name](impersonal, planted)))
    assert not [text for text in contents if MARK in text]
    assert any(MASK in text for text in contents)


def test_watcher_gets_masked_events_and_another_of_the_same_events_does_not(admin: Shop, impersonal: Shop) -> None:
    seeing, masked = Watch(admin, event_types=["customer.*"]), Watch(impersonal, event_types=["customer.*"])
    admin.customer(display_name=f"{MARK}watched")
    events = [stream.take(1)[0] for stream in (seeing, masked)]
    assert events[0].name == events[1].name
    names = []
    for event in events:
        customer = customers_pb2.Customer()
        assert event.content.Unpack(customer)
        names.append(customer.display_name)
    assert names == [f"{MARK}watched", MASK]
    for stream in (seeing, masked):
        stream.close()


def test_watcher_gets_masked_events_of_all_kinds(admin: Shop, impersonal: Shop, planted: Planted) -> None:
    resources = [planted.customer.name, planted.quote.name, planted.order.name, planted.reservation.name]
    for resource in resources:
        watch = Watch(impersonal, resources=[resource], start_time=Timestamp(seconds=1))
        event = watch.take(1)[0]
        watch.close()
        assert event.resource == resource
        assert MARK.encode() not in event.content.value
        assert MASK.encode() in event.content.value


def test_watcher_that_loses_the_permission_gets_masked_events(channel: grpc.Channel, admin: Shop) -> None:
    permissions = ["customers.read", "events.read"]
    role = make_role(admin, [*permissions, READ])
    stream = Watch(sign_in(channel, admin, make_account(admin, roles=[role])), event_types=["customer.*"])
    changed = auth_pb2.Role(name=role, permissions=permissions)
    admin.auth.UpdateRole(auth_pb2.UpdateRoleRequest(role=changed, update_mask={"paths": ["permissions"]}))
    customer = customers_pb2.Customer()
    end_s = time.monotonic() + 60
    while customer.display_name != MASK:
        assert time.monotonic() < end_s
        admin.customer(display_name=f"{MARK}watched")
        stream.take(1)[0].content.Unpack(customer)
    stream.close()


def test_masked_reply_has_the_same_fields(admin: Shop, impersonal: Shop, planted: Planted) -> None:
    seen, masked = READS["GetCustomer"](admin, planted), READS["GetCustomer"](impersonal, planted)
    assert [field.name for field, _ in masked.ListFields()] == [field.name for field, _ in seen.ListFields()]
    assert list(masked.addresses[0].address.address_lines) == [MASK, MASK]
    assert masked.addresses[0].address.region_code == "AT"
    assert (masked.name, masked.etag) == (seen.name, seen.etag)


@pytest.mark.parametrize(
    ("rpc", "filter_text"),
    [
        ("ListCustomers", 'display_name = "planted-name"'),
        ("ListCustomers", "email:*"),
        ("ListCustomers", 'NOT phone = "x"'),
        ("ListCustomers", 'company = "p"'),
        ("ListCustomers", 'tax_id = "p"'),
        ("ListOrders", 'email = "p"'),
        ("ListOrders", 'phone = "p"'),
        ("ListOrders", 'customer.email = "p"'),
        ("ListFulfillments", 'tracking_number = "p"'),
        ("ListReservations", 'reference = "p"'),
    ],
)
def test_filter_by_personal_data_is_refused(rpc: str, filter_text: str, admin: Shop, impersonal: Shop) -> None:
    requests = {
        "ListCustomers": customers_pb2.ListCustomersRequest,
        "ListOrders": orders_pb2.ListOrdersRequest,
        "ListFulfillments": orders_pb2.ListFulfillmentsRequest,
        "ListReservations": inventory_pb2.ListReservationsRequest,
    }
    fields = {"parent": "orders/-"} if rpc == "ListFulfillments" else {}
    request = requests[rpc](filter=filter_text, **fields)
    admin.stub(rpc)(request)
    with refused("INVALID_FILTER"):
        impersonal.stub(rpc)(request)


def test_order_by_personal_data_is_refused(admin: Shop, impersonal: Shop) -> None:
    request = customers_pb2.ListCustomersRequest(order_by="display_name")
    for shop in (admin, impersonal):  # it is stored encrypted
        with refused("INVALID_ORDER_BY"):
            shop.customers.ListCustomers(request)


def test_search_by_personal_data_is_refused(admin: Shop, impersonal: Shop, planted: Planted) -> None:
    request = customers_pb2.SearchCustomersRequest(query=f"{MARK}name")
    assert planted.customer.name in [one.name for one in admin.customers.SearchCustomers(request).customers]
    with refused("PERMISSION_DENIED"):
        impersonal.customers.SearchCustomers(request)
    found = orders_pb2.SearchOrdersRequest(query=f"{MARK}name")
    assert planted.order.name in [one.name for one in admin.orders.SearchOrders(found).orders]
    assert not impersonal.orders.SearchOrders(found).orders


def test_mask_is_not_written_back(admin: Shop, impersonal: Shop, planted: Planted) -> None:
    masked = READS["GetCustomer"](impersonal, planted)
    masked.ClearField("email")
    with refused("INVALID_FIELD") as refusal:
        impersonal.customers.UpdateCustomer(customers_pb2.UpdateCustomerRequest(customer=masked))
    assert list(refusal.violations) == ["customer.display_name"]
    order = orders_pb2.Order(name=planted.order.name, shipping_address=Address(address_lines=[MASK], region_code="AT"))
    with refused("INVALID_FIELD"):
        impersonal.orders.UpdateOrder(orders_pb2.UpdateOrderRequest(order=order))
    assert READS["GetCustomer"](admin, planted).display_name == f"{MARK}name"


def test_dry_run_does_not_tell_whether_a_value_was_guessed(admin: Shop, impersonal: Shop) -> None:
    customer = admin.customer(email=f"{MARK}guess@example.com")
    order = admin.order((admin.variant(stock=1).sku, 1), customer=customer.name, note=f"{MARK}note")
    replies: dict[str, list[Any]] = {"customer": [], "batch": [], "order": []}
    for guess in ("wrong", f"{MARK}guess"):
        change = customers_pb2.UpdateCustomerRequest(
            customer=customers_pb2.Customer(name=customer.name, email=f"{guess}@example.com")
        )
        batch = customers_pb2.BatchUpdateCustomersRequest(requests=[change], validate_only=True)
        replies["batch"].append(impersonal.customers.BatchUpdateCustomers(batch))
        change.validate_only = True
        replies["customer"].append(impersonal.customers.UpdateCustomer(change))
    for guess in ("wrong", f"{MARK}note"):
        new = orders_pb2.Order(name=order.name, note=guess)
        replies["order"].append(
            impersonal.orders.UpdateOrder(orders_pb2.UpdateOrderRequest(order=new, validate_only=True))
        )
    for wrong, right in replies.values():
        assert wrong == right


def test_order_of_a_quote_does_not_tell_whether_a_value_was_guessed(
    admin: Shop, impersonal: Shop, planted: Planted
) -> None:
    quote = planted.quote
    order = {"customer": quote.customer, "lines": quote.lines, "currency_code": quote.currency_code}
    wrong = Address(recipient="Nobody", region_code="AT")
    exemption = orders_pb2.OrderTaxExemption(reason="none")
    fields: dict[str, tuple[Any, Any]] = {
        **{name: (getattr(quote, name), wrong) for name in ("shipping_address", "billing_address", "tax_address")},
        "tax_exemption": (quote.tax_exemption, exemption),
    }
    for name, guesses in fields.items():
        texts = []
        for guess in guesses:
            values = {**order, "quote": quote.name, "validate_only": True, name: guess}
            with refused("INVALID_FIELD") as caught:
                impersonal.orders.PlaceOrder(orders_pb2.PlaceOrderRequest(**values))
            texts.append(caught.text)
        assert texts[0] == texts[1]
        values = {**order, "quote": quote.name, "validate_only": True, name: guesses[0]}
        assert admin.orders.PlaceOrder(orders_pb2.PlaceOrderRequest(**values)).total == quote.total
    impersonal.orders.PlaceOrder(orders_pb2.PlaceOrderRequest(**order, quote=quote.name, validate_only=True))


def test_caller_writes_personal_data_that_it_may_not_read(admin: Shop, impersonal: Shop) -> None:
    made = impersonal.customers.CreateCustomer(
        customers_pb2.CreateCustomerRequest(customer=customers_pb2.Customer(display_name=f"{MARK}written"))
    )
    assert made.display_name == MASK
    stored = admin.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=made.name))
    assert stored.display_name == f"{MARK}written"


def test_locations_keep_their_addresses(admin: Shop, impersonal: Shop) -> None:
    address = Address(recipient="Warehouse 2", address_lines=["Dock 1"], region_code="AT")
    location = admin.location(address=address)
    request = inventory_pb2.GetLocationRequest(name=location.name)
    assert impersonal.inventory.GetLocation(request).address == address


def test_log_at_debug_has_nothing_of_what_was_planted(engine: str, tmp_path: Path) -> None:
    database = new_database(engine, tmp_path)
    process = ServerProcess(tmp_path, database=database, log_level="DEBUG")
    with grpc.insecure_channel(process.address) as channel:
        admin = Shop(channel, api_key=process.admin_key)
        planted = Planted(admin)
        for read in READS.values():
            read(admin, planted)
        for call in (
            lambda: admin.customer(display_name=f"{MARK}name", email=f"{MARK}no email"),
            lambda: admin.customer(display_name=f"{MARK}name" * 100),
            lambda: admin.customer(display_name=f"{MARK}name\0"),
            lambda: admin.order(("none", 1), note=f"{MARK}note"),
            lambda: admin.customers.ListCustomers(customers_pb2.ListCustomersRequest(filter=f'email = "{MARK}" (')),
        ):
            with pytest.raises(grpc.RpcError):
                call()
    process.stop()
    assert "PlaceOrder" in process.log()
    assert MARK not in process.log() + process.output()
    database.remove()


def test_scope_of_a_key_withholds_personal_data(channel: grpc.Channel, admin: Shop, planted: Planted) -> None:
    limited = sign_in(channel, admin, "serviceAccounts/admin", scopes=["customers.read"])
    assert READS["GetCustomer"](limited, planted).display_name == MASK
    both = sign_in(channel, admin, "serviceAccounts/admin", scopes=["customers.read", READ])
    assert READS["GetCustomer"](both, planted).display_name == f"{MARK}name"
