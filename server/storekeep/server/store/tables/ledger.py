"""What every mutation leaves behind: one entry of the ledger for each change, and its stored reply.

An entry is the event and the audit entry of a change in one: what happened to which resource, what it was and is, who
did it and how. So neither can be without the other, and the chain of hashes covers both.
"""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.statements import Statement, bound
from storekeep.server.store.sql.transactions import Table


class AuditEntry(Table):
    """One committed change, in the order of commits; `sequence` has no gap: each counts on from the last. Append-only.

    `api_key` and `session_id` say by which key and in which session its actor called; empty for the system itself.

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
    """What a mutation answered, kept so that its retry is answered the same.

    Mostly that is the resource after the change, which its audit entry holds already: then `entry` names it and `reply`
    is NULL. It belongs to the API key whose id `api_key` is; where that is NULL, to no key.
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
            (Reply.caller == bound("caller"))
            & (Reply.method == bound("method"))
            & (Reply.request_id == bound("request_id"))
        )
    )
)


def _insert_reply() -> peewee.Insert:
    return Reply.insert(
        caller=bound("caller"),
        method=bound("method"),
        request_id=bound("request_id"),
        api_key=bound("api_key"),
        fingerprint=bound("fingerprint"),
        entry=bound("entry"),
        reply=bound("reply"),
        create_time_us=bound("now_us"),
    )


INSERT_REPLY = Statement(_insert_reply)
"""Keep a reply; fails where this call has one already."""
INSERT_REPLY_IF_NEW = Statement(lambda: _insert_reply().on_conflict_ignore())
"""Keep a reply; changes no row where this call has one already."""
LAST_AUDIT_ENTRY = Statement(
    """
    SELECT sequence, entry_hash, (SELECT MAX(number) FROM audit_epochs) FROM audit_entries
    ORDER BY sequence DESC LIMIT 1
    """
)
"""(sequence, hash) at the end of the chain, and the number of the epoch whose key is used now; NULL without one."""
ENTRY_CAUSE = ("type", "actor", "method", "request_id", "api_key", "session_id")
"""What entries of one cause have in common, beside the time."""
INSERT_AUDIT_ENTRY = Statement(
    lambda: AuditEntry.insert(
        create_time_us=bound("now_us"),
        **{
            name: bound(name)
            for name in ("sequence", *ENTRY_CAUSE, "resource", "before", "after", "previous_hash", "entry_hash")
        },
    )
)
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
"""Entries of new resources that have one cause; `entries` is a JSON array of arrays: sequence, resource, both hashes in
hexadecimal digits, and the resource in JSON, as a text."""
