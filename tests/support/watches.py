"""An open stream of events over bare gRPC."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration

from storekeep.v1 import events_pb2 as pb
from tests.support.shops import Shop

WATCH_TIMEOUT_S = 240.0


class Watch:
    """A stream of events.

    Attributes:
        cursor: the last one received.
    """

    def __init__(self, shop: Shop, *, heartbeat_s: int = 0, **fields: Any) -> None:
        if heartbeat_s:
            fields["heartbeat_interval"] = Duration(seconds=heartbeat_s)
        self.call = shop.events.WatchEvents(pb.WatchEventsRequest(**fields), timeout=WATCH_TIMEOUT_S)
        self.cursor = ""
        self._events: list[pb.Event] = []
        self.receive()

    def receive(self) -> pb.WatchEventsResponse:
        """Return the next response."""
        response = next(self.call)
        self.cursor = response.cursor
        return response

    def take(self, count: int) -> list[pb.Event]:
        """Return the next events, as soon as there are so many."""
        while len(self._events) < count:
            self._events += self.receive().events
        taken, self._events = self._events[:count], self._events[count:]
        return taken

    def close(self) -> None:
        """End the stream."""
        self.call.cancel()
