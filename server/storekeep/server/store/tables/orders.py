"""The tables of orders, their lines and their history, and the statements of the hot paths."""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.many_rows import RowsInsert, select_sql, update_sql
from storekeep.server.store.sql.statements import Statement, bound
from storekeep.server.store.sql.transactions import Table, Versioned
from storekeep.server.store.tables.catalog import Variant
from storekeep.server.store.tables.customers import Customer
from storekeep.server.store.tables.stock import FIRST_LEVEL, Location


def _number(*checks: str) -> peewee.BigIntegerField:
    """A number that was added to the table later: 0 in the rows of before."""
    return peewee.BigIntegerField(constraints=[peewee.SQL("DEFAULT 0"), *map(peewee.Check, checks)])


class Order(Versioned):
    """One order; `shipping_address` is JSON, `null` where there is none.

    `expire_time_us` is when it expires unless it is confirmed before; NULL where it never does. `held` orders go no
    further. `external_reference` is NULL where there is none, as in most orders, so that they cost its index nothing.
    """

    id = peewee.TextField(primary_key=True)
    customer = peewee.ForeignKeyField(Customer, index=False)
    state = peewee.TextField()
    currency_code = peewee.TextField()
    total_minor = peewee.BigIntegerField(constraints=[peewee.Check("total_minor >= 0")])
    location = peewee.ForeignKeyField(Location, index=False)
    shipping_address = peewee.TextField()
    note = peewee.TextField()
    cancel_reason = peewee.TextField()
    number = peewee.TextField(unique=True, constraints=[peewee.SQL("DEFAULT ''")])
    shipping_minor = _number("shipping_minor >= 0")
    expire_time_us = peewee.BigIntegerField(null=True)
    held = peewee.BooleanField(constraints=[peewee.SQL("DEFAULT FALSE")])
    hold_reason = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])
    external_reference = peewee.TextField(null=True)

    class Meta:
        table_name = "orders"
        indexes = (
            (("create_time_us", "id"), False),
            (("customer", "create_time_us", "id"), False),
            (("state", "create_time_us", "id"), False),
            (("total_minor", "id"), False),
        )


Order.add_index(Order.index(Order.external_reference, where=peewee.SQL("external_reference IS NOT NULL")))
Order.add_index(Order.index(Order.expire_time_us, where=peewee.SQL("state = 'PLACED'")))


class OrderLine(Table):
    """So many units of one SKU in an order, at the price of that moment.

    `subtotal_minor` is what all its units cost, `total_minor` what the line costs: without the cancelled units, less
    the discount. Units that are neither fulfilled nor cancelled are open.
    """

    order = peewee.ForeignKeyField(Order, backref="line_rows", index=False)
    line_number = peewee.IntegerField()
    variant = peewee.ForeignKeyField(Variant, column_name="sku", index=False)
    display_name = peewee.TextField()
    quantity = peewee.BigIntegerField(constraints=[peewee.Check("quantity > 0")])
    unit_price_minor = peewee.BigIntegerField()
    subtotal_minor = peewee.BigIntegerField()
    discount_minor = _number("discount_minor >= 0")
    total_minor = _number("total_minor >= 0")
    fulfilled = _number("fulfilled >= 0")
    cancelled = _number("cancelled >= 0", "fulfilled + cancelled <= quantity")
    returned = _number("returned >= 0", "returned <= fulfilled")

    class Meta:
        table_name = "order_lines"
        primary_key = peewee.CompositeKey("order", "line_number")
        without_rowid = True
        constraints = (peewee.Check("subtotal_minor = quantity * unit_price_minor"),)


OPEN_UNITS = "(order_lines.quantity - order_lines.fulfilled - order_lines.cancelled)"
"""Units of a line that are promised to it while its order is open, as SQL."""
OFFER = Statement(
    f"""
    SELECT (SELECT COALESCE(delete_time_us, 0) FROM customers WHERE id = :customer_id),
           (SELECT COALESCE(delete_time_us, 0) FROM locations WHERE id = :location_id),
           wanted.key, taken.location_id, taken.on_hand, products.display_name, variants.display_name,
           (SELECT amount_minor FROM prices WHERE prices.sku = wanted.key AND currency_code = :currency_code),
           variants.state = 'ACTIVE' AND variants.delete_time_us IS NULL
           AND products.state = 'ACTIVE' AND products.delete_time_us IS NULL
    FROM PAIRS(:quantities) AS wanted
    LEFT JOIN variants ON variants.sku = wanted.key
    LEFT JOIN products ON products.id = variants.product_id
    LEFT JOIN {FIRST_LEVEL}
    """  # noqa: S608 - the names of columns
)
"""All that an order is made of, in one question: for each SKU where all its units are taken from, and what is on hand
there (NULL where no location has them all, see `FIRST_LEVEL`), its names, its price in one currency (or NULL) and
whether it is for sale (NULL: unknown); before them, the same in each row, when the customer and the location were
deleted (0: they were not, NULL: there is none). `quantities` is JSON: SKU -> units."""
LINE_COLUMNS = (
    "line_number",
    "variant",
    "display_name",
    "quantity",
    "unit_price_minor",
    "subtotal_minor",
    "discount_minor",
    "fulfilled",
    "cancelled",
    "returned",
)
"""What makes a line, in order; `total_minor` follows from it."""
INSERT_LINES = RowsInsert(OrderLine, ("order", *LINE_COLUMNS, "total_minor"))
LINE_CHANGES = ("quantity", "subtotal_minor", "discount_minor", "fulfilled", "cancelled", "returned", "total_minor")
"""What of a line can change."""
UPDATE_LINES = Statement(
    update_sql(OrderLine, (*LINE_COLUMNS, "total_minor"), changed=LINE_CHANGES, key=("line_number",))
    + " AND order_id = :order_id"
)
"""Change lines of an order in one statement; `rows` is a JSON array of arrays, in the order of `INSERT_LINES` without
the order itself."""
LINES_OF = Statement(
    f"""
    SELECT {select_sql(OrderLine, ("order", *LINE_COLUMNS))} FROM order_lines WHERE order_id IN TEXTS(:order_ids)
    ORDER BY order_id, line_number
    """  # noqa: S608 - names from the model
)
LINES_OF_ONE = Statement(
    lambda: (
        OrderLine.select(*(getattr(OrderLine, column) for column in LINE_COLUMNS))
        .where(OrderLine.order == bound("order_id"))
        .order_by(OrderLine.line_number)
    )
)


class OrderNote(Table):
    """What somebody wrote about an order; notes are only ever added."""

    id = peewee.TextField(primary_key=True)
    order = peewee.ForeignKeyField(Order, index=False)
    content = peewee.TextField()
    actor = peewee.TextField()
    create_time_us = peewee.BigIntegerField()

    class Meta:
        table_name = "order_notes"
        indexes = ((("order", "create_time_us", "id"), False),)


DUE = Statement(
    """
    SELECT id FROM orders WHERE state = 'PLACED' AND expire_time_us <= :now_us ORDER BY expire_time_us LIMIT :most
    """
)
"""Orders that have expired, and of which nobody has written so yet: the longest due first."""
DUE_OF = Statement(
    """
    SELECT id FROM orders
    WHERE state = 'PLACED' AND expire_time_us <= :now_us
      AND EXISTS (SELECT 1 FROM order_lines WHERE order_id = orders.id AND sku IN TEXTS(:skus))
    ORDER BY expire_time_us LIMIT :most
    """
)
"""Those of them that have units of some SKUs."""


def state_is(operation: str, state: str, now_us: int) -> peewee.Expression:
    """A comparison with the state that an order is in at a time, as SQL: one that is due has expired.

    Only where it can matter is the time asked about, so that the index over states still serves.
    """
    due = (Order.state == "PLACED") & (peewee.fn.COALESCE(Order.expire_time_us, 2**63 - 1) <= now_us)
    equal: peewee.Expression = Order.state == state
    if state == "PLACED":
        equal = equal & ~due
    if state == "EXPIRED":
        equal = equal | due
    return equal if operation == "=" else ~equal
