"""`storekeep import stock`: units on hand, as a count found them.

Each level is set only when nobody has changed it since it was looked up (`expected_quantity`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from storekeep.cli.imports.columns import Target, Values
from storekeep.cli.imports.ids import id_of, sku_of
from storekeep.cli.imports.lookups import FILTER_TERMS_MAX, in_batches
from storekeep.cli.imports.runs import Outcome
from storekeep.cli.inventory import MAIN_LOCATION, location_name
from storekeep.cli.names import quoted, stock_level_name
from storekeep.client import Storekeep, WriteOptions

REASON = "import"
"""What the ledger says about a movement that an import made."""

TARGETS = (
    Target("sku", "The SKU of a variant.", required=True),
    Target("quantity", "Units on hand from now on, 0 or more.", required=True),
    Target("location", "The location's id; main without."),
)


@dataclass(frozen=True)
class Count:
    """Units of a SKU at a location, as the file has them."""

    sku: str
    quantity: int
    location: str

    @property
    def level_name(self) -> str:
        """The stock level that it is about."""
        return stock_level_name(self.sku, location=self.location)


class StockImporter:
    """Sets stock levels to what a file says."""

    def __init__(self, client: Storekeep, *, write_options: WriteOptions) -> None:
        self._client = client
        self._write_options = write_options

    def draft(self, values: Values) -> Count:
        """Read a row. Raises: CellRefused."""
        values.needed("quantity")
        return Count(sku_of(values.needed("sku")), values.whole("quantity") or 0, location_of(values))

    def key(self, draft: Count) -> str:
        """Return what must not occur twice in a file."""
        return draft.level_name

    def look_up(self, drafts: Sequence[Count]) -> Callable[[Count], Outcome]:
        """Look up the levels of a chunk."""
        on_hand = find_on_hand(self._client, drafts)
        return lambda draft: set_on_hand(self._client, draft, on_hand=on_hand, options=self._write_options)


def location_of(values: Values) -> str:
    """Return the id of the location that a row names, or the main one. Raises: CellRefused."""
    return id_of(values.text("location") or MAIN_LOCATION, target="location")


def find_on_hand(client: Storekeep, counts: Iterable[Count]) -> Mapping[str, int]:
    """Return the units on hand of the levels that there are, by name."""
    skus_by_location: dict[str, list[str]] = defaultdict(list)
    for count in counts:
        skus_by_location[count.location].append(count.sku)
    found: dict[str, int] = {}
    for location, skus in skus_by_location.items():
        for batch in in_batches(skus, size=FILTER_TERMS_MAX):
            terms = " OR ".join(f"sku = {quoted(sku)}" for sku in batch)
            levels = client.inventory.list_stock_levels(location_name(location), filter=terms, page_size=1000)
            found.update((level.name, level.on_hand) for level in levels)
    return found


def set_on_hand(client: Storekeep, count: Count, *, on_hand: Mapping[str, int], options: WriteOptions) -> Outcome:
    """Set a level, unless it is what it should be already."""
    seen = on_hand.get(count.level_name)
    if seen == count.quantity:
        return Outcome.UNCHANGED
    client.inventory.set_stock(
        count.level_name, quantity=count.quantity, expected_quantity=seen or 0, reason=REASON, **options
    )
    return Outcome.CREATED if seen is None else Outcome.UPDATED
