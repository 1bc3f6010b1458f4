"""Refused tokens sent again: a flood of one costs no signature check and no lookup per call."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from storekeep.server.domain.access_errors import TokenExpired, TokenRevoked
from storekeep.server.interceptors.auth import Authenticator
from storekeep.server.transport.jwts import AccessTokens
from storekeep.v1 import auth_pb2 as pb
from tests.domain.access.test_auth_tokens import disable, forge
from tests.support.installations import AUDIENCE, ISSUER


def count_checks(installation, calls):
    """Return an authenticator that counts its signature checks and lookups of callers."""
    keys = installation.signing_keys
    jwts = AccessTokens(issuer=ISSUER, audience=AUDIENCE, signer=keys.get_signer, verifier=keys.find_verifier)

    def count(name, function):
        def counted(argument):
            calls[name] += 1
            return function(argument)

        return counted

    return Authenticator(
        verify=count("signatures", jwts.read),
        find_caller=count("lookups", installation.tokens.find_caller),
        version=installation.version.current,
        verified_max=2,
    )


def refuse_often(authenticator, token, *, error, times=20):
    for _ in range(times):
        with pytest.raises(error):
            authenticator.authenticate(f"Bearer {token}", "products.read")


def test_flood_of_an_expired_token_costs_one_signature_check(installation):
    calls = Counter()
    authenticator = count_checks(installation, calls)
    now_s = int(time.time())
    for number in range(5):
        token = forge(installation, changes={"iat": now_s - 700, "exp": now_s - 1 - number})
        refuse_often(authenticator, token, error=TokenExpired)
    assert calls == {"signatures": 5}
    assert len(authenticator._rejected) == 2


def test_flood_of_a_revoked_token_costs_one_lookup_per_change_of_permissions(admin, nobody, installation):
    calls = Counter()
    authenticator = count_checks(installation, calls)
    key = admin.make_key("shop", roles=["viewer"])
    token = nobody.issue(key).access_token
    disable(admin, "shop")
    refuse_often(authenticator, token, error=TokenRevoked)
    assert calls == {"signatures": 1, "lookups": 1}
    disable(admin, "shop", disabled=False)
    assert authenticator.authenticate(f"Bearer {token}", "products.read").subject == "serviceAccounts/shop"


def test_tokens_that_revoke_or_refresh_nothing_leave_cached_permissions_alone(admin, nobody, installation):
    """Anybody could make every call of everybody read the version of the permissions again."""
    revoked = nobody.issue(installation.admin_key)
    nobody("RevokeToken", pb.RevokeTokenRequest(token=revoked.access_token))
    before = installation.version._expirations
    for token in ("garbage", "rt_garbage", forge(installation, changes={"exp": 1}), revoked.access_token):
        nobody("RevokeToken", pb.RevokeTokenRequest(token=token))
        nobody.refusal("RefreshToken", pb.RefreshTokenRequest(refresh_token=token))
    assert installation.version._expirations == before
    nobody("RevokeToken", pb.RevokeTokenRequest(token=revoked.refresh_token))
    assert installation.version._expirations == before + 1
