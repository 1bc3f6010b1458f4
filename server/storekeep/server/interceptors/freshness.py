"""Freshness: bounded staleness and read-your-writes, by `max_staleness` and consistency tokens.

The reply to a write carries a consistency token, a number that only increases. A
client that sends its highest token with a read always sees its own writes.
"""

from __future__ import annotations

import re
from typing import Any

import grpc

from storekeep.server.interceptors.chain import Step
from storekeep.server.transport.rpc import Method, Rpc

CONSISTENCY_METADATA_KEY = "storekeep-position"
"""Metadata key of the consistency token: trailing metadata of a write, request metadata of a read."""
TOKEN = re.compile(r"[0-9]{1,18}")
FIELD = "max_staleness"


def enforce_freshness(method: Method, serve: Step) -> Step:
    """Set the freshness that a read requires; return the consistency token of a write."""
    return _require_freshness(serve) if FIELD in method.request_type.DESCRIPTOR.fields_by_name else _return_token(serve)


def _require_freshness(serve: Step) -> Step:
    def read(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
        if request.HasField(FIELD):
            rpc.max_staleness_s = request.max_staleness.seconds + request.max_staleness.nanos / 1e9
            rpc.consistency_token = _parse_consistency_token(context)
        return serve(request, context, rpc)

    return read


def _return_token(serve: Step) -> Step:
    def write(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
        reply = serve(request, context, rpc)
        if rpc.committed:
            rpc.trailing_metadata += ((CONSISTENCY_METADATA_KEY, str(rpc.committed)),)
        return reply

    return write


def _parse_consistency_token(context: grpc.ServicerContext) -> int | None:
    """Return the highest consistency token of a call; None without a valid one: only the primary is fresh enough."""
    values = [value for key, value in context.invocation_metadata() if key == CONSISTENCY_METADATA_KEY]
    if not values or not all(isinstance(value, str) and TOKEN.fullmatch(value) for value in values):
        return None
    return max(int(value) for value in values)
