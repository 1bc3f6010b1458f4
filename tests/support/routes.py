"""One method of a test server, and the statuses of its rejected calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from storekeep.server.transport.call_statuses import CallStatus, get_status_number

TIMEOUT_S = 60.0
METHOD = PATH = "/tests.Echo/Echo"
CODE = get_status_number(grpc.StatusCode.RESOURCE_EXHAUSTED)
REJECTION = CallStatus(CODE, b"later", (("x-request-id", "7"),))
PREPARED = CallStatus(CODE, b"later", (("grpc-status-details-bin", b"\0prepared\xff"),))


def handlers(answer: Callable[[Any, Any], Any]) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """Return gRPC's own handlers of the method."""
    return {"Echo": grpc.unary_unary_rpc_method_handler(answer)}
