"""The statements of the text search of orders: by number, by external reference, and by customer.

Orders have no search documents, because writing one would cost too much when an order is placed; see decision 0042.
Letters A to Z match in either case.
"""

from __future__ import annotations

from storekeep.server.store.sql.statements import Statement

NUMBER_MATCHES = "LOWER(number) >= :prefix AND LOWER(number) <= :prefix_end"
REFERENCE_MATCHES = (
    "external_reference IS NOT NULL"
    " AND LOWER(external_reference) >= :prefix AND LOWER(external_reference) <= :prefix_end"
)
FIND_BY_NUMBER = Statement(
    "SELECT id, number FROM orders WHERE number IN (:number, :marked) AND number > :after ORDER BY number LIMIT :limit"
)
"""The orders with exactly these numbers: `marked` has a `#` before it, as many shops write it."""
FIND_BY_NUMBER_PREFIX = Statement(
    """
    SELECT id, LOWER(number) FROM orders
    WHERE LOWER(number) >= :low AND LOWER(number) <= :prefix_end
      AND number NOT IN (:number, :marked) AND (LOWER(number), id) > (:after, :after_id)
    ORDER BY LOWER(number), id LIMIT :limit
    """
)
"""Further orders whose number begins with the prefix. `low` is the later one of the prefix and the cursor."""
FIND_BY_REFERENCE_PREFIX = Statement(
    f"""
    SELECT id, LOWER(external_reference) FROM orders
    WHERE external_reference IS NOT NULL
      AND LOWER(external_reference) >= :low AND LOWER(external_reference) <= :prefix_end
      AND number NOT IN (:number, :marked) AND NOT ({NUMBER_MATCHES})
      AND (LOWER(external_reference), id) > (:after, :after_id)
    ORDER BY LOWER(external_reference), id LIMIT :limit
    """  # noqa: S608 - the names of columns
)
"""Further orders whose external reference begins with the prefix."""
FIND_BY_CUSTOMER = Statement(
    f"""
    SELECT id, create_time_us FROM orders
    WHERE customer_id = :customer_id AND (create_time_us, id) < (:before_us, :before_id)
      AND number NOT IN (:number, :marked) AND NOT ({NUMBER_MATCHES}) AND NOT COALESCE({REFERENCE_MATCHES}, FALSE)
    ORDER BY create_time_us DESC, id DESC LIMIT :limit
    """  # noqa: S608 - the names of columns
)
"""Further orders of a customer, the newest first."""
