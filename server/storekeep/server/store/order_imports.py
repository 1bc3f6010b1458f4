"""The statements that import historic orders: each reads or writes a whole batch, whatever is in it."""

from __future__ import annotations

from storekeep.server.store.statements import Statement

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
INSERT_ORDERS = Statement(
    """
    INSERT INTO orders (
        id, customer_id, state, currency_code, total_minor, location_id, shipping_address, external_reference, note,
        cancel_reason, version, create_time_us, update_time_us, number, shipping_minor, expire_time_us, held,
        hold_reason
    )
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, CAST(value ->> 4 AS BIGINT), value ->> 5, value ->> 6,
           NULL, value ->> 7, '', 1, CAST(value ->> 8 AS BIGINT), CAST(:now_us AS BIGINT), value ->> 9,
           CAST(value ->> 10 AS BIGINT), NULL, FALSE, ''
    FROM ROWS(:orders) AS historic ORDER BY historic.key
    """
)
INSERT_LINES_OF = Statement(
    """
    INSERT INTO order_lines (
        order_id, line_number, sku, display_name, quantity, unit_price_minor, subtotal_minor, discount_minor, fulfilled,
        cancelled, returned, total_minor
    )
    SELECT value ->> 0, CAST(value ->> 1 AS BIGINT), value ->> 2, value ->> 3, CAST(value ->> 4 AS BIGINT),
           CAST(value ->> 5 AS BIGINT), CAST(value ->> 6 AS BIGINT), CAST(value ->> 7 AS BIGINT),
           CAST(value ->> 8 AS BIGINT), CAST(value ->> 9 AS BIGINT), CAST(value ->> 10 AS BIGINT),
           CAST(value ->> 11 AS BIGINT)
    FROM ROWS(:lines) AS line
    """
)
"""The lines of many orders; `lines` is a JSON array of arrays in the order of the columns."""
INSERT_SHIPMENTS = Statement(
    """
    INSERT INTO fulfillments (
        id, order_id, location_id, state, carrier, tracking_number, ship_time_us, deliver_time_us, version,
        create_time_us, update_time_us
    )
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, CAST(value ->> 6 AS BIGINT),
           CAST(value ->> 7 AS BIGINT), CAST(value ->> 8 AS BIGINT), CAST(value ->> 9 AS BIGINT),
           CAST(value ->> 10 AS BIGINT)
    FROM ROWS(:fulfillments) AS shipped
    """
)
INSERT_SHIPMENT_LINES = Statement(
    """
    INSERT INTO fulfillment_lines (fulfillment_id, line_number, quantity)
    SELECT value ->> 0, CAST(value ->> 1 AS INTEGER), CAST(value ->> 2 AS BIGINT) FROM ROWS(:lines) AS line
    """
)
INSERT_ALLOCATIONS = Statement(
    """
    INSERT INTO stock_movements (
        location_id, sku, line_number, quantity_delta, reserved_delta, allocated_delta, on_hand, cause, reason, actor,
        source, create_time_us
    )
    SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS INTEGER), 0, 0, CAST(value ->> 3 AS BIGINT),
           CAST(value ->> 4 AS BIGINT), 'ALLOCATE', '', :actor, value ->> 5, CAST(:now_us AS BIGINT)
    FROM ROWS(:movements) AS movement ORDER BY movement.key
    """
)
"""What is promised to the lines of many orders, each the source of its own movements."""
