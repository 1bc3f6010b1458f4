"""Tokens of an identity provider: its public keys, and the validation of its JWTs as RFC 8725 and OpenID Connect ask.

Invariants: an algorithm belongs to the type of its key, so that no public key is ever the key of an HMAC; nothing is
downloaded while a call waits; keys and key URLs in the header of a token are ignored.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
import time
from collections.abc import Mapping
from typing import Any, TypeGuard

import jwt
import msgspec
from buf.validate import validate_pb2
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from storekeep.server.domain.access.identities import Identity
from storekeep.server.domain.access.tokens import SECOND_US
from storekeep.server.domain.access_errors import (
    IdentityProviderUnavailable,
    IdentityTokenInvalid,
    TokenExpired,
    Unauthenticated,
)
from storekeep.server.runtime import base64url
from storekeep.server.transport.jwts import TOKEN_FORMAT, TOKEN_LENGTH_MAX
from storekeep.v1 import users_pb2

ALGORITHMS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): ("RS256", "PS256"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
"""The accepted algorithms by type and curve of a key. There is no HMAC and no `none`."""
KEYS_MAX = 100
RSA_BITS = range(2_048, 8_193)
RSA_EXPONENT_MAX = 2**32
"""Larger exponents make a signature slow to verify."""
ID_TOKEN_LENGTH_MAX = 16_384
"""Longest accepted ID token: one with some hundred groups."""
ID_TOKEN_AGE_MAX_S = 600.0
"""Oldest ID token that signs in. A used one is remembered until it expires."""
ACCESS_TYPES = frozenset({"", "jwt", "at+jwt"})
ID_TYPES = frozenset({"", "jwt"})
REQUIRED = ("iss", "aud", "sub", "exp", "iat")
TIMES = ("exp", "iat", "nbf")
TIME_MAX_S = 2.0**33
"""Latest accepted time, in the year 2242: a later one is a mistake, such as milliseconds, and a date beyond 9999."""
SUBJECT_CHARS_MAX = 255
EMAIL = users_pb2.User.DESCRIPTOR.fields_by_name["email"].GetOptions().Extensions[validate_pb2.field].string
"""The rules of the contract for the address of a user."""
GROUPS_MAX = 1_000
KeyId = tuple[str, str]
"""The `kid` of a key, and an algorithm of it."""
Keys = Mapping[KeyId, Any]


class _Rejected(Exception):
    """The token is not accepted; the text says why."""


class KeySetUnreadable(Exception):
    """The text is no set of keys (JWKS), or no key of it can be used."""


def parse_key_set(body: bytes) -> Keys:
    """Return the keys of a JWKS (RFC 7517) that can be used here. Others, such as those for encryption, are skipped.

    Raises: KeySetUnreadable.
    """
    try:
        listed = _decode_object(body).get("keys")
    except ValueError:
        raise KeySetUnreadable("the reply is not JSON, or too large") from None
    if not isinstance(listed, list):
        raise KeySetUnreadable("the reply has no list of keys")
    keys: dict[KeyId, Any] = {}
    for item in listed[:KEYS_MAX]:
        for key_id, key in _parse_key(item) if isinstance(item, dict) else ():
            keys.setdefault(key_id, key)
    if not keys:
        raise KeySetUnreadable("none of the keys is for signatures with an accepted algorithm")
    return keys


def _parse_key(item: dict[str, Any]) -> list[tuple[KeyId, Any]]:
    """Return a key of a JWKS by `kid` and each algorithm that it may be used with; nothing for other keys."""
    kid, use, curve = item.get("kid", ""), item.get("use", "sig"), item.get("crv", "")
    try:
        algorithms = ALGORITHMS.get((item.get("kty", ""), curve), ())
    except TypeError:  # a value that is no text
        return []
    if "alg" in item:
        algorithms = tuple(name for name in algorithms if name == item["alg"])
    if not algorithms or use != "sig" or not isinstance(kid, str):
        return []
    try:
        key = jwt.PyJWK(item, algorithm=algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
        return []
    if isinstance(key, RSAPublicKey) and (key.key_size not in RSA_BITS or key.public_numbers().e > RSA_EXPONENT_MAX):
        return []
    return [((kid, name), key) for name in algorithms] if hasattr(key, "verify") else []


class ProviderKeys:
    """The public keys of the provider. A job replaces them; calls only look them up. Thread-safe.

    Args:
        stale_max_s: how long they are used after they were replaced last, in seconds.
    """

    def __init__(self, *, stale_max_s: float) -> None:
        self._stale_max_s = stale_max_s
        self._keys: Keys = {}
        self._valid_until_s = 0.0
        self._wanted = threading.Event()

    def replace(self, keys: Keys) -> bool:
        """Use other keys from now on. Return whether they differ in their names."""
        is_changed = self._keys.keys() != keys.keys()
        self._keys, self._valid_until_s = keys, time.monotonic() + self._stale_max_s
        self._wanted.clear()
        return is_changed

    @property
    def is_wanted(self) -> bool:
        """Whether a token had an unknown key since the last replacement, or there are none."""
        return self._wanted.is_set() or time.monotonic() >= self._valid_until_s

    def find(self, kid: str, algorithm: str) -> Any:
        """Return a key; None if it is unknown. Without a `kid`, the only key of the algorithm.

        Raises: IdentityProviderUnavailable if there are no keys, or only keys that are too old.
        """
        if time.monotonic() >= self._valid_until_s:
            raise IdentityProviderUnavailable
        keys = self._keys
        if not kid:
            fitting = [key for (_, name), key in keys.items() if name == algorithm]
            return fitting[0] if len(fitting) == 1 else None
        key = keys.get((kid, algorithm))
        if key is None:
            self._wanted.set()
        return key


class ProviderTokens:
    """Validates the tokens of one provider.

    Args:
        client_id: the audience of ID tokens; empty to accept none.
        audience: the audience of access tokens; empty to accept none.
        groups_claim: the claim with the groups, or a path to it.
        skew_s: how far the provider's clock may differ, in seconds.
    """

    def __init__(
        self, keys: ProviderKeys, *, issuer: str, client_id: str, audience: str, groups_claim: str, skew_s: float
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._client_id = client_id
        self._audience = audience
        self._groups_claim = groups_claim
        self._skew_s = skew_s

    def owns(self, token: str) -> bool:
        """Return whether a token names this provider as its issuer, validly signed or not."""
        if not self._audience or len(token) > TOKEN_LENGTH_MAX or not TOKEN_FORMAT.fullmatch(token):
            return False
        try:
            return bool(_decode_part(token.split(".")[1]).get("iss") == self._issuer)
        except ValueError:
            return False

    def read_access_token(self, token: str) -> Identity:
        """Return whom a valid access token is for.

        Raises: Unauthenticated, TokenExpired, IdentityProviderUnavailable.
        """
        try:
            claims = self._decode(token, audience=self._audience, types=ACCESS_TYPES)
            if "cnf" in claims:
                raise _Rejected("the token is bound to a key (DPoP or mTLS), which this server does not check")
            if "nonce" in claims or "at_hash" in claims:
                raise _Rejected("the token is an ID token, not an access token")
            return self._build_identity(token, claims)
        except jwt.ExpiredSignatureError:
            raise TokenExpired from None
        except _Rejected as error:
            raise Unauthenticated(str(error)) from None

    def read_id_token(self, token: str, nonce_secret: str) -> Identity:
        """Return whom a valid and recent ID token is for.

        Args:
            nonce_secret: the text whose SHA-256, in base64url, is the nonce of the token.

        Raises: IdentityTokenInvalid, IdentityProviderUnavailable.
        """
        if not self._client_id:
            raise IdentityTokenInvalid("this server accepts no ID tokens")
        try:
            claims = self._decode(token, audience=self._client_id, types=ID_TYPES, length_max=ID_TOKEN_LENGTH_MAX)
            audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
            if claims.get("azp", self._client_id if len(audiences) == 1 else "") != self._client_id:
                raise _Rejected("the token was issued to another client")
            nonce = base64url.encode(hashlib.sha256(nonce_secret.encode()).digest())
            if not hmac.compare_digest(str(claims.get("nonce", "")).encode(errors="replace"), nonce.encode()):
                raise _Rejected("the token is not for this sign-in: its nonce is another one")
            if claims["iat"] < time.time() - ID_TOKEN_AGE_MAX_S - self._skew_s:
                raise _Rejected("the token is too old to sign in with")
            return self._build_identity(token, claims)
        except jwt.ExpiredSignatureError:
            raise IdentityTokenInvalid("the token has expired") from None
        except _Rejected as error:
            raise IdentityTokenInvalid(str(error)) from None

    def _decode(
        self, token: str, *, audience: str, types: frozenset[str], length_max: int = TOKEN_LENGTH_MAX
    ) -> dict[str, Any]:
        """Return the claims of a token with a valid signature, issuer, audience and time.

        Raises: _Rejected, jwt.ExpiredSignatureError, IdentityProviderUnavailable.
        """
        if len(token) > length_max or not TOKEN_FORMAT.fullmatch(token):
            raise _Rejected(f"the token is not a JWT of at most {length_max:,} characters")
        algorithm, key = self._find_key(token, types)
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=audience,
                leeway=self._skew_s,
                options={"require": list(REQUIRED), "verify_iat": False},
            )
        except jwt.ExpiredSignatureError:
            raise
        except jwt.PyJWTError as error:
            raise _Rejected(PROBLEMS.get(type(error), "the token cannot be read")) from None
        except (ValueError, OverflowError, TypeError, RecursionError):
            raise _Rejected("the token cannot be read") from None
        if not all(_is_time(claims[name]) for name in TIMES if name in claims):
            raise _Rejected("a time of the token is no number of seconds since 1970, or too late")
        if claims["iat"] > time.time() + self._skew_s:
            raise _Rejected("the token was issued in the future")
        return claims

    def _find_key(self, token: str, types: frozenset[str]) -> tuple[str, Any]:
        """Return the algorithm and the key of a token.

        Raises: _Rejected, IdentityProviderUnavailable.
        """
        try:
            header = _decode_part(token.partition(".")[0])
        except ValueError:
            raise _Rejected("the token is not a JWT") from None
        kind, algorithm, kid = header.get("typ", ""), header.get("alg"), header.get("kid", "")
        if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in types:
            raise _Rejected("the token has another type")
        if "crit" in header or not isinstance(algorithm, str) or not isinstance(kid, str):
            raise _Rejected("the header of the token is not accepted")
        if not any(algorithm in names for names in ALGORITHMS.values()):
            raise _Rejected("the token's algorithm is not accepted")
        key = self._keys.find(kid, algorithm)
        if key is None:
            raise _Rejected("the token was signed with an unknown key")
        return algorithm, key

    def _build_identity(self, token: str, claims: dict[str, Any]) -> Identity:
        """Return whom verified claims are for.

        Raises: _Rejected.
        """
        subject = claims["sub"]
        if not _is_text(subject) or not 0 < len(subject) <= SUBJECT_CHARS_MAX:
            raise _Rejected("the token has no usable subject")
        name, email = claims.get("name"), claims.get("email")
        is_usable = claims.get("email_verified") is True and isinstance(email, str) and _is_email(email)
        return Identity(
            issuer=self._issuer,
            subject=subject,
            groups=_find_groups(claims, self._groups_claim),
            # The signature is left out: some algorithms allow several for the same token.
            token_id=hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest(),
            expire_us=round((claims["exp"] + self._skew_s) * SECOND_US),
            display_name=name if isinstance(name, str) else "",
            email=str(email) if is_usable else "",
        )


def _is_email(text: str) -> bool:
    """Return whether a text is an email address as the contract has it."""
    return len(text) <= EMAIL.max_len and re.fullmatch(EMAIL.pattern, text) is not None


def _is_time(value: object) -> bool:
    """Return whether a claim is a time in seconds since 1970. A boolean, a text, and what is no number are none."""
    return type(value) in (int, float) and 0 <= value <= TIME_MAX_S  # type: ignore[operator]  # it is a number


def _is_text(value: object) -> TypeGuard[str]:
    """Return whether a claim is a text without halves of characters, which JSON can have and UTF-8 cannot."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _find_groups(claims: dict[str, Any], path: str) -> frozenset[str]:
    """Return the groups in a claim, or in a member of a claim that a path with dots leads to."""
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, str):
        return frozenset({value})
    return (
        frozenset(item for item in value[:GROUPS_MAX] if isinstance(item, str))
        if isinstance(value, list)
        else frozenset()
    )


def _decode_part(part: str) -> dict[str, Any]:
    """Return the object in a part of a JWT. Raises: ValueError."""
    return _decode_object(base64url.decode(part))


def _decode_object(data: bytes) -> dict[str, Any]:
    """Return the object that JSON describes. Raises: ValueError."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from None


PROBLEMS: Mapping[type[jwt.PyJWTError], str] = {
    jwt.InvalidIssuerError: "the token is from another issuer",
    jwt.InvalidAudienceError: "the token is for another audience",
    jwt.InvalidSignatureError: "the token's signature is invalid",
    jwt.MissingRequiredClaimError: "the token lacks a required claim",
    jwt.ImmatureSignatureError: "the token is not valid yet",
}
"""Error messages for callers. All other errors become a general message."""
