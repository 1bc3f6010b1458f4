"""Comparison of the secrets and password links of users with their digests, which the audit log covers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec

from storekeep.server.domain.access.api_keys import digest_key_hash
from storekeep.server.domain.access.password_links import PasswordLink
from storekeep.server.domain.access.permissions import read_names
from storekeep.server.domain.access.user_secrets import NO_SECRETS, decrypt_secrets, digest_secrets
from storekeep.server.domain.integrity.audited_sessions import PAGE_ROWS, UNREADABLE
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.keys.keyrings import Keyring, SecretUnknown
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import audit as audit_store
from storekeep.server.store.tables import users as store


def check_user_secrets(db: Store, chain: AuditChain | None) -> Iterator[str]:
    """Yield a text for each user whose secrets are missing, added or changed.

    Args:
        chain: has the server's secret, to decrypt the secrets; None checks only whether they exist.
    """
    for (user_id,) in db.read(store.SECRETS_OF_NOBODY.all):
        yield f"user_secrets, row {user_id}: there is no such user"
    after = ""
    while True:
        try:
            last, texts = db.snapshot(lambda tx: _check_page(tx, after, chain))  # noqa: B023 - read at once
        except UNREADABLE as error:
            yield f"user_secrets: a row holds data that Storekeep never writes ({error})"
            return
        yield from texts
        if not last:
            return
        after = last


def check_password_links(db: Store) -> Iterator[str]:
    """Yield a text for each password link that was not created by a call, or was changed."""
    after = ""
    while True:
        try:
            last, texts = db.snapshot(lambda tx: _check_links(tx, after))  # noqa: B023 - read at once
        except UNREADABLE as error:
            yield f"password_links: a row holds data that Storekeep never writes ({error})"
            return
        yield from texts
        if not last:
            return
        after = last


def _check_links(tx: Transaction, after: str) -> tuple[str, list[str]]:
    """Return the last id of a page (empty after the last page), and a text for each problem."""
    rows = store.PASSWORD_LINKS_AFTER.all(tx, after=after, rows_max=PAGE_ROWS)
    names = msgspec.json.encode([name for name, *_ in rows]).decode()
    last = {name: after_json for name, after_json, _ in audit_store.LAST_STATES.all(tx, resources=names)}
    texts = []
    for name, token_hash, expire_us, permissions in rows:
        recorded_json = last[name]
        recorded = None if recorded_json is None else msgspec.json.decode(recorded_json, type=PasswordLink)
        current = digest_key_hash(bytes(token_hash)), expire_us
        if (
            recorded is None
            or (recorded.token_digest, recorded.expire_time_us) != current
            or recorded.permissions not in {None, read_names(permissions)}  # None: of an older release
        ):
            texts.append(f"{name}: the audit log has no such password link")
    return (rows[-1][0].rpartition("/")[2] if rows else ""), texts


def _check_page(tx: Transaction, after: str, chain: AuditChain | None) -> tuple[str, list[str]]:
    """Return the last user of a page (empty after the last page), and a text for each problem."""
    rows = store.SECRETS_AFTER.all(tx, after=after, rows_max=PAGE_ROWS)
    keyring = None
    if chain is not None:
        with contextlib.suppress(SecretUnknown):  # the check of the audit chain reports it
            keyring = Keyring.from_secret(chain.keyring.read_current(tx).secret)
    texts = []
    for user_id, has_password, digest, sealed, limit in rows:
        problem = _find_problem(user_id, bool(has_password), digest, sealed, limit or "[]", keyring)
        if problem:
            texts.append(f"users/{user_id}: {problem}")
    return (rows[-1][0] if rows else ""), texts


def _find_problem(
    user_id: str, has_password: bool, digest: str, sealed: object, permissions: str, keyring: Keyring | None
) -> str:
    """Return what is wrong with the secrets of a user; empty if nothing is."""
    if has_password != (sealed is not None):
        return "the secrets are missing, or were added"
    if keyring is None:
        return ""
    secrets = decrypt_secrets(user_id, sealed, keyring=keyring)
    if secrets is None or digest_secrets(secrets) != (digest if secrets != NO_SECRETS else ""):
        return "the secrets cannot be decrypted, or do not match the audit log"
    if secrets.permissions not in {None, read_names(permissions)}:
        return "the permissions of the password were changed"
    return ""
