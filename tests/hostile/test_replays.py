"""Stored replies belong to the key that made the call, and are returned only while it may still make it."""

from __future__ import annotations

from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.message import Message

from storekeep.server.transport.contract import SERVICES, read_contract
from storekeep.v1 import audit_pb2, options_pb2, products_pb2
from storekeep.v1 import auth_pb2 as pb
from tests.conftest import MakeServer
from tests.support.hostile.accounts import ALL, MANAGER, key_request, make_account, make_key, make_role, sign_in
from tests.support.hostile.calls import ACCESS, MAKES_SECRETS, PATHS, PREPARED, with_request_id
from tests.support.records import Records
from tests.support.refusals import refusal, refused
from tests.support.shops import Shop, new_request_id

ADMIN = "serviceAccounts/admin"
GIVE_UP_S = 60.0
EVERYTHING = sorted(read_contract().permissions)


class Recorded(NamedTuple):
    """A mutation that succeeded."""

    rpc: str
    request: Any
    reply: Message


@pytest.fixture(scope="module")
def manager(admin: Shop, channel: grpc.Channel) -> Shop:
    """Sign in as an account manager without other permissions."""
    return sign_in(channel, admin, make_account(admin, permissions=MANAGER))


@pytest.fixture(scope="module")
def account(admin: Shop) -> str:
    """Create an account with all permissions, by a role that tests may change."""
    return make_account(admin, permissions=EVERYTHING)


@pytest.fixture(scope="module")
def owner(admin: Shop, channel: grpc.Channel, account: str) -> Shop:
    """Sign in as the caller whose calls are replayed."""
    return sign_in(channel, admin, account, scopes=ALL)


@pytest.fixture(scope="module")
def recorded(owner: Shop) -> list[Recorded]:
    """Call each mutation of the contract once."""
    calls = [(rpc, with_request_id(prepare(owner))) for rpc, prepare in PREPARED.items()]
    return [Recorded(rpc, request, owner.stub(rpc)(request)) for rpc, request in calls]


def effects(records: Records) -> tuple[int, int]:
    """Return the number of audit entries and of stored replies."""
    return records.last_sequence(), int(records.value("SELECT COUNT(*) FROM replies"))


# -- the attack: a limited key becomes administrator by replaying a stored reply


def test_replaying_the_administrators_key_request_through_a_limited_key_gives_no_secret(
    admin: Shop, manager: Shop, channel: grpc.Channel
):
    made = key_request(ADMIN)
    admin.auth.CreateApiKey(made)
    limited = key_request(ADMIN, scopes=MANAGER)
    assert refusal(manager.auth.CreateApiKey, limited).reason == "PRIVILEGE_ESCALATION"
    inside = sign_in(channel, admin, ADMIN, scopes=MANAGER)  # as if it had obtained a key in another way
    with refused("PRIVILEGE_ESCALATION"):
        inside.auth.CreateApiKey(made)


def test_request_ids_of_calls_that_make_secrets_are_shown_to_nobody(admin: Shop):
    request = key_request(ADMIN)
    made = admin.auth.CreateApiKey(request).api_key
    rotation = pb.RotateApiKeyRequest(name=made.name, request_id=new_request_id())
    admin.auth.RotateApiKey(rotation)
    entries = admin.audit.ListAuditEntries(
        audit_pb2.ListAuditEntriesRequest(filter=f'resource = "{made.name}"')
    ).audit_entries
    assert len(entries) == 2
    assert {entry.request_id for entry in entries} == {""}
    for sent in (request, rotation):
        asked = audit_pb2.ListAuditEntriesRequest(filter=f'request_id = "{sent.request_id}"')
        assert not admin.audit.ListAuditEntries(asked).audit_entries


WITHOUT_ENTRIES = {"ReconcileStock"}
"""The recorded repair is not needed, so it changes nothing."""


def test_audit_log_shows_the_request_ids_of_all_calls_but_those_that_make_secrets(
    admin: Shop, recorded: list[Recorded]
):
    hidden = set()
    for call in recorded:
        asked = audit_pb2.ListAuditEntriesRequest(filter=f'request_id = "{call.request.request_id}"')
        if not admin.audit.ListAuditEntries(asked).audit_entries:
            hidden.add(call.rpc)
    assert hidden - WITHOUT_ENTRIES == set(MAKES_SECRETS)


# -- the proof: each recorded call, sent again by each other credential


def test_every_mutation_of_the_contract_is_recorded():
    methods = [method for service in SERVICES for method in service.methods]
    mutations = {method.name for method in methods if method.GetOptions().Extensions[options_pb2.mutation]}
    assert set(PREPARED) == mutations
    assert {PATHS[rpc] for rpc in ACCESS} == {
        path for path, method in read_contract().methods.items() if method.permission == "accounts.write"
    }


def test_replay_by_the_key_that_made_the_call_gives_its_reply_and_does_nothing(
    owner: Shop, recorded: list[Recorded], records: Records
):
    before = effects(records)
    for call in recorded:
        assert owner.stub(call.rpc)(call.request) == call.reply, call.rpc
    assert effects(records) == before


def test_replay_in_another_session_of_the_same_key_gives_the_reply_and_by_its_successor_nothing(
    admin: Shop, channel: grpc.Channel, account: str, records: Records
):
    key = make_key(admin, account, scopes=ALL)
    order = with_request_id(admin.order_request())
    placed = Shop(channel, api_key=key.secret).orders.PlaceOrder(order)
    successor = admin.auth.RotateApiKey(pb.RotateApiKeyRequest(name=key.api_key.name)).secret
    before = effects(records)
    assert Shop(channel, api_key=key.secret).orders.PlaceOrder(order) == placed  # as after a client restart
    with refused("REQUEST_ID_REUSED"):
        Shop(channel, api_key=successor).orders.PlaceOrder(order)
    signed_in = 2
    assert effects(records) == (before[0] + signed_in, before[1])


OTHERS = ("nobody", "another key", "a scoped key", "a viewer", "a manager", "a revoked key")


@pytest.fixture(scope="module")
def tokens(admin: Shop, channel: grpc.Channel, account: str, manager: Shop) -> dict[str, str]:
    """Create other credentials, by kind."""
    revoked = make_key(admin, account, scopes=ALL)
    tokens = {
        "nobody": "",
        "another key": sign_in(channel, admin, account, scopes=ALL).token,
        "a scoped key": sign_in(
            channel, admin, account, scopes=["accounts.write", "orders.write", "stock.write"]
        ).token,
        "a viewer": sign_in(channel, admin, make_account(admin, roles=["roles/viewer"])).token,
        "a manager": manager.token,
        "a revoked key": Shop(channel, api_key=revoked.secret).token,
    }
    admin.auth.RevokeApiKey(pb.RevokeApiKeyRequest(name=revoked.api_key.name))
    return tokens


REASONS = {
    "nobody": {"UNAUTHENTICATED"},
    "another key": {"REQUEST_ID_REUSED"},
    "a scoped key": {"REQUEST_ID_REUSED", "PERMISSION_DENIED", "PRIVILEGE_ESCALATION"},
    "a viewer": {"PERMISSION_DENIED"},
    "a manager": {"PERMISSION_DENIED", "PRIVILEGE_ESCALATION", "ROLE_NOT_FOUND"},
    "a revoked key": {"TOKEN_REVOKED"},
}
"""Accepted error reasons per credential; a manager may also hit privileges it lacks or a deleted role."""


def replay(channel: grpc.Channel, call: Recorded, token: str) -> str:
    """Replay a call with a token; return the error reason, or an empty text if it succeeds."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    send = channel.unary_unary(PATHS[call.rpc])
    outcome = refusal(send, call.request.SerializeToString(), timeout=GIVE_UP_S, metadata=metadata)
    return "" if outcome is None else outcome.reason


@pytest.mark.parametrize("other", OTHERS)
def test_replay_by_any_other_credential_has_no_effect_and_no_reply(
    channel: grpc.Channel, recorded: list[Recorded], records: Records, tokens: dict[str, str], other: str
):
    before = effects(records)
    outcomes = {call.rpc: replay(channel, call, tokens[other]) for call in recorded}
    assert {rpc: reason for rpc, reason in outcomes.items() if reason not in REASONS[other]} == {}
    assert effects(records) == before


def test_another_account_that_may_do_as_much_is_given_no_secret_of_a_stored_reply(
    channel: grpc.Channel, admin: Shop, recorded: list[Recorded]
):
    peer = sign_in(channel, admin, make_account(admin, permissions=EVERYTHING), scopes=ALL)
    calls = {call.rpc: call for call in recorded if call.rpc in MAKES_SECRETS}
    with refused("ALREADY_EXISTS"):
        peer.auth.CreateApiKey(calls["CreateApiKey"].request)
    rotated = peer.auth.RotateApiKey(calls["RotateApiKey"].request)  # the old key still works and is rotated again
    assert rotated.secret != calls["RotateApiKey"].reply.secret
    linked = peer.users.CreatePasswordLink(calls["CreatePasswordLink"].request)  # the earlier token stops working
    assert linked.link_token != calls["CreatePasswordLink"].reply.link_token
    with refused("ALREADY_EXISTS"):
        peer.webhooks.CreateWebhookEndpoint(calls["CreateWebhookEndpoint"].request)
    rotated = peer.webhooks.RotateWebhookSecret(calls["RotateWebhookSecret"].request)
    assert rotated.secret != calls["RotateWebhookSecret"].reply.secret


def test_same_request_of_another_account_is_a_call_of_its_own(admin: Shop, channel: grpc.Channel):
    peer = sign_in(channel, admin, make_account(admin, permissions=EVERYTHING), scopes=ALL)
    order = with_request_id(admin.order_request())
    assert admin.orders.PlaceOrder(order).name != peer.orders.PlaceOrder(order).name
    for rpc in ("CreateProduct", "CreateServiceAccount", "CreateApiKey"):
        request = with_request_id(PREPARED[rpc](admin))
        admin.stub(rpc)(request)
        with refused("ALREADY_EXISTS"):  # not the stored reply, and no hint that one exists
            peer.stub(rpc)(request)


def test_same_request_of_another_method_is_a_call_of_its_own(admin: Shop):
    request_id = new_request_id()
    name = admin.product().name
    archive = products_pb2.ArchiveProductRequest(name=name, request_id=request_id)
    undelete = products_pb2.UndeleteProductRequest(name=name, request_id=request_id)
    assert archive.SerializeToString() == undelete.SerializeToString()
    archived = admin.products.ArchiveProduct(archive)
    with refused("RESOURCE_NOT_DELETED"):
        admin.products.UndeleteProduct(undelete)
    admin.products.UnarchiveProduct(products_pb2.UnarchiveProductRequest(name=name, request_id=request_id))
    assert admin.products.ArchiveProduct(archive) == archived


def test_dry_run_of_another_key_reveals_nothing_of_the_stored_reply(
    admin: Shop, channel: grpc.Channel, account: str, recorded: list[Recorded]
):
    other = sign_in(channel, admin, account, scopes=ALL)
    for call in recorded:
        dry_run = type(call.request)()
        dry_run.CopyFrom(call.request)
        dry_run.validate_only = True
        assert refusal(other.stub(call.rpc), dry_run).reason == "REQUEST_ID_REUSED", call.rpc


# -- secrets are kept for minutes


def test_secrets_are_shown_again_within_their_window_only(make_server: MakeServer):
    server = make_server(secret_reply_retention_s="0")
    with grpc.insecure_channel(server.address) as channel:
        admin = Shop(channel, api_key=server.admin_key)
        calls = [(rpc, with_request_id(PREPARED[rpc](admin))) for rpc in MAKES_SECRETS]
        for rpc, request in calls:
            admin.stub(rpc)(request)
        before = Records(server.database).last_sequence()
        for rpc, request in calls:
            with refused("REPLY_EXPIRED") as refusal:
                admin.stub(rpc)(request)
            assert refusal.metadata["resource"], rpc
        assert Records(server.database).last_sequence() == before


# -- callers that lost the permission: last, because they change the account that made the calls


def test_replay_by_the_same_key_without_the_permissions_any_more_has_no_effect_and_no_reply(
    admin: Shop, owner: Shop, channel: grpc.Channel, account: str, recorded: list[Recorded], records: Records
):
    poor = make_role(admin, MANAGER)
    change = pb.ServiceAccount(name=account, display_name="Poor", roles=[poor])
    admin.auth.UpdateServiceAccount(pb.UpdateServiceAccountRequest(service_account=change))
    before = effects(records)
    outcomes = {call.rpc: replay(channel, call, owner.token) for call in recorded}
    allowed = {"PERMISSION_DENIED", "PRIVILEGE_ESCALATION"}
    assert {rpc: reason for rpc, reason in outcomes.items() if reason not in allowed} == {}
    assert effects(records) == before
