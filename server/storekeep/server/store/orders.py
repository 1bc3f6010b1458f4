"""The tables of orders, their lines and their history, and the statements of the hot paths."""

from __future__ import annotations

import peewee

from storekeep.server.store.customers import Customer
from storekeep.server.store.database import Table
from storekeep.server.store.inventory import Location
from storekeep.server.store.products import Variant
from storekeep.server.store.statements import Statement, bound


class Order(Table):
    """One order; `shipping_address` is JSON, `null` where there is none."""

    id = peewee.TextField(primary_key=True)
    customer = peewee.ForeignKeyField(Customer, index=False)
    state = peewee.TextField()
    currency_code = peewee.TextField()
    total_minor = peewee.BigIntegerField(constraints=[peewee.Check("total_minor >= 0")])
    location = peewee.ForeignKeyField(Location, index=False)
    shipping_address = peewee.TextField()
    external_reference = peewee.TextField(index=True)
    note = peewee.TextField()
    cancel_reason = peewee.TextField()
    version = peewee.BigIntegerField()
    create_time_us = peewee.BigIntegerField()
    update_time_us = peewee.BigIntegerField()

    class Meta:
        table_name = "orders"
        indexes = (
            (("create_time_us", "id"), False),
            (("customer", "create_time_us", "id"), False),
            (("state", "create_time_us", "id"), False),
            (("total_minor", "id"), False),
        )


class OrderLine(Table):
    """So many units of one SKU in an order, at the price of that moment."""

    order = peewee.ForeignKeyField(Order, backref="line_rows", index=False)
    line_number = peewee.IntegerField()
    variant = peewee.ForeignKeyField(Variant, column_name="sku", index=False)
    display_name = peewee.TextField()
    quantity = peewee.BigIntegerField(constraints=[peewee.Check("quantity > 0")])
    unit_price_minor = peewee.BigIntegerField()
    subtotal_minor = peewee.BigIntegerField()

    class Meta:
        table_name = "order_lines"
        primary_key = peewee.CompositeKey("order", "line_number")
        without_rowid = True
        constraints = (peewee.Check("subtotal_minor = quantity * unit_price_minor"),)


OPEN_UNITS = "order_lines.quantity"
"""Units of a line that are promised to it while its order is open, as SQL."""
OFFER = Statement(
    """
    SELECT (SELECT COALESCE(delete_time_us, 0) FROM customers WHERE id = :customer_id),
           (SELECT COALESCE(delete_time_us, 0) FROM locations WHERE id = :location_id),
           wanted.value, products.display_name, variants.display_name,
           (SELECT amount_minor FROM prices WHERE prices.sku = wanted.value AND currency_code = :currency_code),
           variants.state = 'ACTIVE' AND variants.delete_time_us IS NULL
           AND products.state = 'ACTIVE' AND products.delete_time_us IS NULL
    FROM TEXTS(:skus) AS wanted
    LEFT JOIN variants ON variants.sku = wanted.value
    LEFT JOIN products ON products.id = variants.product_id
    """
)
"""All that an order is made of, in one question: for each SKU its names, its price in one currency (or NULL) and
whether it is for sale (NULL: unknown); before them, the same in each row, when the customer and the location were
deleted (0: they were not, NULL: there is none)."""
INSERT_LINES = Statement(
    """
    INSERT INTO order_lines (order_id, line_number, sku, display_name, quantity, unit_price_minor, subtotal_minor)
    SELECT :order_id, CAST(value ->> 0 AS BIGINT), value ->> 1, value ->> 2, CAST(value ->> 3 AS BIGINT),
           CAST(value ->> 4 AS BIGINT), CAST(value ->> 5 AS BIGINT)
    FROM ROWS(:lines) AS line
    """
)
"""All lines of an order in one statement; `lines` is a JSON array of arrays in the order of the columns."""
LINES_OF = Statement(
    """
    SELECT order_id, line_number, sku, display_name, quantity, unit_price_minor, subtotal_minor
    FROM order_lines WHERE order_id IN TEXTS(:order_ids)
    ORDER BY order_id, line_number
    """
)
LINES_OF_ONE = Statement(
    lambda: (
        OrderLine.select(
            OrderLine.line_number,
            OrderLine.variant,
            OrderLine.display_name,
            OrderLine.quantity,
            OrderLine.unit_price_minor,
            OrderLine.subtotal_minor,
        )
        .where(OrderLine.order == bound("order_id"))
        .order_by(OrderLine.line_number)
    )
)
