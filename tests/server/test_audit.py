"""The audit log over the wire: who did what, and a chain that shows each kind of tampering."""

from __future__ import annotations

import grpc
import pytest

from storekeep.server.domain import audit
from storekeep.server.store.statements import Statement
from storekeep.v1 import audit_pb2 as pb
from storekeep.v1 import auth_pb2
from tests.server.installations import new_request_id

SERVICE = "storekeep.v1.AuthService"


@pytest.fixture
def shop(admin):
    """The request ids of an account's creation and of its renaming."""
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
    def work(tx):
        for statement in statements:
            assert Statement(statement).change(tx, value=value) > 0

    installation.store.write(work)


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
    "actor": "UPDATE audit_entries SET actor = 'serviceAccounts/somebody' WHERE sequence = 5",
    "after": "UPDATE audit_entries SET after = :value WHERE sequence = 5",
    "before": "UPDATE audit_entries SET before = :value WHERE sequence = 5",
    "time": "UPDATE audit_entries SET create_time_us = create_time_us + 1 WHERE sequence = 5",
    "hash": "UPDATE audit_entries SET entry_hash = :value WHERE sequence = 5",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_verify_audit_chain_finds_a_changed_entry(admin, installation, shop, change):
    tamper(installation, change)
    report = verify(admin)
    assert (report.valid, report.first_broken_entry) == (False, "auditEntries/5")
    assert report.problem == "it was changed after it was written"


def test_verify_audit_chain_finds_an_entry_rewritten_with_its_hash(admin, installation, shop):
    entry = audit.get_entry(installation.store, 5)
    change = audit.AuditedChange(entry.create_time_us, entry.type, "me", entry.method, entry.resource, entry.request_id)
    forged = change.chain(entry.previous_hash, entry.before, entry.after)
    tamper(installation, "UPDATE audit_entries SET actor = 'me', entry_hash = :value WHERE sequence = 5", value=forged)
    report = verify(admin)
    assert (report.valid, report.first_broken_entry) == (False, "auditEntries/6")
    assert report.problem == "it does not follow the entry before it"


def test_verify_audit_chain_finds_a_missing_entry(admin, installation, shop):
    tamper(installation, "DELETE FROM audit_entries WHERE sequence = 5")
    report = verify(admin)
    assert (report.valid, report.first_broken_entry) == (False, "auditEntries/5")
    assert report.problem == "it is missing; the next entry there is auditEntries/6"


def test_verify_audit_chain_finds_a_cut_beginning(admin, installation, shop):
    tamper(installation, "DELETE FROM audit_entries WHERE sequence <= 3")
    report = verify(admin)
    assert (report.valid, report.first_broken_entry) == (False, "auditEntries/1")
    assert "up to 3 are missing" in report.problem


def test_verify_audit_chain_finds_entries_renumbered_over_a_gap(admin, installation, shop):
    tamper(
        installation,
        "DELETE FROM audit_entries WHERE sequence = 5",
        # By a way around: PostgreSQL looks for the same key after each row.
        "UPDATE audit_entries SET sequence = 1 - sequence WHERE sequence > 5",
        "UPDATE audit_entries SET sequence = -sequence WHERE sequence < 0",
    )
    report = verify(admin)
    assert (report.first_broken_entry, report.problem) == ("auditEntries/5", "it does not follow the entry before it")


def test_verify_audit_chain_walks_in_chunks(admin, installation, shop, monkeypatch):
    monkeypatch.setattr(audit, "CHUNK_ROWS", 3)
    report = verify(admin)
    assert report.valid
    assert report.entries_checked == entries(admin)[0].sequence
