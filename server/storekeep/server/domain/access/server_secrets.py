"""The server's secret: installation, rotation, and replacement after a loss.

Invariant: a rotation re-encrypts all data in one transaction, and starts a new epoch of the audit log and a new key for
its checkpoints. An old secret therefore decrypts nothing that is written later.
"""

from __future__ import annotations

from storekeep.server.domain.access.api_keys import KeySecrets, record_key_digest, revoke_all_keys
from storekeep.server.domain.access.permissions import raise_version
from storekeep.server.domain.access.signing_keys import SigningKeys
from storekeep.server.domain.access.user_secrets import discard_all_secrets
from storekeep.server.domain.audit import checkpoints
from storekeep.server.domain.audit.log import digest_history
from storekeep.server.domain.keys.audit_chain import PURPOSE as CHAIN_PURPOSE
from storekeep.server.domain.keys.audit_chain import ChainKeysRemoved, format_owner
from storekeep.server.domain.keys.encryption import DecryptionFailed
from storekeep.server.domain.keys.keyrings import Keyring, SecretUnknown, make_fingerprint
from storekeep.server.domain.mutations import Mutation
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as store
from storekeep.server.store.tables import audit as audit_store


class SecretInUse(Exception):
    """The server's secret still works for the database, so it must not be abandoned."""

    def __init__(self) -> None:
        super().__init__(
            "the server's secret works for this database, so --new-secret is not needed; to replace the secret, run: "
            "storekeep-server rotate-secret"
        )


def install_secret(mutation: Mutation, *, keyring: Keyring, signing_keys: SigningKeys) -> None:
    """Bind a new database, or one of an older release, to the server's secret; start the first epoch of the audit log.

    Raises: SecretUnknown if the database uses another secret; ChainKeysRemoved. Nothing is written then.
    """
    tx = mutation.tx
    is_new = audit_store.LATEST_SECRET.one(tx) is None
    if is_new:
        secret = _find_initial_secret(tx, keyring)
        audit_store.INSERT_SECRET.run(tx, number=1, fingerprint=make_fingerprint(secret), now_us=tx.now_us)
    keyring.read_current(tx)
    if not is_new:
        _check_newest_key(tx, keyring)
    elif audit_store.EPOCHS.one(tx) is None:
        mutation.start_epoch(reason="the first start with a keyed log", history_digest="")
        for account_id, key_id, key_hash in store.KEYS_WITHOUT_DIGEST.all(tx):
            record_key_digest(mutation, (account_id, key_id), bytes(key_hash))
    signing_keys.install(mutation)
    checkpoints.install_key(mutation, keyring)


def _find_initial_secret(tx: Transaction, keyring: Keyring) -> bytes:
    """Return the secret of a database that does not record it: the one that decrypts its current signing key.

    A new database has no signing key; it gets the newest known secret.

    Raises: SecretUnknown.
    """
    for kid, _, encrypted, *_ in store.SIGNING_KEYS.all(tx, now_us=tx.now_us):
        for secret in keyring.list_secrets():
            if Keyring.from_secret(secret).try_decrypt(encrypted, purpose="signing-key", owner=kid) is not None:
                return secret
        raise SecretUnknown
    return keyring.list_secrets()[0]


def _check_newest_key(tx: Transaction, keyring: Keyring) -> None:
    """Raise SecretUnknown unless the newest key of the audit log can be decrypted.

    Raises: SecretUnknown, ChainKeysRemoved.
    """
    epochs = audit_store.EPOCHS.all(tx)
    if not epochs and audit_store.LATEST_SECRET.one(tx) is not None:
        raise ChainKeysRemoved
    for number, first_sequence, encrypted, _ in epochs[-1:]:
        if keyring.try_decrypt(encrypted, purpose=CHAIN_PURPOSE, owner=format_owner(number, first_sequence)) is None:
            raise SecretUnknown


def replace_secret(
    mutation: Mutation, new: bytes, *, keyring: Keyring, signing_keys: SigningKeys, key_secrets: KeySecrets
) -> bool:
    """Re-encrypt all data with a new secret, and start a new epoch. Return False if the database uses it already.

    Raises: SecretUnknown, DecryptionFailed.
    """
    tx = mutation.tx
    current = keyring.read_current(tx)
    if current.secret == new:
        return False
    audit_store.INSERT_SECRET.run(tx, number=current.number + 1, fingerprint=make_fingerprint(new), now_us=tx.now_us)
    for number, first_sequence, encrypted, _ in audit_store.EPOCHS.all(tx):
        owner = format_owner(number, first_sequence)
        key = keyring.try_decrypt(encrypted, purpose=CHAIN_PURPOSE, owner=owner)
        if key is not None:  # a key that was lost with its secret stays lost
            reencrypted = keyring.encrypt(tx, key, purpose=CHAIN_PURPOSE, owner=owner)
            audit_store.REENCRYPT_EPOCH.run(tx, number=number, sealed_key=reencrypted)
    signing_keys.reencrypt(tx)
    checkpoints.reencrypt_keys(tx, keyring)
    key_secrets.reencrypt(tx)
    mutation.start_epoch(reason="the server's secret was rotated", history_digest="")
    checkpoints.add_key(mutation, keyring)
    raise_version(tx)
    return True


def abandon_secret(mutation: Mutation, *, keyring: Keyring, signing_keys: SigningKeys) -> None:
    """Bind a database to another secret because its own is lost. End all keys, passwords and sessions.

    A digest in the first entry of the new epoch protects the audit entries whose key is lost.

    Raises: SecretInUse if the server's secret still works.
    """
    tx = mutation.tx
    try:
        keyring.read_current(tx)
        _find_initial_secret(tx, keyring)
        _check_newest_key(tx, keyring)
    except DecryptionFailed:
        pass
    else:
        raise SecretInUse
    last = audit_store.LATEST_SECRET.one(tx)
    number = 1 if last is None else last[0] + 1
    fingerprint = make_fingerprint(keyring.list_secrets()[0])
    audit_store.INSERT_SECRET.run(tx, number=number, fingerprint=fingerprint, now_us=tx.now_us)
    mutation.start_epoch(
        reason="the server's secret was lost: all API keys, passwords, sessions and signing keys ended",
        history_digest=digest_history(tx),
    )
    revoke_all_keys(mutation)
    discard_all_secrets(mutation)
    store.REVOKE_ALL_SESSIONS.run(tx, now_us=tx.now_us)
    signing_keys.replace_all(mutation)
    checkpoints.add_key(mutation, keyring)
    raise_version(tx)


def list_keys_under_older_secrets(database: Store) -> list[str]:
    """Return the names of the valid API keys that are still stored under an older secret."""

    def work(tx: Transaction) -> list[str]:
        rows = store.KEYS_UNDER_OLDER_SECRETS.all(tx, now_us=tx.now_us)
        return [f"serviceAccounts/{account_id}/apiKeys/{key_id}" for account_id, key_id in rows]

    return database.read(work)
