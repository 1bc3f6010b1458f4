"""Verification: checks that a database is undamaged and that its invariants hold.

It reads the whole database and changes nothing. The invariants are checked at one point in time, then the audit chain,
which only grows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from storekeep.server.domain.audit.checkpoints import Checkpoint
from storekeep.server.domain.audit.log import verify_chain
from storekeep.server.domain.integrity.audited_rows import check_rows
from storekeep.server.domain.integrity.search_documents import check_documents
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.orders.states import HOLDS_STOCK
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.audit import EXPECTED_GUARDS, GUARDS
from storekeep.server.store.tables.invariants import (
    FOREIGN_KEYS,
    INTEGRITY,
    INVARIANTS,
    REFRESH_TEXT_INDEXES,
    Invariant,
)
from storekeep.server.store.tables.order_invariants import ORDER_INVARIANTS

BREACHES_MAX = 20
"""The most breaches that one check reports: enough to see what happened."""
SOUND = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: the name of the check.
        promise: the condition that it checks.
        breaches: the rows that break the condition and how, at most `BREACHES_MAX`; empty if it holds.
    """

    name: str
    promise: str
    breaches: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the condition holds."""
        return not self.breaches


def verify(db: Store, chain: AuditChain | None = None, *, since: Checkpoint | None = None) -> list[Finding]:
    """Run all checks.

    Args:
        chain: decrypts the keys of the audit log; None without the server's secret.
        since: a checkpoint of the audit log that was stored outside the database.

    Raises: StorageUnavailable if the file is too damaged to read.
    """
    findings = db.snapshot(_check_rows)
    return [
        *findings,
        _make_finding("audit-guards", "triggers protect the ledgers from changes", _check_guards(db)),
        _make_finding("search-documents", "each product and customer is found by its words", check_documents(db)),
        _make_finding("audit-rows", "each row matches the last audit entry of its resource", check_rows(db, chain)),
        _check_audit_chain(db, chain, since),
    ]


def _check_guards(db: Store) -> list[str]:
    """Return a text for each trigger that is missing, or that does not do what the migrations made it do."""
    existing = {name: " ".join(definition.split()) for name, definition in db.read(GUARDS.all)}
    expected = EXPECTED_GUARDS[db.driver.dialect.name]
    return [
        f"the trigger {name} is missing or disabled" if name not in existing else f"the trigger {name} was changed"
        for name, definition in expected.items()
        if existing.get(name) != definition
    ]


def _check_rows(tx: Transaction) -> list[Finding]:
    REFRESH_TEXT_INDEXES.all(tx)
    integrity = (text for (text,) in INTEGRITY.all(tx) if text != SOUND)
    dangling = (f"{table}, row {row}: no such {parent}" for table, row, parent, _ in FOREIGN_KEYS.run(tx))
    return [
        _make_finding("integrity", "the database and its indexes are undamaged", integrity),
        _make_finding("foreign-keys", "every row that a row refers to exists", dangling),
        *(_check(tx, invariant) for invariant in (*INVARIANTS, *ORDER_INVARIANTS)),
    ]


def _check(tx: Transaction, invariant: Invariant) -> Finding:
    open_states = msgspec.json.encode(sorted(HOLDS_STOCK)).decode()
    breaches = (text for (text,) in invariant.breaches.run(tx, open_states=open_states))
    return _make_finding(invariant.name, invariant.promise, breaches)


def _check_audit_chain(db: Store, chain: AuditChain | None, since: Checkpoint | None) -> Finding:
    report = verify_chain(db, chain, since=since)
    broken = () if report.valid else (f"{report.first_broken_entry}: {report.problem}",)
    return _make_finding("audit-chain", "each audit entry has the hash of its content and of the entry before", broken)


def _make_finding(name: str, promise: str, breaches: Iterable[str]) -> Finding:
    return Finding(name, promise, tuple(itertools.islice(breaches, BREACHES_MAX)))
