"""Replicas: copies of the database that answer reads whose callers allow an answer to be old.

How old a replica is comes from the ledger, whose entries are written with every change that can be read: several times
a second the primary is asked where the ledger ends, and each replica how much of it is there, by the entry's hash. A
replica is as old as the newest end of the primary's ledger that it has. Invariant: one that does not answer, whose
primary does not, or that has another history than the primary, only ever grows older, and so is left out.
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
from storekeep.server.store.errors import StorageUnavailable, StoreError
from storekeep.server.store.reads import ReadTerms
from storekeep.server.store.sql.statements import Statement, bound
from storekeep.server.store.sql.transactions import Transaction, wall_clock
from storekeep.server.store.tables.ledger import AuditEntry

COARSENESS = 0.1
"""How far apart what is remembered of the primary may be, as a part of how long ago it was. So a replica that is behind
is taken for at most so much older than it is, and what is remembered of days is some hundred numbers."""
REMEMBERED_S = 100_000.0
"""How long it is remembered: somewhat longer than the oldest answer that a call may ask for, which is a day."""
ANSWER_TIMEOUT_S = 2.0
"""How long the primary or a replica may take to say where it is, a new connection included."""
LOGGED_AFTER_S = 5.0
"""How long a replica is left out before that is logged: shorter than that is a restart, or one slow answer."""
READ_TIMEOUT_S = 5.0
"""How long a replica may take for a read at most: what a page of the largest lists takes."""
SHARE_OF_TIME = 0.5
"""How much of a call's time a replica gets at most; the rest is the primary's, where the replica does not answer."""

ENDS = Statement(
    lambda: (
        AuditEntry.select(AuditEntry.sequence, AuditEntry.entry_hash)
        .where(
            (AuditEntry.sequence == bound("sequence"))
            | (AuditEntry.sequence == AuditEntry.select(peewee.fn.MAX(AuditEntry.sequence)))
        )
        .order_by(AuditEntry.sequence.desc())
    )
)
"""(sequence, hash) of the ledger's last entry, and of one that is asked about where it is there."""

log = logging.getLogger("storekeep.store")


class End(NamedTuple):
    """Where the primary's ledger ended.

    Attributes:
        position: the sequence of its last entry; 0 before the first.
        entry_hash: that entry's hash, which covers all before it.
        asked_s: the `time.monotonic()` at which nobody had seen more.
    """

    position: int
    entry_hash: bytes
    asked_s: float


NOTHING = End(0, b"", -math.inf)


class History:
    """Where the primary's ledger ended, at many moments; the oldest first, no position twice."""

    def __init__(self) -> None:
        self._ends: list[End] = []
        self._lock = threading.Lock()

    def note(self, end: End, *, continues: bool) -> None:
        """Remember an end.

        Args:
            continues: whether the ledger still has the entry that it ended with before. After a failover that lost
                something it has not, and what is remembered tells nothing of it any more.
        """
        with self._lock:
            ends = self._ends if continues else []
            if ends and ends[-1].position == end.position:
                ends = ends[:-1]
            self._ends = _thinned_out([*ends, end])

    def last(self, *, until: float = math.inf) -> End:
        """The newest end at or before a position; `NOTHING` where none is remembered."""
        return next((end for end in reversed(self._ends) if end.position <= until), NOTHING)


def _thinned_out(ends: list[End]) -> list[End]:
    """The ends without those that are closer to the ones around them than need be."""
    now = ends[-1].asked_s
    kept: list[End] = []
    for end, following in zip(ends, [*ends[1:], None], strict=True):
        if following is not None and now - end.asked_s > REMEMBERED_S:
            continue
        apart = (
            following is None
            or not kept
            or (following.asked_s - kept[-1].asked_s > COARSENESS * (now - following.asked_s))
        )
        if apart:
            kept.append(end)
    return kept


def _ask(driver: Driver, position: int) -> tuple[int, bytes, bytes]:
    """Where a database's ledger ends: the last sequence and its hash; and the hash of one entry, empty without it.

    Raises: StoreError, and the driver's errors.
    """
    connection = driver.reader(time.monotonic() + ANSWER_TIMEOUT_S)
    try:
        rows = ENDS.all(Transaction(connection, driver.dialect, now_us=wall_clock()), sequence=position)
    finally:
        driver.release(connection)
    hashes: dict[int, bytes] = {sequence: bytes(entry_hash) for sequence, entry_hash in rows}
    last = max(hashes, default=0)
    return last, hashes.get(last, b""), hashes.get(position, b"")


class Replica:
    """One replica.

    Args:
        name: what logs call it; nothing secret.
        driver: reads from it.
        watch: reads from it too, by a connection of its own, so that a busy replica still tells how old it is.

    Attributes:
        failures: what reading from it raises where it does not answer.
    """

    def __init__(self, name: str, driver: Driver, watch: Driver) -> None:
        self.name = name
        self.driver = driver
        self.failures: tuple[type[Exception], ...] = (*driver.errors, StoreError)
        self._watch = watch
        self._shown = NOTHING
        self._end = math.inf
        self._left_out_since: float | None = None
        self._logged = False

    @property
    def shown(self) -> End:
        """The newest end of the primary's ledger that it is known to have."""
        return self._shown

    def look(self, history: History) -> None:
        """Ask it how much of the primary's ledger it has."""
        try:
            self._note(*self._compare(history))
        except self.failures as error:
            self._note(NOTHING, str(error) or type(error).__name__)

    def _compare(self, history: History) -> tuple[End, str]:
        """The newest end of the ledger that it has, and what is wrong where it has none.

        A replica can be ahead of the primary, for a commit is sent to it before the primary itself shows it. Such a
        one waits until the primary has caught up: it may also be a former primary, with entries that were lost.
        """
        newest = history.last()
        ahead = self._end > newest.position
        self._end, _, entry_hash = _ask(self._watch, newest.position)
        if ahead:
            return NOTHING, "it has entries that the primary has not shown yet"
        if self._end < newest.position:
            newest = history.last(until=self._end)
            _, _, entry_hash = _ask(self._watch, newest.position)
        if newest is NOTHING:
            return NOTHING, "it lacks all that the primary has shown"
        if entry_hash != newest.entry_hash:
            return NOTHING, "it has another history than the primary"
        return newest, ""

    def _note(self, shown: End, problem: str) -> None:
        self._shown = shown
        if not problem:
            if self._logged:
                log.info("a replica answers reads again", extra={"replica": self.name})
            self._left_out_since, self._logged = None, False
            return
        now = time.monotonic()
        self._left_out_since = self._left_out_since or now
        if not self._logged and now - self._left_out_since >= LOGGED_AFTER_S:
            self._logged = True
            log.warning("a replica answers no reads", extra={"replica": self.name, "problem": problem})

    def time_for(self, terms: ReadTerms) -> float:
        """Until when it may take for a read, as a `time.monotonic()`: so the primary has time left to do it instead."""
        now = time.monotonic()
        left_s = math.inf if terms.deadline is None else terms.deadline - now
        return now + min(READ_TIMEOUT_S, left_s * SHARE_OF_TIME)

    def put_aside(self, error: BaseException) -> None:
        """Leave it out until it has been asked again, as it failed to answer a read; not where it is only busy."""
        if isinstance(error, StorageUnavailable):  # no connection was free
            return
        self._shown = NOTHING
        log.info("a read of a replica goes to the primary", extra={"replica": self.name, "problem": str(error)})

    def close(self) -> None:
        """Close its connections."""
        self._watch.close()
        self.driver.close()


class Replicas:
    """All replicas of one database, and the threads that watch them.

    Args:
        primary: reads from the primary, by a connection of its own.
        replicas: the replicas.
        interval_s: how often they are asked.
    """

    def __init__(self, primary: Driver, replicas: Sequence[Replica], *, interval_s: float) -> None:
        self._primary = primary
        self._replicas = tuple(replicas)
        self._interval_s = interval_s
        self._history = History()
        self._asked = threading.Condition()
        self._round = 0
        self._stopped = threading.Event()
        watchers: list[Callable[[], None]] = [self._watch_primary]
        watchers += [functools.partial(self._watch_replica, replica) for replica in self._replicas]
        self._threads = [threading.Thread(target=watch, name="replica-watch", daemon=True) for watch in watchers]
        for thread in self._threads:
            thread.start()

    def choose(self, terms: ReadTerms) -> Replica | None:
        """A replica that may answer a read on these terms; None where the primary has to."""
        if terms.max_staleness_s is None or terms.position is None:
            return None
        oldest_s = time.monotonic() - terms.max_staleness_s
        position = terms.position
        fit = [r for r in self._replicas if r.shown.asked_s >= oldest_s and r.shown.position >= position]
        return random.choice(fit) if fit else None  # noqa: S311 - spreads load, guards nothing

    def _watch_primary(self) -> None:
        while not self._stopped.wait(self._interval_s):
            with contextlib.suppress(*self._primary.errors, StoreError):  # what is known grows older
                self._ask_primary()

    def _ask_primary(self) -> None:
        before = self._history.last()
        asked_s = time.monotonic()
        position, entry_hash, hash_of_before = _ask(self._primary, before.position)
        self._history.note(End(position, entry_hash, asked_s), continues=hash_of_before == before.entry_hash)
        with self._asked:
            self._round += 1
            self._asked.notify_all()

    def _watch_replica(self, replica: Replica) -> None:
        seen = 0
        while not self._stopped.is_set():
            with self._asked:
                if self._round == seen:
                    self._asked.wait(self._interval_s)
                seen_before, seen = seen, self._round
            if seen != seen_before:
                replica.look(self._history)

    def close(self) -> None:
        """Stop watching, and close every connection."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=ANSWER_TIMEOUT_S * 2)
        self._primary.close()
        for replica in self._replicas:
            replica.close()
