"""Orders, with their edits, notes and history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Unpack

import grpc
from google.type.money_pb2 import Money

from storekeep.client.calls import CallOptions, Calls, ReadOptions, WriteOptions
from storekeep.client.pages import Listing, Query
from storekeep.v1.addresses_pb2 import Address
from storekeep.v1.orders_pb2 import (
    AddOrderNoteRequest,
    ApplyOrderEditRequest,
    BatchGetOrdersRequest,
    CancelOrderLinesRequest,
    CancelOrderRequest,
    CompleteOrderRequest,
    ConfirmOrderRequest,
    GetOrderRequest,
    HistoricOrder,
    HoldOrderRequest,
    ImportOrdersRequest,
    ListOrderHistoryRequest,
    ListOrderNotesRequest,
    ListOrdersRequest,
    Order,
    OrderEdit,
    OrderHistoryEntry,
    OrderImportResult,
    OrderLineQuantity,
    OrderLineUnits,
    OrderNote,
    PlaceOrderLine,
    PlaceOrderRequest,
    PreviewOrderEditRequest,
    ResumeOrderRequest,
)
from storekeep.v1.orders_pb2_grpc import OrderServiceStub


class Orders:
    """Places, reads and changes orders."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = OrderServiceStub(channel)

    def place(
        self,
        *,
        customer: str,
        lines: Iterable[tuple[str, int]],
        currency_code: str,
        location: str = "",
        shipping_address: Address | None = None,
        external_reference: str = "",
        note: str = "",
        shipping: Money | None = None,
        reservation: str = "",
        **options: Unpack[WriteOptions],
    ) -> Order:
        """Place an order: fix its prices and allocate its stock, all lines or none.

        Args:
            customer: name of the customer, as `customers/{customer}`.
            lines: pairs of SKU and units; several lines may have the same SKU.
            currency_code: ISO 4217 code of all prices of the order, such as `EUR`.
            location: name of the location to ship from (default: any).
            external_reference: your own number for the order.
            shipping: shipping cost.
            reservation: name of a reservation whose stock the order uses first.

        Raises: UnknownCurrency, CustomerNotFound, LocationNotFound, ResourceDeleted, SkuNotFound, NotForSale,
        CurrencyMismatch, QuantityNotAllowed, InvalidAmount, ReservationNotFound, IllegalState, OutOfStock.
        """
        request = PlaceOrderRequest(
            customer=customer,
            lines=[PlaceOrderLine(sku=sku, quantity=quantity) for sku, quantity in lines],
            currency_code=currency_code,
            location=location,
            shipping_address=shipping_address,
            external_reference=external_reference,
            note=note,
            shipping=shipping,
            reservation=reservation,
        )
        return self._calls.write(self._stub.PlaceOrder, request, **options)

    def get(self, name: str, **options: Unpack[ReadOptions]) -> Order:
        """Get one order.

        Raises: OrderNotFound.
        """
        return self._calls.read(self._stub.GetOrder, GetOrderRequest(name=name), **options)

    def list(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[Query]
    ) -> Listing[Order]:
        """List orders; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListOrdersRequest(**query)
        return self._calls.list_pages(
            self._stub.ListOrders,
            request,
            items=lambda page: page.orders,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def batch_get(self, names: Iterable[str], **options: Unpack[ReadOptions]) -> Sequence[Order]:
        """Get up to 500 orders from one snapshot, in the order of `names`; fail if one is missing.

        Raises: OrderNotFound.
        """
        request = BatchGetOrdersRequest(names=names)
        return self._calls.read(self._stub.BatchGetOrders, request, **options).orders

    def confirm(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Order:
        """Confirm a placed order. A confirmed order does not expire.

        Raises: OrderNotFound, EtagMismatch, IllegalState, OrderHeld.
        """
        return self._calls.write(self._stub.ConfirmOrder, ConfirmOrderRequest(name=name, etag=etag), **options)

    def cancel(self, name: str, *, reason: str = "", etag: str = "", **options: Unpack[WriteOptions]) -> Order:
        """Cancel an order with no shipped units and release its stock.

        Its pending fulfilments are cancelled too. `reason` is recorded in the history.

        Raises: OrderNotFound, EtagMismatch, IllegalState.
        """
        request = CancelOrderRequest(name=name, reason=reason, etag=etag)
        return self._calls.write(self._stub.CancelOrder, request, **options)

    def cancel_lines(
        self, name: str, units: Mapping[int, int], *, reason: str = "", etag: str = "", **options: Unpack[WriteOptions]
    ) -> Order:
        """Cancel units of order lines and release their stock.

        `units` maps line numbers to units; 0 means all open units of the line that are in no fulfilment.

        Raises: OrderNotFound, EtagMismatch, IllegalState, OrderLineNotFound, UnitsNotOpen.
        """
        lines = [OrderLineUnits(line_number=number, quantity=quantity) for number, quantity in units.items()]
        request = CancelOrderLinesRequest(name=name, lines=lines, reason=reason, etag=etag)
        return self._calls.write(self._stub.CancelOrderLines, request, **options)

    def hold(self, name: str, *, reason: str = "", etag: str = "", **options: Unpack[WriteOptions]) -> Order:
        """Hold an order: it cannot be confirmed, fulfilled, shipped or completed until it is resumed.

        Raises: OrderNotFound, EtagMismatch, IllegalState, OrderHeld.
        """
        request = HoldOrderRequest(name=name, reason=reason, etag=etag)
        return self._calls.write(self._stub.HoldOrder, request, **options)

    def resume(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Order:
        """Resume a held order.

        Raises: OrderNotFound, EtagMismatch, OrderNotHeld.
        """
        return self._calls.write(self._stub.ResumeOrder, ResumeOrderRequest(name=name, etag=etag), **options)

    def complete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Order:
        """Complete an order that has nothing left to deliver.

        Raises: OrderNotFound, EtagMismatch, IllegalState, OrderHeld.
        """
        return self._calls.write(self._stub.CompleteOrder, CompleteOrderRequest(name=name, etag=etag), **options)

    def preview_edit(
        self,
        name: str,
        *,
        add: Iterable[tuple[str, int]] = (),
        change: Mapping[int, int] | None = None,
        remove: Iterable[int] = (),
        etag: str = "",
        **options: Unpack[CallOptions],
    ) -> Order:
        """Return the order that `apply_edit` would return, without changing anything. The arguments are the same.

        Raises: OrderNotFound, EtagMismatch, IllegalState, OrderLineNotFound, SkuNotFound, NotForSale,
        CurrencyMismatch, QuantityNotAllowed, InvalidAmount, UnitsNotOpen, OutOfStock.
        """
        request = PreviewOrderEditRequest(name=name, edit=_build_edit(add, change, remove), etag=etag)
        return self._calls.read_current(self._stub.PreviewOrderEdit, request, **options)

    def apply_edit(
        self,
        name: str,
        *,
        add: Iterable[tuple[str, int]] = (),
        change: Mapping[int, int] | None = None,
        remove: Iterable[int] = (),
        reason: str = "",
        etag: str = "",
        **options: Unpack[WriteOptions],
    ) -> Order:
        """Edit the lines of an order that is PLACED or CONFIRMED, all changes or none.

        Args:
            add: new lines, as pairs of SKU and units, at the current price.
            change: new quantities in units by line number, without cancelled units.
            remove: numbers of the lines to remove.
            reason: text for the history.

        Raises: OrderNotFound, EtagMismatch, IllegalState, OrderLineNotFound, SkuNotFound, NotForSale,
        CurrencyMismatch, QuantityNotAllowed, InvalidAmount, UnitsNotOpen, OutOfStock.
        """
        request = ApplyOrderEditRequest(name=name, edit=_build_edit(add, change, remove), reason=reason, etag=etag)
        return self._calls.write(self._stub.ApplyOrderEdit, request, **options)

    def add_note(self, name: str, content: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> OrderNote:
        """Add an internal note to an order.

        Raises: OrderNotFound, EtagMismatch.
        """
        request = AddOrderNoteRequest(parent=name, content=content, etag=etag)
        return self._calls.write(self._stub.AddOrderNote, request, **options)

    def list_notes(
        self, name: str, *, page_size: int = 0, timeout_s: float | None = None, max_staleness_s: float | None = None
    ) -> Listing[OrderNote]:
        """List the notes of an order, oldest first.

        Raises: OrderNotFound, InvalidPageToken.
        """
        return self._calls.list_pages(
            self._stub.ListOrderNotes,
            ListOrderNotesRequest(parent=name, page_size=page_size),
            items=lambda page: page.notes,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def list_history(
        self, name: str, *, page_size: int = 0, timeout_s: float | None = None, max_staleness_s: float | None = None
    ) -> Listing[OrderHistoryEntry]:
        """List the changes of an order, oldest first.

        Raises: OrderNotFound, InvalidPageToken.
        """
        request = ListOrderHistoryRequest(name=name, page_size=page_size)
        return self._calls.list_pages(
            self._stub.ListOrderHistory,
            request,
            items=lambda page: page.entries,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def import_orders(
        self, orders: Iterable[HistoricOrder], **options: Unpack[WriteOptions]
    ) -> Sequence[OrderImportResult]:
        """Import up to 100 historic orders of up to 1,000 lines in total. A rejected order does not affect the others.

        Returns: the outcome of each order, in the order of `orders`.
        """
        return self._calls.write(self._stub.ImportOrders, ImportOrdersRequest(orders=orders), **options).results


def _build_edit(add: Iterable[tuple[str, int]], change: Mapping[int, int] | None, remove: Iterable[int]) -> OrderEdit:
    return OrderEdit(
        added_lines=[PlaceOrderLine(sku=sku, quantity=quantity) for sku, quantity in add],
        changed_lines=[
            OrderLineQuantity(line_number=number, quantity=quantity) for number, quantity in (change or {}).items()
        ],
        removed_lines=remove,
    )
