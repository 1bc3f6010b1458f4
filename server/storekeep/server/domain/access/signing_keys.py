"""Signing keys: the EC P-256 keys that sign access tokens, rotated without a token that stops verifying.

Invariant: exactly one key is current; a private key leaves this process only sealed under the server's secret.
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
"""Fixed for every key here (RFC 8725, 3.1): what a token's header says about it decides nothing."""
COORDINATE_BYTES = 32
ACCESS_LIFETIME_S = 600
"""Of the tokens that they sign: ten minutes, as what a revocation should miss ends by itself."""
PURPOSE = "signing-key"
"""What private keys are encrypted for."""
OVERLAP_MARGIN_S = 300
"""Added to a token's lifetime: the time in which other workers hear that their key was replaced, with room."""


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
        """As audit and events call it; the contract has no resource for it."""
        return f"signingKeys/{self.kid}"


@dataclass(frozen=True, slots=True)
class Signer:
    """The private key that signs now."""

    kid: str
    private_key: ec.EllipticCurvePrivateKey


@dataclass(slots=True)
class _Known:
    """The keys that verify, the current one first, as they were at one version of access."""

    version: int
    rows: dict[str, Row]
    signer: Signer | None = None


class SigningKeys:
    """The signing keys as this process knows them; read again when the version of access has changed.

    Args:
        database: where they are kept.
        keyring: the server's secrets, under one of which private keys are sealed.
        version: tells when another process has changed them.
        token_lifetime_s: how long what they sign works; a replaced key verifies for as long, and a little longer.
    """

    def __init__(
        self, database: Store, *, keyring: Keyring, version: AccessVersion, token_lifetime_s: int = ACCESS_LIFETIME_S
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._version = version
        self._overlap_us = (token_lifetime_s + OVERLAP_MARGIN_S) * 1_000_000
        self._known: _Known | None = None

    def install(self, mutation: Mutation) -> None:
        """Make the first signing key, where there is none.

        Raises: SealBroken, where there is one, but the server's secret is not the one that it was sealed under.
        """
        keys = store.SIGNING_KEYS.all(mutation.tx, now_us=mutation.tx.now_us)
        if keys:
            self._open(keys[0])
        else:
            self._add(mutation)

    def reseal(self, tx: Transaction) -> None:
        """Encrypt all of them under the current secret.

        Raises: SealBroken.
        """
        for kid, _, sealed, *_ in store.SIGNING_KEYS.all(tx, now_us=0):
            secret = self._keyring.open(bytes(sealed), purpose=PURPOSE, owner=kid)
            again = self._keyring.seal(tx, secret, purpose=PURPOSE, owner=kid)
            store.RESEAL_SIGNING_KEY.run(tx, kid=kid, sealed_private_key=again)

    def replace_all(self, mutation: Mutation) -> None:
        """Make a new key and have no older one verify any more, as where their secret is lost."""
        for row in store.SIGNING_KEYS.all(mutation.tx, now_us=mutation.tx.now_us):
            self._retire(mutation, _public_key_of(row), at_us=mutation.tx.now_us)
        self._add(mutation)

    def _retire(self, mutation: Mutation, old: SigningKey, *, at_us: int) -> None:
        retired = msgspec.structs.replace(old, expire_time_us=at_us)
        store.RETIRE_SIGNING_KEY.run(mutation.tx, kid=old.kid, expire_time_us=at_us)
        mutation.record("signing_key.retired", before=old, after=retired)

    def rotate(self, call: Call, *, known: frozenset[str]) -> SigningKey:
        """Make a new current key; the one before verifies until the last token that it signed is over.

        It concerns everybody's tokens, so the caller must hold every permission.

        Args:
            known: all permissions that any RPC asks for.

        Raises: PrivilegeEscalation.
        """

        def check(_mutation: Mutation, _stored: SigningKey | None) -> None:
            require_held(sorted(known), caller=call.caller)

        def effect(mutation: Mutation) -> SigningKey:
            tx = mutation.tx
            for row in store.SIGNING_KEYS.all(tx, now_us=tx.now_us):
                old = _public_key_of(row)
                if old.expire_time_us is None:
                    self._retire(mutation, old, at_us=tx.now_us + self._overlap_us)
            return self._add(mutation)

        return mutate(self._database, call, effect, SigningKey, check_access=check)

    def _add(self, mutation: Mutation) -> SigningKey:
        private_key = ec.generate_private_key(ec.SECP256R1())
        kid, now_us = new_id(), mutation.tx.now_us
        public = private_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        secret = private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        sealed = self._keyring.seal(mutation.tx, secret, purpose=PURPOSE, owner=kid)
        store.INSERT_SIGNING_KEY.run(mutation.tx, kid=kid, public_key=public, sealed_private_key=sealed, now_us=now_us)
        raise_version(mutation.tx)
        key = _public_key_of((kid, public, sealed, now_us, None))
        mutation.record("signing_key.created", before=None, after=key)
        return key

    def published(self) -> list[SigningKey]:
        """The public keys that verify now, the current one first."""
        return [_public_key_of(row) for row in self._database.read(_read_keys)]

    def signer(self) -> Signer:
        """The key that signs now.

        Raises: SealBroken, where the server's secret is another one than the key was sealed under.
        """
        known = self._current()
        if known.signer is None:
            known.signer = self._open(next(iter(known.rows.values())))
        return known.signer

    def _open(self, row: Row) -> Signer:
        kid, _, sealed, *_ = row
        private_key = load_der_private_key(self._keyring.open(bytes(sealed), purpose=PURPOSE, owner=kid), password=None)
        if not isinstance(private_key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"signing key {kid} is not on an elliptic curve")
        return Signer(kid, private_key)

    def verifier(self, kid: str) -> ec.EllipticCurvePublicKey | None:
        """The public key with this id; None where there is none, or it was replaced long enough ago."""
        row = self._current().rows.get(kid)
        if row is None:  # made by another process a moment ago, or never
            row = {row[0]: row for row in self._database.read(_read_keys)}.get(kid)
        if row is None or (row[4] is not None and row[4] <= time.time_ns() // 1_000):
            return None
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes(row[1]))

    def _read_all(self, tx: Transaction) -> list[Row]:
        """The keys; and which secret the database is under by now."""
        self._keyring.current(tx)
        return _read_keys(tx)

    def _current(self) -> _Known:
        """The keys, read again where the version says that something changed."""
        version = self._version.current()
        known = self._known
        if known is None or known.version != version:
            rows = self._database.read(self._read_all)
            known = self._known = _Known(version, {row[0]: row for row in rows})
        return known


def read_public_keys(_tx: Transaction, rows: Sequence[Row]) -> list[SigningKey]:
    """Rows as the public keys that they hold."""
    return [_public_key_of(row) for row in rows]


def has_its_private_key(row: Row, keyring: Keyring) -> bool:
    """Whether the private key in a row opens, and is the one of its public key."""
    kid, point, sealed, *_ = row
    opened = keyring.try_open(sealed, purpose=PURPOSE, owner=kid)
    if opened is None:
        return False
    public = load_der_private_key(opened, password=None).public_key()
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) == bytes(point)


def _read_keys(tx: Transaction) -> list[Row]:
    return store.SIGNING_KEYS.all(tx, now_us=tx.now_us)


def _public_key_of(row: Row) -> SigningKey:
    kid, point, _, create_time_us, expire_time_us = row
    x, y = bytes(point)[1 : 1 + COORDINATE_BYTES], bytes(point)[1 + COORDINATE_BYTES :]
    return SigningKey(kid, base64url.encode(x), base64url.encode(y), ALGORITHM, create_time_us, expire_time_us)
