"""One gateway process from its start to its end: the port, the signals, the TLS files and the drain.

A change of the TLS files starts a second listener on the same port, and the first one ends after its requests. Requests
that run when SIGTERM arrives are answered; those that arrive later on open connections are too, with `connection:
close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
from pathlib import Path

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from storekeep.gateway.access_log import AccessLog
from storekeep.gateway.app import Gateway
from storekeep.gateway.calls import Calls
from storekeep.gateway.config import DEFAULT_LISTEN, LISTEN_VARIABLE, Settings

TLS_CHECK_INTERVAL_S = 2.0
"""Interval at which the TLS files are checked for changes, in seconds."""
CONNECT_TIMEOUT_S = 10.0
POLL_S = 0.02
ANNOUNCE_POLL_S = 0.1
"""Interval at which the file that the banner waits for is looked for, in seconds."""
OTHER_FILES_MAX = 100
"""Open files besides the connections: the ports, the log, the channel to the server."""
CORS_REQUEST_HEADERS = (
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "Storekeep-Position",
    "Traceparent",
    "X-Request-ID",
    "X-Request-Timeout",
)
CORS_REPLY_HEADERS = ("ETag", "Idempotency-Replayed", "Retry-After", "Storekeep-Position", "X-Request-ID")
CORS_MAX_AGE_S = 600


class CannotListen(Exception):
    """The address of the gateway is not available."""


def reserve_port(address: str) -> socket.socket:
    """Return a socket that holds the port of `host:port` and never listens. Port 0 becomes a free port.

    It is first bound without SO_REUSEPORT, which would also share the port with another program.

    Raises: CannotListen.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
            number = probe.getsockname()[1]
        holder = socket.socket(family)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((host, number))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CannotListen(f"cannot listen on {address}: {reason}; set {LISTEN_VARIABLE} to another address") from None
    return holder


async def serve(
    settings: Settings, *, address_file: Path | None, end_with: int | None, announce_after: Path | None
) -> None:
    """Serve until SIGTERM or SIGINT, and end after the running requests.

    Args:
        settings: settings.
        address_file: write the address to this file when the gateway accepts requests; None for none.
        end_with: end when this process does, such as the server of `make run`; None for no such process.
        announce_after: print the address when this file exists, such as the one that the server writes after its own
            lines; None to print it at once.

    Raises: CannotListen.
    """
    _raise_file_limit(settings.connections_max)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    if end_with is not None:
        _watch_process(end_with, stopping)
    with reserve_port(settings.listen) as holder:
        host, port = settings.listen.rpartition(":")[0], holder.getsockname()[1]
        calls, log = Calls(settings), AccessLog()
        gateway = Gateway(settings, calls=calls, log=log)
        listener = Listener(add_cors(gateway, settings.cors_origins), settings, host=host.strip("[]"), port=port)
        await listener.start()
        scheme = "https" if settings.tls_certificate_file else "http"
        announcing = _announce(gateway, settings, f"{scheme}://{host}:{port}", after=announce_after)
        if address_file:
            temporary = address_file.with_name(f"{address_file.name}.new")
            temporary.write_text(f"{host}:{port}\n")
            temporary.replace(address_file)
        jobs = (announcing, listener.watch_files(), gateway.connections.run(port))
        watching = [asyncio.create_task(job) for job in jobs]
        await stopping.wait()
        for task in watching:
            task.cancel()
        await _drain(gateway, listener, settings)
        await calls.close()
        if gateway.console is not None:
            gateway.console.close()
        log.close()


async def _announce(gateway: Gateway, settings: Settings, base: str, *, after: Path | None) -> None:
    """Print where the gateway and the console are, once the file `after` exists; None: at once."""
    while after is not None and not after.exists():
        await asyncio.sleep(ANNOUNCE_POLL_S)
    print(f"The HTTP gateway is listening on {base}.", flush=True)  # noqa: T201 - output of the command
    _print_console(gateway, settings, base)


def _print_console(gateway: Gateway, settings: Settings, base: str) -> None:
    """Print where the console is, and a link that signs in once if the settings name a key."""
    if gateway.console is None:
        return
    if settings.console_key_file is None:
        print(f"The console is at {base}/", flush=True)  # noqa: T201 - output of the command
        return
    minutes = round(settings.console_link_lifetime_s / 60)
    link = gateway.console.make_link(base)
    if settings.listen != DEFAULT_LISTEN:
        print(f"`storekeep open` needs this address once: storekeep login --console {base}", flush=True)  # noqa: T201
    print(f"Sign in to the console, once within {minutes} minutes: {link}", flush=True)  # noqa: T201


def _limit_unread_replies(port: int, timeout_s: float) -> None:
    """Let the kernel close connections whose client reads nothing for a time. Connections inherit it from the port.

    Granian has no such limit and does not show its listening socket, so it is found among the open files.
    """
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as found:
            is_listening = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if is_listening and found.family != socket.AF_UNIX and found.getsockname()[1] == port:
                found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout_s * 1_000))


def _raise_file_limit(connections_max: int) -> None:
    """Raise the soft limit of open files so that all connections fit, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections_max + OTHER_FILES_MAX
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _watch_process(pid: int, ended: asyncio.Event) -> None:
    """Set the event when a process ends."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        ended.set()
        return
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        ended.set()

    loop.add_reader(descriptor, end)


async def _drain(gateway: Gateway, listener: Listener, settings: Settings) -> None:
    """Tell load balancers, close the port, and wait for the running requests."""
    gateway.is_draining = True
    await asyncio.sleep(settings.drain_notice_s)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.drain_timeout_s):
            await listener.stop()
            while gateway.in_flight:
                await asyncio.sleep(POLL_S)


def add_cors(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """Return the application with CORS for these origins; unchanged for none. Cookies are never allowed."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=CORS_REQUEST_HEADERS,
        expose_headers=CORS_REPLY_HEADERS,
        max_age=CORS_MAX_AGE_S,
    )


class Listener:
    """The HTTP server of one port. Its TLS files can change."""

    def __init__(self, gateway: ASGIApp, settings: Settings, *, host: str, port: int) -> None:
        self._gateway = gateway
        self._settings = settings
        self._host = host
        self._port = port
        self._versions = self._read_versions()
        self._server = self._make_server()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start to listen, and wait until connections are accepted.

        Raises: CannotListen.
        """
        self._task = asyncio.create_task(self._server.serve())
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            while True:
                if self._task.done():
                    raise CannotListen(f"cannot serve on {self._host}:{self._port}: {self._task.exception()}")
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(self._get_reachable_host(), self._port)
                    writer.close()
                    _limit_unread_replies(self._port, self._settings.reply_timeout_s)
                    return
                await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        """Close the port, and wait for its connections to end their requests."""
        self._server.stop()  # type: ignore[no-untyped-call]
        if self._task is not None:
            await self._task

    async def watch_files(self) -> None:
        """Start anew with each change of the TLS files. Files that cannot be used leave the listener as it is."""
        while self._settings.tls_certificate_file is not None:
            await asyncio.sleep(TLS_CHECK_INTERVAL_S)
            versions = self._read_versions()
            if versions == self._versions or None in versions:
                continue
            self._versions = versions
            with contextlib.suppress(Exception):
                new = self._make_server()
                old, old_task = self._server, self._task
                self._server, self._task = new, asyncio.create_task(new.serve())
                await asyncio.sleep(POLL_S)
                _limit_unread_replies(self._port, self._settings.reply_timeout_s)
                old.stop()  # type: ignore[no-untyped-call]
                if old_task is not None:
                    await old_task

    def _get_reachable_host(self) -> str:
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 - compared, not bound

    def _read_versions(self) -> tuple[tuple[int, int] | None, ...]:
        """Return what identifies the content of each TLS file; None for one that does not exist."""
        versions = []
        for path in (self._settings.tls_certificate_file, self._settings.tls_private_key_file):
            try:
                found = None if path is None else path.stat()
            except OSError:
                found = None
            versions.append(found and (found.st_mtime_ns, found.st_ino))
        return tuple(versions)

    def _make_server(self) -> Server:
        settings = self._settings
        return Server(
            self._gateway,
            address=self._host,
            port=self._port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            backpressure=settings.connections_max,
            log_enabled=False,
            http1_settings=HTTP1Settings(
                header_read_timeout=int(settings.header_timeout_s * 1_000),
                max_buffer_size=settings.header_size_max_bytes,
            ),
            ssl_cert=settings.tls_certificate_file,
            ssl_key=settings.tls_private_key_file,
        )
