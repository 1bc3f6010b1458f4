"""Forgeries of the audit log by an attacker with the database and an old secret, but without the current secret."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from contextlib import closing

import apsw
import msgspec
import pytest

from storekeep.server.domain.access.bootstrap import reset_secret, rotate_secret
from storekeep.server.domain.access.permissions import AccessVersion
from storekeep.server.domain.access.signing_keys import SigningKeys
from storekeep.server.domain.audit.checkpoints import (
    Checkpoint,
    InvalidCheckpoint,
    find_latest_checkpoint,
    format_checkpoint,
    parse_checkpoint,
    sign_head,
)
from storekeep.server.domain.audit.log import AuditEntry, ChainReport, verify_chain
from storekeep.server.domain.integrity.audited_rows import check_rows
from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.keys.audit_chain import AuditChain, ChainKeysRemoved, format_owner, prepare_key
from storekeep.server.domain.keys.encryption import SecretBox
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.store.engine import Store
from storekeep.v1 import audit_pb2 as pb
from storekeep.v1 import auth_pb2
from tests.support.databases import Database, Session
from tests.support.installations import SECRET, Caller, Installation
from tests.support.placing import CALL
from tests.support.stores import open_store

NEW_SECRET = b"the next secret of these tests, of 32 bytes and more"
FIELDS = (
    "sequence, create_time_us, type, actor, method, resource, request_id, previous_hash, entry_hash, before, after,"
    " api_key, session_id"
)


one_engine = pytest.mark.engine("sqlite", reason="both engines store the same rows")


class Thing(msgspec.Struct, frozen=True):
    """A resource for audit entries."""

    id: str

    @property
    def name(self) -> str:
        return f"things/{self.id}"


def write_entries(store: Store, count: int) -> None:
    def effect(mutation: Mutation) -> None:
        for number in range(count):
            mutation.record("thing.made", before=None, after=Thing(str(number)))

    mutate(store, CALL, effect, type(None))


def check(database: Database, keyring: Keyring | None = None, *, since: Checkpoint | None = None) -> ChainReport:
    """Verify the chain in a new store, without cached keys."""
    with closing(open_store(database.url)) as store:
        return verify_chain(store, AuditChain(keyring or Keyring.from_secret(SECRET)), since=since)


@pytest.fixture
def log(installation: Installation) -> Iterator[Installation]:
    """Yield an installation with entries, a checkpoint, and later entries."""
    write_entries(installation.store, 5)
    sign_head(installation.store, installation.store.chain)
    write_entries(installation.store, 3)
    return installation


@pytest.fixture
def exported(log: Installation) -> Checkpoint:
    """Return a checkpoint that went through a file, as an operator stores it."""
    checkpoint = find_latest_checkpoint(log.store)
    assert checkpoint is not None
    return parse_checkpoint(format_checkpoint(checkpoint).encode())


def rebuild(session: Session, first: int, make_hash: Callable[[AuditEntry, bytes], bytes]) -> None:
    """Rebuild the chain from an entry on: compute new hashes, each with the hash before it."""
    previous = (
        bytes(32)
        if first == 1
        else session.rows("SELECT entry_hash FROM audit_entries WHERE sequence = ?", first - 1)[0][0]
    )
    for row in session.rows(f"SELECT {FIELDS} FROM audit_entries WHERE sequence >= ? ORDER BY sequence", first):
        made = make_hash(AuditEntry(*row), bytes(previous))
        session.run(
            "UPDATE audit_entries SET previous_hash = ?, entry_hash = ? WHERE sequence = ?", previous, made, row[0]
        )
        previous = made


def unkeyed(entry: AuditEntry, previous: bytes) -> bytes:
    return entry.change.chain(None, previous, entry.before, entry.after)


def keyed(key: bytes | hmac.HMAC) -> Callable[[AuditEntry, bytes], bytes]:
    prepared = prepare_key(key) if isinstance(key, bytes) else key
    return lambda entry, previous: entry.change.chain(prepared, previous, entry.before, entry.after)


def test_untouched_log_verifies_from_the_beginning_and_from_a_checkpoint(log, exported):
    whole, rest = check(log.database), check(log.database, since=exported)
    assert (whole.valid, rest.valid) == (True, True)
    assert whole.head_hash == rest.head_hash
    assert whole.entries_checked == rest.entries_checked == exported.sequence + 4, "its own entry, and three"


@pytest.mark.parametrize("make_hash", [unkeyed, keyed(SECRET)], ids=["plain", "secret"])
def test_rebuilt_chain_is_found(log, make_hash):
    with log.database.unguarded() as session:
        session.run("UPDATE audit_entries SET actor = 'serviceAccounts/other' WHERE sequence = 4")
        rebuild(session, 4, make_hash)
    report = check(log.database)
    assert (report.valid, report.first_broken_entry) == (False, "auditEntries/4")


@one_engine
def test_entry_added_behind_the_end_is_found(log):
    head = check(log.database).entries_checked
    with log.database.unguarded() as session:
        session.run(
            f"INSERT INTO audit_entries ({FIELDS}) SELECT sequence + 1, create_time_us, type, actor, method, resource,"
            " request_id, entry_hash, entry_hash, before, after, api_key, session_id FROM audit_entries"
            " WHERE sequence = ?",
            head,
        )
        rebuild(session, head + 1, unkeyed)
    assert check(log.database).first_broken_entry == f"auditEntries/{head + 1}"


@one_engine
def test_keyless_log_in_place_of_the_keyed_one_is_found(log):
    with log.database.unguarded() as session:
        session.run("DELETE FROM audit_epochs")
        session.run("DELETE FROM audit_checkpoints")
        session.run("UPDATE audit_entries SET api_key = '', session_id = ''")
        rebuild(session, 1, unkeyed)
    assert "keys of the chain were removed" in check(log.database).problem


@one_engine
def test_server_writes_nothing_to_a_log_whose_keys_were_removed(log):
    before = log.store.read(lambda tx: tx.connection.execute("SELECT COUNT(*) FROM audit_entries").fetchone()[0])
    with log.database.unguarded() as session:
        session.run("DELETE FROM audit_epochs")
    with pytest.raises(ChainKeysRemoved):
        write_entries(log.store, 1)
    log.store.close()
    with pytest.raises(ChainKeysRemoved):
        Installation(log.database)
    with log.database.opened() as session:
        assert session.rows("SELECT COUNT(*) FROM audit_entries") == [(before,)]
    with closing(open_store(log.database.url)) as store:
        store.chain = AuditChain(log.keyring)
        keys = SigningKeys(store, keyring=log.keyring, version=AccessVersion(store))
        reset_secret(store, keyring=log.keyring, signing_keys=keys)
    assert check(log.database).valid
    with log.database.unguarded() as session:
        session.run("UPDATE audit_entries SET actor = 'x' WHERE sequence = 3")
    assert "history_digest" in check(log.database).problem


@one_engine
@pytest.mark.parametrize("change", ["first_sequence = 6", "number = 2"])
def test_moved_boundary_of_an_epoch_is_found(log, change):
    with log.database.unguarded() as session:
        session.run(f"UPDATE audit_epochs SET {change}")
    assert not check(log.database).valid


@one_engine
def test_key_of_an_attackers_own_is_found(log):
    with log.database.unguarded() as session:
        encrypted = SecretBox(NEW_SECRET, purpose="audit-chain").encrypt(bytes(32), owner=format_owner(1, 1))
        session.run("UPDATE audit_epochs SET sealed_key = ?", encrypted)
        session.run("DELETE FROM audit_checkpoints")
        session.run("UPDATE audit_entries SET type = 'thing.made' WHERE type = 'audit_checkpoint.signed'")
        rebuild(session, 1, keyed(bytes(32)))
    assert "cannot be decrypted" in check(log.database).problem


@one_engine
def test_cut_end_is_found_by_the_checkpoint_in_the_database(log, exported):
    with log.database.unguarded() as session:
        session.run("DELETE FROM audit_entries WHERE sequence >= ?", exported.sequence)
    report = check(log.database)
    assert report.first_broken_entry == f"auditEntries/{exported.sequence}"
    assert "truncated" in report.problem


@one_engine
def test_cut_end_and_checkpoints_are_found_by_a_kept_checkpoint(log, exported):
    with log.database.unguarded() as session:
        session.run("DELETE FROM audit_checkpoints")
        session.run("DELETE FROM audit_entries WHERE sequence >= ?", exported.sequence)
    assert check(log.database).valid, "nothing in the database shows it"
    assert not check(log.database, since=exported).valid


@one_engine
def test_history_built_anew_with_the_servers_own_key_is_found_by_a_kept_checkpoint(log, exported):
    """Even an attacker with the secret cannot change a checkpoint stored elsewhere."""
    with log.database.unguarded() as session:
        ((encrypted,),) = session.rows("SELECT sealed_key FROM audit_epochs")
        key = AuditChain(Keyring.from_secret(SECRET)).decrypt_key(1, 1, encrypted)
        session.run("DELETE FROM audit_checkpoints")
        session.run("UPDATE audit_entries SET actor = 'serviceAccounts/other' WHERE sequence = 4")
        session.run("UPDATE audit_entries SET type = 'thing.made' WHERE type = 'audit_checkpoint.signed'")
        rebuild(session, 4, keyed(key))
    assert check(log.database).valid
    report = check(log.database, since=exported)
    assert (report.valid, report.first_broken_entry) == (False, f"auditEntries/{exported.sequence}")
    assert "rebuilt" in report.problem


@one_engine
def test_change_behind_a_kept_checkpoint_is_found(log, exported):
    with log.database.unguarded() as session:
        session.run("UPDATE audit_entries SET actor = 'x' WHERE sequence = ?", exported.sequence + 2)
    assert check(log.database, since=exported).first_broken_entry == f"auditEntries/{exported.sequence + 2}"


@one_engine
@pytest.mark.parametrize(
    "change", ["head_hash = ?", "signature = ?", "create_time_us = 1", "chain = 'x'"], ids=lambda text: text[:5]
)
def test_changed_checkpoint_is_found(log, exported, change):
    with log.database.unguarded() as session:
        session.run(f"UPDATE audit_checkpoints SET {change}", *[bytes(32)] * change.count("?"))
    assert check(log.database).first_broken_entry == f"auditEntries/{exported.sequence}"


@one_engine
def test_checkpoint_file_that_was_edited_is_refused(exported):
    text = format_checkpoint(exported)
    for old, new in (('"sequence": ', '"sequence": 1'), (exported.head_hash.hex(), bytes(32).hex()), ("{", "[")):
        with pytest.raises(InvalidCheckpoint):
            parse_checkpoint(text.replace(old, new, 1).encode())


@one_engine
def test_database_that_never_had_a_key_is_held_to_the_old_rule(database):
    with closing(open_store(database.url)) as store:
        write_entries(store, 4)
        assert verify_chain(store, AuditChain(Keyring.from_secret(SECRET))).valid
        with database.unguarded() as session:
            session.run("UPDATE audit_entries SET session_id = 'x' WHERE sequence = 2")
        assert verify_chain(store, None).first_broken_entry == "auditEntries/2"


@one_engine
def test_log_of_an_older_release_is_anchored_by_the_first_key(database):
    with closing(open_store(database.url)) as store:
        write_entries(store, 4)
    installed = Installation(database)
    installed.store.close()
    assert check(database).valid
    with database.unguarded() as session:
        session.run("UPDATE audit_entries SET actor = 'x' WHERE sequence = 2")
        for sequence in range(2, 5):
            row = session.rows(f"SELECT {FIELDS} FROM audit_entries WHERE sequence = ?", sequence)[0]
            before = session.rows("SELECT entry_hash FROM audit_entries WHERE sequence = ?", sequence - 1)[0][0]
            made = unkeyed(AuditEntry(*row), bytes(before))
            session.run(
                "UPDATE audit_entries SET previous_hash = ?, entry_hash = ? WHERE sequence = ?", before, made, sequence
            )
    report = check(database)
    assert (report.first_broken_entry, report.problem) == ("auditEntries/5", "its previous_hash does not match")


# -- after a rotation of the secret


@pytest.fixture
def rotated(log: Installation) -> Keyring:
    """Rotate the secret of the installation, and return a keyring with both secrets."""
    keyring = Keyring(lambda: (NEW_SECRET, SECRET))
    log.store.chain = AuditChain(keyring)
    access = log.access
    for one in (access.key_secrets, access.signing_keys):
        setattr(one, "keyring" if hasattr(one, "keyring") else "_keyring", keyring)
    assert rotate_secret(
        log.store,
        NEW_SECRET,
        keyring=keyring,
        signing_keys=access.signing_keys,
        key_secrets=access.key_secrets,
        reencrypt_others=lambda tx, keyring: None,
    )
    write_entries(log.store, 3)
    return keyring


@one_engine
def test_old_entries_verify_under_the_new_secret_alone(log, exported, rotated):
    for since in (None, exported):
        assert check(log.database, Keyring.from_secret(NEW_SECRET), since=since).valid


def test_old_secret_opens_nothing_any_more(log, rotated):
    with log.database.unguarded() as session:
        epochs = session.rows("SELECT number, first_sequence, sealed_key FROM audit_epochs")
    assert len(epochs) == 2
    old = AuditChain(Keyring.from_secret(SECRET))
    for number, first, encrypted in epochs:
        assert old.keyring.try_decrypt(encrypted, purpose="audit-chain", owner=format_owner(number, first)) is None


@one_engine
def test_entry_forged_with_the_key_of_an_older_epoch_is_found(log, rotated):
    with log.database.unguarded() as session:
        ((first,),) = session.rows("SELECT first_sequence FROM audit_epochs WHERE number = 2")
        ((encrypted,),) = session.rows("SELECT sealed_key FROM audit_epochs WHERE number = 1")
        old_key = AuditChain(rotated).decrypt_key(1, 1, encrypted)
        session.run("UPDATE audit_entries SET actor = 'x' WHERE sequence = ?", first + 2)
        rebuild(session, first + 2, keyed(old_key))
    assert check(log.database, rotated).first_broken_entry == f"auditEntries/{first + 2}"


@one_engine
def test_epoch_under_the_old_secret_is_found_while_that_is_still_known(log, rotated):
    """An attacker with the database and the old secret replaces the key of the newest epoch during the rotation."""
    with log.database.unguarded() as session:
        ((first,),) = session.rows("SELECT first_sequence FROM audit_epochs WHERE number = 2")
        encrypted = SecretBox(SECRET, purpose="audit-chain").encrypt(bytes(32), owner=format_owner(2, first))
        session.run("UPDATE audit_epochs SET sealed_key = ? WHERE number = 2", encrypted)
        session.run("UPDATE audit_entries SET actor = 'x' WHERE sequence = ?", first + 2)
        rebuild(session, first, keyed(bytes(32)))
    assert "cannot be decrypted" in check(log.database, rotated).problem


@one_engine
def test_newest_epoch_taken_away_is_found_by_its_checkpoint(log, rotated):
    sign_head(log.store, log.store.chain)
    with log.database.unguarded() as session:
        ((first,),) = session.rows("SELECT first_sequence FROM audit_epochs WHERE number = 2")
        session.run("DELETE FROM audit_epochs WHERE number = 2")
        session.run("DELETE FROM audit_entries WHERE sequence >= ?", first)
        assert "server_secrets" in check(log.database, rotated).problem
        session.run("DELETE FROM server_secrets WHERE number = 2")
    assert not check(log.database, rotated).valid


@one_engine
def test_cut_epoch_that_is_still_known_is_found(log, rotated):
    with log.database.unguarded() as session:
        ((first,),) = session.rows("SELECT first_sequence FROM audit_epochs WHERE number = 2")
        session.run("DELETE FROM audit_entries WHERE sequence >= ?", first)
    assert "truncated" in check(log.database, rotated).problem


# -- data that Storekeep never writes

ODD_VALUES = (None, "text", b"\xff\xfe", 7, 2**63 - 1, 1.5, "x" * 100_000, b"{", "é", apsw.zeroblob(10))


@pytest.mark.engine("sqlite", reason="SQLite takes a value of any type into any column")
def test_value_of_any_type_in_any_column_is_a_finding(log):
    with log.database.opened() as session:
        session.run("PRAGMA writable_schema = ON")
        ((sql,),) = session.rows("SELECT sql FROM sqlite_schema WHERE name = 'audit_entries'")
        loose = sql.replace(" NOT NULL", "")
        session.run("UPDATE sqlite_schema SET sql = ? WHERE name = 'audit_entries'", loose)
    chain = AuditChain(Keyring.from_secret(SECRET))
    with log.database.unguarded() as session, closing(open_store(log.database.url)) as store:
        for column in FIELDS.replace(" ", "").split(",")[1:]:
            ((old,),) = session.rows(f"SELECT {column} FROM audit_entries WHERE sequence = 6")
            for value in ODD_VALUES:
                if value != old:
                    session.run(f"UPDATE audit_entries SET {column} = ? WHERE sequence = 6", value)
                    assert verify_chain(store, chain).first_broken_entry == "auditEntries/6", (column, value)
            session.run(f"UPDATE audit_entries SET {column} = CAST(? AS TEXT) WHERE sequence = 6", b"\xff\xfe")
            assert verify_chain(store, chain).first_broken_entry == "auditEntries/6", column
            assert "audit-chain" in {finding.name for finding in verify(store, chain) if not finding.holds}
            session.run(f"UPDATE audit_entries SET {column} = ? WHERE sequence = 6", old)
            assert verify_chain(store, chain).valid
        for value in (-1, 0, 2**63 - 1):
            session.run("UPDATE audit_entries SET sequence = ? WHERE sequence = 6", value)
            assert not verify_chain(store, chain).valid
            session.run("UPDATE audit_entries SET sequence = 6 WHERE sequence = ?", value)
        assert verify_chain(store, chain).valid


# -- over the wire


def test_entry_names_the_key_and_the_session_that_made_it(admin: Caller, nobody: Caller, installation):
    other = admin.make_account("shop", roles=["admin"])
    other("CreateRole", auth_pb2.CreateRoleRequest(role=auth_pb2.Role(display_name="x"), role_id="x"))
    name = "serviceAccounts/shop/apiKeys/main"
    entries = admin("ListAuditEntries", pb.ListAuditEntriesRequest(filter=f'api_key = "{name}"')).audit_entries
    by_method = {entry.method.rpartition("/")[2]: entry for entry in entries}
    assert set(by_method) == {"CreateRole", "IssueToken"}
    assert by_method["CreateRole"].session_id == by_method["IssueToken"].after["id"]
    session = by_method["CreateRole"].session_id
    one = admin("ListAuditEntries", pb.ListAuditEntriesRequest(filter=f'session_id = "{session}"')).audit_entries
    assert len(one) == 2


@one_engine
def test_entries_of_revoked_tokens_and_sessions_name_the_key(admin: Caller, nobody: Caller, installation):
    key = admin.make_key("shop", roles=["viewer"])
    tokens = [nobody.issue(key), nobody.issue(key)]
    nobody("RevokeToken", auth_pb2.RevokeTokenRequest(token=tokens[0].access_token))
    nobody("RevokeToken", auth_pb2.RevokeTokenRequest(token=tokens[1].refresh_token))
    query = pb.ListAuditEntriesRequest(filter='method = "storekeep.v1.AuthService/RevokeToken"')
    entries = admin("ListAuditEntries", query).audit_entries
    assert len(entries) == 2
    assert {entry.api_key for entry in entries} == {"serviceAccounts/shop/apiKeys/main"}
    assert all(entry.session_id for entry in entries)


@one_engine
def test_system_itself_names_no_key(admin: Caller, installation):
    query = pb.ListAuditEntriesRequest(filter='actor = "system/bootstrap"')
    assert {(e.api_key, e.session_id) for e in admin("ListAuditEntries", query).audit_entries} == {("", "")}


def test_checkpoints_are_listed_and_verify_takes_one(admin: Caller, log):
    sign_head(log.store, log.store.chain)
    page = admin("ListAuditCheckpoints", pb.ListAuditCheckpointsRequest(page_size=1))
    assert page.next_page_token
    newest = page.audit_checkpoints[0]
    oldest = admin("ListAuditCheckpoints", pb.ListAuditCheckpointsRequest(order_by="sequence")).audit_checkpoints[0]
    assert oldest.sequence < newest.sequence
    assert len(newest.public_key) == 32
    for since in (oldest, newest):
        assert admin("VerifyAuditChain", pb.VerifyAuditChainRequest(since=since)).valid
    oldest.head_hash = bytes(32)
    verdict = admin("VerifyAuditChain", pb.VerifyAuditChainRequest(since=oldest))
    assert (verdict.valid, "signature" in verdict.problem) == (False, True)


@one_engine
def test_checkpoints_need_the_permission_of_the_log(admin: Caller):
    viewer = admin.make_account("viewer", roles=["viewer"])
    assert viewer.refusal("ListAuditCheckpoints", pb.ListAuditCheckpointsRequest()).reason == "PERMISSION_DENIED"
    for field in ("filter", "order_by", "page_token"):
        request = pb.ListAuditCheckpointsRequest(**{field: "nonsense"})
        assert admin.refusal("ListAuditCheckpoints", request).reason == f"INVALID_{field.upper()}"


# -- the tables


@pytest.mark.parametrize("table", ["audit_entries", "audit_checkpoints"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET create_time_us = 1", "DELETE FROM {}"])
def test_tables_of_the_log_refuse_changes(log, table, statement):
    with log.database.opened() as session, pytest.raises(Exception, match="append-only"):
        session.run(statement.format(table))


@pytest.mark.engine("postgresql", reason="SQLite has no TRUNCATE")
@pytest.mark.parametrize("table", ["audit_entries", "audit_checkpoints"])
def test_tables_of_the_log_refuse_truncate(log, table):
    with log.database.opened() as session, pytest.raises(Exception, match="append-only"):
        session.run(f"TRUNCATE {table}")


# -- rows changed by SQL

ROW_CHANGES = {
    "permissions of a role": (
        "UPDATE roles SET permissions = '[\"audit.read\"]' WHERE id = 'viewer'",
        "roles/viewer: permi",
    ),
    "roles of an account": ("UPDATE service_accounts SET roles = '[]'", "serviceAccounts/admin: roles not as recorded"),
    "a disabled account": (
        "UPDATE service_accounts SET disabled = NOT disabled",
        "serviceAccounts/admin: disabled not",
    ),
    "scopes of a key": ("UPDATE api_keys SET scopes = '[\"orders.read\"]'", ": scopes not as recorded in"),
    "the end of a key": ("UPDATE api_keys SET revoke_time_us = 1", ": revoke_time_us not as recorded in auditEntries/"),
    "the hash of a key": ("UPDATE api_key_secrets SET key_hash = ?", ": the hash of the key does not match"),
    "a role of one's own": (
        "INSERT INTO roles SELECT 'own', display_name, permissions, built_in, version, create_time_us, update_time_us"
        " FROM roles WHERE id = 'admin'",
        "roles/own: the audit log has no entry for it",
    ),
    "a signing key of one's own": (
        "INSERT INTO signing_keys SELECT 'own', public_key, sealed_private_key, 1, NULL FROM signing_keys",
        "signingKeys/own: the audit log has no entry for it",
    ),
    "another public key": (
        "UPDATE signing_keys SET public_key = ?",
        ": x, y not as recorded in auditEntries/",
    ),
    "a session of one's own": (
        "INSERT INTO sessions (id, lookup_id, create_time_us, expire_time_us)"
        " SELECT 'own', lookup_id, 1, 9999999999999999 FROM api_keys",
        "serviceAccounts/admin/sessions/own: the audit log has no entry for it",
    ),
    "a role that is gone": ("DELETE FROM roles WHERE id = 'viewer'", "roles/viewer: its row is missing, but"),
}


@pytest.mark.parametrize(("sql", "reported"), ROW_CHANGES.values(), ids=ROW_CHANGES)
def test_row_changed_by_sql_is_found_and_named(log, sql, reported):
    assert list(check_rows(log.store)) == []
    with log.database.unguarded() as session:
        assert session.run(sql, *[bytes(32)] * sql.count("?")) > 0
    assert [text for text in check_rows(log.store) if reported in text]
