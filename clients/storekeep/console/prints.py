"""Orders on paper: the delivery note of an order, or of one of its fulfilments, and the invoice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from storekeep.console.orders import READ, find_customer, get_name
from storekeep.console.rendering import get_state
from storekeep.console.requests import Reply, Request, Route

ORDER_VOID: Mapping[str, str] = {
    "CANCELLED": "The order was cancelled. Nothing is shipped, and nothing is owed.",
    "EXPIRED": "The order expired. Nothing is shipped, and nothing is owed.",
}
"""Why the papers of an order are void, by its state."""
FULFILLMENT_VOID: Mapping[str, str] = {
    "CANCELLED": "The fulfilment was cancelled. Do not ship it.",
    "RESTOCKED": "The fulfilment was taken back. Its units are in stock again.",
}
"""Why the delivery note of a fulfilment is void, by its state."""


def print_delivery_note(request: Request) -> Reply:
    """Show the delivery note of an order, or of the fulfilment in the query. Raises: StorekeepError."""
    client, name = request.session.client, get_name(request)
    order, fulfillment = client.orders.get(name), None
    units = {line.line_number: line.quantity - line.cancelled_quantity for line in order.lines}
    if key := request.query["fulfillment"]:
        fulfillment = client.fulfillments.get(f"{name}/fulfillments/{key}")
        units = {line.line_number: line.quantity for line in fulfillment.lines}
    void = ORDER_VOID.get(get_state(order.state, "OrderState"), "")
    if fulfillment is not None:
        void = FULFILLMENT_VOID.get(get_state(fulfillment.state, "FulfillmentState"), void)
    return request.page(
        "order-print.html",
        title=f"{'Void: delivery' if void else 'Delivery'} note {order.number}",
        void=void,
        order=order,
        customer=find_customer(request, order),
        fulfillment=fulfillment,
        lines=[(line, units[line.line_number]) for line in order.lines if units.get(line.line_number)],
    )


def print_invoice(seller: Sequence[str], request: Request) -> Reply:
    """Show the invoice of an order. Its date of issue is that of the print, which shows the order as it is then.

    Args:
        seller: name, address and tax number of the shop, one line each.

    Raises: OrderNotFound.
    """
    client = request.session.client
    order = client.orders.get(get_name(request))
    void = ORDER_VOID.get(get_state(order.state, "OrderState"), "")
    return request.page(
        "order-invoice.html",
        title=f"{'Void: invoice' if void else 'Invoice'} {order.number}",
        void=void,
        order=order,
        customer=find_customer(request, order),
        issued=datetime.now(UTC),
        seller=seller,
        lines=[line for line in order.lines if line.quantity > line.cancelled_quantity],
    )


def make_routes(seller: Sequence[str]) -> tuple[Route, ...]:
    """Return the routes of a shop.

    Args:
        seller: name, address and tax number of the shop, one line each.
    """
    return (
        Route("GET", "/orders/{order}/print", print_delivery_note, READ),
        Route("GET", "/orders/{order}/invoice", partial(print_invoice, seller), READ),
    )
