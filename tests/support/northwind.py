"""Northwind's files: their rows, the totals of its orders, and the options that import them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

DATA = Path(__file__).parents[2].parent / "shared/data/northwind"
CENT = Decimal("0.01")
PRODUCTS = ("--column", "sku=productID", "--column", "name=productName", "--column", "stock=unitsInStock")
CUSTOMERS = ("--column", "id=customerID", "--column", "name=companyName")
ORDERS = (
    *(str(DATA / "order-details.csv"), "--orders", str(DATA / "orders.csv"), "--set", "currency=USD"),
    *("--column", "number=orderID", "--column", "sku=productID", "--column", "unit_price=unitPrice"),
    *("--column", "discount_rate=discount", "--column", "customer=customerID", "--column", "order_date=orderDate"),
    *("--column", "ship_date=shippedDate", "--column", "carrier=shipVia", "--column", "shipping=freight"),
    *("--column", "organization=shipName", "--column", "address=shipAddress", "--column", "city=shipCity"),
    *("--column", "region=shipRegion", "--column", "postal_code=shipPostalCode", "--column", "country=shipCountry"),
)


def rows(name: str) -> list[dict[str, str]]:
    """Read the rows of a file; a comma before a space is part of the text, because nothing is quoted."""
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        hidden = csv.DictReader(line.replace(", ", "\0") for line in file)
        return [{key: value.replace("\0", ", ") for key, value in row.items()} for row in hidden]


def line_total(row: dict[str, str]) -> Decimal:
    """Return the price of a line, rounded half up."""
    exact = Decimal(row["unitPrice"]) * int(row["quantity"]) * (1 - Decimal(row["discount"]))
    return exact.quantize(CENT, ROUND_HALF_UP)


def totals() -> dict[str, Decimal]:
    """Return the total of each order, by number: freight and lines."""
    amounts = {row["orderID"]: Decimal(row["freight"]) for row in rows("orders.csv")}
    for row in rows("order-details.csv"):
        amounts[row["orderID"]] += line_total(row)
    return amounts


def unshipped() -> set[str]:
    """Return the numbers of the orders without a ship date."""
    return {row["orderID"] for row in rows("orders.csv") if row["shippedDate"] == "NULL"}


def needed() -> Counter[str]:
    """Return the units that the unshipped orders need, by SKU."""
    numbers, needed_units = unshipped(), Counter[str]()
    for number, sku, units in _units():
        if number in numbers:
            needed_units[sku] += units
    return needed_units


def _units() -> Iterator[tuple[str, str, int]]:
    for row in rows("order-details.csv"):
        yield row["orderID"], row["productID"], int(row["quantity"])
