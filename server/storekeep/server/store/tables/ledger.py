"""The records of every mutation: one ledger entry per change, and the stored reply.

A ledger entry is both the event and the audit entry of a change: the resource before and after, the actor and the
method. So neither exists without the other, and the hash chain covers both.
"""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.many_rows import make_row_insert
from storekeep.server.store.sql.statements import Statement, parameter
from storekeep.server.store.sql.transactions import Table


class AuditEntry(Table):
    """One committed change, in commit order; `sequence` has no gaps. Append-only.

    `api_key` and `session_id` are the key and the session of the actor; empty for the system itself.

    The view `events` shows it as an event: `sequence`, `type`, `resource`, `payload`, `create_time_us`.
    """

    sequence = peewee.BigAutoField()
    create_time_us = peewee.BigIntegerField()
    type = peewee.TextField()
    actor = peewee.TextField()
    method = peewee.TextField()
    resource = peewee.TextField()
    request_id = peewee.TextField()
    previous_hash = peewee.BlobField()
    entry_hash = peewee.BlobField()
    before = peewee.BlobField(null=True)
    after = peewee.BlobField(null=True)
    api_key = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])
    session_id = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])

    class Meta:
        table_name = "audit_entries"
        indexes = ((("resource", "sequence"), False),)


class Reply(Table):
    """The reply to a mutation, stored so that a retry gets the same reply.

    Usually the reply is the resource after the change, which the audit entry contains. Then `entry` refers to it and
    `reply` is NULL. `api_key` is the id of the API key that may retry; NULL if the call used no key.
    """

    id = peewee.BigAutoField()
    caller = peewee.TextField()
    method = peewee.TextField()
    request_id = peewee.TextField()
    api_key = peewee.TextField(null=True)
    fingerprint = peewee.BlobField()
    entry = peewee.BigIntegerField(null=True)
    reply = peewee.BlobField(null=True)
    create_time_us = peewee.BigIntegerField()

    class Meta:
        table_name = "replies"
        indexes = ((("caller", "method", "request_id"), True),)


FIND_REPLY = Statement(
    lambda: (
        Reply.select(Reply.fingerprint, peewee.fn.COALESCE(Reply.reply, AuditEntry.after), Reply.api_key)
        .left_outer_join(AuditEntry, on=(AuditEntry.sequence == Reply.entry))
        .where(
            (Reply.caller == parameter("caller"))
            & (Reply.method == parameter("method"))
            & (Reply.request_id == parameter("request_id"))
        )
    )
)


REPLY_COLUMNS = ("caller", "method", "request_id", "api_key", "fingerprint", "entry", "reply", "create_time_us")
"""Columns of a reply, in the order of the values of the next two statements."""
INSERT_REPLY = make_row_insert(Reply, REPLY_COLUMNS)
"""Insert a reply; fails if this call already has one."""
INSERT_REPLY_IF_NEW = make_row_insert(Reply, REPLY_COLUMNS, end="ON CONFLICT DO NOTHING")
"""Insert a reply; changes no row if this call already has one."""
LAST_AUDIT_ENTRY = Statement(
    """
    SELECT sequence, entry_hash, (SELECT MAX(number) FROM audit_epochs) FROM audit_entries
    ORDER BY sequence DESC LIMIT 1
    """
)
"""(sequence, hash) of the end of the chain, and the number of the current epoch; NULL without one."""
ENTRY_CAUSE = ("type", "actor", "method", "request_id", "api_key", "session_id")
"""Columns that entries of one mutation share, besides the time."""
INSERT_AUDIT_ENTRY = make_row_insert(
    AuditEntry,
    ("sequence", "resource", "before", "after", "previous_hash", "entry_hash", "create_time_us", *ENTRY_CAUSE),
)
"""Insert an entry."""
_NEW_ENTRIES = f"""
INSERT INTO audit_entries (
    create_time_us, {", ".join(ENTRY_CAUSE)}, sequence, resource, previous_hash, entry_hash, after
)
SELECT CAST(:now_us AS BIGINT), {", ".join(f"CAST(:{name} AS TEXT)" for name in ENTRY_CAUSE)},
       CAST(value ->> 0 AS BIGINT), value ->> 1, {{previous_hash}}, {{entry_hash}}, {{after}}
FROM ROWS(:entries) AS entry ORDER BY entry.key
"""  # noqa: S608 - names from the list
INSERT_NEW_ENTRIES = Statement(
    _NEW_ENTRIES.format(
        previous_hash="unhex(value ->> 2)", entry_hash="unhex(value ->> 3)", after="CAST(value ->> 4 AS BLOB)"
    ),
    postgresql=_NEW_ENTRIES.format(
        previous_hash="decode(value ->> 2, 'hex')",
        entry_hash="decode(value ->> 3, 'hex')",
        after="convert_to(value ->> 4, 'UTF8')",
    ),
)
"""Insert the entries of new resources of one mutation. `entries` is a JSON array of arrays: sequence, resource name,
both hashes in hexadecimal, and the resource as JSON in a string."""
