"""The resource of a stock level: the units of a SKU at a location, and its row."""

from __future__ import annotations

import msgspec

from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.tables import stock as store


class StockLevel(msgspec.Struct, frozen=True):
    """The units of a SKU at a location; see `StockLevel` in the contract."""

    location_id: str
    sku: str
    on_hand: int
    reserved: int
    allocated: int
    backorder_limit: int
    version: int
    update_time_us: int
    safety_threshold: int = 0
    low_stock_threshold: int = 0

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"locations/{self.location_id}/stockLevels/{self.sku}"

    @property
    def available(self) -> int:
        """Return the units for sale; negative if units of the safety stock are reserved or allocated."""
        return self.uncommitted - self.safety_threshold

    @property
    def uncommitted(self) -> int:
        """Return the units that are neither reserved nor allocated, including the safety stock."""
        return self.on_hand + self.backorder_limit - self.reserved - self.allocated

    @property
    def left(self) -> int:
        """Return the units that can be sold without a backorder; negative if the safety stock is in use."""
        return self.on_hand - self.safety_threshold - self.reserved - self.allocated

    @property
    def movable(self) -> int:
        """Return the units on hand that are neither reserved nor allocated."""
        return max(0, min(self.on_hand, self.uncommitted))


LEVELS = Rows(
    store.StockLevel,
    columns=(
        "location",
        "variant",
        "on_hand",
        "reserved",
        "allocated",
        "backorder_limit",
        "version",
        "update_time_us",
        "safety_threshold",
        "low_stock_threshold",
    ),
    key=("location", "variant"),
)
