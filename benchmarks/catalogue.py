"""What the benchmark's shop sells, and to whom: the same for Storekeep and for the peer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SKUS = 1_000
CUSTOMERS = 100
CATEGORIES = 20
UNITS = 1_000_000_000
CURRENCY = "EUR"


@dataclass(frozen=True)
class Item:
    """One product with one variant.

    Attributes:
        price_minor: in cents.
    """

    product_id: str
    sku: str
    display_name: str
    description: str
    category_id: str
    labels: dict[str, str]
    price_minor: int


def items() -> Iterator[Item]:
    """All products."""
    for number in range(1, SKUS + 1):
        yield Item(
            product_id=f"product-{number:04}",
            sku=f"SKU-{number:04}",
            display_name=f"Enamel mug no. {number}",
            description="Steel, enamelled by hand, 350 ml. It goes on any stove and into the dishwasher.",
            category_id=f"category-{number % CATEGORIES:02}",
            labels={"brand": "Nordlicht", "season": "all-year"},
            price_minor=500 + number,
        )


def category_ids() -> list[str]:
    """All categories."""
    return [f"category-{number:02}" for number in range(CATEGORIES)]


def customer_ids() -> list[str]:
    """All customers."""
    return [f"customer-{number:03}" for number in range(CUSTOMERS)]


def skus() -> list[str]:
    """All SKUs."""
    return [item.sku for item in items()]
