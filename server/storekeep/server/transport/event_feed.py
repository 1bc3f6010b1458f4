"""The feed of events: one thread per process reads each committed change once and sends it to all watchers.

A watcher is a position in the ledger. It has at most one unread response, so a slow one costs only that and is ended
after a while; the others never wait for it. Invariant: a response has every event between the position before it and
its cursor that the filter selects, in order.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from storekeep.server.domain.access_errors import TokenExpired
from storekeep.server.domain.calls import Caller
from storekeep.server.domain.errors import AuditEntryUnreadable, DomainError, HistoryChanged, WatcherTooSlow
from storekeep.server.domain.events.cursors import Position
from storekeep.server.domain.events.retention import Retention
from storekeep.server.domain.events.watching import EventFilter, LedgerEnd
from storekeep.server.store.errors import ShuttingDown, StorageUnavailable, StoreError
from storekeep.server.telemetry.personal_reads import PersonalReader
from storekeep.server.transport.call_statuses import CallStatus
from storekeep.server.transport.event_blocks import Batch, EventBlocks, LedgerChanged
from storekeep.server.transport.event_watchers import BEGIN, END, SENT, Access, Watcher, WatcherCounts, WatcherLimits
from storekeep.server.transport.streams import FLUSH_S
from storekeep.v1 import events_pb2 as pb

TURN_S = 0.01
"""How long watchers that are behind are served before the thread looks for new events again."""
PACE, CPU_PACE = 9.0, 24.0
"""Pause after sending new events to all watchers, as a multiple of the time that it took and of its CPU time, whichever
is longer, at most `PAUSE_MAX_S`. Events that are committed meanwhile share responses, and the thread takes a 25th of a
core for some hundred watchers. What gRPC and the polling thread do for the responses costs as much again."""
PAUSE_MAX_S = 0.25
CPU_PACE_MIN = 9.0
"""Shortest pause as a multiple of the CPU time. It has no maximum: more watchers wait longer, and rounds take a
tenth of a core at most. Watchers that lack events of earlier rounds are served between the rounds, without a pause."""
RETRY_S = 0.5
"""Pause after the database did not answer."""
UNREAD_MIN_S = 1.0
"""Younger responses are not ended for the budget of unread bytes."""
DRAIN_MAX_S = 5.0
"""Longest time to tell all watchers that the server stops. 10,000 take less than a second."""
CHECKED_PER_TURN = 50
"""Watchers whose access is checked again in one turn."""
RESPONSES_MAX = 64
"""Most cached responses, which watchers with the same filter and position share."""
TIMERS_MIN = 1_000
IDLE_S = 1.0
"""Longest wait of the thread while there are watchers."""

log = logging.getLogger("storekeep.events")


class FeedSettings(NamedTuple):
    """The settings of the feed.

    Attributes:
        poll_s: interval between looks for events of other processes.
        recheck_s: interval between looks for changed permissions.
        read_timeout_s: how long a response may stay unread.
        unread_max_bytes: how many bytes of responses may be unread in all.
    """

    poll_s: float
    recheck_s: float
    read_timeout_s: float
    unread_max_bytes: int


class FeedSource(NamedTuple):
    """What the feed uses of the rest of the server.

    Attributes:
        read_end: returns the end of the ledger, given the known one; raises StoreError.
        write_cursor: returns the cursor of a position.
        make_history_error: makes the error of a position that is not in the ledger's history.
        get_access_version: returns a number that changes with any permission; raises StoreError.
        authenticate: returns the caller of an `authorization`, given the peer; raises as for a call.
        make_status: makes the status of an error, given the request id and the cursor.
        count_personal: counts the resources with personal data that a caller got.
    """

    read_end: Callable[[LedgerEnd], LedgerEnd]
    write_cursor: Callable[[Position], str]
    make_history_error: Callable[[], HistoryChanged]
    get_access_version: Callable[[], int]
    authenticate: Callable[[str | None, str], Caller]
    make_status: Callable[[Exception, str, str], CallStatus]
    count_personal: Callable[[PersonalReader, int], None]


class EventFeed:
    """Sends events to watchers. Thread-safe; `start` it once.

    Args:
        source: see `FeedSource`.
        blocks: the prepared events.
        settings: see `FeedSettings`.
        limits: how many watchers there may be.
    """

    def __init__(
        self, source: FeedSource, blocks: EventBlocks, *, settings: FeedSettings, limits: WatcherLimits
    ) -> None:
        self._source = source
        self._blocks = blocks
        self._settings = settings
        self._counts = WatcherCounts(limits)
        self._notices: deque[tuple[str, Watcher]] = deque()
        self._wake, self._drained = threading.Event(), threading.Event()
        self._is_alert = self._is_draining = self._is_closed = False
        self._end = LedgerEnd(0, b"")
        self._watchers: dict[Watcher, None] = {}
        self._ending: dict[Watcher, tuple[float, CallStatus]] = {}
        self._unread: dict[Watcher, None] = {}
        self._unread_bytes = 0
        self._queue: deque[Watcher] = deque()
        self._late: list[Watcher] = []
        self._round_start = 0
        self._unchecked: deque[Watcher] = deque()
        self._responses: dict[tuple[EventFilter, Position], Batch] = {}
        self._timers: list[tuple[float, int, Watcher]] = []
        self._numbers = itertools.count()
        self._look_due_s = self._recheck_due_s = self._check_due_s = self._serve_due_s = 0.0
        self._access_version = -1
        self._sent = 0
        self._ended: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="event-feed", daemon=True)

    # -- in any thread

    def start(self) -> None:
        """Start the thread. It waits until there is a watcher."""
        self._thread.start()

    def open(self, access: Access, *, selected: EventFilter, position: Position, heartbeat_s: float) -> Watcher:
        """Return a new watcher that starts after a position.

        Raises: TooManyWatchers, ShuttingDown.
        """
        if self._is_draining:
            raise ShuttingDown
        watcher = Watcher(self._notify, access, selected=selected, position=position, heartbeat_s=heartbeat_s)
        self._counts.add(watcher)
        return watcher

    def notify_commit(self) -> None:
        """Tell the feed that this process committed changes."""
        if self._is_alert:
            self._is_alert = False
            self._look_due_s = 0.0
            self._wake.set()

    def drain(self) -> None:
        """End all watchers, because the server stops, and wait until each was told."""
        self._is_draining = True
        self._wake.set()
        self._drained.wait(DRAIN_MAX_S)

    def close(self) -> None:
        """Stop the thread."""
        self._is_closed = True
        self._wake.set()

    @property
    def sent(self) -> int:
        """Number of events that were sent to watchers."""
        return self._sent

    @property
    def ended(self) -> dict[str, int]:
        """How many watchers the server has ended, by the name of the error."""
        return dict(self._ended)

    def measure(self) -> tuple[int, int]:
        """Return the number of watchers, and how many entries of the ledger the slowest is behind."""
        watchers, end = list(self._watchers), self._end.sequence
        return len(watchers), max((end - watcher.position.sequence for watcher in watchers), default=0)

    def _notify(self, kind: str, watcher: Watcher) -> None:
        self._notices.append((kind, watcher))
        if kind != SENT or watcher.position.sequence < self._round_start:
            self._wake.set()

    # -- in the thread of the feed

    def _run(self) -> None:
        while not self._is_closed:
            try:
                self._turn()
            except Exception:
                log.exception("the feed of events failed")
                time.sleep(RETRY_S)
            self._wake.wait(self._compute_wait_s())
            self._wake.clear()

    def _turn(self) -> None:
        self._take_notices()
        if self._is_draining:
            self._end_all(ShuttingDown())
            self._drained.set()
        now_s = time.monotonic()
        if self._watchers and now_s >= self._look_due_s:
            self._look()
        self._serve_queue(until_s=now_s + TURN_S)
        self._run_timers()
        self._recheck()
        self._end_slow()

    def _compute_wait_s(self) -> float | None:
        """Return how long there is nothing to do; None while there are no watchers."""
        if self._queue and time.monotonic() >= self._serve_due_s:
            return 0.0
        if not (self._watchers or self._ending):
            return None
        due_s = self._look_due_s
        if self._unchecked:
            due_s = min(due_s, self._check_due_s)
        if self._timers:
            due_s = min(due_s, self._timers[0][0])
        if self._queue:
            due_s = min(due_s, self._serve_due_s)
        return min(IDLE_S, max(0.0, due_s - time.monotonic()))

    def _take_notices(self) -> None:
        while self._notices:
            kind, watcher = self._notices.popleft()
            if kind == SENT:
                self._clear_unread(watcher)
                watcher.read_position = watcher.position
                if watcher.position.sequence < self._round_start:
                    self._enqueue(watcher)
                elif watcher.position.sequence < self._end.sequence:  # it lacks only what the last round has sent
                    self._late.append(watcher)
            elif kind == END:
                self._forget(watcher)
            elif kind == BEGIN and not watcher.has_ended:
                self._begin(watcher)

    def _begin(self, watcher: Watcher) -> None:
        """Send the cursor at which a watcher starts, so that it can continue there from now on."""
        is_known = watcher.position.sequence <= self._end.sequence or self._look()
        self._watchers[watcher] = None  # only now, so that the first response has no events
        if not is_known:
            self._end_watcher(watcher, StorageUnavailable())
            return
        if watcher.position.sequence > self._end.sequence:
            self._end_watcher(watcher, self._source.make_history_error())
            return
        self._unchecked.append(watcher)
        self._send(watcher, self._make_cursor(watcher.position), count=0)
        self._set_timer(watcher)

    def _forget(self, watcher: Watcher) -> None:
        watcher.has_ended = True
        watcher.call = None
        self._watchers.pop(watcher, None)
        self._ending.pop(watcher, None)
        self._clear_unread(watcher)
        self._counts.remove(watcher)

    def _clear_unread(self, watcher: Watcher) -> None:
        if watcher in self._unread:
            del self._unread[watcher]
            self._unread_bytes -= watcher.unread_bytes
            watcher.unread_since_s = 0.0

    def _look(self) -> bool:
        """Read the end of the ledger, and send new events to the watchers that have all earlier ones.

        Returns: whether the database answered.
        """
        began_s, began_cpu_s = time.monotonic(), time.thread_time()
        self._is_alert = True  # before the read: a commit after it wakes the thread again
        try:
            end = self._source.read_end(self._end)
        except StoreError:
            self._look_due_s = began_s + RETRY_S
            return False
        if not end.continues:
            self._restart(end)
            return True
        if end.generation != self._end.generation:  # prepared events may have the data of persons who are erased now
            self._blocks.clear()
            self._responses.clear()
            self._end = self._end._replace(generation=end.generation)
        self._round_start = self._end.sequence
        late, self._late = self._late, []
        if end.sequence == self._end.sequence:
            for watcher in late:
                self._enqueue(watcher)
            self._look_due_s = began_s + self._settings.poll_s
            if not self._is_alert:  # there was a commit since
                self._look_due_s = 0.0
            return True
        self._is_alert = False
        self._end = end
        self._responses.clear()
        for watcher in list(self._watchers):
            if not watcher.is_queued:
                self._try_to_serve(watcher)
        ended_s = time.monotonic()
        cpu_s = time.thread_time() - began_cpu_s
        pause_s = min(PAUSE_MAX_S, max(PACE * (ended_s - began_s), CPU_PACE * cpu_s))
        self._look_due_s = ended_s + max(pause_s, CPU_PACE_MIN * cpu_s)
        return True

    def _restart(self, end: LedgerEnd) -> None:
        """End all watchers, because the ledger has lost entries, as after a failover to a late replica."""
        log.error("the ledger has lost entries that were sent as events", extra={"sequence": self._end.sequence})
        self._end = end
        self._blocks.clear()
        self._responses.clear()
        self._end_all(StorageUnavailable())

    # -- sending

    def _enqueue(self, watcher: Watcher) -> None:
        if watcher.position.sequence < self._end.sequence and not watcher.is_queued:
            watcher.is_queued = True
            self._queue.append(watcher)

    def _serve_queue(self, *, until_s: float) -> None:
        """Serve the watchers that are behind in turns, one block each."""
        while self._queue and self._serve_due_s <= time.monotonic() < until_s:
            watcher = self._queue.popleft()
            watcher.is_queued = False
            self._try_to_serve(watcher)
            if self._notices:
                self._take_notices()

    def _try_to_serve(self, watcher: Watcher) -> None:
        try:
            self._serve(watcher)
        except LedgerChanged:  # a new stream finds out whether it can continue
            log.error("a watcher's position is not in the ledger", extra={"sequence": watcher.position.sequence})
            self._blocks.clear()
            self._look_due_s = 0.0
            self._end_watcher(watcher, StorageUnavailable())
        except UnicodeDecodeError:
            self._end_watcher(watcher, AuditEntryUnreadable("auditEntries/-"))
        except StoreError:
            self._serve_due_s = time.monotonic() + RETRY_S
            self._enqueue(watcher)
        except Exception as error:  # only this watcher asked for it; the others must not wait
            log.exception("events could not be sent", extra={"request_id": watcher.access.request_id})
            self._end_watcher(watcher, error)

    def _serve(self, watcher: Watcher) -> None:
        """Send the next events of one block to a watcher that has read all earlier ones.

        Raises: LedgerChanged, StoreError, UnicodeDecodeError.
        """
        if watcher.unread_since_s or watcher.call is None or watcher in self._ending:
            return
        if watcher.position.sequence >= self._end.sequence:
            return
        if self._unread_bytes > self._settings.unread_max_bytes:
            self._serve_due_s = time.monotonic() + TURN_S
            self._enqueue(watcher)
            return
        response = self._get_response(watcher.selected, watcher.position)
        watcher.position = response.until
        if response.events:
            self._send(watcher, response.body, count=response.events, personal=response.personal)
        else:
            self._enqueue(watcher)

    def _get_response(self, selected: EventFilter, position: Position) -> Batch:
        """Return the next response after a position, with its cursor."""
        response = self._responses.get((selected, position))
        if response is None:
            response = self._blocks.get_batch(selected, after=position, head=self._end.sequence)
            if response.events:
                response = response._replace(body=response.body + self._make_cursor(response.until))
            if len(self._responses) >= RESPONSES_MAX:
                self._responses.clear()
            self._responses[selected, position] = response
        return response

    def _make_cursor(self, position: Position) -> bytes:
        """Return a response without events. Appended to others, it is their cursor."""
        return pb.WatchEventsResponse(cursor=self._source.write_cursor(position)).SerializeToString()

    def _send(self, watcher: Watcher, message: bytes, *, count: int, personal: int = 0) -> None:
        call = watcher.call
        if call is None:
            return
        watcher.sent_s = time.monotonic()
        if call.send(message):
            watcher.unread_since_s, watcher.unread_bytes = watcher.sent_s, len(message)
            self._unread[watcher] = None
            self._unread_bytes += len(message)
            self._sent += count
            if personal:
                self._source.count_personal(watcher.access.reader, personal)

    # -- time

    def _set_timer(self, watcher: Watcher) -> None:
        due_s = min(watcher.sent_s + watcher.heartbeat_s, watcher.expires_s)
        if len(self._timers) > 2 * len(self._watchers) + TIMERS_MIN:  # most are of streams that have ended
            self._timers = [timer for timer in self._timers if not timer[2].has_ended]
            heapq.heapify(self._timers)
        heapq.heappush(self._timers, (due_s, next(self._numbers), watcher))

    def _run_timers(self) -> None:
        now_s = time.monotonic()
        while self._timers and self._timers[0][0] <= now_s:
            _, _, watcher = heapq.heappop(self._timers)
            if watcher.has_ended or watcher in self._ending:
                continue
            if watcher.expires_s <= now_s:
                self._end_watcher(watcher, TokenExpired())
                continue
            if now_s - watcher.sent_s >= watcher.heartbeat_s:
                if watcher.unread_since_s:
                    watcher.sent_s = now_s  # look again later
                else:
                    self._send(watcher, self._make_cursor(watcher.position), count=0)
            self._set_timer(watcher)

    def _recheck(self) -> None:
        """Check the access of watchers again, after any change of permissions."""
        now_s = time.monotonic()
        if self._watchers and now_s >= self._recheck_due_s:
            self._recheck_due_s = now_s + self._settings.recheck_s
            try:
                version = self._source.get_access_version()
            except StoreError:
                return
            if version != self._access_version:
                self._access_version = version
                self._unchecked = deque(self._watchers)
        for _ in range(min(CHECKED_PER_TURN, len(self._unchecked))):
            if now_s < self._check_due_s:
                return
            self._check_access(self._unchecked.popleft())

    def _check_access(self, watcher: Watcher) -> None:
        if watcher not in self._watchers or watcher in self._ending:
            return
        try:
            caller = self._source.authenticate(watcher.access.authorization, watcher.access.peer)
        except DomainError as error:
            self._end_watcher(watcher, error)
        except StoreError:
            self._unchecked.append(watcher)
            self._check_due_s = time.monotonic() + RETRY_S
        else:
            watcher.selected = watcher.selected.replace_permissions(caller.permissions)

    # -- ends

    def _end_slow(self) -> None:
        """End the watchers that do not read, and drop those that do not even read their end."""
        now_s = time.monotonic()
        for watcher in self._list_slow(now_s):
            if watcher not in self._ending:
                log.warning("a watcher does not read its events", extra={"request_id": watcher.access.request_id})
            self._end_watcher(watcher, WatcherTooSlow(self._source.write_cursor(watcher.read_position)))
        late = list(itertools.takewhile(lambda pair: now_s - pair[1][0] > FLUSH_S, self._ending.items()))
        for watcher, (_, status) in late:
            self._ending[watcher] = now_s, status
            if watcher.call is not None:
                watcher.call.drop(status)

    def _list_slow(self, now_s: float) -> Iterator[Watcher]:
        excess_bytes = self._unread_bytes - self._settings.unread_max_bytes
        for watcher in self._unread:
            unread_s = now_s - watcher.unread_since_s
            if unread_s < self._settings.read_timeout_s and (excess_bytes <= 0 or unread_s < UNREAD_MIN_S):
                return
            excess_bytes -= watcher.unread_bytes
            yield watcher

    def _end_all(self, error: Exception) -> None:
        for watcher in list(self._watchers):
            self._end_watcher(watcher, error)

    def _end_watcher(self, watcher: Watcher, error: Exception) -> None:
        """End a stream with an error and its cursor, after the response that is being sent.

        A caller that receives the status has received all responses; `drop` sends no details.
        """
        if watcher in self._ending or watcher.call is None:
            return
        self._ended[type(error).__name__] += 1
        cursor = self._source.write_cursor(watcher.position)
        status = self._source.make_status(error, watcher.access.request_id, cursor)
        self._ending[watcher] = time.monotonic(), status
        watcher.call.end(status)


class Events(NamedTuple):
    """The parts of events in one process.

    Attributes:
        feed: sends events to watchers.
        retention: knows which events are kept.
        heartbeat_s: default interval of heartbeats, in seconds.
    """

    feed: EventFeed
    retention: Retention
    heartbeat_s: float
