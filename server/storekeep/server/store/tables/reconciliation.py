"""The queries of stock reconciliation: levels, the sums of their movements, and the reserved and allocated units."""

from __future__ import annotations

from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.tables.orders import OPEN_UNITS
from storekeep.server.store.tables.stock import BLOCKS

NEXT_SKUS = Statement("SELECT sku FROM variants WHERE sku > :after ORDER BY sku LIMIT :rows_max")
"""The SKUs after one, in order, at most `rows_max`."""
MOVEMENTS_BY_SKU = """
blocks CROSS JOIN TEXTS(:skus) AS requested
JOIN stock_movements ON stock_movements.id >> 12 = blocks.block AND stock_movements.sku = requested.value
"""
"""FROM clause for the movements of some SKUs, to be used after `BLOCKS`."""
LEVELS_AND_MOVED = Statement(
    f"""
    {BLOCKS}, moved AS (
        SELECT location_id, sku, CAST(SUM(quantity_delta) AS BIGINT) AS on_hand,
               CAST(SUM(reserved_delta) AS BIGINT) AS reserved, CAST(SUM(allocated_delta) AS BIGINT) AS allocated
        FROM {MOVEMENTS_BY_SKU} GROUP BY location_id, sku
    ), places AS (
        SELECT location_id, sku FROM moved
        UNION SELECT location_id, sku FROM stock_levels WHERE sku IN TEXTS(:skus)
    )
    SELECT places.location_id, places.sku, COALESCE(moved.on_hand, 0), COALESCE(moved.reserved, 0),
           COALESCE(moved.allocated, 0), level.on_hand, level.reserved, level.allocated, level.backorder_limit,
           level.version, level.update_time_us, level.safety_threshold, level.low_stock_threshold
    FROM places
    LEFT JOIN stock_levels AS level ON level.location_id = places.location_id AND level.sku = places.sku
    LEFT JOIN moved ON moved.location_id = places.location_id AND moved.sku = places.sku
    ORDER BY places.sku, places.location_id
    """  # noqa: S608 - the names of columns
)
"""(location, SKU), the sums of the movements, and the stock level (NULLs if missing) of each location of some SKUs."""
PROMISES_MOVED = Statement(
    f"""
    {BLOCKS}
    SELECT source, line_number, sku, location_id, CAST(SUM(reserved_delta) AS BIGINT),
           CAST(SUM(allocated_delta) AS BIGINT)
    FROM {MOVEMENTS_BY_SKU} WHERE source <> ''
    GROUP BY source, line_number, sku, location_id
    HAVING SUM(reserved_delta) <> 0 OR SUM(allocated_delta) <> 0
    ORDER BY source, line_number, sku, location_id
    """  # noqa: S608 - the names of columns
)
"""(source, line, SKU, location, reserved, allocated) according to the stock movements."""
ACTIVE_RESERVATION_LINES = Statement(
    """
    SELECT 'reservations/' || reservation_id, line_number, sku, location_id, quantity
    FROM reservations JOIN reservation_lines ON reservation_id = reservations.id
    WHERE reservations.state = 'ACTIVE' AND sku IN TEXTS(:skus)
    """
)
"""(source, line, SKU, location, units) of active reservations."""
OPEN_LINES = Statement(
    f"""
    SELECT 'orders/' || orders.id, order_lines.line_number, order_lines.sku, orders.location_id, {OPEN_UNITS}
    FROM orders JOIN order_lines ON order_lines.order_id = orders.id
    WHERE orders.state IN TEXTS(:open_states) AND order_lines.sku IN TEXTS(:skus) AND {OPEN_UNITS} > 0
    """  # noqa: S608 - the name of a column
)
"""(source, line, SKU, location of the order, open units) of open orders."""
