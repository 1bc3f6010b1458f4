"""The commands that migrate and back up a database, which need little of the domain: `integrity` has the others."""

from __future__ import annotations

import argparse
from pathlib import Path

from storekeep.server.commands.exits import DONE
from storekeep.server.config import LoadedSettings, Settings
from storekeep.server.process.lines import print_line
from storekeep.server.runtime.secrets import KEY_ENCRYPTION_KEY, SERVER_SECRET
from storekeep.server.store.backups import BackupRefused, back_up, get_keys_path
from storekeep.server.store.schema import has_encryption_steps, migrate
from storekeep.server.store.urls import hide_password, parse_sqlite_path

DUMP_ADVICE = "back up PostgreSQL with pg_dump or pg_basebackup"


def run_migrate(loaded: LoadedSettings, _args: argparse.Namespace) -> int:
    """Create the database or migrate it to the schema of this release."""
    url = loaded.settings.database
    applied = migrate(url, page_checksums=loaded.settings.sqlite_page_checksums)
    if has_encryption_steps(url):
        from storekeep.server.wiring.existing_data import encrypt_personal_data  # loads the domain

        rows = encrypt_personal_data(loaded.settings)
        print_line(f"{hide_password(url)}: encrypted the personal data of an older release ({rows} rows read).")
    print_line(
        f"{hide_password(url)}: applied {', '.join(applied)}." if applied else f"{hide_password(url)}: nothing to do."
    )
    return DONE


def run_backup(loaded: LoadedSettings, args: argparse.Namespace) -> int:
    """Back up the SQLite database while it is being served."""
    size_bytes = back_up(require_sqlite_path(loaded.settings, advice=DUMP_ADVICE), to=Path(args.file))
    print_line(f"{args.file}: {size_bytes} bytes.")
    keys = get_keys_path(Path(args.file))
    if keys.exists():
        print_line(
            f"{keys}: the data keys of its personal data. Keep only the newest such file: it restores all backups."
        )
    for line in _list_separate_backups(loaded.settings):
        print_line(line)
    return DONE


def require_sqlite_path(settings: Settings, *, advice: str) -> Path:
    """Return the path of the SQLite database.

    Raises: BackupRefused, with `advice`, for PostgreSQL.
    """
    path = parse_sqlite_path(settings.database)
    if path is None:
        raise BackupRefused(f"{hide_password(settings.database)} is not a SQLite database; {advice}")
    return path


def _list_separate_backups(settings: Settings) -> list[str]:
    """Return a line for each file of the data directory that must be backed up apart from the database."""
    lines = []
    if not settings.configured_secrets:
        path = settings.data_dir / SERVER_SECRET.current
        lines.append(f"Back up {path} separately: without it all API keys are invalid.")
    if not settings.configured_keks:
        path = settings.data_dir / KEY_ENCRYPTION_KEY.current
        lines.append(f"Back up {path} separately, and not beside the data keys: without it all personal data is lost.")
    return lines
