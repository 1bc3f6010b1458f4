"""Permissions of callers, and the access version, by which every worker notices changes within seconds.

Invariant: a change of an account, role, key or session raises the access version in the same transaction, by a random
step: no other rights get the same version, also if a failover loses the change.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable

import msgspec

from storekeep.server.domain.access_errors import PrivilegeEscalation
from storekeep.server.domain.calls import Caller
from storekeep.server.domain.errors import RoleNotFound, UnknownPermission
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as store

POLL_INTERVAL_S = 2.0
"""How old the cached version may be. The contract promises 5 s, which leaves time for a slow read."""

STEP_BITS = 31
"""Size of the random step of the version. Its 64 bits last for four billion changes."""

WILDCARD = "*"
"""A limit that is none: all permissions of the account or user, also those that are granted later."""
AUTHENTICATED_SCOPE = "authenticated"
"""The only scope of an API key without permissions: it allows the RPCs that any valid token may call."""

read_names = msgspec.json.Decoder(tuple[str, ...]).decode


class AccessVersion:
    """The access version as this process knows it.

    Args:
        source: the database.
        poll_interval_s: how old the cached version may be.
    """

    def __init__(self, source: Store, *, poll_interval_s: float = POLL_INTERVAL_S) -> None:
        self._source = source
        self._poll_interval_s = poll_interval_s
        self._lock = threading.Lock()
        self._expirations = 0
        self._version = 0
        self._fresh_until_s = 0.0

    def current(self) -> int:
        """Return the version. Access decisions made under another version are no longer valid.

        Raises: StorageUnavailable, ShuttingDown.
        """
        return self._version if time.monotonic() < self._fresh_until_s else self._refresh()

    def expire(self) -> None:
        """Drop the cached version, after a change by this process."""
        with self._lock:
            self._expirations += 1
            self._fresh_until_s = 0.0

    def _refresh(self) -> int:
        """Read the version without blocking other threads. Do not cache it if `expire` was called in the meantime.

        Raises: the errors of `current`.
        """
        start_s, expirations = time.monotonic(), self._expirations
        version: int = self._source.read(_read_version)
        with self._lock:
            if expirations == self._expirations:
                self._version, self._fresh_until_s = version, start_s + self._poll_interval_s
        return version


def _read_version(tx: Transaction) -> int:
    row = store.FIND_ACCESS_VERSION.one(tx)
    return row[0] if row else 0


def raise_version(tx: Transaction) -> None:
    """Raise the access version, so that every worker checks permissions again."""
    store.RAISE_ACCESS_VERSION.run(tx, step=1 + secrets.randbits(STEP_BITS))


def require_known(permissions: Iterable[str], *, known: frozenset[str]) -> None:
    """Raise unless every permission is required by some RPC.

    Raises: UnknownPermission, for the first unknown permission.
    """
    for permission in permissions:
        if permission not in known:
            raise UnknownPermission(permission)


def limit_to_scopes(held: frozenset[str], scopes: frozenset[str]) -> frozenset[str]:
    """Return the permissions of an API key, from those of its account and the key's scopes.

    A key without scopes comes from an older release and has all permissions of its account.
    """
    return apply_limit(held, scopes) if scopes else held


def apply_limit(held: frozenset[str], limit: frozenset[str]) -> frozenset[str]:
    """Return the permissions that are within a limit: names of permissions, or the wildcard."""
    return held if WILDCARD in limit else held & limit


def require_held(permissions: Iterable[str], *, caller: Caller) -> None:
    """Raise unless the caller has every permission that it would grant, or that the resource to change has.

    Raises: PrivilegeEscalation, for the first permission that the caller lacks.
    """
    for permission in permissions:
        if permission not in caller.permissions:
            raise PrivilegeEscalation(permission)


def find_permissions(tx: Transaction, roles: Iterable[str]) -> list[str]:
    """Return all permissions of the roles with these ids, sorted.

    Raises: RoleNotFound, for the first missing role.
    """
    held: set[str] = set()
    for role, permissions in store.ROLE_PERMISSIONS.all(tx, roles=msgspec.json.encode(list(roles)).decode()):
        if permissions is None:
            raise RoleNotFound(f"roles/{role}")
        held.update(read_names(permissions))
    return sorted(held)
