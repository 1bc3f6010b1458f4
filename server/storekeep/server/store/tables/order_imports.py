"""The statements of the import of historic orders. Each reads for a whole batch."""

from __future__ import annotations

from storekeep.server.store.sql.statements import Statement

FIND_IMPORTED = Statement(
    """
    SELECT orders.number, orders.id,
           (SELECT entry.after FROM audit_entries AS entry WHERE entry.resource = 'orders/' || orders.id
            ORDER BY entry.sequence LIMIT 1),
           (SELECT entry.after FROM audit_entries AS entry
            WHERE entry.resource = 'orders/' || orders.id || '/fulfillments/' || shipped.id
            ORDER BY entry.sequence LIMIT 1), shipped.id
    FROM orders
    LEFT JOIN fulfillments AS shipped ON shipped.id = (
        SELECT first.id FROM fulfillments AS first WHERE first.order_id = orders.id
        ORDER BY first.create_time_us, first.id LIMIT 1
    )
    WHERE orders.number IN TEXTS(:numbers)
    """
)
"""The existing orders with the requested numbers: number, id, the order as first stored, and its first fulfilment as
first stored, and the id of that fulfilment."""
EXISTING_CUSTOMERS = Statement("SELECT id, erase_time_us IS NOT NULL FROM customers WHERE id IN TEXTS(:ids)")
"""(id, whether erased) of the requested customers that exist, including deleted ones."""
EXISTING_LOCATIONS = Statement("SELECT id, delete_time_us IS NOT NULL FROM locations WHERE id IN TEXTS(:ids)")
"""(id, whether deleted) of the requested locations that exist."""
VARIANT_NAMES = Statement(
    """
    SELECT variants.sku, products.display_name, variants.display_name
    FROM TEXTS(:skus) AS requested
    JOIN variants ON variants.sku = requested.value
    JOIN products ON products.id = variants.product_id
    """
)
"""(SKU, product name, variant name) of the requested SKUs that exist, including deleted ones."""
