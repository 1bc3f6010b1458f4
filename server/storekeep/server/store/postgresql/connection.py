"""One connection to PostgreSQL that never waits without a limit, through psycopg's `pq`, its mapping of libpq.

psycopg's cursors take twice the time of a `pq` call, and have no deadline of the client's own. Here each statement has
one: when it passes, the statement is cancelled, and where even that has no answer the connection is given up.
Invariant: whoever gets a connection may use it; one that the server closed while it was idle is opened again.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import time
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from storekeep.server.runtime.tasks import await_socket
from storekeep.server.store.errors import UnusableDatabase
from storekeep.server.store.limits import Limits

SERVER_VERSION_MIN = 140_000
"""PostgreSQL 14, the oldest that its makers still look after as this is written."""
STATEMENTS_MAX = 250
"""Prepared statements of a connection; further ones are planned anew each time. The fixed ones are about a hundred,
lists have a shape for each filter."""
CANCEL_TIMEOUT_S = 0.5
"""How long to wait for a cancelled statement to end."""
RETRY_CONNECT_S = 0.25
"""After a failure to connect, how long others are refused at once instead of each trying for itself."""
KEEPALIVES = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""A server that vanished is noticed within a minute, where the URL does not say else (PostgreSQL, libpq parameters)."""
SQLSTATE_LOST = "08006"
SQLSTATE_CANCELLED = "57014"
TRANSIENT = frozenset({"40001", "40P01"})
"""SQLSTATEs after which the whole transaction may succeed when it is run again: serialization failure, deadlock."""
STALE = frozenset({"26000", "42P05", "0A000", "25006"})
"""SQLSTATEs that tell of a connection with another past than we think: statements that it lost or that changed their
meaning, or a primary that has become a replica."""
QUIET = frozenset({b"SELECT", b"SHOW", b"BEGIN", b"COMMIT", b"ROLLBACK", b"SAVEPOINT", b"RELEASE", b"SET"})
"""Command tags of what changes no row."""
ROW_COUNTED = frozenset({b"INSERT", b"UPDATE", b"DELETE", b"MERGE"})

Row = tuple[Any, ...]
Bound = tuple[str, list[bytes | None], list[int]]
"""A statement, what stands in its places, and whether each is text (0) or bytes (1)."""
COMMIT: Bound = ("COMMIT", [], [])


class SqlError(Exception):
    """PostgreSQL refused a statement, or did not answer.

    Attributes:
        sqlstate: PostgreSQL's code of what is wrong.
    """

    def __init__(self, sqlstate: str, text: str) -> None:
        super().__init__(f"{sqlstate}: {text}")
        self.sqlstate = sqlstate


class ConnectionLost(SqlError):
    """There is no connection, or there is none any more; what it was at may have been done."""

    def __init__(self, text: str, sqlstate: str = SQLSTATE_LOST) -> None:
        super().__init__(sqlstate, " ".join(text.split()))


class NoAnswer(ConnectionLost):
    """The server did not answer in time, not even to being told to stop; the connection is given up."""

    def __init__(self) -> None:
        super().__init__("the database does not answer")


class OutOfTime(SqlError):
    """A statement was given up when its time was over.

    Attributes:
        of_caller: whether it was the caller's deadline, and not a limit of our own.
    """

    def __init__(self, *, of_caller: bool) -> None:
        super().__init__(SQLSTATE_CANCELLED, "the time for the statement is over")
        self.of_caller = of_caller


class PutOffFailed(SqlError):
    """A statement that was put off failed: the transaction can only be undone, and run again without putting off."""


class UnusablePostgres(UnusableDatabase):
    """This PostgreSQL cannot hold a Storekeep, whoever asks it."""


class Result:
    """What a statement gave: the part of a DB-API cursor that statements use."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: list[Row], rowcount: int) -> None:
        self._rows = iter(rows)
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Row]:
        return self._rows

    def fetchone(self) -> Row | None:
        """The next row, or None."""
        return next(self._rows, None)

    def fetchall(self) -> list[Row]:
        """All rows that are left."""
        return list(self._rows)


class Endpoint:
    """Where a database is, and how a connection to it is made.

    Args:
        url: `postgresql://…`, with libpq's parameters; of several hosts it is the one that takes writes.
    """

    def __init__(self, url: str, limits: Limits) -> None:
        self.limits = limits
        given = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
        self._parameters = {"application_name": "storekeep", **KEEPALIVES, **given, "client_encoding": "UTF8"}
        if "," in given.get("host", ""):
            self._parameters.setdefault("target_session_attrs", "read-write")
        if not limits.pooler:
            milliseconds = round(limits.statement_timeout_s * 1000)
            options = f"{given.get('options', '')} -c statement_timeout={milliseconds} -c TimeZone=UTC"
            self._parameters["options"] = options.strip()
        self._refused_until = -math.inf
        self._problem = ""
        self._liked = ""

    def connect(self, deadline: float) -> pq.abc.PGconn:
        """A new connection.

        Args:
            deadline: the `time.monotonic()` by which it has to be there.

        Raises: ConnectionLost, UnusablePostgres.
        """
        now = time.monotonic()
        if now < self._refused_until:
            raise ConnectionLost(self._problem)
        try:
            connection = self._connect_to_any(min(deadline, now + self.limits.connect_timeout_s))
        except ConnectionLost as error:
            self._problem = str(error)
            self._refused_until = time.monotonic() + RETRY_CONNECT_S
            raise
        self._refused_until = -math.inf
        return connection

    def _connect_to_any(self, deadline: float) -> pq.abc.PGconn:
        """Try one address after the other, that of the last success first; each gets its share of the time left.

        A host that went down does not even refuse a connection, and must not use up the time of the next.
        """
        problem = ConnectionLost("the host's name is not known")
        attempts = [make_conninfo(**parameters) for parameters in self._attempts()]
        attempts.sort(key=lambda conninfo: conninfo != self._liked)
        for left, conninfo in zip(range(len(attempts), 0, -1), attempts, strict=True):
            now = time.monotonic()
            try:
                connection = _usable(_connect(conninfo, now + (deadline - now) / left))
            except ConnectionLost as error:
                problem = error
                continue
            self._liked = conninfo
            return connection
        raise problem

    def _attempts(self) -> Iterator[dict[str, Any]]:
        """The parameters of each address in turn. Names are looked up here, where it does not hold up other threads."""
        hosts = self._parameters.get("host", "").split(",")
        ports = self._parameters.get("port", "").split(",")
        for number, host in enumerate(hosts):
            port = ports[number] if len(ports) > 1 else ports[0]
            one = self._parameters | {"host": host, "port": port}
            if not host or host.startswith(("/", "@")) or "hostaddr" in self._parameters:
                yield {name: value for name, value in one.items() if value}
                continue
            with contextlib.suppress(OSError):
                found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                for address in dict.fromkeys(str(entry[4][0]) for entry in found):
                    yield {name: value for name, value in (one | {"hostaddr": address}).items() if value}


def _connect(conninfo: str, deadline: float) -> pq.abc.PGconn:
    """One attempt to connect, without blocking for longer than until the deadline."""
    connection = pq.PGconn.connect_start(conninfo.encode())
    try:
        status: int = pq.PollingStatus.WRITING if connection.status != pq.ConnStatus.BAD else pq.PollingStatus.FAILED
        while status != pq.PollingStatus.OK:
            if status == pq.PollingStatus.FAILED:
                raise ConnectionLost(connection.get_error_message())
            event = select.POLLIN if status == pq.PollingStatus.READING else select.POLLOUT
            if not await_socket(connection.socket, event, deadline):
                raise ConnectionLost("the database does not answer to a new connection in time")
            status = connection.connect_poll()
    except psycopg.OperationalError as error:
        connection.finish()
        raise ConnectionLost(str(error)) from None
    except BaseException:
        connection.finish()
        raise
    connection.nonblocking = 1
    return connection


def _usable(connection: pq.abc.PGconn) -> pq.abc.PGconn:
    """Refuse a server that is too old, or whose text is not Unicode."""
    encoding = connection.parameter_status(b"server_encoding")
    if connection.server_version >= SERVER_VERSION_MIN and encoding in (b"UTF8", None):
        return connection
    connection.finish()
    if encoding not in (b"UTF8", None):
        raise UnusablePostgres(f"the database's encoding is {encoding.decode()}; Storekeep needs UTF8")
    raise UnusablePostgres("the database is older than PostgreSQL 14")


class Connection:
    """A place for one connection, opened when it is first used.

    Attributes:
        deadline: the caller's, as a `time.monotonic()`; infinite without one.
        changes: has risen where rows were changed, or where the transaction can only be undone.
        transient: whether the transaction failed in a way that running it again may cure.
        warned: whether a warning came with the last commit.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._named = not endpoint.limits.pooler
        self._statement_timeout_s = endpoint.limits.statement_timeout_s
        self._pq: pq.abc.PGconn | None = None
        self._names: dict[str, bytes] = {}
        self._transformer = Transformer()
        self._untouched = True
        self._begin = b""
        self._put_off: list[Bound] = []
        self.deadline = math.inf
        self.changes = 0
        self.transient = False
        self.warned = False

    # -- its life

    def open(self) -> pq.abc.PGconn:
        """Connect, after giving up what there was.

        Raises: ConnectionLost, UnusablePostgres.
        """
        self.close()
        connection = self._pq = self._endpoint.connect(self.deadline)
        connection.notice_handler = self._notice
        return connection

    def close(self) -> None:
        """Give the connection up; using it opens another."""
        connection, self._pq = self._pq, None
        self._names = {}
        self._put_off = []
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
        if time.monotonic() >= self.deadline:
            raise OutOfTime(of_caller=True)
        statements = [*self._put_off, _bind(sql, values)]
        return self._attempt(lambda: self._send(statements))

    def put_off(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Run a statement in the same round trip as the next one that somebody waits for.

        Where it fails, that next one raises.
        """
        self._put_off.append(_bind(sql, values))
        self.changes += 1

    def commit(self, *, timeout_s: float, witness: bytes = b"") -> None:
        """Commit, with what was put off. A commit that is not answered is not cancelled: its outcome is unknown.

        One that no standby has confirmed in time succeeds too, with a mere warning, and is lost where the standby takes
        over; so that counts as no answer.

        Args:
            witness: a statement to run before it, where nothing was put off.

        Raises: SqlError.
        """
        self.warned = False
        if self._put_off:
            statements = [*self._put_off, COMMIT]
            give_up = time.monotonic() + timeout_s
            self._attempt(lambda: self._send(statements), give_up=give_up, cancels=False)
        else:
            self.command(witness + b";COMMIT" if witness else b"COMMIT", timeout_s=timeout_s, cancels=False)
        if self.warned:
            self.close()
            raise ConnectionLost("the commit came with a warning: it may be on this server only")

    def command(self, sql: bytes, *, timeout_s: float, cancels: bool = True) -> Result:
        """Run one or more statements without values in one round trip, such as a BEGIN and what goes with it.

        Args:
            timeout_s: how long it may take, whatever the caller's deadline is.
            cancels: whether it may be cancelled when it takes longer; otherwise the connection is given up.

        Raises: SqlError.
        """
        give_up = time.monotonic() + timeout_s
        return self._attempt(lambda: self._connection().send_query(sql), give_up=give_up, cancels=cancels)

    def begin_with_next(self, sql: bytes) -> None:
        """Begin a transaction in the same round trip as the statement that comes next."""
        self._begin = sql

    def roll_back(self) -> None:
        """Undo the transaction, or end what `begin_with_next` was to begin."""
        self._begin = b""
        self._put_off = []
        if self.in_transaction:
            self.command(b"ROLLBACK", timeout_s=CANCEL_TIMEOUT_S)

    def _attempt(self, send: Callable[[], None], *, give_up: float | None = None, cancels: bool = True) -> Result:
        """Send, and wait for the result. On a connection that the server closed meanwhile, do so once more."""
        untouched, self._untouched = self._untouched, False
        try:
            return self._send_and_await(send, give_up, cancels)
        except ConnectionLost as error:
            if not untouched or isinstance(error, NoAnswer):
                raise
            self.open()
            return self._send_and_await(send, give_up, cancels)
        finally:
            self._begin = b""
            self._put_off = []

    def _send_and_await(self, send: Callable[[], None], give_up: float | None, cancels: bool) -> Result:
        if give_up is None:
            give_up = min(self.deadline, time.monotonic() + self._statement_timeout_s)
        try:
            send()
            first = 1 if self._begin else 0
            put_off = range(first, first + len(self._put_off))
            return self._await_result(give_up, cancels=cancels, put_off=put_off)
        except psycopg.OperationalError as error:
            self.close()
            raise ConnectionLost(str(error)) from None

    def _connection(self) -> pq.abc.PGconn:
        return self._pq or self.open()

    def _send(self, statements: Sequence[Bound]) -> None:
        """Send statements, and what begins their transaction, for one round trip."""
        connection = self._connection()
        names = [self._names.get(sql) or self._prepare(connection, sql) for sql, _, _ in statements]
        piped = bool(self._begin) or len(statements) > 1
        if piped:
            connection.enter_pipeline_mode()
        if self._begin:
            connection.send_query_params(self._begin, None)
        for name, (sql, parameters, formats) in zip(names, statements, strict=True):
            if name:
                connection.send_query_prepared(name, parameters, formats)
            else:
                connection.send_query_params(sql.encode(), parameters, None, formats)
        if piped:
            connection.pipeline_sync()

    def _prepare(self, connection: pq.abc.PGconn, sql: str) -> bytes:
        """Have a statement planned once; gives its name, empty where it has none."""
        if not self._named or len(self._names) >= STATEMENTS_MAX:
            return b""
        name = b"s%d" % len(self._names)
        connection.send_prepare(name, sql.encode())
        self._await_result(min(self.deadline, time.monotonic() + self._statement_timeout_s), cancels=True)
        self._names[sql] = name
        return name

    def _notice(self, notice: pq.abc.PGresult) -> None:
        self.warned |= notice.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) == b"WARNING"

    # -- results

    def _await_result(self, give_up: float, *, cancels: bool, put_off: Container[int] = ()) -> Result:
        results: list[pq.abc.PGresult] = []
        if not self._collect(results, give_up):
            of_caller = give_up >= self.deadline
            asked = cancels and self._pq is not None and _cancel(self._pq)
            if not asked or not self._collect(results, time.monotonic() + CANCEL_TIMEOUT_S):
                self.close()
                raise NoAnswer
            return self._read(results, put_off=put_off, out_of_time=OutOfTime(of_caller=of_caller))
        return self._read(results, put_off=put_off)

    def _collect(self, results: list[pq.abc.PGresult], give_up: float) -> bool:
        """Add the results of what was sent; False where not all are there in time."""
        connection = self._pq
        if connection is None:
            raise ConnectionLost("the connection is closed")
        while connection.flush():
            if not await_socket(connection.socket, select.POLLIN | select.POLLOUT, give_up):
                return False
            connection.consume_input()
        piped = connection.pipeline_status != pq.PipelineStatus.OFF
        while True:
            while connection.is_busy():
                if not await_socket(connection.socket, select.POLLIN, give_up):
                    return False
                connection.consume_input()
            result = connection.get_result()
            if result is None:
                if not piped:
                    return True
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                connection.exit_pipeline_mode()
                return True
            results.append(result)

    def _read(
        self, results: list[pq.abc.PGresult], *, put_off: Container[int], out_of_time: OutOfTime | None = None
    ) -> Result:
        """What the last statement gave, or the error of the first that failed.

        Args:
            put_off: the places of results that are of statements that were put off.
        """
        for place, result in enumerate(results):
            is_put_off = place in put_off
            if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
                self._fail(result, out_of_time, was_put_off=is_put_off)
            if not is_put_off:  # those are counted already
                self._count(result)
        last = results[-1]
        rows: list[Row] = []
        if last.ntuples:
            self._transformer.set_pgresult(last)
            rows = self._transformer.load_rows(0, last.ntuples, tuple)
        return Result(rows, last.command_tuples or 0)

    def _count(self, result: pq.abc.PGresult) -> None:
        tag = (result.command_status or b"SELECT").split(b" ", 1)[0]
        if tag in ROW_COUNTED:
            self.changes += result.command_tuples or 0
        elif tag not in QUIET:
            self.changes += 1

    def _fail(self, result: pq.abc.PGresult, out_of_time: OutOfTime | None, *, was_put_off: bool) -> None:
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
        kind = PutOffFailed if was_put_off and not self.transient else SqlError
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


class UnstorableText(ValueError):
    """PostgreSQL's text has no room for the character U+0000."""


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
