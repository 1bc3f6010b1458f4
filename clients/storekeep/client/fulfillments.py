"""Fulfilments: units of an order that leave one location together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import grpc

from storekeep.client.calls import Calls, ReadOptions, WriteOptions
from storekeep.client.pages import Listing, Query
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
    """Creates, gets, lists and moves on fulfilments."""

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
        """Bind open units of an order to one delivery from one location.

        `units` is line number -> units, 0 for all; without it, all that the order has there. `location` is where it
        leaves from; when empty, the first location that has all of these units. `etag` is the order's.

        Raises: OrderNotFound, EtagMismatch, IllegalState, OrderHeld, OrderLineNotFound, UnitsNotOpen.
        """
        lines = [OrderLineUnits(line_number=number, quantity=quantity) for number, quantity in (units or {}).items()]
        request = CreateFulfillmentRequest(parent=order, location=location, lines=lines, etag=etag)
        return self._calls.write(self._stub.CreateFulfillment, request, **options)

    def get(self, name: str, **options: Unpack[ReadOptions]) -> Fulfillment:
        """Get one fulfilment.

        Raises: FulfillmentNotFound.
        """
        return self._calls.read(self._stub.GetFulfillment, GetFulfillmentRequest(name=name), **options)

    def list(
        self,
        order: str = "orders/-",
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[Query],
    ) -> Listing[Fulfillment]:
        """List the fulfilments of one order, or of all, fetching page after page as they are read.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        return self._calls.listing(
            self._stub.ListFulfillments,
            ListFulfillmentsRequest(parent=order, **query),
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
        """Say that a fulfilment has left: its units leave the stock, and are fulfilled.

        Raises: FulfillmentNotFound, EtagMismatch, IllegalState, OrderHeld, OutOfStock.
        """
        request = ShipFulfillmentRequest(name=name, carrier=carrier, tracking_number=tracking_number, etag=etag)
        return self._calls.write(self._stub.ShipFulfillment, request, **options)

    def deliver(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Fulfillment:
        """Say that a shipped fulfilment has arrived.

        Raises: FulfillmentNotFound, EtagMismatch, IllegalState.
        """
        request = DeliverFulfillmentRequest(name=name, etag=etag)
        return self._calls.write(self._stub.DeliverFulfillment, request, **options)

    def cancel(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Fulfillment:
        """Call off a fulfilment that has not left: its units are free for another one.

        Raises: FulfillmentNotFound, EtagMismatch, IllegalState.
        """
        request = CancelFulfillmentRequest(name=name, etag=etag)
        return self._calls.write(self._stub.CancelFulfillment, request, **options)
