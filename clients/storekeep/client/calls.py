"""Sending of all calls, with a deadline, access token, retries and typed errors.

A mutation carries the same `request_id` on every attempt, so that a retry has no second effect. No call outlives its
deadline, retries included.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, Protocol, TypedDict, TypeVar

import grpc
import uuid_utils
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.client.attempts import (
    Metadata,
    ReceiveMetadata,
    ReplyT,
    RequestT,
    RetryBudget,
    call_with_retries,
    send,
)
from storekeep.client.consistency_tokens import CONSISTENCY_METADATA_KEY, ConsistencyToken
from storekeep.client.deadlines import Deadline, check_timeout
from storekeep.client.error_families import ClientClosed, ServerUnreachable
from storekeep.client.errors import TokenExpired, TokenRevoked, Unauthenticated
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import ItemT, Listing, Page, build_page
from storekeep.client.statuses import from_rpc_error
from storekeep.client.tokens import Tokens

LANGUAGE_METADATA_KEY = "accept-language"
REPLAYED_METADATA_KEY = "storekeep-replayed"
"""Trailing metadata key of the stored reply of an earlier call with the same `request_id`."""


class CallOptions(TypedDict, total=False):
    """Keyword arguments of every method."""

    timeout_s: float
    """Deadline of the call in seconds, retries included (default: the client's `timeout_s`)."""


class ReadOptions(CallOptions, total=False):
    """Keyword arguments of every read method."""

    max_staleness_s: float | None
    """Maximum age of the answer in seconds, at most a day. It always includes this client's own writes (default: the
    current state)."""


class GetOptions(ReadOptions, total=False):
    """Keyword arguments of every method that gets resources by name."""

    read_mask: Iterable[str]
    """Fields of the resource to return, such as `name` or `lines.sku` (default: all)."""


class TextOptions(GetOptions, total=False):
    """Keyword arguments of every method that gets products, variants or categories by name."""

    accept_language: str
    """Preferred languages of names, descriptions and options, as in HTTP: `de-AT, en;q=0.5` (default: that of the
    client). Each resource comes in the best one that it has; `language_code` names it."""


class WriteOptions(CallOptions, total=False):
    """Keyword arguments of every mutation."""

    request_id: str
    """Idempotency key, a UUID: a repeat with the same payload returns the first reply (default: a new UUID)."""
    validate_only: bool
    """Whether to validate and return the result without storing anything."""
    on_replay: Callable[[], None] | None
    """Called before a mutation returns if an earlier call with this `request_id` had taken effect already: the reply is
    that of the earlier call. This includes an earlier attempt of the same call, whose reply was lost."""


class Mutation(Protocol):
    """A request of a mutation."""

    request_id: str
    validate_only: bool


class ReadRequest(Protocol):
    """A request that allows a stale answer."""

    @property
    def max_staleness(self) -> Duration:
        """Maximum age of the answer."""


class StreamRequest(ReadRequest, Protocol):
    """A request of a stream that can begin with a stale position."""

    def HasField(self, field_name: Literal["max_staleness"], /) -> bool:  # noqa: N802 - as protobuf names it
        """Return whether a field is set."""


class GetRequest(ReadRequest, Protocol):
    """A request for resources by name."""

    @property
    def read_mask(self) -> FieldMask:
        """Fields to return."""


class PageRequest(ReadRequest, Protocol):
    """A request for one page of a list."""

    page_token: str


class PageReply(Protocol):
    """A reply with one page of a list."""

    next_page_token: str


ReadT = TypeVar("ReadT", bound=ReadRequest)
GetT = TypeVar("GetT", bound=GetRequest)
StreamT = TypeVar("StreamT", bound=StreamRequest)
MutationT = TypeVar("MutationT", bound=Mutation)
PageRequestT = TypeVar("PageRequestT", bound=PageRequest)
PageReplyT = TypeVar("PageReplyT", bound=PageReply)


class Calls:
    """Sends the requests of all resource types over one channel.

    Attributes:
        consistency_token: the highest token of this client's writes.
    """

    def __init__(
        self,
        *,
        tokens: Tokens | None,
        timeout_s: float,
        budget: RetryBudget,
        address: str = "",
        proxy: str = "",
        accept_language: str = "",
    ) -> None:
        self._tokens = tokens
        self._timeout_s = timeout_s
        self._budget = budget
        self._route = f"{address} through {proxy}" if proxy else address
        self._accept_language = accept_language
        self._closed = False
        self._has_answer = False
        self.consistency_token = ConsistencyToken()

    def close(self) -> None:
        """Reject all further calls with ClientClosed."""
        self._closed = True

    def read(
        self,
        method: grpc.UnaryUnaryMultiCallable[ReadT, ReplyT],
        request: ReadT,
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        accept_language: str = "",
    ) -> ReplyT:
        """Send a read request, with the consistency token if it allows a stale answer."""
        metadata: Metadata = ()
        languages = accept_language or self._accept_language
        if languages:
            metadata = ((LANGUAGE_METADATA_KEY, languages),)
        if max_staleness_s is not None:
            request.max_staleness.FromNanoseconds(round(max_staleness_s * 1_000_000_000))
            metadata += ((CONSISTENCY_METADATA_KEY, str(self.consistency_token.value)),)
        return self._send_with_token(method, request, self._new_deadline(timeout_s), metadata)

    def get(
        self,
        method: grpc.UnaryUnaryMultiCallable[GetT, ReplyT],
        request: GetT,
        *,
        read_mask: Iterable[str] = (),
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        accept_language: str = "",
    ) -> ReplyT:
        """Send a read request for resources by name."""
        mask = build_field_mask(read_mask)
        if mask is not None:
            request.read_mask.CopyFrom(mask)
        return self.read(
            method,
            request,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
            accept_language=accept_language,
        )

    def read_current(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT],
        request: RequestT,
        *,
        timeout_s: float | None = None,
    ) -> ReplyT:
        """Send a read request that is always answered from the current state."""
        return self._send_with_token(method, request, self._new_deadline(timeout_s))

    def write(
        self,
        method: grpc.UnaryUnaryMultiCallable[MutationT, ReplyT],
        request: MutationT,
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        validate_only: bool = False,
        on_replay: Callable[[], None] | None = None,
    ) -> ReplyT:
        """Send a mutation with a `request_id`."""
        request.request_id = request_id or str(uuid_utils.uuid7())
        request.validate_only = validate_only
        deadline = self._new_deadline(timeout_s)

        def receive_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> None:
            entries = tuple(metadata)
            self.consistency_token.update_from_metadata(entries)
            if on_replay is not None and any(key == REPLAYED_METADATA_KEY for key, _ in entries):
                on_replay()

        return self._send_with_token(method, request, deadline, receive_metadata=receive_metadata)

    def read_public(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT],
        request: RequestT,
        *,
        timeout_s: float | None = None,
    ) -> ReplyT:
        """Send a request that needs no access token."""
        return self._send_with_retries(method, request, deadline=self._new_deadline(timeout_s))

    def send_once(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT],
        request: RequestT,
        *,
        timeout_s: float | None = None,
    ) -> ReplyT:
        """Send a request that needs no access token, without retries."""
        with self._name_server_in_errors():
            return send(method, request, deadline=self._new_deadline(timeout_s))

    def list_pages(
        self,
        method: grpc.UnaryUnaryMultiCallable[PageRequestT, PageReplyT],
        request: PageRequestT,
        *,
        items: Callable[[PageReplyT], Iterable[ItemT]],
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        accept_language: str = "",
    ) -> Listing[ItemT]:
        """Return the list of a request. `items` extracts the resources of a page."""

        def fetch(page_token: str) -> Page[ItemT]:
            page_request = copy.deepcopy(request)
            page_request.page_token = page_token
            if page_token and getattr(page_request, "include_total_size", False):
                page_request.include_total_size = False  # type: ignore[attr-defined]  # it is counted once
            reply = self.read(
                method,
                page_request,
                timeout_s=timeout_s,
                max_staleness_s=max_staleness_s,
                accept_language=accept_language,
            )
            return build_page(items(reply), reply)

        return Listing(fetch)

    def stream_public(
        self,
        method: grpc.UnaryStreamMultiCallable[RequestT, ReplyT],
        request: RequestT,
        *,
        timeout_s: float | None = None,
    ) -> Iterator[ReplyT]:
        """Send a server-streaming request that needs no access token. Without a timeout the stream has no deadline."""
        self._new_deadline(timeout_s)
        replies = method(request, timeout=None if timeout_s is None else check_timeout(timeout_s))
        try:
            yield from replies
        except grpc.RpcError as error:
            with self._name_server_in_errors():
                raise from_rpc_error(error) from None
        finally:
            replies.cancel()

    @property
    def is_closed(self) -> bool:
        """Whether the client is closed."""
        return self._closed

    @property
    def has_tokens(self) -> bool:
        """Whether calls carry access tokens."""
        return self._tokens is not None

    def open_stream(
        self,
        method: grpc.UnaryStreamMultiCallable[StreamT, ReplyT],
        request: StreamT,
        *,
        fresh_token: bool = False,
    ) -> Any:
        """Start a server stream without a deadline, and return gRPC's call: an iterator with `cancel`.

        The consistency token goes with a request that allows a stale answer.

        Args:
            fresh_token: whether to use a new access token, because the last stream ended.

        Raises: StorekeepError if there is no access token.
        """
        deadline = self._new_deadline(None)
        metadata: Metadata = ()
        if request.HasField("max_staleness"):
            metadata = ((CONSISTENCY_METADATA_KEY, str(self.consistency_token.value)),)
        if self._tokens is None:
            return method(request, metadata=metadata)
        with self._name_server_in_errors():
            token = self._tokens.get_access_token(deadline=deadline)
            if fresh_token:
                self._tokens.discard(token)
                token = self._tokens.get_access_token(deadline=deadline)
        return method(request, metadata=(_build_authorization(token), *metadata))

    def _send_with_token(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT],
        request: RequestT,
        deadline: Deadline,
        metadata: Metadata = (),
        receive_metadata: ReceiveMetadata | None = None,
    ) -> ReplyT:
        send_with = partial(
            self._send_with_retries, method, request, deadline=deadline, receive_metadata=receive_metadata
        )
        if self._tokens is None:
            with self._name_missing_key_in_errors():
                return send_with(metadata=metadata)
        with self._name_server_in_errors():
            token = self._tokens.get_access_token(deadline=deadline)
        try:
            return send_with(metadata=(_build_authorization(token), *metadata))
        except (TokenExpired, TokenRevoked, Unauthenticated):
            self._tokens.discard(token)
        with self._name_server_in_errors():
            fresh = self._tokens.get_access_token(deadline=deadline)
        return send_with(metadata=(_build_authorization(fresh), *metadata))

    def _send_with_retries(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT],
        request: RequestT,
        *,
        deadline: Deadline,
        metadata: Metadata = (),
        receive_metadata: ReceiveMetadata | None = None,
    ) -> ReplyT:
        attempt = partial(
            send, method, request, deadline=deadline, metadata=metadata, receive_metadata=receive_metadata
        )
        with self._name_server_in_errors():
            reply = call_with_retries(attempt, deadline=deadline, budget=self._budget, reconnects=self._has_answer)
        self._has_answer = True
        return reply

    @contextmanager
    def _name_server_in_errors(self) -> Iterator[None]:
        """Name the address, and the proxy if there is one, in the error of an unreachable server."""
        try:
            yield
        except ServerUnreachable as error:
            if not self._route or error.message.startswith(self._route):
                raise
            raise ServerUnreachable(f"{self._route}: {error.message}", request_id=error.request_id) from None

    @contextmanager
    def _name_missing_key_in_errors(self) -> Iterator[None]:
        """Say that the client has no API key, if that is why the server rejected a call."""
        try:
            yield
        except Unauthenticated as error:
            message = "this client has no API key; pass api_key, or set STOREKEEP_API_KEY"
            raise Unauthenticated(message, request_id=error.request_id) from None

    def _new_deadline(self, timeout_s: float | None) -> Deadline:
        if self._closed:
            raise ClientClosed("the client is closed")
        return Deadline.after(self._timeout_s if timeout_s is None else check_timeout(timeout_s))


def _build_authorization(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"
