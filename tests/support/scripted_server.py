"""A gRPC server with scripted replies, for cases that the real server cannot produce on demand.

It has every RPC of the contract. An RPC without a script gets an empty reply; IssueToken and RefreshToken return a
new token.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2, message_factory
from google.protobuf.message import Message
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from storekeep.server.transport.contract import SERVICES
from storekeep.v1 import auth_pb2

METHODS = {f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods}
"""Every RPC of the contract, by path."""

Answer = Callable[[Message, grpc.ServicerContext], Message]


@dataclass
class SeenCall:
    """A received call."""

    rpc: str
    request: Any
    metadata: dict[str, str]
    left_s: float
    at_s: float = field(default_factory=time.monotonic)


class ScriptedServer(grpc.GenericRpcHandler):
    """Answers calls from its scripts, in order, and records the calls."""

    def __init__(self) -> None:
        self.address = ""
        self.seen: list[SeenCall] = []
        self.scripts: dict[str, list[Answer]] = defaultdict(list)
        self.token_lifetime_s = 600.0
        self._tokens = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        method = METHODS.get(handler_call_details.method)
        if method is None:
            return None

        def answer(request: Message, context: grpc.ServicerContext) -> Message:
            metadata = dict(context.invocation_metadata())
            self.seen.append(SeenCall(method.name, request, metadata, context.time_remaining()))
            scripts = self.scripts[method.name]
            return (scripts.pop(0) if scripts else self._default(method.name))(request, context)

        def stream(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
            yield answer(request, context)

        make = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
        return make(
            stream if method.server_streaming else answer,
            request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
            response_serializer=lambda reply: reply.SerializeToString(),
        )

    def calls_of(self, rpc: str) -> list[SeenCall]:
        return [call for call in self.seen if call.rpc == rpc]

    def _default(self, rpc: str) -> Answer:
        if rpc in {"IssueToken", "RefreshToken"}:
            return self._new_token
        method = next(method for method in METHODS.values() if method.name == rpc)
        reply = message_factory.GetMessageClass(method.output_type)()
        return lambda request, context: reply

    def _new_token(self, request: Message, context: grpc.ServicerContext) -> Message:
        self._tokens += 1
        tokens = auth_pb2.TokenSet(access_token=f"access-{self._tokens}", refresh_token=f"refresh-{self._tokens}")
        tokens.expire_time.FromNanoseconds(int((time.time() + self.token_lifetime_s) * 1e9))
        return tokens


def replies(reply: Message) -> Answer:
    """Return a script that sends a reply."""
    return lambda request, context: reply


def refuses(
    reason: str,
    *,
    code: int = code_pb2.FAILED_PRECONDITION,
    message: str = "no",
    metadata: dict[str, str] | None = None,
    field_problems: dict[str, str] | None = None,
    retry_delay_s: float | None = None,
    request_id: str = "server-side-id",
    domain: str = "storekeep",
) -> Answer:
    """Return a script that fails as the real server does."""
    details: list[Message] = [ErrorInfo(reason=reason, domain=domain, metadata=metadata or {})]
    if field_problems:
        details.append(
            BadRequest(
                field_violations=[
                    BadRequest.FieldViolation(field=name, description=text) for name, text in field_problems.items()
                ]
            )
        )
    if retry_delay_s is not None:
        retry = RetryInfo()
        retry.retry_delay.FromNanoseconds(int(retry_delay_s * 1e9))
        details.append(retry)
    details.append(RequestInfo(request_id=request_id))
    status = Status(code=code, message=message, details=[_pack(detail) for detail in details])
    return lambda request, context: context.abort_with_status(rpc_status.to_status(status))


def fails(code: grpc.StatusCode, details: str = "as told") -> Answer:
    """Return a script that fails with a bare status, as a proxy would."""
    return lambda request, context: context.abort(code, details)


def reply_late(seconds: float) -> Answer:
    """Return a script that replies late."""

    def answer(request: Message, context: grpc.ServicerContext) -> Message:
        time.sleep(seconds)
        return context.abort(grpc.StatusCode.CANCELLED, "too late anyway")

    return answer


@contextmanager
def run_scripted_server() -> Iterator[ScriptedServer]:
    """Serve on a free port of this machine."""
    scripted = ScriptedServer()
    server = grpc.server(ThreadPoolExecutor(16), handlers=(scripted,))
    scripted.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield scripted
    finally:
        server.stop(0).wait()


def _pack(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
