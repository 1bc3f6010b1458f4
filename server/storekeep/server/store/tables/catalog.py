"""The tables of categories, products, variants and prices, and the statements of their hot paths."""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.statements import Statement, parameter
from storekeep.server.store.sql.transactions import Deletable, Table


class Category(Deletable):
    """One category; `parent_id` is empty at the top of the tree."""

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    description = peewee.TextField()
    parent_id = peewee.TextField(index=True)
    state = peewee.TextField()

    class Meta:
        table_name = "categories"
        indexes = (
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
            (("display_name", "id"), False),
        )


class Product(Deletable):
    """One product; `category_id` is empty for a product without a category; `labels` is a JSON object."""

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    description = peewee.TextField()
    category_id = peewee.TextField(index=True)
    state = peewee.TextField()
    labels = peewee.TextField()

    class Meta:
        table_name = "products"
        indexes = (
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
            (("display_name", "id"), False),
        )


class Variant(Deletable):
    """One variant, keyed by its immutable SKU; `options` is a JSON object."""

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


PRICES_BY_SKU = Statement(
    "SELECT sku, currency_code, amount_minor FROM prices WHERE sku IN TEXTS(:skus) ORDER BY sku, currency_code"
)
FIND_BY_SKU = Statement(lambda: Variant.select(Variant.product, Variant.id).where(Variant.sku == parameter("sku")))
"""The product and the id of the variant with a SKU."""
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
