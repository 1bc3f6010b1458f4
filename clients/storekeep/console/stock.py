"""Pages of stock: levels, one level with its ledger, changes, and a page to count a shelf with a barcode scanner."""

from __future__ import annotations

from collections.abc import Mapping

from storekeep.client import StockLevel, StockLevelNotFound, StockMovementCause, WriteOptions
from storekeep.console.listings import fetch, join, show_list, try_allowed, try_fetch
from storekeep.console.pickers import list_locations, name_location
from storekeep.console.requests import BadRequest, Faults, Inputs, Reply, Request, Route, quote_filter, quote_segment

READ, WRITE = "stock.read", "stock.write"
CAUSES = {
    "receive": StockMovementCause.STOCK_MOVEMENT_CAUSE_RECEIVE,
    "adjust": StockMovementCause.STOCK_MOVEMENT_CAUSE_ADJUST,
    "write_off": StockMovementCause.STOCK_MOVEMENT_CAUSE_WRITE_OFF,
    "return": StockMovementCause.STOCK_MOVEMENT_CAUSE_RETURN,
}


COUNT_LABELS = {"location": "Location", "code": "SKU or barcode", "units": "Units counted"}
LEVEL_INPUTS = Inputs(
    {
        "units": "Units",
        "reason": "Reason",
        "destination": "To",
        "backorder_limit": "Backorder limit",
        "safety_threshold": "Safety threshold",
        "low_stock_threshold": "Low-stock threshold",
    },
    {"quantity_delta": "units", "quantity": "units", "cause": "units", "lines": "units"},
)


def build_filter(query: Mapping[str, str]) -> str:
    """Return the filter that the parameters of the list's address mean."""
    text = query.get("q", "").strip()
    return join(
        f"sku = {quote_filter(text if text.endswith('*') else text + '*')}" if text else "", query.get("filter", "")
    )


def show_levels(request: Request) -> Reply:
    """List the stock levels of a location, or of all; or those that are low."""
    client = request.session.client.inventory
    location = request.query["location"].removeprefix("locations/")
    if request.query.get("low"):
        name = f"locations/{location}" if location else ""
        listing = client.list_low_stock(location=name, page_size=50, include_total_size=True)
    else:
        listing = client.list_stock_levels(
            f"locations/{location or '-'}",
            filter=build_filter(request.query),
            order_by=request.query.get("order", "") or "sku",
            page_size=50,
            include_total_size=True,
        )
    return show_list(
        request,
        "stock.html",
        title="Stock",
        fetch_page=lambda: fetch(request, listing),
        locations=list_locations(request),
    )


def _get_name(request: Request) -> str:
    return f"locations/{request.parameters['location']}/stockLevels/{request.parameters['sku']}"


def _get_path(request: Request) -> str:
    return f"/stock/{quote_segment(request.parameters['location'])}/{quote_segment(request.parameters['sku'])}"


def show_level(request: Request) -> Reply:
    """Show one stock level and its ledger, newest first. Raises: StorekeepError."""
    client, name = request.session.client.inventory, _get_name(request)
    try:
        level = client.get_stock_level(name)
    except StockLevelNotFound:
        _check_parents(request)
        level = StockLevel(name=name, sku=request.parameters["sku"])
    terms = join(
        f"location = {quote_filter('locations/' + request.parameters['location'])}",
        f"sku = {quote_filter(request.parameters['sku'])}",
    )
    listing = client.list_stock_movements(filter=terms, order_by="create_time desc", page_size=50)
    movements = try_fetch(lambda: fetch(request, listing), None)
    return request.page(
        "stock-level.html",
        title=f"{request.parameters['sku']} at {request.parameters['location']}",
        inputs=LEVEL_INPUTS,
        level=level,
        path=_get_path(request),
        movements=movements,
        sources=_name_sources(request, {item.source for item in movements.items} if movements is not None else set()),
        locations=list_locations(request),
        filters=request.query,
    )


def _check_parents(request: Request) -> None:
    """Raise an error if the location or the SKU of a stock level that does not exist is unknown.

    Raises: StorekeepError, BadRequest.
    """
    session, sku = request.session, request.parameters["sku"]
    try_allowed(lambda: session.client.inventory.get_location(f"locations/{request.parameters['location']}"), None)
    if session.may("products.read"):
        terms = f"sku = {quote_filter(sku)}"
        listing = session.client.variants.list("products/-", filter=terms, page_size=1, show_deleted=True)
        if not listing.page().items:
            raise BadRequest(f"There is no SKU {sku}.", status=404)


def _name_sources(request: Request, sources: set[str]) -> dict[str, str]:
    """Return what caused movements, in words by resource name: `Order SK-00000021`, `Reservation 1f0c2d4e`."""
    names = {source: f"{noun} {source.rpartition('/')[2][:8]}" for source in sources for noun in [_get_noun(source)]}
    orders = sorted(source for source in sources if source.startswith("orders/") and source.count("/") == 1)
    if orders and request.session.may("orders.read"):
        found = try_fetch(lambda: request.session.client.orders.batch_get(orders, read_mask=["name", "number"]), ())
        names |= {order.name: f"Order {order.number}" for order in found}
    return names


def _get_noun(source: str) -> str:
    return source.partition("/")[0].removesuffix("s").capitalize()


def _read_delta(request: Request, step: str) -> int:
    """Return the units to add; negative to remove. A write-off always removes. Raises: BadRequest."""
    units = request.number("units", label="Units")
    if step in ("receive", "return") and units < 1:
        raise BadRequest("Units: enter 1 or more. To remove units, choose Adjust by or Write off.")
    return -abs(units) if step == "write_off" else units


def change_level(request: Request) -> Reply:
    """Receive, adjust, count or transfer units, or set the thresholds. Raises: StorekeepError, BadRequest."""
    client, name, step = request.session.client.inventory, _get_name(request), request.field("step")
    options, reason = request.write_options(), request.field("reason")
    if step in CAUSES:
        delta = _read_delta(request, step)
        client.adjust_stock(name, quantity_delta=delta, cause=CAUSES[step], reason=reason, **options)
        return request.done(_get_path(request), "The stock has been changed.")
    if step == "count":
        client.set_stock(name, quantity=request.number("units", label="Units"), reason=reason, **options)
        return request.done(_get_path(request), "The count has been recorded.")
    if step == "transfer":
        client.transfer_stock(
            source=f"locations/{request.parameters['location']}",
            destination=name_location(request.field("destination")),
            lines=[(request.parameters["sku"], request.number("units", label="Units"))],
            reason=reason,
            **options,
        )
        return request.done(_get_path(request), "The units have been transferred.")
    if step == "thresholds":
        level, faults = StockLevel(name=name), Faults()
        mask = ["backorder_limit", "safety_threshold", "low_stock_threshold"]
        for item in mask:
            with faults.collect():
                setattr(level, item, request.number(item, label=LEVEL_INPUTS.labels[item]))
        faults.check()
        client.update_stock_level(level, update_mask=mask, **options)
        return request.done(_get_path(request), "The thresholds have been changed.")
    raise BadRequest("There is no such step.")


def show_count(request: Request) -> Reply:
    """Show the page to count a shelf: scan or type a code, Enter, units, Enter."""
    location = request.field("location") or request.query["location"] or "main"
    return request.page(
        "stock-count.html",
        title="Count a shelf",
        inputs=Inputs(COUNT_LABELS, {"quantity": "units"}, {request.field("code"): ("code", "units")}),
        locations=list_locations(request),
        location=location,
        form=request.field,
    )


def find_sku(request: Request, code: str, *, field: str) -> str:
    """Return the SKU of the variant with a SKU or a barcode. Without the right to read variants, a code is a SKU.

    Args:
        field: name of the input that has the code.

    Raises: StorekeepError, BadRequest.
    """
    if not request.session.may("products.read"):
        return code
    terms = f"sku = {quote_filter(code)} OR barcode = {quote_filter(code)}"
    found = request.session.client.variants.list("products/-", filter=terms, page_size=2).page().items
    if not found:
        raise BadRequest(f"No variant has the SKU or barcode {code}.", status=404, field=field)
    if len(found) > 1:
        text = f"Several variants have the barcode {code}. Enter the SKU."
        raise BadRequest(text, status=409, field=field)
    return found[0].sku


def record_count(request: Request) -> Reply:
    """Record the count of one SKU, found by its SKU or barcode. Raises: StorekeepError, BadRequest."""
    client, code, units, faults = request.session.client, request.field("code"), 0, Faults()
    with faults.collect():
        if not code:
            raise BadRequest("SKU or barcode: scan or enter one.", field="code")
    with faults.collect():
        units = request.number("units", label="Units counted")
    faults.check()
    sku = find_sku(request, code, field="code")
    location = request.field("location")
    options: WriteOptions = request.write_options()
    level = client.inventory.set_stock(
        f"{name_location(location)}/stockLevels/{sku}", quantity=units, reason="stock count", **options
    )
    path = f"/stock/count?location={quote_segment(location)}"
    return request.done(path, f"{sku}: {request.count(level.on_hand)} on hand.")


ROUTES = (
    Route("GET", "/stock", show_levels, READ),
    Route("GET", "/stock/count", show_count, WRITE),
    Route("POST", "/stock/count", record_count, WRITE, show_count),
    Route("GET", "/stock/{location}/{sku}", show_level, READ),
    Route("POST", "/stock/{location}/{sku}", change_level, WRITE, show_level),
)
