"""Rotations of the key-encryption key (KEK): data keys are encrypted with a new one, in batches.

Invariant: each data key can be decrypted at any time with one of the two KEKs, so the server serves meanwhile, and a
rotation that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import msgspec

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.store.engine import Store

SUBJECT = "system/key-encryption-keys"
ROWS_MAX = 500
"""Maximum number of data keys in one transaction, which takes some 10 ms."""


class KeyEncryptionKey(msgspec.Struct, frozen=True):
    """A KEK that became the current one."""

    number: int
    key_id: str

    @property
    def name(self) -> str:
        """The name in the audit log."""
        return f"{SUBJECT}/{self.key_id}"


def start_kek_rotation(database: Store, key_id: str) -> bool:
    """Encrypt new data keys with another KEK from now on, and record it in the audit log. False if it is current.

    Raises: KeyUnknown if this process does not have the current or the new one; the store's errors.
    """
    call = Call(Caller(SUBJECT, display_name="Key-encryption keys"), f"{SUBJECT}/RotateKey")

    def effect(mutation: Mutation) -> bool:
        number = mutation.tx.data_keys.make_current(mutation.tx, key_id)
        if number:
            mutation.record("key_encryption_key.rotated", before=None, after=KeyEncryptionKey(number, key_id))
        return bool(number)

    return mutate(database, call, effect, bool)


def rewrap_data_keys(database: Store) -> int:
    """Encrypt all data keys that need a former KEK with the current one. Return their number.

    Raises: KeyUnknown, UnwrapFailed, and the store's errors.
    """
    total = 0
    while count := database.write(lambda tx: tx.data_keys.rewrap(tx, rows_max=ROWS_MAX)):
        total += count
    return total
