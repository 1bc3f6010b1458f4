"""Base64url without padding (RFC 4648, section 5), as used in tokens and JSON Web Keys."""

from __future__ import annotations

import base64
from binascii import b2a_base64

URL_SAFE = bytes.maketrans(b"+/", b"-_")


def encode(data: bytes) -> str:
    """Return the base64url text of bytes."""
    return encode_ascii(data).decode()


def encode_ascii(data: bytes) -> bytes:
    """Return the base64url text of bytes in ASCII."""
    return b2a_base64(data, newline=False).translate(URL_SAFE, b"=")


def decode(text: str) -> bytes:
    """Return the bytes of a base64url text. Decoding is lenient: different texts can decode to the same bytes.

    Raises: ValueError.
    """
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
