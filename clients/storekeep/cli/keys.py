"""`storekeep keys`: commands for API keys and token-signing keys. The secret of a key is shown only once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from storekeep.cli.accounts import Permissions
from storekeep.cli.commands import LIMIT, Etag, Limit, OrderBy, Total, command, make_filter_option, new_group
from storekeep.cli.sessions import Session, compute_page_size
from storekeep.cli.steps import Step, add_steps
from storekeep.client import ApiKey
from storekeep.client.names import to_account_name, to_key_name

COLUMNS = ("name", "state", "display_name", "scopes", "create_time", "expire_time", "revoke_time")
Filter = Annotated[str, make_filter_option('display_name = "till*"', 'create_time > "2026-01-31T00:00:00Z"')]

STEPS = (Step("revoke", "Revoke API keys permanently.", lambda s: s.client.auth.revoke_api_key),)


DAYS_MAX = 36_500
"""A hundred years, so that every program can represent the date."""


def add_keys(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(app, "keys", help="Manage the API keys of service accounts.", example="storekeep keys list shop")
    command(group, "list", example="storekeep keys list shop")(list_keys)
    command(group, "show", example="storekeep keys show shop/web-1")(show_key)
    create = 'storekeep keys create shop --id web-1 --name "Web server 1" --permission orders.write --days 90'
    command(group, "create", example=create, writes=True)(create_key)
    command(group, "rotate", example="storekeep keys rotate shop/web-1 --overlap-hours 2", writes=True)(rotate_key)
    command(group, "rotate-signing", example="storekeep keys rotate-signing", writes=True)(rotate_signing_key)
    command(group, "jwks", example="storekeep keys jwks --json")(list_signing_keys)
    add_steps(group, STEPS, noun="keys", example_name="shop/web-1", to_name=to_key_name, columns=COLUMNS)


def list_keys(
    session: Session,
    account: Annotated[str, typer.Argument(help="Id or full name of the account (default: all).")] = "-",
    filter: Filter = "",  # noqa: A002 - the name in the contract
    order_by: OrderBy = "",
    limit: Limit = LIMIT,
    total: Total = False,
) -> None:
    """List API keys, also expired and revoked ones, without their secrets."""
    listing = session.client.auth.list_api_keys(
        to_account_name(account),
        filter=filter,
        order_by=order_by,
        page_size=compute_page_size(limit),
        include_total_size=total,
    )
    session.show_listing(listing, columns=COLUMNS, limit=limit)


def show_key(
    session: Session, name: Annotated[str, typer.Argument(metavar="ACCOUNT/KEY", help="Both ids or the full name.")]
) -> None:
    """Show one API key, without its secret."""
    session.screen.show_message(session.client.auth.get_api_key(to_key_name(name)))


def create_key(
    session: Session,
    account: Annotated[str, typer.Argument(help="Id or full name of the account.")],
    key_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    display_name: Annotated[str, typer.Option("--name", help="Display name.")] = "",
    permission: Permissions = None,
    days: Annotated[
        int | None, typer.Option("--days", min=1, max=DAYS_MAX, help="Days until it expires (default: never).")
    ] = None,
) -> None:
    """Create an API key and show its secret, which cannot be shown again.

    Without --permission, the key gets the current permissions of its account. With `--permission '*'`, it always has
    the permissions of its account.
    """
    _check_shows_secret(session)
    key = ApiKey(display_name=display_name, scopes=permission or ())
    if days is not None:
        key.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=days))
    created = session.client.auth.create_api_key(
        to_account_name(account), key, api_key_id=key_id, **session.creation_options
    )
    session.screen.show_message(created)


def rotate_key(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="ACCOUNT/KEY", help="Both ids or the full name.")],
    overlap_hours: Annotated[
        float, typer.Option("--overlap-hours", min=0, max=720, help="Hours that the old key remains valid.")
    ] = 24,
    etag: Etag = "",
) -> None:
    """Replace an API key and show the secret of the new one, which cannot be shown again."""
    _check_shows_secret(session)
    rotated = session.client.auth.rotate_api_key(
        to_key_name(name), overlap=timedelta(hours=overlap_hours), etag=etag, **session.creation_options
    )
    session.screen.show_message(rotated)


def rotate_signing_key(session: Session) -> None:
    """Create a new token-signing key. Existing tokens remain valid until they expire."""
    session.screen.show_message(session.client.auth.rotate_signing_key(**session.creation_options))


def list_signing_keys(session: Session) -> None:
    """List the public keys that verify tokens, the current one first."""
    session.screen.show_messages(session.client.auth.get_jwks(), columns=("kid", "alg", "crv", "use"))


def _check_shows_secret(session: Session) -> None:
    if session.screen.names_only:
        raise typer.BadParameter("--output name would not show the secret of the key, which is shown only once")
