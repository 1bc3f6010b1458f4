"""`storekeep accounts` and `storekeep roles`: commands for service accounts and their permissions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Unpack

import typer

from storekeep.cli.changes import build_update
from storekeep.cli.commands import Etag, command, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.sessions import Session
from storekeep.cli.steps import Step, add_steps
from storekeep.client import Role, ServiceAccount, WriteOptions
from storekeep.client.names import to_account_name, to_role_name

COLUMNS = ("name", "display_name", "roles", "disabled", "update_time")
LISTING = ResourceListing(
    "List service accounts.",
    example="storekeep accounts list",
    method=lambda session: session.client.auth.list_service_accounts,
    columns=COLUMNS,
    filters=("disabled = true", 'display_name = "till*"'),
    soft_deletion=True,
)
ROLE_COLUMNS = ("name", "display_name", "permissions", "built_in")
ROLE_LISTING = ResourceListing(
    "List roles and their permissions.",
    example="storekeep roles list",
    method=lambda session: session.client.auth.list_roles,
    columns=ROLE_COLUMNS,
    filters=("built_in = false", 'display_name = "Ware*"'),
)


def _set_disabled(session: Session, *, disabled: bool) -> Callable[..., ServiceAccount]:
    def update(name: str, *, etag: str, **options: Unpack[WriteOptions]) -> ServiceAccount:
        changes, mask = build_update(ServiceAccount, name, etag=etag, disabled=disabled)
        return session.client.auth.update_service_account(changes, update_mask=mask, **options)

    return update


def _disable(session: Session) -> Callable[..., ServiceAccount]:
    return _set_disabled(session, disabled=True)


def _enable(session: Session) -> Callable[..., ServiceAccount]:
    return _set_disabled(session, disabled=False)


STEPS = (
    Step(
        "disable",
        "Disable accounts. Their keys and tokens stop working within 5 seconds.",
        _disable,
    ),
    Step("enable", "Enable disabled accounts.", _enable),
    Step("delete", "Delete accounts; they can be undeleted.", lambda s: s.client.auth.delete_service_account),
    Step("undelete", "Restore deleted accounts.", lambda s: s.client.auth.undelete_service_account),
)


Roles = Annotated[list[str] | None, typer.Option("--role", help="Id or full name of a role. May be repeated.")]
Permissions = Annotated[list[str] | None, typer.Option("--permission", metavar="NOUN.VERB", help="May be repeated.")]


def add_accounts(app: typer.Typer) -> None:
    """Add the group of accounts to the command line."""
    group = new_group(
        app,
        "accounts",
        help="Manage the service accounts of programs and administrators.",
        example='storekeep accounts create --id shop --name "Web shop" --role operator',
    )
    add_listing(group, LISTING)
    command(group, "show", example="storekeep accounts show shop")(show_account)
    create = 'storekeep accounts create --id shop --name "Web shop" --role operator'
    command(group, "create", example=create, writes=True)(create_account)
    update = "storekeep accounts update shop --role viewer"
    command(group, "update", example=update, writes=True)(update_account)
    add_steps(group, STEPS, noun="accounts", example_name="shop", to_name=to_account_name, columns=COLUMNS)


def add_roles(app: typer.Typer) -> None:
    """Add the group of roles."""
    group = new_group(
        app, "roles", help="Manage roles, which are named sets of permissions.", example="storekeep roles list"
    )
    add_listing(group, ROLE_LISTING)
    command(group, "show", example="storekeep roles show operator")(show_role)
    create = 'storekeep roles create --id picker --name "Picker" --permission stock.read --permission orders.read'
    command(group, "create", example=create, writes=True)(create_role)
    update = "storekeep roles update picker --permission stock.read"
    command(group, "update", example=update, writes=True)(update_role)
    command(group, "delete", example="storekeep roles delete picker", writes=True)(delete_role)


def show_account(session: Session, name: Annotated[str, typer.Argument(help="Id or full name.")]) -> None:
    """Show one service account."""
    session.screen.show_message(session.client.auth.get_service_account(to_account_name(name)))


def create_account(
    session: Session,
    display_name: Annotated[str, typer.Option("--name", help="Display name.")],
    account_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    role: Roles = None,
) -> None:
    """Create a service account. Create its API key with `storekeep keys create`."""
    account = ServiceAccount(display_name=display_name, roles=[to_role_name(name) for name in role or ()])
    created = session.client.auth.create_service_account(
        account, service_account_id=account_id, **session.creation_options
    )
    session.screen.show_message(created)


def update_account(
    session: Session,
    name: Annotated[str, typer.Argument(help="Id or full name.")],
    display_name: Annotated[str | None, typer.Option("--name", help="Display name.")] = None,
    role: Roles = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a service account. Roles, if given, replace all existing ones."""
    changes, mask = build_update(
        ServiceAccount,
        to_account_name(name),
        etag=etag,
        display_name=display_name,
        roles=[to_role_name(role_id) for role_id in role] if role else None,
    )
    session.screen.show_message(
        session.client.auth.update_service_account(changes, update_mask=mask, **session.write_options)
    )


def show_role(session: Session, name: Annotated[str, typer.Argument(help="Id or full name.")]) -> None:
    """Show one role."""
    session.screen.show_message(session.client.auth.get_role(to_role_name(name)))


def create_role(
    session: Session,
    display_name: Annotated[str, typer.Option("--name", help="Display name.")],
    role_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    permission: Permissions = None,
) -> None:
    """Create a role."""
    role = Role(display_name=display_name, permissions=permission or ())
    session.screen.show_message(session.client.auth.create_role(role, role_id=role_id, **session.creation_options))


def update_role(
    session: Session,
    name: Annotated[str, typer.Argument(help="Id or full name.")],
    display_name: Annotated[str | None, typer.Option("--name", help="Display name.")] = None,
    permission: Permissions = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a role. Permissions, if given, replace all existing ones."""
    changes, mask = build_update(
        Role, to_role_name(name), etag=etag, display_name=display_name, permissions=permission or None
    )
    session.screen.show_message(session.client.auth.update_role(changes, update_mask=mask, **session.write_options))


def delete_role(
    session: Session, name: Annotated[str, typer.Argument(help="Id or full name.")], etag: Etag = ""
) -> None:
    """Delete a role that no service account has. It cannot be undeleted."""
    session.client.auth.delete_role(to_role_name(name), etag=etag, **session.write_options)
    session.screen.show_notice(
        f"Deleted {to_role_name(name)}." if not session.dry_run else f"{to_role_name(name)} can be deleted."
    )
