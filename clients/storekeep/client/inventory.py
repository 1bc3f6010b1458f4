"""Inventory: where stock is, how much, for whom it is kept, and the ledger of how it came to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Unpack

import grpc
from google.protobuf.duration_pb2 import Duration

from storekeep.client.calls import Calls, ReadOptions, WriteOptions
from storekeep.client.masks import field_mask
from storekeep.client.pages import DeletableQuery, Listing, Query
from storekeep.v1.inventory_pb2 import (
    AdjustStockRequest,
    Availability,
    BatchGetLocationsRequest,
    BatchGetStockLevelsRequest,
    CheckAvailabilityRequest,
    CommitReservationRequest,
    CreateLocationRequest,
    DeleteLocationRequest,
    ExtendReservationRequest,
    GetLocationRequest,
    GetReservationRequest,
    GetStockLevelRequest,
    GetStockMovementRequest,
    ListLocationsRequest,
    ListLowStockRequest,
    ListReservationsRequest,
    ListStockLevelsRequest,
    ListStockMovementsRequest,
    Location,
    ReconcileStockRequest,
    ReconcileStockResponse,
    ReleaseReservationRequest,
    Reservation,
    ReserveStockLine,
    ReserveStockRequest,
    SetStockRequest,
    StockLevel,
    StockMovement,
    StockMovementCause,
    TransferLine,
    TransferStockRequest,
    TransferStockResponse,
    UndeleteLocationRequest,
    UpdateLocationRequest,
    UpdateStockLevelRequest,
)
from storekeep.v1.inventory_pb2_grpc import InventoryServiceStub


def _ttl(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    ttl = Duration()
    ttl.FromTimedelta(timedelta(seconds=seconds))
    return ttl


class Inventory:
    """Keeps locations, stock and reservations."""

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
        """Get one stock level.

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

    def update_stock_level(
        self, level: StockLevel, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]
    ) -> StockLevel:
        """Change `backorder_limit` and `safety_threshold` of a stock level.

        Which of them, `update_mask` says; without it, those that the message sets. The level need not exist yet.
        With the `etag` in the message, a change by somebody else is not overwritten.

        Raises: InvalidUpdateMask, LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch, OutOfStock.
        """
        request = UpdateStockLevelRequest(stock_level=level, update_mask=field_mask(update_mask))
        return self._calls.write(self._stub.UpdateStockLevel, request, **options)

    def transfer_stock(
        self,
        *,
        source: str,
        destination: str,
        lines: Iterable[tuple[str, int]],
        reason: str = "",
        **options: Unpack[WriteOptions],
    ) -> TransferStockResponse:
        """Move units from one location to another, all lines or none.

        `lines` are pairs of SKU and units, up to 500. What is promised, or not there, stays.

        Raises: LocationNotFound, ResourceDeleted, SkuNotFound, OutOfStock (names each short SKU), InvalidAmount.
        """
        request = TransferStockRequest(
            source=source,
            destination=destination,
            lines=[TransferLine(sku=sku, quantity=quantity) for sku, quantity in lines],
            reason=reason,
        )
        return self._calls.write(self._stub.TransferStock, request, **options)

    def list_low_stock(
        self,
        *,
        location: str = "",
        available_max: int = 0,
        page_size: int = 0,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
    ) -> Listing[StockLevel]:
        """List the stock levels of which at most so many units can be sold without a backorder, the shortest first.

        `location` limits it to one; all locations when empty.

        Raises: LocationNotFound, InvalidPageToken.
        """
        request = ListLowStockRequest(location=location, available_max=available_max, page_size=page_size)
        return self._calls.listing(
            self._stub.ListLowStock,
            request,
            items=lambda page: page.stock_levels,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def reconcile_stock(
        self,
        skus: Iterable[str] = (),
        *,
        repair: bool = False,
        page_size: int = 0,
        page_token: str = "",
        **options: Unpack[WriteOptions],
    ) -> ReconcileStockResponse:
        """Compare stock levels with the ledger, and the ledger with reservations and orders; repair with `repair`.

        Without `skus` it is one page of all of them: go on with the answer's `next_page_token` until that is empty.

        Raises: InvalidPageToken, SkuNotFound.
        """
        request = ReconcileStockRequest(skus=skus, repair=repair, page_size=page_size, page_token=page_token)
        return self._calls.write(self._stub.ReconcileStock, request, **options)

    def check_availability(
        self, skus: Iterable[str], *, location: str = "", **options: Unpack[ReadOptions]
    ) -> Sequence[Availability]:
        """Say how many units of each of up to 500 SKUs can be sold now, in their order, and at which locations.

        `location` limits it to one; all locations when empty.

        Raises: LocationNotFound, SkuNotFound.
        """
        request = CheckAvailabilityRequest(skus=skus, location=location)
        return self._calls.read(self._stub.CheckAvailability, request, **options).availabilities

    def get_stock_movement(self, name: str, **options: Unpack[ReadOptions]) -> StockMovement:
        """Get one stock movement.

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

    def reserve_stock(
        self,
        lines: Iterable[tuple[str, int]],
        *,
        location: str = "",
        ttl_s: float | None = None,
        reference: str = "",
        **options: Unpack[WriteOptions],
    ) -> Reservation:
        """Keep stock for somebody until an instant, all lines or none.

        `lines` are pairs of SKU and units. `ttl_s` is how long: 1 second to 30 days, 15 minutes when not given.
        `reference` is your own word for it, such as a cart's number.

        Raises: LocationNotFound, ResourceDeleted, SkuNotFound, NotForSale, OutOfStock (names each short SKU).
        """
        request = ReserveStockRequest(
            lines=[ReserveStockLine(sku=sku, quantity=quantity) for sku, quantity in lines],
            location=location,
            ttl=_ttl(ttl_s),
            reference=reference,
        )
        return self._calls.write(self._stub.ReserveStock, request, **options)

    def get_reservation(self, name: str, **options: Unpack[ReadOptions]) -> Reservation:
        """Get one reservation.

        Raises: ReservationNotFound.
        """
        return self._calls.read(self._stub.GetReservation, GetReservationRequest(name=name), **options)

    def list_reservations(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[Query]
    ) -> Listing[Reservation]:
        """List reservations, fetching page after page as they are read.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListReservationsRequest(**query)
        return self._calls.listing(
            self._stub.ListReservations,
            request,
            items=lambda page: page.reservations,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def extend_reservation(
        self, name: str, *, ttl_s: float | None = None, etag: str = "", **options: Unpack[WriteOptions]
    ) -> Reservation:
        """Keep the stock of an active reservation for `ttl_s` from now, or 15 minutes; never shorter than before.

        Raises: ReservationNotFound, EtagMismatch, IllegalState.
        """
        request = ExtendReservationRequest(name=name, ttl=_ttl(ttl_s), etag=etag)
        return self._calls.write(self._stub.ExtendReservation, request, **options)

    def release_reservation(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Reservation:
        """Give the stock of an active reservation back.

        Raises: ReservationNotFound, EtagMismatch, IllegalState.
        """
        request = ReleaseReservationRequest(name=name, etag=etag)
        return self._calls.write(self._stub.ReleaseReservation, request, **options)

    def commit_reservation(
        self, name: str, *, reason: str = "", etag: str = "", **options: Unpack[WriteOptions]
    ) -> Reservation:
        """Have the units of an active reservation leave for good, as for a sale that was made elsewhere.

        For an order of this server, give the reservation to `orders.place` instead.

        Raises: ReservationNotFound, EtagMismatch, IllegalState, OutOfStock.
        """
        request = CommitReservationRequest(name=name, reason=reason, etag=etag)
        return self._calls.write(self._stub.CommitReservation, request, **options)
