"""Sessions, tokens and key hashes changed by SQL: each change is detected, even among unreadable rows."""

from __future__ import annotations

import pytest

from storekeep.server.domain.integrity.audited_rows import check_rows
from storekeep.server.domain.integrity.verification import BREACHES_MAX, verify
from storekeep.v1 import auth_pb2
from tests.support.installations import Caller, Installation

SESSIONS = 3
CHANGES = {
    "a longer end": ("UPDATE sessions SET expire_time_us = expire_time_us + 1", ": expire_time_us not as recorded in"),
    "a longer refresh token": (
        "UPDATE refresh_tokens SET expire_time_us = expire_time_us + 1 WHERE use_time_us IS NULL",
        ": its refresh token is not as recorded",
    ),
    "a used refresh token": ("UPDATE refresh_tokens SET use_time_us = NULL", ": its refresh token is not as recorded"),
    "a refresh token of one's own": (
        "INSERT INTO refresh_tokens SELECT ?, id, expire_time_us, NULL FROM sessions"
        " WHERE revoke_time_us IS NULL LIMIT 1",
        ": its refresh token is not as recorded",
    ),
    "another key": (
        "UPDATE sessions SET lookup_id = (SELECT MAX(lookup_id) FROM api_keys)",
        ": the audit log has no entry for it",
    ),
    "a revoked session": ("UPDATE sessions SET revoke_time_us = NULL", ": it was revoked, but its row is not"),
    "a session that ended": ("UPDATE sessions SET revoke_time_us = 1", "the audit log has no entry for that"),
    "a session that is gone": ("DELETE FROM sessions", ": its row is missing, but it exists in auditEntries/"),
    "a revoked token": ("DELETE FROM revoked_tokens", ": its row is missing, but it was revoked in auditEntries/"),
    "the end of a revoked token": ("UPDATE revoked_tokens SET expire_time_us = 1", ": expire_time_us not as recorded"),
    "a token revoked by SQL": ("INSERT INTO revoked_tokens VALUES ('x', 1)", "row x: the audit log has no entry"),
    "a session with an empty id": (
        "INSERT INTO sessions (id, lookup_id, create_time_us, expire_time_us)"
        " SELECT '', MIN(lookup_id), 1, 9999999999999999 FROM api_keys",
        "the audit log has no",
    ),
    "a key with an empty id": (
        "INSERT INTO api_keys SELECT '', account_id, 'x', display_name, scopes, expire_time_us, revoke_time_us,"
        " version, create_time_us, update_time_us, key_digest FROM api_keys LIMIT 1",
        "api_keys, row with an empty id",
    ),
    "the hash of a key": ("UPDATE api_key_secrets SET key_hash = ?", ": the hash of the key does not match"),
    "no hash of a key": ("DELETE FROM api_key_secrets", ": the hash of the key is missing or invalid"),
    "a digest that is gone": ("UPDATE api_keys SET key_digest = ''", ": key_digest not as recorded in auditEntries/"),
    "a signing key that is gone": ("DELETE FROM signing_keys", "signingKeys/"),
}


@pytest.fixture
def used(installation: Installation, nobody: Caller, admin: Caller) -> Installation:
    """Return an installation with three sessions: one refreshed, one revoked, one with a revoked token."""
    key = admin.make_key("shop", roles=["viewer"])
    tokens = [nobody.issue(key) for _ in range(SESSIONS)]
    nobody("RefreshToken", auth_pb2.RefreshTokenRequest(refresh_token=tokens[0].refresh_token))
    nobody("RevokeToken", auth_pb2.RevokeTokenRequest(token=tokens[1].refresh_token))
    nobody("RevokeToken", auth_pb2.RevokeTokenRequest(token=tokens[2].access_token))
    assert list(check_rows(installation.store, installation.store.chain)) == []
    return installation


@pytest.mark.parametrize(("sql", "reported"), CHANGES.values(), ids=CHANGES)
def test_verify_session_changed_by_sql_is_found_and_named(used: Installation, sql: str, reported: str) -> None:
    with used.database.unguarded() as session:
        assert session.run(sql, *[bytes(32)] * sql.count("?")) > 0
    assert [text for text in check_rows(used.store, used.store.chain) if reported in text]


def test_verify_goes_on_behind_entries_of_sessions_that_cannot_be_read(used: Installation) -> None:
    with used.database.unguarded() as session:
        broken = session.run("UPDATE audit_entries SET after = ? WHERE type = 'session.created'", b"{")
        session.run("UPDATE sessions SET expire_time_us = 1")
    texts = list(check_rows(used.store))
    unread = [text for text in texts if "/sessions/" in text and text.endswith("cannot be read")]
    assert len(unread) == broken - 2, "the one that was refreshed and the one that was revoked have later entries"
    assert [text for text in texts if "expire_time_us not as recorded in" in text]


@pytest.mark.engine("sqlite", reason="PostgreSQL keeps every text in UTF-8")
@pytest.mark.parametrize("table", ["sessions", "api_keys"])
def test_verify_row_that_cannot_be_read_is_named_and_the_others_compared(used: Installation, table: str) -> None:
    column, other = {
        "sessions": ("lookup_id", "expire_time_us = 1"),
        "api_keys": ("account_id", "key_digest = 'x'"),
    }[table]
    with used.database.unguarded() as session:
        session.run("PRAGMA foreign_keys = OFF")
        session.run(f"UPDATE {table} SET {other}")
        session.run(f"UPDATE {table} SET {column} = CAST(x'ff' AS TEXT) WHERE rowid = 1")
    texts = list(check_rows(used.store))
    assert len(texts) > 1


def test_verify_names_no_more_rows_than_its_limit(used: Installation) -> None:
    with used.database.unguarded() as session:
        for number in range(BREACHES_MAX + 5):
            session.run(f"INSERT INTO revoked_tokens VALUES ('own-{number}', 1)")
    (rows,) = [finding for finding in verify(used.store, used.store.chain) if finding.name == "audit-rows"]
    assert len(rows.breaches) == BREACHES_MAX
