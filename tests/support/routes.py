"""One method of a server for tests of how calls are served, and what those are told that are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from storekeep.server.transport.unary import Refusal, number_of

TIMEOUT_S = 60.0
METHOD = PATH = "/tests.Echo/Echo"
CODE = number_of(grpc.StatusCode.RESOURCE_EXHAUSTED)
REFUSAL = Refusal(CODE, b"later", (("x-request-id", "7"),))
PREPARED = Refusal(CODE, b"later", (("grpc-status-details-bin", b"\0prepared\xff"),))


def handlers(answer: Callable[[Any, Any], Any]) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """gRPC's own handlers of the method."""
    return {"Echo": grpc.unary_unary_rpc_method_handler(answer)}
