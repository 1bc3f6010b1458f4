"""Tokens while the database is full or read-only: a key gets them without a session, and the audit log catches up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest

from storekeep.server.domain.access import unrecorded_tokens
from storekeep.server.domain.access.unrecorded_tokens import IssuedToken, UnrecordedTokens, record_issued
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.integrity.audited_sessions import check_sessions
from storekeep.v1 import auth_pb2 as pb
from tests.domain.access.test_auth_tokens import decode_claims, forge, refresh, who_am_i
from tests.support.installations import Installation

PAGES_MAX = 2**31 - 2
FREE_POSTGRESQL = ("DROP TRIGGER is_full ON audit_entries", "DROP FUNCTION refuse_rows")
FILL = {
    "sqlite": (
        "CREATE TABLE filler (content BLOB)",
        """
        CREATE TRIGGER is_full BEFORE INSERT ON audit_entries
        BEGIN INSERT INTO filler VALUES (ZEROBLOB(10000000)); END
        """,
    ),
    "postgresql": (
        """
        CREATE FUNCTION refuse_rows() RETURNS TRIGGER LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$
        """,
        "CREATE TRIGGER is_full BEFORE INSERT ON audit_entries EXECUTE FUNCTION refuse_rows()",
    ),
}
"""What makes each entry need more room than there is: on SQLite together with the limit of the file."""
READ_ONLY = tuple(text.replace("disk_full", "read_only_sql_transaction") for text in FILL["postgresql"])
"""What refuses each entry as a read-only database does, on PostgreSQL."""
BREAK = {
    "sqlite": ("CREATE TRIGGER is_full BEFORE INSERT ON audit_entries BEGIN SELECT RAISE(ABORT, 'broken'); END",),
    "postgresql": tuple(text.replace("disk_full", "check_violation") for text in FILL["postgresql"]),
}
"""What makes each entry fail with an error that nobody expects."""
REPAIR = {"sqlite": ("DROP TRIGGER is_full",), "postgresql": FREE_POSTGRESQL}
FREE = {"sqlite": ("DROP TRIGGER is_full", "DROP TABLE filler"), "postgresql": FREE_POSTGRESQL}


def run_all(installation: Installation, statements: Sequence[str], *, pages: int) -> None:
    """Run statements, and limit the pages of a SQLite file, which keeps those that it has."""
    run_statements(installation, statements)
    if installation.database.engine == "sqlite":
        installation.store.write(lambda tx: tx.connection.execute(f"PRAGMA max_page_count = {pages}"))


@pytest.fixture
def fill(installation: Installation, engine: str) -> Callable[[], None]:
    """Return a function that makes the database full."""
    return lambda: run_all(installation, FILL[engine], pages=1)


@pytest.fixture
def free(installation: Installation, engine: str) -> Callable[[], None]:
    """Return a function that gives a full database room again."""
    return lambda: run_all(installation, FREE[engine], pages=PAGES_MAX)


def run_statements(installation: Installation, statements: Sequence[str]) -> None:
    with installation.database.opened() as other:
        for statement in statements:
            other.run(statement)


@pytest.fixture
def set_read_only(installation: Installation, engine: str) -> Callable[[bool], None]:
    """Return a function that makes the database read-only, or writable again."""
    writer = installation.store.write(lambda tx: tx.connection)  # idle whenever the function is called

    def set_to(read_only: bool) -> None:
        if engine == "sqlite":
            writer.execute(f"PRAGMA query_only = {read_only:d}")
        else:
            run_statements(installation, READ_ONLY if read_only else FREE[engine])

    return set_to


def list_issued(installation: Installation) -> list[tuple[str, str, str]]:
    """Return actor, API key and resource of the entries of tokens without a session."""
    with installation.database.opened() as other:
        query = "SELECT actor, api_key, resource FROM audit_entries WHERE type = 'token.issued' ORDER BY sequence"
        return list(other.rows(query))


def test_key_gets_a_token_without_a_session_while_the_disk_is_full(admin, nobody, installation, fill):
    before = who_am_i(admin)
    fill()
    tokens = nobody.issue(installation.admin_key)
    assert decode_claims(tokens.access_token)["sid"] == ""
    assert not tokens.HasField("refresh_expire_time")
    now = who_am_i(admin.with_token(tokens.access_token))
    assert (now.subject, list(now.permissions)) == (before.subject, list(before.permissions))
    assert 590 < now.expire_time.seconds - time.time() <= 600
    assert admin.refusal("IssueToken", pb.IssueTokenRequest(api_key="sk_no_such_key")).reason == "API_KEY_INVALID"


@pytest.mark.parametrize("end", ["key", "account", "token"])
def test_token_without_a_session_ends_with_its_key_its_account_or_itself(admin, nobody, installation, fill, free, end):
    key = admin.make_key("shop", roles=["operator"])
    fill()
    shop = nobody.with_key(key)
    who_am_i(shop)
    free()
    if end == "key":
        admin("RevokeApiKey", pb.RevokeApiKeyRequest(name="serviceAccounts/shop/apiKeys/main"))
    elif end == "account":
        admin("DeleteServiceAccount", pb.DeleteServiceAccountRequest(name="serviceAccounts/shop"))
    else:
        nobody("RevokeToken", pb.RevokeTokenRequest(token=shop.access_token))
    assert shop.refusal("WhoAmI", pb.WhoAmIRequest()).reason == "TOKEN_REVOKED"
    assert list(check_sessions(installation.store)) == []


def test_token_without_a_session_is_of_a_key_of_its_own_account(admin, nobody, installation):
    admin.make_key("shop", roles=["operator"])
    others = nobody.with_token(
        forge(installation, changes={"sid": "", "client_id": "serviceAccounts/shop/apiKeys/main"})
    )
    assert others.refusal("WhoAmI", pb.WhoAmIRequest()).reason == "UNAUTHENTICATED"
    unknown = nobody.with_token(forge(installation, changes={"sid": ""}))
    assert unknown.refusal("WhoAmI", pb.WhoAmIRequest()).reason == "UNAUTHENTICATED"


def test_audit_log_has_the_tokens_once_there_is_room(admin, nobody, installation, fill, free):
    key = admin.make_key("shop", roles=["operator"])
    fill()
    claims = [decode_claims(nobody.issue(one).access_token) for one in (installation.admin_key, key)]
    assert list_issued(installation) == []
    free()
    for _ in range(2):  # the second one finds nothing more to write
        assert nobody.issue(installation.admin_key).refresh_token
    expected = [(one["sub"], one["client_id"], f"{one['sub']}/issuedTokens/{one['jti']}") for one in claims]
    assert list_issued(installation) == expected
    assert list(check_sessions(installation.store)) == []


def test_refresh_keeps_its_token_while_the_disk_is_full(nobody, installation, fill, free):
    tokens = nobody.issue(installation.admin_key)
    fill()
    for _ in range(3):
        kept = refresh(nobody, tokens.refresh_token)
        assert kept.refresh_token == tokens.refresh_token
        assert kept.refresh_expire_time == tokens.refresh_expire_time
        who_am_i(nobody.with_token(kept.access_token))
    free()
    assert refresh(nobody, tokens.refresh_token).refresh_token != tokens.refresh_token
    used = pb.RefreshTokenRequest(refresh_token=tokens.refresh_token)
    assert nobody.refusal("RefreshToken", used).reason == "TOKEN_REVOKED"


def test_used_refresh_token_gives_nothing_while_the_disk_is_full(nobody, installation, fill, free):
    tokens = nobody.issue(installation.admin_key)
    later = refresh(nobody, tokens.refresh_token)
    fill()
    used = pb.RefreshTokenRequest(refresh_token=tokens.refresh_token)
    assert nobody.refusal("RefreshToken", used).reason == "STORAGE_FULL"
    assert nobody.refusal("RefreshToken", pb.RefreshTokenRequest(refresh_token="rt_no")).reason == "UNAUTHENTICATED"
    free()
    assert nobody.refusal("RefreshToken", used).reason == "TOKEN_REVOKED"
    assert nobody.with_token(later.access_token).refusal("WhoAmI", pb.WhoAmIRequest()).reason == "TOKEN_REVOKED"


def test_tokens_of_a_read_only_database_are_those_of_a_full_one(nobody, installation, set_read_only):
    tokens = nobody.issue(installation.admin_key)
    used = pb.RefreshTokenRequest(refresh_token=nobody.issue(installation.admin_key).refresh_token)
    refresh(nobody, used.refresh_token)
    set_read_only(True)
    claims = decode_claims(nobody.issue(installation.admin_key).access_token)
    assert claims["sid"] == ""
    same = refresh(nobody, tokens.refresh_token)
    assert same.refresh_token == tokens.refresh_token
    who_am_i(nobody.with_token(same.access_token))
    assert nobody.refusal("RefreshToken", used).reason == "STORAGE_UNAVAILABLE"
    set_read_only(False)
    assert nobody.issue(installation.admin_key).refresh_token
    assert [resource for _, _, resource in list_issued(installation)] == [
        f"{claims['sub']}/issuedTokens/{claims['jti']}"
    ]
    assert refresh(nobody, tokens.refresh_token).refresh_token != tokens.refresh_token
    assert nobody.refusal("RefreshToken", used).reason == "TOKEN_REVOKED"


def test_error_that_nobody_expects_loses_no_entry(nobody, installation, engine, fill, free):
    fill()
    claims = [decode_claims(nobody.issue(installation.admin_key).access_token) for _ in range(2)]
    free()
    run_statements(installation, BREAK[engine])
    assert nobody.refusal("IssueToken", pb.IssueTokenRequest(api_key=installation.admin_key)).reason == "INTERNAL"
    run_statements(installation, REPAIR[engine])
    nobody.issue(installation.admin_key)
    expected = [f"{one['sub']}/issuedTokens/{one['jti']}" for one in claims]
    assert [resource for _, _, resource in list_issued(installation)] == expected


def make_issued(*token_ids: str) -> tuple[IssuedToken, ...]:
    return tuple(IssuedToken("admin", "serviceAccounts/admin/apiKeys/main", one, 1, 2) for one in token_ids)


def fail_to_record(unrecorded: UnrecordedTokens, newer: IssuedToken) -> None:
    """Be interrupted after another token was issued."""
    with unrecorded.take():
        unrecorded.add(newer)
        raise KeyboardInterrupt


def test_tokens_whose_entries_failed_are_back_before_newer_ones():
    unrecorded = UnrecordedTokens()
    first, second, newer = make_issued("first", "second", "newer")
    unrecorded.add(first)
    unrecorded.add(second)
    with pytest.raises(KeyboardInterrupt):
        fail_to_record(unrecorded, newer)
    with unrecorded.take() as tokens:
        assert tokens == (first, second, newer)
    with unrecorded.take() as tokens:
        assert tokens == ()


def test_one_call_writes_a_bounded_number_of_entries():
    unrecorded = UnrecordedTokens()
    issued = make_issued(*map(str, range(50)))
    for token in issued:
        unrecorded.add(token)
    recorded = []
    for size in (20, 20, 10, 0):
        with unrecorded.take() as tokens:
            assert len(tokens) == size
            recorded += tokens
    assert tuple(recorded) == issued


def test_newest_tokens_wait_for_their_entries_if_there_are_too_many(monkeypatch):
    monkeypatch.setattr(unrecorded_tokens, "UNRECORDED_MAX", 2)
    unrecorded = UnrecordedTokens()
    first, second, newer = make_issued("first", "second", "newer")
    unrecorded.add(first)
    unrecorded.add(second)
    with pytest.raises(KeyboardInterrupt):
        fail_to_record(unrecorded, newer)
    with unrecorded.take() as tokens:
        assert tokens == (second, newer)


def test_entry_whose_commit_had_no_answer_is_not_repeated(installation):
    call = Call(Caller(""), "storekeep.v1.AuthService/IssueToken")
    for tokens in (make_issued("one"), make_issued("one", "two")):
        installation.store.write(lambda tx, tokens=tokens: record_issued(tx, call, tokens))
    names = [resource for _, _, resource in list_issued(installation)]
    assert names == [f"serviceAccounts/admin/issuedTokens/{one}" for one in ("one", "two")]
