"""Sessions and tokens against the audit log: those that nobody began, go on although revoked or over, or are gone.

A session is what its last entry says: its key, its times, and the one refresh token that continues it. Rows that are
over are purged without an entry, so only those that must still be kept are missed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec

from storekeep.server.domain.access.api_keys import digest_of
from storekeep.server.domain.access.tokens import KEEP_US, RevokedToken, Session
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as auth_store
from storekeep.server.store.tables import audit as store

PAGE_ROWS = 500
"""Rows that are compared at once."""
UNREADABLE = (UnicodeDecodeError, ValueError, TypeError, msgspec.DecodeError, msgspec.ValidationError)
"""What reading a row may raise in which somebody has put something that the program never writes."""
KEPT_US = KEEP_US - 3_600 * 1_000_000
"""How long rows that are over are there for certain: the clock of the server that purges may be ahead by an hour."""
ACCOUNTS = "serviceAccounts/"
NAME = re.compile(r"serviceAccounts/[^/]+/(sessions|tokens)/([^/]+)")

Found = tuple[str, list[str]]
"""The last key of a page, empty behind the last page, and what is wrong with its rows."""


def check_pages(
    db: Store, table: str, next_key: Statement, read_page: Callable[[Transaction, str, int], Found]
) -> Iterator[str]:
    """Compare a table page by page, and name each row that cannot be read; a text for each that is wrong.

    Args:
        next_key: gives the key of the row behind `after`.
        read_page: compares so many rows behind a key.
    """
    after = ""
    while True:
        try:
            after, found = db.snapshot(lambda tx: read_page(tx, after, PAGE_ROWS))  # noqa: B023 - read at once
        except UNREADABLE:
            after, found = _read_row(db, table, next_key, read_page, after)
        yield from found
        if not after:
            return


def _read_row(
    db: Store, table: str, next_key: Statement, read_page: Callable[[Transaction, str, int], Found], after: str
) -> Found:
    """Compare one row of a page in which one cannot be read."""
    try:
        row = db.snapshot(lambda tx: next_key.one(tx, after=after))
    except UNREADABLE as error:
        return "", [f"{table}: a key holds what is never written there ({error}); the rows from it on are not compared"]
    if row is None:
        return "", []
    try:
        return db.snapshot(lambda tx: read_page(tx, after, 1))
    except UNREADABLE as error:
        return row[0], [f"{table}, row {row[0]}: it holds what is never written there ({error})"]


def check_sessions(db: Store) -> Iterator[str]:
    """Each session, refresh token and revoked token that is not what the log says of it; a text for each."""
    yield from check_pages(db, "sessions", auth_store.NEXT_SESSION, _sessions_page)
    try:
        revoked: dict[str, int] = dict(db.read(auth_store.REVOKED_TOKENS.all))
    except UNREADABLE as error:
        yield f"revoked_tokens: they hold what is never written there ({error})"
        revoked = {}
    yield from _check_logged(db, revoked)
    for token_id in revoked:
        yield f"revoked_tokens, row {token_id}: the audit log has no entry of it"


def _sessions_page(tx: Transaction, after: str, rows_max: int) -> Found:
    rows = auth_store.SESSIONS_AFTER.all(tx, after=after, rows_max=rows_max)
    if not rows:
        return "", []
    sessions = [
        Session(account, session_id, f"{ACCOUNTS}{account}/apiKeys/{key}", create_us, expire_us, revoke_us)
        for session_id, account, key, create_us, expire_us, revoke_us in rows
    ]
    names = _encode([session.name for session in sessions])
    last = {name: (said, sequence) for name, said, sequence in store.LAST_AFTER.all(tx, resources=names)}
    unused: dict[str, list[tuple[str, int]]] = {}
    for session_id, token_hash, expire_us in auth_store.UNUSED_TOKENS_OF.all(
        tx, ids=_encode([session.id for session in sessions])
    ):
        unused.setdefault(session_id, []).append((digest_of(bytes(token_hash)), expire_us))
    ended = {row[0] for row in store.EPOCH_TIMES.all(tx)}
    found = [
        (session, _compare(session, *last[session.name], unused.get(session.id, []), ended=ended, now_us=tx.now_us))
        for session in sessions
    ]
    return rows[-1][0], [f"{session.name}: {text}" for session, text in found if text]


def _compare(
    session: Session,
    said: bytes | None,
    sequence: int | None,
    unused: list[tuple[str, int]],
    *,
    ended: set[int],
    now_us: int,
) -> str:
    """Return what is wrong with a session; empty when nothing is.

    Args:
        said: what its last entry says, and that entry's number.
        unused: digest and end of the refresh tokens that continue it.
        ended: when all sessions may have ended at once, as with a lost secret: without an entry for each.
    """
    if said is None:
        return "the audit log has no entry of it"
    try:
        was = msgspec.json.decode(said, type=Session)
    except UNREADABLE:
        return f"auditEntries/{sequence} cannot be read"
    if (was.api_key, was.create_time_us) != (session.api_key, session.create_time_us):
        return "it is not the session that the audit log knows"
    if was.revoke_time_us != session.revoke_time_us:
        if session.revoke_time_us is None:
            return "it was revoked, and goes on"
        return "" if session.revoke_time_us in ended else "it is revoked, and the audit log does not know when"
    if was.revoke_time_us is not None or not was.token_digest:
        return ""  # nothing continues it; or its last entry is of an older release, which moved its end without one
    if was.expire_time_us != session.expire_time_us:
        return f"expire_time_us not as in auditEntries/{sequence}"
    is_kept = was.expire_time_us > now_us - KEPT_US
    if unused != [(was.token_digest, was.expire_time_us)] and (unused or is_kept):
        return f"its refresh token is not the one of auditEntries/{sequence}"
    return ""


def logged_names(db: Store, prefix: str) -> Iterator[list[str]]:
    """Pages of the resources that are there by their last entry; ends before a name that cannot be read.

    Args:
        prefix: what their names begin with; ends in a slash.
    """
    after, end = prefix, prefix[:-1] + "0"  # which is behind the slash, as names are compared by their bytes
    while after < end:
        try:
            page = db.snapshot(lambda tx: store.RESOURCES_AFTER.all(tx, after=after, rows_max=PAGE_ROWS))  # noqa: B023
        except UNREADABLE:
            return
        if not page:
            return
        yield [name for name, _, exists in page if exists and name.startswith(prefix)]
        after = page[-1][0]


def _check_logged(db: Store, revoked: dict[str, int]) -> Iterator[str]:
    """Sessions and revoked tokens that must still be kept by their last entry, and have no row.

    Args:
        revoked: id and end of the revoked tokens that have a row; those of which there is an entry are taken out.
    """
    for page in logged_names(db, ACCOUNTS):
        names = [name for name in page if NAME.fullmatch(name)]
        if names:
            yield from db.snapshot(lambda tx: _missing(tx, names, revoked))  # noqa: B023 - read at once


def _missing(tx: Transaction, names: list[str], revoked: dict[str, int]) -> list[str]:
    keys = {name: match.groups() for name in names if (match := NAME.fullmatch(name))}
    ids = [key for kind, key in keys.values() if kind == "sessions"]
    existing = {row[0] for row in auth_store.SESSIONS_AMONG.all(tx, ids=_encode(ids))}
    asked = [name for name, (_, key) in keys.items() if key not in existing]
    found = []
    for name, said, sequence in store.LAST_AFTER.all(tx, resources=_encode(asked)):
        kind, key = keys[name]
        text = _miss_session(said, tx.now_us) if kind == "sessions" else _miss_token(said, key, revoked, tx.now_us)
        if text:
            found.append(f"{name}: {text} auditEntries/{sequence}")
    return found


def _miss_session(said: bytes, now_us: int) -> str:
    try:
        was = msgspec.json.decode(said, type=Session)
    except UNREADABLE:
        return "it is gone, and cannot be read in"
    is_kept = bool(was.token_digest) and was.expire_time_us > now_us - KEPT_US
    return "it is gone, and still goes on by" if is_kept else ""


def _miss_token(said: bytes, key: str, revoked: dict[str, int], now_us: int) -> str:
    expire_us = revoked.pop(key, None)
    try:
        was = msgspec.json.decode(said, type=RevokedToken)
    except UNREADABLE:
        return "it cannot be read in"
    if expire_us is None:
        is_kept = max(was.revoke_time_us, was.expire_time_us) > now_us - KEPT_US
        return "it is not revoked any more, and was by" if is_kept else ""
    return "expire_time_us not as in" if was.expire_time_us and was.expire_time_us != expire_us else ""


def _encode(names: list[str]) -> str:
    return msgspec.json.encode(names).decode()
