"""Freshness: how old a read may be, and what the caller wrote that it has to show.

A reply to a change says how far the ledger goes with it; a caller that says the highest such position with its reads
never sees an answer from before its own writes. A position is a number that only ever rises.
"""

from __future__ import annotations

import re
from typing import Any

import grpc

from storekeep.server.interceptors.chain import Step
from storekeep.server.transport.rpc import Method, Rpc

POSITION_KEY = "storekeep-position"
"""The metadata of both: trailing, with the reply to a change; leading, with a read."""
POSITION = re.compile(r"[0-9]{1,18}")
FIELD = "max_staleness"


def keep_fresh(method: Method, serve: Step) -> Step:
    """The layer: tells reads their terms, and callers where their changes stand."""
    return _reading(serve) if FIELD in method.request_type.DESCRIPTOR.fields_by_name else _changing(serve)


def _reading(serve: Step) -> Step:
    def fresh(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
        if request.HasField(FIELD):
            rpc.max_staleness_s = request.max_staleness.seconds + request.max_staleness.nanos / 1e9
            rpc.position = _position_of(context)
        return serve(request, context, rpc)

    return fresh


def _changing(serve: Step) -> Step:
    def fresh(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
        reply = serve(request, context, rpc)
        if rpc.committed:
            context.set_trailing_metadata(((POSITION_KEY, str(rpc.committed)),))
        return reply

    return fresh


def _position_of(context: grpc.ServicerContext) -> int | None:
    """The position that came with a call; None where there is none, so that only the primary is fresh enough."""
    values = [value for key, value in context.invocation_metadata() if key == POSITION_KEY]
    if not values or not all(isinstance(value, str) and POSITION.fullmatch(value) for value in values):
        return None
    return max(int(value) for value in values)
