"""One request again and again, sent by h2load, which costs a load core little.

h2load does not look into gRPC's trailers. A failed call answers no bytes, so the bytes that came are counted instead:
every answer must be as long as a good one.
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
FRAME_BYTES = 16_384
"""An answer that fits in one frame comes whole or not at all; the end of a turn can cut a longer one off."""


@dataclass(frozen=True)
class Request:
    """What is sent, and how long a good answer is.

    Attributes:
        path: of the URL, with its leading slash.
        headers: besides those that h2load makes.
        body: file to post; None for a GET.
        answer_bytes: length of a good answer's body.
        http1: HTTP/1.1 with keep-alive instead of HTTP/2 with prior knowledge.
        connections: how many.
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
    """Whether there is an h2load on the path."""
    return shutil.which("h2load") is not None


def send(request: Request, server: Server, *, seconds: float) -> Load:
    """Keep the server under this load for so long.

    Raises: LoadFailed when any answer is not a good one.
    """
    before_s = server.cpu_s()
    output, client_cpu_s = run_pinned(
        _command(request, server, seconds), cores=server.placement.load, timeout_s=seconds + END_TIMEOUT_S
    )
    used_s = server.cpu_s() - before_s
    answered = _number(r"(\d+) succeeded", output)
    _check(request, answered, output)
    return Load(answered, seconds, server_cpu_s=used_s, client_cpu_s=client_cpu_s)


def _command(request: Request, server: Server, seconds: float) -> list[str]:
    command = ["h2load", f"--duration={round(seconds * 1000)}ms", "--threads=1"]
    command += [f"--clients={request.connections}", f"--max-concurrent-streams={request.streams}"]
    command += [f"--header={name}: {value}" for name, value in request.headers.items()]
    command += ["--h1"] if request.http1 else []
    command += [f"--data={request.body}"] if request.body else []
    return [*command, f"http://{server.address}{request.path}"]


def _check(request: Request, answered: int, output: str) -> None:
    failed = _number(r"(\d+) failed", output) + _number(r"(\d+) errored", output)
    whole, rest = divmod(_number(r"\((\d+)\) data", output), request.answer_bytes)
    in_flight = request.connections * request.streams
    cut_off = rest and request.answer_bytes < FRAME_BYTES
    if failed or cut_off or not answered <= whole <= answered + in_flight or not answered:
        raise LoadFailed(f"{request.path}: not every answer was a good one\n{output}")


def _number(pattern: str, output: str) -> int:
    match = re.search(pattern, output)
    if match is None:
        raise LoadFailed(f"h2load said something unexpected\n{output}")
    return int(match[1])
