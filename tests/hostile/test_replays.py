"""Stored replies: they belong to the key that made the call, and nobody who may not make it now gets one."""

from __future__ import annotations

import grpc
import pytest

from storekeep.v1 import audit_pb2
from storekeep.v1 import auth_pb2 as pb
from tests.hostile.accounts import MANAGER, key_request, make_account, sign_in
from tests.processes import ServerProcess
from tests.records import Records
from tests.refusals import refusal, refused
from tests.shops import Shop, new_id

ADMIN = "serviceAccounts/admin"


@pytest.fixture(scope="module")
def admin(server: ServerProcess, channel: grpc.Channel) -> Shop:
    """The administrator."""
    return Shop(channel, api_key=server.admin_key)


@pytest.fixture(scope="module")
def manager(admin: Shop, channel: grpc.Channel) -> Shop:
    """Somebody who looks after accounts, and holds nothing else."""
    return sign_in(channel, admin, make_account(admin, permissions=MANAGER))


@pytest.fixture(scope="module")
def records(server: ServerProcess) -> Records:
    """What the database holds."""
    return Records(server.database)


# -- the attack: a limited key becomes administrator by replaying a stored reply


def test_replaying_the_administrators_key_request_through_a_limited_key_gives_no_secret(
    admin: Shop, manager: Shop, channel: grpc.Channel
):
    made = key_request(ADMIN)
    admin.auth.CreateApiKey(made)
    limited = key_request(ADMIN, scopes=MANAGER)
    assert refusal(manager.auth.CreateApiKey, limited).reason == "PRIVILEGE_ESCALATION"
    inside = sign_in(channel, admin, ADMIN, scopes=MANAGER)  # as if it had come by one in another way
    with refused("PRIVILEGE_ESCALATION"):
        inside.auth.CreateApiKey(made)


def test_request_ids_of_calls_that_make_secrets_are_shown_to_nobody(admin: Shop):
    request = key_request(ADMIN)
    made = admin.auth.CreateApiKey(request).api_key
    rotation = pb.RotateApiKeyRequest(name=made.name, request_id=key_request(ADMIN).request_id)
    admin.auth.RotateApiKey(rotation)
    entries = admin.audit.ListAuditEntries(
        audit_pb2.ListAuditEntriesRequest(filter=f'resource = "{made.name}"')
    ).audit_entries
    assert len(entries) == 2
    assert {entry.request_id for entry in entries} == {""}
    for sent in (request, rotation):
        asked = audit_pb2.ListAuditEntriesRequest(filter=f'request_id = "{sent.request_id}"')
        assert not admin.audit.ListAuditEntries(asked).audit_entries
