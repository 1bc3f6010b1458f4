"""Watchers of events: what the feed knows of each, and how many there may be."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import NamedTuple, Protocol

from storekeep.server.domain.errors import TooManyWatchers
from storekeep.server.domain.events.cursors import Position
from storekeep.server.domain.events.watching import EventFilter
from storekeep.server.telemetry.personal_reads import PersonalReader
from storekeep.server.transport.streams import StreamCall

WATCHER_BYTES = 20 * 1024
"""Memory of a watcher without a filter. One with a large filter counts as several."""
BEGIN, SENT, END = "begin", "sent", "end"
"""What can happen to a watcher outside the feed's thread."""


class Access(NamedTuple):
    """Who watches.

    Attributes:
        authorization: the `authorization` metadata; never logged.
        peer: the caller's address with its port.
        address: the address that limits count.
        key: the API key; the account of a caller without one.
        request_id: the request id of the call.
        expire_us: when the token expires, microseconds since 1970.
        reader: the caller, as counted in the audit log.
    """

    authorization: str | None
    peer: str
    address: str
    key: str
    request_id: str
    expire_us: int
    reader: PersonalReader


class Notify(Protocol):
    """Tells the feed what happened to a watcher; must not block."""

    def __call__(self, kind: str, watcher: Watcher, /) -> None:
        """Tell it."""


class Watcher:
    """One watcher; a `Subscription`. Only the feed's thread changes it.

    Attributes:
        access: who watches.
        selected: which events it gets.
        position: the position up to which everything was sent or left out.
        weight: how many watchers it counts as.
        read_position: the same of the last response that has left this process.
        heartbeat_s: longest time between two responses.
        expires_s: when its token expires, as a `time.monotonic()`.
        call: the stream; None before it is open.
        is_queued: whether it waits for its turn.
        has_ended: whether the stream has ended.
        sent_s: time of the last response.
        unread_since_s: time of the response that has not left this process; 0 if all have.
        unread_bytes: its size.
    """

    __slots__ = (
        "_notify",
        "access",
        "call",
        "expires_s",
        "has_ended",
        "heartbeat_s",
        "is_queued",
        "position",
        "read_position",
        "selected",
        "sent_s",
        "unread_bytes",
        "unread_since_s",
        "weight",
    )

    def __init__(
        self, notify: Notify, access: Access, *, selected: EventFilter, position: Position, heartbeat_s: float
    ) -> None:
        self._notify = notify
        self.access = access
        self.selected = selected
        self.weight = 1 + selected.measure_bytes() // WATCHER_BYTES
        self.position = self.read_position = position
        self.heartbeat_s = heartbeat_s
        self.expires_s = time.monotonic() + access.expire_us / 1e6 - time.time()
        self.call: StreamCall | None = None
        self.is_queued = self.has_ended = False
        self.sent_s = self.unread_since_s = 0.0
        self.unread_bytes = 0

    def begin(self, call: StreamCall) -> None:
        """Start to send events."""
        self.call = call
        self._notify(BEGIN, self)

    def on_sent(self) -> None:
        """Let the feed send the next response."""
        self._notify(SENT, self)

    def on_end(self) -> None:
        """Let the feed forget the watcher."""
        self._notify(END, self)


class WatcherLimits(NamedTuple):
    """The most watchers in a process: in all, of one address, and with one API key."""

    watchers_max: int
    per_address_max: int
    per_key_max: int


class WatcherCounts:
    """Counts the open watchers. Thread-safe."""

    def __init__(self, limits: WatcherLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, watcher: Watcher) -> None:
        """Count a new watcher.

        Raises: TooManyWatchers.
        """
        names = _list_names(watcher.access)
        with self._lock:
            for name, watchers_max in zip(names, self._limits, strict=True):
                if self._counts[name] and self._counts[name] + watcher.weight > watchers_max:
                    raise TooManyWatchers(name[0], watchers_max=watchers_max)
            for name in names:
                self._counts[name] += watcher.weight

    def remove(self, watcher: Watcher) -> None:
        """Count an ended watcher."""
        with self._lock:
            for name in _list_names(watcher.access):
                self._counts[name] -= watcher.weight
                if not self._counts[name]:
                    del self._counts[name]


def _list_names(access: Access) -> tuple[tuple[str, str], ...]:
    """Return what is counted, in the order of `WatcherLimits`."""
    return ("watchers", ""), ("watchers per address", access.address), ("watchers per key", access.key)
