"""Bootstrap: the built-in roles, the first keys and the first administrator, without which nobody can call.

It runs as `system/bootstrap`, is audited like any other call, and is idempotent.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from storekeep.server.domain.access.accounts import SERVICE_ACCOUNTS, ServiceAccount
from storekeep.server.domain.access.api_keys import ApiKey, KeySecrets, add_key
from storekeep.server.domain.access.permissions import WILDCARD
from storekeep.server.domain.access.personal_data import install_roles
from storekeep.server.domain.access.roles import ADMIN
from storekeep.server.domain.access.server_secrets import abandon_secret, install_secret, replace_secret
from storekeep.server.domain.access.signing_keys import SigningKeys
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as store

SUBJECT = "system/bootstrap"


def _make_call(action: str, known: frozenset[str]) -> Call:
    return Call(Caller(SUBJECT, display_name="Bootstrap", permissions=known), f"{SUBJECT}/{action}")


def install_access(database: Store, *, keyring: Keyring, known: frozenset[str], signing_keys: SigningKeys) -> None:
    """Bind the database to the server's secret, and create the built-in roles and the first keys. Runs at every start.

    Args:
        known: all permissions that RPCs require.

    Raises: SecretUnknown if the database uses another secret.
    """

    def effect(mutation: Mutation) -> None:
        install_secret(mutation, keyring=keyring, signing_keys=signing_keys)
        install_roles(mutation, known=known)

    mutate(database, _make_call("InstallAccess", known), effect, type(None))


def rotate_secret(
    database: Store,
    new: bytes,
    *,
    keyring: Keyring,
    signing_keys: SigningKeys,
    key_secrets: KeySecrets,
    reencrypt_others: Callable[[Transaction, Keyring], None],
) -> bool:
    """Re-encrypt the database with a new secret. Return False if it uses the secret already.

    Args:
        reencrypt_others: re-encrypts what other parts of the domain store encrypted, in the same transaction.

    Raises: SecretUnknown, DecryptionFailed.
    """

    def effect(mutation: Mutation) -> bool:
        replaced = replace_secret(mutation, new, keyring=keyring, signing_keys=signing_keys, key_secrets=key_secrets)
        if replaced:
            reencrypt_others(mutation.tx, keyring)
        return replaced

    return mutate(database, _make_call("RotateSecret", frozenset()), effect, bool)


def reset_secret(database: Store, *, keyring: Keyring, signing_keys: SigningKeys) -> None:
    """Bind the database to another secret because its own is lost. Ends all keys, passwords and sessions.

    Raises: SecretInUse if the old secret still works.
    """

    def effect(mutation: Mutation) -> None:
        abandon_secret(mutation, keyring=keyring, signing_keys=signing_keys)

    mutate(database, _make_call("RenewSecret", frozenset()), effect, type(None))


def bootstrap_admin(
    database: Store, *, key_secrets: KeySecrets, known: frozenset[str], keep: Callable[[str], None], force: bool = False
) -> bool:
    """Create `serviceAccounts/admin` and an API key for it, unless an account exists.

    Args:
        known: all permissions that RPCs require.
        keep: stores the key for its owner; the key cannot be shown again. It is called before the key is valid, so that
            a crash loses no key. It may be called again with another key.
        force: create a key even if accounts exist, and restore the account, for an owner who is locked out.

    Returns: whether a key was created.
    """

    def effect(mutation: Mutation) -> bool:
        if not force and store.ANY_ACCOUNT.one(mutation.tx) is not None:
            return False
        install_roles(mutation, known=known)
        account = _restore_admin(mutation)
        new_key = ApiKey(account.id, f"bootstrap-{new_id()}", "Made by bootstrap-admin", scopes=(WILDCARD,))
        keep(add_key(mutation, new_key, key_secrets=key_secrets).secret)
        return True

    return mutate(database, _make_call("BootstrapAdmin", known), effect, bool)


def _restore_admin(mutation: Mutation) -> ServiceAccount:
    """Return the administrator's account. Create, enable or undelete it, and give it the `admin` role, as needed."""
    row = SERVICE_ACCOUNTS.rows.find(mutation.tx, (ADMIN,))
    if row is None:
        return SERVICE_ACCOUNTS.add(mutation, ServiceAccount(ADMIN, "Administrator", (ADMIN,)))
    old = SERVICE_ACCOUNTS.read_rows(mutation.tx, [row])[0]
    roles = old.roles if ADMIN in old.roles else (ADMIN, *old.roles)
    new = msgspec.structs.replace(old, roles=roles, disabled=False, delete_time_us=None)
    return old if new == old else SERVICE_ACCOUNTS.replace(mutation, old, new, action="let_in")
