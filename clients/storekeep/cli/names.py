"""Conversion of ids and names given on the command line to resource names."""

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
to_variant_name = partial(to_child_name, "products", "variants")
to_webhook_name = partial(to_full_name, "webhookEndpoints")
