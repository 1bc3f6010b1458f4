"""The command `restore`: replaces a SQLite database by a backup.

Invariant: a backup that a server with these settings could not serve replaces nothing.
"""

from __future__ import annotations

from pathlib import Path

from storekeep.server.config import Settings
from storekeep.server.domain.integrity.copies import CopyReport, verify_copy
from storekeep.server.domain.keys.data_keys import DataKeys
from storekeep.server.store.backups import BackupRefused, restore
from storekeep.server.store.schema import list_pending_migrations
from storekeep.server.store.sqlite.key_backups import list_key_ids
from storekeep.server.wiring.data_keys import find_data_keys
from storekeep.server.wiring.keyrings import find_audit_chain


def restore_database(
    settings: Settings, copy: Path, *, database: Path, keys: Path | None, without_keys: bool, unverified: bool
) -> list[str]:
    """Replace a SQLite database by a backup. Customers that were erased since are erased again.

    Args:
        keys, without_keys: see `restore`.
        unverified: restore it although a check of `verify` fails. The next start erases the customers then.

    Returns: lines for the operator.

    Raises: the errors of `restore` and `verify_copy`; WeakSecret; ExposedFile; OSError.
    """
    chain, data_keys = find_audit_chain(settings), find_data_keys(settings)
    report = CopyReport(is_verified=False)

    def verify(new: Path) -> None:
        nonlocal report
        _check_keks(new, data_keys)
        if not unverified:
            report = verify_copy(new, chain, data_keys=data_keys)

    previous, unknown_erasures = restore(
        copy,
        database=database,
        keys=keys,
        without_keys=without_keys,
        keys_folders=(settings.backups_dir,),
        verify=verify,
        page_checksums=settings.sqlite_page_checksums,
    )
    lines = [f"Restored {database} from {copy}." + (f" The previous database is {previous}." if previous else "")]
    if report.erased:
        lines.append(f"Erased {report.erased} customers again: they were erased after the backup was made.")
    if unknown_erasures:
        lines.append(
            "Customers that were erased after the backup was made may not be erased again: "
            f"{unknown_erasures}. Erase them anew."
        )
    if pending := list_pending_migrations(settings.database):
        lines.append(f"Pending migrations: {', '.join(pending)}; run: storekeep-server migrate")
    if not report.is_verified:
        lines.append("The backup was not verified; run: storekeep-server verify")
    return lines


def _check_keks(new: Path, data_keys: DataKeys | None) -> None:
    """Raise BackupRefused unless this server has each key-encryption key that a database needs."""
    known = () if data_keys is None else data_keys.encryption.list_key_ids()
    for key_id in list_key_ids(new):
        if key_id not in known:
            raise BackupRefused(
                f"the backup needs the key-encryption key {key_id}, which this server does not have: put the right "
                "kek.key into the data directory, or set STOREKEEP_KEK to it; if it is lost, give up all personal data "
                "with --without-keys"
            )
