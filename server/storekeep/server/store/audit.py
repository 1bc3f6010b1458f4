"""Reading the audit log; it is written in `ledger`, by every mutation."""

from __future__ import annotations

from storekeep.server.store.ledger import AuditEntry
from storekeep.server.store.statements import Statement, bound

FIELDS = (
    AuditEntry.sequence,
    AuditEntry.create_time_us,
    AuditEntry.type,
    AuditEntry.actor,
    AuditEntry.method,
    AuditEntry.resource,
    AuditEntry.request_id,
    AuditEntry.previous_hash,
    AuditEntry.entry_hash,
    AuditEntry.before,
    AuditEntry.after,
)
FIND_ENTRY = Statement(lambda: AuditEntry.select(*FIELDS).where(AuditEntry.sequence == bound("sequence")))
ENTRIES_AFTER = Statement(
    lambda: (
        AuditEntry.select(*FIELDS)
        .where(AuditEntry.sequence > bound("sequence"))
        .order_by(AuditEntry.sequence)
        .limit(bound("rows_max"))
    )
)
"""The entries behind one, in order, so many at most."""
