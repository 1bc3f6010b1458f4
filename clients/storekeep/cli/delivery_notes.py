"""Orders as delivery notes: address, units ordered, shipped and open, and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from storekeep.cli.cells import format_amount, format_cell
from storekeep.cli.receipts import list_price_facts
from storekeep.cli.screens import Screen
from storekeep.cli.sessions import Session
from storekeep.client import (
    Fulfillment,
    Listing,
    Order,
    OrderLine,
    OrderNote,
    OrderState,
    PermissionDenied,
    StorekeepError,
)
from storekeep.client.names import quote_text

FULFILLMENT_COLUMNS = ("fulfillment", "state", "shipped", "from", "lines", "carrier", "tracking", "delivered")
MOVEMENTS_MAX = 1_000
"""Maximum number of stock movements to read of an order."""
NOTE_COLUMNS = ("create_time", "actor", "content")


def show_order(session: Session, order: Order) -> None:
    """Show an order as a delivery note, or as it is in other formats.

    The order may have just been changed, so that a failure of what is read in addition is only a notice.
    """
    screen = session.screen
    if not screen.has_default_layout:
        screen.show_message(order)
        return
    locations = [] if session.dry_run else _list_locations(session, order)
    screen.show_facts(_list_header_facts(order, locations))
    _show_lines(screen, order)
    screen.show_facts(_list_total_facts(order))


def show_deliveries(screen: Screen, fulfillments: Sequence[Fulfillment]) -> None:
    """Show the fulfilments of an order, if any."""
    if fulfillments:
        screen.show_rows([_build_fulfillment_row(one) for one in fulfillments], columns=FULFILLMENT_COLUMNS)


def show_notes(screen: Screen, notes: Listing[OrderNote]) -> None:
    """Show the notes of an order, if any."""
    rows = [tuple(format_cell(note, column) for column in NOTE_COLUMNS) for note in notes]
    if rows:
        screen.show_rows(rows, columns=NOTE_COLUMNS)


def _list_locations(session: Session, order: Order) -> list[str]:
    """Return the locations where units of an order are allocated: the `location` of an order is only the requested one.

    It is empty for callers who may not read stock, for orders with more movements than MOVEMENTS_MAX, and after a
    notice if the movements cannot be read.
    """
    listing = session.client.inventory.list_stock_movements(
        filter=f"source = {quote_text(order.name)}", page_size=MOVEMENTS_MAX
    )
    try:
        page = listing.page()
    except PermissionDenied:
        return []
    except (StorekeepError, OSError) as error:
        session.screen.show_notice(f"Where it ships from is not shown: {error}")
        return []
    allocated: Counter[str] = Counter()
    for movement in page.items:
        allocated[movement.stock_level.partition("/stockLevels/")[0]] += movement.allocated_delta
    return [] if page.next_page_token else sorted(name for name, units in allocated.items() if units > 0)


def _list_header_facts(order: Order, locations: Sequence[str]) -> Iterable[tuple[str, str]]:
    yield "order", order.number
    yield "name", order.name
    yield "state", format_cell(order, "state")
    yield "hold reason", order.hold_reason
    yield "cancel reason", order.cancel_reason
    yield "customer", order.customer
    yield "email", order.email
    yield "phone", order.phone
    yield "language", order.language_code
    yield "placed", format_cell(order, "create_time")
    yield "expires", format_cell(order, "expire_time") if order.state == OrderState.ORDER_STATE_PLACED else ""
    yield "source", order.source
    yield "reference", order.external_reference
    yield "ship to", format_cell(order, "shipping_address")
    yield "bill to", format_cell(order, "billing_address")
    yield "ship from", ", ".join(locations)
    yield "ship by", format_cell(order, "ship_by_time")
    yield "deliver by", format_cell(order, "deliver_by_time")
    yield "note", order.note
    yield "labels", format_cell(order, "labels")
    yield "etag", order.etag


def _show_lines(screen: Screen, order: Order) -> None:
    """Show the lines, without columns that are empty for all of them."""
    optional = {
        "cancelled": any(line.cancelled_quantity for line in order.lines),
        "returned": any(line.returned_quantity for line in order.lines),
        "discount": any(line.HasField("discount") for line in order.lines),
    }
    rows = [_build_line_row(line) for line in order.lines]
    columns = [column for column in rows[0] if optional.get(column, True)] if rows else []
    screen.show_rows([[row[column] for column in columns] for row in rows], columns=columns)


def _build_line_row(line: OrderLine) -> dict[str, str]:
    return {
        "line": str(line.line_number),
        "sku": line.sku,
        "display_name": line.display_name,
        "ordered": str(line.quantity),
        "shipped": str(line.fulfilled_quantity),
        "open": str(line.open_quantity),
        "cancelled": str(line.cancelled_quantity),
        "returned": str(line.returned_quantity),
        "unit_price": format_amount(line.unit_price),
        "discount": format_cell(line, "discount"),
        "total": format_amount(line.total),
    }


def _list_total_facts(order: Order) -> Iterable[tuple[str, str]]:
    if order.HasField("price_details"):
        yield from list_price_facts(order.price_details)
        return
    yield "shipping", format_cell(order, "shipping")
    yield "total", format_amount(order.total)


def _build_fulfillment_row(fulfillment: Fulfillment) -> tuple[str, ...]:
    return (
        fulfillment.name.rpartition("/")[2],
        format_cell(fulfillment, "state"),
        format_cell(fulfillment, "ship_time"),
        fulfillment.location.rpartition("/")[2],
        "\n".join(f"{line.line_number}: {line.quantity} x {line.sku}" for line in fulfillment.lines),
        fulfillment.carrier,
        "\n".join(parcel.tracking_number for parcel in fulfillment.parcels),
        format_cell(fulfillment, "deliver_time"),
    )
