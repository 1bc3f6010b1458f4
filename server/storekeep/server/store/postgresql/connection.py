"""One connection to PostgreSQL that never waits without a limit, over `psycopg.pq`, psycopg's mapping of libpq.

Each statement has a deadline of the client's own: when it passes, the statement is cancelled, and where even that has
no answer the connection is closed. A connection that the server closed while it was idle is opened again.
Not psycopg's cursors and pipeline: `docs/technical-design.md` has the figures.
"""

from __future__ import annotations

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
    DeferredFailed,
    NoAnswer,
    OutOfTime,
    SqlError,
    UnstorableText,
)

STATEMENTS_MAX = 250
"""Prepared statements of a connection; further ones are planned anew each time. The fixed ones are about a hundred,
lists have a shape for each filter."""
CANCEL_TIMEOUT_S = 0.5
"""How long to wait for a cancelled statement to end."""
TRANSIENT = frozenset({"40001", "40P01"})
"""SQLSTATEs after which the whole transaction may succeed when it is run again: serialization failure, deadlock."""
STALE = frozenset({"26000", "42P05", "0A000", "25006"})
"""SQLSTATEs that tell of a connection with another past than we think: statements that it lost or that changed their
meaning, or a primary that has become a replica."""
QUIET = frozenset({b"SELECT", b"SHOW", b"BEGIN", b"COMMIT", b"ROLLBACK", b"SAVEPOINT", b"RELEASE", b"SET"})
"""Command tags of what changes no row."""
ROW_COUNTED = frozenset({b"INSERT", b"UPDATE", b"DELETE", b"MERGE"})

Row = tuple[Any, ...]
Bound = tuple[str, Sequence[bytes | None], Sequence[int]]
"""A statement, its values as they travel, and whether each is text (0) or bytes (1)."""


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
    """One connection, opened when it is first used.

    Attributes:
        deadline: the caller's, as a `time.monotonic()`; infinite without one.
        deferring: whether `defer` takes statements.
        rows_changed: rows that the last statement changed.
        changes: has risen where rows were changed, or where the transaction can only be undone.
        transient: whether the transaction failed in a way that running it again may cure.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
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

    # -- its life

    def open(self) -> pq.abc.PGconn:
        """Connect, after closing what was open.

        Raises: ConnectionLost, UnusablePostgres.
        """
        self.close()
        connection = self._pq = self._endpoint.connect(self.deadline)
        connection.notice_handler = self._notice
        return connection

    def close(self) -> None:
        """Close the connection; using it opens another."""
        connection, self._pq = self._pq, None
        self._names = {}
        self._forget_unsent()
        if connection is not None:
            connection.finish()

    def take(self, deadline: float) -> None:
        """Begin to use it: until something was answered, nothing is lost by opening it again."""
        self.deadline = deadline
        self._untouched = True
        self.transient = False

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, be it one that can only be undone."""
        return self._pq is not None and self._pq.transaction_status in (
            pq.TransactionStatus.INTRANS,
            pq.TransactionStatus.INERROR,
        )

    # -- statements

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Result:
        """Run one statement; its places are `$1`, `$2` and so on.

        Raises: SqlError.
        """
        now = time.monotonic()
        if now >= self.deadline:
            raise OutOfTime(of_caller=True)
        return self._run(_bind(sql, values), give_up=min(self.deadline, now + self._statement_timeout_s))

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement, whose only value is the rows as JSON; deferred where that may be.

        Raises: SqlError.
        """
        values = (msgspec.json.encode(rows).decode(),)
        if not self.defer(sql, values):
            self.execute(sql, values)

    def defer(self, sql: str, values: Sequence[Any]) -> bool:
        """Send a statement in the same round trip as the next one, which raises `DeferredFailed` where this one fails.

        Returns: False, and nothing is sent, where each statement has to be waited for.
        """
        if self.deferring:
            self._deferred.append(_bind(sql, values))
            self.changes += 1
        return self.deferring

    def send_with_next(self, sql: str) -> None:
        """Send a statement without values in front of the next one, in the same round trip."""
        self._leading.append((sql, (), ()))

    def command(self, sql: str, *, timeout_s: float, cancels: bool = True) -> None:
        """Run a statement without values.

        Args:
            timeout_s: how long it may take, whatever the caller's deadline is.
            cancels: whether it may be cancelled when it takes longer; otherwise the connection is closed.

        Raises: SqlError.
        """
        self._run((sql, (), ()), give_up=time.monotonic() + timeout_s, cancels=cancels)

    def commit(self, *, timeout_s: float) -> None:
        """Commit. A commit that is not answered is not cancelled: its outcome is unknown.

        One that no standby has confirmed in time succeeds too, with a mere warning, and is lost where the standby takes
        over; so that counts as no answer.

        Raises: SqlError.
        """
        self._warned = False
        self.command("COMMIT", timeout_s=timeout_s, cancels=False)
        if self._warned:
            self.close()
            raise ConnectionLost("the commit came with a warning: it may be on this server only")

    def roll_back(self) -> None:
        """Undo the transaction, and forget what was not sent yet.

        Raises: SqlError.
        """
        self._forget_unsent()
        if self.in_transaction:
            self.command("ROLLBACK", timeout_s=CANCEL_TIMEOUT_S)

    def _forget_unsent(self) -> None:
        self._leading, self._deferred = [], []

    def _run(self, last: Bound, *, give_up: float, cancels: bool = True) -> Result:
        """Send a statement behind those that wait for it, and return its result.

        Where the server has closed the connection while it was idle, do so once more on a new one.
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
        self.open()
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
        """Send statements in one round trip; in front of it, have those planned that are new."""
        connection = self._pq or self.open()
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
        """Have a statement planned once; return its name, empty where it has none."""
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
        of_caller = give_up >= self.deadline
        is_cancelled = cancels and self._pq is not None and _cancel(self._pq)
        if not is_cancelled or not self._collect(results, time.monotonic() + CANCEL_TIMEOUT_S):
            self.close()
            raise NoAnswer
        return self._read(results, deferred, OutOfTime(of_caller=of_caller))

    def _collect(self, results: list[pq.abc.PGresult], give_up: float) -> bool:
        """Add the results of what was sent; False where not all are there in time."""
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
        """Return the rows of the last statement, or raise the error of the first that failed.

        Args:
            deferred: which of the results are of deferred statements.
        """
        for index, result in enumerate(results):
            if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
                self._fail(result, out_of_time, is_deferred=index in deferred)
            if index not in deferred:  # those are counted already
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
        """Raise what a result says went wrong."""
        self.changes += 1  # the transaction can only be undone now
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
        kind = DeferredFailed if is_deferred and not self.transient else SqlError
        raise kind(sqlstate, text or result.get_error_message())


def _cancel(connection: pq.abc.PGconn) -> bool:
    """Ask the server to stop what it is at; False where it cannot even be asked in time."""
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
    """A statement with its values as they travel."""
    parameters = [None if value is None else _TO_WIRE[type(value)](value) for value in values]
    return sql, parameters, [1 if type(value) is bytes else 0 for value in values]


def _text(value: str) -> bytes:
    encoded = value.encode()
    if b"\0" in encoded:
        raise UnstorableText("text with U+0000 cannot be stored")
    return encoded


_TO_WIRE: dict[type, Callable[[Any], bytes]] = {
    str: _text,
    int: lambda value: b"%d" % value,
    bool: lambda value: b"t" if value else b"f",
    float: lambda value: repr(value).encode(),
    bytes: lambda value: value,
}
"""How a value travels: as text, whose type the server infers from the statement; bytes as they are."""
