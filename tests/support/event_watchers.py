"""A watcher with the client library that is compared with the ledger."""

from __future__ import annotations

import contextlib
import threading
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from storekeep.client import Storekeep
from storekeep.client.event_streams import EventStream
from storekeep.server.domain.events.reading import PERMISSIONS
from tests.support.processes import ServerProcess

CATCH_UP_TIMEOUT_S = 120.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LedgerWatcher:
    """Watches all events from the beginning, in a thread, while it is entered; later from where it was.

    Attributes:
        seen: the numbers of the received events.
    """

    def __init__(self, server: ServerProcess, *, address: str = "") -> None:
        self._server = server
        self._address = address
        self.seen: list[int] = []
        self._cursor = ""
        self._problem: BaseException | None = None

    def __enter__(self) -> Self:
        self._exits = contextlib.ExitStack()
        client = self._exits.enter_context(
            Storekeep(self._address or self._server.address, api_key=self._server.admin_key)
        )
        start = None if self._cursor else EPOCH
        watch = client.events.watch(cursor=self._cursor, start_time=start, heartbeat_s=1)
        stream = self._exits.enter_context(watch)
        self._thread = threading.Thread(target=self._read, args=[stream])
        self._thread.start()
        self._await_start(stream)
        return self

    def _await_start(self, stream: EventStream) -> None:
        """Wait for the first response: before it, the client takes a dead server for a wrong address."""
        give_up = time.monotonic() + CATCH_UP_TIMEOUT_S
        while not stream.cursor and self._problem is None:
            assert time.monotonic() < give_up
            time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()
        self._thread.join()
        if error is None and self._problem is not None:
            raise self._problem

    def _read(self, stream: EventStream) -> None:
        try:
            for event in stream:
                self.seen.append(int(event.name.removeprefix("events/")))
                self._cursor = stream.cursor
        except BaseException as error:  # noqa: BLE001 - raised in the thread of the test
            self._problem = error

    def check(self) -> None:
        """Wait until the watcher has caught up, and compare what it has seen with the ledger."""
        committed = self._read_ledger()
        assert committed
        give_up = time.monotonic() + CATCH_UP_TIMEOUT_S
        while len(self.seen) < len(committed) and time.monotonic() < give_up and self._problem is None:
            time.sleep(0.02)
        if self._problem is not None:
            raise self._problem
        assert self.seen[: len(committed)] == committed

    def _read_ledger(self) -> list[int]:
        """Return the numbers of all committed events."""
        sql = "SELECT sequence, type FROM audit_entries WHERE after IS NOT NULL ORDER BY sequence"
        with self._server.database.opened() as session:
            return [sequence for sequence, kind in session.rows(sql) if kind.partition(".")[0] in PERMISSIONS]
