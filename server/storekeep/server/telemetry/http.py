"""HTTP endpoints for metrics and health, for Prometheus, Kubernetes and curl.

They are unauthenticated and reveal sales volume, but no data of customers or callers. They are disabled unless an
address is configured. Slow clients are disconnected; beyond `HTTP_CONNECTIONS_MAX` the oldest connection is closed.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from storekeep.server.runtime.ports import METRICS_SETTING, AddressTaken, describe_bind_error, split_address
from storekeep.server.telemetry.prometheus import CONTENT_TYPE, format_metrics
from storekeep.server.telemetry.status import ServerStatus, WorkerStatus

REQUEST_TIMEOUT_S = 5.0
"""Maximum duration of a connection, including the request and the response."""
HTTP_CONNECTIONS_MAX = 16
"""Maximum number of connections, each with a thread; enough for a few scrapers and probes."""
REQUEST_BYTES_MAX = 16 * 1024
"""Maximum size of the request line and all headers."""
READS = ("GET", "HEAD")
OTHER_METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
"""HTTP methods answered with 405 (RFC 9110, 9.1; RFC 5789); unknown methods get 501."""

ReadStatus = Callable[[], ServerStatus]
"""Returns the status of the server within about a second, even if workers hang."""
Response = tuple[HTTPStatus, str, bytes]


class StatusServer:
    """Serves the endpoints until `close`.

    Args:
        address: `host:port`; empty to disable the endpoints.
        read_status: Returns the status of the server.

    Attributes:
        address: Bound address with the actual port; empty if disabled.

    Raises: AddressTaken.
    """

    def __init__(self, address: str, read_status: ReadStatus) -> None:
        self.address = ""
        self._server: _HttpServer | None = None
        if not address:
            return
        try:
            self._server = _HttpServer(split_address(address), read_status)
        except OSError as error:
            raise AddressTaken(address, reason=describe_bind_error(error), setting=METRICS_SETTING) from None
        self.address = f"{address.rpartition(':')[0]}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _HttpServer(ThreadingHTTPServer):
    """Handles each connection in a thread, up to `HTTP_CONNECTIONS_MAX`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], read_status: ReadStatus) -> None:
        self.read_status = read_status
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._lock = threading.Lock()
        self._since_s: dict[Any, float] = {}
        super().__init__(address, _RequestHandler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Accept a connection; over the limit, close the oldest one of the address with the most."""
        with self._lock:
            self._since_s[request] = time.monotonic()
            if len(self._since_s) > HTTP_CONNECTIONS_MAX:
                self._disconnect(_find_oldest(self._since_s))
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._since_s.pop(request, None)

    def service_actions(self) -> None:
        """Close connections older than `REQUEST_TIMEOUT_S`; called twice a second and for each new connection."""
        before_s = time.monotonic() - REQUEST_TIMEOUT_S
        with self._lock:
            for request in [request for request, since_s in self._since_s.items() if since_s < before_s]:
                self._disconnect(request)

    def _disconnect(self, request: Any) -> None:
        """Close a connection, which ends its thread."""
        self._since_s.pop(request, None)
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect early."""


class _RequestHandler(BaseHTTPRequestHandler):
    """Handles one request."""

    server: _HttpServer
    timeout = REQUEST_TIMEOUT_S

    def setup(self) -> None:
        """Limit the size of the request."""
        super().setup()
        self.rfile = _BoundedFile(self.rfile, REQUEST_BYTES_MAX)  # type: ignore[assignment]  # used methods exist

    def _send_page(self) -> None:
        """Send the response of a path; without a body for HEAD."""
        status, kind, body = respond(self.path.partition("?")[0], self.server.read_status)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self._send_body(body)

    def _send_method_not_allowed(self) -> None:
        """Send 405 with the allowed methods."""
        self.send_response(HTTPStatus.METHOD_NOT_ALLOWED)
        self.send_header("Allow", ", ".join(READS))
        self._send_body(b"")

    def _send_body(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Do not log requests."""


for _method in READS:
    setattr(_RequestHandler, f"do_{_method}", _RequestHandler._send_page)
for _method in OTHER_METHODS:
    setattr(_RequestHandler, f"do_{_method}", _RequestHandler._send_method_not_allowed)


class _BoundedFile:
    """A file that ends after `bytes_max` bytes."""

    def __init__(self, file: Any, bytes_max: int) -> None:
        self._file = file
        self._remaining_bytes = bytes_max

    def readline(self, size: int = -1) -> bytes:
        """Read a line, up to the limit."""
        line: bytes = self._file.readline(self._remaining_bytes if size < 0 else min(size, self._remaining_bytes))
        self._remaining_bytes -= len(line)
        return line

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return bool(self._file.closed)


def _find_oldest(requests: Iterable[Any]) -> Any:
    """Return the oldest connection of the address with the most connections."""
    hosts = {request: _get_host(request) for request in requests}
    counts = Counter(hosts.values())
    return max(hosts, key=lambda request: counts[hosts[request]])


def _get_host(request: Any) -> str:
    try:
        return str(request.getpeername()[0])
    except OSError:  # already disconnected
        return ""


def respond(path: str, read_status: ReadStatus) -> Response:
    """Return the response of a path.

    `/metrics`: metrics of all workers. `/healthz`: the server is alive. `/readyz`: it accepts all kinds of calls.
    `/healthz/1`, `/readyz/1`: the same for the worker with this number.
    """
    page, _, number = path.removeprefix("/").partition("/")
    if path == "/metrics":
        return HTTPStatus.OK, CONTENT_TYPE, format_metrics(read_status())
    if page not in HEALTH_CHECKS:
        return _build_json(HTTPStatus.NOT_FOUND, {"pages": ["/metrics", *(f"/{name}" for name in HEALTH_CHECKS)]})
    status = read_status()
    check_server, check_worker = HEALTH_CHECKS[page]
    workers = [worker for worker in status.workers if number in ("", str(worker.number))]
    if not workers:
        return _build_json(HTTPStatus.NOT_FOUND, {"workers": len(status.workers)})
    is_ok = check_worker(workers[0]) if number else check_server(status)
    http_status = HTTPStatus.OK if is_ok else HTTPStatus.SERVICE_UNAVAILABLE
    return _build_json(http_status, {"ok": is_ok, "workers": [_describe_worker(worker) for worker in workers]})


HEALTH_CHECKS: dict[str, tuple[Callable[[ServerStatus], bool], Callable[[WorkerStatus], bool]]] = {
    "healthz": (lambda _status: True, lambda worker: worker.is_alive),
    "readyz": (lambda status: status.is_ready, lambda worker: worker.is_serving),
}
"""Checks of the whole server and of one worker, by path."""


def _describe_worker(worker: WorkerStatus) -> dict[str, Any]:
    return {
        "number": worker.number,
        "process_id": worker.process_id,
        "state": worker.state,
        "writes": worker.serves_writes,
        "restarts": worker.restarts,
    }


def _build_json(status: HTTPStatus, content: dict[str, Any]) -> Response:
    return status, "application/json", json.dumps(content).encode() + b"\n"
