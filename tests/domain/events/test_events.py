"""Events: each committed change once, in order, and only for those who may read the resource."""

from __future__ import annotations

import itertools
import re
import threading
import urllib.request
from typing import Any

import grpc
import pytest

from storekeep.client import Location, Storekeep
from storekeep.server.domain.events.reading import PERMISSIONS
from storekeep.server.domain.events.types import TYPES, VERBS
from storekeep.server.servicers.events import CONTENTS
from storekeep.v1 import customers_pb2, events_pb2, orders_pb2, products_pb2
from tests.conftest import MakeServer
from tests.support.clusters import await_condition
from tests.support.historic_orders import historic, seconds
from tests.support.hostile.accounts import sign_in
from tests.support.mutations import CHANGES
from tests.support.processes import ServerProcess
from tests.support.refusals import refused
from tests.support.shops import Shop, new_request_id


def list_events(shop: Shop, **fields: Any) -> list[events_pb2.Event]:
    return list(shop.events.ListEvents(events_pb2.ListEventsRequest(**fields)).events)


def get_newest(shop: Shop) -> events_pb2.Event:
    """Make an event and return it."""
    shop.customer()
    return list_events(shop, order_by="sequence desc", page_size=1)[0]


def test_each_kind_of_event_has_a_permission_and_a_content():
    assert PERMISSIONS.keys() == CONTENTS.keys()


def test_order_is_an_event_with_its_content(shop: Shop):
    start = get_newest(shop).cursor
    order = shop.order(request_id=(request_id := new_request_id()))
    (event,) = list_events(shop, cursor=start, filter='type = "order.*"')
    assert (event.type, event.resource, event.etag) == ("order.placed", order.name, order.etag)
    assert (event.actor, event.request_id, event.resource_sequence) == (shop.subject, request_id, 1)
    content = orders_pb2.Order()
    assert event.content.Unpack(content)
    assert content == order
    assert event == shop.events.GetEvent(events_pb2.GetEventRequest(name=event.name))


@pytest.mark.parametrize("time_s", [-410_000_000, -16_385, -1])
def test_order_from_before_1970_has_its_time_in_lists_and_events(shop: Shop, time_s: int):
    start = get_newest(shop).cursor
    wanted = historic(shop, order_time=seconds(time_s), ship_time=seconds(time_s))
    request = orders_pb2.ImportOrdersRequest(orders=[wanted], request_id=new_request_id())
    (result,) = shop.orders.ImportOrders(request).results
    order = shop.orders.GetOrder(orders_pb2.GetOrderRequest(name=result.order))
    assert order.create_time == seconds(time_s)
    filtered = orders_pb2.ListOrdersRequest(filter=f'number = "{wanted.number}"')
    assert list(shop.orders.ListOrders(filtered).orders) == [order]
    (event,) = list_events(shop, cursor=start, filter='type = "order.*"')
    content = orders_pb2.Order()
    assert event.content.Unpack(content)
    assert content.create_time == seconds(time_s)


def test_event_whose_content_cannot_be_read_is_listed_without_it_and_counted(make_server: MakeServer):
    server = make_server(metrics_listen="127.0.0.1:0")
    address = re.search(r"http://(127\.0\.0\.1:\d+)", server.output())
    assert address is not None
    with Storekeep(server.address, api_key=server.admin_key) as client:
        made = client.inventory.create_location(Location(display_name="Graz"), location_id="graz")
        with server.database.unguarded() as session:
            session.run("UPDATE audit_entries SET after = ? WHERE resource = ?", b'{"id": 7}', made.name)
        (event,) = client.events.list(filter=f'resource = "{made.name}"')
    assert (event.resource, event.HasField("content"), event.etag) == (made.name, False, "")
    with urllib.request.urlopen(f"http://{address[1]}/metrics", timeout=60) as page:
        assert 'storekeep_events_without_content_total{noun="location"} 1.0' in page.read().decode()
    await_condition(lambda: "an event has no content" in server.log(), server.log)


def test_each_change_of_a_resource_is_one_event_in_order(shop: Shop):
    order = shop.order()
    confirmed = shop.confirm(order)
    shop.cancel(confirmed)
    events = list_events(shop, filter=f'resource = "{order.name}"')
    assert [event.type for event in events] == ["order.placed", "order.confirmed", "order.cancelled"]
    assert [event.resource_sequence for event in events] == [1, 2, 3]
    backward = list_events(shop, filter=f'resource = "{order.name}"', order_by="sequence desc")
    assert backward == events[::-1]


def test_refused_change_and_dry_run_and_retry_leave_no_event(shop: Shop):
    start = get_newest(shop).cursor
    dry_run = customers_pb2.CreateCustomerRequest(customer={"display_name": "Dry"}, validate_only=True)
    shop.customers.CreateCustomer(dry_run)
    with refused("INVALID_FIELD"):
        shop.customer(email="none")
    request = customers_pb2.CreateCustomerRequest(customer={"display_name": "Once"}, request_id=new_request_id())
    made = shop.customers.CreateCustomer(request)
    assert shop.customers.CreateCustomer(request) == made
    assert [event.resource for event in list_events(shop, cursor=start)] == [made.name]


def test_cursor_pages_both_ways_without_a_gap(shop: Shop):
    names = [shop.customer().name for _ in range(5)]
    events = list_events(shop, filter='type = "customer.created"', page_size=1000)[-5:]
    assert [event.resource for event in events] == names
    assert list_events(shop, cursor=events[1].cursor, page_size=3) == events[2:]
    before = list_events(shop, cursor=events[3].cursor, order_by="sequence desc", page_size=3)
    assert before == events[2::-1]
    request = events_pb2.ListEventsRequest(cursor=events[0].cursor, page_size=2)
    page = shop.events.ListEvents(request)
    request.page_token = page.next_page_token
    assert [*page.events, *shop.events.ListEvents(request).events] == events[1:]
    request.cursor = events[1].cursor
    with refused("INVALID_PAGE_TOKEN"):
        shop.events.ListEvents(request)


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: f"{text}A", lambda _: "1", lambda _: "ü"])
def test_forged_cursor_is_refused(shop: Shop, change: Any):
    with refused("INVALID_FIELD") as refusal:
        list_events(shop, cursor=change(get_newest(shop).cursor))
    assert list(refusal.violations) == ["cursor"]


def test_page_token_is_no_cursor(shop: Shop):
    shop.order()  # there is a second page
    page = shop.events.ListEvents(events_pb2.ListEventsRequest(page_size=1))
    with refused("INVALID_FIELD"):
        list_events(shop, cursor=page.next_page_token)


@pytest.mark.parametrize("number", ["0", "1", "9" * 18, "9" * 19])
def test_entry_that_is_no_event_is_not_found(shop: Shop, number: str):
    with refused("EVENT_NOT_FOUND"):
        shop.events.GetEvent(events_pb2.GetEventRequest(name=f"events/{number}"))


def make_reader(shop: Shop, channel: grpc.Channel, *scopes: str) -> Shop:
    return sign_in(channel, shop, "serviceAccounts/admin", scopes=["events.read", *scopes])


def test_caller_sees_only_events_of_resources_that_it_may_read(channel: grpc.Channel, shop: Shop):
    start = get_newest(shop).cursor
    order = shop.order()
    draft = shop.draft()
    reader = make_reader(shop, channel, "customers.read", "customers.personal.read", "products.read")
    allowed = {"customer", "category"}
    everything = list_events(shop, cursor=start, page_size=1000)
    readable = [event for event in everything if event.type.partition(".")[0] in allowed]
    assert readable
    assert list_events(reader, cursor=start, page_size=1000) == readable
    for resource in (order.name, draft.name):
        (event,) = list_events(shop, filter=f'resource = "{resource}"')
        with refused("EVENT_NOT_FOUND"):
            reader.events.GetEvent(events_pb2.GetEventRequest(name=event.name))
        assert list_events(reader, filter=f'resource = "{resource}"') == []
    assert list_events(make_reader(shop, channel), page_size=1) == []


def test_access_is_no_event(shop: Shop, channel: grpc.Channel):
    start = get_newest(shop).cursor
    make_reader(shop, channel)
    assert list_events(shop, cursor=start) == []


def test_draft_is_an_event_for_those_who_may_see_drafts(shop: Shop):
    draft = shop.draft()
    (event,) = list_events(shop, filter=f'resource = "{draft.name}"')
    content = products_pb2.Product()
    assert event.content.Unpack(content)
    assert content == draft


def test_watch_gets_each_event_once_in_order_with_two_clients(shop: Shop, client: Storekeep, server: ServerProcess):
    start = get_newest(shop).cursor
    made: list[str] = []

    def write() -> None:
        made.extend(shop.customer().name for _ in range(40))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    first = list(itertools.islice(client.events.watch(cursor=start), 60))
    with Storekeep(server.address, api_key=server.admin_key) as other:
        rest = list(itertools.islice(other.events.watch(cursor=first[-1].cursor), 100))
    for thread in threads:
        thread.join()
    seen = [event.resource for event in first + rest]
    assert len(set(seen)) == 160
    assert set(seen) == set(made)
    numbers = [int(event.name.rpartition("/")[2]) for event in first + rest]
    assert numbers == sorted(numbers)


def test_each_noun_has_types_and_each_change_writes_a_known_one():
    assert VERBS.keys() == PERMISSIONS.keys()
    written = {event for change in CHANGES for event in (change.event, *change.also)}
    assert written <= set(TYPES)
