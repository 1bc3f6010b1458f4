"""Encryption of stored secrets with AES-256-GCM, each bound to its owner.

Each purpose has its own key, derived from the server's secret. Data for one purpose cannot be decrypted for another.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storekeep.server.runtime.key_derivation import NONCE_BYTES, derive_key

TOKEN_BYTES = 16
"""Length of a blind index."""
BLOCK_BYTES, INNER_PAD, OUTER_PAD = 64, 0x36, 0x5C
"""The block of SHA-256, and the constants of HMAC."""


class Mac:
    """HMAC-SHA256 (RFC 2104) with one key, which it absorbs once.

    A short message takes 0.6 µs; with a copy of `hmac.HMAC` 1.0, with `hmac.digest` 1.5 (2026-11-30).

    Args:
        key: any length.
        prefix: bytes that all messages begin with.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, *, prefix: bytes = b"") -> None:
        block = (key if len(key) <= BLOCK_BYTES else hashlib.sha256(key).digest()).ljust(BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ INNER_PAD for byte in block) + prefix)
        self._outer = hashlib.sha256(bytes(byte ^ OUTER_PAD for byte in block))

    def compute(self, message: bytes) -> bytes:
        """Return the 32 bytes of the MAC of a message, given what follows the prefix."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


class WordHash:
    """Keyed BLAKE2b with 128 bits: 0.7 µs for a word, not the 1.8 µs of `Mac`; a customer can have thousands."""

    __slots__ = ("_key", "_keyed")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._keyed = hashlib.blake2b(key=key, digest_size=TOKEN_BYTES)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WordHash) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)

    def compute_many(self, words: Iterable[str]) -> list[str]:
        """Return the hash of each word as 32 hexadecimal digits."""
        copy, hashes = self._keyed.copy, []
        for word in words:
            keyed = copy()
            keyed.update(word.encode())
            hashes.append(keyed.hexdigest())
        return hashes


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
