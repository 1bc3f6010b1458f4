"""Pages of locations, the places that hold stock: list, create, change, delete and restore."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from storekeep.client import Location, Storekeep
from storekeep.console.forms import LABELS, FormField
from storekeep.console.placing import ADDRESS_FIELDS
from storekeep.console.rendering import get_id
from storekeep.console.requests import Request
from storekeep.console.resources import Column, Kind, Use

READ, WRITE = "stock.read", "stock.write"
ADDRESS = [FormField(f"address.{item.name}", item.label, hint=item.hint) for item in ADDRESS_FIELDS]
FIELDS = (
    FormField("display_name", "Name"),
    FormField("priority", "Priority", kind="integer", hint="stock is taken from the lowest number first; empty: 0"),
    *ADDRESS,
    LABELS,
)


@dataclass(frozen=True)
class Methods:
    """The methods of locations, named as those of other resources."""

    get: Callable[..., Any]
    list: Callable[..., Any]
    create: Callable[..., Any]
    update: Callable[..., Any]
    delete: Callable[..., Any]
    undelete: Callable[..., Any]


def _select(client: Storekeep) -> Methods:
    inventory = client.inventory
    return Methods(
        get=inventory.get_location,
        list=inventory.list_locations,
        create=inventory.create_location,
        update=inventory.update_location,
        delete=inventory.delete_location,
        undelete=inventory.undelete_location,
    )


def list_uses(request: Request, location: Location) -> Sequence[Use]:
    """Return how many SKUs a location has on hand."""
    levels = request.session.client.inventory.list_stock_levels(
        location.name, filter="on_hand > 0", page_size=1, include_total_size=True
    )
    return (Use("SKUs on hand", levels.page().total_size or 0, f"/stock?location={get_id(location.name)}"),)


KIND = Kind(
    "locations",
    "location",
    "Locations",
    Location,
    select=_select,
    id_parameter="location_id",
    read=READ,
    write=WRITE,
    fields=FIELDS,
    columns=(
        Column("Id", lambda _, one: get_id(one.name)),
        Column("City", lambda _, one: one.address.locality),
        Column("Country", lambda _, one: one.address.region_code),
        Column("Priority", lambda request, one: request.count(one.priority), is_number=True),
    ),
    hint="There are no locations yet. A location is a place that holds stock.",
    delete_text="No stock can be received there, and lists no longer show it. A location in use cannot be deleted.",
    order_by="display_name",
    list_uses=list_uses,
)
ROUTES = KIND.make_routes()
