"""The page to merge a customer into another one that is the same person: first a dry run, then the merge."""

from __future__ import annotations

import json

from storekeep.client import Customer, WriteOptions
from storekeep.console.customers import get_name
from storekeep.console.placing import SeveralCustomers, find_customer
from storekeep.console.requests import BadRequest, Inputs, Reply, Request, Route, quote_filter

MERGE = "customers.merge"
INPUTS = Inputs({"customer": "Customer to merge"}, {"source": "customer", "name": "customer"})


def show_merge(request: Request) -> Reply:
    """Show the form of a merge. Raises: StorekeepError."""
    return _show(request, source=None)


def _show(request: Request, *, source: Customer | None) -> Reply:
    client, name = request.session.client, get_name(request)
    customer, orders = client.customers.get(name), None
    if source is not None and request.session.may("orders.read"):
        listing = client.orders.list(
            filter=f"customer = {quote_filter(source.name)}", page_size=1, read_mask=["name"], include_total_size=True
        )
        orders = listing.page().total_size
    return request.page(
        "customer-merge.html",
        title=f"Merge into {customer.display_name or name.partition('/')[2]}",
        inputs=INPUTS,
        customer=customer,
        source=source,
        orders=orders,
        matches=request.problem.customers if isinstance(request.problem, SeveralCustomers) else (),
        checked=_describe(customer, source) if source is not None else "",
    )


def _describe(customer: Customer, source: Customer) -> str:
    """Return what a merge would do, to compare it with what was checked."""
    return json.dumps([customer.name, customer.etag, source.name, source.etag])


def merge(request: Request) -> Reply:
    """Merge a customer into the one in the path, after a dry run. Raises: StorekeepError, BadRequest."""
    customers, name = request.session.client.customers, get_name(request)
    found = find_customer(request, request.field("chosen_customer") or request.field("customer"))
    if not found or found == name:
        raise BadRequest("Customer to merge: enter another customer.", field="customer")
    customer, source = customers.get(name), customers.get(found)
    is_dry = request.field("step") != "apply" or request.field("checked") != _describe(customer, source)
    options: WriteOptions = WriteOptions(validate_only=True) if is_dry else request.write_options()
    customers.merge(name, source=source.name, etag=customer.etag, **options)
    if is_dry:
        return _show(request, source=source)
    return request.done(f"/{name}", "The customers have been merged.")


ROUTES = (
    Route("GET", "/customers/{customer}/merge", show_merge, MERGE),
    Route("POST", "/customers/{customer}/merge", merge, MERGE, show_merge),
)
