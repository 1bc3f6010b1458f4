"""API keys: the secrets with which service accounts get tokens, as `sk_LOOKUP_SECRET`.

Invariant: a secret stands nowhere but in the one reply that shows it, and sealed, for minutes, where a retry finds it.
Refuses to make or change a key of an account that holds more than the caller does.
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
    NOTHING_MORE,
    WILDCARD,
    permissions_of,
    raise_version,
    require_held,
    require_known,
)
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import ApiKeyNotFound, IllegalState, InvalidField, ReplyExpired
from storekeep.server.domain.keys.encryption import derive_key
from storekeep.server.domain.keys.keyrings import CurrentSecret, Keyring
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.domain.standard.resources import check_etag, check_not_deleted, new_id
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as store

ALPHABET = string.ascii_letters + string.digits
"""Base 62: no character that the format uses itself, and a double click selects all of a key."""
LOOKUP_LENGTH = 16
"""95 bits: two keys never get the same."""
SECRET_LENGTH = 43
"""The shortest that holds 256 bits."""
SECRET_RETENTION_S = 600.0
"""How long a retry shows a secret again: ten minutes, many times as long as a caller tries again by itself."""
NEW_SECRET = "reply"  # noqa: S105 - a name
"""What the secrets of new keys are encrypted for."""
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
        retention_s: how long a retry shows the secret of a new key again.
    """

    def __init__(self, keyring: Keyring, *, retention_s: float = SECRET_RETENTION_S) -> None:
        self.keyring = keyring
        self.retention_us = round(retention_s * 1_000_000)

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

    def seal(self, tx: Transaction, issued: IssuedKey) -> bytes:
        """Encrypt the secret of a new key, so that a retry can show it again."""
        return self.keyring.seal(tx, issued.secret.encode(), purpose=NEW_SECRET, owner=issued.api_key.lookup_id)

    def reseal(self, tx: Transaction) -> None:
        """Encrypt the secrets of new keys under the current secret; those that do not open stay as they are."""
        for lookup_id, sealed in store.NEW_SECRETS.all(tx):
            secret = self.keyring.try_open(sealed, purpose=NEW_SECRET, owner=lookup_id)
            if secret is not None:
                again = self.keyring.seal(tx, secret, purpose=NEW_SECRET, owner=lookup_id)
                store.RESEAL_NEW_SECRET.run(tx, lookup_id=lookup_id, sealed_secret=again)

    def open(self, api_key: ApiKey, sealed_secret: bytes) -> IssuedKey:
        """Return a new key as its maker sees it.

        Raises: SealBroken, where the server's secret is another one by now.
        """
        secret = self.keyring.open(sealed_secret, purpose=NEW_SECRET, owner=api_key.lookup_id)
        return IssuedKey(api_key, secret.decode())


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
    """Make an API key; a retry with the same `request_id` shows the same secret again, for some minutes.

    Without scopes it gets what its account may do now: what the account is given later is not given to the key.

    Args:
        known: all permissions that any RPC asks for.

    Raises: ServiceAccountNotFound, UnknownPermission, PrivilegeEscalation, InvalidField, ResourceDeleted,
        AlreadyExists (also where only the case of letters differs), ReplyExpired.
    """

    def check(mutation: Mutation) -> None:
        check_account(mutation, draft.account_id)
        _check_scopes(mutation, draft.scopes, known=known)

    def effect(mutation: Mutation) -> IssuedKey:
        if draft.expire_time_us is not None and draft.expire_time_us <= mutation.tx.now_us:
            raise InvalidField("api_key.expire_time", "it is in the past")
        account = SERVICE_ACCOUNTS.find(mutation.tx, (draft.account_id,))
        check_not_deleted(account)
        like = {"account_id": draft.account_id, "id": draft.id}
        check_no_lookalike(mutation, store.KEY_LIKE, pattern=f"{account.name}/apiKeys/{{}}", **like)
        scopes = draft.scopes or tuple(permissions_of(mutation.tx, account.roles)) or (NOTHING_MORE,)
        return add_key(mutation, msgspec.structs.replace(draft, scopes=scopes), key_secrets=key_secrets)

    return _issue_key(database, call, effect, check=check, key_secrets=key_secrets)


def _check_scopes(mutation: Mutation, scopes: tuple[str, ...], *, known: frozenset[str]) -> None:
    """Refuse scopes that the caller does not hold; all but the wildcard must be permissions.

    Raises: UnknownPermission, PrivilegeEscalation.
    """
    require_known((scope for scope in scopes if scope not in (WILDCARD, NOTHING_MORE)), known=known)
    given = sorted(known) if WILDCARD in scopes else [scope for scope in scopes if scope != NOTHING_MORE]
    require_held(given, caller=mutation.call.caller)


def add_key(mutation: Mutation, draft: ApiKey, *, key_secrets: KeySecrets) -> IssuedKey:
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
    return IssuedKey(api_key, secret)


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


def _issue_key(
    database: Store,
    call: Call,
    effect: Callable[[Mutation], IssuedKey],
    *,
    check: Callable[[Mutation], None],
    key_secrets: KeySecrets,
) -> IssuedKey:
    """Run a mutation that makes a key. Its stored reply is the key without its secret, which stands by itself, sealed.

    Raises: ReplyExpired, and what `check` and `effect` raise.
    """
    issued: dict[str, IssuedKey] = {}

    def make(mutation: Mutation) -> ApiKey:
        made = effect(mutation)
        issued[made.api_key.lookup_id] = made
        if call.request_id:
            store.INSERT_NEW_SECRET.run(
                mutation.tx,
                lookup_id=made.api_key.lookup_id,
                sealed_secret=key_secrets.seal(mutation.tx, made),
                now_us=mutation.tx.now_us,
            )
        return made.api_key

    def check_access(mutation: Mutation, stored: ApiKey | None) -> None:
        check(mutation)
        if stored is not None:
            issued[stored.lookup_id] = _find_new_secret(mutation.tx, stored, key_secrets=key_secrets)

    api_key = mutate(database, call, make, ApiKey, check_access=check_access, hides_request_id=True)
    return issued[api_key.lookup_id]


def _find_new_secret(tx: Transaction, api_key: ApiKey, *, key_secrets: KeySecrets) -> IssuedKey:
    """Raises: ReplyExpired, whether or not what is over has been removed yet."""
    since_us = tx.now_us - key_secrets.retention_us
    row = store.FIND_NEW_SECRET.one(tx, lookup_id=api_key.lookup_id, since_us=since_us)
    if row is None:
        raise ReplyExpired(api_key.name)
    return key_secrets.open(api_key, bytes(row[0]))


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
    """Make a key with the same scopes and as long a life, and let the old one end after the overlap.

    Args:
        key: ids of the account and of the key to replace.
        overlap_us: how long the old key works on, unless it ends sooner by itself.
        known: all permissions that any RPC asks for.

    Raises: ApiKeyNotFound, PrivilegeEscalation, EtagMismatch, IllegalState, ReplyExpired.
    """

    def check(mutation: Mutation) -> None:
        _check_key(mutation, key, known=known)

    def effect(mutation: Mutation) -> IssuedKey:
        old = _find_working(mutation, key, etag=etag, wanted="ROTATED")
        account = SERVICE_ACCOUNTS.find(mutation.tx, (old.account_id,))
        if account.delete_time_us is not None:
            raise IllegalState(account.name, state="DELETED", wanted="ROTATED")
        now_us = mutation.tx.now_us
        expire_time_us = None if old.expire_time_us is None else now_us + old.expire_time_us - old.create_time_us
        ending_us = now_us + overlap_us if old.expire_time_us is None else min(old.expire_time_us, now_us + overlap_us)
        API_KEYS.replace(mutation, old, msgspec.structs.replace(old, expire_time_us=ending_us), happened="rotated")
        scopes = old.scopes or (WILDCARD,)
        draft = ApiKey(old.account_id, new_id(), old.display_name, scopes, expire_time_us)
        return add_key(mutation, draft, key_secrets=key_secrets)

    return _issue_key(database, call, effect, check=check, key_secrets=key_secrets)


def _check_key(mutation: Mutation, key: tuple[str, str], *, known: frozenset[str]) -> None:
    """Refuse a key to a caller that does not itself hold all that its account and its scopes do.

    A scope that the account does not hold counts too: it may get it later. So does a key without scopes, for all.

    Raises: ApiKeyNotFound, PrivilegeEscalation.
    """
    api_key = API_KEYS.find(mutation.tx, key)
    check_account(mutation, api_key.account_id)
    scopes = api_key.scopes or (WILDCARD,)
    given = known if WILDCARD in scopes else known.intersection(scopes)
    require_held(sorted(given), caller=mutation.call.caller)


def revoke_key(database: Store, call: Call, key: tuple[str, str], *, etag: str) -> ApiKey:
    """Stop a key from working, and with it all tokens that it got. The caller must hold all that its account does.

    Raises: ApiKeyNotFound, PrivilegeEscalation, EtagMismatch, IllegalState.
    """

    def check(mutation: Mutation, _stored: ApiKey | None) -> None:
        check_account(mutation, API_KEYS.find(mutation.tx, key).account_id)

    def effect(mutation: Mutation) -> ApiKey:
        old = API_KEYS.find(mutation.tx, key)
        check_etag(old, etag)
        if old.revoke_time_us is not None:
            raise IllegalState(old.name, state="REVOKED", wanted="REVOKED")
        new = msgspec.structs.replace(old, revoke_time_us=mutation.tx.now_us)
        return API_KEYS.replace(mutation, old, new, happened="revoked")

    return mutate(database, call, effect, ApiKey, check_access=check)


def count_other_keys(database: Store, lookup_id: str, *, role_id: str) -> int:
    """Return how many working keys other than the given one belong to accounts that have a role."""

    def work(tx: Transaction) -> int:
        row = store.COUNT_OTHER_KEYS.one(tx, lookup_id=lookup_id, role_id=role_id, now_us=tx.now_us)
        return 0 if row is None else int(row[0])

    return database.read(work)


def _find_working(mutation: Mutation, key: tuple[str, str], *, etag: str, wanted: str) -> ApiKey:
    """Raises: ApiKeyNotFound, EtagMismatch, IllegalState."""
    api_key = API_KEYS.find(mutation.tx, key)
    check_etag(api_key, etag)
    if api_key.revoke_time_us is not None:
        raise IllegalState(api_key.name, state="REVOKED", wanted=wanted)
    if api_key.expire_time_us is not None and api_key.expire_time_us <= mutation.tx.now_us:
        raise IllegalState(api_key.name, state="EXPIRED", wanted=wanted)
    return api_key
