"""Forwarding: where one of several workers writes, the others forward their changes to it, and relay its answers.

Bytes, token, call id, trace and the remaining deadline travel over a Unix socket. Nothing waits for a writer: without
one a change is refused at once, as retryable. Invariants: where a change is made is decided once, when its request is
there; and it is forwarded once, so it never goes in circles.
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
from storekeep.server.runtime.tasks import Task, check, flow_of, give_up
from storekeep.server.transport.errors import WriterUnavailable
from storekeep.server.transport.executors import CallExecutor, CallPool
from storekeep.server.transport.rpc import DETAILS_KEY, Method, Rpc

THREADS = 64
"""Changes that one worker forwards at once: each thread waits for a commit of the writer, and so many share one."""
PATIENCE_S = 120.0
"""How long the writer may take for a caller without a deadline: twice what a commit may take before it is given up."""
NO_ANSWERS = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
)
"""What gRPC itself says, without an error's details, where the writer is not there or has died. Any other status is an
answer, such as a deadline that is over."""
CHANNEL_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 64 * 1024),
    ("grpc.absolute_max_metadata_size", 64 * 1024),
)
"""The writer's limits hold, and the caller's; there are none on the way."""

Metadata = tuple[tuple[str, str | bytes], ...]


class ForwardedRefusal(Exception):
    """The worker to which a call was forwarded has refused it; its status is the call's."""

    def __init__(self, code: grpc.StatusCode, text: str, trailing_metadata: Metadata) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.trailing_metadata = trailing_metadata

    @property
    def reason(self) -> str:
        """The error reason; empty where there are no details."""
        info = error_details_pb2.ErrorInfo()
        for key, value in self.trailing_metadata:
            if key == DETAILS_KEY and isinstance(value, bytes):
                details = status_pb2.Status.FromString(value).details
                if any(detail.Unpack(info) for detail in details):
                    return str(info.reason)
        return ""


class Writer(Protocol):
    """Who writes, as this worker knows it."""

    def admit(self) -> bool:
        """Whether this worker writes; then `leave` has to follow, and until then no other begins to."""

    def leave(self) -> None:
        """A change that was admitted is over."""

    def address(self) -> str:
        """Where the worker listens that writes; empty where there is none."""


class _Thread(threading.local):
    """What is known of this thread: whether it is here to forward a change and to wait for the answer."""

    forwards = False


THREAD = _Thread()


class Forwarding:
    """Makes changes here or forwards them, each as it stands when its request is there.

    Args:
        writer: who writes.
        changes: the paths of the methods that change something; all others stay here.
        make_admission: makes what admits changes that wait to be forwarded, for each executor anew.
    """

    def __init__(
        self, writer: Writer, *, changes: frozenset[str], make_admission: Callable[[], AdmissionController]
    ) -> None:
        self._writer = writer
        self._changes = changes
        self._way = _Way(writer)
        self._make_admission = make_admission
        self._pools: list[CallExecutor] = []

    def executor(self, here: CallExecutor, *, pool: CallExecutor | None = None) -> CallExecutor:
        """Return where changes run.

        Args:
            here: makes them; it must not be held up by one that waits for another worker.
            pool: runs those that are forwarded, which hold up no others; one of `THREADS` threads where it is None.
        """
        if pool is None:
            pool = CallPool(THREADS, name="forwarding", admission=self._make_admission())
        forwards = pool
        self._pools.append(forwards)

        def hand_over(task: Task) -> bool:
            if not self._writer.admit():
                return forwards.hand_over(_Forwarded(task))
            taken = here.hand_over(_Admitted(self._writer, task))
            if not taken:
                self._writer.leave()
            return taken

        return CallExecutor(hand_over, is_full=lambda: here.is_full() or forwards.is_full())

    def layer(self, method: Method, serve: Step) -> Step:
        """The layer: forwards what the executor gave to the threads that do."""
        path = f"/{method.name}"
        if path not in self._changes:
            return serve

        def served_by_writer(raw: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            return self._way.forward(path, raw, context, rpc) if THREAD.forwards else serve(raw, context, rpc)

        return served_by_writer

    def close(self) -> None:
        """End the threads; what they wait for is over, or nobody waits for it any more."""
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)


class _Admitted:
    """A change that is made here; it is over when its checks end it, or when it has been served.

    Args:
        writer: has admitted it.
        task: serves it.
    """

    __slots__ = ("_task", "_writer")

    def __init__(self, writer: Writer, task: Task) -> None:
        self._writer = writer
        self._task = task

    def check(self) -> bool:
        """Check it, where its task can be checked apart."""
        passed = check(self._task)
        if not passed:
            self._writer.leave()
        return passed

    def __call__(self) -> None:
        """Serve it."""
        try:
            self._task()
        finally:
            self._writer.leave()

    def give_up(self) -> None:
        """Refuse it; serve it where it cannot be refused."""
        try:
            if not give_up(self._task):
                self._task()
        finally:
            self._writer.leave()

    @property
    def flow(self) -> str:
        """To whose share of a queue it counts."""
        return flow_of(self._task)


class _Forwarded:
    """A change that another worker makes.

    Args:
        task: serves it in a thread that is known to forward.
    """

    __slots__ = ("_task",)

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self) -> None:
        """Serve it."""
        THREAD.forwards = True
        try:
            self._task()
        finally:
            THREAD.forwards = False

    def give_up(self) -> None:
        """Refuse it; serve it where it cannot be refused."""
        if not give_up(self._task):
            self()

    @property
    def flow(self) -> str:
        """To whose share of a queue it counts."""
        return flow_of(self._task)


class _Way:
    """The way to the writer, whoever that is at the moment."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._lock = threading.Lock()
        self._address = ""
        self._channel: grpc.Channel | None = None

    def forward(self, path: str, raw: bytes, context: grpc.ServicerContext, rpc: Rpc) -> bytes:
        """Forward a call; gives the reply's bytes.

        Raises: WriterUnavailable, ForwardedRefusal.
        """
        metadata = _metadata_of(context, rpc)
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._connected().unary_unary(path)
        patience_s = PATIENCE_S if rpc.deadline is None else max(0.0, rpc.deadline - time.monotonic())
        try:
            reply = call(raw, timeout=patience_s, metadata=metadata)
        except grpc.RpcError as error:
            raise _outcome(error, rpc) from None
        rpc.answered_by_leader = True
        return reply

    def _connected(self) -> grpc.Channel:
        """A channel to who writes now. That of the one before ends with its last call.

        Raises: WriterUnavailable.
        """
        address = self._writer.address()
        if not address:
            raise WriterUnavailable
        with self._lock:
            if self._channel is None or address != self._address:
                self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
                self._address = address
            return self._channel


def _metadata_of(context: grpc.ServicerContext, rpc: Rpc) -> Metadata:
    """What the writer has to know of a call.

    Raises: WriterUnavailable where another worker took this one for the writer.
    """
    if rpc.forwarded:
        raise WriterUnavailable
    metadata: list[tuple[str, str | bytes]] = [("x-request-id", rpc.request_id), (PEER, rpc.peer)]
    for key, value in context.invocation_metadata():
        if key in ("authorization", "traceparent") and isinstance(value, str):
            metadata.append((key, value))
    return tuple(metadata)


def _outcome(error: Any, rpc: Rpc) -> Exception:
    """What a call ends with that the writer did not answer with a reply."""
    code: grpc.StatusCode = error.code()
    trailing = tuple((key, value) for key, value in error.trailing_metadata() or ())
    answered = any(key == DETAILS_KEY for key, _ in trailing)
    timed_out = code is grpc.StatusCode.DEADLINE_EXCEEDED and rpc.deadline is None
    if not answered and (code in NO_ANSWERS or timed_out):
        return WriterUnavailable()
    rpc.answered_by_leader = True
    return ForwardedRefusal(code, error.details() or "", trailing)
