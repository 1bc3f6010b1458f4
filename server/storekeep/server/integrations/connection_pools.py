"""Idle connections that wait for another request to the same origin. The TLS handshake takes most of a request's CPU.

A connection serves one request at a time. It waits only after a complete reply, for a bounded time, so that a host name
that moves to other addresses is followed within a minute. Nothing here runs by itself: the owner calls `close_stale`.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import httpcore

from storekeep.server.integrations.streams import Limits

CONNECTIONS_MAX = 32
"""Idle connections of a pool. Beyond it the one that has waited longest is closed."""
IDLE_MAX_S = 15.0
"""How long a connection waits. Many receivers close theirs after some 60 s, and some after 20."""
AGE_MAX_S = 60.0
"""How old a connection may be when a request begins. A new one looks its host name up again."""


@dataclass(eq=False, slots=True)
class Connection:
    """A connection to an origin.

    Attributes:
        http: the connection.
        limits: what its current request may take.
        stream: what its bytes go over; None before the first reply.
        made_s, idle_since_s: when it was made, and when its last reply was complete, by `time.monotonic()`.
    """

    origin: httpcore.Origin
    http: httpcore.HTTPConnection
    limits: Limits
    stream: httpcore.NetworkStream | None = None
    made_s: float = field(default_factory=time.monotonic)
    idle_since_s: float = 0.0

    def is_fresh(self, now_s: float) -> bool:
        """Return whether another request may begin on it."""
        return now_s - self.made_s < AGE_MAX_S and now_s - self.idle_since_s < IDLE_MAX_S

    def is_ending(self) -> bool:
        """Return whether the receiver has sent something while the connection waited, such as its end."""
        return self.stream is None or bool(self.stream.get_extra_info("is_readable"))

    def has_stray_bytes(self) -> bool:
        """Return whether bytes after the reply were read. They would be taken for the reply to the next request.

        httpcore does not tell: its parser of HTTP/1.1 has them. If a later version hides the parser, the answer is yes,
        and each request gets a connection of its own. In HTTP/2 each reply names its request.
        """
        inner = getattr(self.http, "_connection", None)
        if isinstance(inner, httpcore.HTTP2Connection):
            return False
        parser = getattr(inner, "_h11_state", None)
        return parser is None or parser.trailing_data[0] != b""


class ConnectionPool:
    """The idle connections of a sender. Threads may share it.

    Args:
        size_max: how many may wait at once.
    """

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._lock = threading.Lock()
        self._idle: list[Connection] = []

    def take(self, origin: httpcore.Origin) -> Connection | None:
        """Return a connection to an origin, for the caller alone; None if none waits."""
        with self._lock:
            self._close_excess()
            for connection in reversed(self._idle):
                if connection.origin == origin:
                    self._idle.remove(connection)
                    if not connection.is_ending():
                        return connection
                    connection.http.close()
                    break
        return None

    def put(self, connection: Connection) -> None:
        """Let a connection wait whose reply was read to its end, unless more has arrived than the reply."""
        asked_to_close = not connection.http.is_idle()
        if asked_to_close or connection.has_stray_bytes():
            connection.http.close()
            return
        connection.idle_since_s = time.monotonic()
        with self._lock:
            self._idle.append(connection)
            self._close_excess()

    def close_stale(self) -> None:
        """Close the connections that have waited too long or are too old."""
        with self._lock:
            self._close_excess()

    def close(self) -> None:
        """Close all idle connections, and from now on each one after its request."""
        with self._lock:
            self._size_max = 0
            self._close_excess()

    def _close_excess(self) -> None:
        now_s = time.monotonic()
        excess = len(self._idle) - self._size_max
        stale = [one for index, one in enumerate(self._idle) if index < excess or not one.is_fresh(now_s)]
        for connection in stale:
            self._idle.remove(connection)
            connection.http.close()
