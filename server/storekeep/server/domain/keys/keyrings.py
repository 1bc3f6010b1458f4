"""The server's secrets while one replaces another: which the database is under, and which may still open something.

Invariant: what is made anew is under the secret that the database names, so that a process which already knows the next
one writes nothing that others cannot read yet.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from storekeep.server.domain.keys.encryption import Seal, SealBroken, derive_key
from storekeep.server.runtime.file_modes import ExposedFile
from storekeep.server.runtime.secrets import WeakSecret
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import audit as store

READ_AGAIN_S = 1.0
"""How old what is known of the secrets may be: a page token or an API key meets a rotation within that time."""
OVERLAP_DAYS = 30
"""How long API keys work under the secret before the current one."""
MICROS_PER_DAY = 86_400 * 1_000_000


class SecretUnknown(SealBroken):
    """The database is under a secret that this process does not have."""

    def __init__(self) -> None:
        Exception.__init__(
            self,
            "the server's secret is not the one that the database was made with: put the right secret.key into the "
            "data directory, or set STOREKEEP_SECRET to it; where it is lost: storekeep-server bootstrap-admin --force "
            "--new-secret",
        )


class CurrentSecret(msgspec.Struct, frozen=True):
    """The secret that the database is under.

    Attributes:
        number: 1 for the first, rising by one with each rotation.
        secret: the secret itself.
        since_us: when the database was put under it.
    """

    number: int
    secret: bytes
    since_us: int


class Keyring:
    """The server's secrets as this process knows them.

    Args:
        read: gives those that there are, the newest first; called again now and then, and where something does not
            open.
        overlap_days: how long API keys work under the secret before the current one.
    """

    def __init__(self, read: Callable[[], Sequence[bytes]], *, overlap_days: float = OVERLAP_DAYS) -> None:
        self._read = read
        self._overlap_us = round(overlap_days * MICROS_PER_DAY)
        self._lock = threading.Lock()
        self._known: tuple[bytes, ...] = ()
        self._fingerprint = b""
        self.reload()

    @staticmethod
    def of(secret: bytes) -> Keyring:
        """A keyring with one secret, which never changes."""
        return Keyring(lambda: (secret,))

    def reload(self) -> bool:
        """Read the secrets again; whether others are known now."""
        with self._lock:
            self._read_s = time.monotonic()
            try:
                known = tuple(dict.fromkeys(self._read()))
            except (ExposedFile, OSError, WeakSecret):
                if not self._known:
                    raise
                return False  # what is known goes on working, whatever becomes of the files
            changed, self._known = known != self._known, known
            if changed:
                self._writing = self._find(self._fingerprint) or known[0]
        return changed

    def known(self) -> tuple[bytes, ...]:
        """All secrets that may open something, the newest first."""
        if time.monotonic() - self._read_s > READ_AGAIN_S:
            self.reload()
        return self._known

    def writing(self) -> bytes:
        """The secret for what is made without a transaction: the one that the database was last seen under."""
        self.known()
        return self._writing

    def current(self, tx: Transaction) -> CurrentSecret:
        """The secret that the database is under.

        Raises: SecretUnknown.
        """
        row = store.LATEST_SECRET.one(tx)
        if row is None:
            return CurrentSecret(0, self.known()[0], 0)
        number, wanted, since_us = row
        found = self._find(bytes(wanted))
        if found is None and self.reload():
            found = self._find(bytes(wanted))
        if found is None:
            raise SecretUnknown
        self._fingerprint, self._writing = bytes(wanted), found
        return CurrentSecret(number, found, since_us)

    def _find(self, wanted: bytes) -> bytes | None:
        return next((one for one in self._known if hmac.compare_digest(fingerprint(one), wanted)), None)

    def accepts(self, secret: bytes, *, current: CurrentSecret, now_us: int) -> bool:
        """Whether an API key that is stored under a secret still works."""
        return secret == current.secret or now_us < current.since_us + self._overlap_us

    def open(self, sealed: bytes, *, purpose: str, owner: str) -> bytes:
        """What was sealed, under whichever known secret.

        Raises: SealBroken.
        """
        try:
            return self._open(sealed, purpose=purpose, owner=owner)
        except SealBroken:
            if not self.reload():
                raise
        return self._open(sealed, purpose=purpose, owner=owner)

    def _open(self, sealed: bytes, *, purpose: str, owner: str) -> bytes:
        for secret in self._known:
            try:
                return Seal(secret, purpose=purpose).open(sealed, owner=owner)
            except SealBroken:
                continue
        raise SealBroken

    def try_open(self, sealed: object, *, purpose: str, owner: str) -> bytes | None:
        """What was sealed; None where it does not open, whatever it is."""
        if not isinstance(sealed, bytes | memoryview):
            return None
        try:
            return self.open(bytes(sealed), purpose=purpose, owner=owner)
        except SealBroken:
            return None

    def seal(self, tx: Transaction, data: bytes, *, purpose: str, owner: str) -> bytes:
        """Encrypt data under the secret that the database is under.

        Raises: SecretUnknown.
        """
        return Seal(self.current(tx).secret, purpose=purpose).seal(data, owner=owner)


def fingerprint(secret: bytes) -> bytes:
    """What a secret is recognised by; nobody can find a random secret from it."""
    return derive_key(secret, "fingerprint")
