"""InventoryService: locations, stock levels, the stock ledger and reservations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from storekeep.server.domain.errors import InvalidField
from storekeep.server.domain.integrity.reconciliation import Difference, reconcile
from storekeep.server.domain.standard.batches import Effect
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.resources import MICROS, make_etag, new_id
from storekeep.server.domain.stock import counts, locations, reservations
from storekeep.server.domain.stock import levels as inventory
from storekeep.server.domain.stock.levels import Availability, StockMovement
from storekeep.server.domain.stock.locations import LOCATIONS, Location
from storekeep.server.domain.stock.reservations import (
    TTL_DEFAULT_S,
    NewReservation,
    Reservation,
    ReservationChanges,
)
from storekeep.server.domain.stock.stock_levels import StockLevel
from storekeep.server.servicers.batches import build_results, change_batch, check_parents
from storekeep.server.servicers.calls import build_call, build_list_request, build_page_fields
from storekeep.server.servicers.converters import (
    Fields,
    build_address,
    build_optional_timestamp,
    build_timestamp,
    fill_labels,
    format_name,
    parse_address,
    parse_batch_keys,
    parse_id,
    parse_key,
    parse_time_us,
    parse_update_mask,
)
from storekeep.server.store.engine import Store
from storekeep.v1 import inventory_pb2 as pb
from storekeep.v1 import inventory_pb2_grpc

LOCATION_FIELDS = {
    "display_name": "display_name",
    "address": "address",
    "priority": "priority",
    "labels": "labels",
}
RESERVATION_FIELDS = {
    "lines": "lines",
    "expire_time": "expire_time_us",
    "reference": "reference",
    "labels": "labels",
    "unique_reference": "unique_reference",
}
CAUSES = {
    name.removeprefix("STOCK_MOVEMENT_CAUSE_"): number for name, number in pb.StockMovementCause.items() if number
}
RESERVATION_STATES = {name.removeprefix("RESERVATION_STATE_"): number for name, number in pb.ReservationState.items()}
DIFFERENCE_KINDS = {
    name.removeprefix("STOCK_DIFFERENCE_KIND_"): number for name, number in pb.StockDifferenceKind.items()
}
LEVEL_FIELDS = {name: name for name in ("backorder_limit", "safety_threshold", "low_stock_threshold")}
CAUSE_NAMES = {number: name for name, number in CAUSES.items()}


def build_location(location: Location) -> pb.Location:
    """Build the message of a location."""
    message = pb.Location(
        name=location.name,
        display_name=location.display_name,
        address=None if location.address is None else build_address(location.address),
        create_time=build_timestamp(location.create_time_us),
        update_time=build_timestamp(location.update_time_us),
        delete_time=build_optional_timestamp(location.delete_time_us),
        etag=make_etag(location.version),
        priority=location.priority,
    )
    fill_labels(message.labels, location.labels)
    return message


def parse_location(message: pb.Location, location_id: str) -> Location:
    """Parse a location from a request."""
    address = parse_address(message.address) if message.HasField("address") else None
    return Location(
        location_id,
        display_name=message.display_name,
        address=address,
        priority=message.priority,
        labels=dict(message.labels),
    )


def build_stock_level(level: StockLevel) -> pb.StockLevel:
    """Build the message of a stock level."""
    return pb.StockLevel(
        name=level.name,
        sku=level.sku,
        on_hand=level.on_hand,
        allocated=level.allocated,
        available=max(0, level.available),
        update_time=build_timestamp(level.update_time_us),
        etag=make_etag(level.version),
        reserved=level.reserved,
        backorder_limit=level.backorder_limit,
        safety_threshold=level.safety_threshold,
        low_stock_threshold=level.low_stock_threshold,
    )


def build_stock_movement(movement: StockMovement) -> pb.StockMovement:
    """Build the message of a stock movement."""
    return pb.StockMovement(
        name=movement.name,
        stock_level=f"locations/{movement.location_id}/stockLevels/{movement.sku}",
        sku=movement.sku,
        quantity_delta=movement.quantity_delta,
        on_hand=movement.on_hand,
        cause=CAUSES[movement.cause],
        reason=movement.reason,
        actor=movement.actor,
        create_time=build_timestamp(movement.create_time_us),
        reserved_delta=movement.reserved_delta,
        allocated_delta=movement.allocated_delta,
        source=movement.source,
        line_number=movement.line_number,
    )


def build_availability(availability: Availability) -> pb.Availability:
    """Build the message of the availability of a SKU."""
    return pb.Availability(
        sku=availability.sku,
        available=availability.available,
        for_sale=availability.for_sale,
        locations=[
            pb.LocationAvailability(location=f"locations/{location_id}", available=units)
            for location_id, units in availability.locations.items()
        ],
    )


def build_reservation(reservation: Reservation) -> pb.Reservation:
    """Build the message of a reservation."""
    message = pb.Reservation(
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
        expire_time=build_timestamp(reservation.expire_time_us),
        order=format_name("orders", reservation.order_id),
        create_time=build_timestamp(reservation.create_time_us),
        update_time=build_timestamp(reservation.update_time_us),
        etag=make_etag(reservation.version),
        unique_reference=reservation.unique_reference,
    )
    fill_labels(message.labels, reservation.labels)
    return message


def parse_reservation_changes(request: pb.UpdateReservationRequest) -> ReservationChanges:
    """Parse the changes that the mask of an update selects.

    Raises: InvalidUpdateMask, InvalidField.
    """
    message = request.reservation
    has_ttl = request.HasField("ttl")
    fields = parse_update_mask(request.update_mask, message, RESERVATION_FIELDS)
    if "expire_time_us" in fields and not message.HasField("expire_time") and not has_ttl:
        raise InvalidField("reservation.expire_time", "is required by the mask")
    if has_ttl and message.HasField("expire_time") and "expire_time_us" in fields:
        raise InvalidField("ttl", "set either ttl or reservation.expire_time")
    values: dict[str, Any] = {
        "lines": tuple((line.sku, line.quantity) for line in message.lines),
        "expire_time_us": None if has_ttl else parse_time_us(message.expire_time),
        "reference": message.reference,
        "labels": dict(message.labels),
        "unique_reference": message.unique_reference,
    }
    return ReservationChanges(
        **{name: values[name] for name in fields},
        location_id=parse_id(request.location),
        ttl_us=parse_ttl_us(request) if has_ttl else None,
    )


def build_difference(difference: Difference) -> pb.StockDifference:
    """Build the message of a stock difference."""
    return pb.StockDifference(
        stock_level=f"locations/{difference.location_id}/stockLevels/{difference.sku}",
        kind=DIFFERENCE_KINDS[difference.kind],
        source=difference.source,
        line_number=difference.line_number,
        recorded=difference.recorded,
        expected=difference.expected,
        repairable=difference.repairable,
    )


def parse_ttl_us(
    request: pb.ReserveStockRequest | pb.ExtendReservationRequest | pb.UpdateReservationRequest,
) -> int:
    """Parse the duration of a reservation, in microseconds; `TTL_DEFAULT_S` if absent."""
    if not request.HasField("ttl"):
        return TTL_DEFAULT_S * MICROS
    return request.ttl.seconds * MICROS + request.ttl.nanos // 1000


def parse_adjustment(request: pb.AdjustStockRequest) -> Fields:
    """Parse the arguments of an adjustment of a stock level.

    Raises: InvalidField if the sign of the units contradicts the cause.
    """
    cause = CAUSE_NAMES.get(request.cause, inventory.ADJUST)
    inventory.check_sign(request.quantity_delta, cause)
    return {
        "quantity_delta": request.quantity_delta,
        "cause": cause,
        "reason": request.reason,
        "etag": request.etag,
    }


def parse_count(request: pb.SetStockRequest) -> Fields:
    """Parse the arguments of a count of a stock level."""
    return {
        "quantity": request.quantity,
        "expected_quantity": request.expected_quantity if request.HasField("expected_quantity") else None,
        "backorder_shortage": request.backorder_shortage,
        "reason": request.reason,
        "etag": request.etag,
    }


def parse_batch_adjustment(request: pb.AdjustStockRequest) -> Effect[StockLevel]:
    """Parse an item of a batch of adjustments."""
    key, adjustment = parse_key(request.name), parse_adjustment(request)
    return lambda mutation: inventory.adjust_level(mutation, key, **adjustment)


def parse_batch_count(request: pb.SetStockRequest) -> Effect[StockLevel]:
    """Parse an item of a batch of counts."""
    key, count = parse_key(request.name), parse_count(request)
    return lambda mutation: counts.set_level(mutation, key, **count)


class InventoryServicer(inventory_pb2_grpc.InventoryServiceServicer):
    """The RPCs of InventoryService; the contract documents each one."""

    def __init__(self, store: Store, tokens: PageTokens) -> None:
        self._store = store
        self._tokens = tokens

    def GetLocation(self, request: pb.GetLocationRequest, context: grpc.ServicerContext) -> pb.Location:
        return build_location(LOCATIONS.get(self._store, parse_key(request.name)))

    def ListLocations(
        self, request: pb.ListLocationsRequest, context: grpc.ServicerContext
    ) -> pb.ListLocationsResponse:
        page = LOCATIONS.page(self._store, build_list_request(request), listing=locations.LISTING, tokens=self._tokens)
        return pb.ListLocationsResponse(
            locations=[build_location(item) for item in page.items], **build_page_fields(page)
        )

    def BatchGetLocations(
        self, request: pb.BatchGetLocationsRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetLocationsResponse:
        items = LOCATIONS.batch_get(self._store, [parse_key(name) for name in request.names])
        return pb.BatchGetLocationsResponse(locations=[build_location(item) for item in items])

    def CreateLocation(self, request: pb.CreateLocationRequest, context: grpc.ServicerContext) -> pb.Location:
        location = parse_location(request.location, request.location_id or new_id())
        return build_location(LOCATIONS.create(self._store, build_call(request), location))

    def UpdateLocation(self, request: pb.UpdateLocationRequest, context: grpc.ServicerContext) -> pb.Location:
        fields = parse_update_mask(request.update_mask, request.location, LOCATION_FIELDS)
        location = parse_location(request.location, parse_id(request.location.name))
        result = LOCATIONS.update(self._store, build_call(request), location, fields=fields, etag=request.location.etag)
        return build_location(result)

    def DeleteLocation(self, request: pb.DeleteLocationRequest, context: grpc.ServicerContext) -> pb.Location:
        result = LOCATIONS.delete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_location(result)

    def UndeleteLocation(self, request: pb.UndeleteLocationRequest, context: grpc.ServicerContext) -> pb.Location:
        result = LOCATIONS.undelete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_location(result)

    def GetStockLevel(self, request: pb.GetStockLevelRequest, context: grpc.ServicerContext) -> pb.StockLevel:
        return build_stock_level(inventory.get_level(self._store, parse_key(request.name)))

    def ListStockLevels(
        self, request: pb.ListStockLevelsRequest, context: grpc.ServicerContext
    ) -> pb.ListStockLevelsResponse:
        page = inventory.list_levels(
            self._store, build_list_request(request, parent=parse_key(request.parent)[0]), tokens=self._tokens
        )
        return pb.ListStockLevelsResponse(
            stock_levels=[build_stock_level(item) for item in page.items], **build_page_fields(page)
        )

    def BatchGetStockLevels(
        self, request: pb.BatchGetStockLevelsRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetStockLevelsResponse:
        items = inventory.batch_get_levels(self._store, parse_batch_keys(request.parent, request.names))
        return pb.BatchGetStockLevelsResponse(stock_levels=[build_stock_level(item) for item in items])

    def AdjustStock(self, request: pb.AdjustStockRequest, context: grpc.ServicerContext) -> pb.StockLevel:
        key, adjustment = parse_key(request.name), parse_adjustment(request)
        return build_stock_level(inventory.adjust_stock(self._store, build_call(request), key, **adjustment))

    def BatchAdjustStock(
        self, request: pb.BatchAdjustStockRequest, context: grpc.ServicerContext
    ) -> pb.BatchAdjustStockResponse:
        results = self._change_levels(request, parse_batch_adjustment)
        return pb.BatchAdjustStockResponse(results=results)

    def SetStock(self, request: pb.SetStockRequest, context: grpc.ServicerContext) -> pb.StockLevel:
        key, count = parse_key(request.name), parse_count(request)
        return build_stock_level(counts.set_stock(self._store, build_call(request), key, **count))

    def BatchSetStock(
        self, request: pb.BatchSetStockRequest, context: grpc.ServicerContext
    ) -> pb.BatchSetStockResponse:
        results = self._change_levels(request, parse_batch_count)
        return pb.BatchSetStockResponse(results=results)

    def _change_levels(self, request: Any, parse: Callable[[Any], Effect[StockLevel]]) -> list[pb.StockLevelResult]:
        """Change the levels of a batch and return the message of each result."""
        parents = (item.name.rpartition("/stockLevels/")[0] for item in request.requests)
        check_parents(request.parent, parents, field="name")
        results = change_batch(
            self._store, request, parse, get_keys=lambda item: [("name", item.name)], resource=StockLevel
        )
        return build_results(results, pb.StockLevelResult, field="stock_level", build=build_stock_level)

    def CheckAvailability(
        self, request: pb.CheckAvailabilityRequest, context: grpc.ServicerContext
    ) -> pb.CheckAvailabilityResponse:
        items = inventory.check_availability(self._store, list(request.skus), location_id=parse_id(request.location))
        return pb.CheckAvailabilityResponse(availabilities=[build_availability(item) for item in items])

    def GetStockMovement(self, request: pb.GetStockMovementRequest, context: grpc.ServicerContext) -> pb.StockMovement:
        return build_stock_movement(inventory.get_movement(self._store, int(parse_id(request.name))))

    def ListStockMovements(
        self, request: pb.ListStockMovementsRequest, context: grpc.ServicerContext
    ) -> pb.ListStockMovementsResponse:
        page = inventory.list_movements(self._store, build_list_request(request), tokens=self._tokens)
        return pb.ListStockMovementsResponse(
            stock_movements=[build_stock_movement(item) for item in page.items], **build_page_fields(page)
        )

    def UpdateStockLevel(self, request: pb.UpdateStockLevelRequest, context: grpc.ServicerContext) -> pb.StockLevel:
        message = request.stock_level
        fields = parse_update_mask(request.update_mask, message, LEVEL_FIELDS)
        level = inventory.update_level(
            self._store,
            build_call(request),
            parse_key(message.name),
            changes={field: getattr(message, field) for field in fields},
            etag=message.etag,
        )
        return build_stock_level(level)

    def TransferStock(
        self, request: pb.TransferStockRequest, context: grpc.ServicerContext
    ) -> pb.TransferStockResponse:
        transfer = inventory.transfer_stock(
            self._store,
            build_call(request),
            [(line.sku, line.quantity) for line in request.lines],
            source_id=parse_id(request.source),
            destination_id=parse_id(request.destination),
            reason=request.reason,
        )
        levels = [build_stock_level(level) for level in transfer.levels]
        return pb.TransferStockResponse(source=transfer.source, stock_levels=levels)

    def ListLowStock(self, request: pb.ListLowStockRequest, context: grpc.ServicerContext) -> pb.ListLowStockResponse:
        page = inventory.list_low_stock(
            self._store,
            build_list_request(request),
            location_id=parse_id(request.location),
            available_max=request.available_max,
            tokens=self._tokens,
        )
        return pb.ListLowStockResponse(
            stock_levels=[build_stock_level(item) for item in page.items], **build_page_fields(page)
        )

    def ReconcileStock(
        self, request: pb.ReconcileStockRequest, context: grpc.ServicerContext
    ) -> pb.ReconcileStockResponse:
        report = reconcile(
            self._store,
            build_call(request),
            request.skus,
            repair=request.repair,
            page_size=request.page_size,
            page_token=request.page_token,
            tokens=self._tokens,
        )
        return pb.ReconcileStockResponse(
            differences=[build_difference(difference) for difference in report.differences],
            skus_checked=report.skus_checked,
            next_page_token=report.next_page_token,
        )

    def ReserveStock(self, request: pb.ReserveStockRequest, context: grpc.ServicerContext) -> pb.Reservation:
        new = NewReservation(
            lines=tuple((line.sku, line.quantity) for line in request.lines),
            location_id=parse_id(request.location),
            ttl_us=parse_ttl_us(request),
            reference=request.reference,
            labels=dict(request.labels),
            unique_reference=request.unique_reference,
        )
        return build_reservation(reservations.reserve(self._store, build_call(request), new))

    def GetReservation(self, request: pb.GetReservationRequest, context: grpc.ServicerContext) -> pb.Reservation:
        return build_reservation(reservations.get_reservation(self._store, parse_id(request.name)))

    def ListReservations(
        self, request: pb.ListReservationsRequest, context: grpc.ServicerContext
    ) -> pb.ListReservationsResponse:
        page = reservations.list_reservations(self._store, build_list_request(request), tokens=self._tokens)
        return pb.ListReservationsResponse(
            reservations=[build_reservation(item) for item in page.items], **build_page_fields(page)
        )

    def UpdateReservation(self, request: pb.UpdateReservationRequest, context: grpc.ServicerContext) -> pb.Reservation:
        message = request.reservation
        reservation = reservations.update_reservation(
            self._store,
            build_call(request),
            parse_id(message.name),
            parse_reservation_changes(request),
            etag=message.etag,
        )
        return build_reservation(reservation)

    def ExtendReservation(self, request: pb.ExtendReservationRequest, context: grpc.ServicerContext) -> pb.Reservation:
        reservation = reservations.extend(
            self._store, build_call(request), parse_id(request.name), ttl_us=parse_ttl_us(request), etag=request.etag
        )
        return build_reservation(reservation)

    def ReleaseReservation(
        self, request: pb.ReleaseReservationRequest, context: grpc.ServicerContext
    ) -> pb.Reservation:
        reservation = reservations.release_reservation(
            self._store, build_call(request), parse_id(request.name), etag=request.etag
        )
        return build_reservation(reservation)

    def CommitReservation(self, request: pb.CommitReservationRequest, context: grpc.ServicerContext) -> pb.Reservation:
        reservation = reservations.commit(
            self._store, build_call(request), parse_id(request.name), reason=request.reason, etag=request.etag
        )
        return build_reservation(reservation)
