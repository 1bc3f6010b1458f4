"""Checks of the running server: its port, its answers, its HTTP pages, and the fast path of gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from storekeep.server.config import UNIX
from storekeep.server.process.doctor.findings import Finding, Installation, Severity
from storekeep.server.process.healthcheck import SERVING, find_connection_problem, probe_server
from storekeep.server.runtime.ports import AddressTaken, find_free_addresses
from storekeep.server.transport.grpcio_support import TESTED_SERIES, is_supported
from storekeep.server.transport.leadership import own_addresses


def check_server(installation: Installation) -> Iterator[Finding]:
    """Check that the server answers; if none runs, that its addresses are free."""
    settings = installation.settings
    is_ours = bool(own_addresses(settings))
    if not is_ours and not find_connection_problem(settings.listen):
        what = f"no server of this installation runs, and another program listens at {settings.listen}"
        remedy = "find the program with: ss -ltnp; or change STOREKEEP_LISTEN"
        yield Finding("server", Severity.ERROR, what, "the server cannot start", remedy)
        return
    if is_ours:
        state = probe_server(settings, service="")
        if state != SERVING:
            why = "callers get no answers, or only refusals"
            remedy = "see the server's log; if another program has the port, change STOREKEEP_LISTEN"
            yield Finding("server", Severity.ERROR, f"{settings.listen}: {state}", why, remedy)
        elif settings.metrics_listen and find_connection_problem(settings.metrics_listen):
            what = f"the server runs, but nothing listens at {settings.metrics_listen}"
            why = "monitoring and health pages do not work"
            yield Finding("server", Severity.WARNING, what, why, "restart the server: systemctl restart storekeep")
        return
    what = f"no server runs at {settings.listen}"
    yield Finding("server", Severity.WARNING, what, "nobody can place orders", "storekeep-server serve")
    for address in filter(None, (settings.listen, settings.metrics_listen)):
        yield from _check_address(address)


def _check_address(address: str) -> Iterator[Finding]:
    if address.startswith(UNIX):
        return
    try:
        find_free_addresses(address)
    except AddressTaken as error:
        remedy = "find the program with: ss -ltnp; or choose another address, from port 1024 on"
        yield Finding("server", Severity.ERROR, str(error), "the server cannot start", remedy)


def check_grpcio(installation: Installation) -> Iterator[Finding]:
    """Check that calls take the fast path."""
    why = "reads cost twice as much, and limits on what callers without a token can hold are off"
    if installation.settings.grpc_fast_path == "off":
        remedy = "remove STOREKEEP_GRPC_FAST_PATH=off once the fault is found"
        yield Finding("grpcio", Severity.WARNING, "the fast path is switched off", why, remedy)
    with ThreadPoolExecutor(1) as pool:
        supported = is_supported(grpc.server(pool))
    if not supported:
        what = f"the fast path was not tested with grpcio {grpc.__version__}"
        remedy = f"pip install 'grpcio=={max(TESTED_SERIES)}.*'"
        yield Finding("grpcio", Severity.WARNING, what, why, remedy)
