"""Roles: named sets of permissions. Refuses to change a built-in one, and to give what the caller does not hold.

The built-in roles are a table here; their rows follow it at every start, so that lists and lookups have one source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from storekeep.server.domain.access import raise_version, require_held, require_known
from storekeep.server.domain.calls import Call
from storekeep.server.domain.collections import Collection
from storekeep.server.domain.errors import ResourceInUse, RoleBuiltIn, RoleNotFound
from storekeep.server.domain.filters import FilterField, Kind
from storekeep.server.domain.lists import Column, Listing
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.resources import check_etag
from storekeep.server.store import auth as store
from storekeep.server.store.database import Transaction
from storekeep.server.store.engine import Store

ADMIN = "admin"
ACCOUNTS = ("accounts.read", "accounts.write")
BUILT_IN_ROLES: dict[str, tuple[str, Callable[[str], bool]]] = {
    ADMIN: ("Administrator", lambda permission: True),
    "operator": ("Operator", lambda permission: permission not in ACCOUNTS),
    "viewer": (
        "Viewer",
        lambda permission: permission.endswith(".read") and permission not in (*ACCOUNTS, "audit.read"),
    ),
}
"""Id -> what people read, and which of all permissions it has."""


class Role(msgspec.Struct, frozen=True):
    """A role; see `Role` in the contract."""

    id: str
    display_name: str
    permissions: tuple[str, ...] = ()
    built_in: bool = False
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0

    @property
    def name(self) -> str:
        """The resource name."""
        return f"roles/{self.id}"

    @property
    def delete_time_us(self) -> None:
        """Roles are not deleted softly: one that is deleted is gone."""
        return None


def _read_truths(_tx: Transaction, roles: list[Role]) -> list[Role]:
    """SQLite gives 0 and 1 where JSON has to say false and true."""
    return [msgspec.structs.replace(role, built_in=bool(role.built_in)) for role in roles]


def _raise_version(tx: Transaction, _new: Role, _old: Role | None) -> None:
    raise_version(tx)


ROLES = Collection(
    Role,
    store.Role,
    key=("id",),
    pattern="roles/{}",
    event="role",
    not_found=RoleNotFound,
    attach=_read_truths,
    store_parts=_raise_version,
)
LISTING = Listing(
    method="ListRoles",
    query=lambda: store.Role.select(*ROLES.rows.fields),
    columns={
        "display_name": Column(store.Role.display_name, FilterField(Kind.TEXT), sortable=True),
        "built_in": Column(store.Role.built_in, FilterField(Kind.BOOLEAN)),
        "create_time": Column(store.Role.create_time_us, sortable=True),
    },
    unique=(store.Role.id,),
    read_rows=ROLES.read_rows,
)


def create_role(database: Store, call: Call, draft: Role, *, known: frozenset[str]) -> Role:
    """Add a role.

    Args:
        known: all permissions that any RPC asks for.

    Raises: UnknownPermission, PrivilegeEscalation, AlreadyExists.
    """

    def effect(mutation: Mutation) -> Role:
        require_known(draft.permissions, known=known)
        require_held(draft.permissions, caller=call.caller)
        return ROLES.add(mutation, draft)

    return mutate(database, call, effect, Role)


def update_role(
    database: Store, call: Call, draft: Role, *, fields: Sequence[str], etag: str, known: frozenset[str]
) -> Role:
    """Change the named fields to the draft's; what is added to the permissions must be held by the caller.

    Raises: RoleNotFound, EtagMismatch, RoleBuiltIn, UnknownPermission, PrivilegeEscalation.
    """

    def effect(mutation: Mutation) -> Role:
        old = _find_changeable(mutation, draft.id, etag=etag)
        new: Role = msgspec.structs.replace(old, **_changes(draft, fields))
        if new == old:
            return old
        added = [permission for permission in new.permissions if permission not in old.permissions]
        require_known(added, known=known)
        require_held(added, caller=call.caller)
        return ROLES.replace(mutation, old, new, happened="updated")

    return mutate(database, call, effect, Role)


def delete_role(database: Store, call: Call, role_id: str, *, etag: str) -> Role:
    """Remove a role that no service account has, and give it as it was.

    Raises: RoleNotFound, EtagMismatch, RoleBuiltIn, ResourceInUse.
    """

    def effect(mutation: Mutation) -> Role:
        old = _find_changeable(mutation, role_id, etag=etag)
        holder = store.ACCOUNT_WITH_ROLE.one(mutation.tx, role_id=role_id)
        if holder is not None:
            raise ResourceInUse(old.name, user=f"serviceAccounts/{holder[0]}")
        ROLES.rows.delete(mutation.tx, (role_id,))
        raise_version(mutation.tx)
        mutation.record("role.deleted", before=old, after=None)
        return old

    return mutate(database, call, effect, Role)


def _find_changeable(mutation: Mutation, role_id: str, *, etag: str) -> Role:
    """Raises: RoleNotFound, EtagMismatch, RoleBuiltIn."""
    role = ROLES.find(mutation.tx, (role_id,))
    check_etag(role, etag)
    if role.built_in:
        raise RoleBuiltIn(role.name)
    return role


def _changes(draft: Role, fields: Sequence[str]) -> dict[str, Any]:
    return {field: getattr(draft, field) for field in fields}


def install_built_in_roles(mutation: Mutation, *, known: frozenset[str]) -> None:
    """Make the rows of the built-in roles say what their table says; done already, nothing is written."""
    for role_id, (display_name, has) in BUILT_IN_ROLES.items():
        role = Role(role_id, display_name, tuple(sorted(filter(has, known))), built_in=True)
        row = ROLES.rows.find(mutation.tx, (role_id,))
        if row is None:
            ROLES.add(mutation, role)
            continue
        old = ROLES.read_rows(mutation.tx, [row])[0]
        if (old.display_name, old.permissions) != (role.display_name, role.permissions):
            new = msgspec.structs.replace(old, display_name=role.display_name, permissions=role.permissions)
            ROLES.replace(mutation, old, new, happened="updated")
