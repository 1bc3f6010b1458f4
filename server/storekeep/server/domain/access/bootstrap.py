"""Bootstrap: what has to be there before anyone can call: built-in roles, a signing key, the first administrator.

It runs as `system/bootstrap`, is audited like all else, and does nothing where it is done already.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from storekeep.server.domain.access.accounts import SERVICE_ACCOUNTS, ServiceAccount
from storekeep.server.domain.access.api_keys import ApiKey, KeySecrets, add_key
from storekeep.server.domain.access.permissions import WILDCARD
from storekeep.server.domain.access.roles import ADMIN, install_built_in_roles
from storekeep.server.domain.access.server_secrets import give_up_secret, install_secret, move_to_secret
from storekeep.server.domain.access.signing_keys import SigningKeys
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.store.engine import Store
from storekeep.server.store.tables import access as store

SUBJECT = "system/bootstrap"


def _call(action: str, known: frozenset[str]) -> Call:
    return Call(Caller(SUBJECT, display_name="Bootstrap", permissions=known), f"{SUBJECT}/{action}")


def install_access(database: Store, *, keyring: Keyring, known: frozenset[str], signing_keys: SigningKeys) -> None:
    """Put the database under the server's secret and make the built-in roles and the first keys, at every start.

    Args:
        known: all permissions that any RPC asks for.

    Raises: SecretUnknown, where the server's secret is not the one that the database was made with.
    """

    def effect(mutation: Mutation) -> None:
        install_secret(mutation, keyring=keyring, signing_keys=signing_keys)
        install_built_in_roles(mutation, known=known)

    mutate(database, _call("InstallAccess", known), effect, type(None))


def rotate_secret(
    database: Store, new: bytes, *, keyring: Keyring, signing_keys: SigningKeys, key_secrets: KeySecrets
) -> bool:
    """Put the database under a new secret; False where it is already.

    Raises: SecretUnknown.
    """

    def effect(mutation: Mutation) -> bool:
        return move_to_secret(mutation, new, keyring=keyring, signing_keys=signing_keys, key_secrets=key_secrets)

    return mutate(database, _call("RotateSecret", frozenset()), effect, bool)


def renew_secret(database: Store, *, keyring: Keyring, signing_keys: SigningKeys) -> None:
    """Put the database under another secret, as its own is lost; ends all API keys, sessions and signing keys.

    Raises: SecretInUse.
    """

    def effect(mutation: Mutation) -> None:
        give_up_secret(mutation, keyring=keyring, signing_keys=signing_keys)

    mutate(database, _call("RenewSecret", frozenset()), effect, type(None))


def bootstrap_admin(
    database: Store, *, key_secrets: KeySecrets, known: frozenset[str], keep: Callable[[str], None], force: bool = False
) -> bool:
    """Make `serviceAccounts/admin` and a key for it, where no account exists yet.

    Args:
        known: all permissions that any RPC asks for.
        keep: puts the key, which is shown here and never again, where its owner finds it; done before the key is good
            for anything, so that a crash between the two loses none. It may be called again with another key.
        force: make another key in any case, and let the account in again, for an owner who is locked out.

    Returns: whether a key was made.
    """

    def effect(mutation: Mutation) -> bool:
        if not force and store.ANY_ACCOUNT.one(mutation.tx) is not None:
            return False
        install_built_in_roles(mutation, known=known)
        account = _let_in(mutation)
        draft = ApiKey(account.id, f"bootstrap-{new_id()}", "Made by bootstrap-admin", scopes=(WILDCARD,))
        keep(add_key(mutation, draft, key_secrets=key_secrets).secret)
        return True

    return mutate(database, _call("BootstrapAdmin", known), effect, bool)


def _let_in(mutation: Mutation) -> ServiceAccount:
    """The administrator's account: there, enabled, and an administrator."""
    row = SERVICE_ACCOUNTS.rows.find(mutation.tx, (ADMIN,))
    if row is None:
        return SERVICE_ACCOUNTS.add(mutation, ServiceAccount(ADMIN, "Administrator", (ADMIN,)))
    old = SERVICE_ACCOUNTS.read_rows(mutation.tx, [row])[0]
    roles = old.roles if ADMIN in old.roles else (ADMIN, *old.roles)
    new = msgspec.structs.replace(old, roles=roles, disabled=False, delete_time_us=None)
    return old if new == old else SERVICE_ACCOUNTS.replace(mutation, old, new, happened="let_in")
