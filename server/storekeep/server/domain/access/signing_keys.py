"""Signing keys: the EC P-256 keys that sign access tokens. A rotation invalidates no token.

Invariant: exactly one key is current. A private key leaves this process only encrypted with the server's secret.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from storekeep.server.domain.access.permissions import AccessVersion, raise_version, require_held
from storekeep.server.domain.calls import Call
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.runtime import base64url
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as store

ROWS = Rows(
    store.SigningKey,
    columns=("kid", "public_key", "sealed_private_key", "create_time_us", "expire_time_us"),
    key=("kid",),
)
ALGORITHM = "ES256"
"""The algorithm of every key. The `alg` header of a token is not trusted to choose it (RFC 8725, 3.1)."""
COORDINATE_BYTES = 32
ACCESS_LIFETIME_S = 600
"""The lifetime of access tokens: ten minutes limits the harm of a token whose revocation is missed."""
PURPOSE = "signing-key"
"""The encryption purpose for private keys."""
OVERLAP_MARGIN_S = 300
"""Added to the token lifetime when a key is retired: other workers may sign with it until they notice the rotation."""


class SigningKey(msgspec.Struct, frozen=True):
    """The public half of a signing key; its coordinates are base64url without padding (RFC 7518, 6.2.1)."""

    kid: str
    x: str
    y: str
    algorithm: str = ALGORITHM
    create_time_us: int = 0
    expire_time_us: int | None = None

    @property
    def name(self) -> str:
        """The resource name in the audit log and events; the contract has no such resource."""
        return f"signingKeys/{self.kid}"


@dataclass(frozen=True, slots=True)
class Signer:
    """The current private key."""

    kid: str
    private_key: ec.EllipticCurvePrivateKey


@dataclass(slots=True)
class _KeySet:
    """The keys that verify tokens at one access version, the current key first."""

    version: int
    rows: dict[str, Row]
    signer: Signer | None = None


class SigningKeys:
    """The signing keys as this process knows them; read again when the access version changes.

    Args:
        database: the store that holds the keys.
        keyring: the server's secrets, which encrypt the private keys.
        version: the access version, which changes when another process changes the keys.
        token_lifetime_s: the lifetime of access tokens. A retired key verifies tokens for this time and a margin.
    """

    def __init__(
        self, database: Store, *, keyring: Keyring, version: AccessVersion, token_lifetime_s: int = ACCESS_LIFETIME_S
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._version = version
        self._overlap_us = (token_lifetime_s + OVERLAP_MARGIN_S) * 1_000_000
        self._keys: _KeySet | None = None

    def install(self, mutation: Mutation) -> None:
        """Create the first signing key, unless there is one.

        Raises: DecryptionFailed if the existing key was encrypted with another secret.
        """
        keys = store.SIGNING_KEYS.all(mutation.tx, now_us=mutation.tx.now_us)
        if keys:
            self._decrypt_signer(keys[0])
        else:
            self._add(mutation)

    def reencrypt(self, tx: Transaction) -> None:
        """Re-encrypt all private keys with the server's current secret.

        Raises: DecryptionFailed.
        """
        for kid, _, encrypted, *_ in store.SIGNING_KEYS.all(tx, now_us=0):
            private_key = self._keyring.decrypt(bytes(encrypted), purpose=PURPOSE, owner=kid)
            reencrypted = self._keyring.encrypt(tx, private_key, purpose=PURPOSE, owner=kid)
            store.REENCRYPT_SIGNING_KEY.run(tx, kid=kid, sealed_private_key=reencrypted)

    def replace_all(self, mutation: Mutation) -> None:
        """Create a new key and retire all older ones at once, because the server's secret is lost."""
        for row in store.SIGNING_KEYS.all(mutation.tx, now_us=mutation.tx.now_us):
            self._retire(mutation, _read_public_key(row), at_us=mutation.tx.now_us)
        self._add(mutation)

    def _retire(self, mutation: Mutation, old: SigningKey, *, at_us: int) -> None:
        retired = msgspec.structs.replace(old, expire_time_us=at_us)
        store.RETIRE_SIGNING_KEY.run(mutation.tx, kid=old.kid, expire_time_us=at_us)
        mutation.record("signing_key.retired", before=old, after=retired)

    def rotate(self, call: Call, *, known: frozenset[str]) -> SigningKey:
        """Create a new current key. The old key verifies tokens until the last one that it signed has expired.

        The caller must have every permission, because the rotation affects the tokens of all callers.

        Args:
            known: all permissions that RPCs require.

        Raises: PrivilegeEscalation.
        """

        def check(_mutation: Mutation, _stored: SigningKey | None) -> None:
            require_held(sorted(known), caller=call.caller)

        def effect(mutation: Mutation) -> SigningKey:
            tx = mutation.tx
            for row in store.SIGNING_KEYS.all(tx, now_us=tx.now_us):
                old = _read_public_key(row)
                if old.expire_time_us is None:
                    self._retire(mutation, old, at_us=tx.now_us + self._overlap_us)
            return self._add(mutation)

        return mutate(self._database, call, effect, SigningKey, check_access=check)

    def _add(self, mutation: Mutation) -> SigningKey:
        private_key = ec.generate_private_key(ec.SECP256R1())
        kid, now_us = new_id(), mutation.tx.now_us
        public = private_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        secret = private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        encrypted = self._keyring.encrypt(mutation.tx, secret, purpose=PURPOSE, owner=kid)
        store.INSERT_SIGNING_KEY.run(
            mutation.tx, kid=kid, public_key=public, sealed_private_key=encrypted, now_us=now_us
        )
        raise_version(mutation.tx)
        key = _read_public_key((kid, public, encrypted, now_us, None))
        mutation.record("signing_key.created", before=None, after=key)
        return key

    def list_published(self) -> list[SigningKey]:
        """Return the public keys that verify tokens now, the current key first."""
        return [_read_public_key(row) for row in self._database.read(_read_keys)]

    def get_signer(self) -> Signer:
        """Return the current private key.

        Raises: DecryptionFailed if the key was encrypted with another secret.
        """
        keys = self._get_keys()
        if keys.signer is None:
            keys.signer = self._decrypt_signer(next(iter(keys.rows.values())))
        return keys.signer

    def _decrypt_signer(self, row: Row) -> Signer:
        kid, _, encrypted, *_ = row
        der = self._keyring.decrypt(bytes(encrypted), purpose=PURPOSE, owner=kid)
        private_key = load_der_private_key(der, password=None)
        if not isinstance(private_key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"signing key {kid} is not on an elliptic curve")
        return Signer(kid, private_key)

    def find_verifier(self, kid: str) -> ec.EllipticCurvePublicKey | None:
        """Return the public key with this id; None if it does not exist or has expired."""
        row = self._get_keys().rows.get(kid)
        if row is None:  # another process may have created it a moment ago
            row = {row[0]: row for row in self._database.read(_read_keys)}.get(kid)
        if row is None or (row[4] is not None and row[4] <= time.time_ns() // 1_000):
            return None
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes(row[1]))

    def _read_all(self, tx: Transaction) -> list[Row]:
        """Return the rows of the keys, and let the keyring note the secret that the database uses now."""
        self._keyring.read_current(tx)
        return _read_keys(tx)

    def _get_keys(self) -> _KeySet:
        """Return the keys; read them again if the access version has changed."""
        version = self._version.current()
        keys = self._keys
        if keys is None or keys.version != version:
            rows = self._database.read(self._read_all)
            keys = self._keys = _KeySet(version, {row[0]: row for row in rows})
        return keys


def read_public_keys(_tx: Transaction, rows: Sequence[Row]) -> list[SigningKey]:
    """Convert rows to public keys."""
    return [_read_public_key(row) for row in rows]


def matches_private_key(row: Row, keyring: Keyring) -> bool:
    """Return whether the private key in a row can be decrypted and belongs to the row's public key."""
    kid, point, encrypted, *_ = row
    private_key = keyring.try_decrypt(encrypted, purpose=PURPOSE, owner=kid)
    if private_key is None:
        return False
    public = load_der_private_key(private_key, password=None).public_key()
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) == bytes(point)


def _read_keys(tx: Transaction) -> list[Row]:
    return store.SIGNING_KEYS.all(tx, now_us=tx.now_us)


def _read_public_key(row: Row) -> SigningKey:
    kid, point, _, create_time_us, expire_time_us = row
    x, y = bytes(point)[1 : 1 + COORDINATE_BYTES], bytes(point)[1 + COORDINATE_BYTES :]
    return SigningKey(kid, base64url.encode(x), base64url.encode(y), ALGORITHM, create_time_us, expire_time_us)
