"""`storekeep import stock`: units on hand from a stock count.

A stock level is set only if it has not changed since the lookup (`expected_quantity`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from storekeep.cli.imports.batches import write_batch
from storekeep.cli.imports.columns import InvalidCell, Target, Values
from storekeep.cli.imports.ids import parse_id
from storekeep.cli.imports.lookups import build_sku_filters, find_variants, is_deleted
from storekeep.cli.imports.runs import Outcome, Write, run_writes
from storekeep.cli.imports.sku_maps import SkuMap
from storekeep.cli.names import MAIN_LOCATION, to_location_name, to_stock_level_name
from storekeep.client import NotFound, SetStockRequest, SkuNotFound, Storekeep, WriteOptions

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

    def __init__(self, client: Storekeep, *, write_options: WriteOptions, skus: SkuMap) -> None:
        self._client = client
        self._dry_run = write_options.get("validate_only", False)
        self._skus = skus
        self._levels = StockLookup(client)

    def parse(self, values: Values) -> Count:
        """Parse a row. Raises: InvalidCell."""
        values.require("quantity")
        sku = self._skus.find_or_make(values.require("sku"))
        return Count(sku, values.integer("quantity") or 0, parse_location_id(values))

    def key(self, item: Count) -> str:
        """Return the key of an item, which must be unique in a file."""
        return item.level_name

    def list_shared_cells(self, item: Count) -> tuple[str, Mapping[str, str]]:
        """Return the resource of an item, and the cells that all rows of the resource must share: none."""
        return item.level_name, {}

    def look_up(self, items: Sequence[Count]) -> Callable[[Count], Outcome]:
        """Look up the existing stock levels of a chunk and set them. Return the function that sets one left level."""
        on_hand = self._levels.find_on_hand(items)
        deleted = {sku for sku, variant in find_variants(self._client, items).items() if is_deleted(variant)}
        done = self._set_levels([item for item in items if item.sku not in deleted], on_hand)

        def write(item: Count) -> Outcome:
            if item.level_name in done:
                return Outcome.UPDATED if item.level_name in on_hand else Outcome.CREATED
            if item.sku in deleted:
                raise InvalidCell(f"sku: the variant with the SKU {item.sku} is deleted; undelete it first")
            writes = plan_count(self._client, item, on_hand=on_hand)
            run_writes(writes, dry_run=self._dry_run)
            return writes[0].outcome if writes else Outcome.UNCHANGED

        return write

    def _set_levels(self, items: Sequence[Count], on_hand: Mapping[str, int | InvalidCell]) -> Collection[str]:
        """Set the levels whose units differ in one call. Return the names of those that succeeded."""
        requests = {}
        for item in items:
            current = on_hand.get(item.level_name)
            if not isinstance(current, InvalidCell) and current != item.quantity:
                requests[item.level_name] = SetStockRequest(
                    name=item.level_name, quantity=item.quantity, expected_quantity=current or 0, reason=REASON
                )
        inventory = self._client.inventory
        return write_batch(
            requests, lambda batch: inventory.batch_set_stock(batch, per_item=True, validate_only=self._dry_run)
        )


class StockLookup:
    """Looks up stock levels by location."""

    def __init__(self, client: Storekeep) -> None:
        self._client = client
        self._locations: dict[str, InvalidCell | None] = {}
        """Problem of each location, by id; None if it has none."""

    def find_on_hand(self, counts: Iterable[Count]) -> Mapping[str, int | InvalidCell]:
        """Return the units on hand of the existing stock levels by resource name, or the problem of the location."""
        counts_by_location: dict[str, list[Count]] = defaultdict(list)
        for count in counts:
            counts_by_location[count.location].append(count)
        on_hand: dict[str, int | InvalidCell] = {}
        for location, located in counts_by_location.items():
            if (problem := self._check_location(location)) is not None:
                on_hand.update((count.level_name, problem) for count in located)
                continue
            for filter_text in build_sku_filters(count.sku for count in located):
                levels = self._client.inventory.list_stock_levels(
                    to_location_name(location), filter=filter_text, page_size=1000
                )
                on_hand.update((level.name, level.on_hand) for level in levels)
        return on_hand

    def _check_location(self, location: str) -> InvalidCell | None:
        if location not in self._locations:
            self._locations[location] = None
            try:
                found = self._client.inventory.get_location(to_location_name(location))
            except NotFound as error:
                self._locations[location] = InvalidCell(f"location: {error}")
            else:
                if found.HasField("delete_time"):
                    self._locations[location] = InvalidCell(f"location: {found.name} is deleted; undelete it first")
        return self._locations[location]


def parse_location_id(values: Values) -> str:
    """Return the location id of a row (default: the main location). Raises: InvalidCell."""
    return parse_id(values.text("location") or MAIN_LOCATION, target="location")


def plan_count(client: Storekeep, count: Count, *, on_hand: Mapping[str, int | InvalidCell]) -> list[Write]:
    """Return the call that sets a stock level to the counted units; none if it already has them.

    Raises: InvalidCell if the location cannot have stock.
    """
    current = on_hand.get(count.level_name)
    if isinstance(current, InvalidCell):
        raise current
    if current == count.quantity:
        return []
    call = partial(client.inventory.set_stock, count.level_name, quantity=count.quantity, reason=REASON)
    outcome = Outcome.CREATED if current is None else Outcome.UPDATED
    return [Write(lambda options: call(expected_quantity=current or 0, **options), outcome, SkuNotFound)]
