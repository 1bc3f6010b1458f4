"""The audit log over the wire: callers, changes, and the detection of tampering."""

from __future__ import annotations

import grpc
import pytest

from storekeep.server.domain.audit import log as audit
from storekeep.v1 import audit_pb2 as pb
from storekeep.v1 import auth_pb2
from tests.support.installations import new_request_id

SERVICE = "storekeep.v1.AuthService"


@pytest.fixture
def shop(admin):
    """Return the request ids of an account's creation and of its update."""
    made, renamed = new_request_id(), new_request_id()
    account = auth_pb2.ServiceAccount(name="serviceAccounts/shop", display_name="Shop", roles=["roles/viewer"])
    create = auth_pb2.CreateServiceAccountRequest(service_account=account, service_account_id="shop", request_id=made)
    admin("CreateServiceAccount", create)
    account.display_name = "Store"
    admin("UpdateServiceAccount", auth_pb2.UpdateServiceAccountRequest(service_account=account, request_id=renamed))
    return made, renamed


def entries(caller, **options):
    return list(caller("ListAuditEntries", pb.ListAuditEntriesRequest(**options)).audit_entries)


def verify(caller):
    return caller("VerifyAuditChain", pb.VerifyAuditChainRequest())


def tamper(installation, *statements, value=b"{}"):
    """Change the log directly in the database, with its triggers off."""
    with installation.database.unguarded() as session:
        for statement in statements:
            values = [value] * statement.count("?")
            assert session.run(statement, *values) > 0


def test_list_audit_entries_says_who_what_when_before_and_after(admin, shop):
    renamed, made = entries(admin, filter='resource = "serviceAccounts/shop"')
    assert made.actor == renamed.actor == "serviceAccounts/admin"
    assert (made.method, renamed.method) == (f"{SERVICE}/CreateServiceAccount", f"{SERVICE}/UpdateServiceAccount")
    assert (made.request_id, renamed.request_id) == shop
    assert not made.HasField("before")
    assert made.after["display_name"] == renamed.before["display_name"] == "Shop"
    assert renamed.after["display_name"] == "Store"
    assert renamed.after["disabled"] is False
    assert list(renamed.after["roles"]) == ["viewer"]
    assert renamed.create_time.ToNanoseconds() >= made.create_time.ToNanoseconds()
    assert renamed.previous_hash != bytes(32)


def test_issue_token_leaves_an_entry_of_its_account(admin, installation):
    entry = entries(admin, filter=f'method = "{SERVICE}/IssueToken"')[0]
    assert entry.actor == "serviceAccounts/admin"
    assert entry.resource.startswith("serviceAccounts/admin/sessions/")
    assert entry.after["api_key"].startswith("serviceAccounts/admin/apiKeys/bootstrap-")


def test_bootstrap_is_audited_as_the_system(admin):
    first = entries(admin, order_by="sequence")[0]
    assert (first.sequence, first.actor, first.previous_hash) == (1, "system/bootstrap", bytes(32))


def test_get_audit_entry_gives_what_the_list_gives(admin, shop):
    newest = entries(admin)[0]
    assert admin("GetAuditEntry", pb.GetAuditEntryRequest(name=newest.name)) == newest


@pytest.mark.parametrize("column", ["before", "after"])
@pytest.mark.parametrize("value", [b"{", b"[1]", b'"x"', b"\xff"])
def test_audit_entry_that_cannot_be_read_is_data_loss_and_named(admin, installation, shop, column, value):
    newest = entries(admin)[0]
    tamper(installation, f"UPDATE audit_entries SET {column} = ? WHERE sequence = {newest.sequence}", value=value)
    for method, request in (
        ("GetAuditEntry", pb.GetAuditEntryRequest(name=newest.name)),
        ("ListAuditEntries", pb.ListAuditEntriesRequest()),
    ):
        refusal = admin.refusal(method, request)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.DATA_LOSS, "AUDIT_ENTRY_UNREADABLE")
        assert refusal.metadata["resource"] == newest.name
    assert verify(admin).first_broken_entry == newest.name


@pytest.mark.engine("sqlite", reason="PostgreSQL keeps every text in UTF-8")
def test_audit_entry_with_text_that_is_not_utf8_is_data_loss(admin, installation, shop):
    newest = entries(admin)[0]
    tamper(installation, f"UPDATE audit_entries SET actor = CAST(x'ff' AS TEXT) WHERE sequence = {newest.sequence}")
    for method, request in (
        ("GetAuditEntry", pb.GetAuditEntryRequest(name=newest.name)),
        ("ListAuditEntries", pb.ListAuditEntriesRequest()),
    ):
        assert admin.refusal(method, request).reason == "AUDIT_ENTRY_UNREADABLE"


@pytest.mark.parametrize("sequence", ["0", "999", "9" * 19])
def test_get_audit_entry_that_is_not_there_is_refused(admin, sequence):
    refusal = admin.refusal("GetAuditEntry", pb.GetAuditEntryRequest(name=f"auditEntries/{sequence}"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "AUDIT_ENTRY_NOT_FOUND")


def test_list_audit_entries_page_by_page_newest_first(admin, shop):
    request = pb.ListAuditEntriesRequest(page_size=2)
    sequences = []
    while True:
        page = admin("ListAuditEntries", request)
        sequences += [entry.sequence for entry in page.audit_entries]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert sequences == list(range(len(sequences), 0, -1))
    assert len(sequences) >= 8


def test_list_audit_entries_filters_by_each_field(admin, shop):
    one = entries(admin, filter=f'request_id = "{shop[0]}"')[0]
    assert entries(admin, filter=f"sequence = {one.sequence}") == [one]
    assert one in entries(admin, filter='create_time > "2020-01-01T00:00:00Z"')
    assert one not in entries(admin, filter="actor = system/bootstrap")
    refusal = admin.refusal("ListAuditEntries", pb.ListAuditEntriesRequest(filter="before = x"))
    assert refusal.reason == "INVALID_FILTER"
    refusal = admin.refusal("ListAuditEntries", pb.ListAuditEntriesRequest(order_by="actor"))
    assert refusal.reason == "INVALID_ORDER_BY"


def test_audit_log_needs_its_permission(admin):
    viewer = admin.make_account("viewer", roles=["viewer"])
    assert viewer.refusal("ListAuditEntries", pb.ListAuditEntriesRequest()).reason == "PERMISSION_DENIED"
    assert viewer.refusal("VerifyAuditChain", pb.VerifyAuditChainRequest()).reason == "PERMISSION_DENIED"


def test_verify_audit_chain_of_an_untouched_log_is_valid(admin, shop):
    newest = entries(admin)[0]
    report = verify(admin)
    assert (report.valid, report.first_broken_entry, report.problem) == (True, "", "")
    assert (report.entries_checked, report.head_hash) == (newest.sequence, newest.entry_hash)


CHANGES = {
    "time": "UPDATE audit_entries SET create_time_us = create_time_us + 1 WHERE sequence = 6",
    "type": "UPDATE audit_entries SET type = 'role.deleted' WHERE sequence = 6",
    "actor": "UPDATE audit_entries SET actor = 'serviceAccounts/somebody' WHERE sequence = 6",
    "method": "UPDATE audit_entries SET method = 'system/Other' WHERE sequence = 6",
    "resource": "UPDATE audit_entries SET resource = 'roles/other' WHERE sequence = 6",
    "request_id": "UPDATE audit_entries SET request_id = '00000000-0000-4000-8000-000000000000' WHERE sequence = 6",
    "api_key": "UPDATE audit_entries SET api_key = 'serviceAccounts/admin/apiKeys/x' WHERE sequence = 6",
    "session_id": "UPDATE audit_entries SET session_id = 'x' WHERE sequence = 6",
    "before": "UPDATE audit_entries SET before = ? WHERE sequence = 6",
    "after": "UPDATE audit_entries SET after = ? WHERE sequence = 6",
    "no after": "UPDATE audit_entries SET after = NULL WHERE sequence = 6",
    "before for after": "UPDATE audit_entries SET before = after, after = before WHERE sequence = 6",
    "hash": "UPDATE audit_entries SET entry_hash = ? WHERE sequence = 6",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_verify_audit_chain_finds_a_changed_entry(admin, installation, shop, change):
    tamper(installation, change)
    report = verify(admin)
    assert (report.valid, report.first_broken_entry) == (False, "auditEntries/6")
    assert report.problem == "it was changed after it was written"


def test_verify_audit_chain_finds_a_missing_entry(admin, installation, shop):
    tamper(installation, "DELETE FROM audit_entries WHERE sequence = 5")
    report = verify(admin)
    assert (report.valid, report.first_broken_entry) == (False, "auditEntries/5")
    assert report.problem == "it is missing; the next existing entry is auditEntries/6"


def test_verify_audit_chain_finds_a_cut_beginning(admin, installation, shop):
    tamper(installation, "DELETE FROM audit_entries WHERE sequence <= 3")
    report = verify(admin)
    assert (report.valid, report.first_broken_entry) == (False, "auditEntries/1")
    assert "up to 3 are missing" in report.problem


def test_verify_audit_chain_finds_entries_renumbered_over_a_gap(admin, installation, shop):
    tamper(
        installation,
        "DELETE FROM audit_entries WHERE sequence = 5",
        # Two steps, because PostgreSQL checks for duplicate keys after each row.
        "UPDATE audit_entries SET sequence = 1 - sequence WHERE sequence > 5",
        "UPDATE audit_entries SET sequence = -sequence WHERE sequence < 0",
    )
    report = verify(admin)
    assert (report.first_broken_entry, report.problem) == ("auditEntries/5", "its previous_hash does not match")


def test_verify_audit_chain_walks_in_chunks(admin, installation, shop, monkeypatch):
    monkeypatch.setattr(audit, "CHUNK_ROWS", 3)
    report = verify(admin)
    assert report.valid
    assert report.entries_checked == entries(admin)[0].sequence
