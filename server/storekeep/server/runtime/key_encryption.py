"""Key-encryption keys (KEK): they encrypt data keys, and no data.

A KEK is identified by a digest of itself, so a wrong key is an unknown key. Older KEKs decrypt data keys until a
rotation has encrypted these with the new one. Nothing here waits for a network: it runs in the writer's thread.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storekeep.server.runtime.file_modes import ExposedFile
from storekeep.server.runtime.key_derivation import NONCE_BYTES, derive_key
from storekeep.server.runtime.secrets import WeakSecret

KEY_ID_BYTES = 8


class KeyUnknown(Exception):
    """No KEK with this id is known.

    Attributes:
        key_id: the id.
    """

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"the personal data in the database needs the key-encryption key {key_id}, which this server does not "
            "have: put the right kek.key into the data directory, or set STOREKEEP_KEK to it; if it is lost, run: "
            "storekeep-server give-up-keys"
        )
        self.key_id = key_id


class UnwrapFailed(Exception):
    """An encrypted data key was damaged, or belongs to another owner."""

    def __init__(self) -> None:
        super().__init__("an encrypted data key in the database is damaged; restore the keys from a backup")


class KeyEncryption(Protocol):
    """Encrypts data keys ("wraps" them) with key-encryption keys."""

    def list_key_ids(self) -> tuple[str, ...]:
        """Return the ids of the known KEKs, newest first."""

    def require(self, key_id: str) -> None:
        """Raise KeyUnknown unless this KEK is known."""

    def wrap(self, data_key: bytes, *, key_id: str, owner: str) -> bytes:
        """Encrypt a data key so that it decrypts for the same `owner` only. The result has a fixed size.

        Raises: KeyUnknown.
        """

    def unwrap(self, wrapped: bytes, *, key_id: str, owner: str) -> bytes:
        """Return the data key.

        Raises: KeyUnknown, UnwrapFailed.
        """


class LocalKeyEncryption:
    """Key-encryption keys that the process holds, from files or the environment; AES-256-GCM.

    Args:
        read: returns the secrets that the KEKs are derived from, newest first. Called again when a KEK is unknown.
        poll_interval_s: call `read` in a thread of its own at this interval instead, because it may wait for a network.

    Raises: WeakSecret, ExposedFile, OSError.
    """

    def __init__(self, read: Callable[[], Sequence[bytes]], *, poll_interval_s: float | None = None) -> None:
        self._read = read
        self._poll_interval_s = poll_interval_s
        self._lock = threading.Lock()
        self._ciphers: dict[str, AESGCM] = {}
        self._load()
        if poll_interval_s is not None:
            threading.Thread(target=self._poll, args=(poll_interval_s,), name="kek-poll", daemon=True).start()

    def _poll(self, interval_s: float) -> None:
        while True:
            time.sleep(interval_s)
            self.reload()

    def _load(self) -> None:
        self._ciphers = {make_key_id(secret): AESGCM(derive_key(secret, "kek")) for secret in self._read()}

    def reload(self) -> None:
        """Read the KEKs again. Keep the known ones if that fails."""
        with self._lock:
            try:
                self._load()
            except (ExposedFile, OSError, WeakSecret):
                return  # the known keys stay in use when their files cannot be read

    def list_key_ids(self) -> tuple[str, ...]:
        """Return the ids of the known KEKs, newest first."""
        return tuple(self._ciphers)

    def require(self, key_id: str) -> None:
        """Raise KeyUnknown unless this KEK is known."""
        self._get_cipher(key_id)

    def wrap(self, data_key: bytes, *, key_id: str, owner: str) -> bytes:
        """Encrypt a data key: nonce, then ciphertext with its tag.

        Raises: KeyUnknown.
        """
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._get_cipher(key_id).encrypt(nonce, data_key, owner.encode())

    def unwrap(self, wrapped: bytes, *, key_id: str, owner: str) -> bytes:
        """Return the data key.

        Raises: KeyUnknown, UnwrapFailed.
        """
        try:
            return self._get_cipher(key_id).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], owner.encode())
        except (InvalidTag, ValueError):
            raise UnwrapFailed from None

    def _get_cipher(self, key_id: str) -> AESGCM:
        cipher = self._ciphers.get(key_id)
        if cipher is None and self._poll_interval_s is None:
            self.reload()
            cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise KeyUnknown(key_id)
        return cipher


def make_key_id(secret: bytes) -> str:
    """Return the id of a KEK: 16 hexadecimal digits that identify it without revealing it."""
    return derive_key(secret, "kek-id")[:KEY_ID_BYTES].hex()
