"""Service accounts: who may call. Refuses to give an account a role that holds more than the caller does.

Even the last administrator can be locked out; `storekeep-server bootstrap-admin` lets the machine's owner in again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storekeep.server.domain.access import permissions_of, raise_version, require_held
from storekeep.server.domain.calls import Call
from storekeep.server.domain.collections import Collection
from storekeep.server.domain.errors import ServiceAccountNotFound
from storekeep.server.domain.filters import FilterField, Kind
from storekeep.server.domain.lists import Column, Listing
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.resources import check_etag, check_not_deleted
from storekeep.server.store import auth as store
from storekeep.server.store.database import Transaction
from storekeep.server.store.engine import Store


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


def create_account(database: Store, call: Call, draft: ServiceAccount) -> ServiceAccount:
    """Add a service account.

    Raises: RoleNotFound, PrivilegeEscalation, AlreadyExists.
    """

    def effect(mutation: Mutation) -> ServiceAccount:
        require_held(permissions_of(mutation.tx, draft.roles), caller=call.caller)
        return SERVICE_ACCOUNTS.add(mutation, draft)

    return mutate(database, call, effect, ServiceAccount)


def update_account(
    database: Store, call: Call, draft: ServiceAccount, *, fields: Sequence[str], etag: str
) -> ServiceAccount:
    """Change the named fields to the draft's; the roles that are added must hold no more than the caller does.

    Raises: ServiceAccountNotFound, ResourceDeleted, EtagMismatch, RoleNotFound, PrivilegeEscalation.
    """

    def effect(mutation: Mutation) -> ServiceAccount:
        old = SERVICE_ACCOUNTS.find(mutation.tx, (draft.id,))
        check_not_deleted(old)
        check_etag(old, etag)
        new: ServiceAccount = msgspec.structs.replace(old, **{field: getattr(draft, field) for field in fields})
        if new == old:
            return old
        added = [role for role in new.roles if role not in old.roles]
        require_held(permissions_of(mutation.tx, added), caller=call.caller)
        return SERVICE_ACCOUNTS.replace(mutation, old, new, happened="updated")

    return mutate(database, call, effect, ServiceAccount)
