"""Tax rates, each for one class in one zone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

import grpc

from storekeep.client.calls import Calls, GetOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import DeletableQuery, Listing, build_query
from storekeep.v1.pricing_pb2 import (
    CreateTaxRateRequest,
    DeleteTaxRateRequest,
    GetTaxRateRequest,
    ListTaxRatesRequest,
    TaxRate,
    UndeleteTaxRateRequest,
    UpdateTaxRateRequest,
)
from storekeep.v1.pricing_pb2_grpc import PricingServiceStub


class TaxRates:
    """Reads and changes tax rates."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = PricingServiceStub(channel)

    def get(self, name: str, **options: Unpack[GetOptions]) -> TaxRate:
        """Get one tax rate, deleted or not.

        Raises: TaxRateNotFound.
        """
        return self._calls.get(self._stub.GetTaxRate, GetTaxRateRequest(name=name), **options)

    def list(
        self,
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[DeletableQuery],
    ) -> Listing[TaxRate]:
        """List tax rates; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListTaxRatesRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListTaxRates,
            request,
            items=lambda page: page.tax_rates,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def create(self, tax_rate: TaxRate, *, tax_rate_id: str = "", **options: Unpack[WriteOptions]) -> TaxRate:
        """Create a tax rate. Output-only fields are ignored.

        `tax_rate_id` becomes the last segment of its name; the server generates one if it is empty.

        Raises: TaxZoneNotFound, AlreadyExists.
        """
        request = CreateTaxRateRequest(tax_rate=tax_rate, tax_rate_id=tax_rate_id)
        return self._calls.write(self._stub.CreateTaxRate, request, **options)

    def update(self, tax_rate: TaxRate, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]) -> TaxRate:
        """Update a tax rate: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, TaxRateNotFound, ResourceDeleted, EtagMismatch, AlreadyExists.
        """
        request = UpdateTaxRateRequest(tax_rate=tax_rate, update_mask=build_field_mask(update_mask))
        return self._calls.write(self._stub.UpdateTaxRate, request, **options)

    def delete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> TaxRate:
        """Soft-delete a tax rate: lists omit it, and it can be undeleted.

        Raises: TaxRateNotFound, EtagMismatch.
        """
        return self._calls.write(self._stub.DeleteTaxRate, DeleteTaxRateRequest(name=name, etag=etag), **options)

    def undelete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> TaxRate:
        """Restore a deleted tax rate.

        Raises: TaxRateNotFound, ResourceNotDeleted, EtagMismatch, AlreadyExists.
        """
        return self._calls.write(self._stub.UndeleteTaxRate, UndeleteTaxRateRequest(name=name, etag=etag), **options)
