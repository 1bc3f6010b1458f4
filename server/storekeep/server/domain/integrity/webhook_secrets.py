"""Comparison of the signing secrets of webhooks with their descriptions, which the audit log covers."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import msgspec

from storekeep.server.domain.integrity.audited_sessions import PAGE_ROWS, UNREADABLE
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.keys.keyrings import Keyring, SecretUnknown
from storekeep.server.domain.webhooks.endpoints import SigningSecret, decrypt_secret, digest_secret
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import webhooks as store


def check_webhook_secrets(db: Store, chain: AuditChain | None) -> Iterator[str]:
    """Yield a text for each endpoint whose secrets are missing, added or changed.

    Args:
        chain: has the server's secret, to decrypt the secrets; None compares their numbers only.
    """
    after = ""
    while True:
        try:
            last, texts = db.snapshot(lambda tx: _check_page(tx, after, chain))  # noqa: B023 - read at once
        except UNREADABLE as error:
            yield f"webhook_secrets: a row holds data that Storekeep never writes ({error})"
            return
        yield from texts
        if not last:
            return
        after = last


def _check_page(tx: Transaction, after: str, chain: AuditChain | None) -> tuple[str, list[str]]:
    """Return the last endpoint of a page (empty after the last page), and a text for each problem."""
    rows = store.ENDPOINT_SECRETS_AFTER.all(tx, after=after, rows_max=PAGE_ROWS)
    keyring = None
    if chain is not None:
        with contextlib.suppress(SecretUnknown):  # the check of the audit chain reports it
            keyring = Keyring.from_secret(chain.keyring.read_current(tx).secret)
    texts = []
    for endpoint_id, group in itertools.groupby(rows, key=lambda row: row[0]):
        problem = _find_problem(endpoint_id, list(group), keyring)
        if problem:
            texts.append(f"webhookEndpoints/{endpoint_id}: {problem}")
    return (rows[-1][0] if rows else ""), texts


def _find_problem(endpoint_id: str, rows: list[Row], keyring: Keyring | None) -> str:
    """Return what is wrong with the secrets of an endpoint; empty if nothing is."""
    described = {s.number: s.digest for s in msgspec.json.decode(rows[0][1], type=tuple[SigningSecret, ...])}
    stored = {number: sealed for _, _, number, sealed in rows if number is not None}
    if described.keys() != stored.keys():
        return "a signing secret is missing, or was added"
    for number, sealed in stored.items() if keyring is not None else ():
        secret = decrypt_secret(endpoint_id, number, sealed, keyring=keyring)  # type: ignore[arg-type]
        if secret is None or digest_secret(secret) != described[number]:
            return "a signing secret cannot be decrypted, or does not match the audit log"
    return ""
