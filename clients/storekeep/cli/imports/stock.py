"""`storekeep import stock`: units on hand from a stock count.

A stock level is set only if it has not changed since the lookup (`expected_quantity`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from storekeep.cli.imports.batches import write_batch
from storekeep.cli.imports.columns import Target, Values
from storekeep.cli.imports.ids import parse_id, parse_sku
from storekeep.cli.imports.lookups import FILTER_TERMS_MAX, split_batches
from storekeep.cli.imports.runs import Outcome
from storekeep.cli.names import MAIN_LOCATION, quote_text, to_location_name, to_stock_level_name
from storekeep.client import SetStockRequest, Storekeep, WriteOptions

REASON = "import"
"""Reason of stock movements by imports."""

TARGETS = (
    Target("sku", "SKU of a variant.", required=True),
    Target("quantity", "Units on hand, 0 or more.", required=True),
    Target("location", "Id of the location (default: main)."),
)


@dataclass(frozen=True)
class Count:
    """Units of a SKU at a location, as read from the file."""

    sku: str
    quantity: int
    location: str

    @property
    def level_name(self) -> str:
        """Resource name of the stock level."""
        return to_stock_level_name(self.sku, location=self.location)


class StockImporter:
    """Sets stock levels from rows."""

    def __init__(self, client: Storekeep, *, write_options: WriteOptions) -> None:
        self._client = client
        self._write_options = write_options

    def parse(self, values: Values) -> Count:
        """Parse a row. Raises: InvalidCell."""
        values.require("quantity")
        return Count(parse_sku(values.require("sku")), values.integer("quantity") or 0, parse_location_id(values))

    def key(self, item: Count) -> str:
        """Return the key of an item, which must be unique in a file."""
        return item.level_name

    def look_up(self, items: Sequence[Count]) -> Callable[[Count], Outcome]:
        """Look up the existing stock levels of a chunk and set them. Return the function that sets one left level."""
        on_hand, options = find_on_hand(self._client, items), self._write_options
        outcomes = set_levels(self._client, items, on_hand=on_hand, options=options)
        return lambda item: (
            outcomes.get(item.level_name) or set_on_hand(self._client, item, on_hand=on_hand, options=options)
        )


def parse_location_id(values: Values) -> str:
    """Return the location id of a row (default: the main location). Raises: InvalidCell."""
    return parse_id(values.text("location") or MAIN_LOCATION, target="location")


def find_on_hand(client: Storekeep, counts: Iterable[Count]) -> Mapping[str, int]:
    """Return the units on hand of the existing stock levels, by resource name."""
    skus_by_location: dict[str, list[str]] = defaultdict(list)
    for count in counts:
        skus_by_location[count.location].append(count.sku)
    on_hand: dict[str, int] = {}
    for location, skus in skus_by_location.items():
        for batch in split_batches(skus, size=FILTER_TERMS_MAX):
            terms = " OR ".join(f"sku = {quote_text(sku)}" for sku in batch)
            levels = client.inventory.list_stock_levels(to_location_name(location), filter=terms, page_size=1000)
            on_hand.update((level.name, level.on_hand) for level in levels)
    return on_hand


def set_levels(
    client: Storekeep, counts: Iterable[Count], *, on_hand: Mapping[str, int], options: WriteOptions
) -> dict[str, Outcome]:
    """Set the stock levels of a chunk to the counted units. Return the outcomes of those that succeeded, by name."""
    requests = {
        count.level_name: SetStockRequest(
            name=count.level_name,
            quantity=count.quantity,
            expected_quantity=on_hand.get(count.level_name, 0),
            reason=REASON,
        )
        for count in counts
        if on_hand.get(count.level_name) != count.quantity
    }
    done = write_batch(requests, lambda batch: client.inventory.batch_set_stock(batch, per_item=True, **options))
    return {name: Outcome.UPDATED if name in on_hand else Outcome.CREATED for name in done}


def set_on_hand(client: Storekeep, count: Count, *, on_hand: Mapping[str, int], options: WriteOptions) -> Outcome:
    """Set a stock level to the counted units, unless it already has them."""
    current = on_hand.get(count.level_name)
    if current == count.quantity:
        return Outcome.UNCHANGED
    client.inventory.set_stock(
        count.level_name, quantity=count.quantity, expected_quantity=current or 0, reason=REASON, **options
    )
    return Outcome.CREATED if current is None else Outcome.UPDATED
