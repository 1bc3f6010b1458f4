"""Fulfilments: units of an order that leave one location together."""

from __future__ import annotations

import msgspec

SHIPPED = "SHIPPED"


class FulfillmentLine(msgspec.Struct, frozen=True):
    """So many units of one line."""

    line_number: int
    quantity: int


class Fulfillment(msgspec.Struct, frozen=True):
    """A fulfilment."""

    id: str
    order_id: str
    location_id: str
    state: str
    carrier: str
    tracking_number: str
    ship_time_us: int | None
    deliver_time_us: int | None
    version: int
    create_time_us: int
    update_time_us: int
    lines: tuple[FulfillmentLine, ...] = ()

    @property
    def name(self) -> str:
        """The resource name."""
        return f"orders/{self.order_id}/fulfillments/{self.id}"
