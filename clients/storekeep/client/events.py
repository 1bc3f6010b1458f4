"""Events: every committed change of a resource, once, in the order of the commits."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Unpack

import grpc

from storekeep.client.calls import Calls, GetOptions
from storekeep.client.event_streams import EventStream
from storekeep.client.pages import Listing, Query, build_query
from storekeep.client.times import to_timestamp
from storekeep.v1 import customers_pb2, inventory_pb2, orders_pb2, pricing_pb2, products_pb2, quotes_pb2
from storekeep.v1.events_pb2 import Event, GetEventRequest, ListEventsRequest, WatchEventsRequest
from storekeep.v1.events_pb2_grpc import EventServiceStub

CONTENTS = (customers_pb2, inventory_pb2, orders_pb2, pricing_pb2, products_pb2, quotes_pb2)
"""The files with the messages that an event can contain. Protobuf formats only contents whose file is imported."""


class Events:
    """Lists and watches events."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = EventServiceStub(channel)

    def get(self, name: str, **options: Unpack[GetOptions]) -> Event:
        """Get one event.

        Raises: EventsExpired, EventNotFound, AuditEntryUnreadable.
        """
        return self._calls.get(self._stub.GetEvent, GetEventRequest(name=name), **options)

    def list(
        self,
        *,
        cursor: str = "",
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[Query],
    ) -> Listing[Event]:
        """List events, oldest first unless `order_by` is set.

        Args:
            cursor: the cursor of an event: list only events after it, or before it with `sequence desc`.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken, EventsExpired, HistoryChanged, AuditEntryUnreadable.
        """
        return self._calls.list_pages(
            self._stub.ListEvents,
            ListEventsRequest(cursor=cursor, **build_query(query)),
            items=lambda page: page.events,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def watch(
        self,
        *,
        cursor: str = "",
        start_time: datetime | None = None,
        event_types: Iterable[str] = (),
        resources: Iterable[str] = (),
        omit_content: bool = False,
        heartbeat_s: float | None = None,
        max_staleness_s: float | None = None,
    ) -> EventStream:
        """Return an iterator over events as they are committed, each once and in order.

        It reconnects by itself. `close` it, or use it in a `with` statement.

        Args:
            cursor: start after the event with this cursor.
            start_time: start with the first event at or after this time; an early one for the oldest kept event
                (default: the next event that is committed).
            event_types: only events of these types, such as `order.placed` or `order.*` (default: all).
            resources: only events of these resources and of those in them, such as `orders/x` (default: all).
            omit_content: leave out the content and etag of events.
            heartbeat_s: the longest silence of the server, 1 to 300 seconds (default: as the server is set).
            max_staleness_s: maximum age in seconds of the position at which a stream without `cursor` starts, at most a
                day. A replica may then determine it. It always includes this client's own writes (default: the
                current position).

        Raises: TooManyWatchers, EventsExpired, HistoryChanged, WatcherTooSlow, AuditEntryUnreadable (while iterating).
        """
        request = WatchEventsRequest(
            cursor=cursor,
            start_time=to_timestamp(start_time),
            event_types=event_types,
            resources=resources,
            omit_content=omit_content,
        )
        if heartbeat_s is not None:
            request.heartbeat_interval.FromNanoseconds(round(heartbeat_s * 1_000_000_000))
        if max_staleness_s is not None:
            request.max_staleness.FromNanoseconds(round(max_staleness_s * 1_000_000_000))
        return EventStream(self._calls, self._stub.WatchEvents, request)
