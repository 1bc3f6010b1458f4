"""Pages of webhook endpoints and their deliveries. A signing secret is shown once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from storekeep.client import WebhookEndpoint, WriteOptions
from storekeep.console.forms import LABELS, FormField
from storekeep.console.listings import NOTHING, fetch, join, try_fetch
from storekeep.console.rendering import format_badge, get_state
from storekeep.console.requests import BadRequest, Reply, Request, Route, parse_number
from storekeep.console.resources import Column, Filter, Kind
from storekeep.console.spellings import parse_time, split_lines
from storekeep.v1.webhooks_pb2 import RedeliverEventsResponse

READ, WRITE = "webhooks.read", "webhooks.write"
OVERLAP_HOURS_MAX = 720
PAYLOADS = {
    "WEBHOOK_PAYLOAD_THIN": "The name of the resource",
    "WEBHOOK_PAYLOAD_FULL": "The whole resource",
}
STATES = (("ENABLED", "Enabled"), ("PAUSED", "Paused"), ("DISABLED", "Disabled"))
FAILING = (("true", "Yes"), ("false", "No"))
FIELDS = (
    FormField("display_name", "Name"),
    FormField("url", "URL", hint="begins with https://"),
    FormField(
        "event_types", "Events", kind="area", hint="types, one on each line: order.placed, order.* for all of orders, *"
    ),
    FormField("payload", "Messages contain", kind="choice", choices=PAYLOADS),
    FormField("ordered", "In order: an event waits for earlier ones of its resource", kind="flag"),
    FormField("exclude_personal_data", "*** instead of personal data", kind="flag"),
    LABELS,
)


def build_extras(request: Request, endpoint: WebhookEndpoint | None) -> Mapping[str, Any]:
    """Return the deliveries of an endpoint, newest first. Raises: StorekeepError."""
    if endpoint is None:
        return {}
    state = request.query["state"]
    listing = request.session.client.webhooks.list_deliveries(
        endpoint.name,
        filter=join(f"state = {state}" if state.isalpha() else "", request.query["filter"]),
        order_by="create_time desc",
        page_size=50,
    )
    return {
        "shown": try_fetch(lambda: fetch(request, listing), NOTHING),
        "filters": request.query,
        "state": get_state(endpoint.state, "WebhookEndpointState"),
        "secret": "",
        "planned": None,
        "checked": "",
        "form": request.field,
    }


KIND = Kind(
    "webhookEndpoints",
    "webhook endpoint",
    "Webhooks",
    WebhookEndpoint,
    select=lambda client: client.webhooks,
    id_parameter="webhook_endpoint_id",
    read=READ,
    write=WRITE,
    fields=FIELDS,
    columns=(
        Column("URL", lambda _, one: one.url),
        Column("State", lambda _, one: format_badge(get_state(one.state, "WebhookEndpointState"))),
        Column("Events", lambda _, one: ", ".join(one.event_types)),
    ),
    hint="There are no webhook endpoints yet. An endpoint is a server of yours that gets events.",
    filters=(
        Filter("state", "State", "state", choices=STATES),
        Filter("failing", "Failing", "failing", choices=FAILING),
    ),
    delete_text="Nothing is sent to it. It can be restored, and then gets the events that it has missed.",
    order_by="display_name",
    template="webhook.html",
    extras=build_extras,
    get_title=lambda endpoint: endpoint.display_name or endpoint.url,
)


def create(request: Request) -> Reply:
    """Create an endpoint, and show its secret. Raises: StorekeepError, BadRequest."""
    created = KIND.create_message(request)
    return KIND.show_message(request, created.webhook_endpoint, secret=created.secret)


def rotate(request: Request) -> Reply:
    """Create a new secret, and show it. Raises: StorekeepError, BadRequest."""
    hours = parse_number(request.field("overlap_hours", "24"), label="Hours")
    if not 0 <= hours <= OVERLAP_HOURS_MAX:
        raise BadRequest(f"Hours: enter a number from 0 to {OVERLAP_HOURS_MAX}.")
    reply = request.session.client.webhooks.rotate_secret(
        KIND.get_name(request), overlap=timedelta(hours=hours), etag=request.field("etag"), **request.write_options()
    )
    return KIND.show_message(request, reply.webhook_endpoint, secret=reply.secret)


def send_test(request: Request) -> Reply:
    """Send a test event, and show its delivery. Raises: StorekeepError, BadRequest."""
    delivery = request.session.client.webhooks.test(KIND.get_name(request), **request.write_options())
    return request.done(f"/{delivery.name}", "A test event is on its way. Load the page again to see the reply.")


def _get_delivery_name(request: Request) -> str:
    return f"{KIND.get_name(request)}/deliveries/{request.parameters['delivery']}"


def show_delivery(request: Request) -> Reply:
    """Show a delivery, with what was sent and the last reply. Raises: WebhookDeliveryNotFound."""
    webhooks = request.session.client.webhooks
    delivery = webhooks.get_delivery(_get_delivery_name(request))
    return request.page(
        "webhook-delivery.html",
        title=f"Delivery {request.parameters['delivery']}",
        delivery=delivery,
        endpoint=webhooks.get(KIND.get_name(request)),
        payloads=PAYLOADS,
        payload=FIELDS[3],
        duration_ms=round(delivery.last_duration.ToTimedelta() / timedelta(milliseconds=1)),
    )


def redeliver_one(request: Request) -> Reply:
    """Send the event of a delivery again. Raises: StorekeepError, BadRequest."""
    name, webhooks = _get_delivery_name(request), request.session.client.webhooks
    delivery = webhooks.get_delivery(name)
    # Of the events after the one before it, it is the first of its type, and so the one that is sent.
    planned = webhooks.redeliver(
        KIND.get_name(request),
        start=datetime.fromtimestamp(0, UTC),
        event_types=[delivery.event_type],
        after_event=parse_number(request.parameters["delivery"], label="Delivery") - 1,
        max_events=1,
        **request.write_options(),
    )
    if not planned.events:
        raise BadRequest("The endpoint no longer asks for events of this type, so it was not sent.", status=409)
    return request.done(f"/{name}", "The event is sent again. Load the page again to see the reply.")


def _read_time(request: Request, name: str, *, label: str) -> datetime | None:
    """Return a time in the form; None if it is empty. Raises: BadRequest."""
    text = request.field(name)
    try:
        return parse_time(text).ToDatetime(UTC) if text else None
    except ValueError as error:
        raise BadRequest(f"{label}: {error}.") from None


def _describe_redelivery(request: Request) -> str:
    """Return what would be sent again, to compare it with what was checked."""
    return json.dumps([request.field(name) for name in ("start", "end", "types", "failed_only", "after_event")])


def redeliver(request: Request) -> Reply:
    """Send events of a span of time again: first a dry run, then the redelivery. Raises: StorekeepError, BadRequest."""
    name, webhooks = KIND.get_name(request), request.session.client.webhooks
    is_dry = request.field("step") != "apply" or request.field("checked") != _describe_redelivery(request)
    options: WriteOptions = request.write_options()
    start = _read_time(request, "start", label="From")
    if start is None:
        raise BadRequest("From: enter the time of the oldest event to send again.")
    planned = webhooks.redeliver(
        name,
        start=start,
        end=_read_time(request, "end", label="Until"),
        event_types=split_lines(request.field("types")),
        failed_only=bool(request.field("failed_only")),
        after_event=parse_number(request.field("after_event", "0") or "0", label="Event"),
        **(WriteOptions(validate_only=True) if is_dry else options),
    )
    if is_dry:
        checked = _describe_redelivery(request)
        return KIND.show_message(request, webhooks.get(name), planned=planned, checked=checked)
    return _continue(request, planned)


def _continue(request: Request, planned: RedeliverEventsResponse) -> Reply:
    """Say what is sent again, and offer the rest if there is more."""
    notice = f"{request.count(planned.events, 'event')} {'is' if planned.events == 1 else 'are'} sent again."
    if not planned.has_more:
        return request.done(f"/{KIND.get_name(request)}", notice)
    request.form = {**request.form, "after_event": [str(planned.last_event)]}
    request.session.notice = f"{notice} There are more: check them next."
    return KIND.show_message(request, request.session.client.webhooks.get(KIND.get_name(request)))


ROUTES = (
    Route("POST", "/webhookEndpoints/new", create, WRITE, KIND.show_new),
    *KIND.make_routes(),
    Route("POST", "/webhookEndpoints/{resource}/rotate", rotate, WRITE, KIND.show),
    Route("POST", "/webhookEndpoints/{resource}/test", send_test, WRITE, KIND.show),
    Route("POST", "/webhookEndpoints/{resource}/redeliver", redeliver, WRITE, KIND.show),
    Route("GET", "/webhookEndpoints/{resource}/deliveries/{delivery}", show_delivery, READ),
    Route("POST", "/webhookEndpoints/{resource}/deliveries/{delivery}", redeliver_one, WRITE, show_delivery),
)
