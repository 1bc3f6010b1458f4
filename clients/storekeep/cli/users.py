"""`storekeep users`: commands for the people who sign in with a password."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Unpack
from urllib.parse import quote

import typer

from storekeep.cli.changes import build_update
from storekeep.cli.commands import Etag, command, new_group
from storekeep.cli.consoles import ConsoleOption, find_console
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.sessions import Session
from storekeep.cli.steps import Step, add_steps
from storekeep.client import CreatePasswordLinkResponse, StorekeepError, User, WriteOptions
from storekeep.client.names import to_role_name, to_user_name

COLUMNS = ("name", "display_name", "email", "roles", "disabled", "has_password", "totp_enabled", "identity_linked")
SESSION_COLUMNS = ("name", "program", "create_time", "expire_time", "revoke_time")
LISTING = ResourceListing(
    "List users.",
    example="storekeep users list",
    method=lambda session: session.client.users.list_users,
    columns=COLUMNS,
    filters=("disabled = true", 'email = "ann@example.com"'),
    soft_deletion=True,
)
HOURS_MAX = 720
Name = Annotated[str, typer.Argument(help="Id or full name.")]
Roles = Annotated[list[str] | None, typer.Option("--role", help="Id or full name of a role. May be repeated.")]
Hours = Annotated[float, typer.Option("--hours", min=0.1, max=HOURS_MAX, help="Hours that the link works.")]


def _unlink(session: Session) -> Callable[..., User]:
    def update(name: str, *, etag: str, **options: Unpack[WriteOptions]) -> User:
        if not session.client.users.get_user(name).identity_linked:
            session.screen.show_notice(f"{name} is not linked to the identity provider; nothing changes.")
        changes, mask = build_update(User, name, etag=etag, identity_linked=False)
        return session.client.users.update_user(changes, update_mask=mask, **options)

    return update


def _set_disabled(session: Session, *, disabled: bool) -> Callable[..., User]:
    def update(name: str, *, etag: str, **options: Unpack[WriteOptions]) -> User:
        changes, mask = build_update(User, name, etag=etag, disabled=disabled)
        return session.client.users.update_user(changes, update_mask=mask, **options)

    return update


STEPS = (
    Step(
        "disable",
        "Disable users. Their passwords stop working, and their sessions within 5 seconds.",
        lambda session: _set_disabled(session, disabled=True),
    ),
    Step("enable", "Enable disabled users.", lambda session: _set_disabled(session, disabled=False)),
    Step("delete", "Delete users; they can be undeleted.", lambda session: session.client.users.delete_user),
    Step("undelete", "Restore deleted users.", lambda session: session.client.users.undelete_user),
    Step(
        "unlink",
        "Unlink users from the identity provider, and end their sessions. Send them a link to set a password.",
        _unlink,
    ),
    Step(
        "reset-totp",
        "Remove the authenticator apps of users who have lost them, and end their sessions.",
        lambda session: session.client.users.reset_user_totp,
    ),
)


def add_users(app: typer.Typer) -> None:
    """Add the group to the command line."""
    example = 'storekeep users invite --name "Ann Example" --email ann@example.com --role operator'
    group = new_group(app, "users", help="Manage the people who sign in with a password.", example=example)
    add_listing(group, LISTING)
    command(group, "show", example="storekeep users show ann")(show_user)
    command(group, "invite", example=example, writes=True)(invite_user)
    update = "storekeep users update ann --role viewer"
    command(group, "update", example=update, writes=True)(update_user)
    command(group, "link", example="storekeep users link ann --hours 2", writes=True)(create_link)
    add_steps(group, STEPS, noun="users", example_name="ann", to_name=to_user_name, columns=COLUMNS)
    command(group, "sessions", example="storekeep users sessions ann")(list_sessions)
    command(group, "end-sessions", example="storekeep users end-sessions ann", writes=True)(end_sessions)


def show_user(session: Session, name: Name) -> None:
    """Show one user."""
    session.screen.show_message(session.client.users.get_user(to_user_name(name)))


def invite_user(
    session: Session,
    display_name: Annotated[str, typer.Option("--name", help="Name of the person.")],
    email: Annotated[str, typer.Option("--email", help="Email address, with which the person signs in.")],
    user_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    role: Roles = None,
    hours: Hours = 72,
    console: ConsoleOption = "",
) -> None:
    """Create a user, and show the token and the link with which the person sets a password.

    Send the link in a way that only this person can read.
    """
    user = User(display_name=display_name, email=email, roles=[to_role_name(name) for name in role or ()])
    created = session.client.users.create_user(user, user_id=user_id, **session.creation_options)
    if session.dry_run:
        session.screen.show_message(created)
        return
    session.screen.show_notice(f"Created {created.name}.")
    if not created.roles:
        text = f"It has no role, and may do nothing until it has: storekeep users update {user_id or created.name}"
        session.screen.show_notice(f"{text} --role ROLE")
    try:
        link = session.client.users.create_password_link(created.name, lifetime=timedelta(hours=hours))
    except StorekeepError as error:
        error.message += f"; the user exists, but has no link yet; run: storekeep users link {created.name}"
        raise
    _show_link(session, link, console)


def update_user(
    session: Session,
    name: Name,
    display_name: Annotated[str | None, typer.Option("--name", help="Name of the person.")] = None,
    email: Annotated[str | None, typer.Option("--email", help="Email address.")] = None,
    role: Roles = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a user. Roles, if given, replace all existing ones."""
    changes, mask = build_update(
        User,
        to_user_name(name),
        etag=etag,
        display_name=display_name,
        email=email,
        roles=[to_role_name(role_id) for role_id in role] if role else None,
    )
    session.screen.show_message(session.client.users.update_user(changes, update_mask=mask, **session.write_options))


def create_link(session: Session, name: Name, hours: Hours = 72, console: ConsoleOption = "") -> None:
    """Show a token and the link with which a user sets a new password, once. Earlier ones stop working."""
    link = session.client.users.create_password_link(
        to_user_name(name), lifetime=timedelta(hours=hours), **session.creation_options
    )
    _show_link(session, link, console)


def _show_link(session: Session, link: CreatePasswordLinkResponse, console: str) -> None:
    """Show a token, and the link with it."""
    url = find_console(console, session)
    if link.link_token:
        page = f"{url or 'CONSOLE'}/password?token={quote(link.link_token, safe='')}"
        advice = "" if url else ", with the address of your console for CONSOLE (--console prints it)"
        session.screen.show_notice(f"Send this link{advice}: {page}")
    session.screen.show_message(link)


def list_sessions(session: Session, name: Name) -> None:
    """List the sessions of a user. Those that have ended are listed for a day."""
    user = session.client.users.get_user(to_user_name(name))
    listing = session.client.users.list_user_sessions(user.name, order_by="create_time desc")
    session.show_listing(listing, columns=SESSION_COLUMNS, limit=100)


def end_sessions(session: Session, name: Name) -> None:
    """End all sessions of a user."""
    ended = session.client.users.revoke_user_sessions(to_user_name(name), **session.write_options)
    session.screen.show_notice(f"Sessions ended: {ended}." if not session.dry_run else f"Sessions to end: {ended}.")
