"""The audit log, the keys of its chain and its checkpoints; entries are written in `ledger`, by every mutation."""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.statements import Statement, bound
from storekeep.server.store.sql.transactions import Table
from storekeep.server.store.tables.ledger import AuditEntry


class ServerSecret(Table):
    """One secret that the database was or is under: its fingerprint, which tells it. The newest is current."""

    number = peewee.BigIntegerField(primary_key=True)
    fingerprint = peewee.BlobField()
    create_time_us = peewee.BigIntegerField()

    class Meta:
        table_name = "server_secrets"


class AuditEpoch(Table):
    """One key of the audit chain, encrypted: it keys the hashes from its first entry on, up to the next epoch's."""

    number = peewee.BigIntegerField(primary_key=True)
    first_sequence = peewee.BigIntegerField()
    sealed_key = peewee.BlobField()
    create_time_us = peewee.BigIntegerField()

    class Meta:
        table_name = "audit_epochs"


class AuditKey(Table):
    """One Ed25519 key that signs checkpoints, its private half encrypted; the newest signs."""

    id = peewee.TextField(primary_key=True)
    public_key = peewee.BlobField()
    sealed_private_key = peewee.BlobField()
    create_time_us = peewee.BigIntegerField()

    class Meta:
        table_name = "audit_keys"


class AuditCheckpoint(Table):
    """The head of the audit chain at one time, signed. Append-only."""

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
CHECKPOINT_FIELDS = (
    AuditCheckpoint.sequence,
    AuditCheckpoint.chain,
    AuditCheckpoint.head_hash,
    AuditCheckpoint.key,
    AuditCheckpoint.signature,
    AuditCheckpoint.create_time_us,
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
LAST_AFTER = Statement(
    """
    SELECT wanted.value, (
        SELECT after FROM audit_entries WHERE resource = wanted.value ORDER BY sequence DESC LIMIT 1
    ), (SELECT MAX(sequence) FROM audit_entries WHERE resource = wanted.value)
    FROM TEXTS(:resources) AS wanted ORDER BY wanted.key
    """
)
"""What the last entry of each resource says it is, and that entry's number; NULL where it has none."""
RESOURCES_AFTER = Statement(
    """
    SELECT resource, sequence, (SELECT after IS NOT NULL FROM audit_entries AS last WHERE last.sequence = page.sequence)
    FROM (
        SELECT resource, MAX(sequence) AS sequence FROM audit_entries WHERE resource > :after
        GROUP BY resource ORDER BY resource LIMIT :rows_max
    ) AS page ORDER BY resource
    """
)
"""A page of resource names behind one, the last entry of each, and whether it says that the resource is there."""
LATEST_SECRET = Statement("SELECT number, fingerprint, create_time_us FROM server_secrets ORDER BY number DESC LIMIT 1")
COUNT_SECRETS = Statement("SELECT COUNT(*) FROM server_secrets")
INSERT_SECRET = Statement(
    lambda: ServerSecret.insert(
        number=bound("number"), fingerprint=bound("fingerprint"), create_time_us=bound("now_us")
    )
)
EPOCHS = Statement("SELECT number, first_sequence, sealed_key, create_time_us FROM audit_epochs ORDER BY number")
FIND_EPOCH = Statement("SELECT first_sequence, sealed_key FROM audit_epochs WHERE number = :number")
INSERT_EPOCH = Statement(
    lambda: AuditEpoch.insert(
        number=bound("number"),
        first_sequence=bound("first_sequence"),
        sealed_key=bound("sealed_key"),
        create_time_us=bound("now_us"),
    )
)
RESEAL_EPOCH = Statement("UPDATE audit_epochs SET sealed_key = :sealed_key WHERE number = :number")
AUDIT_KEYS = Statement(
    "SELECT id, public_key, sealed_private_key, create_time_us FROM audit_keys ORDER BY create_time_us DESC, id DESC"
)
"""The keys of checkpoints, the one that signs first."""
INSERT_AUDIT_KEY = Statement(
    lambda: AuditKey.insert(
        id=bound("id"),
        public_key=bound("public_key"),
        sealed_private_key=bound("sealed_private_key"),
        create_time_us=bound("now_us"),
    )
)
RESEAL_AUDIT_KEY = Statement("UPDATE audit_keys SET sealed_private_key = :sealed_private_key WHERE id = :id")
_CHECKPOINT = "sequence, chain, head_hash, key_id, signature, create_time_us"
LAST_CHECKPOINT = Statement(f"SELECT {_CHECKPOINT} FROM audit_checkpoints ORDER BY sequence DESC LIMIT 1")  # noqa: S608
SIGNED_LAST = Statement(
    """
    SELECT sequence, create_time_us, (
        SELECT COUNT(*) FROM audit_entries
        WHERE audit_entries.sequence = last.sequence + 1 AND type = 'audit_checkpoint.signed'
    ) FROM audit_checkpoints AS last ORDER BY sequence DESC LIMIT 1
    """
)
"""The entry that the newest checkpoint signs, when, and 1 where the next entry is the checkpoint's own, else 0."""
COUNT_CHECKPOINTS = Statement("SELECT COUNT(*) FROM audit_checkpoints")
CHECKPOINTS_AFTER = Statement(
    f"SELECT {_CHECKPOINT} FROM audit_checkpoints WHERE sequence > :sequence ORDER BY sequence LIMIT :rows_max"  # noqa: S608
)
INSERT_CHECKPOINT = Statement(
    f"""
    INSERT INTO audit_checkpoints ({_CHECKPOINT})
    VALUES (:sequence, :chain, :head_hash, :key_id, :signature, :now_us) ON CONFLICT DO NOTHING
    """  # noqa: S608 - the names of columns
)
"""Keep a checkpoint; changes no row where another process has made one of the same head."""
EPOCH_TIMES = Statement("SELECT create_time_us FROM audit_epochs")
GUARDS = Statement(
    "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND sql LIKE '%RAISE(ABORT%' ORDER BY name",
    postgresql="""
    SELECT CAST(tgname AS TEXT) FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    WHERE NOT tgisinternal AND tgenabled IN ('O', 'A')
      AND CAST(relnamespace AS regnamespace) = CAST(current_schema() AS regnamespace) ORDER BY 1
    """,
)
"""The triggers that are there and work."""
EXPECTED_GUARDS = {
    "sqlite": tuple(
        f"{table}_{name}"
        for table in ("audit_checkpoints", "audit_entries", "stock_movements")
        for name in ("kept", "not_deleted")
    ),
    "postgresql": ("audit_checkpoints_kept", "audit_entries_kept", "stock_movements_kept"),
}
"""The triggers that each engine has to have."""
