"""The permission to read personal data, for the roles and API keys of databases from before it existed.

Invariant: what a caller could read before the permission existed, it can read afterwards. It is granted once, when the
built-in role of administrators first gets it, so that it can be revoked later.
"""

from __future__ import annotations

import msgspec

from storekeep.server.domain.access.api_keys import API_KEYS
from storekeep.server.domain.access.permissions import WILDCARD
from storekeep.server.domain.access.roles import ADMIN, BUILT_IN_ROLES, ROLES, install_built_in_roles
from storekeep.server.domain.calls import READ_PERSONAL_DATA
from storekeep.server.domain.mutations import Mutation
from storekeep.server.store.tables import access as store

READERS = frozenset(
    {
        "audit.read",
        "customers.read",
        "customers.write",
        "events.read",
        "orders.read",
        "orders.write",
        "reservations.read",
        "reservations.write",
        "webhooks.read",
        "webhooks.write",
    }
)
"""The permissions of older releases whose RPCs return personal data."""


def install_roles(mutation: Mutation, *, known: frozenset[str]) -> None:
    """Create or update the built-in roles. In a database of an older release, also grant the new permission.

    Args:
        known: all permissions.
    """
    row = ROLES.rows.find(mutation.tx, (ADMIN,))
    is_old = row is not None and READ_PERSONAL_DATA not in ROLES.read_rows(mutation.tx, [row])[0].permissions
    install_built_in_roles(mutation, known=known)
    if is_old and READ_PERSONAL_DATA in known:
        _grant(mutation)


def _grant(mutation: Mutation) -> None:
    """Grant the permission to each custom role, and to each valid API key with scopes, that reads personal data."""
    for (role_id,) in store.ROLE_IDS.all(mutation.tx):
        role = ROLES.find(mutation.tx, (role_id,))
        if role_id not in BUILT_IN_ROLES and READERS.intersection(role.permissions):
            permissions = tuple(sorted({READ_PERSONAL_DATA, *role.permissions}))
            ROLES.replace(mutation, role, msgspec.structs.replace(role, permissions=permissions), action="updated")
    for account_id, key_id in store.WORKING_KEYS.all(mutation.tx):
        key = API_KEYS.find(mutation.tx, (account_id, key_id))
        if WILDCARD not in key.scopes and READERS.intersection(key.scopes):
            scopes = tuple(sorted({READ_PERSONAL_DATA, *key.scopes}))
            API_KEYS.replace(mutation, key, msgspec.structs.replace(key, scopes=scopes), action="updated")
