"""Tokens over the wire: their permissions, their end, and the rejection of every forged or broken token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from storekeep.server.domain.access.tokens import ENDED_RETENTION_US, SESSION_LIFETIME_MAX_S, purge_expired
from storekeep.server.domain.calls import Call
from storekeep.server.domain.calls import Caller as DomainCaller
from storekeep.server.store.sql.statements import Statement
from storekeep.v1 import auth_pb2 as pb
from tests.support.installations import AUDIENCE, ISSUER, Installation

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


def decode_claims(token):
    return jwt.decode(token, options={"verify_signature": False})


def forge(installation, *, changes=(), headers=(), key=None, algorithm="ES256", claims=None):
    """Return a valid token with the given changes. A claim that is None is omitted."""
    signer = installation.signing_keys.get_signer()
    now_s = int(time.time())
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "serviceAccounts/admin",
        "exp": now_s + 300,
        "iat": now_s,
        "jti": "forged",
        "sid": "forged",
        "client_id": "serviceAccounts/admin/apiKeys/x",
        **(claims or {}),
    }
    payload = {name: value for name, value in {**good, **dict(changes)}.items() if value is not None}
    return jwt.encode(
        payload,
        key or signer.private_key,
        algorithm=algorithm,
        headers={"typ": "at+jwt", "kid": signer.kid, **dict(headers)},
    )


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def who_am_i(caller):
    return caller("WhoAmI", pb.WhoAmIRequest())


# -- permissions of a token


def test_issue_token_for_a_key_opens_what_its_account_may(admin, installation):
    me = who_am_i(admin)
    assert me.subject == "serviceAccounts/admin"
    assert me.display_name == "Administrator"
    assert list(me.roles) == ["roles/admin"]
    assert set(me.permissions) == installation.known
    assert 590 < me.expire_time.seconds - time.time() <= 600


def test_issue_token_says_what_rfc_9068_wants(nobody, installation):
    tokens = nobody.issue(installation.admin_key)
    header = jwt.get_unverified_header(tokens.access_token)
    claims = decode_claims(tokens.access_token)
    assert (header["typ"], header["alg"]) == ("at+jwt", "ES256")
    assert set(claims) == set(CLAIMS)
    assert tokens.expire_time.seconds == claims["exp"]
    assert tokens.refresh_expire_time.seconds - time.time() > 86_000


def test_test_permissions_answers_those_that_are_held_in_order(admin):
    viewer = admin.make_account("viewer", roles=["viewer"])
    asked = ["products.write", "stock.read", "no.such", "products.read"]
    answer = viewer("TestPermissions", pb.TestPermissionsRequest(permissions=asked))
    assert list(answer.permissions) == ["stock.read", "products.read"]


def test_scopes_limit_what_a_key_opens(admin):
    limited = admin.make_account("limited", roles=["operator"], scopes=["orders.read", "orders.write"])
    assert list(who_am_i(limited).permissions) == ["orders.read", "orders.write"]
    refusal = limited.refusal("ListServiceAccounts", pb.ListServiceAccountsRequest())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert refusal.metadata["permission"] == "accounts.read"


def test_permission_is_checked_before_the_request(admin):
    viewer = admin.make_account("viewer", roles=["viewer"])
    assert viewer.refusal("GetServiceAccount", pb.GetServiceAccountRequest(name="?")).reason == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    "key",
    ["sk_", "nonsense", "sk_" + "a" * 16 + "_" + "b" * 43, "ключ", "sk_" + "a" * 16 + "_" + "b" * 44],
)
def test_issue_token_with_an_unknown_key_is_refused(nobody, key):
    refusal = nobody.refusal("IssueToken", pb.IssueTokenRequest(api_key=key))
    assert (refusal.code, refusal.reason) == (UNAUTHENTICATED, "API_KEY_INVALID")


def test_issue_token_refuses_every_bad_key_in_the_same_words(admin, nobody, installation):
    revoked, expired, disabled = (admin.make_key(name) for name in ("revoked", "expired", "disabled"))
    admin("RevokeApiKey", pb.RevokeApiKeyRequest(name="serviceAccounts/revoked/apiKeys/main"))
    rotate = pb.RotateApiKeyRequest(name="serviceAccounts/expired/apiKeys/main")
    rotate.overlap.seconds = 0
    admin("RotateApiKey", rotate)
    disable(admin, "disabled")
    wrong_end = installation.admin_key[:-1] + ("a" if installation.admin_key[-1] != "a" else "b")
    bad = [revoked, expired, disabled, wrong_end, "sk_" + "a" * 16 + "_" + "b" * 43]
    refusals = [nobody.refusal("IssueToken", pb.IssueTokenRequest(api_key=key)) for key in bad]
    assert {(refusal.reason, refusal.text) for refusal in refusals} == {
        ("API_KEY_INVALID", "the API key is unknown, revoked or expired")
    }


# -- forged and expired tokens


CLAIMS = ("iss", "aud", "sub", "exp", "iat", "jti", "sid", "client_id")
FORGERIES = {
    "another issuer": {"changes": {"iss": "https://elsewhere.test"}},
    "another audience": {"changes": {"aud": "another"}},
    "a wrong typ": {"headers": {"typ": "JWT"}},
    "no typ": {"headers": {"typ": None}},
    "an unknown kid": {"headers": {"kid": "00000000-0000-0000-0000-000000000000"}},
    "a session that is none": {},
    "another key": {"key": ec.generate_private_key(ec.SECP256R1())},
    "a critical extension": {"headers": {"crit": ["exp2"], "exp2": 1}},
    "issued in the future": {"changes": {"iat": int(time.time()) + 3_600, "exp": int(time.time()) + 7_200}},
    "a time that is no number": {"changes": {"exp": "tomorrow"}},
    "a subject that is no text": {"changes": {"sub": 1}},
    **{
        f"no {name}": {"changes": {name: None}}
        for name in ("iss", "aud", "sub", "exp", "iat", "jti", "sid", "client_id")
    },
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_forged_token_is_refused(nobody, installation, forgery):
    refusal = nobody.with_token(forge(installation, **forgery)).refusal("WhoAmI", pb.WhoAmIRequest())
    assert (refusal.code, refusal.reason) == (UNAUTHENTICATED, "UNAUTHENTICATED")


def test_token_of_another_subject_with_a_real_session_is_refused(admin, nobody, installation):
    real = decode_claims(admin.make_account("small").access_token)
    token = forge(installation, claims=real, changes={"sub": "serviceAccounts/admin"})
    assert nobody.with_token(token).refusal("WhoAmI", pb.WhoAmIRequest()).reason == "UNAUTHENTICATED"


ALIEN_CLAIMS = {
    "typ": {"headers": {"typ": "JWT"}},
    "no typ": {"headers": {"typ": None}},
    "iss": {"changes": {"iss": "https://elsewhere.test"}},
    "aud": {"changes": {"aud": "another"}},
    "aud among others": {"changes": {"aud": ["another", "one more"]}},
    "iat to come": {"changes": {"iat": int(time.time()) + 86_400, "exp": int(time.time()) + 90_000}},
    "sid": {"changes": {"sid": "00000000-0000-0000-0000-000000000000"}},
    "sub": {"changes": {"sub": "serviceAccounts/nobody"}},
}


@pytest.mark.parametrize("alien", ALIEN_CLAIMS.values(), ids=ALIEN_CLAIMS)
def test_token_that_is_right_but_for_one_claim_is_refused(admin, nobody, installation, alien):
    real = decode_claims(admin.access_token)
    assert who_am_i(nobody.with_token(forge(installation, claims=real))).subject == real["sub"]
    refusal = nobody.with_token(forge(installation, claims=real, **alien)).refusal("WhoAmI", pb.WhoAmIRequest())
    assert (refusal.code, refusal.reason) == (UNAUTHENTICATED, "UNAUTHENTICATED")


@pytest.mark.parametrize("typ", ["AT+JWT", "application/at+jwt"])
def test_media_type_of_a_token_may_be_written_in_full(admin, nobody, installation, typ):
    real = decode_claims(admin.access_token)
    token = forge(installation, claims=real, headers={"typ": typ})
    assert who_am_i(nobody.with_token(token)).subject == real["sub"]


def test_token_with_alg_none_is_refused(admin, nobody):
    _, payload, _ = admin.access_token.split(".")
    kid = jwt.get_unverified_header(admin.access_token)["kid"]
    for signature in ("", "e30"):
        token = f"{part({'alg': 'none', 'typ': 'at+jwt', 'kid': kid})}.{payload}.{signature}"
        assert nobody.with_token(token).refusal("WhoAmI", pb.WhoAmIRequest()).reason == "UNAUTHENTICATED"


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_token_signed_with_the_public_key_as_hmac_secret_is_refused(admin, nobody, installation, encoding):
    kid = jwt.get_unverified_header(admin.access_token)["kid"]
    public_key = installation.signing_keys.get_signer().private_key.public_key()
    secret = public_key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{part({'alg': 'HS256', 'typ': 'at+jwt', 'kid': kid})}.{admin.access_token.split('.')[1]}"
    signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    token = f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    assert nobody.with_token(token).refusal("WhoAmI", pb.WhoAmIRequest()).reason == "UNAUTHENTICATED"


def test_token_with_a_changed_payload_is_refused(admin, nobody):
    header, _, signature = admin.access_token.split(".")
    changed = part({**decode_claims(admin.access_token), "exp": int(time.time()) + 10**6})
    assert nobody.with_token(f"{header}.{changed}.{signature}").refusal("WhoAmI", pb.WhoAmIRequest()).reason == (
        "UNAUTHENTICATED"
    )


@pytest.mark.parametrize("token", ["x", "a.b", "a.b.c", "a.b.c.d", "....", "e30.e30.e30", "W10.e30.e30", "a" * 9_000])
def test_garbage_instead_of_a_token_is_refused(nobody, token):
    assert nobody.with_token(token).refusal("WhoAmI", pb.WhoAmIRequest()).reason == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Basic YWRtaW46", "{token}", "Bearer  {token}", "Bearer {token} x"]
)
def test_authorization_that_is_not_bearer_token_is_refused(admin, value):
    metadata = [("authorization", value.format(token=admin.access_token))]
    with pytest.raises(grpc.RpcError) as caught:
        admin.auth.WhoAmI(pb.WhoAmIRequest(), metadata=metadata, timeout=60)
    assert caught.value.code() == UNAUTHENTICATED


def test_call_without_a_token_is_refused(nobody):
    assert nobody.refusal("WhoAmI", pb.WhoAmIRequest()).reason == "UNAUTHENTICATED"


def test_expired_token_gets_its_own_reason(nobody, installation):
    now_s = int(time.time())
    token = forge(installation, changes={"iat": now_s - 700, "exp": now_s - 1})
    refusal = nobody.with_token(token).refusal("WhoAmI", pb.WhoAmIRequest())
    assert (refusal.code, refusal.reason) == (UNAUTHENTICATED, "TOKEN_EXPIRED")


def test_remembered_token_expires(admin, nobody, installation):
    real = decode_claims(admin.access_token)
    over_s = int(time.time()) + 3
    caller = nobody.with_token(forge(installation, claims=real, changes={"exp": over_s}))
    assert who_am_i(caller).subject == "serviceAccounts/admin"
    time.sleep(over_s + 0.1 - time.time())
    assert caller.refusal("WhoAmI", pb.WhoAmIRequest()).reason == "TOKEN_EXPIRED"


# -- revocation


def disable(admin, account_id, *, disabled=True):
    account = pb.ServiceAccount(name=f"serviceAccounts/{account_id}", display_name="x", disabled=disabled)
    request = pb.UpdateServiceAccountRequest(service_account=account)
    request.update_mask.paths.append("disabled")
    admin("UpdateServiceAccount", request)


def test_revoke_token_stops_that_access_token_alone(admin, nobody, installation):
    other = nobody.with_key(installation.admin_key)
    who_am_i(other)
    nobody("RevokeToken", pb.RevokeTokenRequest(token=other.access_token))
    assert other.refusal("WhoAmI", pb.WhoAmIRequest()).reason == "TOKEN_REVOKED"
    who_am_i(admin)


def test_revoke_token_of_a_refresh_token_stops_its_access_tokens(nobody, installation):
    tokens = nobody.issue(installation.admin_key)
    caller = nobody.with_token(tokens.access_token)
    who_am_i(caller)
    nobody("RevokeToken", pb.RevokeTokenRequest(token=tokens.refresh_token))
    assert caller.refusal("WhoAmI", pb.WhoAmIRequest()).reason == "TOKEN_REVOKED"
    refusal = nobody.refusal("RefreshToken", pb.RefreshTokenRequest(refresh_token=tokens.refresh_token))
    assert refusal.reason == "TOKEN_REVOKED"


@pytest.mark.parametrize("token", ["nonsense", "rt_nonsense", "a.b.c"])
def test_revoke_token_of_an_unknown_token_is_no_error(nobody, token):
    nobody("RevokeToken", pb.RevokeTokenRequest(token=token))


def test_revoke_token_twice_is_no_error_and_leaves_one_entry(nobody, installation):
    tokens = nobody.issue(installation.admin_key)
    for token in (tokens.access_token, tokens.refresh_token):
        before = entries(installation)
        nobody("RevokeToken", pb.RevokeTokenRequest(token=token))
        nobody("RevokeToken", pb.RevokeTokenRequest(token=token))
        assert entries(installation) == before + 1


def entries(installation):
    return installation.store.read(lambda tx: tx.connection.execute("SELECT COUNT(*) FROM audit_entries").fetchone()[0])


def test_disabling_an_account_stops_its_tokens_and_its_key(admin, nobody):
    key = admin.make_key("shop", roles=["operator"])
    tokens = nobody.issue(key)
    shop = nobody.with_token(tokens.access_token)
    who_am_i(shop)
    disable(admin, "shop")
    assert shop.refusal("WhoAmI", pb.WhoAmIRequest()).reason == "TOKEN_REVOKED"
    refresh = pb.RefreshTokenRequest(refresh_token=tokens.refresh_token)
    assert nobody.refusal("RefreshToken", refresh).reason == "TOKEN_REVOKED"
    disable(admin, "shop", disabled=False)
    who_am_i(shop)
    nobody("RefreshToken", refresh)


def test_deleting_an_account_stops_its_tokens(admin):
    shop = admin.make_account("shop", roles=["operator"])
    who_am_i(shop)
    admin("DeleteServiceAccount", pb.DeleteServiceAccountRequest(name="serviceAccounts/shop"))
    assert shop.refusal("WhoAmI", pb.WhoAmIRequest()).reason == "TOKEN_REVOKED"


def test_revoking_a_key_stops_its_tokens(admin):
    shop = admin.make_account("shop", roles=["operator"])
    who_am_i(shop)
    admin("RevokeApiKey", pb.RevokeApiKeyRequest(name="serviceAccounts/shop/apiKeys/main"))
    assert shop.refusal("WhoAmI", pb.WhoAmIRequest()).reason == "TOKEN_REVOKED"


def test_changing_roles_changes_what_a_token_opens(admin):
    shop = admin.make_account("shop", roles=["operator"])
    assert "orders.write" in who_am_i(shop).permissions
    account = pb.ServiceAccount(name="serviceAccounts/shop", display_name="Shop", roles=["roles/viewer"])
    admin("UpdateServiceAccount", pb.UpdateServiceAccountRequest(service_account=account))
    assert "orders.write" not in who_am_i(shop).permissions


def test_change_by_another_process_is_noticed_within_the_poll_interval(admin, installation):
    shop = admin.make_account("shop", roles=["operator"])
    who_am_i(shop)
    with installation.database.opened() as other:
        other.run("UPDATE service_accounts SET disabled = TRUE WHERE id = 'shop'")
        other.run("UPDATE access_versions SET version = version + 1")
    time.sleep(0.1)
    assert shop.refusal("WhoAmI", pb.WhoAmIRequest()).reason == "TOKEN_REVOKED"


def test_access_version_of_a_lost_change_is_never_given_to_another_one(admin, installation):
    def change() -> int:
        admin("RotateSigningKey", pb.RotateSigningKeyRequest())
        with installation.database.opened() as other:
            return other.rows("SELECT version FROM access_versions")[0][0]

    before, lost = change(), change()
    with installation.database.opened() as other:  # as after a failover that lost the change
        other.run("UPDATE access_versions SET version = ?", before)
    assert before < change() != lost > before


# -- refreshing


def refresh(nobody, token):
    return nobody("RefreshToken", pb.RefreshTokenRequest(refresh_token=token))


def test_refresh_token_gives_a_new_pair_that_works(nobody, installation):
    first = nobody.issue(installation.admin_key)
    second = refresh(nobody, first.refresh_token)
    assert second.refresh_token != first.refresh_token
    assert decode_claims(second.access_token)["sid"] == decode_claims(first.access_token)["sid"]
    who_am_i(nobody.with_token(second.access_token))
    refresh(nobody, second.refresh_token)


def test_refresh_token_used_twice_revokes_all_that_came_from_it(nobody, installation):
    first = nobody.issue(installation.admin_key)
    second = refresh(nobody, first.refresh_token)
    thief = nobody.refusal("RefreshToken", pb.RefreshTokenRequest(refresh_token=first.refresh_token))
    assert (thief.code, thief.reason) == (UNAUTHENTICATED, "TOKEN_REVOKED")
    for access_token in (first.access_token, second.access_token):
        refusal = nobody.with_token(access_token).refusal("WhoAmI", pb.WhoAmIRequest())
        assert refusal.reason == "TOKEN_REVOKED"
    owner = nobody.refusal("RefreshToken", pb.RefreshTokenRequest(refresh_token=second.refresh_token))
    assert owner.reason == "TOKEN_REVOKED"
    who_am_i(nobody.with_key(installation.admin_key))


def test_refresh_token_that_is_unknown_is_refused(nobody):
    refusal = nobody.refusal("RefreshToken", pb.RefreshTokenRequest(refresh_token="rt_nonsense"))
    assert refusal.reason == "UNAUTHENTICATED"


def test_expired_refresh_token_gets_its_own_reason(nobody, installation):
    tokens = nobody.issue(installation.admin_key)
    installation.store.write(lambda tx: tx.connection.execute("UPDATE refresh_tokens SET expire_time_us = 1"))
    refusal = nobody.refusal("RefreshToken", pb.RefreshTokenRequest(refresh_token=tokens.refresh_token))
    assert refusal.reason == "TOKEN_EXPIRED"


def test_refresh_token_that_was_refused_is_refused_again(admin, nobody, installation):
    tokens = nobody.issue(installation.admin_key)
    refresh(nobody, tokens.refresh_token)
    before = entries(installation)
    used = pb.RefreshTokenRequest(refresh_token=tokens.refresh_token)
    assert [nobody.refusal("RefreshToken", used).reason for _ in range(3)] == ["TOKEN_REVOKED"] * 3
    assert entries(installation) == before + 1
    over = pb.RefreshTokenRequest(refresh_token=nobody.issue(installation.admin_key).refresh_token)
    installation.store.write(lambda tx: tx.connection.execute("UPDATE refresh_tokens SET expire_time_us = 1"))
    assert [nobody.refusal("RefreshToken", over).reason for _ in range(3)] == ["TOKEN_EXPIRED"] * 3


def test_refresh_token_used_twice_ends_its_session_though_its_key_was_revoked(admin, nobody, installation):
    key = admin.make_key("shop", roles=["operator"])
    tokens = nobody.issue(key)
    refresh(nobody, tokens.refresh_token)
    disable(admin, "shop")
    used = pb.RefreshTokenRequest(refresh_token=tokens.refresh_token)
    assert nobody.refusal("RefreshToken", used).reason == "TOKEN_REVOKED"
    disable(admin, "shop", disabled=False)
    assert nobody.with_token(tokens.access_token).refusal("WhoAmI", pb.WhoAmIRequest()).reason == "TOKEN_REVOKED"


def test_refresh_and_revoke_token_that_change_nothing_never_reach_the_writer(nobody, installation):
    tokens = nobody.issue(installation.admin_key)
    for token in (tokens.access_token, tokens.refresh_token):
        before = installation.store.writes
        nobody("RevokeToken", pb.RevokeTokenRequest(token=token))
        assert installation.store.writes > before
    before = installation.store.writes
    for token in ("rt_nonsense", tokens.refresh_token):
        for _ in range(5):
            nobody.refusal("RefreshToken", pb.RefreshTokenRequest(refresh_token=token))
            nobody("RevokeToken", pb.RevokeTokenRequest(token=token))
    for token in ("a.b.c", tokens.access_token, tokens.access_token):
        nobody("RevokeToken", pb.RevokeTokenRequest(token=token))
    assert installation.store.writes == before


def test_session_ends_at_its_greatest_age_however_often_it_is_refreshed(nobody, installation):
    def make_older(by_us):
        statement = Statement("UPDATE sessions SET create_time_us = create_time_us - :by_us")
        installation.store.write(lambda tx: statement.run(tx, by_us=by_us))

    tokens = nobody.issue(installation.admin_key)
    left_s = 300
    make_older((SESSION_LIFETIME_MAX_S - left_s) * 1_000_000)
    tokens = refresh(nobody, tokens.refresh_token)
    for end in (tokens.expire_time, tokens.refresh_expire_time):
        assert end.seconds - time.time() <= left_s
    make_older(left_s * 1_000_000)
    refusal = nobody.refusal("RefreshToken", pb.RefreshTokenRequest(refresh_token=tokens.refresh_token))
    assert refusal.reason == "TOKEN_EXPIRED"


def test_purge_removes_what_is_long_over_and_nothing_else(nobody, installation):
    tokens = nobody.issue(installation.admin_key)
    nobody("RevokeToken", pb.RevokeTokenRequest(token=nobody.issue(installation.admin_key).access_token))
    assert installation.store.write(purge_expired) == 0
    long_ago_us = int(time.time() * 1_000_000) - ENDED_RETENTION_US - 1

    def age(tx):
        for table in ("refresh_tokens", "sessions", "revoked_tokens"):
            Statement(f"UPDATE {table} SET expire_time_us = :long_ago_us").run(tx, long_ago_us=long_ago_us)

    installation.store.write(age)
    assert installation.store.write(purge_expired) == 5
    refusal = nobody.refusal("RefreshToken", pb.RefreshTokenRequest(refresh_token=tokens.refresh_token))
    assert refusal.reason == "UNAUTHENTICATED"
    assert installation.store.write(purge_expired) == 0


# -- signing keys


def keys(nobody):
    return list(nobody("GetJwks", pb.GetJwksRequest()).keys)


def test_get_jwks_publishes_what_verifies_a_token(admin, nobody):
    key = keys(nobody)[0]
    jwk = {"kty": key.kty, "crv": key.crv, "x": key.x, "y": key.y, "kid": key.kid, "use": key.use, "alg": key.alg}
    claims = jwt.decode(admin.access_token, jwt.PyJWK(jwk), audience=AUDIENCE, issuer=ISSUER)
    assert claims["sub"] == "serviceAccounts/admin"
    assert (key.kty, key.use, key.alg, key.crv) == ("EC", "sig", "ES256", "P-256")


def test_rotate_signing_key_signs_with_the_new_and_still_verifies_the_old(admin, nobody, installation):
    old = keys(nobody)[0]
    new = admin("RotateSigningKey", pb.RotateSigningKeyRequest()).key
    assert [key.kid for key in keys(nobody)] == [new.kid, old.kid]
    who_am_i(admin)
    later = nobody.with_key(installation.admin_key)
    assert jwt.get_unverified_header(later.access_token)["kid"] == new.kid
    who_am_i(later)


def test_replaced_signing_key_stops_verifying_after_the_overlap(admin, nobody, installation):
    old = keys(nobody)[0]
    real = decode_claims(admin.access_token)
    before = nobody.with_token(forge(installation, claims=real, changes={"jti": "never seen"}))
    admin("RotateSigningKey", pb.RotateSigningKeyRequest())
    installation.store.write(
        lambda tx: Statement("UPDATE signing_keys SET expire_time_us = 1 WHERE kid = :kid").run(tx, kid=old.kid)
    )
    installation.store.write(lambda tx: tx.connection.execute("UPDATE access_versions SET version = version + 1"))
    installation.version.expire()
    assert old.kid not in [key.kid for key in keys(nobody)]
    assert before.refusal("WhoAmI", pb.WhoAmIRequest()).reason == "UNAUTHENTICATED"


def test_dry_run_of_rotate_signing_key_keeps_the_key(admin, nobody):
    before = keys(nobody)
    admin("RotateSigningKey", pb.RotateSigningKeyRequest(validate_only=True))
    assert keys(nobody) == before


# -- stored data


def test_no_more_tokens_are_remembered_than_allowed(database):
    installation = Installation(database, verified_max=3)
    call = Call(DomainCaller(""), "test/IssueToken")
    tokens = [installation.tokens.issue(call, installation.admin_key).access_token for _ in range(5)]
    for token in [*tokens, *tokens]:
        installation.authenticator.authenticate(f"Bearer {token}", "authenticated")
    assert len(installation.authenticator._verified) == 3
    installation.store.close()
