"""Prices beside those of variants: for customer groups, quantities and times."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Unpack

import grpc

from storekeep.client.batches import BatchResults, get_mode, read_results
from storekeep.client.calls import Calls, GetOptions, ReadOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import DeletableQuery, Listing, PageQuery, build_query
from storekeep.client.times import to_timestamp
from storekeep.v1.pricing_pb2 import (
    BatchCreatePricesRequest,
    BatchUpdatePricesRequest,
    CreatePriceRequest,
    DeletePriceRequest,
    GetLowestPriceRequest,
    GetPriceRequest,
    ListPriceHistoryRequest,
    ListPricesRequest,
    LowestPrice,
    PastPrice,
    Price,
    UndeletePriceRequest,
    UpdatePriceRequest,
)
from storekeep.v1.pricing_pb2_grpc import PricingServiceStub


class Prices:
    """Reads and changes prices."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = PricingServiceStub(channel)

    def get(self, name: str, **options: Unpack[GetOptions]) -> Price:
        """Get one price, deleted or not.

        Raises: PriceNotFound.
        """
        return self._calls.get(self._stub.GetPrice, GetPriceRequest(name=name), **options)

    def list(
        self,
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[DeletableQuery],
    ) -> Listing[Price]:
        """List prices; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListPricesRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListPrices,
            request,
            items=lambda page: page.prices,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def create(self, price: Price, *, price_id: str = "", **options: Unpack[WriteOptions]) -> Price:
        """Create a price. Output-only fields are ignored.

        `price_id` becomes the last segment of its name; the server generates one if it is empty.

        Raises: UnknownCurrency, InvalidAmount, CurrencyMismatch, SkuNotFound, AlreadyExists.
        """
        request = CreatePriceRequest(price=price, price_id=price_id)
        return self._calls.write(self._stub.CreatePrice, request, **options)

    def update(self, price: Price, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]) -> Price:
        """Update a price: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, UnknownCurrency, InvalidAmount, CurrencyMismatch, PriceNotFound, ResourceDeleted,
        EtagMismatch.
        """
        request = UpdatePriceRequest(price=price, update_mask=build_field_mask(update_mask))
        return self._calls.write(self._stub.UpdatePrice, request, **options)

    def delete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Price:
        """Soft-delete a price: lists omit it, and it can be undeleted.

        Raises: PriceNotFound, EtagMismatch.
        """
        return self._calls.write(self._stub.DeletePrice, DeletePriceRequest(name=name, etag=etag), **options)

    def undelete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Price:
        """Restore a deleted price.

        Raises: PriceNotFound, ResourceNotDeleted, EtagMismatch.
        """
        return self._calls.write(self._stub.UndeletePrice, UndeletePriceRequest(name=name, etag=etag), **options)

    def batch_create(
        self, items: Iterable[CreatePriceRequest], *, per_item: bool = False, **options: Unpack[WriteOptions]
    ) -> BatchResults[Price]:
        """Create up to 1000 prices: all or none, or with `per_item` each by itself.

        The items must have no `request_id` or `validate_only`: those of the batch apply to all.

        Raises: unless `per_item`, the error of the first item that fails: UnknownCurrency, InvalidAmount,
        CurrencyMismatch, SkuNotFound, AlreadyExists.
        """
        request = BatchCreatePricesRequest(requests=items, mode=get_mode(per_item=per_item))
        reply = self._calls.write(self._stub.BatchCreatePrices, request, **options)
        return read_results(reply.results, resource=lambda result: result.price)

    def batch_update(
        self, items: Iterable[UpdatePriceRequest], *, per_item: bool = False, **options: Unpack[WriteOptions]
    ) -> BatchResults[Price]:
        """Update up to 1000 prices: all or none, or with `per_item` each by itself.

        The items must have no `request_id` or `validate_only`: those of the batch apply to all.

        Raises: unless `per_item`, the error of the first item that fails: InvalidUpdateMask, UnknownCurrency,
        InvalidAmount, CurrencyMismatch, PriceNotFound, ResourceDeleted, EtagMismatch.
        """
        request = BatchUpdatePricesRequest(requests=items, mode=get_mode(per_item=per_item))
        reply = self._calls.write(self._stub.BatchUpdatePrices, request, **options)
        return read_results(reply.results, resource=lambda result: result.price)

    def list_history(
        self,
        sku: str,
        *,
        currency_code: str = "",
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[PageQuery],
    ) -> Listing[PastPrice]:
        """List the prices that a SKU has had, the latest first; pages are fetched as you iterate.

        Raises: InvalidPageToken.
        """
        request = ListPriceHistoryRequest(sku=sku, currency_code=currency_code, **build_query(query))
        return self._calls.list_pages(
            self._stub.ListPriceHistory,
            request,
            items=lambda page: page.past_prices,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def get_lowest(
        self,
        sku: str,
        currency_code: str,
        *,
        customer_group: str = "",
        days: int = 0,
        time: datetime | None = None,
        **options: Unpack[ReadOptions],
    ) -> LowestPrice:
        """Get the lowest price of one unit in some days before a time (default: 30 days before now).

        Raises: UnknownCurrency, PriceNotFound.
        """
        request = GetLowestPriceRequest(
            sku=sku, currency_code=currency_code, customer_group=customer_group, days=days, time=to_timestamp(time)
        )
        return self._calls.read(self._stub.GetLowestPrice, request, **options)
