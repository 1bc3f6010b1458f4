"""The benchmarks' products and customers, the same for Storekeep and the peer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SKUS = 1_000
CUSTOMERS = 100
PERSONS = 1_000
PHONE = "+43 1 5550100"
NAME = "Ada Marsh"
ADDRESS = {
    "recipient": NAME,
    "address_lines": ("Ringstr. 24", "Top 7"),
    "locality": "Wien",
    "postal_code": "1010",
    "region_code": "AT",
    "phone": PHONE,
}
"""The address of every person, as the fields of `storekeep.v1.Address`."""
CATEGORIES = 20
UNITS = 1_000_000_000
CURRENCY = "EUR"


@dataclass(frozen=True)
class Item:
    """One product with one variant.

    Attributes:
        price_minor: price of one unit in cents.
    """

    product_id: str
    sku: str
    display_name: str
    description: str
    category_id: str
    labels: dict[str, str]
    price_minor: int


def list_items() -> Iterator[Item]:
    """Yield all products."""
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


def list_category_ids() -> list[str]:
    """Return the ids of all categories."""
    return [f"category-{number:02}" for number in range(CATEGORIES)]


def list_customer_ids() -> list[str]:
    """Return the ids of all customers."""
    return [f"customer-{number:03}" for number in range(CUSTOMERS)]


def list_person_ids() -> list[str]:
    """Return the ids of the customers with personal data, which few benchmarks need."""
    return [build_person_id(number) for number in range(PERSONS)]


def build_person_id(number: int) -> str:
    """Return the id of the customer with this number."""
    return f"person-{number:04}"


def build_email(person_id: str) -> str:
    """Return the email address of a customer with personal data."""
    return f"{person_id}@example.com"


def list_skus() -> list[str]:
    """Return all SKUs."""
    return [item.sku for item in list_items()]
