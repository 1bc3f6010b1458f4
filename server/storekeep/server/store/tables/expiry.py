"""What is promised and due, so that reads do not count it though nobody has written yet that it has ended."""

from __future__ import annotations

from storekeep.server.store.sql.statements import Statement

DUE_UNITS = Statement(
    """
    SELECT location_id, sku, CAST(SUM(reserved) AS BIGINT), CAST(SUM(allocated) AS BIGINT)
    FROM (
        SELECT location_id, sku, quantity AS reserved, 0 AS allocated
        FROM reservations JOIN reservation_lines ON reservation_id = reservations.id
        WHERE reservations.state = 'ACTIVE' AND expire_time_us <= :now_us AND sku IN TEXTS(:skus)
        UNION ALL
        SELECT stock_movements.location_id, sku, 0, allocated_delta
        FROM orders JOIN stock_movements ON source = 'orders/' || orders.id AND source <> ''
        WHERE orders.state = 'PLACED' AND expire_time_us <= :now_us AND sku IN TEXTS(:skus)
    ) AS due
    GROUP BY location_id, sku
    """
)
"""(location, SKU, reserved, allocated): how many units of each level are promised by what is due."""
