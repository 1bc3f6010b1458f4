"""Pages: metrics and health over plain HTTP, for Prometheus, Kubernetes and people with curl.

They tell nothing of customers or callers, but how much is sold can be guessed from them; so they are off until an
address is named. Nobody waits for them: one that asks slowly is cut off, and where there are too many it is the oldest
that has to go, as a probe is answered within milliseconds.
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

from storekeep.server.runtime.ports import AddressTaken, split_address
from storekeep.server.telemetry.prometheus import CONTENT_TYPE, expose
from storekeep.server.telemetry.status import Overview, WorkerView

REQUEST_TIMEOUT_S = 5.0
"""How long a caller may take to ask and to read the answer, all in all."""
CALLERS_MAX = 16
"""Who may be answered at once: some scrapers and probes, each with a thread."""
REQUEST_BYTES_MAX = 16 * 1024
"""Of the request line and all headers together."""
READS = ("GET", "HEAD")
OTHER_METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
"""Methods of HTTP that the pages do not take (RFC 9110, 9.1; RFC 5789). Of others nobody knows what they mean: 501."""

Look = Callable[[], Overview]
"""Looks at the server; answers within about a second, whatever the workers do."""
Answer = tuple[HTTPStatus, str, bytes]


class Pages:
    """Serves the pages from the start to `close`.

    Args:
        address: `host:port`; empty: nowhere.

    Attributes:
        address: with the port that it got.

    Raises: AddressTaken.
    """

    def __init__(self, address: str, look: Look) -> None:
        self.address = ""
        self._server: _PageServer | None = None
        if not address:
            return
        try:
            self._server = _PageServer(split_address(address), look)
        except OSError:
            raise AddressTaken(address) from None
        self.address = f"{address.rpartition(':')[0]}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="pages", daemon=True).start()

    def close(self) -> None:
        """Serve them no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _PageServer(ThreadingHTTPServer):
    """Answers each caller in a thread, up to a limit."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, place: tuple[str, int], look: Look) -> None:
        self.look = look
        self.address_family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        self._lock = threading.Lock()
        self._since_s: dict[Any, float] = {}
        super().__init__(place, _PageHandler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a caller; where there are too many, the oldest of the address with most has to go."""
        with self._lock:
            self._since_s[request] = time.monotonic()
            if len(self._since_s) > CALLERS_MAX:
                self._hang_up(_worst(self._since_s))
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one caller."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._since_s.pop(request, None)

    def service_actions(self) -> None:
        """Hang up on those whose time is over; called twice a second, and for each new caller."""
        before_s = time.monotonic() - REQUEST_TIMEOUT_S
        with self._lock:
            for request in [request for request, since_s in self._since_s.items() if since_s < before_s]:
                self._hang_up(request)

    def _hang_up(self, request: Any) -> None:
        """End a connection, at which its thread ends."""
        self._since_s.pop(request, None)
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that has gone before it was answered is nobody's business."""


class _PageHandler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: _PageServer
    timeout = REQUEST_TIMEOUT_S

    def setup(self) -> None:
        """Read no more than a request may have."""
        super().setup()
        self.rfile = _Bounded(self.rfile, REQUEST_BYTES_MAX)  # type: ignore[assignment]  # all that is used of a file

    def _read(self) -> None:
        """Give a page, or say that there is none; to HEAD without the page itself."""
        status, kind, body = answer(self.path.partition("?")[0], self.server.look)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self._finish(body)

    def _refuse(self) -> None:
        """Say which methods there are."""
        self.send_response(HTTPStatus.METHOD_NOT_ALLOWED)
        self.send_header("Allow", ", ".join(READS))
        self._finish(b"")

    def _finish(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Scrapes are not logged."""


for _method in READS:
    setattr(_PageHandler, f"do_{_method}", _PageHandler._read)
for _method in OTHER_METHODS:
    setattr(_PageHandler, f"do_{_method}", _PageHandler._refuse)


class _Bounded:
    """A file that is at its end after so many bytes."""

    def __init__(self, file: Any, bytes_max: int) -> None:
        self._file = file
        self._left = bytes_max

    def readline(self, size: int = -1) -> bytes:
        """Read a line, as far as it may be read."""
        line: bytes = self._file.readline(self._left if size < 0 else min(size, self._left))
        self._left -= len(line)
        return line

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return bool(self._file.closed)


def _worst(requests: Iterable[Any]) -> Any:
    """The oldest request of the address that has most of them."""
    hosts = {request: _host_of(request) for request in requests}
    counts = Counter(hosts.values())
    return max(hosts, key=lambda request: counts[hosts[request]])


def _host_of(request: Any) -> str:
    try:
        return str(request.getpeername()[0])
    except OSError:  # it is gone
        return ""


def answer(path: str, look: Look) -> Answer:
    """The page at a path.

    `/metrics`: all workers together. `/healthz`: the server is alive. `/readyz`: it takes every kind of call.
    `/healthz/1`, `/readyz/1`: of the worker with that number.
    """
    page, _, number = path.removeprefix("/").partition("/")
    if path == "/metrics":
        return HTTPStatus.OK, CONTENT_TYPE, expose(look())
    if page not in JUDGEMENTS:
        return _as_json(HTTPStatus.NOT_FOUND, {"pages": ["/metrics", *(f"/{name}" for name in JUDGEMENTS)]})
    overview = look()
    of_server, of_worker = JUDGEMENTS[page]
    workers = [worker for worker in overview.workers if number in ("", str(worker.number))]
    if not workers:
        return _as_json(HTTPStatus.NOT_FOUND, {"workers": len(overview.workers)})
    good = of_worker(workers[0]) if number else of_server(overview)
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return _as_json(status, {"ok": good, "workers": [_told(worker) for worker in workers]})


JUDGEMENTS: dict[str, tuple[Callable[[Overview], bool], Callable[[WorkerView], bool]]] = {
    "healthz": (lambda _overview: True, lambda worker: worker.is_alive),
    "readyz": (lambda overview: overview.is_ready, lambda worker: worker.is_serving),
}
"""What is good news of the whole server, and of one worker."""


def _told(worker: WorkerView) -> dict[str, Any]:
    return {
        "number": worker.number,
        "process_id": worker.process_id,
        "state": worker.state,
        "writes": worker.writes,
        "restarts": worker.restarts,
    }


def _as_json(status: HTTPStatus, content: dict[str, Any]) -> Answer:
    return status, "application/json", json.dumps(content).encode() + b"\n"
