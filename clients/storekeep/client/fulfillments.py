"""Fulfilments, the units of an order that ship together from one location."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import grpc

from storekeep.client.calls import Calls, GetOptions, WriteOptions
from storekeep.client.pages import Listing, Query, build_query
from storekeep.v1.orders_pb2 import (
    CancelFulfillmentRequest,
    CreateFulfillmentRequest,
    DeliverFulfillmentRequest,
    Fulfillment,
    GetFulfillmentRequest,
    ListFulfillmentsRequest,
    OrderLineUnits,
    ShipFulfillmentRequest,
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
        etag: str = "",
        **options: Unpack[WriteOptions],
    ) -> Fulfillment:
        """Mark a fulfilment as shipped. Its units leave the stock and count as fulfilled.

        Raises: FulfillmentNotFound, EtagMismatch, IllegalState, OrderHeld, OutOfStock.
        """
        request = ShipFulfillmentRequest(name=name, carrier=carrier, tracking_number=tracking_number, etag=etag)
        return self._calls.write(self._stub.ShipFulfillment, request, **options)

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
