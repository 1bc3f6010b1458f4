"""The interceptor that wraps the steps of CHAIN around each method of the contract, once, at startup.

The steps inside `errors` are checks. A write is checked in a separate thread, so a rejected write never reaches the
writer thread, which runs the rest. The log and `errors` treat both halves as one call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

import grpc
from google.protobuf import empty_pb2

from storekeep.server.interceptors import CHAIN, Part
from storekeep.server.store.errors import RETRY_AFTER_MS, Overloaded
from storekeep.server.transport.call_statuses import CallStatus, Metadata
from storekeep.server.transport.errors import UnknownMethod
from storekeep.server.transport.executors import CallExecutor
from storekeep.server.transport.rpc import BULK, CheckedCall, Method, Rpc
from storekeep.server.transport.unary import Limit, Route

LIST_FIELD = "page_size"
"""The field of the requests of lists and searches."""

Step = Callable[[Any, grpc.ServicerContext, Rpc], Any]
"""Serves a request: raw bytes outside validation, the parsed message inside it."""
Layer = Callable[[Method, Step], Step]
"""Wraps the next step, for one method."""
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Serializer: TypeAlias = Callable[[Any], bytes]
Serve: TypeAlias = Callable[[Any, grpc.ServicerContext], Any]


class Outermost(Protocol):
    """The layer that creates the `Rpc`."""

    def __call__(self, method: Method, serve: Step, /) -> Serve:
        """Wrap a whole call, or its checks only."""

    def resume(self, serve: Step, /) -> Callable[[CheckedCall, Any], Any]:
        """Wrap the part of a call after its checks."""


class CallLimits(Protocol):
    """Limits on calls, applied before they are served."""

    def limit(self, method: Method, /) -> Limit:
        """Return the limit on a method's calls, applied before they are queued."""

    def layer(self, method: Method, serve: Step, /) -> Step:
        """Apply the same limit as a layer."""


class Arrangement(NamedTuple):
    """The steps of a server in the order of CHAIN.

    Attributes:
        early: Limits applied before calls are queued.
        layers: `errors` and the checks, outermost first.
        inner: The layers inside the checks, outermost first.
    """

    early: CallLimits
    layers: tuple[Layer, ...]
    inner: tuple[Layer, ...]


def arrange(steps: Mapping[str, Any]) -> Arrangement:
    """Arrange the steps of a server in the order of CHAIN.

    Args:
        steps: Each step except the request log, by its name in CHAIN: a `Layer`, or `CallLimits` for the early step;
            None if this server does not have the step.

    Raises: ValueError if the names differ from those of CHAIN, or if a mandatory step is missing.
    """
    entries = [entry for entry in CHAIN if entry.part is not Part.LOG]
    if steps.keys() != {entry.name for entry in entries}:
        raise ValueError(f"the steps are not those of CHAIN: {sorted(steps)}")
    missing = [entry.name for entry in entries if steps[entry.name] is None and not entry.present_when]
    if missing:
        raise ValueError(f"every server has these steps: {missing}")
    present = [(entry.part, step) for entry in entries if (step := steps[entry.name]) is not None]
    (early,) = (step for part, step in present if part is Part.EARLY)
    return Arrangement(
        early,
        tuple(step for part, step in present if part in (Part.ERRORS, Part.CHECK)),
        tuple(step for part, step in present if part is Part.SERVE),
    )


class Chain(grpc.ServerInterceptor):
    """Wraps each handler of the contract's services once; leaves all other handlers unchanged.

    Args:
        outermost: The layer that creates the `Rpc`.
        layers, inner: The other layers; see `Arrangement`.
        methods: The methods of the contract, by gRPC path: `/package.Service/Method`.
        read_pool: Runs reads.
        write_pool: Runs mutations; separate, because they mostly wait for a commit and must not delay reads.
        public_pool: Runs methods that need no token, so that a flood of them delays no others; None to use the
            other pools.
        password_pool: Runs methods that compute the hash of a password, whether public or not; None to use the others.
        bulk_pool: Runs mutations of the rate limit class BULK, so that neither the thread that checks changes nor the
            writer converts them; None to use the others.
        mutations: Paths of the RPCs that change data.
        reject: Returns the status that rejects a call, given the method's name and the call's metadata.
        limits: Limits applied before calls are queued; None for no limits.
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
        password_pool: CallExecutor | None = None,
        bulk_pool: CallExecutor | None = None,
        reject: Callable[[str, Metadata], CallStatus],
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
        self._password_pool = password_pool
        self._bulk_pool = bulk_pool
        self._reject = reject
        self._limits = limits
        self._wrapped_handlers: dict[str, Handler] = {}
        self._unknown = self._build_unknown_handler()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler of a call that gRPC serves itself, because `polling` does not support this grpcio."""
        path = handler_call_details.method
        wrapped_handler = self._wrapped_handlers.get(path)
        if wrapped_handler is not None:
            return wrapped_handler
        handler = continuation(handler_call_details)
        if handler is None:
            return self._unknown
        method = self._methods.get(path)
        if method is None:
            return handler
        if handler.response_streaming:  # it would occupy a thread
            return self._unknown
        wrapped_handler = self._wrapped_handlers[path] = self._wrap(path, method, handler)
        return wrapped_handler

    def build_routes(self, handlers: Mapping[str, Handler]) -> dict[str, Route]:
        """Return the routes of the contract's services, given gRPC's handlers by path."""
        routes = {}
        for path, handler in handlers.items():
            method = self._methods.get(path)
            if method is not None and not handler.response_streaming:
                pool, reject = self._find_pool(path, method), partial(self._reject, method.name)
                serve, serialize = self._build_serve(method, handler, self._layers)
                lane = pool.make_lane(lists=LIST_FIELD in method.request_type.DESCRIPTOR.fields_by_name)
                admits = pool.admits if lane is None else lane.admits
                serialize_weighed = serialize if lane is None else lane.track_reply_sizes(serialize)
                limit = None if self._limits is None else self._limits.limit(method)
                route = Route(pool.submit_task, admits, serve, serialize_weighed, reject, lane, limit=limit)
                # The other pools run whole calls in threads of their own.
                is_split = path in self._mutations and pool is self._write_pool
                routes[path] = self._split_route(route, method, handler) if is_split else route
        return routes

    def build_stream_routes(self, handlers: Mapping[str, Handler]) -> dict[str, Route]:
        """Return the routes that open the server streams of the contract's services, given gRPC's handlers by path.

        `serve` returns what the servicer returns: a `Subscription`.
        """
        routes = {}
        for path, handler in handlers.items():
            method = self._methods.get(path)
            if method is not None and handler.response_streaming:
                serve, serialize = self._build_serve(method, handler, self._layers)
                pool, reject = self._read_pool, partial(self._reject, method.name)
                limit = None if self._limits is None else self._limits.limit(method)
                routes[path] = Route(pool.submit_task, pool.admits, serve, serialize, reject, limit=limit)
        return routes

    def _find_pool(self, path: str, method: Method) -> CallExecutor:
        if self._password_pool is not None and method.hashes_passwords:
            return self._password_pool
        if self._public_pool is not None and method.is_public:
            return self._public_pool
        if path not in self._mutations:
            return self._read_pool
        is_bulk = method.rate_limit_class == BULK
        return self._bulk_pool if is_bulk and self._bulk_pool is not None else self._write_pool

    def _build_unknown_handler(self) -> Handler:
        """Return the handler of all unknown methods: gRPC's own status for them has no error reason."""
        method = Method("unknown", "", empty_pb2.Empty)

        def raise_unknown(_request: Any, _context: grpc.ServicerContext, _rpc: Rpc) -> None:
            raise UnknownMethod

        return grpc.unary_unary_rpc_method_handler(self._outermost(method, self._layers[0](method, raise_unknown)))

    def _wrap(self, path: str, method: Method, handler: Handler) -> Handler:
        layers = self._layers
        if self._limits is not None:
            layers = (layers[0], self._limits.layer, *layers[1:])
        behavior, serializer = self._build_serve(method, handler, layers)
        behavior.experimental_thread_pool = self._find_pool(path, method)  # type: ignore[attr-defined]  # read by grpc
        return grpc.unary_unary_rpc_method_handler(behavior, request_deserializer=None, response_serializer=serializer)

    def _build_serve(self, method: Method, handler: Handler, layers: Sequence[Layer]) -> tuple[Serve, Serializer]:
        """Return the function that serves a request, given its bytes, and the serializer of its reply."""
        serializer = handler.response_serializer or bytes
        step = _wrap_step(method, layers, self._build_innermost(method, handler))
        return self._outermost(method, step), _accept_serialized(serializer)

    def _split_route(self, route: Route, method: Method, handler: Handler) -> Route:
        """Return a route whose calls are checked in one thread and finished in another."""
        check = self._outermost(method, _wrap_step(method, self._layers, _stop))
        finish = self._outermost.resume(self._layers[0](method, self._build_innermost(method, handler)))
        reject_checked = self._outermost.resume(self._layers[0](method, _reject_checked))
        return route._replace(check=check, finish=finish, reject_checked=reject_checked)

    def _build_innermost(self, method: Method, handler: Handler) -> Step:
        """Return the servicer, wrapped in the layers inside the checks."""
        servicer: Any = handler.unary_unary or handler.unary_stream
        if servicer is None:
            raise TypeError(f"{method.name} has a stream of requests")

        def call_servicer(request: Any, context: grpc.ServicerContext, _rpc: Rpc) -> Any:
            return servicer(request, context)

        return _wrap_step(method, self._inner, call_servicer)


def _wrap_step(method: Method, layers: Sequence[Layer], step: Step) -> Step:
    for layer in reversed(layers):
        step = layer(method, step)
    return step


def _stop(request: Any, _context: grpc.ServicerContext, rpc: Rpc) -> CheckedCall:
    """End the checks of a call that is served in another thread."""
    return CheckedCall(request, rpc)


def _reject_checked(_request: Any, _context: grpc.ServicerContext, _rpc: Rpc) -> None:
    """Reject a call that passed its checks but cannot be served.

    Raises: Overloaded.
    """
    raise Overloaded(retry_after_ms=RETRY_AFTER_MS)


def _accept_serialized(serialize: Serializer) -> Serializer:
    """Return a serializer that passes through the bytes of a reply: from another worker, or from a servicer."""

    def serialize_reply(reply: Any) -> bytes:
        return reply if isinstance(reply, bytes) else serialize(reply)

    return serialize_reply
