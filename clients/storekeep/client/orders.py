"""Orders, with their edits, notes and history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Unpack

import grpc
from google.type.money_pb2 import Money

from storekeep.client.calls import CallOptions, Calls, GetOptions, ReadOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.order_lines import build_lines
from storekeep.client.pages import Listing, PageQuery, Query, build_query
from storekeep.client.times import to_timestamp
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
    OrderTaxExemption,
    PlaceOrderLine,
    PlaceOrderRequest,
    PreviewOrderEditRequest,
    QuoteOrderRequest,
    QuoteOrderResponse,
    ResumeOrderRequest,
    SearchOrdersRequest,
    TakenUnits,
    UpdateOrderRequest,
)
from storekeep.v1.orders_pb2_grpc import OrderServiceStub
from storekeep.v1.pricing_pb2 import Promotion


class Orders:
    """Places, reads, searches and changes orders."""

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
        billing_address: Address | None = None,
        email: str = "",
        phone: str = "",
        labels: Mapping[str, str] | None = None,
        ship_by_time: datetime | None = None,
        deliver_by_time: datetime | None = None,
        reservations: Iterable[str] = (),
        source: str = "",
        unique_external_reference: bool = False,
        coupon_codes: Iterable[str] = (),
        shipping_method: str = "",
        tax_address: Address | None = None,
        tax_exemption: OrderTaxExemption | None = None,
        expected_total: Money | None = None,
        quote: str = "",
        language_code: str = "",
        **options: Unpack[WriteOptions],
    ) -> Order:
        """Place an order: fix its prices and allocate its stock, all lines or none.

        Args:
            customer: name of the customer, as `customers/{customer}`.
            lines: pairs of SKU and units, such as `[("CHAI-1", 2)]`; several lines may have the same SKU.
            currency_code: ISO 4217 code of all prices of the order, such as `EUR`.
            location: name of the location to ship from (default: any).
            external_reference: your own number for the order.
            shipping: shipping cost.
            reservation: name of a reservation whose stock the order uses first.
            email: email address for this order (default: the customer's).
            phone: phone number for this order (default: the customer's).
            labels: labels for your own use.
            ship_by_time: promised time of the last shipment, with a time zone.
            deliver_by_time: promised time of delivery, with a time zone.
            reservations: names of up to 20 reservations, instead of `reservation`.
            source: the system that `external_reference` comes from, such as a marketplace.
            unique_external_reference: whether to fail if an order with the same source and reference exists.
            coupon_codes: codes of coupons, which all have to apply.
            shipping_method: name of the shipping method that sets the shipping cost.
            tax_address: address for tax (default: the shipping address, or else the billing address).
            tax_exemption: why the order pays no tax (default: none).
            expected_total: the total that the customer was shown; the call fails if it has changed.
            quote: name of a sent quote, whose prices the order has; it must have this customer, lines and currency.
            language_code: language of the order, such as `de` (default: the customer's, or else the server's).

        Raises: UnknownCurrency, QuoteNotFound, CustomerNotFound, LocationNotFound, ResourceDeleted, SkuNotFound,
        NotForSale, CurrencyMismatch, QuantityNotAllowed, InvalidAmount, CouponNotApplicable (names the code),
        PriceChanged (names both totals), ReferenceTaken (names the order), ReservationNotFound, IllegalState,
        OutOfStock (names them).
        """
        request = PlaceOrderRequest(
            customer=customer,
            lines=build_lines(lines, PlaceOrderLine),
            currency_code=currency_code,
            location=location,
            shipping_address=shipping_address,
            external_reference=external_reference,
            note=note,
            shipping=shipping,
            reservation=reservation,
            billing_address=billing_address,
            email=email,
            phone=phone,
            labels=labels or {},
            ship_by_time=to_timestamp(ship_by_time),
            deliver_by_time=to_timestamp(deliver_by_time),
            reservations=reservations,
            source=source,
            unique_external_reference=unique_external_reference,
            coupon_codes=coupon_codes,
            shipping_method=shipping_method,
            tax_address=tax_address,
            tax_exemption=tax_exemption,
            expected_total=expected_total,
            quote=quote,
            language_code=language_code,
        )
        return self._calls.write(self._stub.PlaceOrder, request, **options)

    def quote(
        self,
        *,
        lines: Iterable[tuple[str, int]],
        currency_code: str,
        customer: str = "",
        shipping_address: Address | None = None,
        billing_address: Address | None = None,
        shipping: Money | None = None,
        coupon_codes: Iterable[str] = (),
        shipping_method: str = "",
        tax_address: Address | None = None,
        tax_exemption: OrderTaxExemption | None = None,
        language_code: str = "",
        draft_promotion: Promotion | None = None,
        **options: Unpack[ReadOptions],
    ) -> QuoteOrderResponse:
        """Return what an order would cost now, and write nothing.

        Args:
            lines: pairs of SKU and units, such as `[("CHAI-1", 2)]`; several lines may have the same SKU.
            currency_code: ISO 4217 code of all prices, such as `EUR`.
            customer: name of the customer (default: nobody).
            shipping: shipping cost (default: that of the shipping method).
            coupon_codes: codes of coupons; those that do not apply are in `refused_codes` of the reply.
            shipping_method: name of the shipping method that sets the shipping cost.
            tax_address: address for tax (default: the shipping address, or else the billing address).
            tax_exemption: why the order pays no tax (default: none).
            language_code: language of the names of lines, such as `de` (default: the customer's, or else the server's).
            draft_promotion: a promotion that applies as if it was active, stored or not.

        Raises: UnknownCurrency, CustomerNotFound, ResourceDeleted, SkuNotFound, NotForSale, CurrencyMismatch,
        InvalidAmount.
        """
        request = QuoteOrderRequest(
            lines=build_lines(lines, PlaceOrderLine),
            currency_code=currency_code,
            customer=customer,
            shipping_address=shipping_address,
            billing_address=billing_address,
            shipping=shipping,
            coupon_codes=coupon_codes,
            shipping_method=shipping_method,
            tax_address=tax_address,
            tax_exemption=tax_exemption,
            language_code=language_code,
            draft_promotion=draft_promotion,
        )
        return self._calls.read(self._stub.QuoteOrder, request, **options)

    def get(self, name: str, **options: Unpack[GetOptions]) -> Order:
        """Get one order by its resource name. Find it by its number with `list(filter='number = "SK-00000001"')`.

        Raises: OrderNotFound.
        """
        return self._calls.get(self._stub.GetOrder, GetOrderRequest(name=name), **options)

    def list(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[Query]
    ) -> Listing[Order]:
        """List orders; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListOrdersRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListOrders,
            request,
            items=lambda page: page.orders,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def search(
        self,
        query: str,
        *,
        page_size: int = 0,
        read_mask: Iterable[str] = (),
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
    ) -> Listing[Order]:
        """Search orders by the beginning of their number or external reference, or by words of their customer.

        Digits alone also find the order number with these digits. Customers are searched if you may read customers.
        `page_size` is at most 100; 20 when 0.

        Raises: InvalidPageToken.
        """
        request = SearchOrdersRequest(query=query, page_size=page_size, read_mask=build_field_mask(read_mask))
        return self._calls.list_pages(
            self._stub.SearchOrders,
            request,
            items=lambda page: page.orders,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def batch_get(self, names: Iterable[str], **options: Unpack[GetOptions]) -> Sequence[Order]:
        """Get up to 500 orders from one snapshot, in the order of `names`; fail if one is missing.

        Raises: OrderNotFound.
        """
        request = BatchGetOrdersRequest(names=names)
        return self._calls.get(self._stub.BatchGetOrders, request, **options).orders

    def update(
        self, order: Order, *, update_mask: Iterable[str] = (), reason: str = "", **options: Unpack[WriteOptions]
    ) -> Order:
        """Update an order: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one. `reason` is recorded in
        the history.

        Raises: InvalidUpdateMask, UnknownCurrency, OrderNotFound, EtagMismatch, FieldNotChangeable (names the field
        and the state), CurrencyMismatch, InvalidAmount, ReferenceTaken.
        """
        request = UpdateOrderRequest(order=order, update_mask=build_field_mask(update_mask), reason=reason)
        return self._calls.write(self._stub.UpdateOrder, request, **options)

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
        self,
        name: str,
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[PageQuery],
    ) -> Listing[OrderNote]:
        """List the notes of an order, or of all orders (`orders/-`), oldest first.

        Raises: OrderNotFound, InvalidPageToken.
        """
        return self._calls.list_pages(
            self._stub.ListOrderNotes,
            ListOrderNotesRequest(parent=name, **build_query(query)),
            items=lambda page: page.notes,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def list_history(
        self,
        name: str,
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[PageQuery],
    ) -> Listing[OrderHistoryEntry]:
        """List the changes of an order, oldest first.

        Raises: OrderNotFound, InvalidPageToken.
        """
        request = ListOrderHistoryRequest(name=name, **build_query(query))
        return self._calls.list_pages(
            self._stub.ListOrderHistory,
            request,
            items=lambda page: page.entries,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def import_orders(
        self,
        orders: Iterable[HistoricOrder],
        *,
        taken_units: Iterable[TakenUnits] = (),
        **options: Unpack[WriteOptions],
    ) -> Sequence[OrderImportResult]:
        """Import up to 100 historic orders of up to 1,000 lines in total. A rejected order does not affect the others.

        Args:
            taken_units: For a dry run in several calls, the `taken_units` of the results of earlier calls.

        Returns: the outcome of each order, in the order of `orders`.
        """
        request = ImportOrdersRequest(orders=orders, taken_units=taken_units)
        return self._calls.write(self._stub.ImportOrders, request, **options).results


def _build_edit(add: Iterable[tuple[str, int]], change: Mapping[int, int] | None, remove: Iterable[int]) -> OrderEdit:
    return OrderEdit(
        added_lines=build_lines(add, PlaceOrderLine),
        changed_lines=[
            OrderLineQuantity(line_number=number, quantity=quantity) for number, quantity in (change or {}).items()
        ],
        removed_lines=remove,
    )
