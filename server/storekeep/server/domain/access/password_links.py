"""Password links: tokens with which a user who was invited, or has lost the password, sets a new one, once.

Invariant: the database holds only the hash of a token. A token is computed from the id of its link and the server's
secret, so that a retry gets it again. The creator of a link can use it, too. So it has the permissions of its creator,
and the password gives no others.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

import msgspec

from storekeep.server.domain.access.api_keys import digest_key_hash
from storekeep.server.domain.access.permissions import WILDCARD, find_permissions
from storekeep.server.domain.access.roles import ADMIN
from storekeep.server.domain.access.users import check_user
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.errors import IllegalState, ReplyExpired
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.resources import MICROS, check_not_deleted, new_id
from storekeep.server.runtime.key_derivation import derive_key
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import users as store

PREFIX = "pl_"
PURGE_ROWS_MAX = 500


class PasswordLink(msgspec.Struct, frozen=True):
    """A link, as the audit log shows it.

    Attributes:
        token_digest: a digest of the stored hash of its token.
        permissions: those of its creator, or the wildcard if it had all; None in entries of older releases.
    """

    user_id: str
    id: str
    create_time_us: int
    expire_time_us: int
    token_digest: str
    permissions: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """The resource name in the audit log; the contract has no such resource."""
        return f"users/{self.user_id}/passwordLinks/{self.id}"


class IssuedLink(msgspec.Struct, frozen=True):
    """A new link with its token, which is shown once."""

    link: PasswordLink
    token: str

    def __repr__(self) -> str:
        """Return a text without the token, so that no log shows it."""
        return f"IssuedLink({self.link.name})"


class PasswordLinks:
    """Creates password links.

    Args:
        keyring: the server's secrets, from which the tokens are computed.
        retention_s: how long a retry returns a token again, in seconds.
    """

    def __init__(self, database: Store, *, keyring: Keyring, retention_s: float) -> None:
        self._database = database
        self._keyring = keyring
        self._retention_us = round(retention_s * MICROS)

    def create(self, call: Call, user_id: str, *, lifetime_us: int) -> IssuedLink:
        """Create the token of a link. Earlier ones of the user stop working.

        Args:
            lifetime_us: how long the token works, in microseconds.

        Raises: UserNotFound, PrivilegeEscalation, ResourceDeleted, IllegalState, ReplyExpired.
        """
        tokens: dict[str, str] = {}

        def check(mutation: Mutation, stored: PasswordLink | None) -> None:
            check_user(mutation, user_id)
            if stored is not None:
                tokens[stored.id] = self._find_new_token(mutation.tx, stored)

        def effect(mutation: Mutation) -> PasswordLink:
            user = check_user(mutation, user_id)
            check_not_deleted(user)
            if user.identity:
                raise IllegalState(user.name, state="IDENTITY_LINKED", target="PASSWORD")
            link, token = self._add(mutation, user_id, lifetime_us=lifetime_us)
            tokens[link.id] = token
            return link

        link = mutate(self._database, call, effect, PasswordLink, check_access=check, hides_request_id=True)
        return IssuedLink(link, tokens[link.id])

    def _add(self, mutation: Mutation, user_id: str, *, lifetime_us: int) -> tuple[PasswordLink, str]:
        """Store a new link in place of the earlier ones; return it with its token."""
        tx, link_id = mutation.tx, new_id()
        token = _compute_token(tx, link_id, self._keyring)
        token_hash = hash_token(token)
        limit = _make_limit(tx, mutation.call.caller)
        link = PasswordLink(user_id, link_id, tx.now_us, tx.now_us + lifetime_us, digest_key_hash(token_hash), limit)
        store.DELETE_PASSWORD_LINKS.run(tx, user_id=user_id)
        store.INSERT_PASSWORD_LINK.run(
            tx,
            token_hash=token_hash,
            user_id=user_id,
            id=link.id,
            expire_time_us=link.expire_time_us,
            permissions=msgspec.json.encode(limit).decode(),
        )
        mutation.record("password_link.created", before=None, after=link)
        return link, token

    def _find_new_token(self, tx: Transaction, stored: PasswordLink) -> str:
        """Return the token of a stored reply.

        Raises: ReplyExpired if the reply is too old or the server's secret was rotated.
        """
        token = _compute_token(tx, stored.id, self._keyring)
        is_same = digest_key_hash(hash_token(token)) == stored.token_digest
        if not is_same or stored.create_time_us + self._retention_us <= tx.now_us:
            raise ReplyExpired(stored.name)
        return token


def _make_limit(tx: Transaction, creator: Caller) -> tuple[str, ...]:
    """Return the permissions of the creator of a link, sorted; the wildcard for all, so that a release may add some."""
    has_all = creator.permissions.issuperset(find_permissions(tx, (ADMIN,)))
    return (WILDCARD,) if has_all else tuple(sorted(creator.permissions))


def hash_token(token: str) -> bytes:
    """Return the SHA-256 of a token; 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode()).digest()


def purge_links(tx: Transaction) -> int:
    """Delete expired links, at most `PURGE_ROWS_MAX`; return their number."""
    return store.PURGE_PASSWORD_LINKS.change(tx, before_us=tx.now_us, rows_max=PURGE_ROWS_MAX)


def _compute_token(tx: Transaction, link_id: str, keyring: Keyring) -> str:
    key = derive_key(keyring.read_current(tx).secret, "password-link")
    return PREFIX + base64.urlsafe_b64encode(hmac.digest(key, link_id.encode(), "sha256")).decode().rstrip("=")
