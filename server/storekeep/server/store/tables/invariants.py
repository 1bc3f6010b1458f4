"""Invariants of the stored rows, each as a query that finds violations.

A query returns one string per violation: the name of the row, and the problem. `:open_states` is a JSON array of the
order states in which stock is allocated to the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Table
from storekeep.server.store.tables import users
from storekeep.server.store.tables.access import TABLES
from storekeep.server.store.tables.catalog import Price, Variant
from storekeep.server.store.tables.fulfillments import Fulfillment, FulfillmentLine
from storekeep.server.store.tables.orders import OPEN_UNITS, Order, OrderLine, OrderNote
from storekeep.server.store.tables.pricing import Coupon, TaxRate
from storekeep.server.store.tables.reservations import Reservation, ReservationLine
from storekeep.server.store.tables.search import RANK_STEP, CustomerDocument, ProductDocument
from storekeep.server.store.tables.stock import StockLevel, StockMovement


@dataclass(frozen=True, slots=True)
class Invariant:
    """One invariant.

    Attributes:
        name: a short identifier.
        promise: the condition that every row meets.
        breaches: the query that returns one string per violation.
    """

    name: str
    promise: str
    breaches: Statement


def _build_foreign_key_check() -> str:
    """Return SQL that does the same as `PRAGMA foreign_key_check`, for PostgreSQL, whose triggers can be disabled."""
    selects = []
    tables: list[type[Table]] = [
        *users.TABLES,
        *TABLES,
        StockLevel,
        StockMovement,
        Reservation,
        ReservationLine,
        Order,
        OrderLine,
        OrderNote,
        Fulfillment,
        FulfillmentLine,
        Variant,
        Price,
        TaxRate,
        Coupon,
        ProductDocument,
        CustomerDocument,
    ]
    for table in tables:
        name = table._meta.table_name
        key = " || '/' || ".join(f"{name}.{field.column_name}" for field in table._meta.get_primary_keys())
        for field in table._meta.refs:
            parent: Any = field.rel_model
            referenced = f"{parent._meta.table_name}.{field.rel_field.column_name}"
            selects.append(
                f"SELECT '{name}', CAST({key} AS TEXT), '{parent._meta.table_name}', 0 FROM {name} "  # noqa: S608 - names from the models
                f"WHERE {name}.{field.column_name} IS NOT NULL AND NOT EXISTS "
                f"(SELECT 1 FROM {parent._meta.table_name} WHERE {referenced} = {name}.{field.column_name})"
            )
    return " UNION ALL ".join(selects)


def _compare_level(column: str) -> Statement:
    """Return a query for the levels on which a column differs from the sum of the movements."""
    return Statement(
        f"""
        WITH moved AS (
            SELECT location_id, sku, SUM({column}_delta) AS total FROM stock_movements GROUP BY location_id, sku
        ), places AS (
            SELECT location_id, sku FROM moved UNION SELECT location_id, sku FROM stock_levels
        )
        SELECT 'locations/' || places.location_id || '/stockLevels/' || places.sku || ': {column} is '
               || COALESCE(CAST(level.{column} AS TEXT), 'missing') || ', its movements add up to '
               || COALESCE(moved.total, 0)
        FROM places
        LEFT JOIN stock_levels AS level USING (location_id, sku)
        LEFT JOIN moved USING (location_id, sku)
        WHERE level.{column} IS DISTINCT FROM COALESCE(moved.total, 0)
        """  # noqa: S608 - the names of columns
    )


INTEGRITY = Statement(
    "PRAGMA integrity_check(20)",
    postgresql="""
    SELECT 'the index ' || CAST(CAST(indexrelid AS regclass) AS TEXT) || ' is not valid', CAST(relname AS TEXT)
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
    WHERE NOT indisvalid AND CAST(relnamespace AS regnamespace) = CAST(quote_ident(current_schema()) AS regnamespace)
    UNION ALL
    SELECT 'the constraint ' || conname || ' was never checked', CAST(relname AS TEXT)
    FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
    WHERE NOT convalidated AND CAST(connamespace AS regnamespace) = CAST(quote_ident(current_schema()) AS regnamespace)
    """,
)
"""Problems of the database itself, one per row: the text, and on PostgreSQL the table. SQLite returns the row `ok` for
a sound file. Use pg_amcheck to check the files of PostgreSQL."""
REFRESH_TEXT_INDEXES = Statement(
    "SELECT (SELECT rowid FROM product_search LIMIT 1), (SELECT rowid FROM customer_search LIMIT 1)",
    postgresql="SELECT NULL, NULL",
)
"""Makes SQLite forget what it has cached of the text indexes: `integrity_check` compares an outdated cache with the
newer pages that another connection wrote, and reports corruption."""
FOREIGN_KEYS = Statement("PRAGMA foreign_key_check", postgresql=_build_foreign_key_check())
"""(table, row, referenced table, key) of each row with a dangling reference."""

INVARIANTS = (
    Invariant(
        "stock-on-hand",
        "on_hand is the sum of the movements, and equals the on_hand of the last one",
        Statement(
            """
            WITH moved AS (
                SELECT location_id, sku, SUM(quantity_delta) AS total, MAX(id) AS last_id
                FROM stock_movements GROUP BY location_id, sku
            ), places AS (
                SELECT location_id, sku FROM moved UNION SELECT location_id, sku FROM stock_levels
            )
            SELECT 'locations/' || places.location_id || '/stockLevels/' || places.sku || ': on_hand is '
                   || COALESCE(CAST(level.on_hand AS TEXT), 'missing') || ', its movements add up to '
                   || COALESCE(moved.total, 0)
            FROM places
            LEFT JOIN stock_levels AS level USING (location_id, sku)
            LEFT JOIN moved USING (location_id, sku)
            LEFT JOIN stock_movements AS newest ON newest.id = moved.last_id
            WHERE level.on_hand IS DISTINCT FROM COALESCE(moved.total, 0)
               OR COALESCE(newest.on_hand, 0) <> level.on_hand
            """
        ),
    ),
    Invariant(
        "stock-running",
        "the on_hand of each movement is the previous on_hand plus its own quantity",
        Statement(
            """
            SELECT 'locations/' || location_id || '/stockLevels/' || sku || ': movement ' || id || ' adds '
                   || quantity_delta || ' to ' || previous || ', but its on_hand is ' || on_hand
            FROM (
                SELECT *, COALESCE(LAG(on_hand) OVER (PARTITION BY location_id, sku ORDER BY id), 0) AS previous
                FROM stock_movements
            ) AS movements
            WHERE previous + quantity_delta <> on_hand
            """
        ),
    ),
    Invariant(
        "stock-allocated",
        "allocated is the sum of the movements",
        _compare_level("allocated"),
    ),
    Invariant(
        "stock-reserved",
        "reserved is the sum of the movements",
        _compare_level("reserved"),
    ),
    Invariant(
        "order-stock",
        "the units allocated to each order line are its open units",
        Statement(
            f"""
            WITH moved AS (
                SELECT source, line_number, sku, SUM(allocated_delta) AS total FROM stock_movements
                WHERE source LIKE 'orders/%' GROUP BY source, line_number, sku
            ), open_lines AS (
                SELECT 'orders/' || order_id AS source, line_number, sku,
                       CASE WHEN orders.state IN TEXTS(:open_states) THEN {OPEN_UNITS} ELSE 0 END AS open_units
                FROM order_lines JOIN orders ON orders.id = order_lines.order_id
            ), places AS (
                SELECT source, line_number, sku FROM moved UNION SELECT source, line_number, sku FROM open_lines
            )
            SELECT source || ', line ' || line_number || ': ' || COALESCE(open_units, 0) || ' units of ' || sku
                   || ' are open, the ledger has allocated ' || COALESCE(moved.total, 0)
            FROM places
            LEFT JOIN open_lines USING (source, line_number, sku)
            LEFT JOIN moved USING (source, line_number, sku)
            WHERE COALESCE(open_units, 0) <> COALESCE(moved.total, 0)
            """  # noqa: S608 - the name of a column
        ),
    ),
    Invariant(
        "reservation-stock",
        "each line of an active reservation has its units reserved, and other reservations have none",
        Statement(
            """
            WITH moved AS (
                SELECT source, line_number, location_id, sku, SUM(reserved_delta) AS total FROM stock_movements
                WHERE source LIKE 'reservations/%' GROUP BY source, line_number, location_id, sku
            ), held AS (
                SELECT 'reservations/' || reservation_id AS source, line_number, location_id, sku,
                       CASE WHEN reservations.state = 'ACTIVE' THEN quantity ELSE 0 END AS units
                FROM reservation_lines JOIN reservations ON reservations.id = reservation_id
            ), places AS (
                SELECT source, line_number, location_id, sku FROM moved
                UNION SELECT source, line_number, location_id, sku FROM held
            )
            SELECT source || ', line ' || line_number || ': holds ' || COALESCE(units, 0) || ' units of ' || sku
                   || ' at locations/' || location_id || ', the ledger has reserved ' || COALESCE(moved.total, 0)
            FROM places
            LEFT JOIN held USING (source, line_number, location_id, sku)
            LEFT JOIN moved USING (source, line_number, location_id, sku)
            WHERE COALESCE(units, 0) <> COALESCE(moved.total, 0)
            """
        ),
    ),
    Invariant(
        "stock-promised",
        "units are reserved only for reservations and allocated only to orders",
        Statement(
            """
            SELECT 'stockMovements/' || id || ': ' || cause || ' for ' || COALESCE(NULLIF(source, ''), 'no resource')
            FROM stock_movements
            WHERE (reserved_delta <> 0 AND source NOT LIKE 'reservations/%')
               OR (allocated_delta <> 0 AND source NOT LIKE 'orders/%')
            """
        ),
    ),
    Invariant(
        "stock-oversold",
        "0 <= reserved + allocated <= on_hand + backorder_limit",
        Statement(
            """
            SELECT 'locations/' || location_id || '/stockLevels/' || sku || ': ' || (reserved + allocated)
                   || ' promised of ' || (on_hand + backorder_limit)
            FROM stock_levels
            WHERE reserved < 0 OR allocated < 0 OR reserved + allocated > on_hand + backorder_limit
            """
        ),
    ),
    Invariant(
        "order-lines",
        "the total of each line is the price of its units less the discount, and lines are numbered without gaps",
        Statement(
            """
            SELECT 'orders/' || order_id || ', line ' || line_number || ': ' || quantity || ' x ' || unit_price_minor
                   || ' is not ' || subtotal_minor
            FROM order_lines WHERE subtotal_minor <> quantity * unit_price_minor OR quantity <= 0
            UNION ALL
            SELECT 'orders/' || order_id || ', line ' || line_number || ': ' || (quantity - cancelled) || ' x '
                   || unit_price_minor || ' less ' || discount_minor || ' is not ' || total_minor
            FROM order_lines WHERE total_minor <> (quantity - cancelled) * unit_price_minor - discount_minor
            UNION ALL
            SELECT 'orders/' || order_id || ': ' || COUNT(*) || ' lines, numbered up to ' || MAX(line_number)
            FROM order_lines GROUP BY order_id HAVING MAX(line_number) <> COUNT(*) OR MIN(line_number) <> 1
            """
        ),
    ),
    Invariant(
        "order-quantities",
        "ordered = open + fulfilled + cancelled on each line, and returned <= fulfilled",
        Statement(
            """
            SELECT 'orders/' || order_id || ', line ' || line_number || ': of ' || quantity || ' units '
                   || fulfilled || ' are fulfilled, ' || cancelled || ' cancelled, ' || returned || ' returned'
            FROM order_lines
            WHERE fulfilled < 0 OR cancelled < 0 OR fulfilled + cancelled > quantity
               OR returned < 0 OR returned > fulfilled
            UNION ALL
            SELECT 'orders/' || order_id || ', line ' || line_number || ': the order is ' || state || ', and '
                   || (quantity - fulfilled - cancelled) || ' units are open'
            FROM order_lines JOIN orders ON orders.id = order_lines.order_id
            WHERE state NOT IN (SELECT value FROM TEXTS(:open_states) AS open_state)
              AND quantity - fulfilled - cancelled <> 0
            """
        ),
    ),
    Invariant(
        "order-totals",
        "the total of each order is the sum of its lines, shipping and added tax, its tax that of lines and shipping",
        Statement(
            """
            SELECT 'orders/' || orders.id || ': the total is ' || orders.total_minor || ', its lines cost '
                   || COALESCE(CAST(SUM(line.total_minor) AS TEXT), 'nothing (it has none)')
                   || ', shipping ' || shipping_minor || ', tax ' || orders.tax_minor
            FROM orders LEFT JOIN order_lines AS line ON line.order_id = orders.id
            GROUP BY orders.id
            HAVING orders.total_minor - shipping_minor - CASE WHEN prices_include_tax THEN 0 ELSE orders.tax_minor END
                   IS DISTINCT FROM SUM(line.total_minor)
                OR orders.tax_minor - shipping_tax_minor IS DISTINCT FROM SUM(line.tax_minor)
            """
        ),
    ),
    Invariant(
        "promotion-uses",
        "the counted uses of each promotion and coupon, and their discount, are the sums of its uses",
        Statement(
            """
            WITH used AS (
                SELECT 'promotions/' || promotion_id AS subject, discount_minor FROM promotion_uses
                UNION ALL
                SELECT 'coupons/' || coupon_id, discount_minor FROM promotion_uses WHERE coupon_id <> ''
            ), summed AS (
                SELECT subject, COUNT(*) AS uses, SUM(discount_minor) AS discount_minor FROM used GROUP BY subject
            ), subjects AS (
                SELECT subject FROM summed UNION SELECT subject FROM use_counts
            )
            SELECT subjects.subject || ': ' || COALESCE(counted.uses, 0) || ' uses with a discount of '
                   || COALESCE(counted.discount_minor, 0) || ' are counted, there are ' || COALESCE(summed.uses, 0)
                   || ' with ' || COALESCE(summed.discount_minor, 0)
            FROM subjects
            LEFT JOIN use_counts AS counted ON counted.subject = subjects.subject
            LEFT JOIN summed ON summed.subject = subjects.subject
            WHERE COALESCE(counted.uses, 0) <> COALESCE(summed.uses, 0)
               OR COALESCE(counted.discount_minor, 0) <> COALESCE(summed.discount_minor, 0)
            """
        ),
    ),
    Invariant(
        "order-history",
        "the ledger has every version of each order",
        Statement(
            """
            SELECT 'orders/' || orders.id || ': is at version ' || orders.version || ', the ledger has '
                   || COUNT(entry.sequence) || ' changes of it'
            FROM orders LEFT JOIN audit_entries AS entry ON entry.resource = 'orders/' || orders.id
            GROUP BY orders.id HAVING COUNT(entry.sequence) <> orders.version
            """
        ),
    ),
    Invariant(
        "reservation-history",
        "the ledger has every version of each reservation",
        Statement(
            """
            SELECT 'reservations/' || reservations.id || ': is at version ' || reservations.version
                   || ', the ledger has ' || COUNT(entry.sequence) || ' changes of it'
            FROM reservations
            LEFT JOIN audit_entries AS entry ON entry.resource = 'reservations/' || reservations.id
            GROUP BY reservations.id HAVING COUNT(entry.sequence) <> reservations.version
            """
        ),
    ),
    Invariant(
        "reservation-orders",
        "only a committed reservation names an order, and that order exists",
        Statement(
            """
            SELECT 'reservations/' || id || ': is ' || state || ', for orders/' || order_id
            FROM reservations
            WHERE order_id <> ''
              AND (state <> 'COMMITTED' OR NOT EXISTS (SELECT 1 FROM orders WHERE orders.id = reservations.order_id))
            """
        ),
    ),
    Invariant(
        "replies",
        "each call has at most one reply, which is complete",
        Statement(
            """
            SELECT 'replies, row ' || MIN(id) || ': ' || caller || ' has ' || COUNT(*) || ' replies to ' || method
                   || ' with the request_id ' || request_id
            FROM replies GROUP BY caller, method, request_id HAVING COUNT(*) > 1
            UNION ALL
            SELECT 'replies, row ' || id || ': its entry ' || COALESCE(CAST(entry AS TEXT), '') || ' is missing'
            FROM replies
            WHERE reply IS NULL AND NOT EXISTS (SELECT 1 FROM audit_entries WHERE sequence = entry)
            """
        ),
    ),
    Invariant(
        "event-sequence",
        "the sequence of the events starts at 1 and has no gaps",
        Statement(
            """
            SELECT 'events: number ' || (previous + 1) || ' is missing, before ' || sequence
            FROM (
                SELECT sequence, COALESCE(LAG(sequence) OVER (ORDER BY sequence), 0) AS previous FROM events
            ) AS numbered
            WHERE sequence <> previous + 1
            """
        ),
    ),
)

_UNINDEXED = " UNION ALL ".join(
    f"""
    SELECT '{noun}s/' || {noun}_id || ': its search document is not in the text index' FROM {noun}_documents
    WHERE NOT EXISTS (SELECT 1 FROM {noun}_search_docsize AS indexed WHERE indexed.id = length * {RANK_STEP}
                      + {noun}_documents.id)
    """  # noqa: S608 - the names of tables
    for noun in ("product", "customer")
)
UNINDEXED_DOCUMENTS = Statement(_UNINDEXED, postgresql="SELECT '' WHERE FALSE")
"""Search documents that the text index lacks. PostgreSQL's index is a column of the documents."""
