"""Names: what may be typed for a resource: its full name, or just its id."""

from __future__ import annotations


def full_name(collection: str, text: str) -> str:
    """Return `products/chai` for `chai` and for `products/chai` alike; `collection` is `products`."""
    return text if text.startswith(f"{collection}/") else f"{collection}/{text}"


def child_name(collection: str, children: str, text: str) -> str:
    """Return `products/chai/variants/box` for `chai/box` and for the full name alike."""
    parent, _, child = text.partition("/")
    if text.startswith(f"{collection}/") or not child:
        return text
    return f"{collection}/{parent}/{children}/{child}"


def stock_level_name(sku: str, *, location: str) -> str:
    """Return the name of the stock level of a SKU at a location, which may be an id or a full name."""
    return f"{full_name('locations', location)}/stockLevels/{sku}"


def quoted(text: str) -> str:
    """Return `text` as a string of the filter language (AIP-160)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
