"""Base64 for URLs without padding (RFC 4648, section 5), as in tokens and JSON Web Keys."""

from __future__ import annotations

import base64


def encode(data: bytes) -> str:
    """Return the text of some bytes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Return the bytes of a text. It is lenient: two texts can have the same bytes.

    Raises: ValueError.
    """
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
