"""Pages of customers: find, create and change them, with their orders."""

from __future__ import annotations

from storekeep.client import Customer, InvalidRequest, NotFound
from storekeep.console.forms import LABELS, FormField, build_conflict, changed_fields
from storekeep.console.listings import NOTHING, Shown, fetch, fetch_part, show_list, try_fetch
from storekeep.console.requests import Inputs, Reply, Request, Route, quote_filter

READ, WRITE, PERSONAL = "customers.read", "customers.write", "customers.personal.read"
FIELDS = (
    FormField("display_name", "Name"),
    FormField("email", "Email"),
    FormField("phone", "Phone"),
    FormField("company", "Company"),
    FormField("tax_id", "Tax id"),
    FormField("language_code", "Language", hint="a tag such as de; empty: the server's"),
    FormField("groups", "Groups", kind="area", hint="one on each line"),
    LABELS,
)


def show_customers(request: Request) -> Reply:
    """List customers, or search them."""
    client, text = request.session.client.customers, request.query.get("q", "").strip()
    if text:
        return show_list(request, "customers.html", title="Customers", fetch_page=lambda: _search(request, text))
    listing = client.list(
        filter=request.query.get("filter", ""),
        order_by=request.query.get("order", "") or "create_time desc",
        page_size=50,
        include_total_size=True,
    )
    return show_list(request, "customers.html", title="Customers", fetch_page=lambda: fetch(request, listing))


def _search(request: Request, text: str) -> Shown:
    """Return the customers that a search finds; of those who may not search personal data, the one with an id."""
    if request.session.may(PERSONAL):
        return fetch(request, request.session.client.customers.search(text, page_size=50))
    found = find_by_id(request, text)
    return Shown([found], "", "1") if found is not None else NOTHING


def find_by_id(request: Request, text: str) -> Customer | None:
    """Return the customer with an id or a resource name; None if there is none. Raises: StorekeepError."""
    try:
        return request.session.client.customers.get(f"customers/{text.removeprefix('customers/')}")
    except (NotFound, InvalidRequest):  # a text that cannot be an id is the id of nobody
        return None


def get_name(request: Request) -> str:
    """Return the resource name of the customer in the path."""
    return f"customers/{request.parameters['customer']}"


def show_customer(request: Request) -> Reply:
    """Show a customer with the newest orders. Raises: CustomerNotFound."""
    client, name = request.session.client, get_name(request)
    customer = client.customers.get(name)
    orders = NOTHING
    if request.session.may("orders.read"):
        listing = client.orders.list(
            filter=f"customer = {quote_filter(name)}", order_by="create_time desc", page_size=20
        )
        orders = try_fetch(lambda: fetch_part(listing), orders)
    return request.page(
        "customer.html",
        title=customer.display_name or name.partition("/")[2],
        customer=customer,
        orders=orders,
        fields=[(item, request.field(item.name, item.read(customer))) for item in FIELDS],
        conflict=build_conflict(FIELDS, customer, request),
    )


def update_customer(request: Request) -> Reply:
    """Change a customer. Raises: StorekeepError, BadRequest."""
    name = get_name(request)
    changed = changed_fields(FIELDS, request)
    if changed:
        customer = Customer(name=name, etag=request.field("etag"))
        for item in changed:
            item.write(customer, request.field(item.name))
        mask = [item.root for item in changed]
        request.session.client.customers.update(customer, update_mask=mask, **request.write_options())
    return request.done(f"/{name}", "The customer has been changed." if changed else "Nothing was changed.")


def show_new(request: Request) -> Reply:
    """Show the form of a new customer."""
    fields = [(item, request.field(item.name)) for item in FIELDS]
    labels = {item.name: item.label for item in FIELDS}
    inputs = Inputs({**labels, "customer_id": "Id"})
    return request.page("customer-new.html", title="New customer", inputs=inputs, fields=fields)


def create_customer(request: Request) -> Reply:
    """Create a customer. Raises: StorekeepError, BadRequest."""
    customer = Customer()
    for item in FIELDS:
        item.write(customer, request.field(item.name))
    created = request.session.client.customers.create(
        customer, customer_id=request.field("customer_id"), **request.write_options()
    )
    return request.done(f"/{created.name}", "The customer has been created.")


ROUTES = (
    Route("GET", "/customers", show_customers, READ),
    Route("GET", "/customers/new", show_new, WRITE),
    Route("POST", "/customers/new", create_customer, WRITE, show_new),
    Route("GET", "/customers/{customer}", show_customer, READ),
    Route("POST", "/customers/{customer}", update_customer, WRITE, show_customer),
)
