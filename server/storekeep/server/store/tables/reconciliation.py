"""What stock is compared by: levels, what their movements add up to, and what keeps or has been promised units."""

from __future__ import annotations

from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.tables.orders import OPEN_UNITS
from storekeep.server.store.tables.stock import BLOCKS

NEXT_SKUS = Statement("SELECT sku FROM variants WHERE sku > :after ORDER BY sku LIMIT :rows_max")
"""The SKUs after one, in order."""
OF_SKUS = """
blocks CROSS JOIN TEXTS(:skus) AS wanted
JOIN stock_movements ON stock_movements.id >> 12 = blocks.block AND stock_movements.sku = wanted.value
"""
"""The movements of some SKUs, after `BLOCKS`."""
LEVELS_AND_MOVED = Statement(
    f"""
    {BLOCKS}, moved AS (
        SELECT location_id, sku, CAST(SUM(quantity_delta) AS BIGINT) AS on_hand,
               CAST(SUM(reserved_delta) AS BIGINT) AS reserved, CAST(SUM(allocated_delta) AS BIGINT) AS allocated
        FROM {OF_SKUS} GROUP BY location_id, sku
    ), places AS (
        SELECT location_id, sku FROM moved
        UNION SELECT location_id, sku FROM stock_levels WHERE sku IN TEXTS(:skus)
    )
    SELECT places.location_id, places.sku, COALESCE(moved.on_hand, 0), COALESCE(moved.reserved, 0),
           COALESCE(moved.allocated, 0), level.on_hand, level.reserved, level.allocated, level.backorder_limit,
           level.version, level.update_time_us, level.safety_threshold
    FROM places
    LEFT JOIN stock_levels AS level ON level.location_id = places.location_id AND level.sku = places.sku
    LEFT JOIN moved ON moved.location_id = places.location_id AND moved.sku = places.sku
    ORDER BY places.sku, places.location_id
    """  # noqa: S608 - the names of columns
)
"""Each place of some SKUs: its key, what its movements add up to, and its level (NULLs where there is none)."""
PROMISES_MOVED = Statement(
    f"""
    {BLOCKS}
    SELECT source, line_number, sku, location_id, CAST(SUM(reserved_delta) AS BIGINT),
           CAST(SUM(allocated_delta) AS BIGINT)
    FROM {OF_SKUS} WHERE source <> ''
    GROUP BY source, line_number, sku, location_id
    HAVING SUM(reserved_delta) <> 0 OR SUM(allocated_delta) <> 0
    ORDER BY source, line_number, sku, location_id
    """  # noqa: S608 - the names of columns
)
"""What the ledger has reserved for, and allocated to, each line of each source, at each location."""
KEPT = Statement(
    """
    SELECT 'reservations/' || reservation_id, line_number, sku, location_id, quantity
    FROM reservations JOIN reservation_lines ON reservation_id = reservations.id
    WHERE reservations.state = 'ACTIVE' AND sku IN TEXTS(:skus)
    """
)
"""What active reservations keep: (source, line, SKU, location, units)."""
OPEN_LINES = Statement(
    f"""
    SELECT 'orders/' || orders.id, order_lines.line_number, order_lines.sku, orders.location_id, {OPEN_UNITS}
    FROM orders JOIN order_lines ON order_lines.order_id = orders.id
    WHERE orders.state IN TEXTS(:open_states) AND order_lines.sku IN TEXTS(:skus) AND {OPEN_UNITS} > 0
    """  # noqa: S608 - the name of a column
)
"""What is open of open orders: (source, line, SKU, the order's location, units)."""
