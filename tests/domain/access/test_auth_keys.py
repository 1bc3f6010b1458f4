"""API keys over the wire: creation, rotation, revocation, and secrets that appear only in the reply."""

from __future__ import annotations

import time

import grpc
import pytest

from storekeep.server.domain.access.api_keys import KEY_FORMAT, hash_key
from storekeep.server.jobs.periodic import purge_new_secrets
from storekeep.server.store.sql.statements import Statement
from storekeep.v1 import auth_pb2 as pb
from tests.support.databases import Database
from tests.support.installations import SECRET, new_request_id

PARENT = "serviceAccounts/shop"
NAME = f"{PARENT}/apiKeys/main"


@pytest.fixture
def key(admin):
    """Return the secret of the key `main` of an account `shop`."""
    return admin.make_key("shop", roles=["operator"])


def create(caller, *, key_id="", request_id="", **fields):
    request = pb.CreateApiKeyRequest(
        parent=PARENT, api_key=pb.ApiKey(**fields), api_key_id=key_id, request_id=request_id
    )
    return caller("CreateApiKey", request)


def get(caller, name=NAME):
    return caller("GetApiKey", pb.GetApiKeyRequest(name=name))


def rotate(caller, *, overlap_s=None, **options):
    request = pb.RotateApiKeyRequest(name=NAME, **options)
    if overlap_s is not None:
        request.overlap.seconds = overlap_s
    return caller("RotateApiKey", request)


def test_create_api_key_gives_a_secret_that_works(admin, nobody, key):
    assert KEY_FORMAT.fullmatch(key)
    made = create(admin, display_name="Till 1")
    assert made.api_key.name.startswith(f"{PARENT}/apiKeys/")
    assert get(admin, made.api_key.name) == made.api_key
    assert nobody.with_key(made.secret)("WhoAmI", pb.WhoAmIRequest()).subject == PARENT


def test_create_api_key_again_with_its_request_id_shows_the_same_secret(admin, nobody, key):
    request_id = new_request_id()
    first, second = (create(admin, request_id=request_id) for _ in range(2))
    assert first == second
    nobody.with_key(second.secret)


def test_secret_of_a_new_key_is_purged_after_its_window_and_the_retry_makes_no_second_key(admin, key, installation):
    def secrets():
        return installation.store.read(Statement("SELECT COUNT(*) FROM new_api_key_secrets").one)[0]

    request = pb.CreateApiKeyRequest(parent=PARENT, api_key=pb.ApiKey(), request_id=new_request_id())
    admin("CreateApiKey", request)
    assert installation.store.write(purge_new_secrets(retention_s=60)) == 0
    assert secrets() == 1
    assert installation.store.write(purge_new_secrets(retention_s=0)) == 1
    assert secrets() == 0
    refusal = admin.refusal("CreateApiKey", request)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REPLY_EXPIRED")
    assert len(admin("ListApiKeys", pb.ListApiKeysRequest(parent=PARENT)).api_keys) == 2


def test_key_without_scopes_gets_what_its_account_may_do_now_and_nothing_later(admin, nobody):
    admin.make_key("new")
    made = admin("CreateApiKey", pb.CreateApiKeyRequest(parent="serviceAccounts/new", api_key=pb.ApiKey()))
    assert list(made.api_key.scopes) == ["authenticated"]
    caller = nobody.with_key(made.secret)
    account = pb.ServiceAccount(name="serviceAccounts/new", display_name="New", roles=["roles/viewer"])
    admin("UpdateServiceAccount", pb.UpdateServiceAccountRequest(service_account=account))
    assert list(caller("WhoAmI", pb.WhoAmIRequest()).permissions) == []
    later = admin("CreateApiKey", pb.CreateApiKeyRequest(parent="serviceAccounts/new", api_key=pb.ApiKey()))
    viewer = nobody.with_key(later.secret)("WhoAmI", pb.WhoAmIRequest())
    assert list(later.api_key.scopes) == list(viewer.permissions) != []


def test_key_with_the_wildcard_follows_its_account_and_is_given_by_who_holds_all(admin, nobody):
    admin.make_key("shop", roles=["operator"])
    operator = admin.make_account("boss", roles=["operator"])
    request = pb.CreateApiKeyRequest(parent=PARENT, api_key=pb.ApiKey(scopes=["*"]), api_key_id="all")
    assert operator.refusal("CreateApiKey", request).reason == "PERMISSION_DENIED"
    caller = nobody.with_key(admin("CreateApiKey", request).secret)
    account = pb.ServiceAccount(name=PARENT, display_name="Shop", roles=["roles/viewer"])
    before = set(caller("WhoAmI", pb.WhoAmIRequest()).permissions)
    admin("UpdateServiceAccount", pb.UpdateServiceAccountRequest(service_account=account))
    after = set(caller("WhoAmI", pb.WhoAmIRequest()).permissions)
    assert after
    assert after < before


def test_key_of_before_without_scopes_may_do_what_its_account_may(admin, nobody, key, installation):
    installation.store.write(lambda tx: Statement("UPDATE api_keys SET scopes = '[]' WHERE id = 'main'").run(tx))
    assert "orders.write" in nobody.with_key(key)("WhoAmI", pb.WhoAmIRequest()).permissions


def test_create_api_key_that_differs_from_another_in_case_only_is_refused(admin, key):
    request = pb.CreateApiKeyRequest(parent=PARENT, api_key=pb.ApiKey(), api_key_id="MAIN")
    refusal = admin.refusal("CreateApiKey", request)
    assert (refusal.reason, refusal.metadata["resource"]) == ("ALREADY_EXISTS", NAME)


def test_create_api_key_as_dry_run_gives_a_key_that_does_not_work(admin, nobody, key):
    request = pb.CreateApiKeyRequest(parent=PARENT, api_key=pb.ApiKey(), validate_only=True)
    dry_run = admin("CreateApiKey", request)
    refusal = nobody.refusal("IssueToken", pb.IssueTokenRequest(api_key=dry_run.secret))
    assert refusal.reason == "API_KEY_INVALID"


def test_create_api_key_with_what_is_not_there_is_refused(admin, key):
    other = pb.CreateApiKeyRequest(parent="serviceAccounts/none", api_key=pb.ApiKey())
    assert admin.refusal("CreateApiKey", other).reason == "SERVICE_ACCOUNT_NOT_FOUND"
    unknown = pb.CreateApiKeyRequest(parent=PARENT, api_key=pb.ApiKey(scopes=["orders.dance"]))
    assert admin.refusal("CreateApiKey", unknown).reason == "UNKNOWN_PERMISSION"
    taken = pb.CreateApiKeyRequest(parent=PARENT, api_key=pb.ApiKey(), api_key_id="main")
    assert admin.refusal("CreateApiKey", taken).reason == "ALREADY_EXISTS"
    admin("DeleteServiceAccount", pb.DeleteServiceAccountRequest(name=PARENT))
    deleted = pb.CreateApiKeyRequest(parent=PARENT, api_key=pb.ApiKey())
    assert admin.refusal("CreateApiKey", deleted).reason == "RESOURCE_DELETED"


@pytest.mark.parametrize("seconds", [1, -1, 2**62, -(2**62)])
def test_create_api_key_that_ends_at_no_time_to_come_is_refused(admin, key, seconds):
    request = pb.CreateApiKeyRequest(parent=PARENT, api_key=pb.ApiKey(expire_time={"seconds": seconds}))
    refusal = admin.refusal("CreateApiKey", request)
    assert refusal.reason == "INVALID_FIELD"
    assert "expire_time" in refusal.text


def test_key_that_ends_ends_its_tokens_too(admin, nobody, key):
    over_s = int(time.time()) + 4
    made = create(admin, expire_time={"seconds": over_s})
    tokens = nobody.issue(made.secret)
    assert tokens.expire_time.seconds <= made.api_key.expire_time.seconds
    caller = nobody.with_token(tokens.access_token)
    caller("WhoAmI", pb.WhoAmIRequest())
    time.sleep(over_s + 0.1 - time.time())
    assert caller.refusal("WhoAmI", pb.WhoAmIRequest()).reason == "TOKEN_EXPIRED"
    assert nobody.refusal("IssueToken", pb.IssueTokenRequest(api_key=made.secret)).reason == "API_KEY_INVALID"
    refresh = pb.RefreshTokenRequest(refresh_token=tokens.refresh_token)
    assert nobody.refusal("RefreshToken", refresh).reason == "TOKEN_EXPIRED"


def test_rotate_api_key_lets_both_work_for_the_overlap(admin, nobody, key):
    new = rotate(admin, overlap_s=60)
    for secret in (key, new.secret):
        nobody.with_key(secret)("WhoAmI", pb.WhoAmIRequest())
    assert 55 < get(admin).expire_time.seconds - time.time() <= 60
    assert not new.api_key.HasField("expire_time")


def test_rotate_api_key_without_an_overlap_given_takes_a_day(admin, key):
    rotate(admin)
    assert abs(get(admin).expire_time.seconds - time.time() - 86_400) < 5


def test_rotate_api_key_with_no_overlap_ends_the_old_one_and_its_tokens(admin, nobody, key):
    shop = nobody.with_key(key)
    shop("WhoAmI", pb.WhoAmIRequest())
    new = rotate(admin, overlap_s=0)
    assert nobody.refusal("IssueToken", pb.IssueTokenRequest(api_key=key)).reason == "API_KEY_INVALID"
    assert shop.refusal("WhoAmI", pb.WhoAmIRequest()).reason == "TOKEN_EXPIRED"
    nobody.with_key(new.secret)


def test_rotate_api_key_keeps_scopes_and_length_of_life(admin, key):
    made = create(admin, key_id="scoped", scopes=["orders.read"], expire_time={"seconds": int(time.time()) + 1_000})
    new = admin("RotateApiKey", pb.RotateApiKeyRequest(name=made.api_key.name))
    assert list(new.api_key.scopes) == ["orders.read"]
    assert abs(new.api_key.expire_time.seconds - made.api_key.expire_time.seconds) <= 2


def test_rotate_api_key_again_with_its_request_id_shows_the_same_secret(admin, key):
    request_id = new_request_id()
    assert rotate(admin, request_id=request_id) == rotate(admin, request_id=request_id)


def test_rotate_api_key_that_has_ended_is_refused(admin, key):
    rotate(admin, overlap_s=0)
    refusal = admin.refusal("RotateApiKey", pb.RotateApiKeyRequest(name=NAME))
    assert (refusal.reason, refusal.metadata["state"]) == ("ILLEGAL_STATE", "EXPIRED")
    stale = pb.RotateApiKeyRequest(name=NAME, etag="v1")
    assert admin.refusal("RotateApiKey", stale).reason == "ETAG_MISMATCH"


def test_revoke_api_key_shows_when_and_works_once(admin, nobody, key):
    assert admin("RevokeApiKey", pb.RevokeApiKeyRequest(name=NAME)).HasField("revoke_time")
    assert nobody.refusal("IssueToken", pb.IssueTokenRequest(api_key=key)).reason == "API_KEY_INVALID"
    for method, request in (
        ("RevokeApiKey", pb.RevokeApiKeyRequest(name=NAME)),
        ("RotateApiKey", pb.RotateApiKeyRequest(name=NAME)),
    ):
        assert admin.refusal(method, request).reason == "ILLEGAL_STATE"
    none = pb.RevokeApiKeyRequest(name=f"{PARENT}/apiKeys/none")
    assert admin.refusal("RevokeApiKey", none).reason == "API_KEY_NOT_FOUND"


def test_list_api_keys_of_one_account_or_of_all(admin, key):
    create(admin, key_id="second", display_name="Till 2")

    def listed(parent, **options):
        page = admin("ListApiKeys", pb.ListApiKeysRequest(parent=parent, **options))
        return [api_key.name for api_key in page.api_keys]

    assert listed(PARENT) == [NAME, f"{PARENT}/apiKeys/second"]
    assert listed(PARENT, filter='display_name = "Till 2"') == [f"{PARENT}/apiKeys/second"]
    assert len(listed("serviceAccounts/-")) == 3
    assert listed("serviceAccounts/none") == []
    first = admin("ListApiKeys", pb.ListApiKeysRequest(parent="serviceAccounts/-", page_size=2))
    rest = listed("serviceAccounts/-", page_size=2, page_token=first.next_page_token)
    assert rest == [f"{PARENT}/apiKeys/second"]


def test_secrets_stand_nowhere_in_the_database(admin, nobody, key, installation):
    made = create(admin, request_id=new_request_id())
    rotated = rotate(admin, request_id=new_request_id())
    tokens = nobody.issue(rotated.secret)
    admin("RotateSigningKey", pb.RotateSigningKeyRequest(request_id=new_request_id()))
    installation.store.write(lambda tx: None)
    secrets = [installation.admin_key, key, made.secret, rotated.secret]
    hashes = [hash_key(secret, SECRET) for secret in secrets]
    files = read_database(installation.database)
    for secret in [*(secret.rpartition("_")[2] for secret in secrets), tokens.refresh_token, tokens.access_token]:
        assert secret.encode() not in files
    assert b"PRIVATE KEY" not in files
    content = installation.store.read(_read_entries)
    for secret_hash in hashes:
        assert secret_hash in files
        assert secret_hash not in content
        assert secret_hash.hex().encode() not in content


def read_database(database: Database) -> bytes:
    """Return the whole content of a database: its files, or all its rows."""
    if database.engine == "sqlite":
        return b"".join(path.read_bytes() for path in database.path.parent.glob("storekeep.db*"))
    values = [value for rows in database.everything().values() for row in rows for value in row]
    return b" ".join(value if isinstance(value, bytes) else str(value).encode() for value in values)


def _read_entries(tx):
    """Return the content of all events and audit entries."""
    rows = [
        *tx.connection.execute("SELECT payload FROM events"),
        *tx.connection.execute("SELECT before FROM audit_entries"),
        *tx.connection.execute("SELECT after FROM audit_entries"),
    ]
    return b"".join(row[0] or b"" for row in rows)
