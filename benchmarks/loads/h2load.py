"""A load of one repeated request, sent by h2load, which needs little processor time.

h2load does not read gRPC's trailers. A failed call returns no bytes, so the received bytes are counted instead: every
reply must be as long as a good one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loads.load import Load, LoadFailed
from benchmarks.machine import Server, run_pinned

INSTALL = "h2load is missing: apt-get install nghttp2-client"
END_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Request:
    """A request, and the length of a good reply.

    Attributes:
        path: path of the URL, with its leading slash.
        headers: headers in addition to those of h2load.
        body: file to post; None for a GET.
        answer_bytes: length of a good reply's body.
        http1: HTTP/1.1 with keep-alive instead of HTTP/2 with prior knowledge.
        connections: number of connections.
        streams: calls in flight on each connection.
    """

    path: str
    headers: Mapping[str, str]
    body: Path | None
    answer_bytes: int
    http1: bool = False
    connections: int = 8
    streams: int = 8


def is_installed() -> bool:
    """Whether h2load is on the path."""
    return shutil.which("h2load") is not None


def send(request: Request, server: Server, *, seconds: float) -> Load:
    """Keep the server under this load for `seconds`.

    Raises: LoadFailed if any reply is wrong.
    """
    before_s = server.read_cpu_s()
    output, client_cpu_s = run_pinned(
        _build_command(request, server, seconds), cores=server.placement.load, timeout_s=seconds + END_TIMEOUT_S
    )
    used_s = server.read_cpu_s() - before_s
    answered = _parse_number(r"(\d+) succeeded", output)
    _check(request, answered, output)
    return Load(answered, seconds, server_cpu_s=used_s, client_cpu_s=client_cpu_s)


def _build_command(request: Request, server: Server, seconds: float) -> list[str]:
    command = ["h2load", f"--duration={round(seconds * 1000)}ms", "--threads=1"]
    command += [f"--clients={request.connections}", f"--max-concurrent-streams={request.streams}"]
    command += [f"--header={name}: {value}" for name, value in request.headers.items()]
    command += ["--h1"] if request.http1 else []
    command += [f"--data={request.body}"] if request.body else []
    return [*command, f"http://{server.address}{request.path}"]


def _check(request: Request, answered: int, output: str) -> None:
    failed = _parse_number(r"(\d+) failed", output) + _parse_number(r"(\d+) errored", output)
    # The end of the load can cut a reply that was on its way, so the bytes need not be a multiple of the size.
    replies = _parse_number(r"\((\d+)\) data", output) / request.answer_bytes
    in_flight = request.connections * request.streams
    if failed or not answered <= replies <= answered + in_flight or not answered:
        raise LoadFailed(f"{request.path}: wrong replies\n{output}")


def _parse_number(pattern: str, output: str) -> int:
    match = re.search(pattern, output)
    if match is None:
        raise LoadFailed(f"unexpected output of h2load\n{output}")
    return int(match[1])
