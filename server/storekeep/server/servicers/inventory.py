"""InventoryService: locations, stock levels and the stock ledger."""

from __future__ import annotations

import grpc

from storekeep.server.domain import inventory, locations
from storekeep.server.domain.inventory import StockLevel, StockMovement
from storekeep.server.domain.locations import LOCATIONS, Location
from storekeep.server.domain.pages import PageTokens
from storekeep.server.domain.resources import etag_of, new_id
from storekeep.server.servicers.calls import call_of, list_request_of
from storekeep.server.servicers.converters import (
    address_from,
    address_message,
    batch_keys,
    id_of,
    key_of,
    masked_fields,
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
        return pb.CheckAvailabilityResponse(
            availabilities=[
                pb.Availability(sku=item.sku, available=item.available, for_sale=item.for_sale) for item in found
            ]
        )

    def GetStockMovement(self, request: pb.GetStockMovementRequest, context: grpc.ServicerContext) -> pb.StockMovement:
        return movement_message(inventory.get_movement(self._store, int(id_of(request.name))))

    def ListStockMovements(
        self, request: pb.ListStockMovementsRequest, context: grpc.ServicerContext
    ) -> pb.ListStockMovementsResponse:
        page = inventory.list_movements(self._store, list_request_of(request), tokens=self._tokens)
        return pb.ListStockMovementsResponse(
            stock_movements=[movement_message(item) for item in page.items], next_page_token=page.next_page_token
        )
