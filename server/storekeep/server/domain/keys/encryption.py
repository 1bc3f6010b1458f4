"""Seals: secrets that have to be kept readable, encrypted with AES-256-GCM and bound to what they belong to.

Every purpose has a key of its own, derived from the server's secret; what was sealed for one opens for no other.
"""

from __future__ import annotations

import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
"""NIST SP 800-38D, 8.2.2: random nonces of 96 bits, good for 2^32 seals with one key."""


def derive_key(secret: bytes, purpose: str) -> bytes:
    """32 bytes for one purpose (NIST SP 800-108, HMAC-SHA256 with one block)."""
    return hmac.digest(secret, b"storekeep:" + purpose.encode(), "sha256")


class SealBroken(Exception):
    """What was to be opened was not sealed with this key, for this owner, or was changed since."""

    def __init__(self) -> None:
        super().__init__("what is sealed in the database does not open; is the server's secret another one now?")


class Seal:
    """Seals and opens for one purpose.

    Args:
        secret: the server's own; all its workers share it.
        purpose: tells the keys apart.
    """

    def __init__(self, secret: bytes, *, purpose: str) -> None:
        self._cipher = AESGCM(derive_key(secret, "seal:" + purpose))

    def seal(self, data: bytes, *, owner: str) -> bytes:
        """Encrypt data so that it opens for `owner` only."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, owner.encode())

    def open(self, sealed: bytes, *, owner: str) -> bytes:
        """What was sealed.

        Raises: SealBroken.
        """
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], owner.encode())
        except (InvalidTag, ValueError):
            raise SealBroken from None
