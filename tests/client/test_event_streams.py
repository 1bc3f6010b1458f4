"""The stream of events of the client continues by itself, and ends when it cannot."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from google.rpc import code_pb2

from storekeep.client import (
    EventsExpired,
    HistoryChanged,
    ServerUnreachable,
    ShuttingDown,
    Storekeep,
    TokenExpired,
    TooManyWatchers,
)
from storekeep.v1.events_pb2 import Event, WatchEventsResponse
from tests.support.scripted_server import ScriptedServer, refuses, replies

WAIT_S = 60.0


def respond(*cursors: str) -> Any:
    """Return a script: one response with an event for each cursor, and then the end of the stream."""
    return replies(WatchEventsResponse(events=[Event(cursor=cursor) for cursor in cursors], cursor=cursors[-1]))


def script(scripted: ScriptedServer, *answers: Any) -> None:
    scripted.scripts["WatchEvents"] = list(answers)


def test_stream_continues_after_its_last_cursor(scripted: ScriptedServer, client: Storekeep) -> None:
    stopping = refuses("SHUTTING_DOWN", code=code_pb2.UNAVAILABLE, retry_delay_s=0.01)
    script(scripted, respond("a", "b"), stopping, respond("c"))
    with client.events.watch(event_types=["order.*"]) as stream:
        seen = []
        for event in stream:
            seen.append((event.cursor, stream.cursor))
            if len(seen) == 3:
                break
    assert seen == [("a", "a"), ("b", "b"), ("c", "c")]
    requests = [call.request for call in scripted.calls_of("WatchEvents")]
    assert [request.cursor for request in requests] == ["", "b", "b"]
    assert all(request.event_types == ["order.*"] for request in requests)


def test_stream_begins_at_a_stale_position_that_includes_own_writes(
    scripted: ScriptedServer, client: Storekeep
) -> None:
    client.remember_consistency_token(7)
    script(scripted, respond("a"), respond("b"))
    with client.events.watch(max_staleness_s=1.5) as stream:
        assert [next(stream).cursor for _ in range(2)] == ["a", "b"]
    first, second = scripted.calls_of("WatchEvents")[:2]
    assert first.request.max_staleness.ToMilliseconds() == 1_500
    assert first.metadata["storekeep-position"] == "7"
    assert not second.request.HasField("max_staleness")


def test_stream_gets_a_new_token_after_the_old_one_expired(scripted: ScriptedServer, client: Storekeep) -> None:
    expired = refuses("TOKEN_EXPIRED", code=code_pb2.UNAUTHENTICATED)
    script(scripted, respond("a"), expired, respond("b"), respond("c"))
    with client.events.watch() as stream:
        assert [next(stream).cursor for _ in range(3)] == ["a", "b", "c"]
    tokens = [call.metadata["authorization"] for call in scripted.calls_of("WatchEvents")]
    assert len(set(tokens)) > 1


@pytest.mark.parametrize(
    ("reason", "code", "error"),
    [
        ("EVENTS_EXPIRED", code_pb2.OUT_OF_RANGE, EventsExpired),
        ("HISTORY_CHANGED", code_pb2.OUT_OF_RANGE, HistoryChanged),
        ("TOO_MANY_WATCHERS", code_pb2.RESOURCE_EXHAUSTED, TooManyWatchers),
    ],
)
def test_final_error_ends_the_stream(
    scripted: ScriptedServer, client: Storekeep, reason: str, code: int, error: type[Exception]
) -> None:
    script(scripted, respond("a"), refuses(reason, code=code, metadata={"oldest_cursor": "z"}))
    stream = client.events.watch()
    next(stream)
    with pytest.raises(error):
        next(stream)


def test_key_that_no_longer_works_ends_the_stream(scripted: ScriptedServer, client: Storekeep) -> None:
    expired = refuses("TOKEN_EXPIRED", code=code_pb2.UNAUTHENTICATED)
    script(scripted, expired, expired)
    with pytest.raises(TokenExpired):
        next(client.events.watch())


def test_server_that_never_answers_is_reported() -> None:
    with Storekeep("127.0.0.1:1", api_key="sk_x_y") as client, pytest.raises(ServerUnreachable):
        next(client.events.watch())


def test_stream_that_never_began_is_reported(scripted: ScriptedServer, client: Storekeep) -> None:
    stopping = refuses("SHUTTING_DOWN", code=code_pb2.UNAVAILABLE, retry_delay_s=0.01)
    script(scripted, *[stopping] * 30)
    with pytest.raises(ShuttingDown):
        next(client.events.watch())


def test_close_ends_a_stream_that_waits(scripted: ScriptedServer, client: Storekeep) -> None:
    waiting, done = threading.Event(), threading.Event()

    def wait(request: Any, context: Any) -> WatchEventsResponse:
        waiting.set()
        done.wait(WAIT_S)
        return WatchEventsResponse()

    script(scripted, respond("a"), wait)
    stream = client.events.watch()
    next(stream)
    closer = threading.Thread(target=lambda: (waiting.wait(WAIT_S), stream.close()))
    closer.start()
    assert list(stream) == []
    closer.join()
    done.set()
    assert stream.cursor == "a"
