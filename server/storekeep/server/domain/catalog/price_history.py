"""Price history: in which span of time each price of a SKU held, and the lowest price of some days.

Invariant: the past never changes. A change of a price ends its span and starts another one, in the same transaction.
"""

from __future__ import annotations

import heapq
import operator
from collections.abc import Sequence

import msgspec

from storekeep.server.domain.errors import PriceNotFound
from storekeep.server.domain.money import Money, get_minor_digits
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.runtime.durations import DAY_US
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import catalog as store

DAYS_DEFAULT = 30
SPANS_MAX = 10_000
"""The most spans that the lowest price is computed from, the latest ones. Bounds the cost of a call."""


class PastPrice(msgspec.Struct, frozen=True):
    """A price in the span of time in which it held; see `PastPrice` in the contract."""

    sku: str
    currency_code: str
    price_id: str
    start_time_us: int
    end_time_us: int | None
    amount_minor: int
    customer_group: str = ""
    minimum_quantity: int = 1
    has_window: bool = False


class LowestPrice(msgspec.Struct, frozen=True):
    """The lowest price of a span of time."""

    amount: Money
    start_time_us: int
    end_time_us: int


def start_price(tx: Transaction, price: PastPrice) -> None:
    """Start the span of a price now, or later if its start is later. Its earlier span ends."""
    end_price(tx, price.sku, price.currency_code, price_id=price.price_id)
    _insert(tx, price)


def _insert(tx: Transaction, price: PastPrice) -> None:
    start_us = max(price.start_time_us, tx.now_us)
    if price.end_time_us is None or price.end_time_us > start_us:
        values = msgspec.structs.asdict(price) | {"start_time_us": start_us}
        store.INSERT_PAST_PRICE.run_deferred(tx, **values)


def end_price(tx: Transaction, sku: str, currency_code: str, *, price_id: str = "") -> None:
    """End the span of a price now. A span that has not begun is deleted."""
    key = {"sku": sku, "currency_code": currency_code, "price_id": price_id}
    store.DELETE_LATER_PRICES.run(tx, **key, now_us=tx.now_us)
    store.END_PAST_PRICE.run(tx, **key, now_us=tx.now_us)


def replace_base_prices(tx: Transaction, sku: str, *, old: tuple[Money, ...], new: tuple[Money, ...]) -> None:
    """Record that the prices of a variant were replaced."""
    for price in set(old) - set(new):
        end_price(tx, sku, price.currency_code)
    for price in new:
        if price not in old:
            _insert(tx, PastPrice(sku, price.currency_code, "", tx.now_us, None, price.amount_minor))


def _read_rows(_tx: Transaction, rows: Sequence[Row]) -> list[PastPrice]:
    return [PastPrice(*row) for row in rows]


def make_listing(sku: str, currency_code: str) -> Listing[PastPrice]:
    """Return the list of the prices that a SKU has had; an empty currency stands for all."""
    table = store.PastPrice
    condition = table.sku == sku
    if currency_code:
        condition &= table.currency_code == currency_code
    columns = [getattr(table, field) for field in PastPrice.__struct_fields__]
    return Listing(
        method="ListPriceHistory",
        query=lambda: table.select(*columns).where(condition),
        columns={"start_time": Column(table.start_time_us, sortable=True)},
        unique=(table.currency_code, table.price_id),
        read_rows=_read_rows,
        default_order="start_time desc",
    )


def find_lowest_price(
    database: Store, sku: str, currency_code: str, *, customer_group: str, days: int, time_us: int | None
) -> LowestPrice:
    """Return the lowest price of one unit in some days before a time.

    Args:
        customer_group: the group of the customer; empty for the prices of all customers.
        time_us: the end of the days, microseconds since 1970; None for now.

    Raises: UnknownCurrency, PriceNotFound if there was no price.
    """
    get_minor_digits(currency_code, field="currency_code")

    def work(tx: Transaction) -> LowestPrice:
        end_us = tx.now_us + 1 if time_us is None else time_us
        start_us = end_us - (days or DAYS_DEFAULT) * DAY_US
        span = {"start_us": start_us, "end_us": end_us, "rows_max": SPANS_MAX}
        rows = store.PAST_PRICES.all(tx, sku=sku, currency_code=currency_code, customer_group=customer_group, **span)
        lowest = _find_lowest(rows, start_us=start_us, end_us=end_us)
        if lowest is None:
            raise PriceNotFound(f"prices of {sku} in {currency_code}")
        return LowestPrice(Money(currency_code, lowest), start_us, end_us)

    return database.snapshot(work)


def _find_lowest(rows: list[Row], *, start_us: int, end_us: int) -> int | None:
    """Return the lowest of the prices that counted: at each time the most specific one, then the lowest.

    It sweeps over the times at which a price starts or ends, and keeps those that hold in a heap.
    """
    spans = sorted(((max(row[0], start_us), row) for row in rows), key=operator.itemgetter(0))
    times = sorted({time for time, _ in spans} | {row[1] for row in rows if row[1] is not None and row[1] < end_us})
    holding: list[tuple[bool, bool, int, float]] = []
    counted: list[int] = []
    index = 0
    for time_us in times:
        while index < len(spans) and spans[index][0] <= time_us:
            _, until_us, amount_minor, group, has_window = spans[index][1]
            heapq.heappush(holding, (not group, not has_window, amount_minor, until_us or float("inf")))
            index += 1
        while holding and holding[0][3] <= time_us:
            heapq.heappop(holding)
        if holding:
            counted.append(holding[0][2])
    return min(counted, default=None)
