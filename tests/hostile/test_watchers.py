"""Watchers that want too much: many, large, forged, slow, or without the permission any more. Others do not notice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.v1 import auth_pb2
from storekeep.v1 import events_pb2 as pb
from tests.conftest import MakeServer
from tests.support.hostile.accounts import make_account, make_key, make_role
from tests.support.processes import ServerProcess
from tests.support.refusals import Refusal, parse_refusal, refused
from tests.support.shops import Shop
from tests.support.trickle import trickle
from tests.support.watches import Watch

FLOOD = 300
LIMIT = 20
END_TIMEOUT_S = 120.0
FLOOD_TIMEOUT_S = 240.0
LARGE = [f"orders/{number:0293}" for number in range(100)]
"""The largest filter that the contract allows, some 50 KiB in memory."""
WATCH = ["events.read", "customers.read"]
SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536))
"""A client that lets the server send little ahead, so that the rest stays in the server's memory."""


@pytest.fixture
def shop(server: ServerProcess) -> Iterator[Shop]:
    with grpc.insecure_channel(server.address) as channel:
        yield Shop(channel, api_key=server.admin_key)


def await_refusal(watch: Watch) -> Refusal:
    """Receive responses until the stream ends, and return its error."""
    give_up = time.monotonic() + END_TIMEOUT_S
    try:
        while time.monotonic() < give_up:
            watch.receive()
    except grpc.RpcError as error:
        return parse_refusal(error)
    raise AssertionError("the stream did not end")


def await_watch(shop: Shop, **fields: Any) -> Watch:
    """Open a watch as soon as the server admits it."""
    give_up = time.monotonic() + END_TIMEOUT_S
    while True:
        try:
            return Watch(shop, **fields)
        except grpc.RpcError:
            assert time.monotonic() < give_up
            time.sleep(0.05)


def remove_role(shop: Shop, account: str, role: str) -> None:
    """Take a role from an account."""
    stored = shop.auth.GetServiceAccount(auth_pb2.GetServiceAccountRequest(name=account))
    stored.roles.remove(role)
    request = auth_pb2.UpdateServiceAccountRequest(service_account=stored, update_mask={"paths": ["roles"]})
    shop.auth.UpdateServiceAccount(request)


def test_flood_of_watches_with_one_key_leaves_others_their_events(make_server: MakeServer):
    server = make_server(event_watchers_per_key_max=str(LIMIT), queue_wait_max_s="5")
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        flooder = Shop(channel, api_key=make_key(shop, make_account(shop, permissions=WATCH)).secret)
        honest = Watch(shop, event_types=["customer.created"])
        first = Watch(flooder)
        calls = [flooder.events.WatchEvents(pb.WatchEventsRequest(), timeout=FLOOD_TIMEOUT_S) for _ in range(FLOOD)]
        outcomes = Counter(open_or_reason(call) for call in calls)
        assert outcomes["open"] == LIMIT - 1
        assert outcomes.keys() <= {"open", "TOO_MANY_WATCHERS", "OVERLOADED", "RATE_LIMITED"}
        name = shop.customer().name
        assert honest.take(1)[0].resource == name
        assert first.take(1)[0].resource == name
        for call in calls:
            call.cancel()
        first.close()
        again = [await_watch(flooder) for _ in range(LIMIT)]
        assert all(watch.cursor for watch in again)


def open_or_reason(call: Any) -> str:
    try:
        next(call)
    except grpc.RpcError as error:
        return parse_refusal(error).reason
    return "open"


def test_large_filter_counts_as_several_watchers(make_server: MakeServer):
    server = make_server(event_watchers_per_key_max="5")
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        large = Watch(shop, resources=LARGE)
        with refused("TOO_MANY_WATCHERS"):
            Watch(shop, resources=LARGE)
        small = Watch(shop)
        name = shop.customer().name
        assert small.take(1)[0].resource == name
        large.close()
        assert await_watch(shop, resources=LARGE).cursor


def test_altered_and_foreign_cursors_are_refused(shop: Shop, make_server: MakeServer):
    shop.customer()
    cursor = Watch(shop).cursor
    altered = [cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :] for at in range(len(cursor))]
    other = make_server()
    with grpc.insecure_channel(other.address) as channel:
        foreign = Watch(Shop(channel, api_key=other.admin_key)).cursor
    for forged in (*altered, foreign, cursor + "=", cursor * 4, "\x00", "x" * 200):
        with refused("INVALID_FIELD") as refusal:
            Watch(shop, cursor=forged)
        assert list(refusal.violations) == ["cursor"]
    assert Watch(shop, cursor=cursor).cursor


def test_reader_of_one_byte_a_second_is_cut_off_and_others_get_everything(make_server: MakeServer):
    server = make_server(event_read_timeout_s="1", event_watchers_per_key_max="2")
    with grpc.insecure_channel(server.address) as channel, trickle(server.address) as path:
        shop = Shop(channel, api_key=server.admin_key)
        labels = {f"label{number}": "x" * 60 for number in range(50)}
        with grpc.insecure_channel(path.address, SMALL_WINDOW) as own:
            slow = Watch(Shop(own, api_key=server.admin_key), event_types=["customer.created"])
            path.is_slow.set()
            quick = Watch(shop, event_types=["customer.created"])
            names = [shop.customer(labels=labels).name for _ in range(200)]
            assert [event.resource for event in quick.take(len(names))] == names
            server.await_log("does not read its events")
            third = await_watch(shop, start_time=Timestamp(seconds=0), event_types=["customer.created"])
            assert [event.resource for event in third.take(len(names))] == names
            slow.close()


def test_key_revoked_during_a_replay_ends_it_before_later_events(shop: Shop):
    account = make_account(shop, permissions=WATCH)
    key = make_key(shop, account)
    stream = Watch(Shop(shop.bare_channel, api_key=key.secret), event_types=["customer.*"])
    shop.customer()
    assert stream.take(1)
    shop.auth.RevokeApiKey(auth_pb2.RevokeApiKeyRequest(name=key.api_key.name))
    refusal = await_refusal(stream)
    assert refusal.reason == "TOKEN_REVOKED"
    name = shop.customer().name
    assert Watch(shop, cursor=refusal.metadata["cursor"], event_types=["customer.*"]).take(1)[0].resource == name


def test_lost_permission_to_read_events_ends_the_watch(shop: Shop):
    role = make_role(shop, ["events.read"])
    account = make_account(shop, permissions=["customers.read"], roles=[role])
    stream = Watch(Shop(shop.bare_channel, api_key=make_key(shop, account).secret), heartbeat_s=1)
    remove_role(shop, account, role)
    assert await_refusal(stream).reason == "PERMISSION_DENIED"
