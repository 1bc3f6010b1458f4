"""Encryption of stored secrets with AES-256-GCM, each bound to its owner.

Each purpose has its own key, derived from the server's secret. Data for one purpose cannot be decrypted for another.
"""

from __future__ import annotations

import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
"""96-bit random nonces are safe for 2^32 encryptions with one key (NIST SP 800-38D, 8.2.2 and 8.3)."""


def derive_key(secret: bytes, purpose: str) -> bytes:
    """Return the 32-byte key of a purpose (NIST SP 800-108, HMAC-SHA256 with one block)."""
    return hmac.digest(secret, b"storekeep:" + purpose.encode(), "sha256")


class DecryptionFailed(Exception):
    """The data was encrypted with another key or for another owner, or was changed afterwards."""

    def __init__(self) -> None:
        super().__init__("encrypted data in the database cannot be decrypted; was the server's secret replaced?")


class SecretBox:
    """Encrypts and decrypts data for one purpose.

    Args:
        secret: the server's secret, which all workers share.
        purpose: selects the key, such as `signing-key`.
    """

    def __init__(self, secret: bytes, *, purpose: str) -> None:
        self._cipher = AESGCM(derive_key(secret, "seal:" + purpose))

    def encrypt(self, data: bytes, *, owner: str) -> bytes:
        """Encrypt data so that it decrypts for the same `owner` only. Return the nonce and the ciphertext."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, owner.encode())

    def decrypt(self, encrypted: bytes, *, owner: str) -> bytes:
        """Return the plaintext.

        Args:
            encrypted: the result of `encrypt`.

        Raises: DecryptionFailed.
        """
        try:
            return self._cipher.decrypt(encrypted[:NONCE_BYTES], encrypted[NONCE_BYTES:], owner.encode())
        except (InvalidTag, ValueError):
            raise DecryptionFailed from None
