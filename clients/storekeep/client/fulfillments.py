"""Fulfilments, the units of an order that ship together from one location."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Unpack

import grpc

from storekeep.client.calls import Calls, GetOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import Listing, Query, build_query
from storekeep.v1.orders_pb2 import (
    CancelFulfillmentRequest,
    CreateFulfillmentRequest,
    DeliverFulfillmentRequest,
    Fulfillment,
    GetFulfillmentRequest,
    ListFulfillmentsRequest,
    OrderLineUnits,
    Parcel,
    RestockFulfillmentRequest,
    ShipFulfillmentRequest,
    UpdateFulfillmentRequest,
)
from storekeep.v1.orders_pb2_grpc import OrderServiceStub


class Fulfillments:
    """Creates, reads, ships and cancels fulfilments."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = OrderServiceStub(channel)

    def create(
        self,
        order: str,
        *,
        units: Mapping[int, int] | None = None,
        location: str = "",
        etag: str = "",
        **options: Unpack[WriteOptions],
    ) -> Fulfillment:
        """Bind open units of an order to a new fulfilment.

        Args:
            units: units by line number, where 0 means all open units of the line (default: all open units that the
                order has at the location).
            location: name of the location to ship from (default: the first location that has all these units).
            etag: etag of the order.

        Raises: OrderNotFound, EtagMismatch, IllegalState, OrderHeld, OrderLineNotFound, UnitsNotOpen.
        """
        lines = [OrderLineUnits(line_number=number, quantity=quantity) for number, quantity in (units or {}).items()]
        request = CreateFulfillmentRequest(parent=order, location=location, lines=lines, etag=etag)
        return self._calls.write(self._stub.CreateFulfillment, request, **options)

    def get(self, name: str, **options: Unpack[GetOptions]) -> Fulfillment:
        """Get one fulfilment.

        Raises: FulfillmentNotFound.
        """
        return self._calls.get(self._stub.GetFulfillment, GetFulfillmentRequest(name=name), **options)

    def list(
        self,
        order: str = "orders/-",
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[Query],
    ) -> Listing[Fulfillment]:
        """List the fulfilments of an order, or of all with `orders/-`; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        return self._calls.list_pages(
            self._stub.ListFulfillments,
            ListFulfillmentsRequest(parent=order, **build_query(query)),
            items=lambda page: page.fulfillments,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def ship(
        self,
        name: str,
        *,
        carrier: str = "",
        tracking_number: str = "",
        parcels: Iterable[Parcel] = (),
        etag: str = "",
        **options: Unpack[WriteOptions],
    ) -> Fulfillment:
        """Mark a fulfilment as shipped. Its units leave the stock and count as fulfilled.

        Args:
            carrier: name of the carrier (default: as it is).
            tracking_number: tracking number of the only parcel.
            parcels: all parcels, instead of `tracking_number` (default: as they are).

        Raises: FulfillmentNotFound, EtagMismatch, IllegalState, OrderHeld, OutOfStock.
        """
        request = ShipFulfillmentRequest(
            name=name, carrier=carrier, tracking_number=tracking_number, parcels=parcels, etag=etag
        )
        return self._calls.write(self._stub.ShipFulfillment, request, **options)

    def update(
        self, fulfillment: Fulfillment, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]
    ) -> Fulfillment:
        """Update the carrier and the parcels of a fulfilment, before or after it is shipped.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, FulfillmentNotFound, EtagMismatch, FieldNotChangeable.
        """
        request = UpdateFulfillmentRequest(fulfillment=fulfillment, update_mask=build_field_mask(update_mask))
        return self._calls.write(self._stub.UpdateFulfillment, request, **options)

    def restock(
        self, name: str, *, location: str = "", reason: str = "", etag: str = "", **options: Unpack[WriteOptions]
    ) -> Fulfillment:
        """Take the units of a shipped fulfilment back into stock. They are open again and stay allocated to the order.

        Args:
            location: name of the location that they came back to (default: the location that shipped them).
            reason: text for the history of the order and the stock movements.

        Raises: FulfillmentNotFound, EtagMismatch, IllegalState, LocationNotFound, ResourceDeleted.
        """
        request = RestockFulfillmentRequest(name=name, location=location, reason=reason, etag=etag)
        return self._calls.write(self._stub.RestockFulfillment, request, **options)

    def deliver(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Fulfillment:
        """Mark a shipped fulfilment as delivered.

        Raises: FulfillmentNotFound, EtagMismatch, IllegalState.
        """
        request = DeliverFulfillmentRequest(name=name, etag=etag)
        return self._calls.write(self._stub.DeliverFulfillment, request, **options)

    def cancel(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Fulfillment:
        """Cancel a fulfilment that has not shipped. Its units can be fulfilled by another.

        Raises: FulfillmentNotFound, EtagMismatch, IllegalState.
        """
        request = CancelFulfillmentRequest(name=name, etag=etag)
        return self._calls.write(self._stub.CancelFulfillment, request, **options)
