"""The tables of fulfilments, and the units of an order that they bind."""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.many_rows import RowsInsert
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Table, Versioned
from storekeep.server.store.tables.orders import Order
from storekeep.server.store.tables.stock import Location


class Fulfillment(Versioned):
    """Units of an order that ship together from one location."""

    id = peewee.TextField(primary_key=True)
    order = peewee.ForeignKeyField(Order, index=False)
    location = peewee.ForeignKeyField(Location, index=False)
    state = peewee.TextField()
    carrier = peewee.TextField()
    tracking_number = peewee.TextField()
    ship_time_us = peewee.BigIntegerField(null=True)
    deliver_time_us = peewee.BigIntegerField(null=True)

    class Meta:
        table_name = "fulfillments"
        indexes = (
            (("order", "create_time_us", "id"), False),
            (("state", "create_time_us", "id"), False),
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
        )


class FulfillmentLine(Table):
    """A number of units of one order line in a fulfilment."""

    fulfillment = peewee.ForeignKeyField(Fulfillment, index=False)
    line_number = peewee.IntegerField()
    quantity = peewee.BigIntegerField(constraints=[peewee.Check("quantity > 0")])

    class Meta:
        table_name = "fulfillment_lines"
        primary_key = peewee.CompositeKey("fulfillment", "line_number")
        without_rowid = True


INSERT_LINES = RowsInsert(FulfillmentLine, ("fulfillment", "line_number", "quantity"))
FIND_LINES = Statement(
    """
    SELECT fulfillment_id, fulfillment_lines.line_number, fulfillment_lines.quantity, sku
    FROM fulfillment_lines
    JOIN fulfillments ON fulfillments.id = fulfillment_id
    JOIN order_lines ON order_lines.order_id = fulfillments.order_id
                    AND order_lines.line_number = fulfillment_lines.line_number
    WHERE fulfillment_id IN TEXTS(:fulfillment_ids)
    ORDER BY fulfillment_id, fulfillment_lines.line_number
    """
)
UNBOUND_UNITS = Statement(
    """
    WITH allocated AS (
        SELECT line_number, location_id, CAST(SUM(allocated_delta) AS BIGINT) AS units
        FROM stock_movements WHERE source = 'orders/' || CAST(:order_id AS TEXT) AND source <> ''
        GROUP BY line_number, location_id
    ), bound AS (
        SELECT line_number, location_id, CAST(SUM(quantity) AS BIGINT) AS units
        FROM fulfillments JOIN fulfillment_lines ON fulfillment_id = fulfillments.id
        WHERE order_id = :order_id AND state = 'PENDING'
        GROUP BY line_number, location_id
    )
    SELECT allocated.line_number, allocated.location_id, allocated.units - COALESCE(bound.units, 0)
    FROM allocated
    JOIN locations ON locations.id = allocated.location_id
    LEFT JOIN bound ON bound.line_number = allocated.line_number AND bound.location_id = allocated.location_id
    WHERE allocated.units > COALESCE(bound.units, 0)
    ORDER BY locations.priority, allocated.location_id, allocated.line_number
    """
)
"""(line, location, units) of an order that are allocated but not bound to a fulfilment, in the order of the priority of
the locations."""
PENDING_FULFILLMENT_IDS = Statement(
    "SELECT id FROM fulfillments WHERE order_id = :order_id AND state = 'PENDING' ORDER BY id"
)
