"""Pages of stock at several places: a transfer of several SKUs, and the comparison of stock with its ledger."""

from __future__ import annotations

import json

from storekeep.client import WriteOptions
from storekeep.console.pickers import list_locations, name_location
from storekeep.console.requests import BadRequest, Faults, Inputs, Reply, Request, Route
from storekeep.console.rows import Rows
from storekeep.console.spellings import split_lines
from storekeep.console.stock import WRITE

ROWS = Rows("sku", "SKU", range(1, 9))
SKUS_AT_ONCE = 1_000


def show_transfer(request: Request) -> Reply:
    """Show the form of a transfer."""
    return _show_transfer(request, is_checked=False)


def _show_transfer(request: Request, *, is_checked: bool) -> Reply:
    return request.page(
        "stock-transfer.html",
        title="Transfer stock",
        inputs=_find_inputs(request),
        locations=list_locations(request),
        form=request.field,
        rows=ROWS.numbers,
        lines=_read_lines(request) if is_checked else (),
        checked=_describe_transfer(request) if is_checked else "",
        has_changed=is_checked and request.field("step") == "apply",
    )


def _read_lines(request: Request) -> list[tuple[str, int]]:
    """Return pairs of SKU and units. Raises: BadRequest."""
    faults = Faults()
    lines = [(sku, units) for _, sku, units in ROWS.read(request, faults)]
    faults.check()
    return lines


def _find_inputs(request: Request) -> Inputs:
    """Return the inputs of the form. The lines of a request are its rows with a SKU."""
    filled = list(enumerate(ROWS.list_filled(request)))
    return Inputs(
        {
            "source": "From",
            "destination": "To",
            **ROWS.labels,
            "reason": "Reason",
        },
        {
            **{f"lines[{index}].sku": f"sku.{row}" for index, row in filled},
            **{f"lines[{index}].quantity": f"units.{row}" for index, row in filled},
            "lines": "sku.1",
            **{name: name for name in ("source", "destination", "reason")},
        },
        {request.field(f"sku.{row}"): (f"sku.{row}", f"units.{row}") for _, row in reversed(filled)},
    )


def _describe_transfer(request: Request) -> str:
    """Return what a transfer would do, to compare it with what was checked. Raises: BadRequest."""
    return json.dumps([request.field("source"), request.field("destination"), *_read_lines(request)])


def transfer(request: Request) -> Reply:
    """Transfer units: first a check that changes nothing, then the transfer. Raises: StorekeepError, BadRequest."""
    is_dry = request.field("step") != "apply" or request.field("checked") != _describe_transfer(request)
    options: WriteOptions = request.write_options()
    if is_dry:
        options = WriteOptions(validate_only=True)
    lines = _read_lines(request)
    source, destination = name_location(request.field("source")), name_location(request.field("destination"))
    if source == destination:
        raise BadRequest("To: choose two different locations.", field="destination")
    request.session.client.inventory.transfer_stock(
        source=source,
        destination=destination,
        lines=lines,
        reason=request.field("reason"),
        **options,
    )
    if is_dry:
        return _show_transfer(request, is_checked=True)
    units = sum(count for _, count in lines)
    text = f"{request.count(units, 'unit')} {'has' if units == 1 else 'have'}"
    places = [name.partition("/")[2] for name in (source, destination)]
    return request.done("/stock/transfer", f"{text} been transferred from {' to '.join(places)}.")


def show_reconcile(request: Request) -> Reply:
    """Show the form of the comparison."""
    return request.page("stock-reconcile.html", title="Reconcile stock", result=None, is_repaired=False)


def reconcile(request: Request) -> Reply:
    """Compare stock levels with the ledger, or repair the differences. Raises: StorekeepError, BadRequest."""
    is_repair = request.field("step") == "repair"
    result = request.session.client.inventory.reconcile_stock(
        split_lines(request.field("skus")),
        repair=is_repair,
        page_size=SKUS_AT_ONCE,
        page_token=request.field("page_token"),
        **(request.write_options() if is_repair else {}),
    )
    return request.page("stock-reconcile.html", title="Reconcile stock", result=result, is_repaired=is_repair)


ROUTES = (
    Route("GET", "/stock/transfer", show_transfer, WRITE),
    Route("POST", "/stock/transfer", transfer, WRITE, show_transfer),
    Route("GET", "/stock/reconcile", show_reconcile, WRITE),
    Route("POST", "/stock/reconcile", reconcile, WRITE, show_reconcile),
)
