"""Orders: placed, confirmed, cancelled, and how each came to be."""

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
    """Places, gets, lists and moves on orders."""

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
        """Place an order: freeze its prices and take its stock, all lines or none.

        `lines` are pairs of SKU and units; two may name the same SKU. `location` is where the stock is taken from; the
        server chooses when it is empty. `reservation` is one whose stock the order takes first, `shipping` what
        sending it costs.

        Raises: UnknownCurrency, CustomerNotFound, LocationNotFound, ResourceDeleted, SkuNotFound, NotForSale,
        CurrencyMismatch, InvalidAmount, ReservationNotFound, IllegalState, OutOfStock (names each short SKU).
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
        """List orders, fetching page after page as they are read.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListOrdersRequest(**query)
        return self._calls.listing(
            self._stub.ListOrders,
            request,
            items=lambda page: page.orders,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def batch_get(self, names: Iterable[str], **options: Unpack[ReadOptions]) -> Sequence[Order]:
        """Get up to 500 orders at one point in time, all or none, in the order of the names.

        Raises: OrderNotFound.
        """
        request = BatchGetOrdersRequest(names=names)
        return self._calls.read(self._stub.BatchGetOrders, request, **options).orders

    def confirm(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Order:
        """Agree to deliver a placed order. From then on it does not expire.

        Raises: OrderNotFound, EtagMismatch, IllegalState, OrderHeld.
        """
        return self._calls.write(self._stub.ConfirmOrder, ConfirmOrderRequest(name=name, etag=etag), **options)

    def cancel(self, name: str, *, reason: str = "", etag: str = "", **options: Unpack[WriteOptions]) -> Order:
        """Call an order off of which nothing was shipped, and give its stock back.

        Pending fulfilments are cancelled with it. `reason` is for whoever reads the history.

        Raises: OrderNotFound, EtagMismatch, IllegalState.
        """
        request = CancelOrderRequest(name=name, reason=reason, etag=etag)
        return self._calls.write(self._stub.CancelOrder, request, **options)

    def cancel_lines(
        self, name: str, units: Mapping[int, int], *, reason: str = "", etag: str = "", **options: Unpack[WriteOptions]
    ) -> Order:
        """Call off units of some lines and give their stock back.

        `units` is line number -> units; 0 for all that are open and bound to no fulfilment.

        Raises: OrderNotFound, EtagMismatch, IllegalState, OrderLineNotFound, UnitsNotOpen.
        """
        lines = [OrderLineUnits(line_number=number, quantity=quantity) for number, quantity in units.items()]
        request = CancelOrderLinesRequest(name=name, lines=lines, reason=reason, etag=etag)
        return self._calls.write(self._stub.CancelOrderLines, request, **options)

    def hold(self, name: str, *, reason: str = "", etag: str = "", **options: Unpack[WriteOptions]) -> Order:
        """Keep an order from being confirmed, fulfilled, shipped and completed, until it is resumed.

        Raises: OrderNotFound, EtagMismatch, IllegalState, OrderHeld.
        """
        request = HoldOrderRequest(name=name, reason=reason, etag=etag)
        return self._calls.write(self._stub.HoldOrder, request, **options)

    def resume(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Order:
        """Let a held order go on.

        Raises: OrderNotFound, EtagMismatch, OrderNotHeld.
        """
        return self._calls.write(self._stub.ResumeOrder, ResumeOrderRequest(name=name, etag=etag), **options)

    def complete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Order:
        """Close an order of which nothing is to be delivered any more.

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
        """Say what an order would be after an edit: the answer of `apply_edit`, of which nothing is kept.

        Raises: OrderNotFound, EtagMismatch, IllegalState, OrderLineNotFound, SkuNotFound, NotForSale,
        CurrencyMismatch, InvalidAmount, UnitsNotOpen, OutOfStock.
        """
        request = PreviewOrderEditRequest(name=name, edit=_edit(add, change, remove), etag=etag)
        return self._calls.ask(self._stub.PreviewOrderEdit, request, **options)

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

        `add` are pairs of SKU and units, at the price of now; `change` is line number -> units that shall be ordered,
        without the cancelled ones; `remove` are numbers of lines.

        Raises: OrderNotFound, EtagMismatch, IllegalState, OrderLineNotFound, SkuNotFound, NotForSale,
        CurrencyMismatch, InvalidAmount, UnitsNotOpen, OutOfStock.
        """
        request = ApplyOrderEditRequest(name=name, edit=_edit(add, change, remove), reason=reason, etag=etag)
        return self._calls.write(self._stub.ApplyOrderEdit, request, **options)

    def add_note(self, name: str, content: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> OrderNote:
        """Write a note about an order, for colleagues.

        Raises: OrderNotFound, EtagMismatch.
        """
        request = AddOrderNoteRequest(parent=name, content=content, etag=etag)
        return self._calls.write(self._stub.AddOrderNote, request, **options)

    def list_notes(
        self, name: str, *, page_size: int = 0, timeout_s: float | None = None, max_staleness_s: float | None = None
    ) -> Listing[OrderNote]:
        """List what was noted about an order, oldest first.

        Raises: OrderNotFound, InvalidPageToken.
        """
        return self._calls.listing(
            self._stub.ListOrderNotes,
            ListOrderNotesRequest(parent=name, page_size=page_size),
            items=lambda page: page.notes,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def list_history(
        self, name: str, *, page_size: int = 0, timeout_s: float | None = None, max_staleness_s: float | None = None
    ) -> Listing[OrderHistoryEntry]:
        """List how an order came to be what it is, oldest change first.

        Raises: OrderNotFound, InvalidPageToken.
        """
        request = ListOrderHistoryRequest(name=name, page_size=page_size)
        return self._calls.listing(
            self._stub.ListOrderHistory,
            request,
            items=lambda page: page.entries,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def import_orders(
        self, orders: Iterable[HistoricOrder], **options: Unpack[WriteOptions]
    ) -> Sequence[OrderImportResult]:
        """Import up to 100 historic orders of up to 1,000 lines together; one that is refused stops no other.

        Returns: what became of each, in the order of `orders`.
        """
        return self._calls.write(self._stub.ImportOrders, ImportOrdersRequest(orders=orders), **options).results


def _edit(add: Iterable[tuple[str, int]], change: Mapping[int, int] | None, remove: Iterable[int]) -> OrderEdit:
    return OrderEdit(
        added_lines=[PlaceOrderLine(sku=sku, quantity=quantity) for sku, quantity in add],
        changed_lines=[
            OrderLineQuantity(line_number=number, quantity=quantity) for number, quantity in (change or {}).items()
        ],
        removed_lines=remove,
    )
