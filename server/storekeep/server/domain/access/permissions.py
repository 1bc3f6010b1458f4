"""Access: what callers may do, and how every worker learns within seconds that it changed.

Invariant: whoever changes an account, a role, a key or a session raises the version in the same transaction.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

import msgspec

from storekeep.server.domain.calls import Caller
from storekeep.server.domain.errors import PrivilegeEscalation, RoleNotFound, UnknownPermission
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as store

POLL_INTERVAL_S = 2.0
"""How old the known version may be: the contract promises 5 s, which leaves time for a slow read."""

WILDCARD = "*"
"""As a scope of an API key: whatever its account may do, also what it is given later."""
NOTHING_MORE = "authenticated"
"""As the only scope of an API key: nothing but what any valid token opens."""

read_names = msgspec.json.Decoder(tuple[str, ...]).decode


class AccessVersion:
    """The version as this process knows it, read again when it is asked for and older than `poll_interval_s`."""

    def __init__(self, source: Store, *, poll_interval_s: float = POLL_INTERVAL_S) -> None:
        self._source = source
        self._poll_interval_s = poll_interval_s
        self._lock = threading.Lock()
        self._expirations = 0
        self._version = 0
        self._fresh_until_s = 0.0

    def current(self) -> int:
        """The version; what was decided under another one has to be decided again.

        Raises: StorageUnavailable, ShuttingDown.
        """
        return self._version if time.monotonic() < self._fresh_until_s else self._refresh()

    def expire(self) -> None:
        """Have the next caller read it, as after a change that this process made itself."""
        with self._lock:
            self._expirations += 1
            self._fresh_until_s = 0.0

    def _refresh(self) -> int:
        """Read it, without holding others up meanwhile; what a change has overtaken is not kept.

        Raises: as `current`.
        """
        asked_s, expirations = time.monotonic(), self._expirations
        version: int = self._source.read(_read_version)
        with self._lock:
            if expirations == self._expirations:
                self._version, self._fresh_until_s = version, asked_s + self._poll_interval_s
        return version


def _read_version(tx: Transaction) -> int:
    row = store.FIND_ACCESS_VERSION.one(tx)
    return row[0] if row else 0


def raise_version(tx: Transaction) -> None:
    """Have every worker decide anew who may do what."""
    store.RAISE_ACCESS_VERSION.run(tx)


def require_known(permissions: Iterable[str], *, known: frozenset[str]) -> None:
    """Refuse a permission that no RPC asks for.

    Raises: UnknownPermission, for the first.
    """
    for permission in permissions:
        if permission not in known:
            raise UnknownPermission(permission)


def limit_to_scopes(held: frozenset[str], scopes: frozenset[str]) -> frozenset[str]:
    """Return what a key with these scopes may do whose account holds so much.

    A key without scopes is one of before keys had them by default: it may do all.
    """
    return held if not scopes or WILDCARD in scopes else held & scopes


def require_held(permissions: Iterable[str], *, caller: Caller) -> None:
    """Refuse to give, or to change what holds, what the caller does not hold itself.

    Raises: PrivilegeEscalation, for the first.
    """
    for permission in permissions:
        if permission not in caller.permissions:
            raise PrivilegeEscalation(permission)


def permissions_of(tx: Transaction, roles: Iterable[str]) -> list[str]:
    """All permissions of the roles with these ids, sorted.

    Raises: RoleNotFound, for the first that is missing.
    """
    held: set[str] = set()
    for role, permissions in store.ROLES_OF.all(tx, roles=msgspec.json.encode(list(roles)).decode()):
        if permissions is None:
            raise RoleNotFound(f"roles/{role}")
        held.update(read_names(permissions))
    return sorted(held)
