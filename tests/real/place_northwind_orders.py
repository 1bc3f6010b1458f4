"""Place Northwind's orders of one month with the client library, print each total, and show the allocated stock.

Products and customers must be imported first (see `test_northwind.py` for the commands). The `request_id` of each order
is derived from its number, so a second run orders nothing twice.
"""

from __future__ import annotations

import argparse
import csv
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from storekeep.client import (
    Conflict,
    InvalidRequest,
    NotFound,
    Order,
    OutOfStock,
    Refused,
    StockLevel,
    Storekeep,
    StorekeepError,
    to_decimal,
)

CURRENCY = "USD"
LOCATION = "locations/main"
MONTH = "1996-07"
REQUEST_IDS = uuid.UUID("6f3b1c52-8a0e-4f5d-9d57-21f0a1b6c7e4")
"""The UUID namespace (RFC 9562) of the request ids, generated once at random."""
REFUSED = 1
WRONG_USE = 2


@dataclass(frozen=True)
class OldOrder:
    """An order of Northwind.

    Attributes:
        lines: pairs of SKU and units.
    """

    number: str
    customer_id: str
    date: str
    lines: tuple[tuple[str, int], ...]

    @property
    def request_id(self) -> str:
        """The request id, which depends only on the order's number."""
        return str(uuid.uuid5(REQUEST_IDS, self.number))


def read_orders(folder: Path, *, month: str) -> Iterator[OldOrder]:
    """Yield the orders of a month, such as `1996-07`, in the order of the file.

    Only the first columns of `orders.csv` are read, because the addresses after them contain unquoted commas.
    """
    lines = read_lines(folder)
    for row in read_rows(folder / "orders.csv"):
        if row["orderDate"].startswith(f"{month}-"):
            number = row["orderID"]
            yield OldOrder(number, row["customerID"], row["orderDate"].split()[0], tuple(lines[number]))


def read_lines(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """Return the lines of every order by its number."""
    lines: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for row in read_rows(folder / "order-details.csv"):
        lines[row["orderID"]].append((row["productID"], int(row["quantity"])))
    return lines


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file as dictionaries."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file)


def place(client: Storekeep, old: OldOrder) -> Order:
    """Place one order at today's prices.

    Raises: Refused.
    """
    return client.orders.place(
        customer=f"customers/{old.customer_id}",
        lines=old.lines,
        currency_code=CURRENCY,
        location=LOCATION,
        external_reference=old.number,
        note=f"Northwind's order {old.number} of {old.date}",
        request_id=old.request_id,
    )


def place_all(client: Storekeep, orders: Iterable[OldOrder]) -> Iterator[Order]:
    """Place each order, print its total or the reason of its failure, and return the placed orders."""
    for old in orders:
        try:
            order = place(client, old)
        except (Conflict, InvalidRequest, NotFound) as refusal:
            say(f"{old.number}  {old.date}  {old.customer_id}  refused: {explain(refusal)}")
        else:
            say(
                f"{old.number}  {old.date}  {old.customer_id}  {to_decimal(order.total):>9.2f} {CURRENCY}  {order.name}"
            )
            yield order


def explain(refusal: Refused) -> str:
    """Return the reason of a failed order in one line."""
    if isinstance(refusal, OutOfStock):
        short = ", ".join(f"{one.sku} wants {one.requested}, has {one.available}" for one in refusal.shortages)
        return f"{refusal.reason}: {short}"
    return f"{refusal.reason}: {refusal.message}"


def show_stock(client: Storekeep, orders: Sequence[Order]) -> None:
    """Print the stock levels of every SKU in the orders."""
    skus = sorted({line.sku for order in orders for line in order.lines}, key=lambda sku: (len(sku), sku))
    names = [f"{LOCATION}/stockLevels/{sku}" for sku in skus]
    levels = client.inventory.batch_get_stock_levels(names, parent=LOCATION) if names else []
    say(f"{'SKU':<6} {'on hand':>9} {'allocated':>9} {'available':>9}")
    for level in levels:
        say(stock_row(level))


def stock_row(level: StockLevel) -> str:
    """Return one level as a row of the table."""
    return f"{level.sku:<6} {level.on_hand:>9} {level.allocated:>9} {level.available:>9}"


def say(line: str) -> None:
    """Print a line."""
    print(line, flush=True)  # noqa: T201 - the script's output


def main() -> int:
    """Place the orders, show the stock, and return the exit code."""
    parser = argparse.ArgumentParser(
        description="Place Northwind's orders of a month; the server is STOREKEEP_ADDRESS, the key STOREKEEP_API_KEY."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with orders.csv and order-details.csv")
    parser.add_argument("--month", default=MONTH, help=f"year and month, {MONTH} when not given")
    given = parser.parse_args()
    try:
        orders = list(read_orders(given.data, month=given.month))
        with Storekeep() as client:
            placed = list(place_all(client, orders))
            say(f"\n{len(placed)} of {len(orders)} orders placed, {len(orders) - len(placed)} refused\n")
            show_stock(client, placed)
    except OSError as error:
        sys.stderr.write(f"cannot read Northwind: {error}\n")
        return WRONG_USE
    except StorekeepError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
