"""Delivery notes: how an order reads on a terminal: where it goes, what was shipped and is open, what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from storekeep.cli.cells import amount, cell
from storekeep.cli.screens import Screen
from storekeep.client import Fulfillment, Listing, Order, OrderLine, OrderNote

FULFILLMENT_COLUMNS = ("fulfillment", "state", "from", "lines", "carrier", "tracking", "shipped", "delivered")
NOTE_COLUMNS = ("create_time", "actor", "content")


def show_order(screen: Screen, order: Order) -> None:
    """Show an order: for programs as it is, for people as a delivery note."""
    if screen.as_json:
        screen.show_message(order)
        return
    screen.show_facts(_head(order))
    _show_lines(screen, order)
    screen.show_facts(_totals(order))


def show_deliveries(screen: Screen, fulfillments: Sequence[Fulfillment]) -> None:
    """Show the fulfilments of an order, where there are any."""
    if fulfillments:
        screen.show_rows([_delivery(one) for one in fulfillments], columns=FULFILLMENT_COLUMNS)


def show_notes(screen: Screen, notes: Listing[OrderNote]) -> None:
    """Show what was noted about an order, where there is anything."""
    rows = [tuple(cell(note, column) for column in NOTE_COLUMNS) for note in notes]
    if rows:
        screen.show_rows(rows, columns=NOTE_COLUMNS)


def _head(order: Order) -> Iterable[tuple[str, str]]:
    yield "order", order.number
    yield "name", order.name
    yield "state", cell(order, "state") + (", held" if order.held else "")
    yield "held because", order.hold_reason
    yield "cancelled because", order.cancel_reason
    yield "customer", order.customer
    yield "placed", cell(order, "create_time")
    yield "expires", cell(order, "expire_time")
    yield "reference", order.external_reference
    yield "sent to", cell(order, "shipping_address")
    yield "sent from", order.location
    yield "note", order.note
    yield "etag", order.etag


def _show_lines(screen: Screen, order: Order) -> None:
    """The lines; columns that say nothing of any line are left out."""
    optional = {
        "cancelled": any(line.cancelled_quantity for line in order.lines),
        "returned": any(line.returned_quantity for line in order.lines),
        "discount": any(line.HasField("discount") for line in order.lines),
    }
    rows = [_line(line) for line in order.lines]
    columns = [column for column in rows[0] if optional.get(column, True)] if rows else []
    screen.show_rows([[row[column] for column in columns] for row in rows], columns=columns)


def _line(line: OrderLine) -> dict[str, str]:
    return {
        "line": str(line.line_number),
        "sku": line.sku,
        "name": line.display_name,
        "ordered": str(line.quantity),
        "shipped": str(line.fulfilled_quantity),
        "open": str(line.open_quantity),
        "cancelled": str(line.cancelled_quantity),
        "returned": str(line.returned_quantity),
        "unit_price": amount(line.unit_price),
        "discount": cell(line, "discount"),
        "total": amount(line.total),
    }


def _totals(order: Order) -> Iterable[tuple[str, str]]:
    yield "shipping", cell(order, "shipping")
    yield "total", amount(order.total)


def _delivery(fulfillment: Fulfillment) -> tuple[str, ...]:
    return (
        fulfillment.name.rpartition("/")[2],
        cell(fulfillment, "state"),
        fulfillment.location.rpartition("/")[2],
        "\n".join(f"{line.line_number}: {line.quantity} x {line.sku}" for line in fulfillment.lines),
        fulfillment.carrier,
        fulfillment.tracking_number,
        cell(fulfillment, "ship_time"),
        cell(fulfillment, "deliver_time"),
    )
