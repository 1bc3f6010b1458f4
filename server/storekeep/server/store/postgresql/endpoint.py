"""Connection attempts to a PostgreSQL server: each address in turn, each with its share of the timeout.

Rejects a server that is too old or whose encoding is not UTF-8. After a failure, further attempts fail at once for
`RETRY_CONNECT_S` instead of waiting for the timeout.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from storekeep.server.runtime.tasks import await_socket
from storekeep.server.store.limits import Limits
from storekeep.server.store.postgresql.errors import ConnectionLost, UnusablePostgres

SERVER_VERSION_MIN = 140_000
"""PostgreSQL 14, the oldest supported release at the time of writing."""
RETRY_CONNECT_S = 0.25
"""How long attempts fail at once after a failed attempt."""
SERVER_TIMEOUT_EXTRA_S = 1.0
"""How much later than Storekeep the server ends a statement, so that the caller learns which timeout ended it."""
KEEPALIVES = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""Detect an unreachable server within a minute. Parameters of the URL override them (PostgreSQL, libpq parameters)."""


class Endpoint:
    """The addresses and connection parameters of one database.

    Args:
        url: `postgresql://…`, with libpq's parameters. Of several hosts, the one that accepts writes is used.
    """

    def __init__(self, url: str, limits: Limits) -> None:
        self.limits = limits
        own = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
        self._parameters = {"application_name": "storekeep", **KEEPALIVES, **own, "client_encoding": "UTF8"}
        if "," in own.get("host", ""):
            self._parameters.setdefault("target_session_attrs", "read-write")
        if not limits.pooler:
            milliseconds = round((limits.statement_timeout_s + SERVER_TIMEOUT_EXTRA_S) * 1000)
            options = f"{own.get('options', '')} -c statement_timeout={milliseconds} -c TimeZone=UTC"
            self._parameters["options"] = options.strip()
        self._retry_after = -math.inf
        self._problem = ""
        self._last_used = ""

    def connect(self, deadline: float) -> pq.abc.PGconn:
        """Return a new connection.

        Args:
            deadline: the `time.monotonic()` by which it must be established.

        Raises: ConnectionLost, UnusablePostgres.
        """
        now = time.monotonic()
        if now < self._retry_after:
            raise ConnectionLost(self._problem)
        try:
            connection = self._connect_to_any(min(deadline, now + self.limits.connect_timeout_s))
        except (ConnectionLost, UnusablePostgres) as error:
            self._problem = str(error)
            self._retry_after = time.monotonic() + RETRY_CONNECT_S
            raise
        self._retry_after = -math.inf
        return connection

    def _connect_to_any(self, deadline: float) -> pq.abc.PGconn:
        """Try each address in turn, the last successful one first, each with an equal share of the remaining time.

        A host that is down does not refuse the connection, and must not use up the time of the next one.
        """
        problem: ConnectionLost | UnusablePostgres = ConnectionLost("the host name cannot be resolved")
        attempts = [make_conninfo(**parameters) for parameters in self._attempts()]
        attempts.sort(key=lambda conninfo: conninfo != self._last_used)
        for left, conninfo in zip(range(len(attempts), 0, -1), attempts, strict=True):
            now = time.monotonic()
            try:
                connection = _check_server(_connect(conninfo, now + (deadline - now) / left))
            except (ConnectionLost, UnusablePostgres) as error:
                problem = error
                continue
            self._last_used = conninfo
            return connection
        raise problem

    def _attempts(self) -> Iterator[dict[str, Any]]:
        """Yield the parameters of each address. Names are resolved here, because libpq would block other threads."""
        hosts = self._parameters.get("host", "").split(",")
        ports = self._parameters.get("port", "").split(",")
        for number, host in enumerate(hosts):
            port = ports[number] if len(ports) > 1 else ports[0]
            one = self._parameters | {"host": host, "port": port}
            if not host or host.startswith(("/", "@")) or "hostaddr" in self._parameters:
                yield {name: value for name, value in one.items() if value}
                continue
            with contextlib.suppress(OSError):
                entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                for address in dict.fromkeys(str(entry[4][0]) for entry in entries):
                    yield {name: value for name, value in (one | {"hostaddr": address}).items() if value}


def _connect(conninfo: str, deadline: float) -> pq.abc.PGconn:
    """Return a new connection, established before the deadline.

    Raises: ConnectionLost.
    """
    connection = pq.PGconn.connect_start(conninfo.encode())
    try:
        status: int = pq.PollingStatus.WRITING if connection.status != pq.ConnStatus.BAD else pq.PollingStatus.FAILED
        while status != pq.PollingStatus.OK:
            if status == pq.PollingStatus.FAILED:
                raise ConnectionLost(connection.get_error_message())
            event = select.POLLIN if status == pq.PollingStatus.READING else select.POLLOUT
            if not await_socket(connection.socket, event, deadline):
                raise ConnectionLost("the connection to the database timed out")
            status = connection.connect_poll()
    except psycopg.OperationalError as error:
        connection.finish()
        raise ConnectionLost(str(error)) from None
    except BaseException:
        connection.finish()
        raise
    connection.nonblocking = 1
    return connection


def _check_server(connection: pq.abc.PGconn) -> pq.abc.PGconn:
    """Return the connection if its server is new enough and uses UTF-8; otherwise close it.

    Raises: UnusablePostgres.
    """
    encoding = connection.parameter_status(b"server_encoding")
    if connection.server_version >= SERVER_VERSION_MIN and encoding in (b"UTF8", None):
        return connection
    connection.finish()
    if encoding not in (b"UTF8", None):
        raise UnusablePostgres(f"the database's encoding is {encoding.decode()}; Storekeep needs UTF8")
    raise UnusablePostgres("the database is older than PostgreSQL 14")
