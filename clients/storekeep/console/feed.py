"""Live updates: a feed of all changes, and server-sent events for pages that show a resource.

A stream holds a thread while its page is visible. It ends after a while, with its session, and with the gateway, so
that a forgotten page holds nothing. It does not keep its session from being idle.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC
from functools import partial
from typing import Any

from storekeep.client import Event, StorekeepError
from storekeep.console.listings import fetch, show_list, try_fetch
from storekeep.console.rendering import find_page
from storekeep.console.requests import Reply, Request, Route
from storekeep.console.sessions import Session

READ = "events.read"
STREAM_PATH = b"/feed/stream"
STREAMS_MAX = 100
"""Streams of all sessions: each has a thread."""
SESSION_STREAMS_MAX = 4
"""Streams of one session. A browser has six connections to a host; pages need some of them."""
ACCOUNT_STREAMS_MAX = 10
"""Streams of all sessions of one service account or user."""
ADDRESS_STREAMS_MAX = 40
"""Streams of one client address, which may be that of an office."""
LIFETIME_S = 900.0
HEARTBEAT_S = 15.0
POLL_S = 1.0
"""How often a stream looks whether the gateway ends."""
WAITING_MAX = 1_000
"""Events that wait for a slow browser. Then the stream ends; a page continues it when it is shown again."""
END = b"event: end\ndata: {}\n\n"


def get_cursor(request: Request) -> str:
    """Return the cursor of now, for a page that is kept current; empty if the person may not read events."""
    if not request.session.may(READ):
        return ""
    listing = request.session.client.events.list(order_by="sequence desc", page_size=1)
    newest = try_fetch(lambda: listing.page().items, [])
    return str(newest[0].cursor) if newest else ""


def show_feed(request: Request) -> Reply:
    """List the latest events; the script of the page adds those that follow."""
    listing = request.session.client.events.list(filter=request.query["filter"], order_by="sequence desc", page_size=50)
    return show_list(
        request,
        "feed.html",
        title="Live feed",
        fetch_page=lambda: fetch(request, listing),
        is_live=not request.query["page"] and not request.query["filter"],
    )


class LiveStream:
    """The server-sent events of one page, which count from its opening until `aclose`.

    Args:
        release: called once, when the stream no longer counts.
    """

    def __init__(self, events: AsyncGenerator[bytes, None], release: Callable[[], None]) -> None:
        self._events = events
        self._closing = ExitStack()
        self._closing.callback(release)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._events

    async def aclose(self) -> None:
        """End the stream, also one of which nothing was read."""
        with self._closing:
            await self._events.aclose()


class LiveStreams:
    """The streams of a gateway. Use it in the event loop."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(STREAMS_MAX, thread_name_prefix="live")
        self._number = 0
        self._open: Counter[tuple[str, str]] = Counter()

    def open(
        self, session: Session, *, address: str, cursor: str, resource: str, is_over: Callable[[], bool]
    ) -> LiveStream | None:
        """Return the events after a cursor, as server-sent events; None if there are too many streams.

        Args:
            address: address of the client, for its limit.
            resource: only events of this resource; empty for all.
            is_over: return whether the session or the gateway has ended.
        """
        limits = {
            ("session", session.csrf_token): SESSION_STREAMS_MAX,
            ("account", session.subject): ACCOUNT_STREAMS_MAX,
            ("address", address): ADDRESS_STREAMS_MAX,
        }
        if self._number >= STREAMS_MAX or any(self._open[key] >= most for key, most in limits.items()):
            return None
        self._number += 1
        self._open.update(limits.keys())
        return LiveStream(self._write(session, cursor, resource, is_over), partial(self._release, tuple(limits)))

    def _release(self, keys: tuple[tuple[str, str], ...]) -> None:
        self._number -= 1
        self._open.subtract(keys)
        for key in keys:
            if not self._open[key]:
                del self._open[key]

    async def _write(
        self, session: Session, cursor: str, resource: str, is_over: Callable[[], bool]
    ) -> AsyncGenerator[bytes, None]:
        resources = [resource] if resource else ()
        try:
            watch = session.client.events.watch(cursor=cursor, resources=resources, omit_content=True)
        except StorekeepError:  # the session has just ended
            yield END
            return
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        reading = self._executor.submit(_read, watch, queue, asyncio.get_running_loop())
        ends_s = time.monotonic() + LIFETIME_S
        heartbeat_s = time.monotonic() + HEARTBEAT_S
        try:
            yield b": live\n\n"
            while time.monotonic() < ends_s and not is_over():
                try:
                    event = await asyncio.wait_for(queue.get(), POLL_S)
                except TimeoutError:
                    if time.monotonic() >= heartbeat_s:
                        heartbeat_s = time.monotonic() + HEARTBEAT_S
                        yield b": idle\n\n"
                    continue
                if event is None:
                    break
                yield format_event(event, may=session.may)
            yield END
        finally:
            watch.close()
            reading.cancel()

    def close(self) -> None:
        """End the threads, without waiting for them."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _read(watch: Any, queue: asyncio.Queue[Event | None], loop: asyncio.AbstractEventLoop) -> None:
    """Move events to the queue of the event loop until the stream ends."""
    try:
        with suppress(StorekeepError, RuntimeError):  # the loop may be closed
            for event in watch:
                if queue.qsize() >= WAITING_MAX:
                    break
                loop.call_soon_threadsafe(queue.put_nowait, event)
    finally:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(queue.put_nowait, None)


def format_event(event: Event, *, may: Callable[[str], bool]) -> bytes:
    """Return an event as a server-sent event, without its content.

    Args:
        may: return whether the person has a permission: a page that may not be opened has no path.
    """
    data = {
        "type": event.type,
        "resource": event.resource,
        "path": find_page(event.resource, may=may),
        "actor": event.actor,
        "time": event.create_time.ToDatetime(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    return f"id: {event.cursor}\ndata: {json.dumps(data)}\n\n".encode()


ROUTES = (Route("GET", "/feed", show_feed, READ),)
