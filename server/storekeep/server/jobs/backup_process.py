"""The process that makes one scheduled backup: copies the database, verifies the copy, and deletes old backups.

A backup gets its name only when every check of `verify` holds for it. A copy that fails a check is kept beside the
backups with the ending `.unverified`, because it may be all that is left, and no backup is deleted then. Of several
such copies, the first and the last are kept until a backup is verified: one for each try would fill the disk.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from storekeep.server.domain.integrity.copies import verify_copy
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.keys.encryption import DecryptionFailed
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.jobs.backups import NAME_FORMAT, BackupRequest, find_expired, find_expired_keys, list_backups
from storekeep.server.runtime.files import sync
from storekeep.server.store.backups import BackupRefused, back_up, get_keys_path
from storekeep.server.store.errors import StoreError
from storekeep.server.store.schema import SchemaError
from storekeep.server.store.sqlite.key_backups import move_keys

NICENESS = 10
"""How much the process yields to the server (nice(2))."""
SET_PARENT_DEATH_SIGNAL = 1
"""An operation of prctl(2): the process dies with the thread that started it, also if that is killed."""
UNVERIFIED = ".unverified"
REQUEST_BYTES_MAX = 64 * 1024


def main() -> None:
    """Make the backup that standard input asks for, and print its path."""
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    os.nice(NICENESS)
    request = msgspec.json.decode(sys.stdin.buffer.read(REQUEST_BYTES_MAX), type=BackupRequest)
    try:
        made = make_scheduled_backup(request)
    except (BackupRefused, DecryptionFailed, OSError, SchemaError, StoreError) as error:
        sys.exit(" ".join(str(error).split()))
    sys.stdout.write(f"{made}\n")


def make_scheduled_backup(request: BackupRequest) -> Path:
    """Make and verify a backup, delete those that are no longer kept, and return its path.

    Raises: BackupRefused, DecryptionFailed, OSError, SchemaError, StoreError.
    """
    plan = request.plan
    folder = Path(plan.folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for leftover in folder.glob(f".storekeep-*{UNVERIFIED}*"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    backup = folder / time.strftime(NAME_FORMAT, time.gmtime())
    copy = backup.with_name(f"{backup.name}{UNVERIFIED}")
    failed = sorted(folder.glob(f"storekeep-*.db{UNVERIFIED}"))
    back_up(Path(plan.database), to=copy, with_keys=True)
    chain = AuditChain(Keyring(lambda: tuple(secret.encode() for secret in request.secrets)))
    try:
        _delete_copies(failed[1:])  # only now that there is a later one
        verify_copy(copy, chain)
    finally:
        move_keys(copy, to=get_keys_path(backup))
    sync(copy)
    copy.rename(backup)
    sync(folder)
    _delete_copies(failed[:1])
    for expired in find_expired_keys(folder, keep_days=plan.keep_keys_days, now_s=time.time()):
        expired.unlink(missing_ok=True)
    backups = list_backups(folder)
    for expired in find_expired(backups, keep=plan.keep, keep_days=plan.keep_days, now_s=time.time()):
        expired.unlink(missing_ok=True)
    return backup


def _delete_copies(copies: list[Path]) -> None:
    for copy in copies:
        for file in (*copy.parent.glob(f"{copy.name}-*"), copy):  # with what SQLite keeps beside it
            file.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
