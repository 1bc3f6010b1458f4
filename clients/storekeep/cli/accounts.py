"""`storekeep accounts` and `storekeep roles`: who may call, and what each may do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Unpack

import typer

from storekeep.cli.changes import changes_of
from storekeep.cli.commands import Etag, command, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.names import full_name
from storekeep.cli.sessions import Session
from storekeep.cli.steps import Step, add_steps
from storekeep.client import Role, ServiceAccount, WriteOptions

COLUMNS = ("name", "display_name", "roles", "disabled", "update_time")
LISTING = ResourceListing(
    "List service accounts.",
    example="storekeep accounts list",
    method=lambda session: session.client.auth.list_service_accounts,
    columns=COLUMNS,
    soft_deletion=True,
)
ROLE_COLUMNS = ("name", "display_name", "permissions", "built_in")
ROLE_LISTING = ResourceListing(
    "List roles and what each may do.",
    example="storekeep roles list",
    method=lambda session: session.client.auth.list_roles,
    columns=ROLE_COLUMNS,
)


def _switch(session: Session, *, disabled: bool) -> Callable[..., ServiceAccount]:
    def switch(name: str, *, etag: str, **options: Unpack[WriteOptions]) -> ServiceAccount:
        wanted, mask = changes_of(ServiceAccount, name, etag=etag, disabled=disabled)
        return session.client.auth.update_service_account(wanted, update_mask=mask, **options)

    return switch


def _disable(session: Session) -> Callable[..., ServiceAccount]:
    return _switch(session, disabled=True)


def _enable(session: Session) -> Callable[..., ServiceAccount]:
    return _switch(session, disabled=False)


STEPS = (
    Step(
        "disable",
        "Lock accounts out, with their keys and tokens, within 5 seconds.",
        _disable,
    ),
    Step("enable", "Let disabled accounts in again.", _enable),
    Step("delete", "Delete accounts; they can be undeleted.", lambda s: s.client.auth.delete_service_account),
    Step("undelete", "Bring deleted accounts back.", lambda s: s.client.auth.undelete_service_account),
)

account_name = partial(full_name, "serviceAccounts")
role_name = partial(full_name, "roles")

Roles = Annotated[list[str] | None, typer.Option("--role", help="A role's id or full name; repeat for several.")]
Permissions = Annotated[list[str] | None, typer.Option("--permission", metavar="NOUN.VERB", help="Repeat for several.")]


def add_accounts(app: typer.Typer) -> None:
    """Add the groups to the command line."""
    group = new_group(
        app,
        "accounts",
        help="The programs and admins that call.",
        example='storekeep accounts create --id shop --name "Web shop" --role operator',
    )
    add_listing(group, LISTING)
    command(group, "show", example="storekeep accounts show shop")(show_account)
    create = 'storekeep accounts create --id shop --name "Web shop" --role operator'
    command(group, "create", example=create, writes=True)(create_account)
    update = "storekeep accounts update shop --role viewer"
    command(group, "update", example=update, writes=True)(update_account)
    add_steps(group, STEPS, noun="accounts", example_name="shop", to_name=account_name, columns=COLUMNS)
    add_roles(app)


def add_roles(app: typer.Typer) -> None:
    """Add the group of roles."""
    group = new_group(app, "roles", help="Named sets of permissions.", example="storekeep roles list")
    add_listing(group, ROLE_LISTING)
    command(group, "show", example="storekeep roles show operator")(show_role)
    create = 'storekeep roles create --id picker --name "Picker" --permission stock.read --permission orders.read'
    command(group, "create", example=create, writes=True)(create_role)
    update = "storekeep roles update picker --permission stock.read"
    command(group, "update", example=update, writes=True)(update_role)
    command(group, "delete", example="storekeep roles delete picker", writes=True)(delete_role)


def show_account(session: Session, name: Annotated[str, typer.Argument(help="Its id or full name.")]) -> None:
    """Show one service account."""
    session.screen.show_message(session.client.auth.get_service_account(account_name(name)))


def create_account(
    session: Session,
    display_name: Annotated[str, typer.Option("--name", help="What people read.")],
    account_id: Annotated[str, typer.Option("--id", help="Its id; the server chooses one without.")] = "",
    role: Roles = None,
) -> None:
    """Create a service account. Give it a key with `storekeep keys create`."""
    account = ServiceAccount(display_name=display_name, roles=[role_name(name) for name in role or ()])
    created = session.client.auth.create_service_account(
        account, service_account_id=account_id, **session.write_options
    )
    session.screen.show_message(created)


def update_account(
    session: Session,
    name: Annotated[str, typer.Argument(help="Its id or full name.")],
    display_name: Annotated[str | None, typer.Option("--name", help="What people read.")] = None,
    role: Roles = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a service account. Roles, when given, replace all that it has."""
    wanted, mask = changes_of(
        ServiceAccount,
        account_name(name),
        etag=etag,
        display_name=display_name,
        roles=[role_name(one) for one in role] if role else None,
    )
    session.screen.show_message(
        session.client.auth.update_service_account(wanted, update_mask=mask, **session.write_options)
    )


def show_role(session: Session, name: Annotated[str, typer.Argument(help="Its id or full name.")]) -> None:
    """Show one role."""
    session.screen.show_message(session.client.auth.get_role(role_name(name)))


def create_role(
    session: Session,
    display_name: Annotated[str, typer.Option("--name", help="What people read.")],
    role_id: Annotated[str, typer.Option("--id", help="Its id; the server chooses one without.")] = "",
    permission: Permissions = None,
) -> None:
    """Create a role."""
    role = Role(display_name=display_name, permissions=permission or ())
    session.screen.show_message(session.client.auth.create_role(role, role_id=role_id, **session.write_options))


def update_role(
    session: Session,
    name: Annotated[str, typer.Argument(help="Its id or full name.")],
    display_name: Annotated[str | None, typer.Option("--name", help="What people read.")] = None,
    permission: Permissions = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a role. Permissions, when given, replace all that it has."""
    wanted, mask = changes_of(
        Role, role_name(name), etag=etag, display_name=display_name, permissions=permission or None
    )
    session.screen.show_message(session.client.auth.update_role(wanted, update_mask=mask, **session.write_options))


def delete_role(
    session: Session, name: Annotated[str, typer.Argument(help="Its id or full name.")], etag: Etag = ""
) -> None:
    """Delete a role that no service account has. It cannot be undeleted."""
    session.client.auth.delete_role(role_name(name), etag=etag, **session.write_options)
    session.screen.remark(f"{role_name(name)} is deleted." if not session.dry_run else "It could be deleted.")
