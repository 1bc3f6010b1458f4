"""The page to export all data about one customer: first a dry run, then a file for programs, or a page for people."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from storekeep.client import CustomerRecord, build_customer_document, build_customer_page
from storekeep.console.customers import PERSONAL, get_name
from storekeep.console.listings import try_fetch
from storekeep.console.requests import BadRequest, Header, Reply, Request, Route, quote_filter

EXPORT = "customers.export"
RUNNING_MAX = 2
"""Files that are made at once: each holds a thread for seconds, and some ten times `BYTES_MAX` of memory."""
BYTES_MAX = 8 * 1024 * 1024
"""Bytes of the records of a file, those of some 1,000 orders. Above it, the file is refused instead of cut."""
WRITERS: Mapping[str, tuple[bytes, str, Callable[[Mapping[str, Any]], str]]] = {
    "json": (b"application/json", "json", lambda document: json.dumps(document, ensure_ascii=False, indent=2) + "\n"),
    "page": (b"text/html; charset=utf-8", "html", build_customer_page),
}
"""Step of the form -> media type, ending and content of its file."""


def show_export(request: Request) -> Reply:
    """Show what an export has, by a dry run. Raises: StorekeepError."""
    client, name = request.session.client, get_name(request)
    customer, orders = client.customers.get(name), None
    client.customers.export(name, validate_only=True)
    if request.session.may("orders.read"):
        listing = client.orders.list(
            filter=f"customer = {quote_filter(name)}", page_size=1, read_mask=["name"], include_total_size=True
        )
        page = try_fetch(listing.page, None)
        orders = page and request.count(page.total_size or 0, "order")
    return request.page(
        "customer-export.html",
        title=f"Export the data of {customer.display_name or name.partition('/')[2]}",
        customer=customer,
        orders=orders,
        is_masked=not request.session.may(PERSONAL),
    )


def limit_records(records: Iterable[CustomerRecord], command: str) -> Iterator[CustomerRecord]:
    """Yield the records. Raises: BadRequest if they are larger than a file may be."""
    size = 0
    for record in records:
        size += record.ByteSize()
        if size > BYTES_MAX:
            raise BadRequest(f"There is too much data for this page. Use the command `{command}`.")
        yield record


def export(request: Request, running: threading.BoundedSemaphore) -> Reply:
    """Return all data about a customer as a file. The audit log records it. Raises: StorekeepError, BadRequest."""
    name, customers = get_name(request), request.session.client.customers
    key = name.partition("/")[2]
    if request.field("step") not in WRITERS:
        raise BadRequest("There is no such step.")
    media_type, ending, write = WRITERS[request.field("step")]
    if not running.acquire(blocking=False):
        raise BadRequest("Other files are being made. Try again in a moment.", status=503)
    try:
        started = customers.export(name, **request.write_options())
        records = customers.read_data(name, export_token=started.export_token, page_size=1000)
        document = build_customer_document(
            started, limit_records(records, f"storekeep customers export {key} --file {key}.json --yes")
        )
        body = write(document).encode()
    finally:
        running.release()
    disposition: Header = (b"content-disposition", f'attachment; filename="{key}.{ending}"'.encode())
    return Reply(200, body, [(b"content-type", media_type), disposition])


def make_routes() -> tuple[Route, ...]:
    """Return the routes of a console, which makes a few files at once."""
    running = threading.BoundedSemaphore(RUNNING_MAX)
    return (
        Route("GET", "/customers/{customer}/export", show_export, EXPORT),
        Route("POST", "/customers/{customer}/export", partial(export, running=running), EXPORT, show_export),
    )
