"""The statements that import historic orders: each reads for a whole batch, whatever is in it."""

from __future__ import annotations

from storekeep.server.store.sql.statements import Statement

FIND_IMPORTED = Statement(
    """
    SELECT orders.number, orders.id,
           (SELECT entry.after FROM audit_entries AS entry WHERE entry.resource = 'orders/' || orders.id
            ORDER BY entry.sequence LIMIT 1),
           shipped.ship_time_us, shipped.carrier, shipped.tracking_number
    FROM orders
    LEFT JOIN fulfillments AS shipped ON shipped.id = (
        SELECT first.id FROM fulfillments AS first WHERE first.order_id = orders.id
        ORDER BY first.create_time_us, first.id LIMIT 1
    )
    WHERE orders.number IN TEXTS(:numbers)
    """
)
"""What there is of these numbers: number, id, the order as it was at first, and when and how its first fulfilment was
shipped."""
CUSTOMERS_THERE = Statement("SELECT id FROM customers WHERE id IN TEXTS(:ids)")
"""Those of these customers that there are, deleted ones too."""
LOCATIONS_THERE = Statement("SELECT id, delete_time_us IS NOT NULL FROM locations WHERE id IN TEXTS(:ids)")
"""Those of these locations that there are, and whether each is deleted."""
VARIANT_NAMES = Statement(
    """
    SELECT variants.sku, products.display_name, variants.display_name
    FROM TEXTS(:skus) AS wanted
    JOIN variants ON variants.sku = wanted.value
    JOIN products ON products.id = variants.product_id
    """
)
"""(SKU, product's name, variant's name) of those of these SKUs that there are, deleted ones too."""
