"""Authentication by bearer token (JWT, ES256), verified for each request, or once and then cached until it expires."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, cast

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

AUDIENCE = "shop"
VERIFIED_MAX = 10_000

public_key = cast(
    "ec.EllipticCurvePublicKey", serialization.load_pem_public_key(Path(os.environ["SHOP_PUBLIC_KEY"]).read_bytes())
)
bearer = HTTPBearer()
_verified: dict[str, tuple[str, float]] = {}


Credentials = Annotated[HTTPAuthorizationCredentials, Depends(bearer)]


async def _get_caller(credentials: Credentials) -> str:
    return _verify(credentials.credentials)[0]


async def _get_cached_caller(credentials: Credentials) -> str:
    token = credentials.credentials
    subject, expires_s = _verified.get(token, ("", 0.0))
    if expires_s <= time.time():
        subject, expires_s = _verify(token)
        if len(_verified) >= VERIFIED_MAX:
            _verified.clear()
        _verified[token] = (subject, expires_s)
    return subject


def _verify(token: str) -> tuple[str, float]:
    try:
        claims = jwt.decode(token, public_key, algorithms=["ES256"], audience=AUDIENCE)
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, "the token is not valid") from error
    return claims["sub"], claims["exp"]


Caller = Annotated[str, Depends(_get_caller)]
"""The subject of the request's token, verified for each request; 401 if it is invalid."""
CachedCaller = Annotated[str, Depends(_get_cached_caller)]
"""The subject of the request's token, verified once and then cached until it expires."""
