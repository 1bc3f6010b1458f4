"""Pages of reservations: the list, one reservation, its change and its release."""

from __future__ import annotations

from storekeep.console.forms import LABELS, FormField, apply_changes, build_conflict, list_values
from storekeep.console.listings import fetch, join, show_list
from storekeep.console.requests import Reply, Request, Route, quote_filter

READ, WRITE = "reservations.read", "reservations.write"
FIELDS = (
    FormField("reference", "Reference"),
    FormField("expire_time", "Expires", kind="time", hint="UTC"),
    LABELS,
)


def show_reservations(request: Request) -> Reply:
    """List reservations, newest first."""
    state, text = request.query.get("state", ""), request.query.get("q", "").strip()
    listing = request.session.client.inventory.list_reservations(
        filter=join(
            f"state = {state}" if state.isalpha() else "",
            f"reference = {quote_filter(text)}" if text else "",
            request.query.get("filter", ""),
        ),
        order_by="create_time desc",
        page_size=50,
        include_total_size=True,
    )
    return show_list(request, "reservations.html", title="Reservations", fetch_page=lambda: fetch(request, listing))


def _get_name(request: Request) -> str:
    return f"reservations/{request.parameters['reservation']}"


def show_reservation(request: Request) -> Reply:
    """Show one reservation. Raises: ReservationNotFound."""
    reservation = request.session.client.inventory.get_reservation(_get_name(request))
    return request.page(
        "reservation.html",
        title="Reservation",
        reservation=reservation,
        fields=list_values(FIELDS, request, reservation),
        conflict=build_conflict(FIELDS, reservation, request),
    )


def update(request: Request) -> Reply:
    """Change reference, expiry time and labels of a reservation. Raises: StorekeepError, BadRequest."""
    name, inventory = _get_name(request), request.session.client.inventory
    reservation, mask = apply_changes(FIELDS, request, inventory.get_reservation(name))
    if mask:
        inventory.update_reservation(reservation, update_mask=mask, **request.write_options())
    return request.done(f"/{name}", "The reservation has been changed." if mask else "Nothing was changed.")


def release(request: Request) -> Reply:
    """Release a reservation. Raises: StorekeepError, BadRequest."""
    name = _get_name(request)
    request.session.client.inventory.release_reservation(name, etag=request.field("etag"), **request.write_options())
    return request.done(f"/{name}", "The reservation is released.")


ROUTES = (
    Route("GET", "/reservations", show_reservations, READ),
    Route("GET", "/reservations/{reservation}", show_reservation, READ),
    Route("POST", "/reservations/{reservation}", update, WRITE, show_reservation),
    Route("POST", "/reservations/{reservation}/release", release, WRITE, show_reservation),
)
