"""A PostgreSQL connection on which every wait has a deadline, built on `psycopg.pq`, psycopg's wrapper of libpq.

At the deadline of a statement, the client cancels it, and closes the connection if the cancel request gets no answer.
A connection that the server closed while it was idle is reopened.
It does not use psycopg's cursors and pipeline: `docs/decisions/0038-own-postgresql-connection.md` has the measurements.
"""

from __future__ import annotations

import logging
import math
import select
import time
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import msgspec
import psycopg
from psycopg import pq
from psycopg.adapt import Transformer

from storekeep.server.runtime.tasks import await_socket
from storekeep.server.store.postgresql.endpoint import Endpoint
from storekeep.server.store.postgresql.errors import (
    SQLSTATE_CANCELLED,
    SQLSTATE_LOST,
    ConnectionLost,
    DeferredSqlFailed,
    NoAnswer,
    OutOfTime,
    SqlError,
    UnstorableText,
    UnusablePostgres,
)

STATEMENTS_MAX = 250
"""Maximum number of prepared statements per connection. Further statements are planned on each run. About a hundred
statements are fixed; lists add one per shape of filter."""
CANCEL_TIMEOUT_S = 0.5
"""How long to wait for a cancelled statement to end, in seconds."""
TRANSIENT = frozenset({"40001", "40P01"})
"""SQLSTATEs after which a retry of the whole transaction may succeed: serialization failure, deadlock."""
STALE = frozenset({"26000", "42P05", "0A000", "25006"})
"""SQLSTATEs after which the connection must be reopened: its prepared statements are lost or out of date, or its server
has become a replica."""
QUIET = frozenset({b"SELECT", b"SHOW", b"BEGIN", b"COMMIT", b"ROLLBACK", b"SAVEPOINT", b"RELEASE", b"SET"})
"""Command tags of statements that change no rows."""
ROW_COUNTED = frozenset({b"INSERT", b"UPDATE", b"DELETE", b"MERGE"})

log = logging.getLogger("storekeep.store")

Row = tuple[Any, ...]
Bound = tuple[str, Sequence[bytes | None], Sequence[int]]
"""A statement, its encoded values, and the format of each: text (0) or binary (1)."""


class Result:
    """The rows of a statement: the part of a DB-API cursor that callers use."""

    __slots__ = ("_rows",)

    def __init__(self, rows: list[Row]) -> None:
        self._rows = iter(rows)

    def __iter__(self) -> Iterator[Row]:
        return self._rows

    def fetchone(self) -> Row | None:
        """Return the next row, or None."""
        return next(self._rows, None)

    def fetchall(self) -> list[Row]:
        """Return all rows that are left."""
        return list(self._rows)


class Connection:
    """One connection, opened on first use.

    Args:
        endpoint: the database, and the limits.
        reads: whether the connection is for reads.

    Attributes:
        deadline: the caller's deadline as a `time.monotonic()`; infinite without one.
        deferring: whether `defer` accepts statements.
        rows_changed: number of rows that the last statement changed.
        changes: a counter that rises with each change, and when the transaction can only be rolled back.
        transient: whether the transaction failed with an error that a retry may resolve.
    """

    def __init__(self, endpoint: Endpoint, *, reads: bool) -> None:
        self._endpoint = endpoint
        self._reads = reads
        self._prepares = not endpoint.limits.pooler
        self._statement_timeout_s = endpoint.limits.statement_timeout_s
        self._pq: pq.abc.PGconn | None = None
        self._names: dict[str, bytes] = {}
        self._transformer = Transformer()
        self._untouched = True
        self._leading: list[Bound] = []
        self._deferred: list[Bound] = []
        self._warned = False
        self.deadline = math.inf
        self.deferring = False
        self.rows_changed = 0
        self.changes = 0
        self.transient = False

    # -- life cycle

    def open(self) -> pq.abc.PGconn:
        """Close the connection if it is open, and connect.

        Raises: ConnectionLost, UnusablePostgres.
        """
        self.close()
        connection = self._pq = self._endpoint.connect(self.deadline)
        connection.notice_handler = self._notice
        return connection

    def _reopen(self) -> pq.abc.PGconn:
        """Connect while serving: a database that can no longer be used counts as one that does not answer.

        Raises: ConnectionLost.
        """
        try:
            return self.open()
        except UnusablePostgres as error:
            log.error("the database can no longer be used", extra={"problem": str(error)})
            raise ConnectionLost(str(error)) from None

    def close(self) -> None:
        """Close the connection. The next use opens a new one."""
        connection, self._pq = self._pq, None
        self._names = {}
        self._forget_unsent()
        if connection is not None:
            connection.finish()

    def take(self, deadline: float) -> None:
        """Start a new use of the connection. Until its first answer, a broken connection is reopened."""
        self.deadline = deadline
        self._untouched = True
        self.transient = False

    @property
    def in_transaction(self) -> bool:
        """Return whether a transaction is open, including a failed one."""
        return self._pq is not None and self._pq.transaction_status in (
            pq.TransactionStatus.INTRANS,
            pq.TransactionStatus.INERROR,
        )

    # -- statements

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Result:
        """Run one statement with the parameters `$1`, `$2` and so on.

        Raises: SqlError.
        """
        now = time.monotonic()
        if now >= self.deadline:
            raise OutOfTime(is_caller_deadline=True, is_read=self._reads)
        return self._run(_bind(sql, values), give_up=min(self.deadline, now + self._statement_timeout_s))

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement whose only value is the rows as JSON; deferred if possible.

        Raises: SqlError.
        """
        values = (msgspec.json.encode(rows).decode(),)
        if not self.defer(sql, values):
            self.execute(sql, values)

    def defer(self, sql: str, values: Sequence[Any]) -> bool:
        """Send a statement in the same round trip as the next one, which raises `DeferredSqlFailed` if this one fails.

        Returns: False if deferring is off. Nothing is sent then.
        """
        if self.deferring:
            self._deferred.append(_bind(sql, values))
            self.changes += 1
        return self.deferring

    def send_with_next(self, sql: str) -> None:
        """Send a statement without values before the next one, in the same round trip."""
        self._leading.append((sql, (), ()))

    def command(self, sql: str, *, timeout_s: float, cancels: bool = True) -> None:
        """Run a statement without values.

        Args:
            timeout_s: its timeout, independent of the caller's deadline.
            cancels: whether to cancel it after the timeout. Otherwise the connection is closed.

        Raises: SqlError.
        """
        self._run((sql, (), ()), give_up=time.monotonic() + timeout_s, cancels=cancels)

    def commit(self, *, timeout_s: float) -> None:
        """Commit. A commit without an answer is not cancelled, because its outcome is unknown.

        PostgreSQL only warns if it stops waiting for a synchronous standby. A failover would lose such a commit, so a
        warning counts as no answer.

        Raises: SqlError.
        """
        self._warned = False
        self.command("COMMIT", timeout_s=timeout_s, cancels=False)
        if self._warned:
            self.close()
            raise ConnectionLost("the commit returned a warning: it may not be replicated")

    def roll_back(self) -> None:
        """Roll the transaction back, and discard unsent statements.

        Raises: SqlError.
        """
        self._forget_unsent()
        if self.in_transaction:
            self.command("ROLLBACK", timeout_s=CANCEL_TIMEOUT_S)

    def _forget_unsent(self) -> None:
        self._leading, self._deferred = [], []

    def _run(self, last: Bound, *, give_up: float, cancels: bool = True) -> Result:
        """Send the pending statements and then this one, and return its result.

        If the server has closed the idle connection, retry once on a new one.
        """
        statements = [*self._leading, *self._deferred, last]
        deferred = range(len(self._leading), len(statements) - 1)
        self._forget_unsent()
        untouched, self._untouched = self._untouched, False
        try:
            return self._send_and_await(statements, deferred, give_up, cancels)
        except ConnectionLost as error:
            if not untouched or isinstance(error, NoAnswer):
                raise
        self._reopen()
        return self._send_and_await(statements, deferred, give_up, cancels)

    def _send_and_await(
        self, statements: Sequence[Bound], deferred: Container[int], give_up: float, cancels: bool
    ) -> Result:
        try:
            self._send(statements, give_up)
            return self._await_result(give_up, cancels=cancels, deferred=deferred)
        except psycopg.OperationalError as error:
            self.close()
            raise ConnectionLost(str(error)) from None

    def _send(self, statements: Sequence[Bound], give_up: float) -> None:
        """Prepare new statements, then send all of them in one round trip."""
        connection = self._pq or self._reopen()
        names = [self._names.get(sql) or self._prepare(connection, sql, give_up) for sql, _, _ in statements]
        is_pipeline = len(statements) > 1
        if is_pipeline:
            connection.enter_pipeline_mode()
        for name, (sql, parameters, formats) in zip(names, statements, strict=True):
            if name:
                connection.send_query_prepared(name, parameters, formats)
            else:
                connection.send_query_params(sql.encode(), parameters, None, formats)
        if is_pipeline:
            connection.pipeline_sync()

    def _prepare(self, connection: pq.abc.PGconn, sql: str, give_up: float) -> bytes:
        """Prepare a statement and return its name; empty if it is not prepared."""
        if not self._prepares or len(self._names) >= STATEMENTS_MAX:
            return b""
        name = b"s%d" % len(self._names)
        connection.send_prepare(name, sql.encode())
        self._await_result(give_up, cancels=True)
        self._names[sql] = name
        return name

    def _notice(self, notice: pq.abc.PGresult) -> None:
        self._warned |= notice.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) == b"WARNING"

    # -- results

    def _await_result(self, give_up: float, *, cancels: bool, deferred: Container[int] = ()) -> Result:
        results: list[pq.abc.PGresult] = []
        if self._collect(results, give_up):
            return self._read(results, deferred)
        is_caller_deadline = give_up >= self.deadline
        is_cancelled = cancels and self._pq is not None and _cancel(self._pq)
        if not is_cancelled or not self._collect(results, time.monotonic() + CANCEL_TIMEOUT_S):
            self.close()
            raise NoAnswer
        return self._read(results, deferred, OutOfTime(is_caller_deadline=is_caller_deadline, is_read=self._reads))

    def _collect(self, results: list[pq.abc.PGresult], give_up: float) -> bool:
        """Append the results of the sent statements. Return False if not all arrive in time."""
        connection = self._pq
        if connection is None:
            raise ConnectionLost("the connection is closed")
        while connection.flush():
            if not await_socket(connection.socket, select.POLLIN | select.POLLOUT, give_up):
                return False
            connection.consume_input()
        is_pipeline = connection.pipeline_status != pq.PipelineStatus.OFF
        while True:
            while connection.is_busy():
                if not await_socket(connection.socket, select.POLLIN, give_up):
                    return False
                connection.consume_input()
            result = connection.get_result()
            if result is None:
                if not is_pipeline:
                    return True
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                connection.exit_pipeline_mode()
                return True
            results.append(result)

    def _read(
        self, results: Sequence[pq.abc.PGresult], deferred: Container[int], out_of_time: OutOfTime | None = None
    ) -> Result:
        """Return the rows of the last statement, or raise the error of the first failed one.

        Args:
            deferred: indexes of the results of deferred statements.
        """
        for index, result in enumerate(results):
            if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
                self._fail(result, out_of_time, is_deferred=index in deferred)
            if index not in deferred:  # `defer` has counted them
                self._count(result)
        last = results[-1]
        self.rows_changed = last.command_tuples or 0
        if not last.ntuples:
            return Result([])
        self._transformer.set_pgresult(last)
        return Result(self._transformer.load_rows(0, last.ntuples, tuple))

    def _count(self, result: pq.abc.PGresult) -> None:
        tag = (result.command_status or b"SELECT").split(b" ", 1)[0]
        if tag in ROW_COUNTED:
            self.changes += result.command_tuples or 0
        elif tag not in QUIET:
            self.changes += 1

    def _fail(self, result: pq.abc.PGresult, out_of_time: OutOfTime | None, *, is_deferred: bool) -> None:
        """Raise the error of a failed result."""
        self.changes += 1  # the transaction can only be rolled back now
        sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode() or SQLSTATE_LOST
        text = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode("utf-8", "replace")
        self.transient = sqlstate in TRANSIENT
        if self._pq is None or self._pq.status == pq.ConnStatus.BAD:
            self.close()
            raise ConnectionLost(text or result.get_error_message(), sqlstate)
        if sqlstate in STALE:
            self.close()
        if sqlstate == SQLSTATE_CANCELLED and out_of_time is not None:
            raise out_of_time
        kind = DeferredSqlFailed if is_deferred and not self.transient else SqlError
        raise kind(sqlstate, text or result.get_error_message())


def _cancel(connection: pq.abc.PGconn) -> bool:
    """Send a cancel request. Return False if it cannot be delivered in time."""
    deadline = time.monotonic() + CANCEL_TIMEOUT_S
    cancelling = connection.cancel_conn()
    try:
        cancelling.start()
        while True:
            status = cancelling.poll()
            if status in (pq.PollingStatus.OK, pq.PollingStatus.FAILED):
                return status == pq.PollingStatus.OK
            event = select.POLLIN if status == pq.PollingStatus.READING else select.POLLOUT
            if not await_socket(cancelling.socket, event, deadline):
                return False
    except psycopg.OperationalError:
        return False
    finally:
        cancelling.finish()


def _bind(sql: str, values: Sequence[Any]) -> Bound:
    """Return a statement with its values encoded for the wire."""
    parameters = [None if value is None else _TO_WIRE[type(value)](value) for value in values]
    return sql, parameters, [1 if type(value) is bytes else 0 for value in values]


def _encode_text(value: str) -> bytes:
    encoded = value.encode()
    if b"\0" in encoded:
        raise UnstorableText("text with U+0000 cannot be stored")
    return encoded


_TO_WIRE: dict[type, Callable[[Any], bytes]] = {
    str: _encode_text,
    int: lambda value: b"%d" % value,
    bool: lambda value: b"t" if value else b"f",
    float: lambda value: repr(value).encode(),
    bytes: lambda value: value,
}
"""Encoders for the wire: text, whose type the server infers from the statement; bytes unchanged."""
