"""The server's secret and what is under it: put a database under one, the next, or another where it is lost.

Invariant: all that is encrypted under a secret moves to the next in one transaction, together with a new epoch of the
audit log and a new key for its checkpoints, so that an old secret opens nothing that is made afterwards.
"""

from __future__ import annotations

from storekeep.server.domain.access.api_keys import KeySecrets, note_digest, revoke_all
from storekeep.server.domain.access.permissions import raise_version
from storekeep.server.domain.access.signing_keys import SigningKeys
from storekeep.server.domain.audit import checkpoints
from storekeep.server.domain.audit.log import digest_history
from storekeep.server.domain.keys.audit_chain import PURPOSE as CHAIN_PURPOSE
from storekeep.server.domain.keys.audit_chain import ChainKeysRemoved, owner
from storekeep.server.domain.keys.encryption import SealBroken
from storekeep.server.domain.keys.keyrings import Keyring, SecretUnknown, fingerprint
from storekeep.server.domain.mutations import Mutation
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as store
from storekeep.server.store.tables import audit as audit_store


class SecretInUse(Exception):
    """The database opens with the secret that is there, so nothing has to be given up."""

    def __init__(self) -> None:
        super().__init__(
            "the database opens with the server's secret, so --new-secret is not needed; to replace the secret: "
            "storekeep-server rotate-secret"
        )


def install_secret(mutation: Mutation, *, keyring: Keyring, signing_keys: SigningKeys) -> None:
    """Put a new database, or one of an older release, under the server's secret, and begin the audit log's first epoch.

    Raises: SecretUnknown, where it is under another one, ChainKeysRemoved; then nothing was written.
    """
    tx = mutation.tx
    is_new = audit_store.LATEST_SECRET.one(tx) is None
    if is_new:
        secret = _oldest_fit(tx, keyring)
        audit_store.INSERT_SECRET.run(tx, number=1, fingerprint=fingerprint(secret), now_us=tx.now_us)
    keyring.current(tx)
    if not is_new:
        _check_opens(tx, keyring)
    elif audit_store.EPOCHS.one(tx) is None:
        mutation.start_epoch(reason="the first start with a keyed log", history_digest="")
        for account_id, key_id, key_hash in store.KEYS_WITHOUT_DIGEST.all(tx):
            note_digest(mutation, (account_id, key_id), bytes(key_hash))
    signing_keys.install(mutation)
    checkpoints.install_key(mutation, keyring)


def _oldest_fit(tx: Transaction, keyring: Keyring) -> bytes:
    """The secret that a database of an older release is under, which only its signing keys tell."""
    for kid, _, sealed, *_ in store.SIGNING_KEYS.all(tx, now_us=tx.now_us):
        for secret in keyring.known():
            if Keyring.of(secret).try_open(sealed, purpose="signing-key", owner=kid) is not None:
                return secret
        raise SecretUnknown
    return keyring.known()[0]


def _check_opens(tx: Transaction, keyring: Keyring) -> None:
    """Raises: SecretUnknown, where the newest key of the audit log does not open; ChainKeysRemoved."""
    epochs = audit_store.EPOCHS.all(tx)
    if not epochs and audit_store.LATEST_SECRET.one(tx) is not None:
        raise ChainKeysRemoved
    for number, first_sequence, sealed, _ in epochs[-1:]:
        if keyring.try_open(sealed, purpose=CHAIN_PURPOSE, owner=owner(number, first_sequence)) is None:
            raise SecretUnknown


def move_to_secret(
    mutation: Mutation, new: bytes, *, keyring: Keyring, signing_keys: SigningKeys, key_secrets: KeySecrets
) -> bool:
    """Encrypt under a new secret all that is encrypted, and begin a new epoch; False where that was done already.

    Raises: SecretUnknown, SealBroken.
    """
    tx = mutation.tx
    current = keyring.current(tx)
    if current.secret == new:
        return False
    audit_store.INSERT_SECRET.run(tx, number=current.number + 1, fingerprint=fingerprint(new), now_us=tx.now_us)
    for number, first_sequence, sealed, _ in audit_store.EPOCHS.all(tx):
        bound = owner(number, first_sequence)
        opened = keyring.try_open(sealed, purpose=CHAIN_PURPOSE, owner=bound)
        if opened is not None:  # a key that was lost with its secret stays lost
            again = keyring.seal(tx, opened, purpose=CHAIN_PURPOSE, owner=bound)
            audit_store.RESEAL_EPOCH.run(tx, number=number, sealed_key=again)
    signing_keys.reseal(tx)
    checkpoints.reseal_keys(tx, keyring)
    key_secrets.reseal(tx)
    mutation.start_epoch(reason="the server's secret was rotated", history_digest="")
    checkpoints.add_key(mutation, keyring)
    raise_version(tx)
    return True


def give_up_secret(mutation: Mutation, *, keyring: Keyring, signing_keys: SigningKeys) -> None:
    """Put a database under another secret where its own is lost: all API keys, sessions and signing keys end.

    The entries of the audit log whose key is lost are vouched for by a digest in the first entry of the new epoch.

    Raises: SecretInUse.
    """
    tx = mutation.tx
    try:
        keyring.current(tx)
        _oldest_fit(tx, keyring)
        _check_opens(tx, keyring)
    except SealBroken:
        pass
    else:
        raise SecretInUse
    last = audit_store.LATEST_SECRET.one(tx)
    number = 1 if last is None else last[0] + 1
    audit_store.INSERT_SECRET.run(tx, number=number, fingerprint=fingerprint(keyring.known()[0]), now_us=tx.now_us)
    mutation.start_epoch(
        reason="the server's secret was lost: all API keys, sessions and signing keys ended",
        history_digest=digest_history(tx),
    )
    revoke_all(mutation)
    store.REVOKE_ALL_SESSIONS.run(tx, now_us=tx.now_us)
    signing_keys.replace_all(mutation)
    checkpoints.add_key(mutation, keyring)
    raise_version(tx)


def count_keys_to_lose(database: Store) -> int:
    """How many API keys work that are still stored under an older secret."""

    def work(tx: Transaction) -> int:
        row = store.KEYS_UNDER_OLDER_SECRETS.one(tx, now_us=tx.now_us)
        return 0 if row is None else int(row[0])

    return database.read(work)
