"""`storekeep webhooks`: commands for webhook endpoints and deliveries. A signing secret is shown only once."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import LIMIT, Etag, Label, Limit, OrderBy, Total, command, make_filter_option, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.pairs import parse_labels
from storekeep.cli.sessions import Session, compute_page_size
from storekeep.cli.steps import Step, add_steps
from storekeep.cli.times import parse_time_or_age
from storekeep.client import WebhookEndpoint, WebhookPayload
from storekeep.client.names import to_webhook_name

COLUMNS = ("name", "state", "display_name", "url", "event_types", "update_time")
DELIVERY_COLUMNS = (
    "name",
    "state",
    "event_type",
    "resource",
    "attempts",
    "last_status",
    "last_problem",
    "next_attempt_time",
)
LISTING = ResourceListing(
    "List webhook endpoints.",
    example="storekeep webhooks list",
    method=lambda session: session.client.webhooks.list,
    columns=COLUMNS,
    filters=("failing = true", 'url = "https://example.com*"'),
    soft_deletion=True,
)
STEPS = (
    Step("pause", "Pause endpoints: their events wait.", lambda s: s.client.webhooks.pause),
    Step("resume", "Resume paused or disabled endpoints.", lambda s: s.client.webhooks.resume),
    Step("delete", "Delete endpoints; they can be undeleted.", lambda s: s.client.webhooks.delete),
    Step("undelete", "Restore deleted endpoints.", lambda s: s.client.webhooks.undelete),
)
Name = Annotated[str, typer.Argument(help="Id or full name of the endpoint.")]
EventType = typer.Option(
    "--event", metavar="TYPE", help="Event type, such as order.placed or order.*. May be repeated."
)
URL = typer.Option("--url", help="Where events are sent: an https URL with a public address.")
DISPLAY_NAME = typer.Option("--name", help="Display name.")
FULL = typer.Option("--full/--thin", help="Whether messages contain the whole resource.")
ORDERED = typer.Option("--ordered/--unordered", help="Whether the events of a resource are sent in their order.")
DeliveryFilter = Annotated[str, make_filter_option("state = FAILED", "event_type = order.placed")]


def add_webhooks(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app, "webhooks", help="Send events to your own servers over HTTPS.", example="storekeep webhooks list"
    )
    add_listing(group, LISTING)
    command(group, "show", example="storekeep webhooks show erp")(show_endpoint)
    create = "storekeep webhooks create --id erp --url https://example.com/hooks --event 'order.*'"
    command(group, "create", example=create, writes=True)(create_endpoint)
    command(group, "update", example="storekeep webhooks update erp --full", writes=True)(update_endpoint)
    rotate = "storekeep webhooks rotate-secret erp --overlap-hours 48"
    command(group, "rotate-secret", example=rotate, writes=True)(rotate_secret)
    command(group, "test", example="storekeep webhooks test erp", writes=True)(test_endpoint)
    deliveries = "storekeep webhooks deliveries erp --filter 'state = FAILED'"
    command(group, "deliveries", example=deliveries)(list_deliveries)
    redeliver = "storekeep webhooks redeliver erp --since 1h --failed"
    command(group, "redeliver", example=redeliver, writes=True)(redeliver_events)
    add_steps(group, STEPS, noun="webhooks", example_name="erp", to_name=to_webhook_name, columns=COLUMNS)


def show_endpoint(session: Session, name: Name) -> None:
    """Show one endpoint, without its secret."""
    session.screen.show_message(session.client.webhooks.get(to_webhook_name(name)))


def create_endpoint(
    session: Session,
    url: Annotated[str, URL],
    event: Annotated[list[str], EventType],
    endpoint_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    display_name: Annotated[str, DISPLAY_NAME] = "",
    full: Annotated[bool, FULL] = False,
    ordered: Annotated[bool, ORDERED] = False,
    label: Label = None,
) -> None:
    """Create an endpoint and show its signing secret, which cannot be shown again."""
    _check_shows_secret(session)
    endpoint = WebhookEndpoint(
        display_name=display_name,
        url=url,
        event_types=event,
        payload=_get_payload(full=full),
        ordered=ordered,
        labels=parse_labels(label or ()),
    )
    created = session.client.webhooks.create(endpoint, webhook_endpoint_id=endpoint_id, **session.creation_options)
    session.screen.show_message(created)


def update_endpoint(
    session: Session,
    name: Name,
    url: Annotated[str | None, URL] = None,
    event: Annotated[list[str] | None, EventType] = None,
    display_name: Annotated[str | None, DISPLAY_NAME] = None,
    full: Annotated[bool | None, FULL] = None,
    ordered: Annotated[bool | None, ORDERED] = None,
    label: Label = None,
    clear: Clear = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of an endpoint. Event types and labels, if given, replace all existing ones."""
    changes, mask = build_update(
        WebhookEndpoint,
        to_webhook_name(name),
        etag=etag,
        clear=clear or (),
        display_name=display_name,
        url=url,
        event_types=event,
        payload=None if full is None else _get_payload(full=full),
        ordered=ordered,
        labels=None if label is None else parse_labels(label),
    )
    updated = session.client.webhooks.update(changes, update_mask=mask, **session.write_options)
    session.screen.show_message(updated)


def rotate_secret(
    session: Session,
    name: Name,
    overlap_hours: Annotated[
        float, typer.Option("--overlap-hours", min=0, max=720, help="Hours that the old secret signs too.")
    ] = 24,
    etag: Etag = "",
) -> None:
    """Create a new signing secret and show it. It cannot be shown again."""
    _check_shows_secret(session)
    rotated = session.client.webhooks.rotate_secret(
        to_webhook_name(name), overlap=timedelta(hours=overlap_hours), etag=etag, **session.creation_options
    )
    session.screen.show_message(rotated)


def test_endpoint(session: Session, name: Name) -> None:
    """Send a test event. See its outcome with `storekeep webhooks deliveries`."""
    session.screen.show_message(session.client.webhooks.test(to_webhook_name(name), **session.creation_options))


def list_deliveries(
    session: Session,
    name: Annotated[str, typer.Argument(help="Id or full name of the endpoint (default: all).")] = "-",
    filter: DeliveryFilter = "",  # noqa: A002 - the name in the contract
    order_by: OrderBy = "create_time desc",
    limit: Limit = LIMIT,
    total: Total = False,
) -> None:
    """List deliveries, newest first, with the outcome of the last attempt."""
    listing = session.client.webhooks.list_deliveries(
        to_webhook_name(name),
        filter=filter,
        order_by=order_by,
        page_size=compute_page_size(limit),
        include_total_size=total,
    )
    full_name = to_webhook_name(name)
    session.show_listing(
        listing,
        columns=DELIVERY_COLUMNS,
        limit=limit,
        check_parent=(lambda: session.client.webhooks.get(full_name)) if name != "-" else None,
    )


def redeliver_events(
    session: Session,
    name: Name,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Date, time or age, such as 1h, of the oldest event.")
    ],
    until: Annotated[
        str, typer.Option("--until", metavar="TIME", help="Date, time or age after the newest event (default: now).")
    ] = "",
    event: Annotated[list[str] | None, EventType] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only events whose delivery failed.")] = False,
    after: Annotated[int, typer.Option("--after", help="Continue after this event: the last_event shown.")] = 0,
) -> None:
    """Send past events again, oldest first."""
    session.screen.show_message(
        session.client.webhooks.redeliver(
            to_webhook_name(name),
            start=parse_time_or_age(since),
            end=parse_time_or_age(until) if until else None,
            event_types=event or (),
            failed_only=failed,
            after_event=after,
            **session.creation_options,
        )
    )


def _get_payload(*, full: bool) -> WebhookPayload.ValueType:
    return WebhookPayload.WEBHOOK_PAYLOAD_FULL if full else WebhookPayload.WEBHOOK_PAYLOAD_THIN


def _check_shows_secret(session: Session) -> None:
    if session.screen.names_only:
        raise typer.BadParameter("--output name would not show the signing secret, which is shown only once")
