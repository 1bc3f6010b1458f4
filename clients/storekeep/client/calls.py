"""Calls: the one way of every call: deadline, token, retries, typed errors.

A mutation always carries a `request_id`, the same on each attempt, so that a retry has no second effect.
No call outlives its deadline, however often it is tried.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Protocol, TypedDict, TypeVar

import grpc
import uuid_utils

from storekeep.client.attempts import Metadata, ReplyT, RequestT, retried, send
from storekeep.client.deadlines import Deadline
from storekeep.client.errors import ClientClosed, TokenExpired, TokenRevoked, Unauthenticated, from_rpc_error
from storekeep.client.pages import ItemT, Listing, Page
from storekeep.client.tokens import Tokens


class ReadOptions(TypedDict, total=False):
    """What every reading method takes."""

    timeout_s: float
    """Seconds until the call must be over, retries included; the client's when not given."""


class WriteOptions(ReadOptions, total=False):
    """What every changing method takes."""

    request_id: str
    """A UUID: the same id with the same payload has one effect and one reply. A fresh one when not given."""
    validate_only: bool
    """Run all of it, answer as if it had happened, and keep nothing."""


class Mutation(Protocol):
    """A request that changes something."""

    request_id: str
    validate_only: bool


class PageRequest(Protocol):
    """A request for a page of a list."""

    page_token: str


class PageReply(Protocol):
    """A page of a list."""

    next_page_token: str


MutationT = TypeVar("MutationT", bound=Mutation)
PageRequestT = TypeVar("PageRequestT", bound=PageRequest)
PageReplyT = TypeVar("PageReplyT", bound=PageReply)


class Calls:
    """Sends the requests of all nouns over one channel."""

    def __init__(self, *, tokens: Tokens | None, timeout_s: float) -> None:
        self._tokens = tokens
        self._timeout_s = timeout_s
        self._closed = False
        self._answered = False

    def close(self) -> None:
        """Refuse every further call."""
        self._closed = True

    def read(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT],
        request: RequestT,
        *,
        timeout_s: float | None = None,
    ) -> ReplyT:
        """Send a request that changes nothing."""
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
        return self._with_token(method, request, self._deadline(timeout_s))

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
        return send(method, request, deadline=self._deadline(timeout_s))

    def listing(
        self,
        method: grpc.UnaryUnaryMultiCallable[PageRequestT, PageReplyT],
        request: PageRequestT,
        *,
        items: Callable[[PageReplyT], Iterable[ItemT]],
        timeout_s: float | None = None,
    ) -> Listing[ItemT]:
        """Return the list that `request` asks for; `items` takes the resources out of a page."""

        def fetch(page_token: str) -> Page[ItemT]:
            asked = copy.deepcopy(request)
            asked.page_token = page_token
            reply = self.read(method, asked, timeout_s=timeout_s)
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
            raise from_rpc_error(error) from None
        finally:
            replies.cancel()

    def _with_token(
        self, method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT], request: RequestT, deadline: Deadline
    ) -> ReplyT:
        if self._tokens is None:
            return self._retried(method, request, deadline=deadline)
        token = self._tokens.current(deadline=deadline)
        try:
            return self._retried(method, request, deadline=deadline, metadata=_bearer(token))
        except (TokenExpired, TokenRevoked, Unauthenticated):
            self._tokens.discard(token)
        fresh = self._tokens.current(deadline=deadline)
        return self._retried(method, request, deadline=deadline, metadata=_bearer(fresh))

    def _retried(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT],
        request: RequestT,
        *,
        deadline: Deadline,
        metadata: Metadata = (),
    ) -> ReplyT:
        attempt = partial(send, method, request, deadline=deadline, metadata=metadata)
        reply = retried(attempt, deadline=deadline, reconnects=self._answered)
        self._answered = True
        return reply

    def _deadline(self, timeout_s: float | None) -> Deadline:
        if self._closed:
            raise ClientClosed("The client is closed")
        return Deadline.after(self._timeout_s if timeout_s is None else timeout_s)


def _bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)
