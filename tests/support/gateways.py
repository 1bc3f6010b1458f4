"""A real gateway process on a free port, raw connections to it, and whole HTTP replies as they come from the wire."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.forks import start_fork

COMMAND = Path(sysconfig.get_path("scripts"), "storekeep-gateway")
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 300.0
READ_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class HttpReply:
    """A reply: status, headers with names in lower case, and body. Status 0: the connection was closed instead."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The parsed body."""
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The reason of an error."""
        return next((detail["reason"] for detail in self.json["error"]["details"] if "reason" in detail), "")


class GatewayProcess:
    """A gateway.

    Args:
        folder: directory of its log.
        server_address: address of the server behind it.
        api_key: sent with each request that has no other credential.
        settings: settings, without `STOREKEEP_GATEWAY_`.
    """

    def __init__(self, folder: Path, *, server_address: str, api_key: str, **settings: str) -> None:
        self.api_key = api_key
        self.log_file = folder / "gateway.log"
        address_file = folder / "gateway.address"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STOREKEEP_")}
        named = {f"STOREKEEP_GATEWAY_{name.upper()}": value for name, value in settings.items()}
        command = [COMMAND, "serve", "--server", server_address, "--address-file", str(address_file)]
        with self.log_file.open("wb") as log:
            environment = inherited | {"STOREKEEP_HTTP_LISTEN": "127.0.0.1:0"} | named
            self.process = start_fork(command, environment=environment, stdout=log, stderr=log)
        give_up = time.monotonic() + START_TIMEOUT_S
        while not address_file.exists():
            if self.process.poll() is not None or time.monotonic() > give_up:
                self.process.kill()
                raise AssertionError(f"the gateway did not start:\n{self.log()[-4000:]}")
            time.sleep(0.01)
        host, _, port = address_file.read_text().strip().rpartition(":")
        self.address = (host, int(port))

    def log(self) -> str:
        """Return its log so far."""
        return self.log_file.read_text(errors="replace")

    def memory_mib(self) -> float:
        """Return its resident memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024

    def connect(self) -> socket.socket:
        """Open a raw connection."""
        return socket.create_connection(self.address, timeout=READ_TIMEOUT_S)

    def send(self, method: str, target: str, body: Any = None, **headers: str) -> HttpReply:
        """Send a request on a connection of its own. `if_match` is the header `If-Match`; a body is sent as JSON."""
        lines = {"host": "gateway", "connection": "close", "authorization": f"Bearer {self.api_key}"}
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if data:
            lines |= {"content-type": "application/json", "content-length": str(len(data))}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return self.send_raw(head.encode("latin-1") + b"\r\n" + data, method=method)

    def send_raw(self, request: bytes, *, method: str = "GET") -> HttpReply:
        """Send bytes, and read one reply."""
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError):  # refused before all of it was sent; the reply says why
                connection.sendall(request)
            return read_reply(connection, method=method)

    def stop(self) -> int:
        """Stop it; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STOP_TIMEOUT_S)


def read_reply(connection: socket.socket, *, method: str = "GET") -> HttpReply:
    """Read one reply; its status is 0 if the connection was closed before."""
    received = b""
    try:
        while b"\r\n\r\n" not in received:
            data = connection.recv(65_536)
            if not data:
                return HttpReply(0, {}, received)
            received += data
        head, _, body = received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = 0 if method == "HEAD" else int(headers.get("content-length", 0))
        while len(body) < size:
            data = connection.recv(65_536)
            if not data:
                break
            body += data
        return HttpReply(int(status_line.split()[1]), headers, body)
    except ConnectionError:
        return HttpReply(0, {}, received)
