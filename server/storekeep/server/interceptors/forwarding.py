"""Forwarding: workers that are not the leader forward writes to it over a Unix socket and relay its replies.

The request bytes, token, request id, trace and remaining deadline are forwarded. Without a leader a write fails at
once with a retryable error. Invariants: the worker that serves a write is chosen once, when its request has arrived;
a write is forwarded at most once, so it cannot loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import grpc
from google.rpc import error_details_pb2, status_pb2

from storekeep.server.interceptors.chain import Step
from storekeep.server.interceptors.request_log import PEER
from storekeep.server.runtime.admission import AdmissionController
from storekeep.server.runtime.tasks import Task, check, get_flow, give_up
from storekeep.server.transport.call_statuses import Metadata
from storekeep.server.transport.errors import WriterUnavailable
from storekeep.server.transport.executors import CallExecutor, CallPool
from storekeep.server.transport.rpc import DETAILS_KEY, REPLAYED_METADATA_KEY, Method, Rpc

THREADS = 64
"""Maximum number of writes that a worker forwards at once: each waits for a commit, which many writes share."""
DEFAULT_TIMEOUT_S = 120.0
"""Timeout of a forwarded call without a deadline: twice the timeout of a commit."""
CONNECTION_FAILURES = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
)
"""Statuses from gRPC itself, without error details, if the leader is absent or died. Any other status comes from the
leader, for example an exceeded deadline."""
CHANNEL_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 64 * 1024),
    ("grpc.absolute_max_metadata_size", 64 * 1024),
)
"""No limits on the forwarding channel: those of the client and of the leader apply."""


class ForwardedError(Exception):
    """The leader ended a forwarded call with this status, which becomes the status of the call."""

    def __init__(self, code: grpc.StatusCode, text: str, trailing_metadata: Metadata) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.trailing_metadata = trailing_metadata

    @property
    def reason(self) -> str:
        """Error reason in the details; empty if there are none."""
        info = error_details_pb2.ErrorInfo()
        for key, value in self.trailing_metadata:
            if key == DETAILS_KEY and isinstance(value, bytes):
                details = status_pb2.Status.FromString(value).details
                if any(detail.Unpack(info) for detail in details):
                    return str(info.reason)
        return ""


class Leadership(Protocol):
    """Which worker is the leader, as this one knows."""

    def admit(self) -> bool:
        """Return whether this worker is the leader; if so, it stays the leader until `leave` is called."""

    def leave(self) -> None:
        """End a write that was admitted."""

    def address(self) -> str:
        """Return the address of the leader; empty if there is none."""


class _Thread(threading.local):
    """Thread-local state: whether this thread forwards writes."""

    forwards = False


THREAD = _Thread()


class Forwarding:
    """Serves each write here or forwards it, depending on the leader when its request has arrived.

    Args:
        leadership: Which worker is the leader.
        changes: Paths of the methods that change data; other methods are not forwarded.
        make_admission: Creates the admission controller of queued writes, once per executor.
    """

    def __init__(
        self, leadership: Leadership, *, changes: frozenset[str], make_admission: Callable[[], AdmissionController]
    ) -> None:
        self._leadership = leadership
        self._changes = changes
        self._channel = _LeaderChannel(leadership)
        self._make_admission = make_admission
        self._pools: list[CallExecutor] = []

    def executor(self, here: CallExecutor, *, pool: CallExecutor | None = None) -> CallExecutor:
        """Return the executor of writes.

        Args:
            here: Executes the writes of this worker; forwarded writes must not block it.
            pool: Executes forwarded writes; None for a new pool of `THREADS` threads.
        """
        if pool is None:
            pool = CallPool(THREADS, name="forwarding", admission=self._make_admission())
        forwarding_pool = pool
        self._pools.append(forwarding_pool)

        def submit_task(task: Task) -> bool:
            if not self._leadership.admit():
                return forwarding_pool.submit_task(_Forwarded(task))
            accepted = here.submit_task(_Admitted(self._leadership, task))
            if not accepted:
                self._leadership.leave()
            return accepted

        return CallExecutor(submit_task, admits=lambda: here.admits() and forwarding_pool.admits())

    def layer(self, method: Method, serve: Step) -> Step:
        """Forward the call if it runs in a forwarding thread; serve it here otherwise."""
        path = f"/{method.name}"
        if path not in self._changes:
            return serve

        def forward_or_serve(raw: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            return self._channel.forward(path, raw, context, rpc) if THREAD.forwards else serve(raw, context, rpc)

        return forward_or_serve

    def close(self) -> None:
        """Stop the threads; their calls have ended or are no longer awaited."""
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)


class _Admitted:
    """A write of this worker; it ends when a check rejects it or when it has been served.

    Args:
        leadership: Admitted the write.
        task: Serves the write.
    """

    __slots__ = ("_leadership", "_task")

    def __init__(self, leadership: Leadership, task: Task) -> None:
        self._leadership = leadership
        self._task = task

    def check(self) -> bool:
        """Run the checks, if the task has separate checks; return whether they passed."""
        passed = check(self._task)
        if not passed:
            self._leadership.leave()
        return passed

    def __call__(self) -> None:
        """Serve the write."""
        try:
            self._task()
        finally:
            self._leadership.leave()

    def give_up(self) -> None:
        """Reject the write; serve it if its task cannot be rejected."""
        try:
            if not give_up(self._task):
                self._task()
        finally:
            self._leadership.leave()

    @property
    def flow(self) -> str:
        """The flow of the write, for fair queueing."""
        return get_flow(self._task)


class _Forwarded:
    """A write that the leader serves.

    Args:
        task: Serves the write; runs in a forwarding thread.
    """

    __slots__ = ("_task",)

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self) -> None:
        """Serve the write."""
        THREAD.forwards = True
        try:
            self._task()
        finally:
            THREAD.forwards = False

    def give_up(self) -> None:
        """Reject the write; serve it if its task cannot be rejected."""
        if not give_up(self._task):
            self()

    @property
    def flow(self) -> str:
        """The flow of the write, for fair queueing."""
        return get_flow(self._task)


class _LeaderChannel:
    """The channel to the current leader."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership
        self._lock = threading.Lock()
        self._address = ""
        self._channel: grpc.Channel | None = None

    def forward(self, path: str, raw: bytes, context: grpc.ServicerContext, rpc: Rpc) -> bytes:
        """Forward a call to the leader and return the bytes of its reply.

        Raises: WriterUnavailable, ForwardedError.
        """
        metadata = _build_metadata(context, rpc)
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._connect().unary_unary(path)
        timeout_s = DEFAULT_TIMEOUT_S if rpc.deadline is None else max(0.0, rpc.deadline - time.monotonic())
        try:
            reply, ended = call.with_call(raw, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            raise _convert_error(error, rpc) from None
        rpc.answered_by_leader = True
        rpc.trailing_metadata = _list_reply_metadata(ended)
        return reply

    def _connect(self) -> grpc.Channel:
        """Return a channel to the current leader; the previous channel closes with its last call.

        Raises: WriterUnavailable.
        """
        address = self._leadership.address()
        if not address:
            raise WriterUnavailable
        with self._lock:
            if self._channel is None or address != self._address:
                self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
                self._address = address
            return self._channel


def _build_metadata(context: grpc.ServicerContext, rpc: Rpc) -> Metadata:
    """Return the metadata of a forwarded call.

    Raises: WriterUnavailable if the call was forwarded already: the other worker mistook this one for the leader.
    """
    if rpc.forwarded:
        raise WriterUnavailable
    metadata: list[tuple[str, str | bytes]] = [("x-request-id", rpc.request_id), (PEER, rpc.peer)]
    for key, value in context.invocation_metadata():
        if key == "authorization" and isinstance(value, str):
            metadata.append((key, value))
    traceparent = rpc.traceparent if rpc.span is None else rpc.span.traceparent
    if traceparent:
        metadata.append(("traceparent", traceparent))
        if rpc.tracestate:
            metadata.append(("tracestate", rpc.tracestate))
    return tuple(metadata)


def _list_reply_metadata(call: grpc.Call) -> Metadata:
    """Return the trailing metadata of the leader's reply that its client must see."""
    return tuple((key, value) for key, value in call.trailing_metadata() or () if key == REPLAYED_METADATA_KEY)


def _convert_error(error: Any, rpc: Rpc) -> Exception:
    """Return the exception for a forwarded call that failed."""
    code: grpc.StatusCode = error.code()
    trailing = tuple((key, value) for key, value in error.trailing_metadata() or ())
    has_details = any(key == DETAILS_KEY for key, _ in trailing)
    timed_out = code is grpc.StatusCode.DEADLINE_EXCEEDED and rpc.deadline is None
    if not has_details and (code in CONNECTION_FAILURES or timed_out):
        return WriterUnavailable()
    rpc.answered_by_leader = True
    return ForwardedError(code, error.details() or "", trailing)
