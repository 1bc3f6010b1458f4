"""What fields offer while a person types: resources that match, as JSON for the script.

A route for each, with its permission. An answer has at most `MATCHES_MAX` matches, and costs at most seven calls of the
server, each of one short page. The server masks personal data for those who may not read it; masks are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from storekeep.client import NotAllowed, NotFound, Storekeep
from storekeep.console.requests import COMPLETIONS, Handler, Reply, Request, Route, quote_filter

MATCHES_MAX = 10
TEXT_CHARACTERS_MAX = 100
NAME_CHARACTERS_MIN = 3
"""Shorter texts do not search the names of products: too many would match."""
PRODUCTS_MAX = 3
"""Products whose variants are offered, besides those that match by their SKU."""
MASK = "***"
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
Match = tuple[str, str]
"""What the field gets, and what describes it."""


def find_skus(client: Storekeep, text: str) -> Iterator[Match]:
    """Yield SKUs that begin with a text, have it as barcode, or whose product has its words."""
    prefixes = [f'sku = {_quote(one)[:-1]}*"' for one in dict.fromkeys((text, text.upper()))]
    for terms in (*prefixes, f"barcode = {_quote(text)}"):  # one by one: each is a range of an index
        found = client.variants.list("products/-", filter=terms, order_by="sku", page_size=MATCHES_MAX).page().items
        yield from ((one.sku, one.display_name) for one in found)
    if len(text) < NAME_CHARACTERS_MIN:
        return
    for product in client.products.search(text, page_size=PRODUCTS_MAX).page().items:
        variants = client.variants.list(product.name, order_by="sku", page_size=MATCHES_MAX).page().items
        yield from ((one.sku, _join(product.display_name, one.display_name)) for one in variants)


def find_products(client: Storekeep, text: str) -> Iterator[Match]:
    """Yield products with an id, or with the words of a text."""
    found = client.products.search(text, page_size=MATCHES_MAX).page().items
    for one in (*_get(client.products.get, "products", text), *found):
        yield _get_id(one), one.display_name


def find_customers(client: Storekeep, text: str) -> Iterator[Match]:
    """Yield customers with an id, or with the words of a text."""
    try:
        found = client.customers.search(text, page_size=MATCHES_MAX).page().items
    except NotAllowed:  # those who may not read personal data may not search it
        found = ()
    for one in (*_get(client.customers.get, "customers", text), *found):
        yield _get_id(one), _join(one.display_name, one.company, one.email)


def find_categories(client: Storekeep, text: str) -> Iterator[Match]:
    """Yield categories with an id, or with a text in their name."""
    return _find_named(client.categories.get, client.categories.list, "categories", text)


def find_locations(client: Storekeep, text: str) -> Iterator[Match]:
    """Yield locations with an id, or with a text in their name."""
    return _find_named(client.inventory.get_location, client.inventory.list_locations, "locations", text)


def _find_named(get: Callable[[str], Any], find: Callable[..., Any], collection: str, text: str) -> Iterator[Match]:
    terms = f"display_name : {_quote(text)}"
    found = find(filter=terms, order_by="display_name", page_size=MATCHES_MAX).page().items
    for one in (*_get(get, collection, text), *found):
        yield _get_id(one), one.display_name


def _quote(text: str) -> str:
    """Return a text as a string of a filter, in which a `*` is only a character."""
    return quote_filter(text).replace("*", "\\*")


def _get(get: Callable[[str], Any], collection: str, text: str) -> list[Any]:
    """Return the resource with an id, in a list; an empty list if there is none, or it is deleted."""
    if not ID.fullmatch(text):
        return []
    try:
        found = get(f"{collection}/{text}")
    except NotFound:
        return []
    is_deleted = "delete_time" in found.DESCRIPTOR.fields_by_name and found.HasField("delete_time")
    return [] if is_deleted else [found]


def _get_id(resource: Any) -> str:
    name: str = resource.name
    return name.rpartition("/")[2]


def _join(*texts: str) -> str:
    return " · ".join(text for text in texts if text and text != MASK)


FINDERS: Mapping[str, Callable[[Storekeep, str], Iterable[Match]]] = {
    "skus": find_skus,
    "products": find_products,
    "customers": find_customers,
    "categories": find_categories,
    "locations": find_locations,
}


def _make_handler(find: Callable[[Storekeep, str], Iterable[Match]]) -> Handler:
    """Return the handler that answers with what a finder finds."""

    def answer(request: Request) -> Reply:
        text = " ".join(request.query["q"].split())[:TEXT_CHARACTERS_MAX]
        matches: dict[str, str] = {}
        for value, description in find(request.session.client, text) if text else ():
            matches.setdefault(value, description)
            if len(matches) == MATCHES_MAX:
                break
        body = json.dumps([{"value": value, "text": description} for value, description in matches.items()])
        return Reply(200, body.encode(), [(b"content-type", b"application/json; charset=utf-8")])

    return answer


ROUTES = tuple(
    Route("GET", f"/complete/{kind}", _make_handler(find), COMPLETIONS[kind]) for kind, find in FINDERS.items()
)
