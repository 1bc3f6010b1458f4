"""Where a PostgreSQL is, and how a connection to it is made: one address after the other, none longer than its share.

Refuses a server that is too old, or whose text is not Unicode. After a failure, further attempts are refused at once
for a moment instead of each waiting for itself.
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
"""PostgreSQL 14, the oldest that its makers still look after as this is written."""
RETRY_CONNECT_S = 0.25
"""After a failure to connect, how long others are refused at once instead of each trying for itself."""
KEEPALIVES = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""A server that vanished is noticed within a minute, where the URL does not say else (PostgreSQL, libpq parameters)."""


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
