"""InventoryService: locations, stock levels, the stock ledger and reservations."""

from __future__ import annotations

import grpc

from storekeep.server.domain.integrity.reconciliation import Difference, reconcile
from storekeep.server.domain.standard.lists import ListRequest
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.resources import etag_of, new_id
from storekeep.server.domain.stock import levels as inventory
from storekeep.server.domain.stock import locations, reservations
from storekeep.server.domain.stock.levels import Availability, StockLevel, StockMovement
from storekeep.server.domain.stock.locations import LOCATIONS, Location
from storekeep.server.domain.stock.reservations import TTL_DEFAULT_S, NewReservation, Reservation
from storekeep.server.servicers.calls import call_of, list_request_of
from storekeep.server.servicers.converters import (
    MICROS,
    address_from,
    address_message,
    batch_keys,
    id_of,
    key_of,
    masked_fields,
    name_of,
    optional_timestamp,
    timestamp_of,
)
from storekeep.server.store.engine import Store
from storekeep.v1 import inventory_pb2 as pb
from storekeep.v1 import inventory_pb2_grpc

LOCATION_FIELDS = {"display_name": "display_name", "address": "address", "priority": "priority"}
CAUSES = {
    name.removeprefix("STOCK_MOVEMENT_CAUSE_"): number for name, number in pb.StockMovementCause.items() if number
}
RESERVATION_STATES = {name.removeprefix("RESERVATION_STATE_"): number for name, number in pb.ReservationState.items()}
DIFFERENCE_KINDS = {
    name.removeprefix("STOCK_DIFFERENCE_KIND_"): number for name, number in pb.StockDifferenceKind.items()
}
LEVEL_FIELDS = {"backorder_limit": "backorder_limit", "safety_threshold": "safety_threshold"}
CAUSE_NAMES = {number: name for name, number in CAUSES.items()}


def location_message(location: Location) -> pb.Location:
    """A location as the contract writes it."""
    return pb.Location(
        name=location.name,
        display_name=location.display_name,
        address=None if location.address is None else address_message(location.address),
        create_time=timestamp_of(location.create_time_us),
        update_time=timestamp_of(location.update_time_us),
        delete_time=optional_timestamp(location.delete_time_us),
        etag=etag_of(location.version),
        priority=location.priority,
    )


def location_from(message: pb.Location, location_id: str) -> Location:
    """What a request says of a location."""
    address = address_from(message.address) if message.HasField("address") else None
    return Location(location_id, display_name=message.display_name, address=address, priority=message.priority)


def level_message(level: StockLevel) -> pb.StockLevel:
    """A stock level as the contract writes it."""
    return pb.StockLevel(
        name=level.name,
        sku=level.sku,
        on_hand=level.on_hand,
        allocated=level.allocated,
        available=max(0, level.available),
        update_time=timestamp_of(level.update_time_us),
        etag=etag_of(level.version),
        reserved=level.reserved,
        backorder_limit=level.backorder_limit,
        safety_threshold=level.safety_threshold,
    )


def movement_message(movement: StockMovement) -> pb.StockMovement:
    """An entry of the ledger as the contract writes it."""
    return pb.StockMovement(
        name=movement.name,
        stock_level=f"locations/{movement.location_id}/stockLevels/{movement.sku}",
        sku=movement.sku,
        quantity_delta=movement.quantity_delta,
        on_hand=movement.on_hand,
        cause=CAUSES[movement.cause],
        reason=movement.reason,
        actor=movement.actor,
        create_time=timestamp_of(movement.create_time_us),
        reserved_delta=movement.reserved_delta,
        allocated_delta=movement.allocated_delta,
        source=movement.source,
        line_number=movement.line_number,
    )


def availability_message(availability: Availability) -> pb.Availability:
    """What can be sold of a SKU as the contract writes it."""
    return pb.Availability(
        sku=availability.sku,
        available=availability.available,
        for_sale=availability.for_sale,
        locations=[
            pb.LocationAvailability(location=f"locations/{location_id}", available=units)
            for location_id, units in availability.locations.items()
        ],
    )


def reservation_message(reservation: Reservation) -> pb.Reservation:
    """A reservation as the contract writes it."""
    return pb.Reservation(
        name=reservation.name,
        state=RESERVATION_STATES[reservation.state],
        lines=[
            pb.ReservationLine(
                line_number=line.line_number,
                sku=line.sku,
                quantity=line.quantity,
                location=f"locations/{line.location_id}",
            )
            for line in reservation.lines
        ],
        reference=reservation.reference,
        expire_time=timestamp_of(reservation.expire_time_us),
        order=name_of("orders", reservation.order_id),
        create_time=timestamp_of(reservation.create_time_us),
        update_time=timestamp_of(reservation.update_time_us),
        etag=etag_of(reservation.version),
    )


def difference_message(difference: Difference) -> pb.StockDifference:
    """A difference as the contract writes it."""
    return pb.StockDifference(
        stock_level=f"locations/{difference.location_id}/stockLevels/{difference.sku}",
        kind=DIFFERENCE_KINDS[difference.kind],
        source=difference.source,
        line_number=difference.line_number,
        recorded=difference.recorded,
        expected=difference.expected,
        repairable=difference.repairable,
    )


def ttl_us_of(request: pb.ReserveStockRequest | pb.ExtendReservationRequest) -> int:
    """How long a reservation is to last, in microseconds."""
    if not request.HasField("ttl"):
        return TTL_DEFAULT_S * MICROS
    return request.ttl.seconds * MICROS + request.ttl.nanos // 1000


class InventoryServicer(inventory_pb2_grpc.InventoryServiceServicer):
    """The RPCs of InventoryService; what each does stands in the contract."""

    def __init__(self, store: Store, tokens: PageTokens) -> None:
        self._store = store
        self._tokens = tokens

    def GetLocation(self, request: pb.GetLocationRequest, context: grpc.ServicerContext) -> pb.Location:
        return location_message(LOCATIONS.get(self._store, key_of(request.name)))

    def ListLocations(
        self, request: pb.ListLocationsRequest, context: grpc.ServicerContext
    ) -> pb.ListLocationsResponse:
        page = LOCATIONS.page(self._store, list_request_of(request), listing=locations.LISTING, tokens=self._tokens)
        return pb.ListLocationsResponse(
            locations=[location_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    def BatchGetLocations(
        self, request: pb.BatchGetLocationsRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetLocationsResponse:
        found = LOCATIONS.batch_get(self._store, [key_of(name) for name in request.names])
        return pb.BatchGetLocationsResponse(locations=[location_message(item) for item in found])

    def CreateLocation(self, request: pb.CreateLocationRequest, context: grpc.ServicerContext) -> pb.Location:
        draft = location_from(request.location, request.location_id or new_id())
        return location_message(LOCATIONS.create(self._store, call_of(request), draft))

    def UpdateLocation(self, request: pb.UpdateLocationRequest, context: grpc.ServicerContext) -> pb.Location:
        fields = masked_fields(request.update_mask, request.location, LOCATION_FIELDS)
        draft = location_from(request.location, id_of(request.location.name))
        changed = LOCATIONS.update(self._store, call_of(request), draft, fields=fields, etag=request.location.etag)
        return location_message(changed)

    def DeleteLocation(self, request: pb.DeleteLocationRequest, context: grpc.ServicerContext) -> pb.Location:
        changed = LOCATIONS.delete(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return location_message(changed)

    def UndeleteLocation(self, request: pb.UndeleteLocationRequest, context: grpc.ServicerContext) -> pb.Location:
        changed = LOCATIONS.undelete(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return location_message(changed)

    def GetStockLevel(self, request: pb.GetStockLevelRequest, context: grpc.ServicerContext) -> pb.StockLevel:
        return level_message(inventory.get_level(self._store, key_of(request.name)))

    def ListStockLevels(
        self, request: pb.ListStockLevelsRequest, context: grpc.ServicerContext
    ) -> pb.ListStockLevelsResponse:
        page = inventory.list_levels(
            self._store, list_request_of(request, parent=key_of(request.parent)[0]), tokens=self._tokens
        )
        return pb.ListStockLevelsResponse(
            stock_levels=[level_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    def BatchGetStockLevels(
        self, request: pb.BatchGetStockLevelsRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetStockLevelsResponse:
        found = inventory.batch_get_levels(self._store, batch_keys(request.parent, request.names))
        return pb.BatchGetStockLevelsResponse(stock_levels=[level_message(item) for item in found])

    def AdjustStock(self, request: pb.AdjustStockRequest, context: grpc.ServicerContext) -> pb.StockLevel:
        level = inventory.adjust_stock(
            self._store,
            call_of(request),
            key_of(request.name),
            quantity_delta=request.quantity_delta,
            cause=CAUSE_NAMES.get(request.cause, inventory.ADJUST),
            reason=request.reason,
            etag=request.etag,
        )
        return level_message(level)

    def SetStock(self, request: pb.SetStockRequest, context: grpc.ServicerContext) -> pb.StockLevel:
        level = inventory.set_stock(
            self._store,
            call_of(request),
            key_of(request.name),
            quantity=request.quantity,
            expected_quantity=request.expected_quantity if request.HasField("expected_quantity") else None,
            reason=request.reason,
            etag=request.etag,
        )
        return level_message(level)

    def CheckAvailability(
        self, request: pb.CheckAvailabilityRequest, context: grpc.ServicerContext
    ) -> pb.CheckAvailabilityResponse:
        found = inventory.check_availability(self._store, list(request.skus), location_id=id_of(request.location))
        return pb.CheckAvailabilityResponse(availabilities=[availability_message(item) for item in found])

    def GetStockMovement(self, request: pb.GetStockMovementRequest, context: grpc.ServicerContext) -> pb.StockMovement:
        return movement_message(inventory.get_movement(self._store, int(id_of(request.name))))

    def ListStockMovements(
        self, request: pb.ListStockMovementsRequest, context: grpc.ServicerContext
    ) -> pb.ListStockMovementsResponse:
        page = inventory.list_movements(self._store, list_request_of(request), tokens=self._tokens)
        return pb.ListStockMovementsResponse(
            stock_movements=[movement_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    def UpdateStockLevel(self, request: pb.UpdateStockLevelRequest, context: grpc.ServicerContext) -> pb.StockLevel:
        message = request.stock_level
        fields = masked_fields(request.update_mask, message, LEVEL_FIELDS)
        level = inventory.update_level(
            self._store,
            call_of(request),
            key_of(message.name),
            changes={field: getattr(message, field) for field in fields},
            etag=message.etag,
        )
        return level_message(level)

    def TransferStock(
        self, request: pb.TransferStockRequest, context: grpc.ServicerContext
    ) -> pb.TransferStockResponse:
        transfer = inventory.transfer_stock(
            self._store,
            call_of(request),
            [(line.sku, line.quantity) for line in request.lines],
            source_id=id_of(request.source),
            destination_id=id_of(request.destination),
            reason=request.reason,
        )
        levels = [level_message(level) for level in transfer.levels]
        return pb.TransferStockResponse(source=transfer.source, stock_levels=levels)

    def ListLowStock(self, request: pb.ListLowStockRequest, context: grpc.ServicerContext) -> pb.ListLowStockResponse:
        page = inventory.list_low_stock(
            self._store,
            ListRequest(page_size=request.page_size, page_token=request.page_token),
            location_id=id_of(request.location),
            available_max=request.available_max,
            tokens=self._tokens,
        )
        return pb.ListLowStockResponse(
            stock_levels=[level_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    def ReconcileStock(
        self, request: pb.ReconcileStockRequest, context: grpc.ServicerContext
    ) -> pb.ReconcileStockResponse:
        report = reconcile(
            self._store,
            call_of(request),
            request.skus,
            repair=request.repair,
            page_size=request.page_size,
            page_token=request.page_token,
            tokens=self._tokens,
        )
        return pb.ReconcileStockResponse(
            differences=[difference_message(difference) for difference in report.differences],
            skus_checked=report.skus_checked,
            next_page_token=report.next_page_token,
        )

    def ReserveStock(self, request: pb.ReserveStockRequest, context: grpc.ServicerContext) -> pb.Reservation:
        new = NewReservation(
            lines=tuple((line.sku, line.quantity) for line in request.lines),
            location_id=id_of(request.location),
            ttl_us=ttl_us_of(request),
            reference=request.reference,
        )
        return reservation_message(reservations.reserve(self._store, call_of(request), new))

    def GetReservation(self, request: pb.GetReservationRequest, context: grpc.ServicerContext) -> pb.Reservation:
        return reservation_message(reservations.get_reservation(self._store, id_of(request.name)))

    def ListReservations(
        self, request: pb.ListReservationsRequest, context: grpc.ServicerContext
    ) -> pb.ListReservationsResponse:
        page = reservations.list_reservations(self._store, list_request_of(request), tokens=self._tokens)
        return pb.ListReservationsResponse(
            reservations=[reservation_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    def ExtendReservation(self, request: pb.ExtendReservationRequest, context: grpc.ServicerContext) -> pb.Reservation:
        extended = reservations.extend(
            self._store, call_of(request), id_of(request.name), ttl_us=ttl_us_of(request), etag=request.etag
        )
        return reservation_message(extended)

    def ReleaseReservation(
        self, request: pb.ReleaseReservationRequest, context: grpc.ServicerContext
    ) -> pb.Reservation:
        released = reservations.release_reservation(
            self._store, call_of(request), id_of(request.name), etag=request.etag
        )
        return reservation_message(released)

    def CommitReservation(self, request: pb.CommitReservationRequest, context: grpc.ServicerContext) -> pb.Reservation:
        committed = reservations.commit(
            self._store, call_of(request), id_of(request.name), reason=request.reason, etag=request.etag
        )
        return reservation_message(committed)
