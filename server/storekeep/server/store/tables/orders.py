"""The tables of orders, their lines and their notes, and the statements of their hot paths."""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.listings import HAS, PRESENT, compare
from storekeep.server.store.sql.many_rows import RowsInsert, build_select_columns, build_update
from storekeep.server.store.sql.statements import Statement, parameter
from storekeep.server.store.sql.transactions import Table, Versioned
from storekeep.server.store.tables.catalog import ON_SALE, Variant
from storekeep.server.store.tables.customers import CONTACT, Customer
from storekeep.server.store.tables.stock import FIRST_LEVEL, TAKEN, Location


def _make_number_field(*checks: str) -> peewee.BigIntegerField:
    """Return an integer column that was added to the table later, with 0 in the existing rows."""
    return peewee.BigIntegerField(constraints=[peewee.SQL("DEFAULT 0"), *map(peewee.Check, checks)])


class Order(Versioned):
    """One order; `shipping_address` is JSON, `null` if there is none.

    An order that is not confirmed expires at `expire_time_us`; NULL means never. An order with `held` set makes no
    progress. `external_reference` is NULL for most orders, which its partial index leaves out. No two orders with
    `unique_reference` have the same `reference_source` and `external_reference`. `billing_address` and `labels` are
    JSON; NULL if there are none. `pricing` is JSON: the frozen terms and their results; NULL if nothing was configured.
    `encrypted` has the personal values, of which `email` and `phone` have blind indexes and addresses the country.
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
    shipping_minor = _make_number_field("shipping_minor >= 0")
    expire_time_us = peewee.BigIntegerField(null=True)
    held = peewee.BooleanField(constraints=[peewee.SQL("DEFAULT FALSE")])
    hold_reason = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])
    external_reference = peewee.TextField(null=True)
    billing_address = peewee.TextField(null=True)
    email = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])
    phone = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])
    labels = peewee.TextField(null=True)
    ship_by_time_us = peewee.BigIntegerField(null=True)
    deliver_by_time_us = peewee.BigIntegerField(null=True)
    source = peewee.TextField(column_name="reference_source", constraints=[peewee.SQL("DEFAULT ''")])
    unique_reference = peewee.BooleanField(constraints=[peewee.SQL("DEFAULT FALSE")])
    tax_minor = _make_number_field("tax_minor >= 0")
    shipping_tax_minor = _make_number_field("shipping_tax_minor >= 0")
    prices_include_tax = peewee.BooleanField(constraints=[peewee.SQL("DEFAULT FALSE")])
    pricing = peewee.TextField(null=True)
    encrypted = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])
    language_code = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])

    class Meta:
        table_name = "orders"
        indexes = (
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
            (("customer", "create_time_us", "id"), False),
            (("state", "create_time_us", "id"), False),
            (("total_minor", "id"), False),
        )


Order.add_index(Order.index(Order.external_reference, Order.source, where=peewee.SQL("external_reference IS NOT NULL")))
Order.add_index(
    Order.index(
        Order.source,
        Order.external_reference,
        unique=True,
        where=peewee.SQL("unique_reference"),
        name="orders_unique_reference",
    )
)
Order.add_index(Order.index(peewee.SQL('LOWER("number")'), name="orders_lower_number"))
Order.add_index(
    Order.index(
        peewee.SQL('LOWER("external_reference")'),
        name="orders_lower_reference",
        where=peewee.SQL('"external_reference" IS NOT NULL'),
    )
)
Order.add_index(Order.index(Order.expire_time_us, where=peewee.SQL("state = 'PLACED'")))


class OrderLine(Table):
    """A number of units of one SKU in an order, at the price when it was ordered.

    `subtotal_minor` is the price of all units. `total_minor` is the price without the cancelled units, less the
    discount. Units that are neither fulfilled nor cancelled are open.
    """

    order = peewee.ForeignKeyField(Order, backref="line_rows", index=False)
    line_number = peewee.IntegerField()
    variant = peewee.ForeignKeyField(Variant, column_name="sku", index=False)
    display_name = peewee.TextField()
    quantity = peewee.BigIntegerField(constraints=[peewee.Check("quantity > 0")])
    unit_price_minor = peewee.BigIntegerField()
    subtotal_minor = peewee.BigIntegerField()
    discount_minor = _make_number_field("discount_minor >= 0")
    total_minor = _make_number_field("total_minor >= 0")
    fulfilled = _make_number_field("fulfilled >= 0")
    cancelled = _make_number_field("cancelled >= 0", "fulfilled + cancelled <= quantity")
    returned = _make_number_field("returned >= 0", "returned <= fulfilled")
    tax_minor = _make_number_field("tax_minor >= 0")

    class Meta:
        table_name = "order_lines"
        primary_key = peewee.CompositeKey("order", "line_number")
        without_rowid = True
        constraints = (peewee.Check("subtotal_minor = quantity * unit_price_minor"),)


OPEN_UNITS = "(order_lines.quantity - order_lines.fulfilled - order_lines.cancelled)"
"""SQL for the open units of a line. They are allocated to it while its order is open."""
LANGUAGE = """COALESCE(CAST(:language_code AS TEXT),
                    (SELECT language_code FROM customers WHERE id = :customer_id), '')"""
"""The language of an order: the requested one, or that of its customer."""
OFFER = Statement(
    f"""
    SELECT (SELECT COALESCE(delete_time_us, 0) FROM customers WHERE id = :customer_id),
           (SELECT COALESCE(delete_time_us, 0) FROM locations WHERE id = :location_id),
           (SELECT {CONTACT} FROM customers WHERE id = :customer_id),
           requested.key, {TAKEN}, products.display_name, variants.display_name, {LANGUAGE},
           CASE WHEN {LANGUAGE} <> '' THEN products.translations END,
           CASE WHEN {LANGUAGE} <> '' THEN variants.translations END,
           (SELECT amount_minor FROM prices WHERE prices.sku = requested.key AND currency_code = :currency_code),
           variants.quantity_rules,
           COALESCE((SELECT version FROM pricing_versions), 0), variants.product_id, products.category_id,
           variants.labels, products.labels, variants.tax_class, variants.weight_g,
           variants.state = 'ACTIVE' AND variants.delete_time_us IS NULL
           AND {ON_SALE} AND products.delete_time_us IS NULL
    FROM PAIRS(:quantities) AS requested
    LEFT JOIN variants ON variants.sku = requested.key
    LEFT JOIN products ON products.id = variants.product_id
    LEFT JOIN {FIRST_LEVEL}
    """  # noqa: S608 - the names of columns
)
"""All data to place an order, in one query, with one row per SKU.

First, the same in each row: delete time of the customer and of the location (0: not deleted, NULL: does not exist), and
the customer's encrypted data if it has a contact (see `CONTACT`). Then the SKU, the columns `TAKEN` of the level that
supplies all its units (NULL if no location has them all, see `FIRST_LEVEL`), product and variant name, language of the
order, the translations of both (JSON; NULL without a language, so that they are not read), price in one currency (NULL:
none), quantity rules (JSON), the version of pricing (0: nothing is configured), what terms refer to (product, category,
labels of the variant and of the product as JSON, tax class, weight in grams), and whether it is for sale (NULL: unknown
SKU). `quantities` is JSON: SKU -> units. `language_code` is NULL for that of the customer."""
READ_BY_ORDERS = frozenset(
    {"customers", "locations", "prices", "pricing_versions", "products", "stock_levels", "variants"}
)
"""The tables of `OFFER`, `FIND_BUYERS` and `RIVAL_UNITS`."""
ANY_ORDER = Statement(
    "SELECT 1 FROM orders WHERE customer_id = :customer_id AND state NOT IN ('CANCELLED', 'EXPIRED') LIMIT 1"
)
"""Whether a customer has an order that was not cancelled and has not expired."""
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
    "tax_minor",
)
"""Columns of a line, in order. `total_minor` follows from them."""
INSERT_LINES = RowsInsert(OrderLine, ("order", *LINE_COLUMNS, "total_minor"))
LINE_CHANGES = (
    "quantity",
    "unit_price_minor",
    "subtotal_minor",
    "discount_minor",
    "fulfilled",
    "cancelled",
    "returned",
    "tax_minor",
    "total_minor",
)
"""Columns of a line that can change."""
UPDATE_LINES = Statement(
    build_update(OrderLine, (*LINE_COLUMNS, "total_minor"), changed=LINE_CHANGES, key=("line_number",))
    + " AND order_id = :order_id"
)
"""Update lines of an order in one statement. `rows` is a JSON array of arrays, in the order of `INSERT_LINES` without
the order id."""
FIND_LINES = Statement(
    f"""
    SELECT {build_select_columns(OrderLine, ("order", *LINE_COLUMNS))}
    FROM order_lines WHERE order_id IN TEXTS(:order_ids)
    ORDER BY order_id, line_number
    """  # noqa: S608 - names from the model
)
FIND_LINES_OF_ORDER = Statement(
    lambda: (
        OrderLine.select(*(getattr(OrderLine, column) for column in LINE_COLUMNS))
        .where(OrderLine.order == parameter("order_id"))
        .order_by(OrderLine.line_number)
    )
)


class OrderNote(Table):
    """A note about an order, whose text is in `encrypted`. Append-only."""

    id = peewee.TextField(primary_key=True)
    order = peewee.ForeignKeyField(Order, index=False)
    content = peewee.TextField()
    actor = peewee.TextField()
    create_time_us = peewee.BigIntegerField()
    encrypted = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])

    class Meta:
        table_name = "order_notes"
        indexes = ((("order", "create_time_us", "id"), False), (("create_time_us", "id"), False))


FIND_CUSTOMER = Statement("SELECT customer_id FROM orders WHERE id = :order_id")
FIND_BY_REFERENCE = Statement(
    """
    SELECT requested.value ->> 0, requested.value ->> 1, (
        SELECT id FROM orders
        WHERE external_reference = requested.value ->> 1 AND reference_source = requested.value ->> 0
        LIMIT 1
    )
    FROM ROWS(:references) AS requested
    """
)
"""(source, external reference, order id) of each requested pair; the id is NULL if no order has the reference."""
EXPIRED_IDS = Statement(
    """
    SELECT id FROM orders WHERE state = 'PLACED' AND expire_time_us <= :now_us ORDER BY expire_time_us LIMIT :most
    """
)
"""Ids of expired orders whose expiry is not written yet, the earliest expiry first."""
EXPIRED_IDS_BY_SKU = Statement(
    """
    SELECT id FROM orders
    WHERE state = 'PLACED' AND expire_time_us <= :now_us
      AND EXISTS (SELECT 1 FROM order_lines WHERE order_id = orders.id AND sku IN TEXTS(:skus))
    ORDER BY expire_time_us LIMIT :most
    """
)
"""The same, for orders with units of some SKUs."""


def compare_state(operation: str, state: str, now_us: int) -> peewee.Expression:
    """Return a comparison with the effective state of an order as SQL: an expired order counts as EXPIRED.

    The expiry time is compared only for the states that depend on it, so that other states still use their index.

    Args:
        operation: `=` or `!=`.
    """
    expired = (Order.state == "PLACED") & (peewee.fn.COALESCE(Order.expire_time_us, 2**63 - 1) <= now_us)
    equal: peewee.Expression = Order.state == state
    if state == "PLACED":
        equal = equal & ~expired
    if state == "EXPIRED":
        equal = equal | expired
    return equal if operation == "=" else ~equal


def match_line_sku(operation: str, sku: str | None, _now_us: int) -> peewee.Function:
    """Return the condition for orders with a line of a SKU, as SQL. It reads the lines of each order that it checks.

    Args:
        operation: `:`, `PREFIX`, or `PRESENT` for any SKU.
    """
    lines = OrderLine.select(peewee.SQL("1")).where(OrderLine.order == Order.id)
    if operation != PRESENT:
        lines = lines.where(compare(OrderLine.variant, "=" if operation == HAS else operation, sku))
    # OFFSET keeps PostgreSQL from making each condition a join: 50 of them would take seconds to plan.
    return peewee.fn.EXISTS(lines.limit(1).offset(0))


def compare_customer_email(operation: str, email: str, _now_us: int) -> peewee.Expression:
    """Return a comparison with the current email address of an order's customer, as SQL."""
    customers = Customer.select(Customer.id).where(compare(Customer.email, operation, email))
    return peewee.Expression(Order.customer, peewee.OP.IN, customers)
