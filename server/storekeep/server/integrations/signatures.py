"""Signatures of webhooks: HMAC-SHA256 over the id, the time and the body (Standard Webhooks 1.0)."""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
"""Marks a signing secret, so that scanners for leaked secrets find it."""
KEY_BYTES = 32
"""256 bits, the size of the hash; the standard allows 24 to 64 bytes."""


def generate_secret() -> str:
    """Return a new signing secret: `whsec_` and the key in Base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def sign_message(message_id: str, *, time_s: int, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers that identify and sign a message.

    Args:
        message_id: the same for each attempt, so that the receiver can drop repetitions.
        time_s: the time of this attempt, seconds since 1970. Receivers refuse old messages.
        secrets: the valid signing secrets, newest first. The receiver may know any of them.
    """
    signed = b"%s.%d.%s" % (message_id.encode(), time_s, body)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(time_s),
        "webhook-signature": " ".join(f"v1,{_make_signature(signed, secret)}" for secret in secrets),
    }


def _make_signature(signed: bytes, secret: str) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    return base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
