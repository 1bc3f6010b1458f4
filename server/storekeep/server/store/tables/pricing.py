"""The tables of pricing, and the version of all that orders of any customer share."""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Deletable, Table


class TaxZone(Deletable):
    """One tax zone; `areas` is JSON."""

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    areas = peewee.TextField()

    class Meta:
        table_name = "tax_zones"
        indexes = (
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
            (("display_name", "id"), False),
        )


class TaxRate(Deletable):
    """One tax rate; `components` is JSON."""

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    zone = peewee.ForeignKeyField(TaxZone)
    zone_id: str
    tax_class = peewee.TextField()
    components = peewee.TextField()
    start_time_us = peewee.BigIntegerField(null=True)
    end_time_us = peewee.BigIntegerField(null=True)

    class Meta:
        table_name = "tax_rates"
        indexes = (
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
            (("display_name", "id"), False),
        )


class Price(Deletable):
    """One price beside those of variants; `compare_at_minor` and `floor_minor` are NULL without one."""

    id = peewee.TextField(primary_key=True)
    sku = peewee.TextField()
    currency_code = peewee.TextField()
    amount_minor = peewee.BigIntegerField()
    customer_group = peewee.TextField()
    minimum_quantity = peewee.BigIntegerField()
    start_time_us = peewee.BigIntegerField(null=True)
    end_time_us = peewee.BigIntegerField(null=True)
    compare_at_minor = peewee.BigIntegerField(null=True)
    floor_minor = peewee.BigIntegerField(null=True)

    class Meta:
        table_name = "price_entries"
        indexes = (
            (("sku", "currency_code"), False),
            (("minimum_quantity", "id"), False),
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
        )


class Promotion(Deletable):
    """One promotion; `conditions`, `action` and `budget` are JSON."""

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    state = peewee.TextField()
    priority = peewee.BigIntegerField()
    exclusive = peewee.BooleanField()
    requires_coupon = peewee.BooleanField()
    currency_code = peewee.TextField()
    conditions = peewee.TextField()
    action = peewee.TextField()
    start_time_us = peewee.BigIntegerField(null=True)
    end_time_us = peewee.BigIntegerField(null=True)
    uses_max = peewee.BigIntegerField()
    budget = peewee.TextField()

    class Meta:
        table_name = "promotions"
        indexes = (
            (("display_name", "id"), False),
            (("priority", "id"), False),
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
        )


class Coupon(Deletable):
    """One coupon, whose id is its code in small letters."""

    id = peewee.TextField(primary_key=True)
    promotion = peewee.ForeignKeyField(Promotion)
    promotion_id: str
    code = peewee.TextField()
    uses_max = peewee.BigIntegerField()
    customer_uses_max = peewee.BigIntegerField()
    start_time_us = peewee.BigIntegerField(null=True)
    end_time_us = peewee.BigIntegerField(null=True)

    class Meta:
        table_name = "coupons"
        indexes = (
            (("code", "id"), False),
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
        )


class ShippingMethod(Deletable):
    """One shipping method; `zone_ids`, `prices` and `free_from` are JSON."""

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    zone_ids = peewee.TextField()
    basis = peewee.TextField()
    prices = peewee.TextField()
    free_from = peewee.TextField()
    tax_class = peewee.TextField()

    class Meta:
        table_name = "shipping_methods"
        indexes = (
            (("display_name", "id"), False),
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
        )


class PromotionUse(Table):
    """The use of a promotion by an order; `coupon_id` is empty without a coupon. Only limited uses are stored."""

    order_id = peewee.TextField()
    promotion_id = peewee.TextField()
    coupon_id = peewee.TextField()
    customer_id = peewee.TextField()
    discount_minor = peewee.BigIntegerField()

    class Meta:
        table_name = "promotion_uses"
        primary_key = peewee.CompositeKey("order_id", "promotion_id")
        without_rowid = True
        indexes = ((("coupon_id", "customer_id"), False),)


class UseCount(Table):
    """The uses of a promotion or of a coupon, and the sum of their discounts: sums of `promotion_uses`."""

    subject = peewee.TextField(primary_key=True)
    uses = peewee.BigIntegerField()
    discount_minor = peewee.BigIntegerField()

    class Meta:
        table_name = "use_counts"
        without_rowid = True


class PricingVersion(Table):
    """One row, whose version rises with every change of pricing. Without it, nothing was ever configured."""

    id = peewee.IntegerField(primary_key=True)
    version = peewee.BigIntegerField()

    class Meta:
        table_name = "pricing_versions"


FIND_VERSION = Statement("SELECT version FROM pricing_versions")
RAISE_VERSION = Statement(
    "INSERT INTO pricing_versions (id, version) VALUES (1, :step) ON CONFLICT (id) DO UPDATE "
    "SET version = pricing_versions.version + :step"
)
RAISE_EXISTING_VERSION = Statement("UPDATE pricing_versions SET version = version + :step")
RATE_IN = Statement("SELECT id FROM tax_rates WHERE zone_id = :zone_id AND delete_time_us IS NULL LIMIT 1")
"""One rate of a tax zone."""
ANY_PRICE = Statement("SELECT 1 FROM price_entries WHERE delete_time_us IS NULL LIMIT 1")
PRICES_OF = Statement(
    """
    SELECT id, sku, currency_code, amount_minor, customer_group, minimum_quantity, start_time_us, end_time_us,
           compare_at_minor, floor_minor
    FROM price_entries
    WHERE sku IN TEXTS(:skus) AND currency_code = :currency_code AND delete_time_us IS NULL
      AND (end_time_us IS NULL OR end_time_us > :now_us) AND (start_time_us IS NULL OR start_time_us <= :now_us)
    """
)
"""The prices of some SKUs that hold at a time."""
EXISTING_SKUS = Statement("SELECT sku FROM variants WHERE sku IN TEXTS(:ids)")
EXISTING_PRODUCTS = Statement("SELECT id FROM products WHERE id IN TEXTS(:ids)")
EXISTING_CATEGORIES = Statement("SELECT id FROM categories WHERE id IN TEXTS(:ids)")
"""Those of some SKUs, product ids and category ids that exist, deleted or not."""
FIND_COUPONS = Statement(
    """
    SELECT id, promotion_id, start_time_us, end_time_us, uses_max, customer_uses_max
    FROM coupons WHERE id IN TEXTS(:codes) AND delete_time_us IS NULL
    """
)
USE_COUNTS = Statement("SELECT subject, uses, discount_minor FROM use_counts WHERE subject IN TEXTS(:subjects)")
INSERT_USE = Statement(
    """
    INSERT INTO promotion_uses (order_id, promotion_id, coupon_id, customer_id, discount_minor)
    VALUES (:order_id, :promotion_id, :coupon_id, :customer_id, :discount_minor)
    """
)
COUNT_USE = Statement(
    """
    INSERT INTO use_counts (subject, uses, discount_minor) VALUES (:subject, :uses, :discount_minor)
    ON CONFLICT (subject) DO UPDATE SET
        uses = use_counts.uses + :uses, discount_minor = use_counts.discount_minor + :discount_minor
    """
)
COUNT_CUSTOMER_USES = Statement(
    """
    SELECT requested.value ->> 0, requested.value ->> 1, (
        SELECT COUNT(*) FROM promotion_uses
        WHERE coupon_id = requested.value ->> 0 AND customer_id = requested.value ->> 1
    )
    FROM ROWS(:pairs) AS requested
    """
)
"""(coupon id, customer id, uses) of each requested pair."""
USES_OF_ORDER = Statement(
    "SELECT promotion_id, coupon_id, customer_id, discount_minor FROM promotion_uses WHERE order_id = :order_id"
)
DELETE_USES = Statement("DELETE FROM promotion_uses WHERE order_id = :order_id")
