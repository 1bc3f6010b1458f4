"""The command `rotate-kek`: encrypts all data keys with a new key-encryption key (KEK), and deletes the previous one.

Invariant: the previous KEK is deleted only if no data key in the database needs it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from storekeep.server.config import Settings
from storekeep.server.domain.personal_data.kek_rotations import rewrap_data_keys, start_kek_rotation
from storekeep.server.runtime.secrets import (
    KEY_ENCRYPTION_KEY,
    RotationRefused,
    begin_rotation,
    end_rotation,
)
from storekeep.server.store.engine import Store
from storekeep.server.store.locks import lock
from storekeep.server.store.sqlite.key_backups import find_keys_files, list_key_ids
from storekeep.server.store.urls import parse_sqlite_path
from storekeep.server.transport.contract import read_contract
from storekeep.server.wiring.access import ROTATION_WAIT_S, make_access
from storekeep.server.wiring.data_keys import find_former_keks, make_kek_files
from storekeep.server.wiring.keyrings import make_keyring

FINISH = "rotate-kek --finish"
KMS_WAIT_S = 10.0
"""Age in seconds of a new KEK before the database names it: servers with a key management service have read it then."""


@contextmanager
def lock_kek_files(settings: Settings) -> Iterator[None]:
    """Hold the lock on the files of the KEK. Does nothing if the KEK comes from the settings.

    Raises: DatabaseInUse if another rotation takes longer than `ROTATION_WAIT_S`; OSError.
    """
    if settings.configured_keks:
        yield
        return
    with lock(settings.data_dir / KEY_ENCRYPTION_KEY.current, purpose="rotate", wait_s=ROTATION_WAIT_S):
        yield


def rotate_kek(settings: Settings, store: Store) -> list[str]:
    """Encrypt all data keys with a new KEK, which is created first if it is in a file. Go on after an interruption.

    Returns: lines for the operator.

    Raises: RotationRefused, KeyUnknown, WeakSecret, ExposedFile, OSError, and the store's errors.
    """
    make_access(settings, store, read_contract(), keyring=make_keyring(settings))
    data_keys, encryption = store.data_keys, store.data_keys.encryption
    current = store.write(data_keys.install)
    is_new = encryption.list_key_ids()[0] != current
    if not is_new and not find_former_keks(store):
        if settings.configured_keks:
            raise RotationRefused(
                "the key-encryption key is in the environment: restart all servers with the new one as STOREKEEP_KEK "
                "and the current one as STOREKEEP_KEK_PREVIOUS, then run this command with both"
            )
        begin_rotation(settings.data_dir, files=make_kek_files(settings), remedy=FINISH)
        encryption.reload()
    if encryption.list_key_ids()[0] != current:
        _wait_for_servers(settings)
    start_kek_rotation(store, encryption.list_key_ids()[0])
    lines = [f"{rewrap_data_keys(store)} data keys are encrypted with the new key-encryption key."]
    if not settings.configured_keks:
        path = settings.data_dir / KEY_ENCRYPTION_KEY.current
        lines.append(f"Back up {path}, and make a backup of the database. Then: {FINISH}")
    return lines


def _wait_for_servers(settings: Settings) -> None:
    """Wait until running servers know a new KEK, also one that an interrupted rotation has just made.

    With a key management service they read it every second; without one, when they need it.
    """
    if settings.configured_keks or not settings.kms_url:
        return
    age_s = time.time() - (settings.data_dir / KEY_ENCRYPTION_KEY.current).stat().st_mtime
    time.sleep(min(max(KMS_WAIT_S - age_s, 0), KMS_WAIT_S))


def finish_kek_rotation(settings: Settings, store: Store, *, force: bool) -> list[str]:
    """Delete the previous KEK.

    Args:
        force: delete it even if the newest keys file of the backups needs it.

    Returns: lines for the operator.

    Raises: RotationRefused, KeyUnknown, WeakSecret, ExposedFile, OSError, and the store's errors.
    """
    make_access(settings, store, read_contract(), keyring=make_keyring(settings))
    newest, *former = store.data_keys.encryption.list_key_ids()
    if store.write(store.data_keys.install) != newest or find_former_keks(store):
        raise RotationRefused("data keys still need the previous key-encryption key; run rotate-kek first")
    lines = _check_keys_files(settings, former, force=force)
    if settings.configured_keks:
        return [*lines, "Remove STOREKEEP_KEK_PREVIOUS and restart all servers."]
    if not end_rotation(settings.data_dir, files=KEY_ENCRYPTION_KEY):
        previous = settings.data_dir / KEY_ENCRYPTION_KEY.previous
        raise RotationRefused(f"no rotation is in progress: {previous} does not exist")
    return [
        *lines,
        "The previous key-encryption key is deleted. Backups of keys that were made before the rotation need it.",
    ]


def _check_keys_files(settings: Settings, former: Sequence[str], *, force: bool) -> list[str]:
    """Return a line about the keys files in the directory of the backups that need a former KEK.

    Raises: RotationRefused if the newest one does, unless `force` is set: no backup could be restored with its data.
    """
    if parse_sqlite_path(settings.database) is None:
        return []
    files = find_keys_files(settings.backups_dir)
    old = [path for path in files if not set(former).isdisjoint(list_key_ids(path))]
    if not old:
        return []
    if old[0] == files[0] and not force:
        raise RotationRefused(
            f"{old[0]}, the newest keys file of the backups, needs the previous key-encryption key. Nothing was "
            "deleted. Make a backup in this directory first, or add --force to delete the key anyway"
        )
    return [f"{len(old)} keys files in {settings.backups_dir} cannot be used any more, such as {old[0].name}."]
