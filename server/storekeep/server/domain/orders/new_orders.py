"""The input of PlaceOrder."""

from __future__ import annotations

import msgspec

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.money import Money
from storekeep.server.domain.orders.baskets import NO_PRICING, Pricing

DEFAULT_LOCATION = "main"
"""The location of orders without a location; created with the database."""


class NewOrder(msgspec.Struct, frozen=True):
    """The input of `place_order`.

    Attributes:
        lines: (SKU, units), in the customer's order; several lines may have the same SKU.
        location_id: the location that supplies all units; empty to choose, see `allocations`.
        shipping: the shipping cost, in the order's currency; None for no cost.
        email: email address for this order; empty for the customer's own.
        phone: phone number for this order; empty for the customer's own.
        language_code: a canonical language tag; empty for the customer's own.
        reservation_ids: the reservations whose stock is used first.
        source: the system that `external_reference` comes from.
        unique_reference: whether no other order may have the same source and external reference.
        pricing: what its price depends on beside the lines.
        expected_total: the total that the caller expects; None for no check.
        quote_id: the quote that it accepts, see `acceptance`; empty for none.
    """

    customer_id: str
    lines: tuple[tuple[str, int], ...]
    currency_code: str
    location_id: str = ""
    shipping_address: Address | None = None
    external_reference: str = ""
    note: str = ""
    shipping: Money | None = None
    reservation_ids: tuple[str, ...] = ()
    billing_address: Address | None = None
    email: str = ""
    phone: str = ""
    language_code: str = ""
    labels: dict[str, str] = {}
    ship_by_time_us: int | None = None
    deliver_by_time_us: int | None = None
    source: str = ""
    unique_reference: bool = False
    pricing: Pricing = NO_PRICING
    expected_total: Money | None = None
    quote_id: str = ""
