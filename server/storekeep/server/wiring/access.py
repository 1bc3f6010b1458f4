"""The wiring of access control, for the server and for commands that run without one.

It also lets the store write audit entries, whose hashes are keyed under the server's secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from storekeep.server.config import Settings
from storekeep.server.domain.access import user_secrets
from storekeep.server.domain.access.api_keys import KeySecrets
from storekeep.server.domain.access.bootstrap import bootstrap_admin, install_access, reset_secret
from storekeep.server.domain.access.bootstrap import rotate_secret as rotate_in_database
from storekeep.server.domain.access.identities import Identities
from storekeep.server.domain.access.password_links import PasswordLinks
from storekeep.server.domain.access.passwords import Passwords
from storekeep.server.domain.access.permissions import AccessVersion
from storekeep.server.domain.access.sign_ins import SignIns
from storekeep.server.domain.access.signing_keys import SigningKeys
from storekeep.server.domain.access.tokens import Tokens
from storekeep.server.domain.audit.checkpoints import sign_head
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.webhooks import endpoints
from storekeep.server.interceptors.auth import Authenticator
from storekeep.server.interceptors.credentials import FailedCredentials
from storekeep.server.runtime.secrets import SECRET_FILE
from storekeep.server.store.engine import Store
from storekeep.server.store.locks import lock
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.transport.contract import Contract, read_contract
from storekeep.server.transport.jwts import AccessTokens
from storekeep.server.wiring.data_keys import install_data_keys, make_data_keys
from storekeep.server.wiring.identities import Provider, make_find_caller, make_identities, make_provider, make_verify
from storekeep.server.wiring.keyrings import make_keyring

ROTATION_WAIT_S = 60.0
"""Maximum time in seconds to wait for another rotation, which takes less than a second on an idle database."""


@dataclass(frozen=True)
class Access:
    """The wired components of access control.

    Attributes:
        known: every permission that an RPC requires.
    """

    known: frozenset[str]
    keyring: Keyring
    version: AccessVersion
    signing_keys: SigningKeys
    key_secrets: KeySecrets
    tokens: Tokens
    sign_ins: SignIns
    password_links: PasswordLinks
    authenticator: Authenticator[Any]
    provider: Provider
    identities: Identities


def make_access(
    settings: Settings,
    store: Store,
    contract: Contract,
    *,
    keyring: Keyring,
    failures: FailedCredentials | None = None,
) -> Access:
    """Wire access control, and give the store the keys that it needs for audit entries and personal data."""
    store.chain = AuditChain(keyring)
    store.data_keys = make_data_keys(settings)
    version = AccessVersion(store, poll_interval_s=settings.revocation_poll_s)
    signing_keys = SigningKeys(
        store, keyring=keyring, version=version, token_lifetime_s=settings.access_token_lifetime_s
    )
    key_secrets = KeySecrets(keyring, retention_s=settings.secret_reply_retention_s)
    jwts = AccessTokens(
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        signer=signing_keys.get_signer,
        verifier=signing_keys.find_verifier,
    )
    tokens = Tokens(
        store,
        key_secrets=key_secrets,
        sign=jwts.write,
        verify=jwts.read,
        access_lifetime_s=settings.access_token_lifetime_s,
        refresh_lifetime_s=settings.refresh_token_lifetime_s,
        session_lifetime_max_s=settings.session_lifetime_max_s,
        identity_session_max_s=settings.oidc_session_lifetime_s,
    )
    provider = make_provider(settings)
    identities = make_identities(settings, store, provider=provider, tokens=tokens)
    authenticator: Authenticator[Any] = Authenticator(
        verify=make_verify(jwts, provider),
        find_caller=make_find_caller(tokens, identities),
        version=version.current,
        verified_max=settings.token_cache_max,
        failures=failures,
    )
    passwords = Passwords(
        length_min=settings.password_length_min,
        memory_kib=settings.password_memory_kib,
        passes=settings.password_passes,
    )
    sign_ins = SignIns(store, passwords=passwords, keyring=keyring, tokens=tokens)
    return Access(
        contract.permissions,
        keyring,
        version,
        signing_keys,
        key_secrets,
        tokens,
        sign_ins,
        PasswordLinks(store, keyring=keyring, retention_s=settings.secret_reply_retention_s),
        authenticator,
        provider,
        identities,
    )


def install(access: Access, store: Store, *, keep: Callable[[str], None], force: bool = False) -> bool:
    """Create roles, a signing key and the administrator if they are missing; see `bootstrap_admin` for the arguments.

    Returns: whether a key was created for the administrator.

    Raises: SecretUnknown, KeyUnknown, and the store's errors.
    """
    install_data_keys(store)
    install_access(store, keyring=access.keyring, known=access.known, signing_keys=access.signing_keys)
    return bootstrap_admin(store, key_secrets=access.key_secrets, known=access.known, keep=keep, force=force)


def make_admin_key(
    settings: Settings, store: Store, *, keep: Callable[[str], None], force: bool, new_secret: bool = False
) -> bool:
    """Create an API key for the administrator without a server; False if accounts exist and `force` is not set.

    Args:
        new_secret: replace a lost secret, and discard what it encrypted.

    Raises: WeakSecret, ExposedFile, OSError, SecretUnknown, SecretInUse, and the store's errors.
    """
    access = make_access(settings, store, read_contract(), keyring=make_keyring(settings))
    if new_secret:
        reset_secret(store, keyring=access.keyring, signing_keys=access.signing_keys)
    return install(access, store, keep=keep, force=force)


@contextmanager
def lock_secret_files(settings: Settings) -> Iterator[None]:
    """Hold the lock on the secret's files. Does nothing if the secret comes from the settings.

    Raises: DatabaseInUse if another rotation takes longer than `ROTATION_WAIT_S`; OSError.
    """
    if settings.secret.get_secret_value():
        yield
        return
    with lock(settings.data_dir / SECRET_FILE, purpose="rotate", wait_s=ROTATION_WAIT_S):
        yield


def _reencrypt_others(tx: Transaction, keyring: Keyring) -> None:
    """Re-encrypt the secrets of webhooks and users with the current server secret."""
    endpoints.reencrypt_secrets(tx, keyring)
    user_secrets.reencrypt_secrets(tx, keyring)


def rotate_secret(settings: Settings, store: Store, new: bytes) -> bool:
    """Encrypt the database under a new secret that the keyring knows; False if it already is.

    Raises: WeakSecret, ExposedFile, OSError, SecretUnknown, and the store's errors.
    """
    access = make_access(settings, store, read_contract(), keyring=make_keyring(settings))
    rotated = rotate_in_database(
        store,
        new,
        keyring=access.keyring,
        signing_keys=access.signing_keys,
        key_secrets=access.key_secrets,
        reencrypt_others=_reencrypt_others,
    )
    sign_head(store, store.chain)
    return rotated
