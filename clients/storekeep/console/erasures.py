"""Customers who leave: deletion, which can be undone, and erasure of their personal data, which cannot."""

from __future__ import annotations

from collections.abc import Sequence

from storekeep.client import Conflict, Order, ResourceInUse
from storekeep.console.customers import WRITE, get_name, show_customer
from storekeep.console.orders import OPEN_STATES
from storekeep.console.requests import BadRequest, Reply, Request, Route, describe_problem, quote_filter, redirect
from storekeep.console.resources import STEPS

ERASE = "customers.erase"


def change_state(request: Request) -> Reply:
    """Delete or restore a customer. Raises: StorekeepError, BadRequest."""
    client, name = request.session.client.customers, get_name(request)
    steps = {"delete": client.delete, "undelete": client.undelete}
    step = request.field("step")
    if step not in steps:
        raise BadRequest("There is no such step.")
    steps[step](name, etag=request.field("etag"), **request.write_options())
    return request.done(f"/{name}", f"The customer {STEPS[step]}.")


def show_erase(request: Request) -> Reply:
    """Show what an erasure would do, by a dry run. Raises: StorekeepError."""
    client, name = request.session.client, get_name(request)
    customer = client.customers.get(name)
    if customer.HasField("erase_time"):
        return redirect(f"/{name}")
    refusal, is_in_use = None, False
    try:
        client.customers.erase(name, etag=customer.etag, validate_only=True)
    except ResourceInUse:
        is_in_use = True
    except Conflict as error:
        refusal = describe_problem(error)
    open_orders: Sequence[Order] = ()
    if request.session.may("orders.read"):
        states = " OR ".join(f"state = {state}" for state in OPEN_STATES)
        terms = f"customer = {quote_filter(name)} AND ({states})"
        open_orders = client.orders.list(filter=terms, page_size=20, read_mask=["name", "number"]).page().items
    return request.page(
        "customer-erase.html",
        title=f"Erase {customer.display_name or name.partition('/')[2]}",
        customer=customer,
        refusal=refusal,
        is_in_use=is_in_use,
        open_orders=open_orders,
    )


def erase(request: Request) -> Reply:
    """Erase the personal data of a customer. Raises: StorekeepError, BadRequest."""
    name, is_forced = get_name(request), request.field("force") == "yes"
    etag = request.field("etag")
    request.session.client.customers.erase(name, etag=etag, force=is_forced, **request.write_options())
    return request.done(f"/{name}", "The personal data of the customer has been erased.")


ROUTES = (
    Route("POST", "/customers/{customer}/state", change_state, WRITE, show_customer),
    Route("GET", "/customers/{customer}/erase", show_erase, ERASE),
    Route("POST", "/customers/{customer}/erase", erase, ERASE, show_erase),
)
