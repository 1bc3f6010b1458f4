"""Pages of lists: the filter stands in the address, and pages follow by cursor, so that going back keeps the place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from storekeep.client import InvalidFilter, InvalidPageToken, Listing, NotAllowed, NotFound
from storekeep.console.requests import BadRequest, Reply, Request

PAGE_SIZE = 50
ORDER_BY_DEFAULT = "create_time desc"


@dataclass(frozen=True)
class Shown:
    """What a list page shows.

    Attributes:
        items: the resources.
        next_page_token: cursor of the next page; empty on the last.
        total: number of all results in words, such as `1,204` or `more than 10,000`; empty on later pages.
    """

    items: list[Any]
    next_page_token: str
    total: str


NOTHING = Shown([], "", "")
"""A list without results."""


def fetch(request: Request, listing: Listing[Any]) -> Shown:
    """Fetch the page of a list that the address names. A cursor that does not fit starts the list anew.

    Raises: StorekeepError.
    """
    try:
        page = listing.page(request.query.get("page", ""))
    except InvalidPageToken:
        page = listing.page()
    total = "" if page.total_size is None else request.count(page.total_size)
    if page.total_size_is_lower_bound:
        total = f"more than {total}"
    return Shown(list(page.items), page.next_page_token, total)


def fetch_part(listing: Listing[Any]) -> Shown:
    """Fetch the first page of a list that is a part of another page, which tells if there are more.

    Raises: StorekeepError.
    """
    page = listing.page()
    return Shown(list(page.items), page.next_page_token, "")


def show_list(
    request: Request,
    template: str,
    *,
    title: str,
    fetch_page: Callable[[], Shown],
    has_customers: bool = False,
    **values: Any,
) -> Reply:
    """Return the page of a list. A filter that cannot be used is explained above an empty list.

    Args:
        has_customers: whether the items have customers, whose names the page shows.
    """
    try:
        shown = fetch_page()
    except (InvalidFilter, BadRequest) as error:
        request.problem = error
        shown = Shown([], "", "")
    if has_customers:
        values["names"] = list_customer_names(request, shown.items)
    return request.page(template, title=title, shown=shown, filters=request.query, **values)


def list_customer_names(request: Request, items: Sequence[Any]) -> dict[str, str]:
    """Return the names for display of the customers of orders or quotes; none if the person may not read them."""
    names = sorted({item.customer for item in items if item.customer})
    if not names or not request.session.may("customers.read"):
        return {}
    customers = try_fetch(lambda: request.session.client.customers.batch_get(names), ())
    return {one.name: one.display_name for one in customers if one.display_name}


def join(*terms: str) -> str:
    """Return a filter that needs all of these terms; empty ones do not count."""
    return " AND ".join(f"({term})" for term in terms if term)


def try_allowed(call: Callable[[], Any], default: Any) -> Any:
    """Return what a call returns; the default if the person may not read it.

    Raises: StorekeepError, such as NotFound.
    """
    try:
        return call()
    except NotAllowed:
        return default


def try_fetch(call: Callable[[], Any], default: Any) -> Any:
    """Return what a call returns; the default if there is nothing that the person may read.

    For parts of a page that may be missing. A failure, such as a timeout, is no answer: it shows instead of the page.

    Raises: StorekeepError.
    """
    try:
        return call()
    except (NotAllowed, NotFound):
        return default
