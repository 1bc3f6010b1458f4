"""Resource names from the ids and names that people type and files hold; not part of the public interface."""

from __future__ import annotations

import re
from functools import partial

MAIN_LOCATION = "main"
"""Id of the location that every server has from the start."""


def to_full_name(collection: str, text: str) -> str:
    """Return `products/chai` for both `chai` and `products/chai`, where `collection` is `products`."""
    return text if text.startswith(f"{collection}/") else f"{collection}/{text}"


def to_child_name(collection: str, children: str, text: str) -> str:
    """Return `products/chai/variants/box` for both `chai/box` and the full name."""
    parent, _, child = text.partition("/")
    if text.startswith(f"{collection}/") or not child:
        return text
    return f"{collection}/{parent}/{children}/{child}"


def to_stock_level_name(sku: str, *, location: str) -> str:
    """Return the name of a stock level. `location` is an id or a full name."""
    return f"{to_full_name('locations', location)}/stockLevels/{sku}"


def quote_text(text: str) -> str:
    """Return `text` as a string literal of the filter language (AIP-160), in which a `*` stands for itself."""
    escaped = re.sub(r'([\\"*])', r"\\\1", text)
    return f'"{escaped}"'


to_account_name = partial(to_full_name, "serviceAccounts")
to_category_name = partial(to_full_name, "categories")
to_customer_name = partial(to_full_name, "customers")
to_entry_name = partial(to_full_name, "auditEntries")
to_event_name = partial(to_full_name, "events")
to_key_name = partial(to_child_name, "serviceAccounts", "apiKeys")
to_location_name = partial(to_full_name, "locations")
to_product_name = partial(to_full_name, "products")
to_reservation_name = partial(to_full_name, "reservations")
to_role_name = partial(to_full_name, "roles")
to_user_name = partial(to_full_name, "users")
to_variant_name = partial(to_child_name, "products", "variants")
to_coupon_name = partial(to_full_name, "coupons")
to_price_name = partial(to_full_name, "prices")
to_quote_name = partial(to_full_name, "quotes")
to_promotion_name = partial(to_full_name, "promotions")
to_shipping_method_name = partial(to_full_name, "shippingMethods")
to_tax_rate_name = partial(to_full_name, "taxRates")
to_tax_zone_name = partial(to_full_name, "taxZones")
to_webhook_name = partial(to_full_name, "webhookEndpoints")
