"""Verification: whether a database is sound, and all that must always be true of it is.

It reads everything and changes nothing. All queries see the database at one point in time; the audit chain, which only
ever grows, is walked after them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from storekeep.server.domain.audit.checkpoints import Checkpoint
from storekeep.server.domain.audit.log import verify_chain
from storekeep.server.domain.integrity.audited_rows import check_rows
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.orders.states import HOLDS_STOCK
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.audit import EXPECTED_GUARDS, GUARDS
from storekeep.server.store.tables.invariants import FOREIGN_KEYS, INTEGRITY, INVARIANTS, Invariant
from storekeep.server.store.tables.order_invariants import ORDER_INVARIANTS

BREACHES_MAX = 20
"""Rows that are named of one check: enough to see what happened."""
SOUND = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        name: of the check.
        promise: what it checks.
        breaches: the rows that break it and how, so many at most; empty when it holds.
    """

    name: str
    promise: str
    breaches: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing breaks it."""
        return not self.breaches


def verify(db: Store, chain: AuditChain | None = None, *, since: Checkpoint | None = None) -> list[Finding]:
    """Run every check.

    Args:
        chain: opens the keys of the audit log; None without the server's secret.
        since: a checkpoint of the audit log that was kept elsewhere.

    Raises: StorageUnavailable where the file is too damaged to be read.
    """
    findings = db.snapshot(_check_rows)
    return [
        *findings,
        _finding("audit-guards", "the ledgers refuse to be changed", _missing_guards(db)),
        _finding("audit-rows", "each row is what the last audit entry of its resource says", check_rows(db, chain)),
        _check_audit_chain(db, chain, since),
    ]


def _missing_guards(db: Store) -> list[str]:
    there = {name for (name,) in db.read(GUARDS.all)}
    return [f"the trigger {name} is missing" for name in EXPECTED_GUARDS[db.driver.dialect.name] if name not in there]


def _check_rows(tx: Transaction) -> list[Finding]:
    integrity = (text for (text,) in INTEGRITY.all(tx) if text != SOUND)
    dangling = (f"{table}, row {row}: no such {parent}" for table, row, parent, _ in FOREIGN_KEYS.run(tx))
    return [
        _finding("integrity", "the database is sound, and so is every index", integrity),
        _finding("foreign-keys", "whatever a row refers to is there", dangling),
        *(_check(tx, invariant) for invariant in (*INVARIANTS, *ORDER_INVARIANTS)),
    ]


def _check(tx: Transaction, invariant: Invariant) -> Finding:
    open_states = msgspec.json.encode(sorted(HOLDS_STOCK)).decode()
    breaches = (text for (text,) in invariant.breaches.run(tx, open_states=open_states))
    return _finding(invariant.name, invariant.promise, breaches)


def _check_audit_chain(db: Store, chain: AuditChain | None, since: Checkpoint | None) -> Finding:
    report = verify_chain(db, chain, since=since)
    broken = () if report.valid else (f"{report.first_broken_entry}: {report.problem}",)
    return _finding("audit-chain", "the hash of each audit entry follows from its content and the one before", broken)


def _finding(name: str, promise: str, breaches: Iterable[str]) -> Finding:
    return Finding(name, promise, tuple(itertools.islice(breaches, BREACHES_MAX)))
