"""The machine of the chain: it wraps the steps that CHAIN lists around each method of the contract, once, at start.

The steps after errors are checks. A write passes them in a thread of its own, and what they refuse never reaches the
writer, which runs what is inside of them. Both parts are one call to the log and to errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

import grpc
from google.protobuf import empty_pb2

from storekeep.server.interceptors import CHAIN, Part
from storekeep.server.store.errors import RETRY_AFTER_MS, Overloaded
from storekeep.server.transport.errors import UnknownMethod
from storekeep.server.transport.executors import CallExecutor
from storekeep.server.transport.rpc import Checked, Method, Rpc
from storekeep.server.transport.unary import Limit, Metadata, Refusal, Route

Step = Callable[[Any, grpc.ServicerContext, Rpc], Any]
"""Serves a request: raw bytes outside of validation, the parsed message inside."""
Layer = Callable[[Method, Step], Step]
"""Wraps the step after it, for one method."""
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Serializer: TypeAlias = Callable[[Any], bytes]
Serve: TypeAlias = Callable[[Any, grpc.ServicerContext], Any]


class Outermost(Protocol):
    """The layer that makes the `Rpc`."""

    def __call__(self, method: Method, serve: Step, /) -> Serve:
        """Wrap the whole of a call, or its checks alone."""

    def resume(self, serve: Step, /) -> Callable[[Checked, Any], Any]:
        """Wrap what is done with a call after its checks."""


class CallLimits(Protocol):
    """Refuses calls before they are served."""

    def limit(self, method: Method, /) -> Limit:
        """Return what refuses calls of a method before they are queued."""

    def layer(self, method: Method, serve: Step, /) -> Step:
        """The same as a layer."""


class Arrangement(NamedTuple):
    """Steps in their order.

    Attributes:
        early: refuses calls before they are queued.
        layers: errors and the checks, outermost first.
        inner: what is inside of the checks, outermost first.
    """

    early: CallLimits
    layers: tuple[Layer, ...]
    inner: tuple[Layer, ...]


def arrange(steps: Mapping[str, Any]) -> Arrangement:
    """Put the steps of a server into the order of CHAIN.

    Args:
        steps: each step but the request log, by its name in CHAIN: a `Layer`, or `CallLimits` for the early one; None
            where this server does not have it.

    Raises: ValueError where they are not those of CHAIN, or one is missing that every server has.
    """
    entries = [entry for entry in CHAIN if entry.part is not Part.LOG]
    if steps.keys() != {entry.name for entry in entries}:
        raise ValueError(f"the steps are not those of CHAIN: {sorted(steps)}")
    missing = [entry.name for entry in entries if steps[entry.name] is None and not entry.only_where]
    if missing:
        raise ValueError(f"every server has these steps: {missing}")
    placed = [(entry.part, step) for entry in entries if (step := steps[entry.name]) is not None]
    (early,) = (step for part, step in placed if part is Part.EARLY)
    return Arrangement(
        early,
        tuple(step for part, step in placed if part in (Part.ERRORS, Part.CHECK)),
        tuple(step for part, step in placed if part is Part.SERVE),
    )


class Chain(grpc.ServerInterceptor):
    """Wraps each handler of the contract's services, once; leaves all others to gRPC as they are.

    Args:
        outermost: the layer that makes the `Rpc`.
        layers, inner: the others; see `Arrangement`.
        methods: what the contract says, by the path that gRPC uses: `/package.Service/Method`.
        read_pool: where reads run.
        write_pool: where mutations run: they mostly wait for a commit, so they must not hold up reads.
        public_pool: where all methods run that need no token, as many may call them; the others where it is None.
        mutations: paths of the RPCs that change something.
        refuse: given a method's name and a call's metadata, what is answered where too much waits already.
        limits: refuse calls before they are queued; None where nothing is limited.
    """

    def __init__(
        self,
        *,
        outermost: Outermost,
        layers: Sequence[Layer],
        inner: Sequence[Layer] = (),
        methods: dict[str, Method],
        mutations: frozenset[str],
        read_pool: CallExecutor,
        write_pool: CallExecutor,
        public_pool: CallExecutor | None = None,
        refuse: Callable[[str, Metadata], Refusal],
        limits: CallLimits | None = None,
    ) -> None:
        self._outermost = outermost
        self._layers = tuple(layers)
        self._inner = tuple(inner)
        self._methods = methods
        self._mutations = mutations
        self._read_pool = read_pool
        self._write_pool = write_pool
        self._public_pool = public_pool
        self._refuse = refuse
        self._limits = limits
        self._wrapped: dict[str, Handler] = {}
        self._unknown = self._refuse_unknown()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler of a call that gRPC serves in its own way, as a grpcio does that `polling` does not know."""
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
        wrapped = self._wrapped[path] = self._wrap(path, method, handler)
        return wrapped

    def routes(self, handlers: Mapping[str, Handler]) -> dict[str, Route]:
        """How calls of the contract's services are served, given gRPC's handlers by their paths."""
        routes = {}
        for path, handler in handlers.items():
            method = self._methods.get(path)
            if method is not None:
                pool, refuse = self._pool_of(path, method), partial(self._refuse, method.name)
                writes = path in self._mutations
                serve, serialize = self._served(method, handler, self._layers, writes=writes)
                lane = pool.lane()
                is_full = pool.is_full if lane is None else lane.is_full
                weighed = serialize if lane is None else lane.weigh(serialize)
                limit = None if self._limits is None else self._limits.limit(method)
                route = Route(pool.hand_over, is_full, serve, weighed, refuse, lane, limit=limit)
                routes[path] = self._in_two_parts(route, method, handler) if writes else route
        return routes

    def _pool_of(self, path: str, method: Method) -> CallExecutor:
        if self._public_pool is not None and method.is_public:
            return self._public_pool
        return self._write_pool if path in self._mutations else self._read_pool

    def _refuse_unknown(self) -> Handler:
        """One handler for all methods that do not exist: gRPC's own answer to them would have no reason."""
        method = Method("unknown", "", empty_pb2.Empty)

        def refuse(_request: Any, _context: grpc.ServicerContext, _rpc: Rpc) -> None:
            raise UnknownMethod

        return grpc.unary_unary_rpc_method_handler(self._outermost(method, self._layers[0](method, refuse)))

    def _wrap(self, path: str, method: Method, handler: Handler) -> Handler:
        layers = self._layers
        if self._limits is not None:
            layers = (layers[0], self._limits.layer, *layers[1:])
        behavior, serializer = self._served(method, handler, layers, writes=path in self._mutations)
        behavior.experimental_thread_pool = self._pool_of(path, method)  # type: ignore[attr-defined]  # read by grpc
        return grpc.unary_unary_rpc_method_handler(behavior, request_deserializer=None, response_serializer=serializer)

    def _served(
        self, method: Method, handler: Handler, layers: Sequence[Layer], *, writes: bool
    ) -> tuple[Serve, Serializer]:
        """What serves a method's requests, given their bytes, and what makes bytes of its replies."""
        serializer = handler.response_serializer or bytes
        step = _wrapped(method, layers, self._innermost(method, handler))
        return self._outermost(method, step), _unless_serialized(serializer) if writes else serializer

    def _in_two_parts(self, route: Route, method: Method, handler: Handler) -> Route:
        """The route of a method whose calls can be checked in one thread and finished in another."""
        check = self._outermost(method, _wrapped(method, self._layers, _stop))
        finish = self._outermost.resume(self._layers[0](method, self._innermost(method, handler)))
        reject = self._outermost.resume(self._layers[0](method, _reject))
        return route._replace(check=check, finish=finish, reject=reject)

    def _innermost(self, method: Method, handler: Handler) -> Step:
        """The servicer, and what is around it inside of the checks."""
        servicer = handler.unary_unary
        if servicer is None:
            raise TypeError(f"{method.name} is not unary")

        def innermost(request: Any, context: grpc.ServicerContext, _rpc: Rpc) -> Any:
            return servicer(request, context)

        return _wrapped(method, self._inner, innermost)


def _wrapped(method: Method, layers: Sequence[Layer], step: Step) -> Step:
    for layer in reversed(layers):
        step = layer(method, step)
    return step


def _stop(request: Any, _context: grpc.ServicerContext, rpc: Rpc) -> Checked:
    """What stands inside of the checks where they are apart."""
    return Checked(request, rpc)


def _reject(_request: Any, _context: grpc.ServicerContext, _rpc: Rpc) -> None:
    """What stands in place of the servicer where a call has passed its checks and is not served."""
    raise Overloaded(retry_after_ms=RETRY_AFTER_MS)


def _unless_serialized(serialize: Serializer) -> Serializer:
    """The serializer of a reply that may come from another worker, as bytes."""

    def serialized(reply: Any) -> bytes:
        return reply if isinstance(reply, bytes) else serialize(reply)

    return serialized
