"""A load of PlaceOrder, sent by a separate client process on the load's cores."""

from __future__ import annotations

import json
import sys

from benchmarks.loads.load import Load, LoadFailed
from benchmarks.machine import Server, run_pinned

GRPC = "benchmarks.loads.grpc_orders"
HTTP = "benchmarks.loads.http_orders"
GATEWAY = (HTTP, "--dialect", "gateway")
IN_FLIGHT = 96
END_TIMEOUT_S = 90.0


def send(
    client: str | tuple[str, ...], server: Server, *, token: str, seconds: float, in_flight: int = IN_FLIGHT
) -> Load:
    """Keep `in_flight` orders in flight for `seconds`.

    Args:
        client: `GRPC`, `HTTP` or `GATEWAY`.

    Raises: LoadFailed if any reply is wrong.
    """
    program = [client] if isinstance(client, str) else client
    command = [sys.executable, "-m", *program, "--address", server.address, "--token", token]
    command += ["--seconds", str(seconds), "--in-flight", str(in_flight)]
    before_s = server.read_cpu_s()
    try:
        output, _ = run_pinned(command, cores=server.placement.load, timeout_s=seconds + END_TIMEOUT_S)
    except RuntimeError as error:
        raise LoadFailed(str(error)) from error
    used_s = server.read_cpu_s() - before_s
    tally = json.loads(output)
    return Load(tally["answered"], tally["seconds"], server_cpu_s=used_s, client_cpu_s=tally["cpu_s"])
