"""Live updates: events of what one may see, in order, that end with the session and do not hold it."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlencode

import pytest

from storekeep.client import ApiKey, Customer, ServiceAccount, Storekeep
from storekeep.console import feed
from storekeep.console.feed import (
    ACCOUNT_STREAMS_MAX,
    END,
    HEARTBEAT_S,
    SESSION_STREAMS_MAX,
    STREAMS_MAX,
    LiveStream,
    LiveStreams,
)
from storekeep.console.sessions import Session, Sessions
from tests.support.gateways import GatewayProcess
from tests.support.shops import Shop
from tests.support.visitors import Visitor, sign_in

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
TIMEOUT_S = 60.0


@contextmanager
def open_stream(visitor: Visitor, **query: str) -> Iterator[http.client.HTTPResponse]:
    """Open the stream of live updates."""
    connection = http.client.HTTPConnection(*visitor.address, timeout=TIMEOUT_S)
    connection.request("GET", f"/feed/stream?{urlencode(query)}", headers={"cookie": visitor.cookie})
    try:
        yield connection.getresponse()
    finally:
        connection.close()


def read_event(reply: http.client.HTTPResponse) -> dict[str, Any]:
    """Return the data of the next event, with its id."""
    found: dict[str, Any] = {}
    while True:
        line = reply.readline().decode().rstrip("\n")
        if line.startswith("id: "):
            found["id"] = line[4:]
        elif line.startswith("data: "):
            found |= json.loads(line[6:])
        elif not line and "type" in found:
            return found


def get_cursor(visitor: Visitor) -> str:
    """Return the cursor that the feed page starts with."""
    tags = visitor.get("/feed").tags
    return next(attributes["data-cursor"] for _, attributes in tags if "data-feed" in attributes)


def test_changes_arrive_in_order_after_the_cursor_of_the_page(admin: Visitor, client: Storekeep):
    customer = client.customers.create(Customer(display_name="Ada"))
    cursor = get_cursor(admin)
    client.customers.update(Customer(name=customer.name, display_name="Ada Marsh"), update_mask=["display_name"])
    with open_stream(admin, cursor=cursor) as reply:
        assert reply.getheader("content-type") == "text/event-stream"
        first = read_event(reply)
        assert (first["type"], first["path"]) == ("customer.updated", f"/{customer.name}")
        client.customers.update(Customer(name=customer.name, display_name="Ada L."), update_mask=["display_name"])
        assert read_event(reply)["id"] != first["id"]
    assert "customer.updated" in admin.get("/feed").text


def test_feed_leads_only_to_pages_that_one_may_open(gateway: GatewayProcess, client: Storekeep, shop: Shop):
    shop.variant()
    editor = sign_in(gateway, client, "events.read", "products.write")
    cursor = get_cursor(editor)
    page = editor.get("/feed")
    assert "variant.created" in page.text
    assert not [link for link in page.links if link.startswith("/products")]
    shop.variant()
    with open_stream(editor, cursor=cursor) as reply:
        assert read_event(reply)["path"] == ""


def test_order_page_hears_of_its_order_only(admin: Visitor, client: Storekeep, shop: Shop):
    one, other = (shop.order((shop.variant(stock=1).sku, 1)) for _ in range(2))
    page = admin.get(f"/{one.name}")
    bar = next(attributes for _, attributes in page.tags if "data-live" in attributes)
    assert bar["data-resource"] == one.name
    client.orders.hold(other.name, reason="other")
    client.orders.hold(one.name, reason="this")
    with open_stream(admin, cursor=bar["data-cursor"], resource=bar["data-resource"]) as reply:
        assert read_event(reply)["resource"] == one.name


def test_stream_needs_a_session_and_ends_with_it(gateway: GatewayProcess, admin: Visitor, visitor: Visitor):
    with open_stream(Visitor(gateway.address)) as reply:
        assert reply.status == 401
    with open_stream(admin) as reply:
        assert reply.readline() == b": live\n"
        admin.submit(admin.get("/").form("/sign-out"))
        assert b"event: end" in reply.read()


def test_one_session_has_few_streams_also_if_they_begin_together(admin: Visitor):
    clients = 4 * SESSION_STREAMS_MAX
    together = threading.Barrier(clients)
    answered = threading.Barrier(clients)

    def open_one(_number: int) -> int:
        together.wait(TIMEOUT_S)
        with open_stream(admin) as reply:
            answered.wait(TIMEOUT_S)
            return reply.status

    with ThreadPoolExecutor(clients) as pool:
        statuses = list(pool.map(open_one, range(clients)))
    assert statuses.count(200) == SESSION_STREAMS_MAX
    assert statuses.count(503) == clients - SESSION_STREAMS_MAX


@pytest.fixture
def streams() -> Iterator[LiveStreams]:
    """Make streams whose server does not answer."""
    made = LiveStreams()
    yield made
    made.close()


def open_quietly(streams: LiveStreams, key: str) -> LiveStream | None:
    """Open a stream of a session, and read nothing."""
    session = Session(Storekeep("127.0.0.1:1", api_key="sk_any"), key, started_s=0, used_s=0, subject=key)
    return streams.open(session, address=key, cursor="", resource="", is_over=lambda: False)


def test_all_sessions_have_a_limited_number_of_streams(streams: LiveStreams):
    opened = [open_quietly(streams, f"session-{number}") for number in range(STREAMS_MAX + 1)]
    assert [stream is None for stream in opened] == [False] * STREAMS_MAX + [True]


@pytest.mark.parametrize("is_read", [False, True])
def test_stream_counts_until_it_is_closed(streams: LiveStreams, is_read: bool):
    async def use() -> list[bool]:
        first, *_, refused = [open_quietly(streams, "one") for _ in range(SESSION_STREAMS_MAX + 1)]
        assert first is not None
        if is_read:
            assert await anext(aiter(first)) == b": live\n\n"
        await first.aclose()
        await first.aclose()  # it is not released twice
        again = [open_quietly(streams, "one") for _ in range(2)]
        return [stream is None for stream in (refused, *again)]

    assert asyncio.run(use()) == [True, False, True]


def test_stream_of_a_session_that_has_just_ended_ends(streams: LiveStreams):
    async def read() -> list[bytes]:
        client = Storekeep("127.0.0.1:1", api_key="sk_any")
        client.close()
        session = Session(client, "ended", started_s=0, used_s=0)
        stream = streams.open(session, address="", cursor="", resource="", is_over=lambda: False)
        assert stream is not None
        return [part async for part in stream]

    parts = asyncio.run(asyncio.wait_for(read(), HEARTBEAT_S))
    assert parts[-1] == END


def test_account_with_many_sessions_has_few_streams(gateway: GatewayProcess, client: Storekeep):
    account = client.auth.create_service_account(ServiceAccount(display_name="Eve", roles=["roles/viewer"]))
    key = client.auth.create_api_key(account.name, ApiKey(display_name="Eve")).secret
    with ExitStack() as stack:
        statuses = []
        for _ in range(ACCOUNT_STREAMS_MAX // SESSION_STREAMS_MAX + 1):
            visitor = Visitor(gateway.address)
            visitor.sign_in(key)
            for _ in range(SESSION_STREAMS_MAX):
                reply = stack.enter_context(open_stream(visitor))
                statuses.append(reply.status)
        allowed = statuses.count(200)
        assert allowed == ACCOUNT_STREAMS_MAX
        assert statuses == [200] * allowed + [503] * (len(statuses) - allowed)


class Silent:
    """A client of a server on which nothing happens."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.events = self

    def watch(self, **_fields: Any) -> Silent:
        """Return a stream without events."""
        return self

    def __iter__(self) -> Iterator[Any]:
        self.closed.wait(TIMEOUT_S)
        return iter(())

    def close(self) -> None:
        """End the stream."""
        self.closed.set()


def test_stream_does_not_keep_its_session_and_ends_with_it() -> None:
    now_s = 0.0
    sessions = Sessions(idle_s=60, lifetime_s=600, sessions_max=5, now_s=lambda: now_s)
    client: Any = Silent()
    cookie, session = sessions.start(client, subject="serviceAccounts/ada")
    streams = LiveStreams()

    async def watch() -> list[bytes]:
        nonlocal now_s
        stream = streams.open(
            session, address="", cursor="", resource="", is_over=lambda: sessions.peek(cookie) is None
        )
        assert stream is not None
        found = [await anext(aiter(stream))]
        now_s = 61.0
        return [*found, *[data async for data in stream]]

    assert asyncio.run(watch()) == [b": live\n\n", END]
    streams.close()
    assert sessions.find(cookie) is None
    sessions.close()


def test_addresses_have_a_share_of_the_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "ADDRESS_STREAMS_MAX", 2)
    sessions = Sessions(idle_s=60, lifetime_s=600, sessions_max=100)
    streams = LiveStreams()

    async def open_one(address: str, number: int) -> Any:
        client: Any = Silent()
        _, session = sessions.start(client, subject=f"serviceAccounts/a{number}")
        stream = streams.open(session, address=address, cursor="", resource="", is_over=lambda: False)
        if stream is not None:
            assert await anext(aiter(stream)) == b": live\n\n"
        return stream

    async def open_all() -> list[bool]:
        found = [await open_one(address, number) for number, address in enumerate(["a", "a", "a", "b"])]
        for stream in found:
            if stream is not None:
                await stream.aclose()
        again = await open_one("a", 9)
        await again.aclose()
        return [stream is not None for stream in found]

    assert asyncio.run(open_all()) == [True, True, False, True]
    streams.close()
    sessions.close()


def test_wrong_cursor_ends_the_stream(admin: Visitor):
    with open_stream(admin, cursor="not-a-cursor") as reply:
        assert b"event: end" in reply.read()
