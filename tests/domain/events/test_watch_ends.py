"""How watches end: with the token, with the permission, at the limits, on shutdown, and for those who do not read."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.client import Customer, HistoryChanged, Storekeep
from storekeep.server.domain.events.cursors import CURSOR, Position, write_cursor
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.runtime.secrets import load_secrets
from storekeep.v1 import audit_pb2, auth_pb2, customers_pb2
from storekeep.v1 import events_pb2 as pb
from tests.conftest import MakeServer
from tests.support.hostile.accounts import make_account, make_key, make_role, sign_in
from tests.support.processes import ServerProcess
from tests.support.refusals import Refusal, parse_refusal, refused
from tests.support.shops import Shop
from tests.support.watches import Watch

END_TIMEOUT_S = 60.0


def await_end(watch: Watch) -> Refusal:
    """Receive responses until the stream ends, and return its error."""
    give_up = time.monotonic() + END_TIMEOUT_S
    try:
        while time.monotonic() < give_up:
            watch.receive()
    except grpc.RpcError as error:
        return parse_refusal(error)
    raise AssertionError("the stream did not end")


def read_to_end(watch: Watch) -> tuple[list[str], grpc.StatusCode]:
    """Return the resources of the events that are left, and the code of the end."""
    received: list[str] = []
    try:
        while True:
            received += [event.resource for event in watch.receive().events]
    except grpc.RpcError as error:
        return received, error.code()


def list_oldest(shop: Shop) -> pb.Event:
    return shop.events.ListEvents(pb.ListEventsRequest(page_size=1)).events[0]


class _Keyring:
    """The secret of a server, for a cursor that only it could make."""

    def __init__(self, server: ServerProcess) -> None:
        self._secret = load_secrets((), data_dir=server.data_dir)[0]

    def get_write_secret(self) -> bytes:
        return self._secret


def forge_cursor(server: ServerProcess, sequence: int) -> str:
    keyring: Any = _Keyring(server)
    return write_cursor(Position(sequence), tokens=PageTokens(keyring))


def test_watcher_sees_only_events_of_resources_that_it_may_read(channel: grpc.Channel, shop: Shop):
    reader = sign_in(channel, shop, "serviceAccounts/admin", scopes=["events.read", "customers.read"])
    stream = Watch(reader)
    shop.product()
    customer = shop.customer()
    assert stream.take(1)[0].resource == customer.name
    stream.close()
    blind = Watch(sign_in(channel, shop, "serviceAccounts/admin", scopes=["events.read"]), heartbeat_s=1)
    shop.customer()
    assert not [blind.receive().events for _ in range(2) if blind.receive().events]
    blind.close()


def test_revoked_key_ends_its_watch(channel: grpc.Channel, shop: Shop):
    account = make_account(shop, permissions=["events.read", "customers.read"])
    key = make_key(shop, account)
    stream = Watch(Shop(channel, api_key=key.secret))
    shop.auth.RevokeApiKey(auth_pb2.RevokeApiKeyRequest(name=key.api_key.name))
    refusal = await_end(stream)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")
    assert Watch(shop, cursor=refusal.metadata["cursor"]).cursor


def test_changed_role_changes_what_a_watch_gets(channel: grpc.Channel, shop: Shop):
    role = make_role(shop, ["customers.read"])
    account = make_account(shop, permissions=["events.read"], roles=[role])
    stream = Watch(Shop(channel, api_key=make_key(shop, account).secret), heartbeat_s=1)
    stored = shop.auth.GetServiceAccount(auth_pb2.GetServiceAccountRequest(name=account))
    stored.roles.remove(role)
    shop.auth.UpdateServiceAccount(
        auth_pb2.UpdateServiceAccountRequest(service_account=stored, update_mask={"paths": ["roles"]})
    )
    give_up = time.monotonic() + END_TIMEOUT_S
    while True:
        customer = shop.customer()
        responses = [stream.receive(), stream.receive()]
        if customer.name not in [event.resource for response in responses for event in response.events]:
            break
        assert time.monotonic() < give_up
    stream.close()


def test_expired_token_ends_its_watch(make_server: MakeServer):
    server = make_server(access_token_lifetime_s="10")
    with grpc.insecure_channel(server.address) as channel:
        refusal = await_end(Watch(Shop(channel, api_key=server.admin_key)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
    assert refusal.metadata["cursor"]


@pytest.mark.parametrize(
    "limit", ["event_watchers_max", "event_watchers_per_address_max", "event_watchers_per_key_max"]
)
def test_watcher_above_a_limit_is_refused_until_another_ends(make_server: MakeServer, limit: str):
    server = make_server(**{limit: "2"})
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        first, second = Watch(shop), Watch(shop)
        with refused("TOO_MANY_WATCHERS") as refusal:
            Watch(shop)
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal.metadata["limit"].startswith("watchers")
        first.close()
        give_up = time.monotonic() + END_TIMEOUT_S
        while True:
            try:
                third = Watch(shop)
                break
            except grpc.RpcError:
                assert time.monotonic() < give_up
        name = shop.customer().name
        assert [watch.take(1)[0].resource for watch in (second, third)] == [name, name]


def test_shutdown_ends_watches_with_their_cursor_and_they_continue_after_it(make_server: MakeServer):
    server = make_server()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        stream = Watch(shop)
        shop.customer()
        stream.take(1)
        assert server.stop() == 0
        refusal = await_end(stream)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        assert refusal.metadata["cursor"] == stream.cursor
        server.start()
    with grpc.insecure_channel(server.address) as channel:
        again = Shop(channel, api_key=server.admin_key)
        name = again.customer().name
        assert Watch(again, cursor=refusal.metadata["cursor"]).take(1)[0].resource == name


def test_watcher_that_does_not_read_is_cut_off_and_others_are_not_held_back(make_server: MakeServer):
    server = make_server(event_read_timeout_s="1")
    options = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536))
    with grpc.insecure_channel(server.address) as channel, grpc.insecure_channel(server.address, options) as own:
        shop = Shop(channel, api_key=server.admin_key)
        labels = {f"label{number}": "x" * 60 for number in range(50)}
        names = [shop.customer(labels=labels).name for _ in range(200)]
        start = Timestamp(seconds=0)
        slow = Watch(Shop(own, api_key=server.admin_key), start_time=start, event_types=["customer.created"])
        quick = Watch(shop, start_time=start, event_types=["customer.created"])
        assert [event.resource for event in quick.take(200)] == names
        server.await_log("does not read its events")
        received, code = read_to_end(slow)
        assert code is grpc.StatusCode.ABORTED
        assert received == names[: len(received)]
        assert len(received) < len(names)
        rest = Watch(shop, cursor=slow.cursor, event_types=["customer.created"])
        assert [event.resource for event in rest.take(len(names) - len(received))] == names[len(received) :]
        last = shop.customer().name
        assert quick.take(1)[0].resource == last


def test_events_beyond_the_retention_are_refused_with_the_oldest_cursor(make_server: MakeServer):
    server = make_server(event_retention_days=str(3 / 86_400))
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        shop.customer()
        time.sleep(3.5)
        shop.customer()
        old = forge_cursor(server, 1)
        with refused("EVENTS_EXPIRED") as refusal:
            Watch(shop, cursor=old)
        assert refusal.code is grpc.StatusCode.OUT_OF_RANGE
        with refused("EVENTS_EXPIRED"):
            shop.events.ListEvents(pb.ListEventsRequest(cursor=old))
        with refused("EVENTS_EXPIRED"):
            shop.events.GetEvent(pb.GetEventRequest(name="events/1"))
        oldest = refusal.metadata["oldest_cursor"]
        stream = Watch(shop, cursor=oldest)
        kept = Watch(shop, start_time=Timestamp(seconds=0))
        name = shop.customer(display_name="Newest").name
        assert name in [event.resource for event in stream.take(2)]
        assert kept.take(1)
        events = shop.events.ListEvents(pb.ListEventsRequest(cursor=oldest)).events
        assert events == shop.events.ListEvents(pb.ListEventsRequest()).events
        assert shop.audit.VerifyAuditChain(audit_pb2.VerifyAuditChainRequest()).valid


def test_cursor_after_the_newest_event_is_refused(server: ServerProcess, shop: Shop):
    shop.customer()
    with refused("HISTORY_CHANGED") as refusal:
        Watch(shop, cursor=forge_cursor(server, 10**9))
    assert Watch(shop, cursor=refusal.metadata["oldest_cursor"]).take(1) == [list_oldest(shop)]


def lose_newest_event(server: ServerProcess) -> None:
    with server.database.unguarded() as session:
        session.run("DELETE FROM audit_entries WHERE sequence = (SELECT MAX(sequence) FROM audit_entries)")


def replace_newest_event(server: ServerProcess, shop: Shop) -> tuple[str, str, str]:
    """Lose an event and write another one with its sequence, as a failover to a late replica does.

    Returns: the cursors of the event before it and of the lost one, and the resource of the new one.
    """
    shop.customer()
    shop.customer()
    before, lost = list(shop.events.ListEvents(pb.ListEventsRequest(page_size=1000)).events)[-2:]
    lose_newest_event(server)
    name = shop.customer().name
    (event,) = shop.events.ListEvents(pb.ListEventsRequest(cursor=before.cursor)).events
    assert (event.name, event.resource) == (lost.name, name)
    assert event.cursor != lost.cursor
    return before.cursor, lost.cursor, name


def test_cursor_of_a_lost_event_is_refused_after_another_got_its_sequence(make_server: MakeServer):
    server = make_server()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        before, lost, name = replace_newest_event(server, shop)
        with refused("HISTORY_CHANGED") as refusal:
            Watch(shop, cursor=lost)
        assert refusal.code is grpc.StatusCode.OUT_OF_RANGE
        with refused("HISTORY_CHANGED"):
            shop.events.ListEvents(pb.ListEventsRequest(cursor=lost))
        with refused("HISTORY_CHANGED"):
            shop.events.ListEvents(pb.ListEventsRequest(cursor=lost, order_by="sequence desc"))
        assert Watch(shop, cursor=before).take(1)[0].resource == name
        assert Watch(shop, cursor=refusal.metadata["oldest_cursor"]).take(1) == [list_oldest(shop)]


def test_client_whose_last_event_was_lost_reports_it_instead_of_missing_another(make_server: MakeServer):
    server = make_server()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        name = client.customers.create(Customer(display_name="Lost")).name
        with client.events.watch(start_time=datetime.fromtimestamp(0, UTC), event_types=["customer.*"]) as stream:
            assert next(stream).resource == name
            lose_newest_event(server)
            client.customers.create(Customer(display_name="New"))
            with pytest.raises(HistoryChanged):
                next(stream)


def test_cursor_of_an_older_release_is_accepted(server: ServerProcess, shop: Shop):
    name = shop.customer().name
    newest = shop.events.ListEvents(pb.ListEventsRequest(order_by="sequence desc", page_size=1)).events[0]
    keyring: Any = _Keyring(server)
    sequence = int(newest.name.removeprefix("events/"))
    old = PageTokens(keyring).write(CURSOR, [sequence - 1])
    assert Watch(shop, cursor=old).take(1)[0].resource == name
    assert shop.events.ListEvents(pb.ListEventsRequest(cursor=old)).events == [newest]


def test_dry_run_wakes_no_watcher(shop: Shop):
    stream = Watch(shop, heartbeat_s=1)
    shop.customers.CreateCustomer(
        customers_pb2.CreateCustomerRequest(customer={"display_name": "Dry"}, validate_only=True)
    )
    name = shop.customer().name
    assert stream.take(1)[0].resource == name
    stream.close()


def test_heartbeats_come_in_the_requested_interval(shop: Shop):
    stream = Watch(shop, heartbeat_interval=Duration(seconds=1))
    began = time.monotonic()
    for _ in range(3):
        assert not stream.receive().events
    assert time.monotonic() - began > 2.5
    stream.close()
