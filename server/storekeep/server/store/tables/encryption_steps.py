"""The steps that encrypt the personal data of a database of an older release, and their statements."""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Table
from storekeep.server.store.tables.audit import EXPECTED_GUARDS


class EncryptionStep(Table):
    """A step that is not complete yet; `position` is the key of the last row that it has encrypted."""

    number = peewee.BigIntegerField(primary_key=True)
    name = peewee.TextField()
    position = peewee.TextField()

    class Meta:
        table_name = "encryption_steps"


CHANGED_TABLES = (
    "audit_entries",
    "customer_documents",
    "customers",
    "fulfillments",
    "order_notes",
    "orders",
    "quotes",
    "replies",
    "reservations",
    "stock_movements",
    "users",
    "webhook_deliveries",
)
"""The tables that the steps change."""
NEXT_STEP = Statement("SELECT number, name, position FROM encryption_steps ORDER BY number LIMIT 1")
SET_POSITION = Statement("UPDATE encryption_steps SET position = :position WHERE number = :number")
END_STEP = Statement("DELETE FROM encryption_steps WHERE number = :number")
IDS_AFTER = {
    table: Statement(f"SELECT id FROM {table} WHERE id > :after ORDER BY id LIMIT :rows_max")  # noqa: S608 - fixed names
    for table in ("customers", "orders", "order_notes", "fulfillments", "reservations", "products", "quotes", "users")
}
DELIVERIES_AFTER = Statement(
    """
    SELECT endpoint_id, sequence, resource, last_reply FROM webhook_deliveries
    WHERE sequence > CAST(:after AS BIGINT) AND sequence <= CAST(:after AS BIGINT) + :rows_max AND last_reply <> ''
    ORDER BY sequence, endpoint_id
    """
)
LAST_DELIVERY = Statement("SELECT COALESCE(MAX(sequence), 0) FROM webhook_deliveries")
SET_LAST_REPLY = Statement(
    "UPDATE webhook_deliveries SET last_reply = :reply WHERE endpoint_id = :endpoint_id AND sequence = :sequence"
)
REPLIES_AFTER = Statement(
    """
    SELECT id, method, reply FROM replies
    WHERE id > CAST(:after AS BIGINT) AND reply IS NOT NULL ORDER BY id LIMIT :rows_max
    """
)
FINGERPRINTS_AFTER = Statement(
    """
    SELECT id, fingerprint FROM replies
    WHERE id > CAST(:after AS BIGINT) AND LENGTH(fingerprint) > 0 ORDER BY id LIMIT :rows_max
    """
)
SET_FINGERPRINT = Statement("UPDATE replies SET fingerprint = :fingerprint WHERE id = :id")
SET_REPLY = Statement("UPDATE replies SET reply = :reply WHERE id = :id")
DELETE_REPLY = Statement("DELETE FROM replies WHERE id = :id")
CLEAR_RETURN_REASONS = Statement("UPDATE stock_movements SET reason = '' WHERE cause = 'RETURN' AND reason <> ''")
ENTRIES_AFTER = Statement(
    """
    SELECT sequence, resource, before, after FROM audit_entries
    WHERE sequence > CAST(:after AS BIGINT) ORDER BY sequence LIMIT :rows_max
    """
)
SET_ENTRY = Statement("UPDATE audit_entries SET before = :before, after = :after WHERE sequence = :sequence")
DROP_GUARDS = {
    table: [Statement(f"DROP TRIGGER {name}") for name in EXPECTED_GUARDS["sqlite"] if name.startswith(f"{table}_")]
    for table in ("audit_entries", "stock_movements")
}
CREATE_GUARDS = {
    table: [Statement(sql) for name, sql in EXPECTED_GUARDS["sqlite"].items() if name.startswith(f"{table}_")]
    for table in DROP_GUARDS
}
DISABLE_GUARDS = {table: Statement(f"ALTER TABLE {table} DISABLE TRIGGER {table}_kept") for table in DROP_GUARDS}
ENABLE_GUARDS = {table: Statement(f"ALTER TABLE {table} ENABLE TRIGGER {table}_kept") for table in DROP_GUARDS}
"""The triggers that keep a table append-only. A transaction that encrypts its rows removes them and restores them."""
