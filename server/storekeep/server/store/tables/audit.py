"""The tables of the audit log's keys and checkpoints, and the statements that read it. `ledger` writes its entries."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import peewee

from storekeep.server.store.sql.statements import Statement, parameter
from storekeep.server.store.sql.transactions import Table
from storekeep.server.store.tables.ledger import AuditEntry


class ServerSecret(Table):
    """One current or former server secret, identified by its fingerprint. The newest is current."""

    number = peewee.BigIntegerField(primary_key=True)
    fingerprint = peewee.BlobField()
    create_time_us = peewee.BigIntegerField()

    class Meta:
        table_name = "server_secrets"


class AuditEpoch(Table):
    """One encrypted key of the audit chain. It keys the hashes from `first_sequence` to the start of the next epoch."""

    number = peewee.BigIntegerField(primary_key=True)
    first_sequence = peewee.BigIntegerField()
    sealed_key = peewee.BlobField()
    create_time_us = peewee.BigIntegerField()

    class Meta:
        table_name = "audit_epochs"


class AuditKey(Table):
    """One Ed25519 key that signs checkpoints, its private key encrypted. The newest key signs."""

    id = peewee.TextField(primary_key=True)
    public_key = peewee.BlobField()
    sealed_private_key = peewee.BlobField()
    create_time_us = peewee.BigIntegerField()

    class Meta:
        table_name = "audit_keys"


class AuditCheckpoint(Table):
    """A signed head of the audit chain. Append-only."""

    sequence = peewee.BigIntegerField(primary_key=True)
    chain = peewee.TextField()
    head_hash = peewee.BlobField()
    key = peewee.ForeignKeyField(AuditKey, column_name="key_id", index=False)
    signature = peewee.BlobField()
    create_time_us = peewee.BigIntegerField()

    class Meta:
        table_name = "audit_checkpoints"


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
    AuditEntry.api_key,
    AuditEntry.session_id,
)
EVENT_FIELDS = (
    AuditEntry.sequence,
    AuditEntry.create_time_us,
    AuditEntry.type,
    AuditEntry.actor,
    AuditEntry.resource,
    AuditEntry.request_id,
    AuditEntry.entry_hash,
    AuditEntry.after,
)
CHECKPOINT_FIELDS = (
    AuditCheckpoint.sequence,
    AuditCheckpoint.chain,
    AuditCheckpoint.head_hash,
    AuditCheckpoint.key,
    AuditCheckpoint.signature,
    AuditCheckpoint.create_time_us,
)


def select_events(nouns: Sequence[str], *, after: int | None = None, descending: bool = False) -> Any:
    """Return the query of the entries of some nouns that have a resource after the change.

    Args:
        after: a sequence; only entries after it, or before it if `descending`.
    """
    visible = [peewee.fn.SUBSTR(AuditEntry.type, 1, len(noun) + 1) == f"{noun}." for noun in nouns]
    query = AuditEntry.select(*EVENT_FIELDS).where(AuditEntry.after.is_null(False))
    query = query.where(functools.reduce(operator.or_, visible)) if visible else query.where(AuditEntry.sequence < 0)
    if after is None:
        return query
    return query.where(AuditEntry.sequence < after if descending else AuditEntry.sequence > after)


FIND_ENTRY = Statement(lambda: AuditEntry.select(*FIELDS).where(AuditEntry.sequence == parameter("sequence")))
ENTRIES_AFTER = Statement(
    lambda: (
        AuditEntry.select(*FIELDS)
        .where(AuditEntry.sequence > parameter("sequence"))
        .order_by(AuditEntry.sequence)
        .limit(parameter("rows_max"))
    )
)
"""The entries after `sequence`, in order, at most `rows_max`."""
ENTRIES_BETWEEN = Statement(
    lambda: (
        AuditEntry.select(*EVENT_FIELDS)
        .where((AuditEntry.sequence >= parameter("first")) & (AuditEntry.sequence <= parameter("last")))
        .order_by(AuditEntry.sequence)
    )
)
"""The entries from one to another, in order."""
LAST_SEQUENCE = Statement("SELECT MAX(sequence) FROM audit_entries")
ENTRY_HASH = Statement("SELECT entry_hash FROM audit_entries WHERE sequence = :sequence")
ENTRY_TIME = Statement("SELECT create_time_us FROM audit_entries WHERE sequence = :sequence")
LAST_STATES = Statement(
    """
    SELECT requested.value, (
        SELECT after FROM audit_entries WHERE resource = requested.value ORDER BY sequence DESC LIMIT 1
    ), (SELECT MAX(sequence) FROM audit_entries WHERE resource = requested.value)
    FROM TEXTS(:resources) AS requested ORDER BY requested.key
    """
)
"""(resource, state, sequence) of the last entry of each resource; NULLs for a resource without entries."""
RESOURCES_AFTER = Statement(
    """
    SELECT resource, sequence, (SELECT after IS NOT NULL FROM audit_entries AS last WHERE last.sequence = page.sequence)
    FROM (
        SELECT resource, MAX(sequence) AS sequence FROM audit_entries WHERE resource > :after
        GROUP BY resource ORDER BY resource LIMIT :rows_max
    ) AS page ORDER BY resource
    """
)
"""A page of resource names after one, with the sequence of the last entry of each, and whether the resource exists
according to it."""
LATEST_SECRET = Statement("SELECT number, fingerprint, create_time_us FROM server_secrets ORDER BY number DESC LIMIT 1")
COUNT_SECRETS = Statement("SELECT COUNT(*) FROM server_secrets")
INSERT_SECRET = Statement(
    lambda: ServerSecret.insert(
        number=parameter("number"), fingerprint=parameter("fingerprint"), create_time_us=parameter("now_us")
    )
)
EPOCHS = Statement("SELECT number, first_sequence, sealed_key, create_time_us FROM audit_epochs ORDER BY number")
FIND_EPOCH = Statement("SELECT first_sequence, sealed_key FROM audit_epochs WHERE number = :number")
INSERT_EPOCH = Statement(
    lambda: AuditEpoch.insert(
        number=parameter("number"),
        first_sequence=parameter("first_sequence"),
        sealed_key=parameter("sealed_key"),
        create_time_us=parameter("now_us"),
    )
)
REENCRYPT_EPOCH = Statement("UPDATE audit_epochs SET sealed_key = :sealed_key WHERE number = :number")
AUDIT_KEYS = Statement(
    "SELECT id, public_key, sealed_private_key, create_time_us FROM audit_keys ORDER BY create_time_us DESC, id DESC"
)
"""The checkpoint keys, the one that signs first."""
INSERT_AUDIT_KEY = Statement(
    lambda: AuditKey.insert(
        id=parameter("id"),
        public_key=parameter("public_key"),
        sealed_private_key=parameter("sealed_private_key"),
        create_time_us=parameter("now_us"),
    )
)
REENCRYPT_AUDIT_KEY = Statement("UPDATE audit_keys SET sealed_private_key = :sealed_private_key WHERE id = :id")
_CHECKPOINT = "sequence, chain, head_hash, key_id, signature, create_time_us"
LAST_CHECKPOINT = Statement(f"SELECT {_CHECKPOINT} FROM audit_checkpoints ORDER BY sequence DESC LIMIT 1")  # noqa: S608
LAST_SIGNED_ENTRY = Statement(
    """
    SELECT sequence, create_time_us, (
        SELECT COUNT(*) FROM audit_entries
        WHERE audit_entries.sequence = last.sequence + 1 AND type = 'audit_checkpoint.signed'
    ) FROM audit_checkpoints AS last ORDER BY sequence DESC LIMIT 1
    """
)
"""The sequence that the newest checkpoint signs, its time, and 1 if the next entry records the checkpoint, else 0."""
COUNT_CHECKPOINTS = Statement("SELECT COUNT(*) FROM audit_checkpoints WHERE sequence > 0")
STRAY_CHECKPOINT = Statement("SELECT MIN(sequence) FROM audit_checkpoints WHERE sequence < 1")
"""The smallest sequence that no entry can have; NULL if there is none. Sequences start at 1."""
CHECKPOINTS_AFTER = Statement(
    f"SELECT {_CHECKPOINT} FROM audit_checkpoints WHERE sequence > :sequence ORDER BY sequence LIMIT :rows_max"  # noqa: S608
)
INSERT_CHECKPOINT = Statement(
    f"""
    INSERT INTO audit_checkpoints ({_CHECKPOINT})
    VALUES (:sequence, :chain, :head_hash, :key_id, :signature, :now_us) ON CONFLICT DO NOTHING
    """  # noqa: S608 - the names of columns
)
"""Insert a checkpoint; changes no row if another process has signed the same head."""
EPOCH_TIMES = Statement("SELECT create_time_us FROM audit_epochs")
GUARDS = Statement(
    "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY name",
    postgresql="""
    SELECT CAST(tgname AS TEXT),
           replace(pg_get_triggerdef(pg_trigger.oid), quote_ident(current_schema()) || '.', '') || ' AS ' || prosrc
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid
    JOIN pg_language ON pg_language.oid = prolang
    WHERE NOT tgisinternal AND lanname = 'plpgsql'
      AND (tgenabled = 'A' OR tgenabled = 'O' AND current_setting('session_replication_role') <> 'replica')
      AND CAST(relnamespace AS regnamespace) = CAST(quote_ident(current_schema()) AS regnamespace)
      AND pronamespace = relnamespace ORDER BY 1
    """,
)
"""(name, definition) of each enabled trigger; on PostgreSQL with the body of its function. A database or role whose
session_replication_role is `replica` runs no triggers."""
SCHEMA_OBJECTS = Statement("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
"""(type, name, definition) of each table, index, view and trigger on SQLite."""
TRIGGERS = Statement(
    """
    SELECT 'trigger', CAST(tgname AS TEXT), CAST(relname AS TEXT) FROM pg_trigger
    JOIN pg_class ON pg_class.oid = tgrelid
    WHERE NOT tgisinternal AND CAST(relnamespace AS regnamespace) = CAST(quote_ident(current_schema()) AS regnamespace)
    UNION ALL SELECT 'rule', CAST(rulename AS TEXT), CAST(tablename AS TEXT) FROM pg_rules
    WHERE schemaname = current_schema() ORDER BY 1, 2
    """
)
"""(kind, name, table) of each trigger and rule on PostgreSQL, also of disabled ones."""
GUARDED_TABLES = ("audit_checkpoints", "audit_entries", "stock_movements")
"""The append-only tables."""
EXPECTED_GUARDS: dict[str, dict[str, str]] = {
    "sqlite": {
        f"{table}_{name}": f"CREATE TRIGGER {table}_{name} BEFORE {action} ON {table} BEGIN "
        f"SELECT RAISE(ABORT, '{table} is append-only'); END"
        for table in GUARDED_TABLES
        for name, action in (("kept", "UPDATE"), ("not_deleted", "DELETE"))
    },
    "postgresql": {
        f"{table}_kept": f"CREATE TRIGGER {table}_kept BEFORE DELETE OR UPDATE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change() AS BEGIN RAISE EXCEPTION USING MESSAGE = "
        "TG_TABLE_NAME || ' is append-only', ERRCODE = 'restrict_violation'; END"
        for table in GUARDED_TABLES
    },
}
"""Name -> definition of the triggers that each engine must have, as the migrations create them, with single spaces."""
