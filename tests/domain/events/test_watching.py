"""WatchEvents: each committed change once and in order, from any position, without a thread for each watcher."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.v1 import events_pb2 as pb
from tests.support.refusals import refused
from tests.support.shops import Shop
from tests.support.watches import Watch


@pytest.fixture
def watch(shop: Shop) -> Iterator[Any]:
    """Open streams, which end with the test."""
    opened: list[Watch] = []

    def open_stream(caller: Shop = shop, **fields: Any) -> Watch:
        opened.append(Watch(caller, **fields))
        return opened[-1]

    yield open_stream
    for stream in opened:
        stream.close()


def test_watcher_gets_new_events_in_order(shop: Shop, watch: Any):
    shop.customer()
    stream = watch()
    made = [shop.customer() for _ in range(3)]
    events = stream.take(3)
    assert [event.resource for event in events] == [customer.name for customer in made]
    (listed,) = shop.events.ListEvents(pb.ListEventsRequest(cursor=events[1].cursor)).events
    assert events[2] == listed


def test_watcher_continues_after_a_cursor_without_a_gap(shop: Shop, watch: Any):
    stream = watch()
    names = [shop.customer().name for _ in range(6)]
    first = stream.take(2)
    stream.close()
    assert [event.resource for event in watch(cursor=first[-1].cursor).take(4)] == names[2:]


def test_watcher_starts_at_a_time(shop: Shop, watch: Any):
    everything = list(shop.events.ListEvents(pb.ListEventsRequest(page_size=1000)).events)
    kept = watch(start_time=Timestamp(seconds=0))
    assert kept.take(len(everything)) == everything
    time.sleep(0.002)
    now = Timestamp()
    now.FromNanoseconds(time.time_ns())
    name = shop.customer().name
    assert watch(start_time=now).take(1)[0].resource == name


def test_watcher_gets_only_selected_events(shop: Shop, watch: Any):
    order, other = shop.order(), shop.order()
    by_type, by_resource = watch(event_types=["customer.*", "order.cancelled"]), watch(resources=[order.name])
    customer = shop.customer()
    shop.cancel(shop.confirm(order))
    shop.cancel(other)
    assert [event.resource for event in by_type.take(3)] == [customer.name, order.name, other.name]
    assert [event.type for event in by_resource.take(2)] == ["order.confirmed", "order.cancelled"]


def test_heartbeat_has_the_cursor_of_events_that_were_left_out(shop: Shop, watch: Any):
    stream = watch(event_types=["order.placed"], heartbeat_interval=Duration(seconds=1))
    shop.customer()
    cursor = stream.cursor
    heartbeat = stream.receive()
    while heartbeat.cursor == cursor:  # it was sent before the server saw the event
        heartbeat = stream.receive()
    assert not heartbeat.events
    order = shop.order()
    assert watch(event_types=["order.placed"], cursor=heartbeat.cursor).take(1)[0].resource == order.name


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("cursor", {"cursor": "forged"}),
        ("event_types[0]", {"event_types": ["role.created"]}),
        ("start_time", {"cursor": "", "start_time": {}}),
        ("heartbeat_interval", {"heartbeat_interval": Duration(seconds=301)}),
    ],
)
def test_invalid_request_is_refused(shop: Shop, field: str, fields: dict[str, Any]):
    if field == "start_time":
        shop.customer()
        fields = fields | {"cursor": shop.events.ListEvents(pb.ListEventsRequest(page_size=1)).events[0].cursor}
    with refused("INVALID_FIELD") as refusal:
        next(shop.events.WatchEvents(pb.WatchEventsRequest(**fields)))
    assert list(refusal.violations) == [field]


def test_watcher_without_a_token_is_refused(channel: grpc.Channel, shop: Shop):
    bare = channel.unary_stream("/storekeep.v1.EventService/WatchEvents")
    with refused("UNAUTHENTICATED"):
        next(bare(b""))
