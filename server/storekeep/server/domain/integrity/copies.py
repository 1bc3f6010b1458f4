"""Verification of a copy of the database: every check of `verify`, on a file that nothing else has open."""

from __future__ import annotations

from pathlib import Path

from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.store.backups import BackupRefused, make_single_file
from storekeep.server.store.opening import open_store
from storekeep.server.store.schema import list_pending_migrations
from storekeep.server.store.urls import make_sqlite_url

BREACHES_MAX = 3
"""Breaches that the error names."""


def verify_copy(copy: Path, chain: AuditChain | None) -> bool:
    """Run every check of `verify` on a copy, and leave it as one file.

    Args:
        chain: see `verify`.

    Returns: False if the copy has the schema of an older release, which this one can check only after a migration.

    Raises: BackupRefused if a check fails; SchemaError if it has the schema of a newer release; StoreError.
    """
    url = make_sqlite_url(copy)
    if list_pending_migrations(url):
        return False
    store = open_store(url)
    try:
        broken = [finding for finding in verify(store, chain) if not finding.holds]
    finally:
        store.close()
        make_single_file(copy)
    if broken:
        texts = "; ".join(f"{finding.name}: {finding.breaches[0]}" for finding in broken[:BREACHES_MAX])
        raise BackupRefused(f"{len(broken)} checks of `verify` failed: {texts}")
    return True
