"""Roles: named sets of permissions. Refuses to change a built-in one; nobody gives or takes what he does not hold.

The built-in roles are a table here; their rows follow it at every start, so that lists and lookups have one source.
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

    Raises: UnknownPermission, PrivilegeEscalation, AlreadyExists (also where only the case of letters differs).
    """

    def check(_mutation: Mutation, _stored: Role | None) -> None:
        require_known(draft.permissions, known=known)
        require_held(draft.permissions, caller=call.caller)

    def effect(mutation: Mutation) -> Role:
        check_no_lookalike(mutation, store.ROLE_LIKE, pattern="roles/{}", id=draft.id)
        return ROLES.add(mutation, draft)

    return mutate(database, call, effect, Role, check_access=check)


def update_role(
    database: Store, call: Call, draft: Role, *, fields: Sequence[str], etag: str, known: frozenset[str]
) -> Role:
    """Change the named fields to the draft's.

    The caller must hold all that the role holds, before and after, and all that each account does which has it: the
    change takes from them, or gives to them.

    Raises: RoleNotFound, UnknownPermission, PrivilegeEscalation, EtagMismatch, RoleBuiltIn.
    """

    def check(mutation: Mutation, stored: Role | None) -> None:
        _check_role(mutation, draft.id, stored)
        if "permissions" in fields:
            require_known(draft.permissions, known=known)
            require_held(draft.permissions, caller=call.caller)

    def effect(mutation: Mutation) -> Role:
        old = _find_changeable(mutation, draft.id, etag=etag)
        new: Role = msgspec.structs.replace(old, **_changes(draft, fields))
        return old if new == old else ROLES.replace(mutation, old, new, happened="updated")

    return mutate(database, call, effect, Role, check_access=check)


def delete_role(database: Store, call: Call, role_id: str, *, etag: str) -> Role:
    """Remove a role that no service account has, and give it as it was. The caller must hold all that it holds.

    Raises: RoleNotFound, PrivilegeEscalation, EtagMismatch, RoleBuiltIn, ResourceInUse.
    """

    def check(mutation: Mutation, stored: Role | None) -> None:
        _check_role(mutation, role_id, stored)

    def effect(mutation: Mutation) -> Role:
        old = _find_changeable(mutation, role_id, etag=etag)
        holder = store.ACCOUNT_WITH_ROLE.one(mutation.tx, role_id=role_id)
        if holder is not None:
            raise ResourceInUse(old.name, user=f"serviceAccounts/{holder[0]}")
        ROLES.rows.delete(mutation.tx, (role_id,))
        raise_version(mutation.tx)
        mutation.record("role.deleted", before=old, after=None)
        return old

    return mutate(database, call, effect, Role, check_access=check)


def _check_role(mutation: Mutation, role_id: str, stored: Role | None) -> None:
    """Refuse a role to a caller that does not itself hold all that it holds, and all that those who have it do.

    Args:
        stored: the role as the call left it the first time; it may be gone since.

    Raises: PrivilegeEscalation.
    """
    tx, caller = mutation.tx, mutation.call.caller
    row = ROLES.rows.find(tx, (role_id,))
    roles = [*([] if stored is None else [stored]), *([] if row is None else ROLES.read_rows(tx, [row]))]
    for role in roles:
        require_held(role.permissions, caller=caller)
    for (permissions,) in store.PERMISSIONS_OF_HOLDERS.all(tx, role_id=role_id):
        require_held(read_names(permissions), caller=caller)


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
