"""Access, wired up: all that decides who may call, for a server and for commands that change who may without one.

With it the store may write entries of the audit log, which are hashed with a key under the server's secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from storekeep.server.config import Settings
from storekeep.server.domain.access.api_keys import KeySecrets
from storekeep.server.domain.access.bootstrap import bootstrap_admin, install_access, renew_secret
from storekeep.server.domain.access.bootstrap import rotate_secret as rotate_in_database
from storekeep.server.domain.access.permissions import AccessVersion
from storekeep.server.domain.access.signing_keys import SigningKeys
from storekeep.server.domain.access.tokens import Tokens
from storekeep.server.domain.audit.checkpoints import sign_head
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.interceptors.auth import Authenticator
from storekeep.server.interceptors.credentials import FailedCredentials
from storekeep.server.runtime.secrets import SECRET_FILE, load_secret, load_secrets
from storekeep.server.store.engine import Store
from storekeep.server.store.locks import lock
from storekeep.server.transport.contract import Contract, read_contract
from storekeep.server.transport.jwts import AccessTokens

ROTATION_WAIT_S = 60.0
"""How long a rotation waits for another one, which takes less than a second unless the database is busy."""


@dataclass(frozen=True)
class Access:
    """All that decides who may call, wired up.

    Attributes:
        known: all permissions that any RPC asks for.
    """

    known: frozenset[str]
    keyring: Keyring
    version: AccessVersion
    signing_keys: SigningKeys
    key_secrets: KeySecrets
    tokens: Tokens
    authenticator: Authenticator[Any]


def make_access(
    settings: Settings,
    store: Store,
    contract: Contract,
    *,
    keyring: Keyring,
    failures: FailedCredentials | None = None,
) -> Access:
    """Wire up who may call, and have the store write entries of the audit log."""
    store.chain = AuditChain(keyring)
    version = AccessVersion(store, poll_interval_s=settings.revocation_poll_s)
    signing_keys = SigningKeys(
        store, keyring=keyring, version=version, token_lifetime_s=settings.access_token_lifetime_s
    )
    key_secrets = KeySecrets(keyring, retention_s=settings.secret_reply_retention_s)
    jwts = AccessTokens(
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        signer=signing_keys.signer,
        verifier=signing_keys.verifier,
    )
    tokens = Tokens(
        store,
        key_secrets=key_secrets,
        sign=jwts.write,
        verify=jwts.read,
        access_lifetime_s=settings.access_token_lifetime_s,
        refresh_lifetime_s=settings.refresh_token_lifetime_s,
        session_lifetime_max_s=settings.session_lifetime_max_s,
    )
    authenticator = Authenticator(
        verify=jwts.read,
        find_caller=tokens.find_caller,
        version=version.current,
        verified_max=settings.token_cache_max,
        failures=failures,
    )
    return Access(contract.permissions, keyring, version, signing_keys, key_secrets, tokens, authenticator)


def install(access: Access, store: Store, *, keep: Callable[[str], None], force: bool = False) -> bool:
    """Make what has to be there before anyone can call; see `bootstrap_admin` for the arguments.

    Returns: whether a key was made for the administrator.

    Raises: SecretUnknown, and the store's errors.
    """
    install_access(store, keyring=access.keyring, known=access.known, signing_keys=access.signing_keys)
    return bootstrap_admin(store, key_secrets=access.key_secrets, known=access.known, keep=keep, force=force)


def make_keyring(settings: Settings) -> Keyring:
    """Return the server's secrets, which are read again as they change; the secret is made when there is none.

    Raises: WeakSecret; ExposedFile; OSError.
    """
    load_secret(settings.given_secrets, data_dir=settings.data_dir)
    return read_keyring(settings)


def read_keyring(settings: Settings) -> Keyring:
    """Return the server's secrets, which are read again as they change.

    Raises: WeakSecret; ExposedFile; OSError, such as FileNotFoundError when there is no secret.
    """
    return Keyring(
        lambda: load_secrets(settings.given_secrets, data_dir=settings.data_dir),
        overlap_days=settings.secret_overlap_days,
    )


def make_admin_key(
    settings: Settings, store: Store, *, keep: Callable[[str], None], force: bool, new_secret: bool = False
) -> bool:
    """Make a key for the administrator without serving; False where there are accounts and nobody insists.

    Args:
        new_secret: give up what is under a secret that is lost.

    Raises: WeakSecret, ExposedFile, OSError, SecretUnknown, SecretInUse, and the store's errors.
    """
    access = make_access(settings, store, read_contract(), keyring=make_keyring(settings))
    if new_secret:
        renew_secret(store, keyring=access.keyring, signing_keys=access.signing_keys)
    return install(access, store, keep=keep, force=force)


@contextmanager
def rotating(settings: Settings) -> Iterator[None]:
    """Be the only process that changes the files of the secret; with the secret in the settings there are none.

    Raises: DatabaseInUse, where another one takes longer than a minute; OSError.
    """
    if settings.secret.get_secret_value():
        yield
        return
    with lock(settings.data_dir / SECRET_FILE, purpose="rotate", wait_s=ROTATION_WAIT_S):
        yield


def rotate_secret(settings: Settings, store: Store, new: bytes) -> bool:
    """Put the database under a new secret, which is known already; False where it is.

    Raises: WeakSecret, ExposedFile, OSError, SecretUnknown, and the store's errors.
    """
    access = make_access(settings, store, read_contract(), keyring=make_keyring(settings))
    done = rotate_in_database(
        store, new, keyring=access.keyring, signing_keys=access.signing_keys, key_secrets=access.key_secrets
    )
    sign_head(store, store.chain)
    return done
