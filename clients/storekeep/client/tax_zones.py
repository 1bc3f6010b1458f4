"""Tax zones: sets of areas with the same tax rates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

import grpc

from storekeep.client.calls import Calls, GetOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import DeletableQuery, Listing, build_query
from storekeep.v1.pricing_pb2 import (
    CreateTaxZoneRequest,
    DeleteTaxZoneRequest,
    GetTaxZoneRequest,
    ListTaxZonesRequest,
    TaxZone,
    UndeleteTaxZoneRequest,
    UpdateTaxZoneRequest,
)
from storekeep.v1.pricing_pb2_grpc import PricingServiceStub


class TaxZones:
    """Reads and changes tax zones."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = PricingServiceStub(channel)

    def get(self, name: str, **options: Unpack[GetOptions]) -> TaxZone:
        """Get one tax zone, deleted or not.

        Raises: TaxZoneNotFound.
        """
        return self._calls.get(self._stub.GetTaxZone, GetTaxZoneRequest(name=name), **options)

    def list(
        self,
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[DeletableQuery],
    ) -> Listing[TaxZone]:
        """List tax zones; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListTaxZonesRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListTaxZones,
            request,
            items=lambda page: page.tax_zones,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def create(self, tax_zone: TaxZone, *, tax_zone_id: str = "", **options: Unpack[WriteOptions]) -> TaxZone:
        """Create a tax zone. Output-only fields are ignored.

        `tax_zone_id` becomes the last segment of its name; the server generates one if it is empty.

        Raises: AlreadyExists.
        """
        request = CreateTaxZoneRequest(tax_zone=tax_zone, tax_zone_id=tax_zone_id)
        return self._calls.write(self._stub.CreateTaxZone, request, **options)

    def update(self, tax_zone: TaxZone, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]) -> TaxZone:
        """Update a tax zone: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, TaxZoneNotFound, ResourceDeleted, EtagMismatch, AlreadyExists.
        """
        request = UpdateTaxZoneRequest(tax_zone=tax_zone, update_mask=build_field_mask(update_mask))
        return self._calls.write(self._stub.UpdateTaxZone, request, **options)

    def delete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> TaxZone:
        """Soft-delete a tax zone: lists omit it, and it can be undeleted.

        Raises: TaxZoneNotFound, EtagMismatch, ResourceInUse.
        """
        return self._calls.write(self._stub.DeleteTaxZone, DeleteTaxZoneRequest(name=name, etag=etag), **options)

    def undelete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> TaxZone:
        """Restore a deleted tax zone.

        Raises: TaxZoneNotFound, ResourceNotDeleted, EtagMismatch, AlreadyExists.
        """
        return self._calls.write(self._stub.UndeleteTaxZone, UndeleteTaxZoneRequest(name=name, etag=etag), **options)
