"""Base64url without padding (RFC 4648, section 5), as used in tokens and JSON Web Keys."""

from __future__ import annotations

import base64


def encode(data: bytes) -> str:
    """Return the base64url text of bytes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Return the bytes of a base64url text. Decoding is lenient: different texts can decode to the same bytes.

    Raises: ValueError.
    """
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
