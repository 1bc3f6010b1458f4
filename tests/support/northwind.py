"""Northwind's files: their rows, what its orders come to, and the options that import them."""

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
    """The rows of a file; commas before a space belong to the text around them, as nothing is quoted."""
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        hidden = csv.DictReader(line.replace(", ", "\0") for line in file)
        return [{key: value.replace("\0", ", ") for key, value in row.items()} for row in hidden]


def line_total(row: dict[str, str]) -> Decimal:
    """What a line costs, rounded half up."""
    exact = Decimal(row["unitPrice"]) * int(row["quantity"]) * (1 - Decimal(row["discount"]))
    return exact.quantize(CENT, ROUND_HALF_UP)


def totals() -> dict[str, Decimal]:
    """What each order costs, by its number: its freight and its lines."""
    found = {row["orderID"]: Decimal(row["freight"]) for row in rows("orders.csv")}
    for row in rows("order-details.csv"):
        found[row["orderID"]] += line_total(row)
    return found


def unshipped() -> set[str]:
    """The numbers of the orders without a ship date."""
    return {row["orderID"] for row in rows("orders.csv") if row["shippedDate"] == "NULL"}


def needed() -> Counter[str]:
    """SKU -> units that the unshipped orders need."""
    numbers, found = unshipped(), Counter[str]()
    for number, sku, units in _units():
        if number in numbers:
            found[sku] += units
    return found


def _units() -> Iterator[tuple[str, str, int]]:
    for row in rows("order-details.csv"):
        yield row["orderID"], row["productID"], int(row["quantity"])
