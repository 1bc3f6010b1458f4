"""Calls: the one way of every call: deadline, token, retries, typed errors.

A mutation always carries a `request_id`, the same on each attempt, so that a retry has no second effect.
No call outlives its deadline, however often it is tried.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol, TypedDict, TypeVar

import grpc
import uuid_utils
from google.protobuf.duration_pb2 import Duration

from storekeep.client.attempts import Metadata, ReplyT, RequestT, RetryBudget, retried, send
from storekeep.client.deadlines import Deadline
from storekeep.client.errors import (
    ClientClosed,
    ServerUnreachable,
    TokenExpired,
    TokenRevoked,
    Unauthenticated,
    from_rpc_error,
)
from storekeep.client.pages import ItemT, Listing, Page
from storekeep.client.positions import POSITION_KEY, Position
from storekeep.client.tokens import Tokens


class CallOptions(TypedDict, total=False):
    """What every method takes."""

    timeout_s: float
    """Seconds until the call must be over, retries included; the client's when not given."""


class ReadOptions(CallOptions, total=False):
    """What every reading method takes."""

    max_staleness_s: float | None
    """How old the answer may be, in seconds, at most a day; never older than what this client wrote. As fresh as can be
    when not given."""


class WriteOptions(CallOptions, total=False):
    """What every changing method takes."""

    request_id: str
    """A UUID: the same id with the same payload has one effect and one reply. A fresh one when not given."""
    validate_only: bool
    """Run all of it, answer as if it had happened, and keep nothing."""


class Mutation(Protocol):
    """A request that changes something."""

    request_id: str
    validate_only: bool


class ReadRequest(Protocol):
    """A request that may be answered with what is a little old."""

    @property
    def max_staleness(self) -> Duration:
        """How old."""


class PageRequest(ReadRequest, Protocol):
    """A request for a page of a list."""

    page_token: str


class PageReply(Protocol):
    """A page of a list."""

    next_page_token: str


ReadT = TypeVar("ReadT", bound=ReadRequest)
MutationT = TypeVar("MutationT", bound=Mutation)
PageRequestT = TypeVar("PageRequestT", bound=PageRequest)
PageReplyT = TypeVar("PageReplyT", bound=PageReply)


class Calls:
    """Sends the requests of all nouns over one channel.

    Attributes:
        position: how far the server's ledger goes with what was written here.
    """

    def __init__(self, *, tokens: Tokens | None, timeout_s: float, budget: RetryBudget, proxy: str = "") -> None:
        self._tokens = tokens
        self._timeout_s = timeout_s
        self._budget = budget
        self._proxy = proxy
        self._closed = False
        self._answered = False
        self.position = Position()

    def close(self) -> None:
        """Refuse every further call."""
        self._closed = True

    def read(
        self,
        method: grpc.UnaryUnaryMultiCallable[ReadT, ReplyT],
        request: ReadT,
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
    ) -> ReplyT:
        """Send a request for what is stored."""
        metadata: Metadata = ()
        if max_staleness_s is not None:
            request.max_staleness.FromNanoseconds(round(max_staleness_s * 1_000_000_000))
            metadata = ((POSITION_KEY, str(self.position.value)),)
        return self._with_token(method, request, self._deadline(timeout_s), metadata)

    def ask(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT],
        request: RequestT,
        *,
        timeout_s: float | None = None,
    ) -> ReplyT:
        """Send a request about the caller, which is always answered with what is so now."""
        return self._with_token(method, request, self._deadline(timeout_s))

    def write(
        self,
        method: grpc.UnaryUnaryMultiCallable[MutationT, ReplyT],
        request: MutationT,
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        validate_only: bool = False,
    ) -> ReplyT:
        """Send a request that changes something, under a `request_id`."""
        request.request_id = request_id or str(uuid_utils.uuid7())
        request.validate_only = validate_only
        return self._with_token(method, request, self._deadline(timeout_s), position=self.position)

    def read_public(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT],
        request: RequestT,
        *,
        timeout_s: float | None = None,
    ) -> ReplyT:
        """Send a request that needs no token."""
        return self._retried(method, request, deadline=self._deadline(timeout_s))

    def send_once(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT],
        request: RequestT,
        *,
        timeout_s: float | None = None,
    ) -> ReplyT:
        """Send a request that needs no token and must not be repeated."""
        with self._proxy_named():
            return send(method, request, deadline=self._deadline(timeout_s))

    def listing(
        self,
        method: grpc.UnaryUnaryMultiCallable[PageRequestT, PageReplyT],
        request: PageRequestT,
        *,
        items: Callable[[PageReplyT], Iterable[ItemT]],
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
    ) -> Listing[ItemT]:
        """Return the list that `request` asks for; `items` takes the resources out of a page."""

        def fetch(page_token: str) -> Page[ItemT]:
            asked = copy.deepcopy(request)
            asked.page_token = page_token
            reply = self.read(method, asked, timeout_s=timeout_s, max_staleness_s=max_staleness_s)
            return Page(tuple(items(reply)), reply.next_page_token)

        return Listing(fetch)

    def stream_public(
        self,
        method: grpc.UnaryStreamMultiCallable[RequestT, ReplyT],
        request: RequestT,
        *,
        timeout_s: float | None = None,
    ) -> Iterator[ReplyT]:
        """Send a request that needs no token and is answered by a stream; without a timeout it goes on for good."""
        self._deadline(timeout_s)
        replies = method(request, timeout=timeout_s)
        try:
            yield from replies
        except grpc.RpcError as error:
            with self._proxy_named():
                raise from_rpc_error(error) from None
        finally:
            replies.cancel()

    def _with_token(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT],
        request: RequestT,
        deadline: Deadline,
        metadata: Metadata = (),
        position: Position | None = None,
    ) -> ReplyT:
        send_with = partial(self._retried, method, request, deadline=deadline, position=position)
        if self._tokens is None:
            return send_with(metadata=metadata)
        with self._proxy_named():
            token = self._tokens.current(deadline=deadline)
        try:
            return send_with(metadata=(_bearer(token), *metadata))
        except (TokenExpired, TokenRevoked, Unauthenticated):
            self._tokens.discard(token)
        fresh = self._tokens.current(deadline=deadline)
        return send_with(metadata=(_bearer(fresh), *metadata))

    def _retried(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT],
        request: RequestT,
        *,
        deadline: Deadline,
        metadata: Metadata = (),
        position: Position | None = None,
    ) -> ReplyT:
        attempt = partial(send, method, request, deadline=deadline, metadata=metadata, position=position)
        with self._proxy_named():
            reply = retried(attempt, deadline=deadline, budget=self._budget, reconnects=self._answered)
        self._answered = True
        return reply

    @contextmanager
    def _proxy_named(self) -> Iterator[None]:
        """Name the proxy that the environment has put between, where the server cannot be reached."""
        try:
            yield
        except ServerUnreachable as error:
            if not self._proxy or self._proxy in error.message:
                raise
            raise ServerUnreachable(f"{error.message} (through {self._proxy})", request_id=error.request_id) from None

    def _deadline(self, timeout_s: float | None) -> Deadline:
        if self._closed:
            raise ClientClosed("The client is closed")
        return Deadline.after(self._timeout_s if timeout_s is None else timeout_s)


def _bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"
