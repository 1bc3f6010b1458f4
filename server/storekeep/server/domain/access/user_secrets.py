"""The secrets of users: password hash, TOTP secret and recovery codes, encrypted as one value.

A stolen database alone can verify no guess of a password. Invariant: each change is an entry of the audit log, which
records a digest of the secrets.
"""

from __future__ import annotations

import hashlib

import msgspec

from storekeep.server.domain.access.permissions import read_names
from storekeep.server.domain.access.users import USERS, User
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.mutations import Mutation
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import users as store

PURPOSE = "user-secrets"


class UserSecrets(msgspec.Struct, frozen=True, omit_defaults=True):
    """The secrets of a user.

    Attributes:
        password_hash: the argon2id hash, with its parameters and salt; empty without a password.
        totp_secret: base 32; empty without a second factor.
        recovery_codes: the codes that were not used.
        permissions: those that the password gives at most, or the wildcard: the creator of its link had them. None in
            values of older releases.
    """

    password_hash: str = ""
    totp_secret: str = ""
    recovery_codes: tuple[str, ...] = ()
    permissions: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        """Return a text without the secrets, so that no log shows them."""
        return "UserSecrets(...)"


NO_SECRETS = UserSecrets()


def decrypt_secrets(user_id: str, sealed: object, *, keyring: Keyring) -> UserSecrets | None:
    """Return stored secrets; None if they cannot be decrypted.

    Args:
        sealed: the stored value; None for a user without secrets.
    """
    if sealed is None:
        return NO_SECRETS
    data = keyring.try_decrypt(sealed, purpose=PURPOSE, owner=user_id)
    return None if data is None else msgspec.json.decode(data, type=UserSecrets)


def find_secrets(tx: Transaction, user_id: str, *, keyring: Keyring) -> UserSecrets | None:
    """Return the secrets of a user; None if they cannot be decrypted."""
    row = store.FIND_SECRETS.one(tx, user_id=user_id)
    return decrypt_secrets(user_id, None if row is None else bytes(row[0]), keyring=keyring)


def find_limit(tx: Transaction, user_id: str) -> tuple[str, ...]:
    """Return the permissions that the password of a user gives at most, or the wildcard; none without a password."""
    row = store.PASSWORD_PERMISSIONS.one(tx, user_id=user_id)
    return () if row is None else read_names(row[0])


def digest_secrets(secrets: UserSecrets) -> str:
    """Return the digest of secrets, in hexadecimal digits, for the audit log; empty without any.

    The salt of the hash is in the encrypted value only, so the digest helps nobody to guess a password.
    """
    return hashlib.sha256(b"user-secrets:" + msgspec.json.encode(secrets)).hexdigest() if secrets != NO_SECRETS else ""


def put_secrets(mutation: Mutation, user: User, secrets: UserSecrets, *, keyring: Keyring, action: str) -> User:
    """Store the secrets of a user, and record the change.

    Args:
        action: the verb of the event, such as `password_set`.
    """
    tx = mutation.tx
    limit = find_limit(tx, user.id) if secrets.permissions is None else secrets.permissions
    secrets = msgspec.structs.replace(secrets, permissions=limit)
    new = msgspec.structs.replace(
        user,
        has_password=bool(secrets.password_hash),
        totp_enabled=bool(secrets.totp_secret),
        secrets_digest=digest_secrets(secrets),
    )
    sealed = keyring.encrypt(tx, msgspec.json.encode(secrets), purpose=PURPOSE, owner=user.id)
    store.PUT_SECRETS.run(tx, user_id=user.id, sealed_secrets=sealed, permissions=msgspec.json.encode(limit).decode())
    return USERS.replace(mutation, user, new, action=action)


def reencrypt_secrets(tx: Transaction, keyring: Keyring) -> None:
    """Re-encrypt all secrets with the current server secret. Skip secrets that cannot be decrypted."""
    for user_id, encrypted in store.ALL_SECRETS.all(tx):
        data = keyring.try_decrypt(encrypted, purpose=PURPOSE, owner=user_id)
        if data is not None:
            sealed = keyring.encrypt(tx, data, purpose=PURPOSE, owner=user_id)
            store.REENCRYPT_SECRETS.run(tx, user_id=user_id, sealed_secrets=sealed)


def discard_all_secrets(mutation: Mutation) -> None:
    """Remove the password and the second factor of every user: the server's secret that encrypted them is lost."""
    for user_id, _ in store.ALL_SECRETS.all(mutation.tx):
        discard_secrets(mutation, USERS.find(mutation.tx, (user_id,)))


def discard_secrets(mutation: Mutation, user: User) -> User:
    """Remove the password, the second factor and the password links of a user, and return it."""
    new = msgspec.structs.replace(user, has_password=False, totp_enabled=False, secrets_digest="")
    store.DELETE_SECRETS.run(mutation.tx, user_id=user.id)
    store.DELETE_PASSWORD_LINKS.run(mutation.tx, user_id=user.id)
    return USERS.replace(mutation, user, new, action="secrets_discarded")
