"""The tables of categories, products, variants and prices, and the statements of their hot paths."""

from __future__ import annotations

from typing import Any

import peewee

from storekeep.server.store.sql.statements import Statement, parameter
from storekeep.server.store.sql.transactions import Deletable, Table


class Category(Deletable):
    """One category; `parent_id` is empty at the top of the tree; `translations` is JSON."""

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    description = peewee.TextField()
    parent_id = peewee.TextField(index=True)
    state = peewee.TextField()
    translations = peewee.TextField(constraints=[peewee.SQL("DEFAULT '{}'")])

    class Meta:
        table_name = "categories"
        indexes = (
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
            (("display_name", "id"), False),
        )


class Product(Deletable):
    """One product; `category_id` is empty for a product without a category.

    `labels`, `media` and `translations` are JSON.
    A product with the state DRAFT counts as ACTIVE from `publish_time_us` on; NULL means never.
    """

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    description = peewee.TextField()
    category_id = peewee.TextField(index=True)
    state = peewee.TextField()
    labels = peewee.TextField()
    publish_time_us = peewee.BigIntegerField(null=True)
    media = peewee.TextField(constraints=[peewee.SQL("DEFAULT '[]'")])
    translations = peewee.TextField(constraints=[peewee.SQL("DEFAULT '{}'")])

    class Meta:
        table_name = "products"
        indexes = (
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
            (("display_name", "id"), False),
        )


class Variant(Deletable):
    """One variant, keyed by its immutable SKU.

    `options`, `labels`, `translations` and `quantity_rules` are JSON; the last is `null` if there are none.
    """

    sku = peewee.TextField(primary_key=True)
    product = peewee.ForeignKeyField(Product, backref="variants", index=False)
    product_id: str
    id = peewee.TextField()
    display_name = peewee.TextField()
    options = peewee.TextField()
    tax_class = peewee.TextField()
    weight_g = peewee.IntegerField(null=True)
    barcode = peewee.TextField(index=True)
    state = peewee.TextField()
    labels = peewee.TextField(constraints=[peewee.SQL("DEFAULT '{}'")])
    quantity_rules = peewee.TextField(constraints=[peewee.SQL("DEFAULT 'null'")])
    translations = peewee.TextField(constraints=[peewee.SQL("DEFAULT '{}'")])

    class Meta:
        table_name = "variants"
        indexes = (
            (("product", "id"), True),
            (("create_time_us", "sku"), False),
            (("update_time_us", "sku"), False),
        )


class Price(Table):
    """The unit price of a variant in one currency."""

    variant = peewee.ForeignKeyField(Variant, column_name="sku", backref="price_rows", index=False)
    currency_code = peewee.TextField()
    amount_minor = peewee.BigIntegerField(constraints=[peewee.Check("amount_minor >= 0")])

    class Meta:
        table_name = "prices"
        primary_key = peewee.CompositeKey("variant", "currency_code")
        without_rowid = True


class PastPrice(Table):
    """A price in the span of time in which it held; `price_id` is empty for the price of the variant."""

    sku = peewee.TextField()
    currency_code = peewee.TextField()
    price_id = peewee.TextField()
    start_time_us = peewee.BigIntegerField()
    end_time_us = peewee.BigIntegerField(null=True)
    amount_minor = peewee.BigIntegerField()
    customer_group = peewee.TextField()
    minimum_quantity = peewee.BigIntegerField()
    has_window = peewee.BooleanField()

    class Meta:
        table_name = "price_history"
        primary_key = peewee.CompositeKey("sku", "currency_code", "price_id", "start_time_us")
        without_rowid = True


ON_SALE = """
    (products.state = 'ACTIVE' OR products.state = 'DRAFT' AND products.publish_time_us IS NOT NULL
     AND products.publish_time_us <= :now_us)
"""
"""SQL for whether a product is active at a time. NULL without a product."""


def is_draft(now_us: int) -> Any:
    """Return as SQL whether a product is a draft at a time, in microseconds since 1970. It is never NULL."""
    return (Product.state == "DRAFT") & (peewee.fn.COALESCE(Product.publish_time_us, 2**63 - 1) > now_us)


def compare_product_state(operation: str, state: str, now_us: int) -> Any:
    """Return a comparison with the state of a product at a time as SQL: a published draft counts as ACTIVE.

    Args:
        operation: `=` or `!=`.
    """
    equal = Product.state == state
    if state == "DRAFT":
        equal = is_draft(now_us)
    if state == "ACTIVE":
        equal = equal | ((Product.state == "DRAFT") & ~is_draft(now_us))
    return equal if operation == "=" else ~equal


def belongs_to_draft(now_us: int) -> Any:
    """Return as SQL whether the product of a variant is a draft at a time."""
    drafts = Product.select(peewee.SQL("1")).where((Product.id == Variant.product) & is_draft(now_us))
    return peewee.fn.EXISTS(drafts)


DRAFTS = Statement(
    """
    SELECT id FROM products
    WHERE id IN TEXTS(:product_ids) AND state = 'DRAFT' AND (publish_time_us IS NULL OR publish_time_us > :now_us)
    """
)
"""Ids of those products that are drafts."""
PRICES_BY_SKU = Statement(
    "SELECT sku, currency_code, amount_minor FROM prices WHERE sku IN TEXTS(:skus) ORDER BY sku, currency_code"
)
QUANTITY_RULES = Statement("SELECT sku, quantity_rules FROM variants WHERE sku IN TEXTS(:skus)")
FIND_BY_SKU = Statement(lambda: Variant.select(Variant.product, Variant.id).where(Variant.sku == parameter("sku")))
"""The product and the id of the variant with a SKU."""
CATEGORY_PARENTS = Statement("SELECT id, parent_id FROM categories WHERE parent_id <> '' ORDER BY id")
CATEGORY_IN = Statement(
    lambda: (
        Category.select(Category.id)
        .where((Category.parent_id == parameter("category_id")) & Category.delete_time_us.is_null())
        .limit(1)
    )
)
"""One child of a category."""
PRODUCT_IN = Statement(
    lambda: (
        Product.select(Product.id)
        .where((Product.category_id == parameter("category_id")) & Product.delete_time_us.is_null())
        .limit(1)
    )
)
"""One product of a category."""
ANY_PRODUCT = Statement(lambda: Product.select(Product.id).limit(1))
DELETE_PRICES = Statement(lambda: Price.delete().where(Price.variant == parameter("sku")))
INSERT_PRICE = Statement(
    lambda: Price.insert(
        variant=parameter("sku"), currency_code=parameter("currency_code"), amount_minor=parameter("amount_minor")
    )
)
DELETE_LATER_PRICES = Statement(
    """
    DELETE FROM price_history
    WHERE sku = :sku AND currency_code = :currency_code AND price_id = :price_id AND start_time_us >= :now_us
    """
)
END_PAST_PRICE = Statement(
    """
    UPDATE price_history SET end_time_us = :now_us
    WHERE sku = :sku AND currency_code = :currency_code AND price_id = :price_id
      AND (end_time_us IS NULL OR end_time_us > :now_us)
    """
)
INSERT_PAST_PRICE = Statement(
    """
    INSERT INTO price_history (
        sku, currency_code, price_id, start_time_us, end_time_us, amount_minor, customer_group, minimum_quantity,
        has_window
    ) VALUES (
        :sku, :currency_code, :price_id, :start_time_us, :end_time_us, :amount_minor, :customer_group,
        :minimum_quantity, :has_window
    )
    """
)
PAST_PRICES = Statement(
    """
    SELECT start_time_us, end_time_us, amount_minor, customer_group, has_window FROM price_history
    WHERE sku = :sku AND currency_code = :currency_code AND minimum_quantity <= 1
      AND (customer_group = '' OR customer_group = :customer_group)
      AND start_time_us < :end_us AND (end_time_us IS NULL OR end_time_us > :start_us)
    ORDER BY start_time_us DESC LIMIT :rows_max
    """
)
"""Prices of one unit that held in a span of time, the latest first."""
