"""Which releases of grpcio the fast path works with: it leans on private names inside `grpc._server`."""

from __future__ import annotations

import inspect

import grpc
from grpc import _server as grpc_server

REQUIRED_NAMES = (
    "_REQUEST_CALL_TAG",
    "_ServerStage",
    "_begin_shutdown_once",
    "_process_event_and_continue",
    "_request_call",
    "_request_registered_call",
    "_stop_serving",
)
REQUIRED_STATE_NAMES = (
    "active_rpc_count",
    "completion_queue",
    "due",
    "lock",
    "maximum_concurrent_rpcs",
    "registered_method_handlers",
    "rpc_states",
    "server",
    "stage",
)
TESTED_SERIES = frozenset({"1.85"})
"""Release series of grpcio that the fast path was tested with. It leans on names inside `grpc._server`, so a series is
added only after all tests have passed with it."""


def is_supported(server: grpc.Server) -> bool:
    """Return whether the fast path was tested with the installed grpcio, and all names that it uses exist."""
    if ".".join(grpc.__version__.split(".")[:2]) not in TESTED_SERIES:
        return False
    state = getattr(server, "_state", None)
    if state is None or any(not hasattr(grpc_server, name) for name in REQUIRED_NAMES):
        return False
    if any(not hasattr(state, name) for name in REQUIRED_STATE_NAMES):
        return False
    return list(inspect.signature(grpc_server._process_event_and_continue).parameters) == ["state", "event"]
