"""Erasures and merges of customers: what becomes unreadable, what stays, and what they refuse."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.v1 import audit_pb2, customers_pb2, events_pb2, orders_pb2, quotes_pb2
from storekeep.v1.addresses_pb2 import Address
from tests.support.historic_orders import SHIPPED, historic, line
from tests.support.hostile.wire import wait_until
from tests.support.processes import ServerProcess
from tests.support.refusals import refused
from tests.support.shops import Shop, new_id, new_request_id
from tests.support.watches import Watch

MARK = "Zyxwv"
"""Part of every personal value of these tests."""


def erase(shop: Shop, name: str, **fields: Any) -> customers_pb2.Customer:
    return shop.customers.EraseCustomer(customers_pb2.EraseCustomerRequest(name=name, **fields))


def merge(shop: Shop, name: str, source: str, **fields: Any) -> customers_pb2.Customer:
    return shop.customers.MergeCustomers(customers_pb2.MergeCustomersRequest(name=name, source=source, **fields))


def get(shop: Shop, name: str) -> customers_pb2.Customer:
    return shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=name))


def make_customer(shop: Shop) -> customers_pb2.Customer:
    """Create a customer with marked values in all personal fields."""
    address = Address(
        region_code="AT", recipient=f"{MARK} Ernst", address_lines=[f"{MARK} Weg 1"], locality="Graz", phone="0316 1"
    )
    return shop.customer(
        display_name=f"{MARK} Ernst",
        email=f"{new_id()}@{MARK}.example",
        phone=f"{MARK} 1",
        company=f"{MARK} KG",
        tax_id=f"{MARK}7",
        labels={"tier": "gold"},
        groups=["wholesale"],
        addresses=[customers_pb2.CustomerAddress(label="home", address=address)],
    )


def complete_order(shop: Shop, customer: str) -> orders_pb2.Order:
    """Place an order with marked values, and ship all of it."""
    sku = shop.variant(stock=9).sku
    address = Address(region_code="AT", recipient=MARK, address_lines=[MARK])
    order = shop.order((sku, 2), customer=customer, shipping_address=address, note=MARK, email=f"a@{MARK}.example")
    shop.orders.AddOrderNote(orders_pb2.AddOrderNoteRequest(parent=order.name, content=MARK))
    shop.ship(shop.fulfill(shop.confirm(order)), tracking_number=MARK)
    return shop.get_order(order)


def list_entries(shop: Shop, resource: str) -> list[audit_pb2.AuditEntry]:
    request = audit_pb2.ListAuditEntriesRequest(filter=f'resource = "{resource}"', order_by="sequence")
    return list(shop.audit.ListAuditEntries(request).audit_entries)


def list_events(shop: Shop, resource: str) -> list[str]:
    """Return the types of the events of a resource."""
    request = events_pb2.ListEventsRequest(filter=f'resource = "{resource}"')
    return [event.type for event in shop.events.ListEvents(request).events]


def verify(server: ServerProcess) -> str:
    """Return the report of `verify`; empty if all checks hold."""
    run = server.run("verify")
    return "" if run.returncode == 0 else run.stdout + run.stderr


def test_erased_customer_is_empty_everywhere_and_its_orders_stay(shop: Shop, server: ServerProcess) -> None:
    customer = make_customer(shop)
    order = complete_order(shop, customer.name)
    other = make_customer(shop)
    erased = erase(shop, customer.name)
    assert erased == get(shop, customer.name)
    assert erased.HasField("erase_time")
    assert erased.HasField("delete_time")
    bare = customers_pb2.Customer(
        name=customer.name,
        create_time=customer.create_time,
        update_time=erased.update_time,
        delete_time=erased.delete_time,
        erase_time=erased.erase_time,
        etag=erased.etag,
    )
    assert erased == bare
    left = shop.get_order(order)
    assert MARK not in str(left)
    assert (left.total, left.price_details.tax_total, left.number, left.customer) == (
        order.total,
        order.price_details.tax_total,
        order.number,
        customer.name,
    )
    assert [line.sku for line in left.lines] == [line.sku for line in order.lines]
    for resource in (customer.name, order.name, f"{order.name}/*"):
        entries = list_entries(shop, resource)
        assert entries
        assert MARK not in str(entries)
    assert get(shop, other.name) == other
    assert verify(server) == ""


def test_search_and_filters_find_no_erased_customer(shop: Shop) -> None:
    customer = make_customer(shop)
    order = complete_order(shop, customer.name)
    erase(shop, customer.name)
    for query in (customer.email, customer.phone):
        request = customers_pb2.SearchCustomersRequest(query=query, show_deleted=True)
        assert customer.name not in [one.name for one in shop.customers.SearchCustomers(request).customers]
    request = customers_pb2.ListCustomersRequest(filter=f'email = "{customer.email}"', show_deleted=True)
    assert not shop.customers.ListCustomers(request).customers
    orders = orders_pb2.ListOrdersRequest(filter=f'email = "a@{MARK}.example"')
    assert order.name not in [one.name for one in shop.orders.ListOrders(orders).orders]


def test_erase_again_changes_nothing_and_undelete_is_refused(shop: Shop) -> None:
    customer = make_customer(shop)
    erased = erase(shop, customer.name)
    assert erase(shop, customer.name) == erased
    with refused("ILLEGAL_STATE"):
        shop.customers.UndeleteCustomer(customers_pb2.UndeleteCustomerRequest(name=customer.name))
    with refused("RESOURCE_DELETED"):
        shop.customers.UpdateCustomer(
            customers_pb2.UpdateCustomerRequest(customer=customers_pb2.Customer(name=customer.name, phone="1"))
        )
    with refused("ALREADY_EXISTS"):
        shop.customers.CreateCustomer(
            customers_pb2.CreateCustomerRequest(
                customer=customers_pb2.Customer(display_name="New"), customer_id=customer.name.partition("/")[2]
            )
        )


def test_erase_with_an_open_order_is_refused_unless_forced(shop: Shop, server: ServerProcess) -> None:
    customer = make_customer(shop)
    order = shop.order(customer=customer.name, note=MARK)
    with refused("RESOURCE_IN_USE") as expected:
        erase(shop, customer.name)
    assert f"{order.name}; `force` erases it" in str(expected.refusal)
    assert get(shop, customer.name) == customer
    erase(shop, customer.name, force=True)
    with refused("PERSONAL_DATA_ERASED") as expected:
        shop.orders.AddOrderNote(orders_pb2.AddOrderNoteRequest(parent=order.name, content=MARK))
    assert expected.refusal.metadata["resource"] == customer.name
    fulfillment = shop.fulfill(shop.confirm(order))
    with refused("PERSONAL_DATA_ERASED"):
        shop.ship(fulfillment, tracking_number=MARK)
    shop.ship(fulfillment)
    assert not shop.orders.ListOrderNotes(orders_pb2.ListOrderNotesRequest(parent=order.name)).notes
    assert MARK not in str(shop.get_order(order))
    assert MARK not in str(list_entries(shop, f"{order.name}*"))
    assert verify(server) == ""


def test_texts_about_an_erased_customer_are_refused_and_the_steps_work_without(shop: Shop) -> None:
    customer = make_customer(shop)
    order, other = (shop.order(customer=customer.name, note=MARK) for _ in range(2))
    erase(shop, customer.name, force=True)
    changes = orders_pb2.UpdateOrderRequest(
        order=orders_pb2.Order(name=order.name, note=MARK), update_mask=FieldMask(paths=["note"])
    )
    calls: list[Callable[[], Any]] = [
        lambda: shop.orders.UpdateOrder(changes),
        lambda: shop.orders.HoldOrder(orders_pb2.HoldOrderRequest(name=order.name, reason=MARK)),
        lambda: shop.orders.CancelOrder(orders_pb2.CancelOrderRequest(name=order.name, reason=MARK)),
    ]
    for call in calls:
        before = shop.get_order(order)
        with refused("PERSONAL_DATA_ERASED"):
            call()
        assert shop.get_order(order) == before
    shop.orders.HoldOrder(orders_pb2.HoldOrderRequest(name=order.name))
    shop.orders.CancelOrder(orders_pb2.CancelOrderRequest(name=order.name))
    shop.ship(shop.fulfill(shop.confirm(other)))


def test_import_of_an_order_of_an_erased_customer_is_refused_alone(shop: Shop) -> None:
    customer, other = make_customer(shop), make_customer(shop)
    erase(shop, customer.name)
    sku = shop.variant(stock=1).sku
    orders = [historic(shop, line(sku), customer=one.name, note=MARK, **SHIPPED) for one in (customer, other)]
    results = shop.orders.ImportOrders(orders_pb2.ImportOrdersRequest(orders=orders)).results
    assert f"{customer.name} was erased" in str(results[0])
    assert results[1].order


def test_order_and_quote_for_an_erased_or_merged_customer_say_why_they_are_refused(shop: Shop) -> None:
    erased, merged, other, deleted = (shop.customer().name for _ in range(4))
    erase(shop, erased)
    merge(shop, other, merged)
    shop.customers.DeleteCustomer(customers_pb2.DeleteCustomerRequest(name=deleted))
    sku = shop.variant(stock=5).sku
    line = orders_pb2.PlaceOrderLine(sku=sku, quantity=1)
    quote = quotes_pb2.Quote(lines=[line], currency_code="EUR")
    for name, why in ((erased, "is erased"), (merged, f"was merged into {other}"), (deleted, "is deleted")):
        quote.customer = name
        calls: list[Callable[[], object]] = [
            lambda name=name: shop.order((sku, 1), customer=name),  # type: ignore[misc]
            lambda name=name: shop.orders.QuoteOrder(  # type: ignore[misc]
                orders_pb2.QuoteOrderRequest(customer=name, lines=[line], currency_code="EUR")
            ),
            lambda: shop.quotes.CreateQuote(quotes_pb2.CreateQuoteRequest(quote=quote)),
        ]
        for call in calls:
            with refused("RESOURCE_DELETED") as refusal:
                call()
            assert why in refusal.text


def test_dry_run_of_an_erasure_changes_nothing(shop: Shop) -> None:
    customer = make_customer(shop)
    shown = erase(shop, customer.name, validate_only=True)
    assert (shown.display_name, shown.HasField("erase_time")) == ("", True)
    assert get(shop, customer.name) == customer
    with refused("ETAG_MISMATCH"):
        erase(shop, customer.name, etag="v99")


def test_stored_reply_of_an_erased_customer_has_no_personal_data(shop: Shop) -> None:
    request = customers_pb2.CreateCustomerRequest(
        customer=customers_pb2.Customer(display_name=MARK, email="a@b.example"), request_id=new_request_id()
    )
    customer = shop.customers.CreateCustomer(request)
    erase(shop, customer.name)
    replayed = shop.customers.CreateCustomer(request)
    assert replayed.name == customer.name
    assert MARK not in str(replayed)
    assert replayed.email == ""


def test_merge_moves_orders_and_uses_and_deletes_the_source(shop: Shop, server: ServerProcess) -> None:
    target, source = make_customer(shop), make_customer(shop)
    finished, open_order = complete_order(shop, source.name), shop.order(customer=source.name)
    shown = merge(shop, target.name, source.name, validate_only=True)
    assert shown == get(shop, target.name)
    assert get(shop, source.name) == source
    assert merge(shop, target.name, source.name) == target
    left = get(shop, source.name)
    assert (left.merged_into, left.HasField("delete_time")) == (target.name, True)
    for order in (finished, open_order):
        moved = shop.get_order(order)
        assert (moved.customer, moved.total, moved.note) == (target.name, order.total, order.note)
    with refused("ILLEGAL_STATE"):
        shop.customers.UndeleteCustomer(customers_pb2.UndeleteCustomerRequest(name=source.name))
    with refused("RESOURCE_DELETED") as repeated:
        merge(shop, target.name, source.name)
    assert repeated.refusal.text == f"{source.name} is deleted; it was merged into {target.name}"
    with refused("INVALID_FIELD"):
        merge(shop, target.name, target.name)
    assert verify(server) == ""


def make_quote(shop: Shop, customer: str, **fields: Any) -> quotes_pb2.Quote:
    """Create a draft with marked values."""
    line = orders_pb2.PlaceOrderLine(sku=shop.variant(stock=9).sku, quantity=1)
    address = Address(region_code="AT", recipient=MARK)
    quote = quotes_pb2.Quote(
        customer=customer, lines=[line], currency_code="EUR", note=MARK, shipping_address=address, **fields
    )
    return shop.quotes.CreateQuote(quotes_pb2.CreateQuoteRequest(quote=quote))


def test_merge_moves_quotes_which_can_be_accepted(shop: Shop, server: ServerProcess) -> None:
    target, source = make_customer(shop), make_customer(shop)
    draft, sent = make_quote(shop, source.name), make_quote(shop, source.name)
    sent = shop.quotes.SendQuote(quotes_pb2.SendQuoteRequest(name=sent.name))
    soon = Timestamp()
    soon.FromNanoseconds(time.time_ns() + 2_000_000_000)
    expired = make_quote(shop, source.name, expire_time=soon)
    request = quotes_pb2.GetQuoteRequest(name=expired.name)
    wait_until(lambda: shop.quotes.GetQuote(request).state == quotes_pb2.QUOTE_STATE_EXPIRED, what="expiry")
    merge(shop, target.name, source.name)
    for quote, state in ((draft, "DRAFT"), (sent, "SENT"), (expired, "EXPIRED")):
        moved = shop.quotes.GetQuote(quotes_pb2.GetQuoteRequest(name=quote.name))
        assert (moved.customer, moved.total, moved.note) == (target.name, quote.total, MARK)
        assert moved.state == quotes_pb2.QuoteState.Value(f"QUOTE_STATE_{state}")
        assert list_events(shop, quote.name)[-1] == "quote.reassigned"
    assert list_events(shop, expired.name) == ["quote.created", "quote.expired", "quote.reassigned"]
    order = shop.quotes.AcceptQuote(quotes_pb2.AcceptQuoteRequest(name=sent.name))
    assert (order.customer, order.total, order.note) == (target.name, sent.total, MARK)
    assert verify(server) == ""


def test_quotes_of_an_erased_customer_are_unreadable_and_cannot_be_accepted(shop: Shop, server: ServerProcess) -> None:
    customer = make_customer(shop)
    quote = make_quote(shop, customer.name)
    sent = shop.quotes.SendQuote(quotes_pb2.SendQuoteRequest(name=quote.name))
    erase(shop, customer.name)
    left = shop.quotes.GetQuote(quotes_pb2.GetQuoteRequest(name=quote.name))
    assert (left.total, left.state, left.note) == (sent.total, sent.state, "")
    assert MARK not in str(list_entries(shop, quote.name))
    with refused("RESOURCE_DELETED"):
        shop.quotes.AcceptQuote(quotes_pb2.AcceptQuoteRequest(name=quote.name))
    shop.quotes.ExpireQuote(quotes_pb2.ExpireQuoteRequest(name=quote.name))
    assert MARK not in str(list_entries(shop, quote.name))
    assert verify(server) == ""


def test_erasure_reaches_customers_that_were_merged_before(shop: Shop, server: ServerProcess) -> None:
    first, second, last = (make_customer(shop) for _ in range(3))
    order = complete_order(shop, first.name)
    merge(shop, second.name, first.name)
    merge(shop, last.name, second.name)
    with refused("ILLEGAL_STATE"):
        erase(shop, second.name)
    erase(shop, last.name)
    for name in (first.name, second.name, last.name):
        customer = get(shop, name)
        assert (customer.display_name, customer.HasField("erase_time")) == ("", True)
        assert MARK not in str(list_entries(shop, name)[:1])
    assert MARK not in str(shop.get_order(order))
    assert MARK not in str(list_entries(shop, f"{order.name}*"))
    assert verify(server) == ""


@pytest.mark.parametrize("method", ["EraseCustomer", "MergeCustomers"])
def test_missing_customer_is_named(shop: Shop, method: str) -> None:
    fields = {"source": shop.customer().name} if method == "MergeCustomers" else {}
    request = getattr(customers_pb2, f"{method}Request")(name="customers/nobody", **fields)
    with refused("CUSTOMER_NOT_FOUND") as expected:
        getattr(shop.customers, method)(request)
    assert "customers/nobody" in str(expected.refusal)


def test_watcher_gets_nothing_of_an_erased_customer_that_others_got_before(shop: Shop) -> None:
    """The events are prepared once for all watchers, before the erasure."""
    first = Watch(shop)
    start = first.cursor
    customer = make_customer(shop)
    (created,) = first.take(1)
    assert MARK.encode() in created.content.value
    erase(shop, customer.name)
    (erased,) = first.take(1)
    assert erased.type == "customer.erased"
    second = Watch(shop, cursor=start)
    events = second.take(2)
    assert [event.type for event in events] == ["customer.created", "customer.erased"]
    assert not [event for event in events if MARK.encode() in event.content.value]
    for stream in (first, second):
        stream.close()


def test_export_shows_nothing_of_a_customer_that_is_erased_meanwhile(shop: Shop) -> None:
    customer = make_customer(shop)
    complete_order(shop, customer.name)
    request = customers_pb2.ExportCustomerDataRequest(name=customer.name)
    token = shop.customers.ExportCustomerData(request).export_token
    pages, page_token = [], ""
    while not pages or page_token:
        reply = shop.customers.ReadCustomerData(
            customers_pb2.ReadCustomerDataRequest(
                name=customer.name, export_token=token, page_size=1, page_token=page_token
            )
        )
        if not pages:
            erase(shop, customer.name)
        pages.append(str(reply.records))
        page_token = reply.next_page_token
    assert MARK in pages[0]
    assert len(pages) > 5
    assert not [page for page in pages[1:] if MARK in page]
