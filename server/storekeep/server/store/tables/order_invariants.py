"""Invariants of the order states and of the fulfilments."""

from __future__ import annotations

from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.tables.invariants import Invariant
from storekeep.server.store.tables.orders import OPEN_UNITS

ORDER_INVARIANTS = (
    Invariant(
        "order-states",
        "the state of each order matches its fulfilled and open units",
        Statement(
            f"""
            SELECT 'orders/' || orders.id || ': is ' || state || ', and ' || SUM(fulfilled) || ' units are fulfilled, '
                   || SUM({OPEN_UNITS}) || ' open'
            FROM orders JOIN order_lines ON order_id = orders.id
            GROUP BY orders.id
            HAVING (SUM(fulfilled) > 0) <> (state IN ('PARTIALLY_FULFILLED', 'FULFILLED', 'COMPLETED'))
                OR (SUM({OPEN_UNITS}) > 0) <> (state IN ('PLACED', 'CONFIRMED', 'PARTIALLY_FULFILLED'))
            """  # noqa: S608 - the name of a column
        ),
    ),
    Invariant(
        "fulfillment-shipped",
        "the fulfilled units of each order line are the units that its fulfilments shipped",
        Statement(
            """
            WITH shipped AS (
                SELECT order_id, line_number, SUM(quantity) AS units
                FROM fulfillments JOIN fulfillment_lines ON fulfillment_id = fulfillments.id
                WHERE state IN ('SHIPPED', 'DELIVERED') GROUP BY order_id, line_number
            ), numbered AS (
                SELECT order_id, line_number FROM shipped
                UNION SELECT order_id, line_number FROM order_lines WHERE fulfilled <> 0
            )
            SELECT 'orders/' || order_id || ', line ' || line_number || ': '
                   || COALESCE(CAST(line.fulfilled AS TEXT), 'none') || ' units are fulfilled, '
                   || COALESCE(shipped.units, 0) || ' were shipped'
            FROM numbered
            LEFT JOIN order_lines AS line USING (order_id, line_number)
            LEFT JOIN shipped USING (order_id, line_number)
            WHERE line.fulfilled IS DISTINCT FROM COALESCE(shipped.units, 0)
            """
        ),
    ),
    Invariant(
        "fulfillment-pending",
        "the units that pending fulfilments bind are open, and allocated at the location of the fulfilment",
        Statement(
            f"""
            WITH pending AS (
                SELECT order_id, line_number, location_id, SUM(quantity) AS units
                FROM fulfillments JOIN fulfillment_lines ON fulfillment_id = fulfillments.id
                WHERE state = 'PENDING' GROUP BY order_id, line_number, location_id
            ), allocated AS (
                SELECT source, line_number, location_id, SUM(allocated_delta) AS units
                FROM stock_movements WHERE source IN (SELECT 'orders/' || order_id FROM pending)
                GROUP BY source, line_number, location_id
            )
            SELECT 'orders/' || pending.order_id || ', line ' || pending.line_number || ': ' || pending.units
                   || ' units are bound at locations/' || pending.location_id || ', '
                   || COALESCE(allocated.units, 0) || ' allocated'
            FROM pending
            LEFT JOIN allocated ON source = 'orders/' || pending.order_id
                               AND allocated.line_number = pending.line_number
                               AND allocated.location_id = pending.location_id
            WHERE pending.units > COALESCE(allocated.units, 0)
            UNION ALL
            SELECT 'orders/' || order_lines.order_id || ', line ' || order_lines.line_number || ': '
                   || bound.units || ' units are bound, ' || {OPEN_UNITS} || ' open'
            FROM (
                SELECT order_id, line_number, SUM(units) AS units FROM pending GROUP BY order_id, line_number
            ) AS bound
            JOIN order_lines ON order_lines.order_id = bound.order_id AND order_lines.line_number = bound.line_number
            WHERE bound.units > {OPEN_UNITS}
            """  # noqa: S608 - the name of a column
        ),
    ),
    Invariant(
        "fulfillment-lines",
        "each fulfilment has lines, which are lines of its order",
        Statement(
            """
            SELECT 'orders/' || order_id || '/fulfillments/' || fulfillments.id || ': '
                   || CASE WHEN line.line_number IS NULL THEN 'it has no lines'
                      ELSE 'the order has no line ' || line.line_number END
            FROM fulfillments LEFT JOIN fulfillment_lines AS line ON fulfillment_id = fulfillments.id
            WHERE NOT EXISTS (SELECT 1 FROM order_lines
                              WHERE order_lines.order_id = fulfillments.order_id
                                AND order_lines.line_number = line.line_number)
            """
        ),
    ),
    Invariant(
        "fulfillment-history",
        "the ledger has every version of each fulfilment",
        Statement(
            """
            SELECT 'orders/' || order_id || '/fulfillments/' || fulfillments.id || ': is at version '
                   || fulfillments.version || ', the ledger has ' || COUNT(entry.sequence) || ' changes of it'
            FROM fulfillments
            LEFT JOIN audit_entries AS entry
                   ON entry.resource = 'orders/' || order_id || '/fulfillments/' || fulfillments.id
            GROUP BY fulfillments.id HAVING COUNT(entry.sequence) <> fulfillments.version
            """
        ),
    ),
    Invariant(
        "quote-orders",
        "a quote names an order if and only if it was accepted, and that order exists",
        Statement(
            """
            SELECT 'quotes/' || id || ': is ' || state || ', for orders/' || order_id
            FROM quotes
            WHERE (order_id <> '') <> (state = 'ACCEPTED')
               OR (order_id <> '' AND NOT EXISTS (SELECT 1 FROM orders WHERE orders.id = quotes.order_id))
            """
        ),
    ),
)
