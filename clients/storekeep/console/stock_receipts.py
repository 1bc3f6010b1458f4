"""The page of a delivery: units of several SKUs, scanned or typed, that go into stock together."""

from __future__ import annotations

import re
from contextlib import suppress

from storekeep.client import AdjustStockRequest, StockMovementCause, StorekeepError
from storekeep.console.pickers import list_locations, name_location
from storekeep.console.requests import BadRequest, Faults, Inputs, Reply, Request, Route
from storekeep.console.rows import Rows
from storekeep.console.stock import WRITE, find_sku

LOCATION_ID = re.compile(r"(locations/)?[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
ROWS = Rows("code", "SKU or barcode", range(1, 13))


def show_receipt(request: Request) -> Reply:
    """Show the form of a delivery."""
    first = {"code.1": request.query["sku"], "location": request.query["location"] or "main"}
    return request.page(
        "stock-receive.html",
        title="Receive a delivery",
        inputs=_find_inputs(request),
        locations=list_locations(request),
        form=lambda name: request.field(name, first.get(name, "")),
        rows=ROWS.numbers,
    )


def receive(request: Request) -> Reply:
    """Add the units of all rows to the stock of a location, or of none. Raises: StorekeepError, BadRequest."""
    units_by_sku: dict[str, int] = {}
    faults = Faults()
    for row, code, units in ROWS.read(request, faults):
        with faults.collect():
            if units < 1:
                raise BadRequest(f"Units {row}: enter 1 or more.", field=f"units.{row}")
        with faults.collect():
            sku = find_sku(request, code, field=f"code.{row}")
            units_by_sku[sku] = units_by_sku.get(sku, 0) + units
    faults.check()
    location = name_location(request.field("location"))
    request.session.client.inventory.batch_adjust_stock(
        [
            AdjustStockRequest(
                name=f"{location}/stockLevels/{sku}",
                quantity_delta=units,
                cause=StockMovementCause.STOCK_MOVEMENT_CAUSE_RECEIVE,
                reason=request.field("reason"),
            )
            for sku, units in units_by_sku.items()
        ],
        **request.write_options(),
    )
    total = request.count(sum(units_by_sku.values()), "unit")
    return request.done("/stock/receive", f"Received at {location.partition('/')[2]}: {total} in all.")


def _find_rows(request: Request) -> dict[str, int]:
    """Return the first row of each SKU, in the order of the adjustments of a request."""
    rows: dict[str, int] = {}
    for row in ROWS.list_filled(request):
        code = request.field(f"code.{row}")
        with suppress(StorekeepError, BadRequest):
            code = find_sku(request, code, field=f"code.{row}")
        rows.setdefault(code, row)
    return rows


def _find_inputs(request: Request) -> Inputs:
    """Return the inputs of the form. An adjustment of a request has the units of all rows with its SKU."""
    rows = _find_rows(request) if request.problem is not None else {}
    is_location = not LOCATION_ID.fullmatch(request.field("location"))
    return Inputs(
        {"location": "Location", **ROWS.labels, "reason": "Reason"},
        {
            **{f"requests[{index}].quantity_delta": f"units.{row}" for index, row in enumerate(rows.values())},
            **{
                f"requests[{index}].name": "location" if is_location else f"code.{row}"
                for index, row in enumerate(rows.values())
            },
            **{f"requests[{index}].reason": "reason" for index in range(len(rows))},
        },
        {sku: (f"code.{row}", f"units.{row}") for sku, row in rows.items()},
    )


ROUTES = (
    Route("GET", "/stock/receive", show_receipt, WRITE),
    Route("POST", "/stock/receive", receive, WRITE, show_receipt),
)
