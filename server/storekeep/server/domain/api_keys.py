"""API keys: the secrets with which service accounts get tokens, as `sk_LOOKUP_SECRET`.

Invariant: a secret stands nowhere but in the one reply that shows it, and there, where it is stored, sealed.
Refuses to make a key that gives more than the caller holds: whoever makes it can read it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string

import msgspec

from storekeep.server.domain.access import permissions_of, raise_version, require_held, require_known
from storekeep.server.domain.accounts import SERVICE_ACCOUNTS, ServiceAccount
from storekeep.server.domain.calls import Call
from storekeep.server.domain.collections import Collection
from storekeep.server.domain.errors import ApiKeyNotFound, IllegalState, InvalidField
from storekeep.server.domain.filters import FilterField, Kind
from storekeep.server.domain.keyrings import CurrentSecret, Keyring
from storekeep.server.domain.lists import Column, Listing
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.resources import check_etag, check_not_deleted, new_id
from storekeep.server.domain.seals import SealBroken, derive_key
from storekeep.server.store import auth as store
from storekeep.server.store.database import Transaction
from storekeep.server.store.engine import Store

ALPHABET = string.ascii_letters + string.digits
"""Base 62: no character that the format uses itself, and a double click selects all of a key."""
LOOKUP_LENGTH = 16
"""95 bits: two keys never get the same."""
SECRET_LENGTH = 43
"""The shortest that holds 256 bits."""
REPLY = "reply"
"""What the secrets in stored replies are encrypted for."""
KEY_FORMAT = re.compile(rf"sk_([A-Za-z0-9]{{{LOOKUP_LENGTH}}})_([A-Za-z0-9]{{{SECRET_LENGTH}}})", re.ASCII)


class ApiKey(msgspec.Struct, frozen=True):
    """An API key without its secret; see `ApiKey` in the contract.

    Attributes:
        lookup_id: the part of the key that is no secret; by it a key found somewhere is told.
        key_digest: of the stored hash, so that the audit log shows when that was changed.
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
        """Keys are not deleted: a revoked one stays to be seen."""
        return None


class SealedKey(msgspec.Struct, frozen=True):
    """What making a key answers, as it is stored: the key, and its secret sealed."""

    api_key: ApiKey
    sealed_secret: bytes


class IssuedKey(msgspec.Struct, frozen=True):
    """A new key and its secret, to be shown once."""

    api_key: ApiKey
    secret: str

    def __repr__(self) -> str:
        """Without the secret, so that no log shows it."""
        return f"IssuedKey({self.api_key.name})"


class KeySecrets:
    """Makes the secrets of API keys, and what is stored in their place.

    Args:
        keyring: the server's secrets.
    """

    def __init__(self, keyring: Keyring) -> None:
        self.keyring = keyring

    def new(self) -> tuple[str, str]:
        """The lookup id of a new key, and the key itself."""
        lookup_id, secret = _random_text(LOOKUP_LENGTH), _random_text(SECRET_LENGTH)
        return lookup_id, f"sk_{lookup_id}_{secret}"

    def secret_of(self, key: str, stored: bytes) -> bytes | None:
        """The secret under which a presented key was stored; None where it is another key. Always tries all secrets."""
        found = None
        for secret in self.keyring.known():
            if hmac.compare_digest(hash_key(key, secret), stored):
                found = secret
        return found

    def seal(self, tx: Transaction, api_key: ApiKey, secret: str) -> SealedKey:
        """A new key as its reply is stored."""
        sealed = self.keyring.seal(tx, secret.encode(), purpose=REPLY, owner=api_key.lookup_id)
        return SealedKey(api_key, sealed)

    def reseal(self, tx: Transaction, reply: bytes) -> bytes | None:
        """A stored reply with its secret encrypted under the current one; None where it does not open any more."""
        try:
            sealed = msgspec.json.decode(reply, type=SealedKey)
            secret = self.open(sealed).secret
        except (msgspec.DecodeError, SealBroken):
            return None
        return msgspec.json.encode(self.seal(tx, sealed.api_key, secret))

    def open(self, sealed: SealedKey) -> IssuedKey:
        """A new key as its maker sees it.

        Raises: SealBroken, where the server's secret is another one by now.
        """
        secret = self.keyring.open(sealed.sealed_secret, purpose=REPLY, owner=sealed.api_key.lookup_id)
        return IssuedKey(sealed.api_key, secret.decode())


def hash_key(key: str, secret: bytes) -> bytes:
    """HMAC-SHA256 under a server's secret: a stolen database alone verifies no guess."""
    return hmac.digest(derive_key(secret, "api-key"), key.encode(), "sha256")


def digest_of(key_hash: bytes) -> str:
    """What the audit log has of a stored hash."""
    return hashlib.sha256(b"key-hash:" + key_hash).hexdigest()


def _random_text(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def lookup_id_of(key: str) -> str:
    """The part of a presented key that says which one it is; empty where it is no key at all."""
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
    database: Store, call: Call, draft: ApiKey, *, key_secrets: KeySecrets, known: frozenset[str]
) -> IssuedKey:
    """Make an API key; a retry with the same `request_id` shows the same secret again.

    Args:
        known: all permissions that any RPC asks for.

    Raises: InvalidField, ServiceAccountNotFound, ResourceDeleted, UnknownPermission, PrivilegeEscalation,
        AlreadyExists.
    """

    def effect(mutation: Mutation) -> SealedKey:
        if draft.expire_time_us is not None and draft.expire_time_us <= mutation.tx.now_us:
            raise InvalidField("api_key.expire_time", "it is in the past")
        account = SERVICE_ACCOUNTS.find(mutation.tx, (draft.account_id,))
        check_not_deleted(account)
        require_known(draft.scopes, known=known)
        _require_held(mutation, account, draft.scopes)
        return add_key(mutation, draft, key_secrets=key_secrets)

    return key_secrets.open(mutate(database, call, effect, SealedKey))


def add_key(mutation: Mutation, draft: ApiKey, *, key_secrets: KeySecrets) -> SealedKey:
    """Make an API key within a running mutation, whatever it gives.

    Raises: AlreadyExists.
    """
    tx = mutation.tx
    lookup_id, secret = key_secrets.new()
    current = key_secrets.keyring.current(tx)
    key_hash = hash_key(secret, current.secret)
    new = msgspec.structs.replace(draft, lookup_id=lookup_id, key_digest=digest_of(key_hash))
    api_key = API_KEYS.add(mutation, new)
    store.INSERT_API_KEY_SECRET.run(tx, lookup_id=lookup_id, key_hash=key_hash, secret_number=current.number)
    return key_secrets.seal(tx, api_key, secret)


def rehash_key(
    mutation: Mutation, key: tuple[str, str], presented: str, *, stored: bytes, current: CurrentSecret
) -> None:
    """Keep a key that was just used under the current secret; its version stays, as nothing changes for anybody."""
    tx = mutation.tx
    key_hash = hash_key(presented, current.secret)
    lookup_id = lookup_id_of(presented)
    kept = store.REPLACE_API_KEY_SECRET.change(
        tx, lookup_id=lookup_id, key_hash=key_hash, old_hash=stored, secret_number=current.number
    )
    if kept:
        note_digest(mutation, key, key_hash)


def note_digest(mutation: Mutation, key: tuple[str, str], key_hash: bytes) -> None:
    """Have the audit log say what hash a key has."""
    old = API_KEYS.find(mutation.tx, key)
    new = msgspec.structs.replace(old, key_digest=digest_of(key_hash))
    store.NOTE_KEY_DIGEST.run(mutation.tx, lookup_id=new.lookup_id, key_digest=new.key_digest)
    mutation.record("api_key.rehashed", before=old, after=new)


def revoke_all(mutation: Mutation) -> None:
    """Stop every API key from working, as where the secret is lost that they were stored under."""
    for key in store.WORKING_KEYS.all(mutation.tx):
        old = API_KEYS.find(mutation.tx, key)
        new = msgspec.structs.replace(old, revoke_time_us=mutation.tx.now_us)
        API_KEYS.replace(mutation, old, new, happened="revoked")


def _require_held(mutation: Mutation, account: ServiceAccount, scopes: tuple[str, ...]) -> None:
    """Raises: RoleNotFound, PrivilegeEscalation."""
    given = scopes or permissions_of(mutation.tx, account.roles)
    require_held(given, caller=mutation.call.caller)


def rotate_key(
    database: Store,
    call: Call,
    key: tuple[str, str],
    *,
    overlap_us: int,
    etag: str,
    key_secrets: KeySecrets,
) -> IssuedKey:
    """Make a key with the same scopes and as long a life, and let the old one end after the overlap.

    Args:
        key: ids of the account and of the key to replace.
        overlap_us: how long the old key works on, unless it ends sooner by itself.

    Raises: ApiKeyNotFound, EtagMismatch, IllegalState, PrivilegeEscalation.
    """

    def effect(mutation: Mutation) -> SealedKey:
        old = _find_working(mutation, key, etag=etag, wanted="ROTATED")
        account = SERVICE_ACCOUNTS.find(mutation.tx, (old.account_id,))
        if account.delete_time_us is not None:
            raise IllegalState(account.name, state="DELETED", wanted="ROTATED")
        _require_held(mutation, account, old.scopes)
        now_us = mutation.tx.now_us
        expire_time_us = None if old.expire_time_us is None else now_us + old.expire_time_us - old.create_time_us
        ending_us = now_us + overlap_us if old.expire_time_us is None else min(old.expire_time_us, now_us + overlap_us)
        API_KEYS.replace(mutation, old, msgspec.structs.replace(old, expire_time_us=ending_us), happened="rotated")
        draft = ApiKey(old.account_id, new_id(), old.display_name, old.scopes, expire_time_us)
        return add_key(mutation, draft, key_secrets=key_secrets)

    return key_secrets.open(mutate(database, call, effect, SealedKey))


def revoke_key(database: Store, call: Call, key: tuple[str, str], *, etag: str) -> ApiKey:
    """Stop a key from working, and with it all tokens that it got.

    Raises: ApiKeyNotFound, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> ApiKey:
        old = API_KEYS.find(mutation.tx, key)
        check_etag(old, etag)
        if old.revoke_time_us is not None:
            raise IllegalState(old.name, state="REVOKED", wanted="REVOKED")
        new = msgspec.structs.replace(old, revoke_time_us=mutation.tx.now_us)
        return API_KEYS.replace(mutation, old, new, happened="revoked")

    return mutate(database, call, effect, ApiKey)


def _find_working(mutation: Mutation, key: tuple[str, str], *, etag: str, wanted: str) -> ApiKey:
    """Raises: ApiKeyNotFound, EtagMismatch, IllegalState."""
    api_key = API_KEYS.find(mutation.tx, key)
    check_etag(api_key, etag)
    if api_key.revoke_time_us is not None:
        raise IllegalState(api_key.name, state="REVOKED", wanted=wanted)
    if api_key.expire_time_us is not None and api_key.expire_time_us <= mutation.tx.now_us:
        raise IllegalState(api_key.name, state="EXPIRED", wanted=wanted)
    return api_key
