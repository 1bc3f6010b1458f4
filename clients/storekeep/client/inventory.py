"""Inventory: locations, stock levels, reservations and the stock ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Unpack

import grpc
from google.protobuf.duration_pb2 import Duration

from storekeep.client.batches import BatchResults, get_mode, read_results
from storekeep.client.calls import Calls, GetOptions, ReadOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.order_lines import build_lines
from storekeep.client.pages import DeletableQuery, Listing, PageQuery, Query, build_query
from storekeep.v1.inventory_pb2 import (
    AdjustStockRequest,
    Availability,
    BatchAdjustStockRequest,
    BatchGetLocationsRequest,
    BatchGetStockLevelsRequest,
    BatchSetStockRequest,
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
    UpdateReservationRequest,
    UpdateStockLevelRequest,
)
from storekeep.v1.inventory_pb2_grpc import InventoryServiceStub


def _to_duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    ttl = Duration()
    ttl.FromTimedelta(timedelta(seconds=seconds))
    return ttl


class Inventory:
    """Reads and changes locations, stock levels and reservations."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = InventoryServiceStub(channel)

    def get_location(self, name: str, **options: Unpack[GetOptions]) -> Location:
        """Get one location, deleted or not.

        Raises: LocationNotFound.
        """
        return self._calls.get(self._stub.GetLocation, GetLocationRequest(name=name), **options)

    def list_locations(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[DeletableQuery]
    ) -> Listing[Location]:
        """List locations; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListLocationsRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListLocations,
            request,
            items=lambda page: page.locations,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def batch_get_locations(self, names: Iterable[str], **options: Unpack[GetOptions]) -> Sequence[Location]:
        """Get up to 1000 locations from one snapshot, in the order of `names`; fail if one is missing.

        Raises: LocationNotFound.
        """
        request = BatchGetLocationsRequest(names=names)
        return self._calls.get(self._stub.BatchGetLocations, request, **options).locations

    def create_location(
        self, location: Location, *, location_id: str = "", **options: Unpack[WriteOptions]
    ) -> Location:
        """Create a location. Output-only fields are ignored.

        `location_id` becomes the last segment of its name; the server generates one if it is empty.

        Raises: AlreadyExists.
        """
        request = CreateLocationRequest(location=location, location_id=location_id)
        return self._calls.write(self._stub.CreateLocation, request, **options)

    def update_location(
        self, location: Location, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]
    ) -> Location:
        """Update a location: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, LocationNotFound, ResourceDeleted, EtagMismatch.
        """
        request = UpdateLocationRequest(location=location, update_mask=build_field_mask(update_mask))
        return self._calls.write(self._stub.UpdateLocation, request, **options)

    def delete_location(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Location:
        """Soft-delete a location: lists omit it, and it can be undeleted.

        Raises: LocationNotFound, EtagMismatch, ResourceInUse.
        """
        return self._calls.write(self._stub.DeleteLocation, DeleteLocationRequest(name=name, etag=etag), **options)

    def undelete_location(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Location:
        """Restore a deleted location.

        Raises: LocationNotFound, ResourceNotDeleted, EtagMismatch.
        """
        return self._calls.write(self._stub.UndeleteLocation, UndeleteLocationRequest(name=name, etag=etag), **options)

    def get_stock_level(self, name: str, **options: Unpack[GetOptions]) -> StockLevel:
        """Get one stock level.

        Raises: StockLevelNotFound.
        """
        return self._calls.get(self._stub.GetStockLevel, GetStockLevelRequest(name=name), **options)

    def list_stock_levels(
        self,
        parent: str = "locations/-",
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[Query],
    ) -> Listing[StockLevel]:
        """List stock levels; pages are fetched as you iterate.

        `parent` is the location, as `locations/{location}`; `locations/-` lists those of all locations.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListStockLevelsRequest(parent=parent, **build_query(query))
        return self._calls.list_pages(
            self._stub.ListStockLevels,
            request,
            items=lambda page: page.stock_levels,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def batch_get_stock_levels(
        self, names: Iterable[str], *, parent: str = "locations/-", **options: Unpack[GetOptions]
    ) -> Sequence[StockLevel]:
        """Get up to 1000 stock levels from one snapshot, in the order of `names`; fail if one is missing.

        Raises: StockLevelNotFound.
        """
        request = BatchGetStockLevelsRequest(parent=parent, names=names)
        return self._calls.get(self._stub.BatchGetStockLevels, request, **options).stock_levels

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
        """Add units to the stock on hand, or remove them, as one movement of the stock ledger.

        Args:
            name: `locations/{location}/stockLevels/{sku}`; the stock level is created if it does not exist.
            quantity_delta: units to add, or to remove if negative; not 0. Its sign must fit `cause`.
            cause: kind of the movement (default: ADJUST). RECEIVE and RETURN add units, WRITE_OFF removes them.
            reason: text for the ledger.

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
        backorder_shortage: bool = False,
        etag: str = "",
        **options: Unpack[WriteOptions],
    ) -> StockLevel:
        """Set the units on hand, as after a stock count. The ledger records the difference.

        Args:
            name: `locations/{location}/stockLevels/{sku}`; the stock level is created if it does not exist.
            quantity: units on hand.
            expected_quantity: units that must be on hand before the change (default: no check).
            reason: text for the ledger.
            backorder_shortage: whether to record a count below the reserved and allocated units, by raising the
                backorder limit of the level.

        Raises: LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch, QuantityMismatch, CountBelowCommitted.
        """
        request = SetStockRequest(
            name=name,
            quantity=quantity,
            expected_quantity=expected_quantity,
            reason=reason,
            backorder_shortage=backorder_shortage,
            etag=etag,
        )
        return self._calls.write(self._stub.SetStock, request, **options)

    def update_stock_level(
        self, level: StockLevel, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]
    ) -> StockLevel:
        """Update `backorder_limit`, `safety_threshold` and `low_stock_threshold` of a stock level, in units.

        `update_mask` names the fields; if it is empty, those set in the message. The level need not exist yet.
        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch, OutOfStock.
        """
        request = UpdateStockLevelRequest(stock_level=level, update_mask=build_field_mask(update_mask))
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
        """Transfer units from one location to another, all lines or none.

        `source` and `destination` are names of locations. `lines` are pairs of SKU and units, up to 500. Only
        available units can be transferred, not reserved or allocated ones.

        Raises: LocationNotFound, ResourceDeleted, SkuNotFound, OutOfStock (names each short SKU), InvalidAmount.
        """
        request = TransferStockRequest(
            source=source,
            destination=destination,
            lines=build_lines(lines, TransferLine),
            reason=reason,
        )
        return self._calls.write(self._stub.TransferStock, request, **options)

    def list_low_stock(
        self,
        *,
        location: str = "",
        available_max: int = 0,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[PageQuery],
    ) -> Listing[StockLevel]:
        """List the stock levels with no more than `available_max` units available without backorders, lowest first.

        `location` is the name of a location (default: all locations).

        Raises: LocationNotFound, InvalidPageToken.
        """
        request = ListLowStockRequest(location=location, available_max=available_max, **build_query(query))
        return self._calls.list_pages(
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
        """Compare stock levels with the ledger, and the ledger with reservations and orders.

        `repair` also repairs the differences that can be repaired. Without `skus`, one call checks one page of all
        SKUs: continue with the `next_page_token` of the response until it is empty.

        Raises: InvalidPageToken, SkuNotFound.
        """
        request = ReconcileStockRequest(skus=skus, repair=repair, page_size=page_size, page_token=page_token)
        return self._calls.write(self._stub.ReconcileStock, request, **options)

    def batch_adjust_stock(
        self,
        items: Iterable[AdjustStockRequest],
        *,
        parent: str = "locations/-",
        per_item: bool = False,
        **options: Unpack[WriteOptions],
    ) -> BatchResults[StockLevel]:
        """Adjust up to 1000 stock levels: all or none, or with `per_item` each by itself.

        The items must have no `request_id` or `validate_only`: those of the batch apply to all. `parent` is the parent
        of all items; `locations/-` if they have different ones.

        Raises: unless `per_item`, the error of the first item that fails: LocationNotFound, ResourceDeleted,
        SkuNotFound, EtagMismatch, OutOfStock, InvalidAmount.
        """
        request = BatchAdjustStockRequest(parent=parent, requests=items, mode=get_mode(per_item=per_item))
        reply = self._calls.write(self._stub.BatchAdjustStock, request, **options)
        return read_results(reply.results, resource=lambda result: result.stock_level)

    def batch_set_stock(
        self,
        items: Iterable[SetStockRequest],
        *,
        parent: str = "locations/-",
        per_item: bool = False,
        **options: Unpack[WriteOptions],
    ) -> BatchResults[StockLevel]:
        """Set the units on hand of up to 1000 stock levels: all or none, or with `per_item` each by itself.

        The items must have no `request_id` or `validate_only`: those of the batch apply to all. `parent` is the parent
        of all items; `locations/-` if they have different ones.

        Raises: unless `per_item`, the error of the first item that fails: LocationNotFound, ResourceDeleted,
        SkuNotFound, EtagMismatch, QuantityMismatch, CountBelowCommitted.
        """
        request = BatchSetStockRequest(parent=parent, requests=items, mode=get_mode(per_item=per_item))
        reply = self._calls.write(self._stub.BatchSetStock, request, **options)
        return read_results(reply.results, resource=lambda result: result.stock_level)

    def check_availability(
        self, skus: Iterable[str], *, location: str = "", **options: Unpack[ReadOptions]
    ) -> Sequence[Availability]:
        """Return the available units of up to 500 SKUs, in total and by location, in the order of `skus`.

        `location` is the name of a location (default: all locations).

        Raises: LocationNotFound, SkuNotFound.
        """
        request = CheckAvailabilityRequest(skus=skus, location=location)
        return self._calls.read(self._stub.CheckAvailability, request, **options).availabilities

    def get_stock_movement(self, name: str, **options: Unpack[GetOptions]) -> StockMovement:
        """Get one stock movement.

        Raises: StockMovementNotFound.
        """
        return self._calls.get(self._stub.GetStockMovement, GetStockMovementRequest(name=name), **options)

    def list_stock_movements(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[Query]
    ) -> Listing[StockMovement]:
        """List stock movements; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListStockMovementsRequest(**build_query(query))
        return self._calls.list_pages(
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
        labels: Mapping[str, str] | None = None,
        unique_reference: bool = False,
        **options: Unpack[WriteOptions],
    ) -> Reservation:
        """Reserve stock until an expiry time, all lines or none.

        Args:
            lines: pairs of SKU and units.
            location: name of the location to reserve from (default: any).
            ttl_s: lifetime in seconds, from 1 second to 30 days (default: 15 minutes).
            reference: your own reference, such as a cart id.
            unique_reference: whether to update the active reservation that was made with the same reference and this
                argument, instead of making a second one.

        Raises: LocationNotFound, ResourceDeleted, SkuNotFound, NotForSale, QuantityNotAllowed, OutOfStock.
        """
        request = ReserveStockRequest(
            lines=build_lines(lines, ReserveStockLine),
            location=location,
            ttl=_to_duration(ttl_s),
            reference=reference,
            labels=labels,
            unique_reference=unique_reference,
        )
        return self._calls.write(self._stub.ReserveStock, request, **options)

    def get_reservation(self, name: str, **options: Unpack[GetOptions]) -> Reservation:
        """Get one reservation.

        Raises: ReservationNotFound.
        """
        return self._calls.get(self._stub.GetReservation, GetReservationRequest(name=name), **options)

    def list_reservations(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[Query]
    ) -> Listing[Reservation]:
        """List reservations; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListReservationsRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListReservations,
            request,
            items=lambda page: page.reservations,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def update_reservation(
        self,
        reservation: Reservation,
        *,
        update_mask: Iterable[str] = (),
        ttl_s: float | None = None,
        location: str = "",
        **options: Unpack[WriteOptions],
    ) -> Reservation:
        """Update an active reservation: the fields in `update_mask`, or all fields set in the message if it is empty.

        Units that both the old and the new lines need stay reserved throughout.

        Args:
            reservation: its name, its new `lines`, `expire_time`, `reference`, `labels` or `unique_reference`, and
                its `etag` to update it only if that is still the current one.
            ttl_s: seconds from now until it expires, instead of `expire_time`.
            location: name of the location to reserve additional units from (default: any).

        Raises: InvalidUpdateMask, ReservationNotFound, EtagMismatch, IllegalState, ReferenceTaken, LocationNotFound,
        ResourceDeleted, SkuNotFound, NotForSale, QuantityNotAllowed, OutOfStock (names each short SKU).
        """
        request = UpdateReservationRequest(
            reservation=reservation,
            update_mask=build_field_mask(update_mask),
            ttl=_to_duration(ttl_s),
            location=location,
        )
        return self._calls.write(self._stub.UpdateReservation, request, **options)

    def extend_reservation(
        self, name: str, *, ttl_s: float | None = None, etag: str = "", **options: Unpack[WriteOptions]
    ) -> Reservation:
        """Extend an active reservation to `ttl_s` seconds from now (default: 15 minutes), never to an earlier time.

        Raises: ReservationNotFound, EtagMismatch, IllegalState.
        """
        request = ExtendReservationRequest(name=name, ttl=_to_duration(ttl_s), etag=etag)
        return self._calls.write(self._stub.ExtendReservation, request, **options)

    def release_reservation(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Reservation:
        """Release an active reservation, which makes its stock available again.

        Raises: ReservationNotFound, EtagMismatch, IllegalState.
        """
        request = ReleaseReservationRequest(name=name, etag=etag)
        return self._calls.write(self._stub.ReleaseReservation, request, **options)

    def commit_reservation(
        self, name: str, *, reason: str = "", etag: str = "", **options: Unpack[WriteOptions]
    ) -> Reservation:
        """Commit an active reservation: remove its units from the stock, as for a sale in another system.

        For an order on this server, pass the reservation to `orders.place` instead.

        Raises: ReservationNotFound, EtagMismatch, IllegalState, OutOfStock.
        """
        request = CommitReservationRequest(name=name, reason=reason, etag=etag)
        return self._calls.write(self._stub.CommitReservation, request, **options)
