"""Roles: named sets of permissions.

Built-in roles cannot be changed. A caller can neither grant nor revoke permissions that it lacks itself. The built-in
roles are defined in a table here; every start updates their rows, so that lists and lookups have one source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from storekeep.server.domain.access.accounts import check_no_lookalike
from storekeep.server.domain.access.permissions import raise_version, read_names, require_held, require_known
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import ResourceInUse, RoleBuiltIn, RoleNotFound
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.domain.standard.resources import check_etag
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as store
from storekeep.server.store.tables.users import DELETE_PASSWORD_LINKS_OF_ROLE

ADMIN = "admin"
ACCOUNTS = ("accounts.read", "accounts.write")
BUILT_IN_ROLES: dict[str, tuple[str, Callable[[str], bool]]] = {
    ADMIN: ("Administrator", lambda permission: True),
    "operator": ("Operator", lambda permission: permission not in ACCOUNTS),
    "viewer": (
        "Viewer",
        lambda permission: (
            permission.endswith(".read")
            and permission not in (*ACCOUNTS, "audit.read", "webhooks.read", "coupons.read")
        ),
    ),
}
"""Role id -> display name, and a predicate that selects its permissions."""


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
        """Always None: roles have no soft deletion."""
        return None


def _raise_version(tx: Transaction, _new: Role, _old: Role | None) -> None:
    raise_version(tx)


ROLES = Collection(
    Role,
    store.Role,
    key=("id",),
    pattern="roles/{}",
    event="role",
    not_found=RoleNotFound,
    store_parts=_raise_version,
)
LISTING = Listing(
    method="ListRoles",
    query=lambda: store.Role.select(*ROLES.rows.fields),
    columns={
        "display_name": Column(store.Role.display_name, FilterField(Kind.TEXT), sortable=True),
        "built_in": Column(store.Role.built_in, FilterField(Kind.BOOLEAN)),
        "create_time": Column(store.Role.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Role.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.Role.id,),
    read_rows=ROLES.read_rows,
)


def create_role(database: Store, call: Call, new_role: Role, *, known: frozenset[str]) -> Role:
    """Create a role. The caller must have all its permissions.

    Args:
        known: all permissions that RPCs require.

    Raises: UnknownPermission, PrivilegeEscalation, AlreadyExists (also for an id that differs only in letter case).
    """

    def check(_mutation: Mutation, _stored: Role | None) -> None:
        require_known(new_role.permissions, known=known)
        require_held(new_role.permissions, caller=call.caller)

    def effect(mutation: Mutation) -> Role:
        check_no_lookalike(mutation, store.ROLE_LIKE, pattern="roles/{}", id=new_role.id)
        return ROLES.add(mutation, new_role)

    return mutate(database, call, effect, Role, check_access=check)


def update_role(
    database: Store, call: Call, new_role: Role, *, fields: Sequence[str], etag: str, known: frozenset[str]
) -> Role:
    """Set the named fields to the values in `new_role`.

    The caller must have all old and new permissions of the role, and all permissions of each account and user with
    the role, because the change affects them. More permissions end the password links of these users, whose holders
    may not have them.

    Raises: RoleNotFound, UnknownPermission, PrivilegeEscalation, EtagMismatch, RoleBuiltIn.
    """

    def check(mutation: Mutation, stored: Role | None) -> None:
        _check_role(mutation, new_role.id, stored)
        if "permissions" in fields:
            require_known(new_role.permissions, known=known)
            require_held(new_role.permissions, caller=call.caller)

    def effect(mutation: Mutation) -> Role:
        old = _find_custom_role(mutation, new_role.id, etag=etag)
        new: Role = msgspec.structs.replace(old, **_select_fields(new_role, fields))
        if new == old:
            return old
        if not set(new.permissions) <= set(old.permissions):
            DELETE_PASSWORD_LINKS_OF_ROLE.run(mutation.tx, role_id=new.id)
        return ROLES.replace(mutation, old, new, action="updated")

    return mutate(database, call, effect, Role, check_access=check)


def delete_role(database: Store, call: Call, role_id: str, *, etag: str) -> Role:
    """Delete a role that no service account and no user has, and return it. The caller must have all its permissions.

    Raises: RoleNotFound, PrivilegeEscalation, EtagMismatch, RoleBuiltIn, ResourceInUse.
    """

    def check(mutation: Mutation, stored: Role | None) -> None:
        _check_role(mutation, role_id, stored)

    def effect(mutation: Mutation) -> Role:
        old = _find_custom_role(mutation, role_id, etag=etag)
        holder = store.HOLDER_OF_ROLE.one(mutation.tx, role_id=role_id)
        if holder is not None:
            raise ResourceInUse(old.name, user=holder[0])
        ROLES.rows.delete(mutation.tx, (role_id,))
        raise_version(mutation.tx)
        mutation.record("role.deleted", before=old, after=None)
        return old

    return mutate(database, call, effect, Role, check_access=check)


def _check_role(mutation: Mutation, role_id: str, stored: Role | None) -> None:
    """Raise unless the caller has all permissions of the role and of the accounts and users with the role.

    Args:
        stored: the role in the stored reply of a retry; it may have been deleted since. None for a first call.

    Raises: PrivilegeEscalation.
    """
    tx, caller = mutation.tx, mutation.call.caller
    row = ROLES.rows.find(tx, (role_id,))
    roles = [*([] if stored is None else [stored]), *([] if row is None else ROLES.read_rows(tx, [row]))]
    for role in roles:
        require_held(role.permissions, caller=caller)
    for (permissions,) in store.HOLDER_PERMISSIONS.all(tx, role_id=role_id):
        require_held(read_names(permissions), caller=caller)


def _find_custom_role(mutation: Mutation, role_id: str, *, etag: str) -> Role:
    """Return a role that may be changed.

    Raises: RoleNotFound, EtagMismatch, RoleBuiltIn.
    """
    role = ROLES.find(mutation.tx, (role_id,))
    check_etag(role, etag)
    if role.built_in:
        raise RoleBuiltIn(role.name)
    return role


def _select_fields(new_role: Role, fields: Sequence[str]) -> dict[str, Any]:
    return {field: getattr(new_role, field) for field in fields}


def install_built_in_roles(mutation: Mutation, *, known: frozenset[str]) -> None:
    """Create or update the rows of the built-in roles. Write nothing if they are up to date."""
    for role_id, (display_name, has) in BUILT_IN_ROLES.items():
        role = Role(role_id, display_name, tuple(sorted(filter(has, known))), built_in=True)
        row = ROLES.rows.find(mutation.tx, (role_id,))
        if row is None:
            ROLES.add(mutation, role)
            continue
        old = ROLES.read_rows(mutation.tx, [row])[0]
        if (old.display_name, old.permissions) != (role.display_name, role.permissions):
            new = msgspec.structs.replace(old, display_name=role.display_name, permissions=role.permissions)
            ROLES.replace(mutation, old, new, action="updated")
