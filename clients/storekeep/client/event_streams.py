"""A stream of events that continues after a lost connection, a restart of the server or an expired token."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc

from storekeep.client.attempts import compute_retry_pause_s, to_client_closed
from storekeep.client.calls import Calls
from storekeep.client.error_families import (
    ClientClosed,
    NotAuthenticated,
    Refused,
    ServerUnreachable,
    StorekeepError,
    UnexpectedStatus,
)
from storekeep.client.errors import WatcherTooSlow
from storekeep.client.statuses import from_rpc_error
from storekeep.v1.events_pb2 import Event, WatchEventsRequest, WatchEventsResponse

FIRST_ATTEMPTS_MAX = 5
"""Attempts before the first response, so that a wrong address or a full server is reported soon."""
LOST = (grpc.StatusCode.ABORTED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
"""Codes without details of a stream that was lost, or ended because the caller read too slowly."""

Method: TypeAlias = "grpc.UnaryStreamMultiCallable[WatchEventsRequest, WatchEventsResponse]"


class EventStream(Iterator[Event]):
    """An iterator over events, each once and in order. It ends only with `close` or an error.

    Attributes:
        cursor: where to continue after the last event that was returned; empty before the first response.
    """

    def __init__(self, calls: Calls, method: Method, request: WatchEventsRequest) -> None:
        self._calls = calls
        self._method = method
        self._request = request
        self._call: Any = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._events: deque[Event] = deque()
        self._end = ""
        self._has_answer = False
        self._failures = 0
        self._needs_token = False
        self.cursor = request.cursor

    def __next__(self) -> Event:
        """Wait for the next event and return it.

        Raises: StopIteration after `close`; EventsExpired, HistoryChanged, TooManyWatchers, AuditEntryUnreadable, and
            the errors of authentication. Continue with `cursor`.
        """
        while not self._events:
            response = self._receive()
            if response is None:
                raise StopIteration
            self._events.extend(response.events)
            self._request.cursor = self._end = response.cursor
            self._request.ClearField("start_time")
            self._request.ClearField("max_staleness")
            if not self._events:
                self.cursor = self._end
        event = self._events.popleft()
        self.cursor = event.cursor if self._events else self._end
        return event

    def close(self) -> None:
        """End the stream. A thread that waits for an event stops. May be called twice, from any thread."""
        self._closed.set()
        with self._lock:
            if self._call is not None:
                self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self) -> WatchEventsResponse | None:
        """Return the next response, of a new stream if the last one ended; None after `close`.

        Raises: StorekeepError if a new stream will not help.
        """
        while not self._closed.is_set():
            try:
                response: WatchEventsResponse = next(self._open())
                self._has_answer, self._failures, self._needs_token = True, 0, False
                return response
            except StopIteration:
                error: StorekeepError = ServerUnreachable("the server ended the stream")
            except grpc.RpcError as failure:
                error = from_rpc_error(failure)
            except StorekeepError as failure:
                error = failure
            except ValueError as failure:
                closed = to_client_closed(failure)
                if not isinstance(closed, ClientClosed):
                    raise
                error = closed
            self._call = None
            if self._closed.is_set() or isinstance(error, ClientClosed) or self._calls.is_closed:
                return None
            self._failures += 1
            if not self._is_transient(error):
                raise error
            self._closed.wait(compute_retry_pause_s(error, attempt=self._failures))
        return None

    def _open(self) -> Any:
        if self._call is None:
            call = self._calls.open_stream(self._method, self._request, fresh_token=self._needs_token)
            with self._lock:
                self._call = call
                if self._closed.is_set():
                    call.cancel()
        return self._call

    def _is_transient(self, error: StorekeepError) -> bool:
        if not self._has_answer and self._failures >= FIRST_ATTEMPTS_MAX:
            return False
        if isinstance(error, NotAuthenticated):  # the token expired or was revoked; a new one may be valid
            is_first, self._needs_token = not self._needs_token, True
            return is_first and self._calls.has_tokens
        if isinstance(error, Refused):
            return error.retryable or isinstance(error, WatcherTooSlow)
        if isinstance(error, UnexpectedStatus):
            return self._has_answer and error.code in LOST
        return self._has_answer and isinstance(error, ServerUnreachable)
