"""Read replicas for reads with bounded staleness.

The staleness of a replica comes from the audit ledger, which every change appends to. The primary is polled for the
last entry of its ledger several times a second, and each replica for the newest such entry that it has, compared by
hash. Invariant: the known staleness of a replica only grows while it or the primary does not answer, or while its
history differs from the primary's, so it is excluded.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import peewee

from storekeep.server.store.drivers import Driver
from storekeep.server.store.errors import ReadTooExpensive, StorageUnavailable, StoreError
from storekeep.server.store.reads import ReadBounds
from storekeep.server.store.sql.statements import Statement, parameter
from storekeep.server.store.sql.transactions import Transaction, read_clock
from storekeep.server.store.tables.ledger import AuditEntry

HISTORY_RESOLUTION = 0.1
"""Distance between recorded ends of the ledger, as a fraction of their age. The staleness of a lagging replica is
overestimated by this fraction at most, and a few hundred entries cover days."""
HISTORY_MAX_S = 100_000.0
"""How long ends of the ledger are recorded. Longer than the maximum staleness that a call may allow, which is a day."""
ANSWER_TIMEOUT_S = 2.0
"""Timeout of a poll of the primary or a replica, including a new connection."""
LOG_DELAY_S = 5.0
"""How long a replica is excluded before that is logged. A shorter exclusion is a restart or one slow answer."""
READ_TIMEOUT_S = 5.0
"""Maximum time for a read on a replica: as long as a page of the largest lists takes."""
DEADLINE_SHARE = 0.5
"""Maximum share of a call's remaining time for a replica. The rest is left for the primary if the replica fails."""

FIND_LEDGER_END = Statement(
    lambda: (
        AuditEntry.select(AuditEntry.sequence, AuditEntry.entry_hash)
        .where(
            (AuditEntry.sequence == parameter("sequence"))
            | (AuditEntry.sequence == AuditEntry.select(peewee.fn.MAX(AuditEntry.sequence)))
        )
        .order_by(AuditEntry.sequence.desc())
    )
)
"""(sequence, hash) of the last entry of the ledger, and of the entry `sequence` if it exists."""

log = logging.getLogger("storekeep.store")


class LedgerEnd(NamedTuple):
    """The end of the primary's ledger at one time.

    Attributes:
        sequence: sequence of the last entry; 0 for an empty ledger.
        entry_hash: hash of that entry, which covers all entries before it.
        polled_s: the `time.monotonic()` just before the primary was polled. Later entries are newer than that.
    """

    sequence: int
    entry_hash: bytes
    polled_s: float


NO_END = LedgerEnd(0, b"", -math.inf)


class ReplicaState(NamedTuple):
    """The state of a replica at one time.

    Attributes:
        name: its URL without the password.
        staleness_s: upper bound of its staleness in seconds; infinite while it is excluded.
        problem: why it is excluded; empty while it may answer reads, and before the first poll.
    """

    name: str
    staleness_s: float
    problem: str


class History:
    """Ends of the primary's ledger over time, the oldest first, each sequence once."""

    def __init__(self) -> None:
        self._ends: list[LedgerEnd] = []
        self._lock = threading.Lock()

    def record(self, end: LedgerEnd, *, continues: bool) -> None:
        """Record an end.

        Args:
            continues: whether the ledger still has the entry of the previous end. It has not after a failover that lost
                entries; the earlier ends are discarded then.
        """
        with self._lock:
            ends = self._ends if continues else []
            if ends and ends[-1].sequence == end.sequence:
                ends = ends[:-1]
            self._ends = _thin_out([*ends, end])

    def last(self, *, until: float = math.inf) -> LedgerEnd:
        """Return the newest recorded end at or before a sequence; `NO_END` if there is none."""
        return next((end for end in reversed(self._ends) if end.sequence <= until), NO_END)


def _thin_out(ends: list[LedgerEnd]) -> list[LedgerEnd]:
    """Return the ends without those that `HISTORY_RESOLUTION` and `HISTORY_MAX_S` do not require."""
    now = ends[-1].polled_s
    result: list[LedgerEnd] = []
    for end, following in zip(ends, [*ends[1:], None], strict=True):
        if following is not None and now - end.polled_s > HISTORY_MAX_S:
            continue
        apart = (
            following is None
            or not result
            or (following.polled_s - result[-1].polled_s > HISTORY_RESOLUTION * (now - following.polled_s))
        )
        if apart:
            result.append(end)
    return result


def _query_end(driver: Driver, sequence: int) -> tuple[int, bytes, bytes]:
    """Return the last sequence of a ledger and its hash, and the hash of the entry `sequence` (empty if missing).

    Raises: StoreError, and the driver's errors.
    """
    connection = driver.reader(time.monotonic() + ANSWER_TIMEOUT_S)
    try:
        rows = FIND_LEDGER_END.all(Transaction(connection, driver.dialect, now_us=read_clock()), sequence=sequence)
    finally:
        driver.release(connection)
    hashes: dict[int, bytes] = {number: bytes(entry_hash) for number, entry_hash in rows}
    last = max(hashes, default=0)
    return last, hashes.get(last, b""), hashes.get(sequence, b"")


class Replica:
    """One replica.

    Args:
        name: its name in logs; contains no secret.
        driver: serves reads.
        watch: polls the replica on its own connection, so that a busy replica still reports its staleness.

    Attributes:
        failures: the errors of a read when the replica does not answer.
    """

    def __init__(self, name: str, driver: Driver, watch: Driver) -> None:
        self.name = name
        self.driver = driver
        self.failures: tuple[type[Exception], ...] = (*driver.errors, StoreError)
        self._watch = watch
        self._known_end = NO_END
        self._last_sequence = math.inf
        self._problem = ""
        self._excluded_since: float | None = None
        self._logged = False

    @property
    def known_end(self) -> LedgerEnd:
        """The newest end of the primary's ledger that the replica is known to have."""
        return self._known_end

    @property
    def state(self) -> ReplicaState:
        """Its state now."""
        return ReplicaState(self.name, time.monotonic() - self._known_end.polled_s, self._problem)

    def poll(self, history: History) -> None:
        """Find out how much of the primary's ledger the replica has."""
        try:
            self._record(*self._compare(history))
        except self.failures as error:
            self._record(NO_END, str(error) or type(error).__name__)

    def _compare(self, history: History) -> tuple[LedgerEnd, str]:
        """Return the newest recorded end that the replica has, or `NO_END` and the reason.

        A replica can be ahead of the primary, because a commit reaches it before it is visible on the primary. It is
        excluded until the primary has caught up: it may also be a former primary whose last entries were lost.
        """
        newest = history.last()
        ahead = self._last_sequence > newest.sequence
        self._last_sequence, _, entry_hash = _query_end(self._watch, newest.sequence)
        if ahead:
            return NO_END, "it has entries that the primary does not show yet"
        if self._last_sequence < newest.sequence:
            newest = history.last(until=self._last_sequence)
            _, _, entry_hash = _query_end(self._watch, newest.sequence)
        if newest is NO_END:
            return NO_END, "it is behind every recorded state of the primary"
        if entry_hash != newest.entry_hash:
            return NO_END, "its history differs from the primary's"
        return newest, ""

    def _record(self, end: LedgerEnd, problem: str) -> None:
        self._known_end = end
        self._problem = problem
        if not problem:
            if self._logged:
                log.info("a replica answers reads again", extra={"replica": self.name})
            self._excluded_since, self._logged = None, False
            return
        now = time.monotonic()
        self._excluded_since = self._excluded_since or now
        if not self._logged and now - self._excluded_since >= LOG_DELAY_S:
            self._logged = True
            log.warning("a replica answers no reads", extra={"replica": self.name, "problem": problem})

    def get_read_deadline(self, bounds: ReadBounds) -> float:
        """Return the deadline of a read on the replica, as a `time.monotonic()`. It leaves time for the primary."""
        now = time.monotonic()
        left_s = math.inf if bounds.deadline is None else bounds.deadline - now
        return now + min(READ_TIMEOUT_S, left_s * DEADLINE_SHARE)

    def mark_failed(self, error: BaseException) -> None:
        """Exclude the replica until the next poll, because a read failed. A busy replica stays."""
        if isinstance(
            error, StorageUnavailable | ReadTooExpensive
        ):  # no connection was free, or the read is slow anywhere
            return
        self._known_end = NO_END
        log.info("a read of a replica goes to the primary", extra={"replica": self.name, "problem": str(error)})

    def close(self) -> None:
        """Close the connections."""
        self._watch.close()
        self.driver.close()


class Replicas:
    """All replicas of one database, and the threads that poll them.

    Args:
        primary: polls the primary, on its own connection.
        replicas: the replicas.
        interval_s: interval between polls, in seconds.
    """

    def __init__(self, primary: Driver, replicas: Sequence[Replica], *, interval_s: float) -> None:
        self._primary = primary
        self._replicas = tuple(replicas)
        self._interval_s = interval_s
        self._history = History()
        self._polled = threading.Condition()
        self._round = 0
        self._stopped = threading.Event()
        watchers: list[Callable[[], None]] = [self._watch_primary]
        watchers += [functools.partial(self._watch_replica, replica) for replica in self._replicas]
        self._threads = [threading.Thread(target=watch, name="replica-watch", daemon=True) for watch in watchers]
        for thread in self._threads:
            thread.start()

    def choose(self, bounds: ReadBounds) -> Replica | None:
        """Return a replica that may serve a read with these bounds; None if only the primary may."""
        if bounds.max_staleness_s is None or bounds.consistency_token is None:
            return None
        oldest_s = time.monotonic() - bounds.max_staleness_s
        token = bounds.consistency_token
        fit = [r for r in self._replicas if r.known_end.polled_s >= oldest_s and r.known_end.sequence >= token]
        return random.choice(fit) if fit else None  # noqa: S311 - spreads load, guards nothing

    def list_states(self) -> list[ReplicaState]:
        """Return the state of each replica, in the order of the settings."""
        return [replica.state for replica in self._replicas]

    def _watch_primary(self) -> None:
        while not self._stopped.wait(self._interval_s):
            with contextlib.suppress(*self._primary.errors, StoreError):  # the recorded ends grow older
                self._poll_primary()

    def _poll_primary(self) -> None:
        before = self._history.last()
        polled_s = time.monotonic()
        sequence, entry_hash, previous_hash = _query_end(self._primary, before.sequence)
        self._history.record(LedgerEnd(sequence, entry_hash, polled_s), continues=previous_hash == before.entry_hash)
        with self._polled:
            self._round += 1
            self._polled.notify_all()

    def _watch_replica(self, replica: Replica) -> None:
        seen = 0
        while not self._stopped.is_set():
            with self._polled:
                if self._round == seen:
                    self._polled.wait(self._interval_s)
                seen_before, seen = seen, self._round
            if seen != seen_before:
                replica.poll(self._history)

    def close(self) -> None:
        """Stop polling and close every connection."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=ANSWER_TIMEOUT_S * 2)
        self._primary.close()
        for replica in self._replicas:
            replica.close()
