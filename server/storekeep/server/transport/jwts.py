"""Access tokens on the wire: JWTs as RFC 9068 has them, signed with ES256, checked as RFC 8725 asks.

Invariant: the algorithm belongs to the key. What a token's header says about algorithms, keys or where to get them
decides nothing.
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
from storekeep.server.domain.errors import TokenExpired, Unauthenticated

TYPE = "at+jwt"
"""Tells an access token from every other JWT (RFC 9068, 2.1)."""
TOKEN_LENGTH_MAX = 8_192
"""Characters; ours have about 500."""
LEEWAY_S = 5
"""How far ahead another machine's clock may be when it says that a token was issued now."""
REQUIRED = ("iss", "aud", "sub", "exp", "iat", "jti", "sid", "client_id")
TEXTS = ("sub", "jti", "sid", "client_id")
TOKEN_FORMAT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)


class AccessTokens:
    """Writes and reads the access tokens of one issuer.

    Args:
        issuer: the `iss` of its tokens: a name for this installation.
        audience: the `aud`: what the tokens are for.
        signer: gives the key that signs now.
        verifier: gives the public key with an id, None for an unknown one.
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
        """The signed token that says this."""
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
        """What a token says, once its signature and everything else about it is right.

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
            raise Unauthenticated(_problem(error)) from None
        return _claims(payload)

    def _decode(self, token: str) -> dict[str, Any]:
        """Raises: Unauthenticated, and what PyJWT raises."""
        header = jwt.get_unverified_header(token)
        if str(header.get("typ", "")).lower().removeprefix("application/") != TYPE:
            raise Unauthenticated("the token is not an access token")
        key = self._verifier(str(header.get("kid", "")))
        if key is None:
            raise Unauthenticated("the token was signed with a key that is not, or no longer, known here")
        return jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            issuer=self._issuer,
            audience=self._audience,
            options={"require": list(REQUIRED), "verify_iat": False},
        )


def _claims(payload: dict[str, Any]) -> TokenClaims:
    """Raises: Unauthenticated."""
    issue_s, expire_s = payload["iat"], payload["exp"]
    if type(issue_s) is not int or type(expire_s) is not int or not all(type(payload[t]) is str for t in TEXTS):
        raise Unauthenticated("a claim of the token is of the wrong type")
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
    jwt.InvalidAlgorithmError: "the token's algorithm is not the one of its key",
    jwt.InvalidIssuerError: "the token is of another issuer",
    jwt.InvalidAudienceError: "the token is for another audience",
    jwt.InvalidSignatureError: "the token's signature is wrong",
    jwt.MissingRequiredClaimError: "the token lacks a claim",
}
"""What a caller is told; everything else is a token that cannot be read."""


def _problem(error: jwt.PyJWTError) -> str:
    return PROBLEMS.get(type(error), "the token cannot be read")
