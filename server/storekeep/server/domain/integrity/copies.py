"""Verification of a copy of the database: every check of `verify`, on a file that nothing else has open.

Before, customers are erased again that were erased since the copy was made.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from storekeep.server.domain.integrity.verification import VERIFY_TIMEOUT_S, verify
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.keys.data_keys import DataKeys
from storekeep.server.domain.personal_data.erasures import repeat_erasures
from storekeep.server.store.backups import BackupRefused, make_single_file
from storekeep.server.store.limits import Limits
from storekeep.server.store.opening import open_store
from storekeep.server.store.schema import list_pending_migrations
from storekeep.server.store.urls import make_sqlite_url

BREACHES_MAX = 3
"""Breaches that the error names."""
UNCHECKED_ADVICE = "; put the server's secret.key into the data directory first, or, if it is lost, add --unverified"


class CopyReport(NamedTuple):
    """What was done with a copy.

    Attributes:
        is_verified: False if the copy has the schema of an older release, which this one can check only after a
            migration.
        erased: the number of customers that were erased again.
    """

    is_verified: bool
    erased: int = 0


def verify_copy(copy: Path, chain: AuditChain | None, *, data_keys: DataKeys | None = None) -> CopyReport:
    """Run every check of `verify` on a copy, and leave it as one file.

    Args:
        chain: see `verify`.
        data_keys: with `chain`, erase the customers again whose data key is destroyed (default: do not). The checks
            decrypt nothing with them.

    Raises: BackupRefused if a check fails; SchemaError if it has the schema of a newer release; KeyUnknown;
        SecretUnknown; StoreError.
    """
    url = make_sqlite_url(copy)
    if list_pending_migrations(url):
        return CopyReport(is_verified=False)
    store = open_store(url, limits=Limits(statement_timeout_s=VERIFY_TIMEOUT_S))
    erased = 0
    try:
        if chain is not None and data_keys is not None:
            store.chain, store.data_keys = chain, data_keys
            erased = repeat_erasures(store)
            store.data_keys = None
        broken = [finding for finding in verify(store, chain) if not finding.holds]
    finally:
        store.close()
        make_single_file(copy)
    if broken:
        texts = "; ".join(f"{finding.name}: {finding.breaches[0]}" for finding in broken[:BREACHES_MAX])
        advice = UNCHECKED_ADVICE if chain is None else ""
        raise BackupRefused(f"{len(broken)} of the checks of `verify` failed: {texts}{advice}")
    return CopyReport(is_verified=True, erased=erased)
