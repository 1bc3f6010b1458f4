"""The sessions of users: listed, and ended by the user or by an administrator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from storekeep.server.domain.access.sessions import Session, build_session, revoke_session
from storekeep.server.domain.access.users import USERS, User, check_user, find_own_id
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.errors import IllegalState, UserNotFound, UserSessionNotFound
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as store

SESSIONS_MAX = 100
"""The most sessions of one user that are shown or ended at once; a call for all ends them in several steps."""
COLUMNS = (
    store.Session.id,
    store.Session.user,
    store.Session.program,
    store.Session.create_time_us,
    store.Session.expire_time_us,
    store.Session.revoke_time_us,
)


class EndedSessions(msgspec.Struct, frozen=True):
    """The number of sessions that a call ended."""

    ended: int


def _read_rows(_tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[Session]:
    return [
        build_session(session_id, None, None, user_id, program, create_us, expire_us, revoke_us)
        for session_id, user_id, program, create_us, expire_us, revoke_us in rows
    ]


LISTING: Listing[Session] = Listing(
    method="ListUserSessions",
    query=lambda: store.Session.select(*COLUMNS).where(store.Session.user.is_null(False)),
    columns={"create_time": Column(store.Session.create_time_us, FilterField(Kind.TIME), sortable=True)},
    unique=(store.Session.id,),
    read_rows=_read_rows,
    parent=store.Session.user,
)


def list_valid_sessions(tx: Transaction, user_id: str) -> list[Session]:
    """Return the sessions of a user that have not ended, the latest first, at most `SESSIONS_MAX`."""
    rows = store.USER_SESSIONS.all(tx, user_id=user_id, now_us=tx.now_us, rows_max=SESSIONS_MAX)
    return [
        build_session(session_id, None, None, user_id, program, create_us, expire_us)
        for session_id, program, create_us, expire_us in rows
    ]


def find_own_user(database: Store, call: Call) -> tuple[User, list[Session]]:
    """Return the user who calls, with its sessions.

    Raises: UserNotFound if the caller is a program.
    """

    def work(tx: Transaction) -> tuple[User, list[Session]]:
        user_id = _find_caller(call)
        return USERS.find(tx, (user_id,)), list_valid_sessions(tx, user_id)

    return database.snapshot(work)


def end_sessions(mutation: Mutation, user_id: str, *, but: str = "") -> int:
    """End all sessions of a user within a running mutation; return their number.

    Args:
        but: the id of a session that goes on.
    """
    ended = 0
    while True:
        sessions = [one for one in list_valid_sessions(mutation.tx, user_id) if one.id != but]
        if not sessions:
            return ended
        ended += sum(revoke_session(mutation, session) for session in sessions)


def end_own_sessions(database: Store, call: Call, *, session_id: str, keep_current: bool) -> int:
    """End one session of the user who calls, or all of them; return their number.

    Args:
        session_id: the session to end; empty for all.
        keep_current: whether the session of the call goes on. A call with an access token of the identity provider
            has none, so all sessions end.

    Raises: UserNotFound if the caller is a program; UserSessionNotFound.
    """
    user_id = _find_caller(call)

    def work(tx: Transaction) -> int:
        mutation = Mutation(tx, call)
        USERS.find(tx, (user_id,))
        if not session_id:
            return end_sessions(mutation, user_id, but=call.caller.session_id if keep_current else "")
        return int(revoke_session(mutation, _find_session(tx, user_id, session_id)))

    return database.write(work, deadline=call.deadline)


def revoke_user_session(database: Store, call: Call, user_id: str, session_id: str) -> Session:
    """End a session of a user. The caller must have all permissions of the roles of the user.

    Raises: UserNotFound, UserSessionNotFound, PrivilegeEscalation, IllegalState.
    """

    def check(mutation: Mutation, _stored: Session | None) -> None:
        check_user(mutation, user_id)

    def effect(mutation: Mutation) -> Session:
        session = _find_session(mutation.tx, user_id, session_id)
        if not revoke_session(mutation, session):
            raise IllegalState(session.name, state="REVOKED", target="REVOKED")
        return msgspec.structs.replace(session, revoke_time_us=mutation.tx.now_us)

    return mutate(database, call, effect, Session, check_access=check)


def revoke_user_sessions(database: Store, call: Call, user_id: str) -> int:
    """End all sessions of a user; return their number. The caller must have all permissions of the roles of the user.

    Raises: UserNotFound, PrivilegeEscalation.
    """

    def check(mutation: Mutation, _stored: EndedSessions | None) -> None:
        check_user(mutation, user_id)

    def effect(mutation: Mutation) -> EndedSessions:
        return EndedSessions(end_sessions(mutation, user_id))

    return mutate(database, call, effect, EndedSessions, check_access=check).ended


def _find_session(tx: Transaction, user_id: str, session_id: str) -> Session:
    """Return a session of a user, ended or not.

    Raises: UserSessionNotFound.
    """
    query = store.Session.select(*COLUMNS).where((store.Session.id == session_id) & (store.Session.user == user_id))
    rows = tx.run(query).fetchall()
    if not rows:
        raise UserSessionNotFound(f"users/{user_id}/sessions/{session_id}")
    return _read_rows(tx, rows)[0]


def get_current_name(caller: Caller) -> str:
    """Return the name of the session of a call; empty for an access token of the identity provider."""
    return f"{caller.subject}/sessions/{caller.session_id}" if caller.session_id else ""


def parse_own_session(caller: Caller, name: str) -> str:
    """Return the id in the name of a session of the caller; empty for an empty name.

    Raises: UserSessionNotFound if it is a session of another user.
    """
    owner, _, session_id = name.rpartition("/sessions/")
    if name and owner != caller.subject:
        raise UserSessionNotFound(name)
    return session_id


def _find_caller(call: Call) -> str:
    """Return the id of the user who calls.

    Raises: UserNotFound if the caller is a program.
    """
    user_id = find_own_id(call.caller)
    if not user_id:
        raise UserNotFound(call.caller.subject)
    return user_id
