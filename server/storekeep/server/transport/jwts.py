"""Access tokens as JWTs: the profile of RFC 9068, signed with ES256 and validated as RFC 8725 recommends.

Invariant: the algorithm belongs to the key. Algorithms, keys and key URLs in a token's header are ignored.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from storekeep.server.domain.access.signing_keys import ALGORITHM, Signer
from storekeep.server.domain.access.tokens import SECOND_US, TokenClaims
from storekeep.server.domain.access_errors import TokenExpired, Unauthenticated

TYPE = "at+jwt"
"""The `typ` of access tokens, which distinguishes them from other JWTs (RFC 9068, 2.1)."""
TOKEN_LENGTH_MAX = 8_192
"""Longest accepted token, in characters. Issued tokens have about 500."""
LEEWAY_S = 5
"""Tolerated clock skew of the issuing machine: an `iat` may be this far in the future."""
REQUIRED = ("iss", "aud", "sub", "exp", "iat", "jti", "sid", "client_id")
TEXTS = ("sub", "jti", "sid", "client_id")
TOKEN_FORMAT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)


class AccessTokens:
    """Encodes and decodes the access tokens of one issuer.

    Args:
        issuer: the `iss` claim: the name of this installation.
        audience: the `aud` claim: the service that the tokens are for.
        signer: returns the current signing key.
        verifier: returns the public key for a key id, or None if the id is unknown.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        signer: Callable[[], Signer],
        verifier: Callable[[str], ec.EllipticCurvePublicKey | None],
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._signer = signer
        self._verifier = verifier

    def write(self, claims: TokenClaims) -> str:
        """Return a signed token with these claims."""
        signer = self._signer()
        payload = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": claims.subject,
            "exp": claims.expire_us // SECOND_US,
            "iat": claims.issue_us // SECOND_US,
            "jti": claims.token_id,
            "sid": claims.session_id,
            "client_id": claims.client,
        }
        return jwt.encode(payload, signer.private_key, algorithm=ALGORITHM, headers={"typ": TYPE, "kid": signer.kid})

    def read(self, token: str) -> TokenClaims:
        """Return the claims of a token after validating its signature and claims.

        Raises: Unauthenticated, TokenExpired.
        """
        if len(token) > TOKEN_LENGTH_MAX:
            raise Unauthenticated(f"the token is longer than {TOKEN_LENGTH_MAX} characters")
        if not TOKEN_FORMAT.fullmatch(token):
            raise Unauthenticated("the token is not a JWT")
        try:
            payload = self._decode(token)
        except jwt.ExpiredSignatureError:
            raise TokenExpired from None
        except jwt.PyJWTError as error:
            raise Unauthenticated(_describe_error(error)) from None
        return _parse_claims(payload)

    def _decode(self, token: str) -> dict[str, Any]:
        """Return the payload of a token with a valid signature. Raises: Unauthenticated, jwt.PyJWTError."""
        header = jwt.get_unverified_header(token)
        if str(header.get("typ", "")).lower().removeprefix("application/") != TYPE:
            raise Unauthenticated("the token is not an access token")
        key = self._verifier(str(header.get("kid", "")))
        if key is None:
            raise Unauthenticated("the token was signed with an unknown or retired key")
        return jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            issuer=self._issuer,
            audience=self._audience,
            options={"require": list(REQUIRED), "verify_iat": False},
        )


def _parse_claims(payload: dict[str, Any]) -> TokenClaims:
    """Return the claims of a payload. Raises: Unauthenticated if a claim is invalid."""
    issue_s, expire_s = payload["iat"], payload["exp"]
    if type(issue_s) is not int or type(expire_s) is not int or not all(type(payload[t]) is str for t in TEXTS):
        raise Unauthenticated("a claim of the token has the wrong type")
    if issue_s > time.time() + LEEWAY_S:
        raise Unauthenticated("the token was issued in the future")
    return TokenClaims(
        token_id=payload["jti"],
        subject=payload["sub"],
        session_id=payload["sid"],
        client=payload["client_id"],
        issue_us=issue_s * SECOND_US,
        expire_us=expire_s * SECOND_US,
    )


PROBLEMS: dict[type[jwt.PyJWTError], str] = {
    jwt.InvalidAlgorithmError: "the token's algorithm does not match its key",
    jwt.InvalidIssuerError: "the token is from another issuer",
    jwt.InvalidAudienceError: "the token is for another audience",
    jwt.InvalidSignatureError: "the token's signature is invalid",
    jwt.MissingRequiredClaimError: "the token lacks a required claim",
}
"""Error messages for callers. All other errors become a general message."""


def _describe_error(error: jwt.PyJWTError) -> str:
    return PROBLEMS.get(type(error), "the token cannot be read")
