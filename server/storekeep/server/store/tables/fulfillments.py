"""The tables of fulfilments, and the units of an order that they bind."""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.listings import compare
from storekeep.server.store.sql.many_rows import RowsInsert
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Table, Versioned
from storekeep.server.store.tables.orders import Order
from storekeep.server.store.tables.stock import Location


class Fulfillment(Versioned):
    """Units of an order that ship together from one location.

    `tracking_number` has the blind indexes of the tracking numbers of all parcels, with spaces between them, and
    `encrypted` has the parcels. `parcels` is NULL: older releases stored them in it, as JSON.
    """

    id = peewee.TextField(primary_key=True)
    order = peewee.ForeignKeyField(Order, index=False)
    location = peewee.ForeignKeyField(Location, index=False)
    state = peewee.TextField()
    carrier = peewee.TextField()
    tracking_number = peewee.TextField()
    ship_time_us = peewee.BigIntegerField(null=True)
    deliver_time_us = peewee.BigIntegerField(null=True)
    parcels = peewee.TextField(null=True)
    restock_time_us = peewee.BigIntegerField(null=True)
    encrypted = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])

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


def compare_tracking_number(operation: str, token: str) -> peewee.Expression:
    """Return a comparison with the tracking numbers of all parcels, as SQL.

    Args:
        operation: `=` or `!=`.
        token: the blind index of a number; empty for none.
    """
    if not token:
        return compare(Fulfillment.tracking_number, operation, token)
    equal: peewee.Expression = Fulfillment.tracking_number.contains(token)
    return equal if operation == "=" else ~equal


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
