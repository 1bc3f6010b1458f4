"""API keys, `sk_LOOKUP_SECRET`: service accounts exchange them for tokens.

Invariant: a secret appears only in the reply to its creation. It is also stored encrypted for ten minutes, for retries.
A caller cannot create or change a key of an account that has permissions that the caller lacks.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Callable

import msgspec

from storekeep.server.domain.access.accounts import SERVICE_ACCOUNTS, check_account, check_no_lookalike
from storekeep.server.domain.access.permissions import (
    AUTHENTICATED_SCOPE,
    WILDCARD,
    find_permissions,
    raise_version,
    require_held,
    require_known,
)
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import ApiKeyNotFound, IllegalState, InvalidField, ReplyExpired
from storekeep.server.domain.keys.keyrings import CurrentSecret, Keyring
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.domain.standard.resources import check_etag, check_not_deleted, new_id
from storekeep.server.runtime.key_derivation import derive_key
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as store

ALPHABET = string.ascii_letters + string.digits
"""Base 62: has no separator of the key format, and a double click selects a whole key."""
LOOKUP_LENGTH = 16
"""95 bits: collisions are negligible."""
SECRET_LENGTH = 43
"""The shortest length that holds 256 bits."""
SECRET_RETENTION_S = 600.0
"""How long a retry returns the same secret: ten minutes, far longer than automatic retries take."""
NEW_SECRET = "reply"  # noqa: S105 - a name
"""The encryption purpose for the secrets of new keys."""
KEY_FORMAT = re.compile(rf"sk_([A-Za-z0-9]{{{LOOKUP_LENGTH}}})_([A-Za-z0-9]{{{SECRET_LENGTH}}})", re.ASCII)


class ApiKey(msgspec.Struct, frozen=True):
    """An API key without its secret; see `ApiKey` in the contract.

    Attributes:
        account_id: the id of the service account that owns the key.
        scopes: the permissions that limit the key; `*` for all of its account.
        expire_time_us, revoke_time_us: microseconds since 1970; None if not set.
        lookup_id: the public part of the key; identifies a leaked key.
        key_digest: a digest of the stored hash, so that the audit log shows changes of the hash.
    """

    account_id: str
    id: str
    display_name: str = ""
    scopes: tuple[str, ...] = ()
    expire_time_us: int | None = None
    revoke_time_us: int | None = None
    lookup_id: str = ""
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    key_digest: str = ""

    @property
    def name(self) -> str:
        """The resource name."""
        return f"serviceAccounts/{self.account_id}/apiKeys/{self.id}"

    @property
    def delete_time_us(self) -> None:
        """Always None: keys are not deleted, and revoked keys stay in lists."""
        return None


class IssuedKey(msgspec.Struct, frozen=True):
    """A new key with its secret, which is shown once."""

    api_key: ApiKey
    secret: str

    def __repr__(self) -> str:
        """Return a text without the secret, so that no log shows it."""
        return f"IssuedKey({self.api_key.name})"


class KeySecrets:
    """Generates, verifies and encrypts the secrets of API keys.

    Args:
        keyring: the server's secrets.
        retention_s: how long a retry returns the secret of a new key.
    """

    def __init__(self, keyring: Keyring, *, retention_s: float = SECRET_RETENTION_S) -> None:
        self.keyring = keyring
        self.retention_us = round(retention_s * 1_000_000)

    def generate(self) -> tuple[str, str]:
        """Return the lookup id of a new key, and the key itself."""
        lookup_id, secret = _generate_text(LOOKUP_LENGTH), _generate_text(SECRET_LENGTH)
        return lookup_id, f"sk_{lookup_id}_{secret}"

    def find_matching_secret(self, key: str, stored: bytes) -> bytes | None:
        """Return the server's secret that produced the stored hash of a key; None if the hash is of another key.

        It tries all secrets in any case, so that its duration reveals nothing.
        """
        matching = None
        for secret in self.keyring.list_secrets():
            if hmac.compare_digest(hash_key(key, secret), stored):
                matching = secret
        return matching

    def encrypt(self, tx: Transaction, issued: IssuedKey) -> bytes:
        """Encrypt the secret of a new key, so that a retry can return it."""
        return self.keyring.encrypt(tx, issued.secret.encode(), purpose=NEW_SECRET, owner=issued.api_key.lookup_id)

    def reencrypt(self, tx: Transaction) -> None:
        """Re-encrypt the secrets of new keys with the current server secret. Skip secrets that cannot be decrypted."""
        for lookup_id, encrypted in store.NEW_SECRETS.all(tx):
            secret = self.keyring.try_decrypt(encrypted, purpose=NEW_SECRET, owner=lookup_id)
            if secret is not None:
                reencrypted = self.keyring.encrypt(tx, secret, purpose=NEW_SECRET, owner=lookup_id)
                store.REENCRYPT_NEW_SECRET.run(tx, lookup_id=lookup_id, sealed_secret=reencrypted)

    def decrypt(self, api_key: ApiKey, encrypted_secret: bytes) -> IssuedKey:
        """Return a new key with its decrypted secret.

        Raises: DecryptionFailed if the server's secret was replaced.
        """
        secret = self.keyring.decrypt(encrypted_secret, purpose=NEW_SECRET, owner=api_key.lookup_id)
        return IssuedKey(api_key, secret.decode())


def hash_key(key: str, secret: bytes) -> bytes:
    """Return the HMAC-SHA256 of a key under the server's secret: a stolen database alone cannot verify guesses."""
    return hmac.digest(derive_key(secret, "api-key"), key.encode(), "sha256")


def digest_key_hash(key_hash: bytes) -> str:
    """Return the digest of a stored hash, in hexadecimal digits, for the audit log."""
    return hashlib.sha256(b"key-hash:" + key_hash).hexdigest()


def _generate_text(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def parse_lookup_id(key: str) -> str:
    """Return the lookup id in a presented key; empty if the text is not an API key."""
    match = KEY_FORMAT.fullmatch(key)
    return match[1] if match else ""


def _raise_version(tx: Transaction, _new: ApiKey, old: ApiKey | None) -> None:
    if old is not None:
        raise_version(tx)


API_KEYS = Collection(
    ApiKey,
    store.ApiKey,
    key=("account_id", "id"),
    pattern="serviceAccounts/{}/apiKeys/{}",
    event="api_key",
    not_found=ApiKeyNotFound,
    store_parts=_raise_version,
)
LISTING = Listing(
    method="ListApiKeys",
    query=lambda: store.ApiKey.select(*API_KEYS.rows.fields),
    columns={
        "display_name": Column(store.ApiKey.display_name, FilterField(Kind.TEXT)),
        "create_time": Column(store.ApiKey.create_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.ApiKey.lookup_id,),
    read_rows=API_KEYS.read_rows,
    parent=store.ApiKey.account,
)


def create_key(
    database: Store, call: Call, new_key: ApiKey, *, key_secrets: KeySecrets, known: frozenset[str]
) -> IssuedKey:
    """Create an API key. For ten minutes, a retry with the same `request_id` returns the same secret.

    A key without scopes gets the current permissions of its account. It does not get permissions that the account is
    granted later.

    Args:
        known: all permissions that RPCs require.

    Raises: ServiceAccountNotFound, UnknownPermission, PrivilegeEscalation, InvalidField, ResourceDeleted,
        AlreadyExists (also for an id that differs only in letter case), ReplyExpired.
    """

    def check(mutation: Mutation) -> None:
        check_account(mutation, new_key.account_id)
        _check_scopes(mutation, new_key.scopes, known=known)

    def effect(mutation: Mutation) -> IssuedKey:
        if new_key.expire_time_us is not None and new_key.expire_time_us <= mutation.tx.now_us:
            raise InvalidField("api_key.expire_time", "it is in the past")
        account = SERVICE_ACCOUNTS.find(mutation.tx, (new_key.account_id,))
        check_not_deleted(account)
        like = {"account_id": new_key.account_id, "id": new_key.id}
        check_no_lookalike(mutation, store.KEY_LIKE, pattern=f"{account.name}/apiKeys/{{}}", **like)
        scopes = new_key.scopes or tuple(find_permissions(mutation.tx, account.roles)) or (AUTHENTICATED_SCOPE,)
        return add_key(mutation, msgspec.structs.replace(new_key, scopes=scopes), key_secrets=key_secrets)

    return _issue_key(database, call, effect, check=check, key_secrets=key_secrets)


def _check_scopes(mutation: Mutation, scopes: tuple[str, ...], *, known: frozenset[str]) -> None:
    """Raise unless each scope is the wildcard, `authenticated`, or a known permission, and the caller has it.

    Raises: UnknownPermission, PrivilegeEscalation.
    """
    require_known((scope for scope in scopes if scope not in (WILDCARD, AUTHENTICATED_SCOPE)), known=known)
    granted = sorted(known) if WILDCARD in scopes else [scope for scope in scopes if scope != AUTHENTICATED_SCOPE]
    require_held(granted, caller=mutation.call.caller)


def add_key(mutation: Mutation, new_key: ApiKey, *, key_secrets: KeySecrets) -> IssuedKey:
    """Create an API key within a running mutation, without checking the caller's permissions.

    Raises: AlreadyExists.
    """
    tx = mutation.tx
    lookup_id, secret = key_secrets.generate()
    current = key_secrets.keyring.read_current(tx)
    key_hash = hash_key(secret, current.secret)
    new = msgspec.structs.replace(new_key, lookup_id=lookup_id, key_digest=digest_key_hash(key_hash))
    api_key = API_KEYS.add(mutation, new)
    store.INSERT_API_KEY_SECRET.run(tx, lookup_id=lookup_id, key_hash=key_hash, secret_number=current.number)
    return IssuedKey(api_key, secret)


def rehash_key(
    mutation: Mutation, key: tuple[str, str], presented: str, *, stored: bytes, current: CurrentSecret
) -> None:
    """Hash a key that was just used with the server's current secret. The key's version does not change."""
    tx = mutation.tx
    key_hash = hash_key(presented, current.secret)
    lookup_id = parse_lookup_id(presented)
    replaced = store.REPLACE_API_KEY_SECRET.change(
        tx, lookup_id=lookup_id, key_hash=key_hash, old_hash=stored, secret_number=current.number
    )
    if replaced:
        record_key_digest(mutation, key, key_hash)


def record_key_digest(mutation: Mutation, key: tuple[str, str], key_hash: bytes) -> None:
    """Record the digest of a key's stored hash in the audit log."""
    old = API_KEYS.find(mutation.tx, key)
    new = msgspec.structs.replace(old, key_digest=digest_key_hash(key_hash))
    store.SET_KEY_DIGEST.run(mutation.tx, lookup_id=new.lookup_id, key_digest=new.key_digest)
    mutation.record("api_key.rehashed", before=old, after=new)


def revoke_all_keys(mutation: Mutation) -> None:
    """Revoke every API key: the server's secret that they were hashed with is lost."""
    for key in store.WORKING_KEYS.all(mutation.tx):
        old = API_KEYS.find(mutation.tx, key)
        new = msgspec.structs.replace(old, revoke_time_us=mutation.tx.now_us)
        API_KEYS.replace(mutation, old, new, action="revoked")


def _issue_key(
    database: Store,
    call: Call,
    effect: Callable[[Mutation], IssuedKey],
    *,
    check: Callable[[Mutation], None],
    key_secrets: KeySecrets,
) -> IssuedKey:
    """Run a mutation that creates a key. Its stored reply omits the secret, which is stored encrypted, apart from it.

    Raises: ReplyExpired, and the errors of `check` and `effect`.
    """
    issued: dict[str, IssuedKey] = {}

    def create(mutation: Mutation) -> ApiKey:
        created = effect(mutation)
        issued[created.api_key.lookup_id] = created
        if call.request_id:
            store.INSERT_NEW_SECRET.run(
                mutation.tx,
                lookup_id=created.api_key.lookup_id,
                sealed_secret=key_secrets.encrypt(mutation.tx, created),
                now_us=mutation.tx.now_us,
            )
        return created.api_key

    def check_access(mutation: Mutation, stored: ApiKey | None) -> None:
        check(mutation)
        if stored is not None:
            issued[stored.lookup_id] = _find_new_secret(mutation.tx, stored, key_secrets=key_secrets)

    api_key = mutate(database, call, create, ApiKey, check_access=check_access, hides_request_id=True)
    return issued[api_key.lookup_id]


def _find_new_secret(tx: Transaction, api_key: ApiKey, *, key_secrets: KeySecrets) -> IssuedKey:
    """Return a new key with its stored secret.

    Raises: ReplyExpired after the retention time, even if the secret is not purged yet.
    """
    since_us = tx.now_us - key_secrets.retention_us
    row = store.FIND_NEW_SECRET.one(tx, lookup_id=api_key.lookup_id, since_us=since_us)
    if row is None:
        raise ReplyExpired(api_key.name)
    return key_secrets.decrypt(api_key, bytes(row[0]))


def rotate_key(
    database: Store,
    call: Call,
    key: tuple[str, str],
    *,
    overlap_us: int,
    etag: str,
    key_secrets: KeySecrets,
    known: frozenset[str],
) -> IssuedKey:
    """Create a key with the same scopes and lifetime, and expire the old key after the overlap.

    Args:
        key: the ids of the account and of the key to replace.
        overlap_us: how long the old key stays valid, in microseconds, unless it expires sooner.
        known: all permissions that RPCs require.

    Raises: ApiKeyNotFound, PrivilegeEscalation, EtagMismatch, IllegalState, ReplyExpired.
    """

    def check(mutation: Mutation) -> None:
        _check_key(mutation, key, known=known)

    def effect(mutation: Mutation) -> IssuedKey:
        old = _find_valid_key(mutation, key, etag=etag, requested_state="ROTATED")
        account = SERVICE_ACCOUNTS.find(mutation.tx, (old.account_id,))
        if account.delete_time_us is not None:
            raise IllegalState(account.name, state="DELETED", target="ROTATED")
        now_us = mutation.tx.now_us
        expire_time_us = None if old.expire_time_us is None else now_us + old.expire_time_us - old.create_time_us
        end_us = now_us + overlap_us if old.expire_time_us is None else min(old.expire_time_us, now_us + overlap_us)
        API_KEYS.replace(mutation, old, msgspec.structs.replace(old, expire_time_us=end_us), action="rotated")
        scopes = old.scopes or (WILDCARD,)
        new_key = ApiKey(old.account_id, new_id(), old.display_name, scopes, expire_time_us)
        return add_key(mutation, new_key, key_secrets=key_secrets)

    return _issue_key(database, call, effect, check=check, key_secrets=key_secrets)


def _check_key(mutation: Mutation, key: tuple[str, str], *, known: frozenset[str]) -> None:
    """Raise PrivilegeEscalation unless the caller has all permissions of the key's account and all scopes of the key.

    Scopes count even if the account lacks them now, since it may be granted them later. A key without scopes counts as
    one with all permissions.

    Raises: ApiKeyNotFound, PrivilegeEscalation.
    """
    api_key = API_KEYS.find(mutation.tx, key)
    check_account(mutation, api_key.account_id)
    scopes = api_key.scopes or (WILDCARD,)
    granted = known if WILDCARD in scopes else known.intersection(scopes)
    require_held(sorted(granted), caller=mutation.call.caller)


def revoke_key(database: Store, call: Call, key: tuple[str, str], *, etag: str) -> ApiKey:
    """Revoke a key and all tokens issued for it. The caller must have all permissions of its account.

    Raises: ApiKeyNotFound, PrivilegeEscalation, EtagMismatch, IllegalState.
    """

    def check(mutation: Mutation, _stored: ApiKey | None) -> None:
        check_account(mutation, API_KEYS.find(mutation.tx, key).account_id)

    def effect(mutation: Mutation) -> ApiKey:
        old = API_KEYS.find(mutation.tx, key)
        check_etag(old, etag)
        if old.revoke_time_us is not None:
            raise IllegalState(old.name, state="REVOKED", target="REVOKED")
        new = msgspec.structs.replace(old, revoke_time_us=mutation.tx.now_us)
        return API_KEYS.replace(mutation, old, new, action="revoked")

    return mutate(database, call, effect, ApiKey, check_access=check)


def count_other_keys(database: Store, lookup_id: str, *, role_id: str) -> int:
    """Return how many valid keys, other than the given one, belong to accounts with a role."""

    def work(tx: Transaction) -> int:
        row = store.COUNT_OTHER_KEYS.one(tx, lookup_id=lookup_id, role_id=role_id, now_us=tx.now_us)
        return 0 if row is None else int(row[0])

    return database.read(work)


def _find_valid_key(mutation: Mutation, key: tuple[str, str], *, etag: str, requested_state: str) -> ApiKey:
    """Return a key that is neither revoked nor expired.

    Raises: ApiKeyNotFound, EtagMismatch, IllegalState.
    """
    api_key = API_KEYS.find(mutation.tx, key)
    check_etag(api_key, etag)
    if api_key.revoke_time_us is not None:
        raise IllegalState(api_key.name, state="REVOKED", target=requested_state)
    if api_key.expire_time_us is not None and api_key.expire_time_us <= mutation.tx.now_us:
        raise IllegalState(api_key.name, state="EXPIRED", target=requested_state)
    return api_key
