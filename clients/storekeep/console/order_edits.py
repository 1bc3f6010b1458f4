"""Changes of the lines of an order: the form, the exact preview, and the change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storekeep.client import Order
from storekeep.console.orders import WRITE, get_name
from storekeep.console.requests import BadRequest, Faults, Inputs, Reply, Request, Route

LABELS = {"sku": "SKU to add", "sku_units": "Units to add"}


@dataclass(frozen=True)
class Edit:
    """A change of the lines of an order.

    Attributes:
        add: pairs of SKU and units.
        change: new units by the number of the line.
        remove: numbers of the lines that are removed.
    """

    add: Sequence[tuple[str, int]]
    change: dict[int, int]
    remove: Sequence[int]


def show_edit(request: Request) -> Reply:
    """Show the form to change the lines of an order. Raises: OrderNotFound."""
    order = request.session.client.orders.get(get_name(request))
    return request.page(
        "order-edit.html", title=f"Change order {order.number}", inputs=_find_inputs(request, order), order=order
    )


def edit_order(request: Request) -> Reply:
    """Change the lines of an order: first the exact preview, then the change.

    Raises: StorekeepError, BadRequest.
    """
    client, name = request.session.client, get_name(request)
    order = client.orders.get(name)
    edit, etag = _read_edit(request, order), request.field("etag")
    if request.field("step") != "apply":
        preview = client.orders.preview_edit(name, add=edit.add, change=edit.change, remove=edit.remove, etag=etag)
        return request.page("order-preview.html", title=f"Change of order {order.number}", order=order, preview=preview)
    client.orders.apply_edit(
        name,
        add=edit.add,
        change=edit.change,
        remove=edit.remove,
        reason=request.field("reason"),
        etag=etag,
        **request.write_options(),
    )
    return request.done(f"/{name}", "The order has been changed.")


def _read_edit(request: Request, order: Order) -> Edit:
    """Return the change in the form. Raises: BadRequest."""
    add: list[tuple[str, int]] = []
    change: dict[int, int] = {}
    remove: list[int] = []
    faults = Faults()
    for number, current in _list_units(order).items():
        if not request.field(f"quantity.{number}"):
            continue
        with faults.collect():
            quantity = request.number(f"quantity.{number}", label=f"Units of line {number}")
            if quantity == 0:
                remove.append(number)
            elif quantity != current:
                change[number] = quantity
    if request.field("sku"):
        with faults.collect():
            add.append((request.field("sku"), request.number("sku_units", label=LABELS["sku_units"])))
    elif request.field("sku_units") not in ("", "1"):
        with faults.collect():
            raise BadRequest(f"{LABELS['sku']}: enter what the units are of, or remove the units.", field="sku")
    faults.check()
    if not add and not change and not remove:
        raise BadRequest("Nothing would change. Enter other units, or a SKU to add.")
    return Edit(add, change, remove)


def _list_units(order: Order) -> dict[int, int]:
    """Return the units of the lines that have some, by the number of the line."""
    units = {line.line_number: line.quantity - line.cancelled_quantity for line in order.lines}
    return {number: quantity for number, quantity in units.items() if quantity}


def _find_inputs(request: Request, order: Order) -> Inputs:
    """Return the inputs of the form. The changed lines of a request are those with other units."""
    names = {number: f"quantity.{number}" for number in _list_units(order)}
    changed = [
        name for number, name in names.items() if request.field(name) not in ("", "0", str(_list_units(order)[number]))
    ]
    skus = {line.sku: (names[line.line_number],) * 2 for line in order.lines if line.line_number in names}
    return Inputs(
        {**{name: f"Units of line {number}" for number, name in names.items()}, **LABELS},
        {
            **{f"edit.changed_lines[{index}].quantity": name for index, name in enumerate(changed)},
            "edit.added_lines[0].sku": "sku",
            "edit.added_lines[0].quantity": "sku_units",
            "edit.added_lines": "sku",
        },
        skus | ({request.field("sku"): ("sku", "sku_units")} if request.field("sku") else {}),
        names,
    )


ROUTES = (
    Route("GET", "/orders/{order}/edit", show_edit, WRITE),
    Route("POST", "/orders/{order}/edit", edit_order, WRITE, show_edit),
)
