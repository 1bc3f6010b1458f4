"""Service accounts: who may call. Nobody gives an account more than he holds, or touches one that holds more.

Whether an account is disabled or deleted makes no difference to that: its roles are its roles.

Even the last administrator can be locked out; `storekeep-server bootstrap-admin` lets the machine's owner in again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storekeep.server.domain.access.permissions import permissions_of, raise_version, require_held
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
    """A service account; see `ServiceAccount` in the contract. Its roles are ids."""

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


def _read_truths(_tx: Transaction, accounts: list[ServiceAccount]) -> list[ServiceAccount]:
    """SQLite gives 0 and 1 where JSON has to say false and true."""
    return [msgspec.structs.replace(account, disabled=bool(account.disabled)) for account in accounts]


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
    attach=_read_truths,
    store_parts=_raise_version,
)
LISTING = Listing(
    method="ListServiceAccounts",
    query=lambda: store.ServiceAccount.select(*SERVICE_ACCOUNTS.rows.fields),
    columns={
        "display_name": Column(store.ServiceAccount.display_name, FilterField(Kind.TEXT), sortable=True),
        "disabled": Column(store.ServiceAccount.disabled, FilterField(Kind.BOOLEAN)),
        "create_time": Column(store.ServiceAccount.create_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.ServiceAccount.id,),
    read_rows=SERVICE_ACCOUNTS.read_rows,
    deleted=store.ServiceAccount.delete_time_us,
)


def check_account(mutation: Mutation, account_id: str) -> ServiceAccount:
    """Find an account, and refuse it to a caller that does not itself hold all that its roles do.

    Raises: ServiceAccountNotFound, PrivilegeEscalation.
    """
    account = SERVICE_ACCOUNTS.find(mutation.tx, (account_id,))
    require_held(permissions_of(mutation.tx, account.roles), caller=mutation.call.caller)
    return account


def check_no_lookalike(mutation: Mutation, like: Statement, *, pattern: str, **key: str) -> None:
    """Refuse an id that differs from another one's only in the case of its letters: it would be taken for it.

    Raises: AlreadyExists, which names the other.
    """
    row = like.one(mutation.tx, **key)
    if row is not None:
        raise AlreadyExists(pattern.format(row[0]))


def create_account(database: Store, call: Call, draft: ServiceAccount) -> ServiceAccount:
    """Add a service account.

    Raises: RoleNotFound, PrivilegeEscalation, AlreadyExists (also where only the case of letters differs).
    """

    def check(mutation: Mutation, _stored: ServiceAccount | None) -> None:
        require_held(permissions_of(mutation.tx, draft.roles), caller=call.caller)

    def effect(mutation: Mutation) -> ServiceAccount:
        check_no_lookalike(mutation, store.ACCOUNT_LIKE, pattern="serviceAccounts/{}", id=draft.id)
        return SERVICE_ACCOUNTS.add(mutation, draft)

    return mutate(database, call, effect, ServiceAccount, check_access=check)


def update_account(
    database: Store, call: Call, draft: ServiceAccount, *, fields: Sequence[str], etag: str
) -> ServiceAccount:
    """Change the named fields to the draft's; the caller must hold all that its roles hold, before and after.

    Raises: ServiceAccountNotFound, RoleNotFound, PrivilegeEscalation, ResourceDeleted, EtagMismatch.
    """

    def check(mutation: Mutation, _stored: ServiceAccount | None) -> None:
        check_account(mutation, draft.id)
        if "roles" in fields:
            require_held(permissions_of(mutation.tx, draft.roles), caller=call.caller)

    def effect(mutation: Mutation) -> ServiceAccount:
        old = SERVICE_ACCOUNTS.find(mutation.tx, (draft.id,))
        check_not_deleted(old)
        check_etag(old, etag)
        new: ServiceAccount = msgspec.structs.replace(old, **{field: getattr(draft, field) for field in fields})
        return old if new == old else SERVICE_ACCOUNTS.replace(mutation, old, new, happened="updated")

    return mutate(database, call, effect, ServiceAccount, check_access=check)


def delete_account(database: Store, call: Call, account_id: str, *, etag: str) -> ServiceAccount:
    """Delete a service account softly; the caller must hold all that its roles hold.

    Raises: ServiceAccountNotFound, PrivilegeEscalation, ResourceDeleted, EtagMismatch.
    """
    return SERVICE_ACCOUNTS.delete(database, call, (account_id,), etag=etag, check_access=_check(account_id))


def undelete_account(database: Store, call: Call, account_id: str, *, etag: str) -> ServiceAccount:
    """Bring a deleted service account back, with its roles and its keys; the caller must hold all that its roles hold.

    Raises: ServiceAccountNotFound, PrivilegeEscalation, ResourceNotDeleted, EtagMismatch.
    """
    return SERVICE_ACCOUNTS.undelete(database, call, (account_id,), etag=etag, check_access=_check(account_id))


def _check(account_id: str) -> CheckAccess[ServiceAccount]:
    def check(mutation: Mutation, _stored: ServiceAccount | None) -> None:
        check_account(mutation, account_id)

    return check
