"""Verification: checks that a database is undamaged and that its invariants hold.

It reads the whole database and changes nothing. The invariants are checked at one point in time, then the audit chain,
which only grows.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import msgspec

from storekeep.server.domain.audit.checkpoints import Checkpoint
from storekeep.server.domain.audit.log import verify_chain
from storekeep.server.domain.errors import DomainError
from storekeep.server.domain.integrity.audited_rows import check_rows
from storekeep.server.domain.integrity.data_keys import UNDECRYPTABLE, check_data_keys
from storekeep.server.domain.integrity.search_documents import check_documents
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.orders.states import HOLDS_STOCK
from storekeep.server.store.engine import Store
from storekeep.server.store.schema import build_sqlite_schema, list_tables
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.audit import EXPECTED_GUARDS, GUARDS, SCHEMA_OBJECTS, TRIGGERS
from storekeep.server.store.tables.invariants import (
    FOREIGN_KEYS,
    INTEGRITY,
    INVARIANTS,
    REFRESH_TEXT_INDEXES,
    Invariant,
)
from storekeep.server.store.tables.order_invariants import ORDER_INVARIANTS

VERIFY_TIMEOUT_S = 86_400.0
"""Statement timeout of a verification, in seconds. A check may read a whole table."""
BREACHES_MAX = 20
"""The most breaches that one check reports: enough to see what happened."""
UNREADABLE = (*UNDECRYPTABLE, ArithmeticError, DomainError, LookupError, msgspec.MsgspecError)
"""What checks raise if a value is not of its type, cannot be decrypted, or a row that another one names is gone."""
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
        _find("audit-guards", "triggers protect the ledgers from changes", partial(_check_guards, db)),
        _find("schema", "tables, indexes, views and triggers are those of this release", partial(_check_schema, db)),
        _find("search-documents", "each product and customer is found by its words", partial(check_documents, db)),
        _find("data-keys", _describe_data_keys(db), partial(check_data_keys, db)),
        _find("audit-rows", "each row matches the last audit entry of its resource", partial(check_rows, db, chain)),
        _find(
            "audit-chain",
            "each audit entry has the hash of its content and of the entry before",
            partial(_check_audit_chain, db, chain, since),
        ),
    ]


def _describe_data_keys(db: Store) -> str:
    """Return what the check of the data keys checks, which is less without the key-encryption key."""
    if db.data_keys is None:
        return "the rows of data keys are sound; there is no key-encryption key, so no data key was decrypted"
    return "each data key can be decrypted or is destroyed"


def _check_guards(db: Store) -> list[str]:
    """Return a text for each trigger that is missing, or that does not do what the migrations made it do."""
    existing = {name: " ".join(definition.split()) for name, definition in db.read(GUARDS.all)}
    expected = EXPECTED_GUARDS[db.driver.dialect.name]
    return [
        f"the trigger {name} is missing or disabled" if name not in existing else f"the trigger {name} was changed"
        for name, definition in expected.items()
        if existing.get(name) != definition
    ]


def _check_schema(db: Store) -> list[str]:
    """Return a text for each table, index, view or trigger that is not as the migrations create it, or missing.

    Triggers of others are reported, too: they can change data under the server's own session. Other tables, views and
    indexes are not, as tools for replication create some. On PostgreSQL only triggers and rules are checked.
    """
    if db.driver.dialect.name == "sqlite":
        existing = {(kind, name): _normalize(sql) for kind, name, sql in db.read(SCHEMA_OBJECTS.all)}
        expected = {(kind, name): _normalize(sql) for kind, name, sql in build_sqlite_schema()}
        changed = (key for key in expected if existing.get(key) != expected[key])
        foreign = (name for kind, name in existing.keys() - expected.keys() if kind == "trigger")
        return [
            *(f"the {key[0]} {key[1]} {'was changed' if key in existing else 'is missing'}" for key in changed),
            *(f"the trigger {name} is not Storekeep's" for name in sorted(foreign)),
        ]
    return [
        f"{table}: the {kind} {name} is not Storekeep's"
        for kind, name, table in db.read(TRIGGERS.all)
        if table in list_tables() and (name not in EXPECTED_GUARDS["postgresql"] or name != f"{table}_kept")
    ]


def _normalize(sql: str) -> str:
    """Return SQL without quotes and spaces, which releases of SQLite write differently when they alter a table."""
    return re.sub(r'["\s]+', "", sql)


def _check_rows(tx: Transaction) -> list[Finding]:
    REFRESH_TEXT_INDEXES.all(tx)
    return [
        _find("integrity", "the database and its indexes are undamaged", partial(_check_integrity, tx)),
        _find("foreign-keys", "every row that a row refers to exists", partial(_check_foreign_keys, tx)),
        *(
            _find(invariant.name, invariant.promise, partial(_check_invariant, tx, invariant))
            for invariant in (*INVARIANTS, *ORDER_INVARIANTS)
        ),
    ]


def _check_integrity(tx: Transaction) -> Iterator[str]:
    return (text for text, *tables in INTEGRITY.all(tx) if text != SOUND and list_tables().issuperset(tables))


def _check_foreign_keys(tx: Transaction) -> Iterator[str]:
    return (f"{table}, row {row}: no such {parent}" for table, row, parent, _ in FOREIGN_KEYS.run(tx))


def _check_invariant(tx: Transaction, invariant: Invariant) -> Iterator[str]:
    open_states = msgspec.json.encode(sorted(HOLDS_STOCK)).decode()
    return (text for (text,) in invariant.breaches.run(tx, open_states=open_states))


def _check_audit_chain(db: Store, chain: AuditChain | None, since: Checkpoint | None) -> list[str]:
    report = verify_chain(db, chain, since=since)
    return [] if report.valid else [f"{report.first_broken_entry}: {report.problem}"]


def _find(name: str, promise: str, check: Callable[[], Iterable[str]]) -> Finding:
    """Run a check. Data that it cannot read, as after a flipped bit, breaks it; the other checks still run."""
    try:
        return Finding(name, promise, tuple(itertools.islice(check(), BREACHES_MAX)))
    except UNREADABLE as error:
        return Finding(name, promise, (f"it holds data that Storekeep never writes ({type(error).__name__})",))
