"""`storekeep import stock`: units on hand from a stock count.

A stock level is set only if it has not changed since the lookup (`expected_quantity`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from storekeep.client import NotFound, SetStockRequest, SkuNotFound, Storekeep, WriteOptions
from storekeep.client.names import MAIN_LOCATION, to_location_name, to_stock_level_name
from storekeep.imports.batches import write_batches
from storekeep.imports.columns import InvalidCell, Target, Values
from storekeep.imports.ids import parse_id
from storekeep.imports.lookups import build_filters, find_variants, is_deleted
from storekeep.imports.sku_maps import SkuMap
from storekeep.imports.writes import Batched, Outcome, Write, run_writes

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

        def plan(item: Count) -> list[Write]:
            if item.sku in deleted:
                raise InvalidCell(f"sku: the variant with the SKU {item.sku} is deleted; undelete it first")
            return plan_count(self._client, item, on_hand=on_hand)

        done = write_batches({item.level_name: item for item in items}, plan=plan, dry_run=self._dry_run).outcomes
        return lambda item: done.get(item.level_name) or run_writes(plan(item), dry_run=self._dry_run)


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
            for filter_text in build_filters("sku", [count.sku for count in located]):
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


def plan_count(
    client: Storekeep, count: Count, *, on_hand: Mapping[str, int | InvalidCell], creates_variant: bool = False
) -> list[Write]:
    """Return the call that sets a stock level to the counted units; none if it already has them.

    `creates_variant`: an earlier call of the same row creates the variant, so that a dry run does not find its SKU.

    Raises: InvalidCell if the location cannot have stock.
    """
    current = on_hand.get(count.level_name)
    if isinstance(current, InvalidCell):
        raise current
    if current == count.quantity:
        return []
    set_stock = partial(client.inventory.set_stock, count.level_name, quantity=count.quantity, reason=REASON)
    request = SetStockRequest(
        name=count.level_name, quantity=count.quantity, expected_quantity=current or 0, reason=REASON
    )
    return [
        Write(
            lambda options: set_stock(expected_quantity=current or 0, **options),
            Outcome.CREATED if current is None else Outcome.UPDATED,
            awaited=SkuNotFound if creates_variant else None,
            batched=Batched(client.inventory.batch_set_stock, count.level_name, request),
        )
    ]
