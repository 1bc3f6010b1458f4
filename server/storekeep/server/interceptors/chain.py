"""The chain that every call of Storekeep's own services passes: one ordered list, wrapped once per method.

1. request log: outermost, so that it sees the final code of everything
2. errors: turns what is raised into a status; the only one who aborts
3. forwarding: of changes, where another worker writes; before auth, as who writes knows first who may do what
4. auth: inside errors, so that its refusals are mapped too; before any byte of the request is parsed
5. validation: parses the request and holds it to the contract's constraints
   and inside it freshness, which reads how old the answer may be: only where the database can have replicas
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import grpc
from google.protobuf import empty_pb2

from storekeep.server.interceptors.rpc import Method, Rpc
from storekeep.server.interceptors.transport_errors import UnknownMethod
from storekeep.server.polling import Admit, Metadata, Refusal
from storekeep.server.pools import CallExecutor
from storekeep.server.store.errors import RETRY_AFTER_MS, Overloaded

Step = Callable[[Any, grpc.ServicerContext, Rpc], Any]
"""Serves a request: raw bytes outside of validation, the parsed message inside."""
Layer = Callable[[Method, Step], Step]
"""Wraps the step after it, for one method."""
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Serializer: TypeAlias = "Callable[[Any], bytes] | None"
Outermost = Callable[[Method, Step], Callable[[Any, grpc.ServicerContext], Any]]


def refuse_overloaded(_request: Any, _context: grpc.ServicerContext, _rpc: Rpc) -> None:
    """What is served instead where too much waits already, or where a pool does not take the call after all.

    Raises: Overloaded.
    """
    raise Overloaded(retry_after_ms=RETRY_AFTER_MS)


class Chain(grpc.ServerInterceptor):
    """Wraps each handler of the contract's services, once; passes on all others as they are.

    Args:
        outermost: the layer that makes the `Rpc`.
        layers: the others, outermost first; the first of them maps errors.
        methods: what the contract says, by the path that gRPC uses: `/package.Service/Method`.
        read_pool: where reads run.
        write_pool: where mutations run: they mostly wait for a commit, so they must not hold up reads.
        mutations: paths of the RPCs that change something.
        refuse: given a method's name and a call's metadata, what is answered where too much waits already.
    """

    def __init__(
        self,
        *,
        outermost: Outermost,
        layers: Sequence[Layer],
        methods: dict[str, Method],
        mutations: frozenset[str],
        read_pool: CallExecutor,
        write_pool: CallExecutor,
        refuse: Admit,
    ) -> None:
        self._outermost = outermost
        self._layers = tuple(layers)
        self._methods = methods
        self._mutations = mutations
        self._read_pool = read_pool
        self._write_pool = write_pool
        self._refuse = refuse
        self._wrapped: dict[str, Handler] = {}
        self._unknown = self._refuse_unknown()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Look the handler up; runs on gRPC's one polling thread, so it does nothing else."""
        path = handler_call_details.method
        wrapped = self._wrapped.get(path)
        if wrapped is not None:
            return wrapped
        handler = continuation(handler_call_details)
        if handler is None:
            return self._unknown
        method = self._methods.get(path)
        if method is None:
            return handler
        wrapped = self._wrapped[path] = self._wrap(method, handler, writes=path in self._mutations)
        return wrapped

    def admit(self, path: str, metadata: Metadata) -> Refusal | None:
        """Refuse a call for which too much waits already; runs on gRPC's one polling thread."""
        if path not in self._wrapped:
            return None
        pool = self._write_pool if path in self._mutations else self._read_pool
        return self._refuse(path.removeprefix("/"), metadata) if pool.is_full() else None

    def trust_admission(self) -> None:
        """`admit` is asked about every call, so the pools need not ask again."""
        self._read_pool.guards = self._write_pool.guards = False

    def _refuse_unknown(self) -> Handler:
        """One handler for all methods that do not exist: gRPC's own answer to them would have no reason."""
        method = Method("unknown", "", empty_pb2.Empty)

        def refuse(_request: Any, _context: grpc.ServicerContext, _rpc: Rpc) -> None:
            raise UnknownMethod

        return grpc.unary_unary_rpc_method_handler(self._outermost(method, self._layers[0](method, refuse)))

    def _wrap(self, method: Method, handler: Handler, *, writes: bool) -> Handler:
        servicer = handler.unary_unary
        if servicer is None:
            raise TypeError(f"{method.name} is not unary")

        def innermost(request: Any, context: grpc.ServicerContext, _rpc: Rpc) -> Any:
            return servicer(request, context)

        step: Step = innermost
        for layer in reversed(self._layers):
            step = layer(method, step)
        behavior = self._outermost(method, step)
        behavior.refuse_overloaded = self._outermost(method, self._layers[0](method, refuse_overloaded))  # type: ignore[attr-defined]  # read by the pools
        serializer = handler.response_serializer
        if writes:
            behavior.experimental_thread_pool = self._write_pool  # type: ignore[attr-defined]  # read by grpc
            serializer = _unless_serialized(serializer)
        return grpc.unary_unary_rpc_method_handler(behavior, request_deserializer=None, response_serializer=serializer)


def _unless_serialized(serialize: Serializer) -> Serializer:
    """The serializer of a reply that may come from another worker, as bytes."""

    def serialized(reply: Any) -> bytes:
        return reply if serialize is None or isinstance(reply, bytes) else serialize(reply)

    return serialized
