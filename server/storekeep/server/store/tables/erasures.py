"""The statements that erase and merge customers, and that find those whose retention has ended."""

from __future__ import annotations

from storekeep.server.store.sql.statements import Statement

OPEN = "state IN ('PLACED', 'CONFIRMED', 'PARTIALLY_FULFILLED')"
FIND_OPEN_ORDER = Statement(
    f"""
    SELECT id FROM orders WHERE customer_id = :customer_id AND {OPEN}
      AND NOT (state = 'PLACED' AND COALESCE(expire_time_us <= :now_us, FALSE))
    ORDER BY create_time_us, id LIMIT 1
    """  # noqa: S608 - fixed text
)
"""The oldest open order of a customer."""
FIND_MERGED = Statement(
    "SELECT id FROM customers WHERE merged_into = :target AND merged_into <> '' AND erase_time_us IS NULL ORDER BY id"
)
COUNT_MERGED = Statement(
    """
    WITH RECURSIVE merged (name) AS (
        SELECT 'customers/' || id FROM customers WHERE id IN (:target_id, :source_id)
        UNION
        SELECT 'customers/' || customers.id FROM customers JOIN merged ON customers.merged_into = merged.name
        WHERE customers.merged_into <> ''
    )
    SELECT COUNT(*) - 1 FROM merged
    """
)
"""The number of customers that are merged into one once another customer is merged into it, also through others."""
FIND_ORDER_IDS = Statement(
    "SELECT id FROM orders WHERE customer_id = :customer_id ORDER BY create_time_us, id LIMIT :limit"
)
FIND_QUOTE_IDS = Statement(
    "SELECT id FROM quotes WHERE customer_id = :customer_id ORDER BY create_time_us, id LIMIT :limit"
)
EMPTY_ORDER_INDEXES = Statement("UPDATE orders SET email = '', phone = '' WHERE customer_id = :customer_id")
EMPTY_FULFILLMENT_INDEXES = Statement(
    """
    UPDATE fulfillments SET tracking_number = ''
    WHERE order_id IN (SELECT id FROM orders WHERE customer_id = :customer_id)
    """
)
RESERVATIONS = """
    FROM reservations WHERE order_id <> '' AND order_id IN (SELECT id FROM orders WHERE customer_id = :customer_id)
"""
FIND_RESERVATIONS = Statement(f"SELECT 'reservations/' || id {RESERVATIONS}")
"""The names of the reservations that the orders of a customer were made of."""
EMPTY_RESERVATION_INDEXES = Statement(
    f"UPDATE reservations SET reference = '' WHERE id IN (SELECT id {RESERVATIONS})"  # noqa: S608 - fixed text
)
MOVE_USES = Statement("UPDATE promotion_uses SET customer_id = :customer_id WHERE customer_id = :source_id")
FIND_INACTIVE = Statement(
    f"""
    SELECT id FROM customers
    WHERE erase_time_us IS NULL AND merged_into = '' AND update_time_us < :before_us
      AND NOT EXISTS (
          SELECT 1 FROM orders WHERE orders.customer_id = customers.id AND (create_time_us >= :before_us OR {OPEN})
      )
      AND NOT EXISTS (
          SELECT 1 FROM quotes WHERE quotes.customer_id = customers.id
            AND (update_time_us >= :before_us OR expire_time_us >= :before_us)
      )
    ORDER BY id LIMIT :rows_max
    """  # noqa: S608 - fixed text
)
"""Customers that neither changed nor ordered since a time, had no quote then or later, and have no open order."""
