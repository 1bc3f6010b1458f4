"""Choices of resources in forms and filters, where there are few enough for a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from storekeep.client import Storekeep
from storekeep.console.forms import FieldValues
from storekeep.console.listings import NOTHING, Shown, fetch_part, try_fetch
from storekeep.console.requests import Request

OPTIONS_MAX = 100
SOURCES: Mapping[str, Callable[[Storekeep], Any]] = {
    "promotions": lambda client: client.promotions,
    "taxZones": lambda client: client.tax_zones,
}


def list_options(request: Request, collection: str) -> dict[str, str]:
    """Return names for display by id; none if there are too many for a list, or the person may not read them."""
    listing = SOURCES[collection](request.session.client).list(page_size=OPTIONS_MAX)
    page = try_fetch(listing.page, None)
    if page is None or page.next_page_token:
        return {}
    names = {item.name.rpartition("/")[2]: item.display_name for item in page.items}
    return {key: f"{name} ({key})" if name else key for key, name in names.items()}


def list_locations(request: Request) -> Shown:
    """Return the locations to choose from, the first ones if there are many; none if the person may not read them."""
    if not request.session.may("stock.read"):
        return NOTHING
    listing = request.session.client.inventory.list_locations(page_size=OPTIONS_MAX)
    shown: Shown = try_fetch(lambda: fetch_part(listing), NOTHING)
    return shown


def name_location(text: str) -> str:
    """Return the resource name of a location with an id; empty for no text."""
    return f"locations/{text.removeprefix('locations/')}" if text else ""


def add_options(request: Request, fields: FieldValues) -> FieldValues:
    """Return the fields of a form with what can be chosen in them."""
    return [
        (replace(item, options=list_options(request, item.source)) if item.source else item, value)
        for item, value in fields
    ]
