"""Access tokens without a session: issued while nothing can be written, and recorded in the audit log once it can.

They end with their API key or account, and have no refresh token. Invariant: at most `UNRECORDED_MAX` wait in memory
for their entries; the oldest ones beyond that, and those of a process that ends, have no entry.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from storekeep.server.domain.access.sessions import Session, make_mutation
from storekeep.server.domain.calls import Call
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.audit import LAST_STATES

UNRECORDED_MAX = 1_000
"""The most tokens that wait in memory, at 0.3 KB each."""
RECORDED_MAX = 20
"""The most entries that one call writes, because other writers wait for it, and while the disk is full for nothing."""


class IssuedToken(msgspec.Struct, frozen=True):
    """An access token without a session, as the audit log shows it.

    Attributes:
        api_key: the resource name of the API key that it was issued for.
        issue_time_us, expire_time_us: microseconds since 1970.
    """

    account_id: str
    api_key: str
    token_id: str
    issue_time_us: int
    expire_time_us: int

    @property
    def name(self) -> str:
        """The resource name in the audit log; the contract has no such resource."""
        return f"serviceAccounts/{self.account_id}/issuedTokens/{self.token_id}"


class UnrecordedTokens:
    """The tokens of this process that have no audit entry yet. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: deque[IssuedToken] = deque(maxlen=UNRECORDED_MAX)

    def add(self, token: IssuedToken) -> None:
        """Add a token that was issued."""
        with self._lock:
            self._tokens.append(token)

    @contextmanager
    def take(self) -> Iterator[tuple[IssuedToken, ...]]:
        """Remove the oldest tokens for a block that records them. If it fails, they are back, before newer ones."""
        with self._lock:
            tokens = tuple(self._tokens.popleft() for _ in range(min(RECORDED_MAX, len(self._tokens))))
        try:
            yield tokens
        except BaseException:
            with self._lock:
                newer = tuple(self._tokens)
                self._tokens.clear()
                self._tokens.extend(tokens + newer)
            raise


def record_issued(tx: Transaction, call: Call, tokens: tuple[IssuedToken, ...]) -> None:
    """Write the audit entries of tokens that were issued without a session, each on behalf of its own account.

    Those that have an entry get no second one: the commit of an earlier attempt may have had no answer.
    """
    if not tokens:
        return
    names = msgspec.json.encode([token.name for token in tokens]).decode()
    recorded = {name for name, _, sequence in LAST_STATES.all(tx, resources=names) if sequence is not None}
    for token in tokens:
        if token.name not in recorded:
            owner = Session(token.account_id, "", token.api_key)
            make_mutation(tx, call, owner).record("token.issued", before=None, after=token)
