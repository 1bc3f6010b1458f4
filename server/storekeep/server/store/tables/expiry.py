"""Expired reservations and allocations, which reads must not count even before the expiry is written."""

from __future__ import annotations

from storekeep.server.store.sql.statements import Statement

EXPIRED_UNITS = Statement(
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
    ) AS expired
    GROUP BY location_id, sku
    """
)
"""(location, SKU, reserved, allocated): units of each level that are held by expired reservations and orders."""
