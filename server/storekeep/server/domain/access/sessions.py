"""Sessions and revoked tokens as the audit log and events show them, and the end of a session."""

from __future__ import annotations

import msgspec

from storekeep.server.domain.access.permissions import raise_version
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.mutations import Mutation
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as store


class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """A session, as the audit log and events show it. Default values are omitted to keep the many entries small.

    Attributes:
        api_key: the resource name of the API key that started it; empty for the session of a user.
        create_time_us, expire_time_us, revoke_time_us: microseconds since 1970.
        token_digest: SHA-256 of the stored hash of its current refresh token, so that the audit log reveals a replaced
            token. Empty in entries of older releases and of revoked sessions.
        user_id: the user who signed in; empty for the session of an API key.
        program: how the program of a user named itself.
    """

    account_id: str
    id: str
    api_key: str
    create_time_us: int = 0
    expire_time_us: int = 0
    revoke_time_us: int | None = None
    token_digest: str = ""
    user_id: str = ""
    program: str = ""

    @property
    def subject(self) -> str:
        """The resource name of the account or user."""
        return f"users/{self.user_id}" if self.user_id else f"serviceAccounts/{self.account_id}"

    @property
    def name(self) -> str:
        """The resource name in the audit log and events; the contract has only those of users."""
        return f"{self.subject}/sessions/{self.id}"


class RevokedToken(msgspec.Struct, frozen=True):
    """A revoked access token, as the audit log and events show it."""

    account_id: str
    session_id: str
    token_id: str
    revoke_time_us: int
    expire_time_us: int = 0
    user_id: str = ""

    @property
    def name(self) -> str:
        """The resource name in the audit log and events; the contract has no such resource."""
        owner = f"users/{self.user_id}" if self.user_id else f"serviceAccounts/{self.account_id}"
        return f"{owner}/tokens/{self.token_id}"


def build_session(
    session_id: str,
    account_id: str | None,
    key_id: str | None,
    user_id: str | None,
    program: str,
    create_us: int,
    expire_us: int,
    revoke_us: int | None = None,
) -> Session:
    """Build a session from its columns, those of its API key, or those of its user."""
    api_key = "" if user_id else f"serviceAccounts/{account_id}/apiKeys/{key_id}"
    owner = {"user_id": user_id or "", "program": program}
    return Session(account_id or "", session_id, api_key, create_us, expire_us, revoke_us, **owner)


def make_mutation(tx: Transaction, call: Call, session: Session) -> Mutation:
    """Return a mutation on behalf of the session's account or user, whose key, token or password was presented."""
    caller = Caller(session.subject, api_key=session.api_key, session_id=session.id)
    return Mutation(tx, msgspec.structs.replace(call, caller=caller))


def revoke_session(mutation: Mutation, session: Session) -> bool:
    """Revoke a session and all its tokens. Return False, and write nothing, if it is revoked already."""
    tx = mutation.tx
    if not store.REVOKE_SESSION.change(tx, id=session.id, now_us=tx.now_us):
        return False
    raise_version(tx)
    revoked = msgspec.structs.replace(session, revoke_time_us=tx.now_us)
    mutation.record("session.revoked", before=session, after=revoked)
    return True
