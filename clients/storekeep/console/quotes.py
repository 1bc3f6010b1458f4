"""Pages of quotes: the list, one quote with its prices, and its steps: send, accept, withdraw."""

from __future__ import annotations

from storekeep.console.listings import fetch, join, list_customer_names, show_list
from storekeep.console.requests import BadRequest, Reply, Request, Route, quote_filter

READ, WRITE = "orders.read", "orders.write"


def show_quotes(request: Request) -> Reply:
    """List quotes, newest first."""
    state, customer = request.query["state"], request.query["customer"].strip()
    name = f"customers/{customer.removeprefix('customers/')}"
    listing = request.session.client.quotes.list(
        filter=join(
            f"state = {state}" if state.isalpha() else "",
            f"customer = {quote_filter(name)}" if customer else "",
            request.query["filter"],
        ),
        page_size=50,
        include_total_size=True,
    )
    return show_list(
        request, "quotes.html", title="Quotes", fetch_page=lambda: fetch(request, listing), has_customers=True
    )


def _get_name(request: Request) -> str:
    return f"quotes/{request.parameters['quote']}"


def show_quote(request: Request) -> Reply:
    """Show one quote. Raises: QuoteNotFound."""
    quote = request.session.client.quotes.get(_get_name(request))
    names = list_customer_names(request, [quote])
    return request.page("quote.html", title=f"Quote {request.parameters['quote']}", quote=quote, names=names)


def change_quote(request: Request) -> Reply:
    """Send, accept or withdraw a quote. Raises: StorekeepError, BadRequest."""
    quotes, name, step = request.session.client.quotes, _get_name(request), request.field("step")
    etag, options = request.field("etag"), request.write_options()
    if step == "send":
        quotes.send(name, etag=etag, **options)
        return request.done(f"/{name}", "The quote is sent: its prices are fixed until it expires.")
    if step == "accept":
        order = quotes.accept(name, etag=etag, **options)
        return request.done(f"/{order.name}", f"Order {order.number} has been placed.")
    if step == "expire":
        quotes.expire(name, etag=etag, **options)
        return request.done(f"/{name}", "The quote is withdrawn.")
    raise BadRequest("There is no such step.")


ROUTES = (
    Route("GET", "/quotes", show_quotes, READ),
    Route("GET", "/quotes/{quote}", show_quote, READ),
    Route("POST", "/quotes/{quote}", change_quote, WRITE, show_quote),
)
