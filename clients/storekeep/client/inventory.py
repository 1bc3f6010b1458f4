"""Inventory: where stock is, how much, and the ledger of how it came to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Unpack

import grpc

from storekeep.client.calls import Calls, ReadOptions, WriteOptions
from storekeep.client.masks import field_mask
from storekeep.client.pages import DeletableQuery, Listing, Query
from storekeep.v1.inventory_pb2 import (
    AdjustStockRequest,
    Availability,
    BatchGetLocationsRequest,
    BatchGetStockLevelsRequest,
    CheckAvailabilityRequest,
    CreateLocationRequest,
    DeleteLocationRequest,
    GetLocationRequest,
    GetStockLevelRequest,
    GetStockMovementRequest,
    ListLocationsRequest,
    ListStockLevelsRequest,
    ListStockMovementsRequest,
    Location,
    SetStockRequest,
    StockLevel,
    StockMovement,
    StockMovementCause,
    UndeleteLocationRequest,
    UpdateLocationRequest,
)
from storekeep.v1.inventory_pb2_grpc import InventoryServiceStub


class Inventory:
    """Keeps locations and stock."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = InventoryServiceStub(channel)

    def get_location(self, name: str, **options: Unpack[ReadOptions]) -> Location:
        """Get one location, deleted or not.

        Raises: LocationNotFound.
        """
        return self._calls.read(self._stub.GetLocation, GetLocationRequest(name=name), **options)

    def list_locations(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[DeletableQuery]
    ) -> Listing[Location]:
        """List locations, fetching page after page as they are read.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListLocationsRequest(**query)
        return self._calls.listing(
            self._stub.ListLocations,
            request,
            items=lambda page: page.locations,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def batch_get_locations(self, names: Iterable[str], **options: Unpack[ReadOptions]) -> Sequence[Location]:
        """Get up to 1000 locations at one point in time, all or none, in the order of the names.

        Raises: LocationNotFound.
        """
        request = BatchGetLocationsRequest(names=names)
        return self._calls.read(self._stub.BatchGetLocations, request, **options).locations

    def create_location(
        self, location: Location, *, location_id: str = "", **options: Unpack[WriteOptions]
    ) -> Location:
        """Create a location. Its output-only fields are ignored.

        `location_id` is the last part of its name; the server chooses one when it is empty.

        Raises: AlreadyExists.
        """
        request = CreateLocationRequest(location=location, location_id=location_id)
        return self._calls.write(self._stub.CreateLocation, request, **options)

    def update_location(
        self, location: Location, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]
    ) -> Location:
        """Change fields of a location: those of `update_mask`, or all that the message sets.

        With the `etag` in the message, a change by somebody else is not overwritten.

        Raises: InvalidUpdateMask, LocationNotFound, ResourceDeleted, EtagMismatch.
        """
        request = UpdateLocationRequest(location=location, update_mask=field_mask(update_mask))
        return self._calls.write(self._stub.UpdateLocation, request, **options)

    def delete_location(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Location:
        """Delete a location softly: it leaves the lists and can be undeleted.

        Raises: LocationNotFound, ResourceDeleted, EtagMismatch, ResourceInUse.
        """
        return self._calls.write(self._stub.DeleteLocation, DeleteLocationRequest(name=name, etag=etag), **options)

    def undelete_location(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Location:
        """Bring a deleted location back.

        Raises: LocationNotFound, ResourceNotDeleted, EtagMismatch.
        """
        return self._calls.write(self._stub.UndeleteLocation, UndeleteLocationRequest(name=name, etag=etag), **options)

    def get_stock_level(self, name: str, **options: Unpack[ReadOptions]) -> StockLevel:
        """Get one stock level, deleted or not.

        Raises: StockLevelNotFound.
        """
        return self._calls.read(self._stub.GetStockLevel, GetStockLevelRequest(name=name), **options)

    def list_stock_levels(
        self,
        parent: str = "locations/-",
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[Query],
    ) -> Listing[StockLevel]:
        """List stock levels, fetching page after page as they are read.

        `parent` limits them to one parent; `-` in place of its id means all.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListStockLevelsRequest(parent=parent, **query)
        return self._calls.listing(
            self._stub.ListStockLevels,
            request,
            items=lambda page: page.stock_levels,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def batch_get_stock_levels(
        self, names: Iterable[str], *, parent: str = "locations/-", **options: Unpack[ReadOptions]
    ) -> Sequence[StockLevel]:
        """Get up to 1000 stock levels at one point in time, all or none, in the order of the names.

        Raises: StockLevelNotFound.
        """
        request = BatchGetStockLevelsRequest(parent=parent, names=names)
        return self._calls.read(self._stub.BatchGetStockLevels, request, **options).stock_levels

    def adjust_stock(
        self,
        name: str,
        *,
        quantity_delta: int,
        cause: StockMovementCause.ValueType = StockMovementCause.STOCK_MOVEMENT_CAUSE_UNSPECIFIED,
        reason: str = "",
        etag: str = "",
        **options: Unpack[WriteOptions],
    ) -> StockLevel:
        """Add units to what is on hand, or take some away, as one movement of the ledger.

        `name` is `locations/{location}/stockLevels/{sku}`; the level need not exist yet. `quantity_delta` is negative
        to take away, and not 0. `cause` is ADJUST when not given.

        Raises: LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch, OutOfStock, InvalidAmount.
        """
        request = AdjustStockRequest(name=name, quantity_delta=quantity_delta, cause=cause, reason=reason, etag=etag)
        return self._calls.write(self._stub.AdjustStock, request, **options)

    def set_stock(
        self,
        name: str,
        *,
        quantity: int,
        expected_quantity: int | None = None,
        reason: str = "",
        etag: str = "",
        **options: Unpack[WriteOptions],
    ) -> StockLevel:
        """Set what is on hand to what a count found; the ledger gets the difference.

        `name` is `locations/{location}/stockLevels/{sku}`; the level need not exist yet. With `expected_quantity`,
        nothing is changed unless so many units are on hand.

        Raises: LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch, QuantityMismatch, OutOfStock.
        """
        request = SetStockRequest(
            name=name, quantity=quantity, expected_quantity=expected_quantity, reason=reason, etag=etag
        )
        return self._calls.write(self._stub.SetStock, request, **options)

    def check_availability(
        self, skus: Iterable[str], *, location: str = "", **options: Unpack[ReadOptions]
    ) -> Sequence[Availability]:
        """Say how many units of each of up to 500 SKUs can be sold now, in their order.

        `location` limits it to one; all locations when empty.

        Raises: LocationNotFound, SkuNotFound.
        """
        request = CheckAvailabilityRequest(skus=skus, location=location)
        return self._calls.read(self._stub.CheckAvailability, request, **options).availabilities

    def get_stock_movement(self, name: str, **options: Unpack[ReadOptions]) -> StockMovement:
        """Get one stock movement, deleted or not.

        Raises: StockMovementNotFound.
        """
        return self._calls.read(self._stub.GetStockMovement, GetStockMovementRequest(name=name), **options)

    def list_stock_movements(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[Query]
    ) -> Listing[StockMovement]:
        """List stock movements, fetching page after page as they are read.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListStockMovementsRequest(**query)
        return self._calls.listing(
            self._stub.ListStockMovements,
            request,
            items=lambda page: page.stock_movements,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )
