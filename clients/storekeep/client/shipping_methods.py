"""Shipping methods and their prices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

import grpc

from storekeep.client.calls import Calls, GetOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import DeletableQuery, Listing, build_query
from storekeep.v1.pricing_pb2 import (
    CreateShippingMethodRequest,
    DeleteShippingMethodRequest,
    GetShippingMethodRequest,
    ListShippingMethodsRequest,
    ShippingMethod,
    UndeleteShippingMethodRequest,
    UpdateShippingMethodRequest,
)
from storekeep.v1.pricing_pb2_grpc import PricingServiceStub


class ShippingMethods:
    """Reads and changes shipping methods."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = PricingServiceStub(channel)

    def get(self, name: str, **options: Unpack[GetOptions]) -> ShippingMethod:
        """Get one shipping method, deleted or not.

        Raises: ShippingMethodNotFound.
        """
        return self._calls.get(self._stub.GetShippingMethod, GetShippingMethodRequest(name=name), **options)

    def list(
        self,
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[DeletableQuery],
    ) -> Listing[ShippingMethod]:
        """List shipping methods; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListShippingMethodsRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListShippingMethods,
            request,
            items=lambda page: page.shipping_methods,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def create(
        self, shipping_method: ShippingMethod, *, shipping_method_id: str = "", **options: Unpack[WriteOptions]
    ) -> ShippingMethod:
        """Create a shipping method. Output-only fields are ignored.

        `shipping_method_id` becomes the last segment of its name; the server generates one if it is empty.

        Raises: UnknownCurrency, InvalidAmount, CurrencyMismatch, TaxZoneNotFound, AlreadyExists.
        """
        request = CreateShippingMethodRequest(shipping_method=shipping_method, shipping_method_id=shipping_method_id)
        return self._calls.write(self._stub.CreateShippingMethod, request, **options)

    def update(
        self, shipping_method: ShippingMethod, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]
    ) -> ShippingMethod:
        """Update a shipping method: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, UnknownCurrency, InvalidAmount, CurrencyMismatch, ShippingMethodNotFound,
        ResourceDeleted, EtagMismatch, TaxZoneNotFound.
        """
        request = UpdateShippingMethodRequest(
            shipping_method=shipping_method, update_mask=build_field_mask(update_mask)
        )
        return self._calls.write(self._stub.UpdateShippingMethod, request, **options)

    def delete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> ShippingMethod:
        """Soft-delete a shipping method: lists omit it, and it can be undeleted.

        Raises: ShippingMethodNotFound, EtagMismatch.
        """
        return self._calls.write(
            self._stub.DeleteShippingMethod, DeleteShippingMethodRequest(name=name, etag=etag), **options
        )

    def undelete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> ShippingMethod:
        """Restore a deleted shipping method.

        Raises: ShippingMethodNotFound, ResourceNotDeleted, EtagMismatch.
        """
        return self._calls.write(
            self._stub.UndeleteShippingMethod, UndeleteShippingMethodRequest(name=name, etag=etag), **options
        )
