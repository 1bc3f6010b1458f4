"""Service accounts, the callers of the API.

A caller can neither grant an account permissions that it lacks itself, nor change an account that has such permissions.
This holds for disabled and deleted accounts too. The last administrator can be locked out; then
`storekeep-server bootstrap-admin` restores access for the owner of the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from storekeep.server.domain.access.permissions import find_permissions, raise_version, require_held
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import AlreadyExists, ServiceAccountNotFound
from storekeep.server.domain.mutations import CheckAccess, Mutation, mutate
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.domain.standard.resources import check_etag, check_not_deleted
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as store


class ServiceAccount(msgspec.Struct, frozen=True):
    """A service account; see `ServiceAccount` in the contract. `roles` holds role ids."""

    id: str
    display_name: str
    roles: tuple[str, ...] = ()
    disabled: bool = False
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None

    @property
    def name(self) -> str:
        """The resource name."""
        return f"serviceAccounts/{self.id}"


def _raise_version(tx: Transaction, _new: ServiceAccount, old: ServiceAccount | None) -> None:
    if old is not None:
        raise_version(tx)


SERVICE_ACCOUNTS = Collection(
    ServiceAccount,
    store.ServiceAccount,
    key=("id",),
    pattern="serviceAccounts/{}",
    event="service_account",
    not_found=ServiceAccountNotFound,
    store_parts=_raise_version,
)
LISTING = Listing(
    method="ListServiceAccounts",
    query=lambda: store.ServiceAccount.select(*SERVICE_ACCOUNTS.rows.fields),
    columns={
        "display_name": Column(store.ServiceAccount.display_name, FilterField(Kind.TEXT), sortable=True),
        "disabled": Column(store.ServiceAccount.disabled, FilterField(Kind.BOOLEAN)),
        "create_time": Column(store.ServiceAccount.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.ServiceAccount.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.ServiceAccount.id,),
    read_rows=SERVICE_ACCOUNTS.read_rows,
    deleted=store.ServiceAccount.delete_time_us,
)


def check_account(mutation: Mutation, account_id: str) -> ServiceAccount:
    """Return an account; raise PrivilegeEscalation unless the caller has all permissions of its roles.

    Raises: ServiceAccountNotFound, PrivilegeEscalation.
    """
    account = SERVICE_ACCOUNTS.find(mutation.tx, (account_id,))
    require_held(find_permissions(mutation.tx, account.roles), caller=mutation.call.caller)
    return account


def make_check(check: Callable[[Mutation, str], object], resource_id: str) -> CheckAccess[Any]:
    """Return the access check of a mutation that changes the account or user with this id, such as `check_account`."""

    def check_access(mutation: Mutation, _stored: Any) -> None:
        check(mutation, resource_id)

    return check_access


def check_no_lookalike(mutation: Mutation, like: Statement, *, pattern: str, **key: str) -> None:
    """Raise AlreadyExists if an id differs from an existing one only in letter case: people would confuse the two.

    Args:
        like: the statement that finds the existing id.
        pattern: the resource name, with a `{}` for the id.

    Raises: AlreadyExists, with the name of the existing resource.
    """
    row = like.one(mutation.tx, **key)
    if row is not None:
        raise AlreadyExists(pattern.format(row[0]))


def create_account(database: Store, call: Call, new_account: ServiceAccount) -> ServiceAccount:
    """Create a service account. The caller must have all permissions of its roles.

    Raises: RoleNotFound, PrivilegeEscalation, AlreadyExists (also for an id that differs only in letter case).
    """

    def check(mutation: Mutation, _stored: ServiceAccount | None) -> None:
        require_held(find_permissions(mutation.tx, new_account.roles), caller=call.caller)

    def effect(mutation: Mutation) -> ServiceAccount:
        check_no_lookalike(mutation, store.ACCOUNT_LIKE, pattern="serviceAccounts/{}", id=new_account.id)
        return SERVICE_ACCOUNTS.add(mutation, new_account)

    return mutate(database, call, effect, ServiceAccount, check_access=check)


def update_account(
    database: Store, call: Call, new_account: ServiceAccount, *, fields: Sequence[str], etag: str
) -> ServiceAccount:
    """Set the named fields to the values in `new_account`.

    The caller must have all permissions of the old and the new roles.

    Raises: ServiceAccountNotFound, RoleNotFound, PrivilegeEscalation, ResourceDeleted, EtagMismatch.
    """

    def check(mutation: Mutation, _stored: ServiceAccount | None) -> None:
        check_account(mutation, new_account.id)
        if "roles" in fields:
            require_held(find_permissions(mutation.tx, new_account.roles), caller=call.caller)

    def effect(mutation: Mutation) -> ServiceAccount:
        old = SERVICE_ACCOUNTS.find(mutation.tx, (new_account.id,))
        check_not_deleted(old)
        check_etag(old, etag)
        new: ServiceAccount = msgspec.structs.replace(old, **{field: getattr(new_account, field) for field in fields})
        return old if new == old else SERVICE_ACCOUNTS.replace(mutation, old, new, action="updated")

    return mutate(database, call, effect, ServiceAccount, check_access=check)


def delete_account(database: Store, call: Call, account_id: str, *, etag: str) -> ServiceAccount:
    """Soft-delete a service account. The caller must have all permissions of its roles.

    Raises: ServiceAccountNotFound, PrivilegeEscalation, EtagMismatch.
    """
    return SERVICE_ACCOUNTS.delete(
        database, call, (account_id,), etag=etag, check_access=make_check(check_account, account_id)
    )


def undelete_account(database: Store, call: Call, account_id: str, *, etag: str) -> ServiceAccount:
    """Restore a deleted service account with its roles and API keys. The caller must have all permissions of its roles.

    Raises: ServiceAccountNotFound, PrivilegeEscalation, ResourceNotDeleted, EtagMismatch.
    """
    return SERVICE_ACCOUNTS.undelete(
        database, call, (account_id,), etag=etag, check_access=make_check(check_account, account_id)
    )
