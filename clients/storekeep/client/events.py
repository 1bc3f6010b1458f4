"""Events: every committed change of a resource, once, in the order of the commits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Unpack

import grpc

from storekeep.client.calls import Calls, GetOptions
from storekeep.client.pages import Listing, Query, build_query
from storekeep.v1 import customers_pb2, inventory_pb2, orders_pb2, products_pb2
from storekeep.v1.events_pb2 import Event, GetEventRequest, ListEventsRequest
from storekeep.v1.events_pb2_grpc import EventServiceStub

CONTENTS = (customers_pb2, inventory_pb2, orders_pb2, products_pb2)
"""The files with the messages that an event can contain. Protobuf formats only contents whose file is imported."""
FOLLOW_PAGE_SIZE = 200
"""Events that `follow` fetches at once."""


class Events:
    """Lists and follows events."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = EventServiceStub(channel)

    def get(self, name: str, **options: Unpack[GetOptions]) -> Event:
        """Get one event.

        Raises: EventNotFound, AuditEntryUnreadable.
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

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken, AuditEntryUnreadable.
        """
        return self._calls.list_pages(
            self._stub.ListEvents,
            ListEventsRequest(cursor=cursor, **build_query(query)),
            items=lambda page: page.events,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def follow(
        self,
        *,
        cursor: str | None = None,
        filter: str = "",  # noqa: A002 - the name in the contract
        interval_s: float = 1.0,
    ) -> Iterator[Event]:
        """Yield events as they are committed, each once and in order, without an end. Store the cursor of the last.

        Args:
            cursor: start after the event with this cursor; empty for the first event (default: after the newest event).
            filter: as for `list`.
            interval_s: time between two reads in seconds while there is nothing new.

        Raises: the errors of `list`. Continue with the cursor of the last event.
        """
        if cursor is None:
            newest = next(iter(self.list(filter=filter, order_by="sequence desc", page_size=1)), None)
            cursor = "" if newest is None else newest.cursor
        while True:
            start = cursor
            for event in self.list(cursor=cursor, filter=filter, page_size=FOLLOW_PAGE_SIZE):
                yield event
                cursor = event.cursor
            if cursor == start:
                time.sleep(interval_s)
