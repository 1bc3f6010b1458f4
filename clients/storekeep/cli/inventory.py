"""`storekeep stock`: stock levels and the stock ledger."""

from __future__ import annotations

from enum import StrEnum
from itertools import islice
from typing import Annotated

import typer

from storekeep.cli.changes import build_update
from storekeep.cli.commands import (
    LIMIT,
    Etag,
    Limit,
    OrderBy,
    Total,
    command,
    join_filters,
    make_filter_option,
    new_group,
)
from storekeep.cli.exits import Exit
from storekeep.cli.outputs import check_columns, parse_columns
from storekeep.cli.pairs import parse_order_lines
from storekeep.cli.sessions import Session, compute_page_size
from storekeep.cli.times import Since, build_since_filter
from storekeep.cli.variants import find_variant_name
from storekeep.client import StockDifference, StockLevel, StockMovementCause
from storekeep.client.names import MAIN_LOCATION, quote_text, to_location_name, to_stock_level_name

LEVEL_COLUMNS = ("sku", "name", "on_hand", "reserved", "allocated", "available", "update_time")
MOVEMENT_COLUMNS = (
    "create_time",
    "stock_level",
    "cause",
    "quantity_delta",
    "reserved_delta",
    "allocated_delta",
    "on_hand",
    "source",
    "reason",
    "actor",
)
LAST_COLUMNS = ("create_time", "cause", "quantity_delta", "reserved_delta", "allocated_delta", "source", "reason")
DIFFERENCE_COLUMNS = ("stock_level", "kind", "source", "line_number", "recorded", "expected", "repairable")
AVAILABILITY_COLUMNS = ("sku", "available", "for_sale")
LevelFilter = Annotated[str, make_filter_option("available < 5", 'sku = "CHAI*"')]
MovementFilter = Annotated[
    str, make_filter_option("cause = WRITE_OFF", "actor = serviceAccounts/admin", 'source = "orders*"')
]
UNITS_MAX = 10**9
"""Maximum units in the contract."""

Sku = Annotated[str, typer.Argument(metavar="SKU")]
LocationOption = Annotated[
    str | None,
    typer.Option("--location", show_default=f"that of the login, or {MAIN_LOCATION}", help="Id or full name."),
]
Reason = Annotated[str, typer.Option("--reason", help="Reason, recorded in the stock ledger.")]


class Cause(StrEnum):
    """Kind of a stock movement that an adjustment makes."""

    RECEIVE = "receive"
    ADJUST = "adjust"
    COUNT = "count"
    WRITE_OFF = "write-off"
    RETURN = "return"


def add_inventory(app: typer.Typer) -> None:
    """Add the group to the command line."""
    stock = new_group(
        app, "stock", help="Show and change stock levels; list stock movements.", example="storekeep stock show CHAI-1"
    )
    command(stock, "show", example="storekeep stock show CHAI-1")(show_stock)
    command(stock, "list", example="storekeep stock list --filter 'available < 10' --order-by available")(list_stock)
    command(stock, "check", example="storekeep stock check CHAI-1 CHAI-2")(check_stock)
    set_example = "storekeep stock set CHAI-1 40 --expect 38 --reason 'annual count'"
    command(stock, "set", example=set_example, writes=True)(set_stock)
    adjust = "storekeep stock adjust CHAI-1 --by -2 --cause write-off --reason broken"
    command(stock, "adjust", example=adjust, writes=True)(adjust_stock)
    update = "storekeep stock update CHAI-1 --safety-threshold 5 --backorder-limit 0"
    command(stock, "update", example=update, writes=True)(update_stock)
    transfer = "storekeep stock transfer CHAI-1=10 CHAI-2=4 --from main --to north --reason 'opening'"
    command(stock, "transfer", example=transfer, writes=True)(transfer_stock)
    command(stock, "low", example="storekeep stock low --at-most 5 --location main")(list_low_stock)
    command(stock, "reconcile", example="storekeep stock reconcile --repair", writes=True)(reconcile_stock)
    command(stock, "movements", example="storekeep stock movements CHAI-1 --limit 10")(list_movements)


def show_stock(
    session: Session,
    sku: Sku,
    location: Annotated[str, typer.Option("--location", help="Only this location (default: all).")] = "-",
    movements: Annotated[
        int, typer.Option("--movements", min=0, help="Number of recent movements to show, in tables.")
    ] = 10,
) -> None:
    """Show the stock of a SKU by location, and its most recent movements."""
    levels = list(
        session.client.inventory.list_stock_levels(to_location_name(location), filter=f"sku = {quote_text(sku)}")
    )
    if not levels:
        check_columns(StockLevel.DESCRIPTOR, parse_columns(session.settings.columns))
        session.check_parent(lambda: find_variant_name(session, sku))
        _check_location(session, location)
    session.screen.show_messages(levels, columns=LEVEL_COLUMNS, descriptor=StockLevel.DESCRIPTOR)
    if not levels:
        place = "" if location == "-" else f" at {to_location_name(location)}"
        session.screen.show_notice(f"No stock level exists for {sku}{place}.")
    elif movements and session.screen.has_default_layout:
        location_filter = "" if location == "-" else f"location = {quote_text(to_location_name(location))}"
        listing = session.client.inventory.list_stock_movements(
            filter=join_filters(location_filter, f"sku = {quote_text(sku)}"),
            order_by="create_time desc",
            page_size=compute_page_size(movements),
        )
        session.screen.show_messages(islice(listing, movements), columns=LAST_COLUMNS)


def _check_location(session: Session, location: str) -> None:
    """Raise an error if a location does not exist, whose list is empty; `-` is all locations.

    Raises: LocationNotFound.
    """
    if location != "-":
        session.check_parent(lambda: session.client.inventory.get_location(to_location_name(location)))


def list_stock(
    session: Session,
    location: Annotated[str, typer.Option("--location", help="Only this location (default: all).")] = "-",
    filter: LevelFilter = "",  # noqa: A002 - the name in the contract
    order_by: OrderBy = "",
    limit: Limit = LIMIT,
    total: Total = False,
) -> None:
    """List stock levels."""
    listing = session.client.inventory.list_stock_levels(
        to_location_name(location),
        filter=filter,
        order_by=order_by,
        page_size=compute_page_size(limit),
        include_total_size=total,
    )
    session.show_listing(
        listing, columns=LEVEL_COLUMNS, limit=limit, check_parent=lambda: _check_location(session, location)
    )


def check_stock(
    session: Session,
    skus: Annotated[list[str], typer.Argument(metavar="SKU...", help="Up to 500 SKUs.")],
    location: Annotated[str, typer.Option("--location", help="Only this location (default: all).")] = "",
) -> None:
    """Show the available units of each SKU."""
    location_name = to_location_name(location) if location else ""
    availabilities = session.client.inventory.check_availability(skus, location=location_name)
    session.screen.show_messages(availabilities, columns=AVAILABILITY_COLUMNS)


def set_stock(
    session: Session,
    sku: Sku,
    quantity: Annotated[int, typer.Argument(min=0, max=UNITS_MAX, help="Units on hand.")],
    location: LocationOption = None,
    expect: Annotated[
        int | None, typer.Option("--expect", min=0, max=UNITS_MAX, help="Fail unless this number of units is on hand.")
    ] = None,
    reason: Reason = "",
    backorder_shortage: Annotated[
        bool,
        typer.Option(
            "--backorder-shortage",
            help="Record a count below the reserved and allocated units; the rest is backordered.",
        ),
    ] = False,
    etag: Etag = "",
) -> None:
    """Set the units on hand, as after a stock count."""
    level = session.client.inventory.set_stock(
        to_stock_level_name(sku, location=session.choose_location(location, default=MAIN_LOCATION)),
        quantity=quantity,
        expected_quantity=expect,
        reason=reason,
        backorder_shortage=backorder_shortage,
        etag=etag,
        **session.write_options,
    )
    session.screen.show_message(level)


def adjust_stock(
    session: Session,
    sku: Sku,
    by: Annotated[int, typer.Option("--by", min=-UNITS_MAX, max=UNITS_MAX, help="Units to add; negative to remove.")],
    location: LocationOption = None,
    cause: Annotated[
        Cause, typer.Option("--cause", help="Kind of movement: receive and return add units, write-off removes them.")
    ] = Cause.ADJUST,
    reason: Reason = "",
    etag: Etag = "",
) -> None:
    """Add units to the stock on hand, or remove them."""
    level = session.client.inventory.adjust_stock(
        to_stock_level_name(sku, location=session.choose_location(location, default=MAIN_LOCATION)),
        quantity_delta=by,
        cause=StockMovementCause.Value(f"STOCK_MOVEMENT_CAUSE_{cause.name}"),
        reason=reason,
        etag=etag,
        **session.write_options,
    )
    session.screen.show_message(level)


def update_stock(
    session: Session,
    sku: Sku,
    location: LocationOption = None,
    backorder_limit: Annotated[
        int | None,
        typer.Option("--backorder-limit", min=0, max=UNITS_MAX, help="Units that may be sold beyond those on hand."),
    ] = None,
    safety_threshold: Annotated[
        int | None, typer.Option("--safety-threshold", min=0, max=UNITS_MAX, help="Units that are kept back from sale.")
    ] = None,
    low_stock_threshold: Annotated[
        int | None,
        typer.Option("--low-stock-threshold", min=0, max=UNITS_MAX, help="Units left at which the stock is low."),
    ] = None,
    etag: Etag = "",
) -> None:
    """Change the backorder limit and the thresholds of a stock level."""
    changes, mask = build_update(
        StockLevel,
        to_stock_level_name(sku, location=session.choose_location(location, default=MAIN_LOCATION)),
        etag=etag,
        backorder_limit=backorder_limit,
        safety_threshold=safety_threshold,
        low_stock_threshold=low_stock_threshold,
    )
    level = session.client.inventory.update_stock_level(changes, update_mask=mask, **session.write_options)
    session.screen.show_message(level)


def transfer_stock(
    session: Session,
    line: Annotated[list[str], typer.Argument(metavar="SKU=UNITS...", help="Units to transfer, up to 500 SKUs.")],
    source: Annotated[str, typer.Option("--from", help="Id or full name of the source location.")],
    destination: Annotated[str, typer.Option("--to", help="Id or full name of the destination.")],
    reason: Reason = "",
) -> None:
    """Transfer units from one location to another, all lines or none."""
    transfer = session.client.inventory.transfer_stock(
        source=to_location_name(source),
        destination=to_location_name(destination),
        lines=parse_order_lines(line, option=""),
        reason=reason,
        **session.write_options,
    )
    session.screen.show_messages(transfer.stock_levels, columns=LEVEL_COLUMNS)


def list_low_stock(
    session: Session,
    at_most: Annotated[
        int, typer.Option("--at-most", min=0, max=UNITS_MAX, help="Highest number of available units to list.")
    ] = 0,
    location: Annotated[str, typer.Option("--location", help="Only this location (default: all).")] = "",
    limit: Limit = LIMIT,
    total: Total = False,
) -> None:
    """List stock levels with few available units, lowest first."""
    listing = session.client.inventory.list_low_stock(
        location=to_location_name(location) if location else "",
        available_max=at_most,
        page_size=compute_page_size(limit),
        include_total_size=total,
    )
    session.show_listing(listing, columns=LEVEL_COLUMNS, limit=limit)


def reconcile_stock(
    session: Session,
    skus: Annotated[list[str] | None, typer.Argument(metavar="SKU...", help="Up to 500 SKUs (default: all).")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Repair differences (default: only show them).")] = False,
) -> None:
    """Compare stock levels with the ledger, and the ledger with reservations and orders."""
    token, checked, differences = "", 0, list[StockDifference]()
    while True:
        report = session.client.inventory.reconcile_stock(
            skus or (), repair=repair, page_token=token, **session.write_options
        )
        checked += report.skus_checked
        differences += report.differences
        token = report.next_page_token
        if not token:
            break
    session.screen.show_messages(differences, columns=DIFFERENCE_COLUMNS, descriptor=StockDifference.DESCRIPTOR)
    session.screen.show_notice(f"{checked} SKUs compared, {len(differences)} differences.")
    if any(not (repair and difference.repairable) for difference in differences):
        raise typer.Exit(Exit.REFUSED)


def list_movements(
    session: Session,
    sku: Annotated[str, typer.Argument(metavar="SKU", help="Only movements of this SKU.")] = "",
    since: Since = "",
    filter: MovementFilter = "",  # noqa: A002 - the name in the contract
    order_by: OrderBy = "create_time desc",
    limit: Limit = LIMIT,
    total: Total = False,
) -> None:
    """List the movements of the stock ledger, newest first."""
    sku_filter = f"sku = {quote_text(sku)}" if sku else ""
    listing = session.client.inventory.list_stock_movements(
        filter=join_filters(filter, sku_filter, build_since_filter(since)),
        order_by=order_by,
        page_size=compute_page_size(limit),
        include_total_size=total,
    )
    session.show_listing(
        listing,
        columns=MOVEMENT_COLUMNS,
        limit=limit,
        check_parent=(lambda: find_variant_name(session, sku)) if sku else None,
    )
