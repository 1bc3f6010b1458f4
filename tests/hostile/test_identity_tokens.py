"""Attacks with tokens of an identity provider: forged, confused, replayed, and floods of them."""

from __future__ import annotations

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from storekeep.client import IdentityTokenInvalid, NotAuthenticated, RateLimited, Storekeep, StorekeepError
from storekeep.server.domain.access.identities import Identity
from storekeep.server.domain.access_errors import IdentityProviderUnavailable, Unauthenticated
from storekeep.server.domain.access_errors import IdentityTokenInvalid as Invalid
from storekeep.server.integrations.provider_keys import KeysNotAvailable
from storekeep.server.jobs import provider_keys
from storekeep.server.jobs.provider_keys import ProviderKeysJob
from storekeep.server.runtime import base64url
from storekeep.server.transport import provider_tokens
from storekeep.server.transport.provider_tokens import KeySetUnreadable, ProviderKeys, ProviderTokens, parse_key_set
from tests.conftest import MakeServer
from tests.support.providers import (
    AUDIENCE,
    CLIENT_ID,
    ISSUER,
    NONCE,
    NONCE_SECRET,
    Provider,
    ask_who_it_is,
    describe_key,
    make_claims,
    make_key,
    wait_for_keys,
)
from tests.support.shops import new_id

NOW_S = int(time.time())
"""When the test processes began: the tests may run an hour later."""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    made = Provider(tmp_path_factory.mktemp("provider") / "keys.json")
    made.publish()
    return made


@pytest.fixture
def tokens(provider: Provider) -> ProviderTokens:
    keys = ProviderKeys(stale_max_s=600)
    keys.replace(parse_key_set(provider.file.read_bytes()))
    return make_tokens(keys)


def make_tokens(keys: ProviderKeys) -> ProviderTokens:
    return ProviderTokens(keys, issuer=ISSUER, client_id=CLIENT_ID, audience=AUDIENCE, groups_claim="groups", skew_s=30)


def make_raw(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"x") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64url.encode(part) for part in parts)


ID_CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "another audience": ({"aud": "other"}, "another audience"),
    "the audience of access tokens": ({"aud": AUDIENCE}, "another audience"),
    "no audience": ({"aud": None}, "required claim"),
    "another issuer": ({"iss": "https://evil.example"}, "another issuer"),
    "a longer issuer": ({"iss": ISSUER + "/"}, "another issuer"),
    "no issuer": ({"iss": None}, "required claim"),
    "expired": ({"exp": NOW_S - 3_600}, "expired"),
    "never expiring": ({"exp": None}, "required claim"),
    "issued in the future": ({"iat": NOW_S + 86_400, "exp": NOW_S + 90_000}, "in the future"),
    "issued long ago": ({"iat": NOW_S - 7_200}, "too old"),
    "not valid yet": ({"nbf": NOW_S + 86_400}, "not valid yet"),
    "another nonce": ({"nonce": "x"}, "nonce"),
    "the secret as nonce": ({"nonce": NONCE_SECRET}, "nonce"),
    "no nonce": ({"nonce": None}, "nonce"),
    "a list as nonce": ({"nonce": [NONCE]}, "nonce"),
    "another authorized party": ({"azp": "other"}, "another client"),
    "two audiences": ({"aud": [CLIENT_ID, "other"]}, "another client"),
    "no subject": ({"sub": None}, "required claim"),
    "an empty subject": ({"sub": ""}, "no usable subject"),
    "a long subject": ({"sub": "a" * 300}, "no usable subject"),
    "half a character as subject": ({"sub": "\ud800"}, "no usable subject"),
    "a text as time": ({"iat": "now"}, "no number of seconds"),
    "digits as expiry": ({"exp": "99999999999"}, "no number of seconds"),
    "infinity": ({"exp": float("inf")}, "cannot be read"),
    "no number": ({"iat": float("nan")}, "no number of seconds"),
    "a truth as time": ({"iat": True}, "no number of seconds"),
    "a truth as start": ({"nbf": True}, "no number of seconds"),
    "a text as start": ({"nbf": "1"}, "no number of seconds"),
    "a time before 1970": ({"nbf": -1}, "no number of seconds"),
    "milliseconds as expiry": ({"exp": NOW_S * 1_000}, "no number of seconds"),
    "a year beyond 9999": ({"exp": 10**14}, "no number of seconds"),
    "a huge expiry": ({"exp": 1e300}, "no number of seconds"),
    "an expiry of 400 digits": ({"exp": 10**400}, "no number of seconds"),
    "a start of 400 digits": ({"iat": 10**400}, "no number of seconds"),
}


@pytest.mark.parametrize("name", ID_CLAIMS)
def test_id_token_with_wrong_claims_is_refused(tokens: ProviderTokens, provider: Provider, name: str):
    claims, text = ID_CLAIMS[name]
    with pytest.raises(Invalid, match=text):
        tokens.read_id_token(provider.make_id_token(**claims), NONCE_SECRET)


def test_good_tokens_are_read(tokens: ProviderTokens, provider: Provider):
    found = tokens.read_id_token(provider.make_id_token(subject="ann", azp=CLIENT_ID), NONCE_SECRET)
    assert (found.subject, found.groups, found.email) == ("ann", frozenset({"staff"}), "")
    claims = make_claims("ann", aud=AUDIENCE)
    for token in (
        provider.make_access_token(subject="ann"),
        provider.sign(claims, algorithm="PS256"),
        provider.sign(claims, key=provider.ec_key, algorithm="ES256", kid="ec"),
    ):
        assert tokens.owns(token)
        assert tokens.read_access_token(token).subject == "ann"


def make_forgeries(provider: Provider) -> dict[str, str]:
    claims = make_claims("ann", aud=AUDIENCE)
    public = provider.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    good = provider.make_access_token(subject="ann")
    head, body, signature = good.split(".")
    other = make_key()
    deep = base64url.encode(b'{"a":' * 1_500)
    own = describe_key(other, "rsa")
    return {
        "alg none": make_raw({"alg": "none", "kid": "rsa"}, claims, b""),
        "alg none without a dot": make_raw({"alg": "none", "kid": "rsa"}, claims).rpartition(".")[0],
        "alg NoNe": make_raw({"alg": "NoNe", "kid": "rsa"}, claims),
        "HS256 with the public key": sign_hmac(claims, public, kid="rsa"),
        "HS256 with the modulus": sign_hmac(claims, base64url.decode(describe_key(provider.key, "x")["n"]), kid="rsa"),
        "HS256 without a key id": sign_hmac(claims, public, kid=""),
        "another key": jwt.encode(claims, other, algorithm="RS256", headers={"kid": "rsa"}),
        "a key in the header": jwt.encode(claims, other, algorithm="RS256", headers={"kid": "rsa", "jwk": own}),
        "a key URL in the header": jwt.encode(
            claims, other, algorithm="RS256", headers={"kid": "new", "jku": "https://evil.example/keys"}
        ),
        "the key of another algorithm": provider.sign(claims, kid="ec"),
        "RS512": provider.sign(claims, algorithm="RS512"),
        "other claims": f"{head}.{base64url.encode(json.dumps(claims | {'groups': ['bosses']}).encode())}.{signature}",
        "no signature": f"{head}.{body}.",
        "a critical extension": provider.sign(claims, header={"crit": ["b64"], "b64": True}),
        "the type of a log-out token": provider.sign(claims, header={"typ": "logout+jwt"}),
        "the type of a DPoP proof": provider.sign(claims, header={"typ": "dpop+jwt"}),
        "a list as type": make_raw({"alg": "RS256", "kid": "rsa", "typ": ["JWT"]}, claims),
        "a number as key id": make_raw({"alg": "RS256", "kid": 1}, claims),
        "an ID token": provider.make_id_token(subject="ann", aud=[AUDIENCE, CLIENT_ID]),
        "bound to a key": provider.sign(claims | {"cnf": {"jkt": "x"}}),
        "another audience": provider.make_access_token(subject="ann", aud="https://other.example"),
        "another issuer": provider.make_access_token(subject="ann", iss="https://evil.example"),
        "in the future": provider.make_access_token(subject="ann", iat=NOW_S + 86_400, exp=NOW_S + 90_000),
        "a deep header": f"{base64url.encode(b'[' * 4_000)}.{body}.{signature}",
        "deep claims": f"{head}.{deep}.{signature}",
        "no base64": "a.b.c",
    }


def sign_hmac(claims: dict[str, Any], secret: bytes, *, kid: str) -> str:
    import hmac

    head = ".".join(
        base64url.encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT", "kid": kid}, claims)
    )
    return f"{head}.{base64url.encode(hmac.digest(secret, head.encode(), 'sha256'))}"


def test_forged_access_tokens_are_refused(tokens: ProviderTokens, provider: Provider):
    for name, token in make_forgeries(provider).items():
        with pytest.raises(Unauthenticated):
            pytest.fail(f"{name}: {tokens.read_access_token(token)}")


@pytest.mark.engine("sqlite", reason="tokens have nothing to do with the database")
def test_forged_tokens_are_refused_by_a_server(make_server: MakeServer, provider: Provider):
    server = make_server(failed_credentials_burst="1000", **provider.get_settings())
    wait_for_keys(server.address)
    forgeries = make_forgeries(provider)
    for name, token in forgeries.items():
        with pytest.raises(NotAuthenticated):
            pytest.fail(f"{name}: {ask_who_it_is(server.address, token)}")
    with Storekeep(server.address, api_key="") as nobody:
        for name, token in (forgeries | {"an access token": provider.make_access_token(subject="ann")}).items():
            with pytest.raises(IdentityTokenInvalid):
                pytest.fail(f"{name}: {nobody.users.sign_in_with_identity_token(token, nonce_secret=NONCE_SECRET)}")


def test_id_token_signs_in_once_also_with_another_signature_and_at_the_same_time(
    make_server: MakeServer, provider: Provider
):
    server = make_server(**provider.get_settings())
    wait_for_keys(server.address)
    token = provider.sign(make_claims(aud=CLIENT_ID, nonce=NONCE), key=provider.ec_key, algorithm="ES256", kid="ec")

    def sign_in(token: str) -> str:
        with Storekeep(server.address, api_key="") as nobody:
            try:
                nobody.users.sign_in_with_identity_token(token, nonce_secret=NONCE_SECRET)
            except StorekeepError as error:
                return error.message
        return ""

    with ThreadPoolExecutor(8) as threads:
        outcomes = sorted(threads.map(sign_in, [token] * 8))
    assert outcomes[0] == ""
    assert all("used before" in outcome for outcome in outcomes[1:])
    head, _, signature = token.rpartition(".")
    raw = base64url.decode(signature)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    assert "used before" in sign_in(f"{head}.{base64url.encode(twin)}")
    with Storekeep(server.address, api_key="") as nobody, pytest.raises(IdentityTokenInvalid, match="nonce"):
        nobody.users.sign_in_with_identity_token(provider.make_id_token(), nonce_secret="a" * 43)


@pytest.mark.engine("sqlite", reason="tokens have nothing to do with the database")
def test_flood_of_unknown_keys_is_limited_and_stops_nobody_else(make_server: MakeServer, provider: Provider):
    server = make_server(**provider.get_settings())
    wait_for_keys(server.address)
    claims, key = make_claims("ann", aud=AUDIENCE), make_key()
    reasons = set()
    for number in range(200):
        token = jwt.encode(claims, key, algorithm="RS256", headers={"kid": f"unknown-{number}"})
        try:
            ask_who_it_is(server.address, token)
        except StorekeepError as error:
            reasons.add(type(error))
    assert RateLimited in reasons
    with Storekeep(server.address, api_key=server.admin_key) as client:
        assert client.auth.who_am_i().subject == "serviceAccounts/admin"


# -- keys


class Source:
    """A source of keys that counts, and fails when told to."""

    def __init__(self, body: bytes) -> None:
        self.body: bytes | Exception = body
        self.fetches = 0

    def fetch(self) -> bytes:
        self.fetches += 1
        if isinstance(self.body, Exception):
            raise self.body
        return self.body


def test_unknown_keys_cause_few_downloads(provider: Provider):
    keys, source = ProviderKeys(stale_max_s=600), Source(provider.file.read_bytes())
    job = ProviderKeysJob(keys, source.fetch, interval_s=600, apart_s=0.2)
    job.run_once()
    end_s = time.monotonic() + 1.0
    while time.monotonic() < end_s:
        assert keys.find(new_id("kid"), "RS256") is None
        job.run_once()
    assert source.fetches <= 7


def test_keys_outlive_an_outage_but_not_for_long(provider: Provider, monkeypatch: pytest.MonkeyPatch):
    now_s = 1_000.0
    for module in (provider_keys, provider_tokens):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now_s))
    keys, source = ProviderKeys(stale_max_s=0.5), Source(provider.file.read_bytes())
    with pytest.raises(IdentityProviderUnavailable):
        keys.find("rsa", "RS256")
    job = ProviderKeysJob(keys, source.fetch, interval_s=0.01, apart_s=0.01)
    assert job.run_once() == 1
    for failure in (KeysNotAvailable("down"), OSError("down"), b"", b"[]", b'{"keys": []}', b"[" * 100_000):
        source.body = failure
        now_s += 0.02
        assert job.run_once() == 0
        assert keys.find("rsa", "RS256") is not None
    assert not keys.is_wanted
    now_s += 0.4  # they get too old
    assert keys.is_wanted
    with pytest.raises(IdentityProviderUnavailable):
        keys.find("rsa", "RS256")
    assert make_tokens(keys).owns(provider.make_access_token(subject="ann"))
    source.body = provider.file.read_bytes()
    job.run_once()
    assert keys.find("rsa", "RS256") is not None


def test_rotated_key_is_found_and_the_old_one_is_not_accepted_any_more(provider: Provider):
    keys, source = ProviderKeys(stale_max_s=600), Source(provider.file.read_bytes())
    job = ProviderKeysJob(keys, source.fetch, interval_s=600, apart_s=0.0)
    job.run_once()
    new = make_key()
    source.body = json.dumps({"keys": [describe_key(new, "new")]}).encode()
    token = jwt.encode(make_claims("ann", aud=AUDIENCE), new, algorithm="RS256", headers={"kid": "new"})
    tokens = make_tokens(keys)
    with pytest.raises(Unauthenticated, match="unknown key"):
        tokens.read_access_token(token)
    assert job.run_once() == 1
    assert isinstance(tokens.read_access_token(token), Identity)
    with pytest.raises(Unauthenticated, match="unknown key"):
        tokens.read_access_token(provider.make_access_token(subject="ann"))


def test_unfit_keys_are_skipped(provider: Provider):
    good = describe_key(provider.key, "good")
    small = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)
    curve = ec.generate_private_key(ec.SECP521R1())
    unfit = [
        describe_key(small, "small"),
        describe_key(curve, "curve"),
        good | {"kid": "encryption", "use": "enc"},
        good | {"kid": "algorithm", "alg": "RS1"},
        good | {"kid": "hmac-algorithm", "alg": "HS256"},
        {"kty": "oct", "kid": "hmac", "k": base64.urlsafe_b64encode(b"a" * 32).decode()},
        good | {"kid": ["list"]},
        good | {"kid": "exponent", "e": base64url.encode(b"\xff" * 200 + b"\x01")},
        good | {"kid": "modulus", "n": "AQAB"},
        {"kty": ["RSA"]},
        {"kty": "RSA"},
        1,
        None,
    ]
    assert parse_key_set(json.dumps({"keys": [*unfit, good]}).encode()).keys() == {("good", "RS256"), ("good", "PS256")}
    many = [good | {"kid": str(number)} for number in range(500)]
    assert len(parse_key_set(json.dumps({"keys": many}).encode())) == 200
    with pytest.raises(KeySetUnreadable):
        parse_key_set(json.dumps({"keys": unfit}).encode())


def test_token_without_a_key_id_needs_a_single_key(provider: Provider):
    keys = ProviderKeys(stale_max_s=600)
    tokens, token = make_tokens(keys), provider.sign(make_claims("ann", aud=AUDIENCE), kid="")
    keys.replace(parse_key_set(json.dumps({"keys": [describe_key(provider.key, "one")]}).encode()))
    assert tokens.read_access_token(token).subject == "ann"
    others = [describe_key(provider.key, "one"), describe_key(make_key(), "two")]
    keys.replace(parse_key_set(json.dumps({"keys": others}).encode()))
    with pytest.raises(Unauthenticated, match="unknown key"):
        tokens.read_access_token(token)
