"""The server's secrets during a rotation: the one that the database uses now, and older ones that still decrypt data.

Invariant: new data is encrypted with the secret that the database names. A process that already knows the next secret
therefore writes nothing that others cannot read yet.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from storekeep.server.domain.keys.encryption import DecryptionFailed, SecretBox
from storekeep.server.runtime.durations import DAY_US
from storekeep.server.runtime.file_modes import ExposedFile
from storekeep.server.runtime.key_derivation import derive_key
from storekeep.server.runtime.secrets import WeakSecret
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import audit as store

RELOAD_INTERVAL_S = 1.0
"""How often the secrets are read again, in seconds: page tokens and API keys follow a rotation within that time."""
OVERLAP_DAYS = 30
"""How long API keys stored under the previous secret stay valid after a rotation."""


class SecretUnknown(DecryptionFailed):
    """The database uses a secret that this process does not have."""

    def __init__(self) -> None:
        Exception.__init__(
            self,
            "the server's secret is not the one that the database uses: put the right secret.key into the data "
            "directory, or set STOREKEEP_SECRET to it; if it is lost, run: storekeep-server bootstrap-admin --force "
            "--new-secret",
        )


class CurrentSecret(msgspec.Struct, frozen=True):
    """The secret that the database uses now.

    Attributes:
        number: 1 for the first secret; each rotation adds one.
        secret: the secret itself.
        since_us: when the database began to use it, microseconds since 1970.
    """

    number: int
    secret: bytes
    since_us: int


class Keyring:
    """The server's secrets, as this process knows them.

    Args:
        read: returns the secrets, newest first. Called about once a second, and when data cannot be decrypted.
        overlap_days: how long API keys stored under the previous secret stay valid after a rotation.
    """

    def __init__(self, read: Callable[[], Sequence[bytes]], *, overlap_days: float = OVERLAP_DAYS) -> None:
        self._read = read
        self._overlap_us = round(overlap_days * DAY_US)
        self._lock = threading.Lock()
        self._known: tuple[bytes, ...] = ()
        self._fingerprint = b""
        self.reload()

    @staticmethod
    def from_secret(secret: bytes) -> Keyring:
        """Return a keyring with one secret, which never changes."""
        return Keyring(lambda: (secret,))

    def reload(self) -> bool:
        """Read the secrets again. Return whether they have changed."""
        with self._lock:
            self._read_s = time.monotonic()
            try:
                known = tuple(dict.fromkeys(self._read()))
            except (ExposedFile, OSError, WeakSecret):
                if not self._known:
                    raise
                return False  # the known secrets stay in use when their files cannot be read
            if known == self._known:
                return False
            self._known = known
            self._write_secret = self._find(self._fingerprint) or known[0]
        return True

    def reload_since(self, known: tuple[bytes, ...]) -> bool:
        """Read the secrets again. Return whether they differ from `known`, even if another thread has read them first.

        Args:
            known: secrets that `list_secrets` returned.
        """
        self.reload()
        return self._known is not known

    def list_secrets(self) -> tuple[bytes, ...]:
        """Return all known secrets, newest first."""
        if time.monotonic() - self._read_s > RELOAD_INTERVAL_S:
            self.reload()
        return self._known

    def get_write_secret(self) -> bytes:
        """Return the secret for new data that is made outside a transaction: the one last read as current."""
        self.list_secrets()
        return self._write_secret

    def read_current(self, tx: Transaction) -> CurrentSecret:
        """Return the secret that the database uses now.

        Raises: SecretUnknown.
        """
        row = store.LATEST_SECRET.one(tx)
        if row is None:
            return CurrentSecret(0, self.list_secrets()[0], 0)
        number, stored_fingerprint, since_us = row
        known = self._known
        secret = self._find(bytes(stored_fingerprint))
        if secret is None and self.reload_since(known):
            secret = self._find(bytes(stored_fingerprint))
        if secret is None:
            raise SecretUnknown
        self._fingerprint, self._write_secret = bytes(stored_fingerprint), secret
        return CurrentSecret(number, secret, since_us)

    def _find(self, expected_fingerprint: bytes) -> bytes | None:
        matches = (one for one in self._known if hmac.compare_digest(make_fingerprint(one), expected_fingerprint))
        return next(matches, None)

    def accepts(self, secret: bytes, *, current: CurrentSecret, now_us: int) -> bool:
        """Return whether API keys stored under `secret` are still valid."""
        return secret == current.secret or now_us < current.since_us + self._overlap_us

    def decrypt(self, encrypted: bytes, *, purpose: str, owner: str) -> bytes:
        """Decrypt data with any known secret.

        Raises: DecryptionFailed.
        """
        known = self._known
        try:
            return self._decrypt(encrypted, purpose=purpose, owner=owner)
        except DecryptionFailed:
            if not self.reload_since(known):
                raise
        return self._decrypt(encrypted, purpose=purpose, owner=owner)

    def _decrypt(self, encrypted: bytes, *, purpose: str, owner: str) -> bytes:
        for secret in self._known:
            try:
                return SecretBox(secret, purpose=purpose).decrypt(encrypted, owner=owner)
            except DecryptionFailed:
                continue
        raise DecryptionFailed

    def try_decrypt(self, encrypted: object, *, purpose: str, owner: str) -> bytes | None:
        """Return the plaintext; None if the value, of any type, cannot be decrypted."""
        if not isinstance(encrypted, bytes | memoryview):
            return None
        try:
            return self.decrypt(bytes(encrypted), purpose=purpose, owner=owner)
        except DecryptionFailed:
            return None

    def encrypt(self, tx: Transaction, data: bytes, *, purpose: str, owner: str) -> bytes:
        """Encrypt data with the secret that the database uses now.

        Raises: SecretUnknown.
        """
        return SecretBox(self.read_current(tx).secret, purpose=purpose).encrypt(data, owner=owner)


def make_fingerprint(secret: bytes) -> bytes:
    """Return a value that identifies a secret without revealing it."""
    return derive_key(secret, "fingerprint")
