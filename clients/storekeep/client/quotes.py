"""Quotes: orders that are offered to customers at fixed prices, until a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

import grpc
from google.type.money_pb2 import Money

from storekeep.client.calls import Calls, GetOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import Listing, Query, build_query
from storekeep.v1.orders_pb2 import Order
from storekeep.v1.quotes_pb2 import (
    AcceptQuoteRequest,
    CreateQuoteRequest,
    ExpireQuoteRequest,
    GetQuoteRequest,
    ListQuotesRequest,
    Quote,
    SendQuoteRequest,
    UpdateQuoteRequest,
)
from storekeep.v1.quotes_pb2_grpc import QuoteServiceStub


class Quotes:
    """Reads and changes quotes, and places their orders."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = QuoteServiceStub(channel)

    def get(self, name: str, **options: Unpack[GetOptions]) -> Quote:
        """Get one quote.

        Raises: QuoteNotFound.
        """
        return self._calls.get(self._stub.GetQuote, GetQuoteRequest(name=name), **options)

    def list(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[Query]
    ) -> Listing[Quote]:
        """List quotes, newest first unless `order_by` is set; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListQuotesRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListQuotes,
            request,
            items=lambda page: page.quotes,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def create(self, quote: Quote, *, quote_id: str = "", **options: Unpack[WriteOptions]) -> Quote:
        """Create a draft at the prices of this instant. Output-only fields are ignored.

        `quote_id` becomes the last segment of its name; the server generates one if it is empty.

        Raises: UnknownCurrency, CustomerNotFound, ResourceDeleted, SkuNotFound, NotForSale, CurrencyMismatch,
        QuantityNotAllowed, InvalidAmount, CouponNotApplicable (names the code), AlreadyExists.
        """
        return self._calls.write(self._stub.CreateQuote, CreateQuoteRequest(quote=quote, quote_id=quote_id), **options)

    def update(self, quote: Quote, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]) -> Quote:
        """Update a draft and price it anew: the fields in `update_mask`, or all fields set in the message.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, QuoteNotFound, EtagMismatch, IllegalState, UnknownCurrency, CustomerNotFound,
        ResourceDeleted, SkuNotFound, NotForSale, CurrencyMismatch, QuantityNotAllowed, InvalidAmount,
        CouponNotApplicable (names the code).
        """
        request = UpdateQuoteRequest(quote=quote, update_mask=build_field_mask(update_mask))
        return self._calls.write(self._stub.UpdateQuote, request, **options)

    def send(
        self, name: str, *, expected_total: Money | None = None, etag: str = "", **options: Unpack[WriteOptions]
    ) -> Quote:
        """Price a draft for the last time and offer it: from then on its prices are fixed.

        Args:
            expected_total: the total that the draft showed; the call fails if it has changed.

        Raises: QuoteNotFound, EtagMismatch, IllegalState, UnknownCurrency, CustomerNotFound, ResourceDeleted,
        SkuNotFound, NotForSale, CurrencyMismatch, QuantityNotAllowed, InvalidAmount, CouponNotApplicable (names the
        code), PriceChanged (names both totals).
        """
        request = SendQuoteRequest(name=name, expected_total=expected_total, etag=etag)
        return self._calls.write(self._stub.SendQuote, request, **options)

    def accept(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Order:
        """Place the order of a sent quote at its prices, once. `orders.place` does it with more options.

        Raises: CustomerNotFound, ResourceDeleted, QuoteNotFound, EtagMismatch, IllegalState, CouponNotApplicable,
        OutOfStock.
        """
        return self._calls.write(self._stub.AcceptQuote, AcceptQuoteRequest(name=name, etag=etag), **options)

    def expire(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Quote:
        """Withdraw a draft or a sent quote before its time.

        Raises: QuoteNotFound, EtagMismatch, IllegalState.
        """
        return self._calls.write(self._stub.ExpireQuote, ExpireQuoteRequest(name=name, etag=etag), **options)
