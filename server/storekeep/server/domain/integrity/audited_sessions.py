"""Comparison of sessions and tokens with the audit log: finds rows that were forged, extended, un-revoked or deleted.

The last entry of a session records its API key, its times and its current refresh token. Ended rows are purged without
an entry, so a missing row is reported only within its retention time.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

import msgspec

from storekeep.server.domain.access.api_keys import digest_key_hash
from storekeep.server.domain.access.sessions import RevokedToken, Session, build_session
from storekeep.server.domain.access.tokens import ENDED_RETENTION_US
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as auth_store
from storekeep.server.store.tables import audit as store

PAGE_ROWS = 500
"""Rows that one transaction compares."""
UNREADABLE = (UnicodeDecodeError, ValueError, TypeError, msgspec.DecodeError, msgspec.ValidationError)
"""The errors of reading a row that holds data which Storekeep never writes."""
MIN_RETENTION_US = ENDED_RETENTION_US - 3_600 * 1_000_000
"""How long ended rows exist at least: the clock of the server that purges may be an hour ahead."""
OWNERS = ("serviceAccounts/", "users/")
NAME = re.compile(r"(?:serviceAccounts|users)/[^/]+/(sessions|tokens)/([^/]+)")

PageResult = tuple[str, list[str]]
"""The last key of a page (empty after the last page), and a text for each problem on the page."""


def check_pages(
    db: Store, table: str, next_key: Statement, read_page: Callable[[Transaction, str, int], PageResult]
) -> Iterator[str]:
    """Compare a table page by page. Yield a text for each wrong or unreadable row.

    Args:
        next_key: finds the key of the row after `after`.
        read_page: compares the rows after a key, up to a number of rows.
    """
    after = ""
    while True:
        try:
            after, problems = db.snapshot(lambda tx: read_page(tx, after, PAGE_ROWS))  # noqa: B023 - read at once
        except UNREADABLE:
            after, problems = _read_row(db, table, next_key, read_page, after)
        yield from problems
        if not after:
            return


def _read_row(
    db: Store, table: str, next_key: Statement, read_page: Callable[[Transaction, str, int], PageResult], after: str
) -> PageResult:
    """Compare one row of a page that has an unreadable row."""
    try:
        row = db.snapshot(lambda tx: next_key.one(tx, after=after))
    except UNREADABLE as error:
        return "", [f"{table}: a key cannot be read ({error}); the rows from it on are not compared"]
    if row is None:
        return "", []
    try:
        return db.snapshot(lambda tx: read_page(tx, after, 1))
    except UNREADABLE as error:
        return row[0], [f"{table}, row {row[0]}: it holds data that Storekeep never writes ({error})"]


def check_sessions(db: Store) -> Iterator[str]:
    """Yield a text for each session, refresh token and revoked token that does not match the audit log."""
    yield from check_pages(db, "sessions", auth_store.NEXT_SESSION, _compare_sessions)
    try:
        revoked: dict[str, int] = dict(db.read(auth_store.REVOKED_TOKENS.all))
    except UNREADABLE as error:
        yield f"revoked_tokens: a row holds data that Storekeep never writes ({error})"
        revoked = {}
    yield from _check_logged(db, revoked)
    for token_id in revoked:
        yield f"revoked_tokens, row {token_id}: the audit log has no entry for it"


def _compare_sessions(tx: Transaction, after: str, rows_max: int) -> PageResult:
    rows = auth_store.SESSIONS_AFTER.all(tx, after=after, rows_max=rows_max)
    if not rows:
        return "", []
    sessions = [
        build_session(session_id, account, key, user, program, create_us, expire_us, revoke_us)
        for session_id, account, key, create_us, expire_us, revoke_us, user, program in rows
    ]
    names = _encode([session.name for session in sessions])
    last = {name: (after_json, sequence) for name, after_json, sequence in store.LAST_STATES.all(tx, resources=names)}
    unused: dict[str, list[tuple[str, int]]] = {}
    for session_id, token_hash, expire_us in auth_store.UNUSED_REFRESH_TOKENS.all(
        tx, ids=_encode([session.id for session in sessions])
    ):
        unused.setdefault(session_id, []).append((digest_key_hash(bytes(token_hash)), expire_us))
    epochs_us = {row[0] for row in store.EPOCH_TIMES.all(tx)}
    compared = [
        (
            session,
            _compare(session, *last[session.name], unused.get(session.id, []), epochs_us=epochs_us, now_us=tx.now_us),
        )
        for session in sessions
    ]
    return rows[-1][0], [f"{session.name}: {text}" for session, text in compared if text]


def _compare(
    session: Session,
    recorded_json: bytes | None,
    sequence: int | None,
    unused: list[tuple[str, int]],
    *,
    epochs_us: set[int],
    now_us: int,
) -> str:
    """Return what is wrong with a session; empty if nothing is.

    Args:
        recorded_json: the session as its last entry records it; None without an entry.
        sequence: the sequence of that entry.
        unused: the digest and the expiry time of each unused refresh token of the session.
        epochs_us: the start times of the audit epochs. A lost secret ends all sessions at such a time, without an entry
            for each session.
        now_us: the time of the transaction, microseconds since 1970.
    """
    if recorded_json is None:
        return "the audit log has no entry for it"
    try:
        recorded = msgspec.json.decode(recorded_json, type=Session)
    except UNREADABLE:
        return f"auditEntries/{sequence} cannot be read"
    for field in ("api_key", "user_id", "program", "create_time_us"):
        if getattr(recorded, field) != getattr(session, field):
            return "its API key, user, program or create_time_us is not the recorded one"
    if recorded.revoke_time_us != session.revoke_time_us:
        if session.revoke_time_us is None:
            return "it was revoked, but its row is not"
        return "" if session.revoke_time_us in epochs_us else "it is revoked, but the audit log has no entry for that"
    if recorded.revoke_time_us is not None or not recorded.token_digest:
        return ""  # it is revoked, or from an older release, which extended sessions without an entry
    if recorded.expire_time_us != session.expire_time_us:
        return f"expire_time_us not as recorded in auditEntries/{sequence}"
    is_retained = recorded.expire_time_us > now_us - MIN_RETENTION_US
    if unused != [(recorded.token_digest, recorded.expire_time_us)] and (unused or is_retained):
        return f"its refresh token is not as recorded in auditEntries/{sequence}"
    return ""


def list_logged_names(db: Store, prefix: str) -> Iterator[list[str]]:
    """Yield pages of the names of resources that exist according to their last entry. Stop before an unreadable name.

    Args:
        prefix: the prefix of the names; ends with a slash.
    """
    after, end = prefix, prefix[:-1] + "0"  # names sort by their bytes, and "0" follows the slash
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
    """Yield a text for each session and revoked token whose row is missing within its retention time.

    Args:
        revoked: token id -> expiry time of the revoked tokens with a row; tokens with an entry are removed from it.
    """
    for page in itertools.chain.from_iterable(list_logged_names(db, owner) for owner in OWNERS):
        names = [name for name in page if NAME.fullmatch(name)]
        if names:
            yield from db.snapshot(lambda tx: _check_missing(tx, names, revoked))  # noqa: B023 - read at once


def _check_missing(tx: Transaction, names: list[str], revoked: dict[str, int]) -> list[str]:
    keys = {name: match.groups() for name in names if (match := NAME.fullmatch(name))}
    ids = [key for kind, key in keys.values() if kind == "sessions"]
    existing = {row[0] for row in auth_store.EXISTING_SESSIONS.all(tx, ids=_encode(ids))}
    missing = [name for name, (_, key) in keys.items() if key not in existing]
    problems = []
    for name, after_json, sequence in store.LAST_STATES.all(tx, resources=_encode(missing)):
        kind, key = keys[name]
        if kind == "sessions":
            text = _check_missing_session(after_json, tx.now_us)
        else:
            text = _check_token(after_json, key, revoked, tx.now_us)
        if text:
            problems.append(f"{name}: {text} auditEntries/{sequence}")
    return problems


def _check_missing_session(recorded_json: bytes, now_us: int) -> str:
    try:
        recorded = msgspec.json.decode(recorded_json, type=Session)
    except UNREADABLE:
        return "its row is missing, and it cannot be read in"
    is_retained = bool(recorded.token_digest) and recorded.expire_time_us > now_us - MIN_RETENTION_US
    return "its row is missing, but it exists in" if is_retained else ""


def _check_token(recorded_json: bytes, key: str, revoked: dict[str, int], now_us: int) -> str:
    expire_us = revoked.pop(key, None)
    try:
        recorded = msgspec.json.decode(recorded_json, type=RevokedToken)
    except UNREADABLE:
        return "it cannot be read in"
    if expire_us is None:
        is_retained = max(recorded.revoke_time_us, recorded.expire_time_us) > now_us - MIN_RETENTION_US
        return "its row is missing, but it was revoked in" if is_retained else ""
    return "expire_time_us not as recorded in" if recorded.expire_time_us not in (0, expire_us) else ""


def _encode(names: list[str]) -> str:
    return msgspec.json.encode(names).decode()
