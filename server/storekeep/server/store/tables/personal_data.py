"""The statements that find everything that is stored about one customer, in pages."""

from __future__ import annotations

from storekeep.server.store.sql.many_rows import build_select_columns
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.tables import audit
from storekeep.server.store.tables.ledger import AuditEntry

MERGED = """
    WITH RECURSIVE merged (id) AS (
        SELECT id FROM customers WHERE id = :customer_id
        UNION
        SELECT customers.id FROM customers JOIN merged ON customers.merged_into = 'customers/' || merged.id
        WHERE customers.merged_into <> ''
    )
"""
"""The ids of a customer and of those that were merged into it, also through others."""
FIND_CUSTOMERS = Statement(
    f"""
    {MERGED} SELECT CASE WHEN id = :customer_id THEN 0 ELSE 1 END, id FROM merged
    WHERE (CASE WHEN id = :customer_id THEN 0 ELSE 1 END, id) > (:first, :second)
    ORDER BY 1, 2 LIMIT :limit
    """  # noqa: S608 - fixed text
)
"""These customers: the one that remains, then the others by id."""


def _select_resources(table: str) -> str:
    return f"""
    SELECT create_time_us, id FROM {table}
    WHERE customer_id = :customer_id AND (create_time_us, id) > (:first, :second)
    ORDER BY create_time_us, id LIMIT :limit
    """  # noqa: S608 - the names of tables


FIND_ORDERS = Statement(_select_resources("orders"))
FIND_QUOTES = Statement(_select_resources("quotes"))


def _select_parts(table: str) -> str:
    return f"""
    SELECT {table}.order_id, {table}.id FROM orders JOIN {table} ON {table}.order_id = orders.id
    WHERE orders.customer_id = :customer_id AND ({table}.order_id, {table}.id) > (:first, :second)
    ORDER BY {table}.order_id, {table}.id LIMIT :limit
    """  # noqa: S608 - the names of tables


FIND_NOTES = Statement(_select_parts("order_notes"))
FIND_FULFILLMENTS = Statement(_select_parts("fulfillments"))
FIND_RESERVATIONS = Statement(_select_parts("reservations"))
NAMES = (
    f"{MERGED} SELECT 'customers/' || id AS name FROM merged",  # noqa: S608 - fixed text
    "SELECT 'orders/' || id AS name FROM orders WHERE customer_id = :customer_id",
    """
    SELECT 'orders/' || order_notes.order_id || '/notes/' || order_notes.id AS name
    FROM orders JOIN order_notes ON order_notes.order_id = orders.id WHERE orders.customer_id = :customer_id
    """,
    """
    SELECT 'orders/' || fulfillments.order_id || '/fulfillments/' || fulfillments.id AS name
    FROM orders JOIN fulfillments ON fulfillments.order_id = orders.id WHERE orders.customer_id = :customer_id
    """,
    """
    SELECT 'reservations/' || reservations.id AS name
    FROM reservations JOIN orders ON orders.id = reservations.order_id WHERE orders.customer_id = :customer_id
    """,
    "SELECT 'quotes/' || id AS name FROM quotes WHERE customer_id = :customer_id",
)
"""Queries of the names of a customer's resources: itself, those merged into it, its orders, their parts, its quotes."""
FIND_ENTRIES = tuple(
    Statement(
        f"""
        SELECT {build_select_columns(AuditEntry, [field.name for field in audit.FIELDS])}
        FROM ({names}) AS named JOIN audit_entries ON audit_entries.resource = named.name
        WHERE (audit_entries.resource, audit_entries.sequence) > (:resource, :sequence)
        ORDER BY audit_entries.resource, audit_entries.sequence LIMIT :limit
        """  # noqa: S608 - the names of tables and columns
    )
    for names in NAMES
)
"""The audit entries of these resources, by resource."""
