"""Identities: people whom an identity provider (OpenID Connect) vouches for, as users with the roles of their groups.

A person is known by issuer and subject, of which the database has a blind index. Invariants: no token signs in twice;
nobody gets a role that the settings do not give to one of the person's groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from storekeep.server.domain.access.permissions import find_permissions
from storekeep.server.domain.access.sessions import Session
from storekeep.server.domain.access.tokens import Tokens, TokenSet, generate_refresh_token
from storekeep.server.domain.access.user_sessions import end_sessions
from storekeep.server.domain.access.users import (
    USERS,
    User,
    index_email,
    index_identity,
    make_own_mutation,
    read_display_name,
)
from storekeep.server.domain.access_errors import (
    IdentityNotAllowed,
    IdentityTokenInvalid,
    TokenRevoked,
    Unauthenticated,
)
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.errors import RoleNotFound
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.runtime.emails import find_email_problem, normalize_email
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import users as store

NAME_CHARS_MAX = 200
ROLES_MAX = 20
"""The most roles of a user, as the contract has it."""
PURGE_ROWS_MAX = 500


@dataclass(frozen=True, slots=True)
class Identity:
    """What a verified token says about a person.

    Attributes:
        issuer, subject: who vouches for the person, and the person's id there.
        groups: the groups of the person at the provider.
        token_id: an id of the token, for the audit log and against a second use.
        expire_us: when the token expires, with the tolerated skew, microseconds since 1970.
        display_name: the name for people; empty without one.
        email: the email address, if the provider has verified it; empty otherwise.
    """

    issuer: str
    subject: str
    groups: frozenset[str]
    token_id: str
    expire_us: int
    display_name: str = ""
    email: str = ""


@dataclass(frozen=True, slots=True)
class IdentityRules:
    """The rules for people of the provider.

    Attributes:
        roles: the ids of the roles of each group.
        creates_users: whether the first sign-in creates a user.
        links_by_email: whether the first sign-in takes over the user with the verified email address.
    """

    roles: Mapping[str, frozenset[str]]
    creates_users: bool
    links_by_email: bool

    def map_groups(self, groups: Iterable[str]) -> tuple[str, ...]:
        """Return the ids of the roles of groups, sorted."""
        return tuple(sorted(set().union(*(self.roles.get(group, ()) for group in groups))))


class Identities:
    """Signs people of the provider in, and finds the callers of its access tokens.

    Args:
        read_id_token: verifies an ID token, given the secret that its nonce was made of; raises IdentityTokenInvalid
            or IdentityProviderUnavailable.
        tokens: starts the sessions.
    """

    def __init__(
        self,
        database: Store,
        *,
        rules: IdentityRules,
        read_id_token: Callable[[str, str], Identity],
        tokens: Tokens,
    ) -> None:
        self._database = database
        self._rules = rules
        self._read_id_token = read_id_token
        self._tokens = tokens

    def sign_in(self, call: Call, *, id_token: str, nonce_secret: str, program: str) -> TokenSet:
        """Start a session with an ID token, which works once. Create or link the user at the first sign-in.

        A person without a mapped group, or with more roles than a user can have, is refused, and loses the roles and
        sessions of before.

        Args:
            call: its caller is anonymous; the audit entries name the user instead.
            nonce_secret: the text whose SHA-256 is the nonce of the token: who has only the token does not know it.

        Raises: IdentityTokenInvalid, IdentityProviderUnavailable, IdentityNotAllowed.
        """
        identity = self._read_id_token(id_token, nonce_secret)
        roles = self._rules.map_groups(identity.groups)
        if not roles:
            self._end_access(call, identity)
            raise IdentityNotAllowed("none of your groups there has a role here")
        if len(roles) > ROLES_MAX:
            self._end_access(call, identity)
            raise IdentityNotAllowed(f"your groups have {len(roles)} roles here, more than the {ROLES_MAX} of a user")
        refresh_token = generate_refresh_token()

        def work(tx: Transaction) -> Session:
            _use_token(tx, identity)
            user = self._ensure_user(tx, call, identity, roles)
            return self._tokens.add_user_session(
                tx, call, user.id, program=program, refresh_token=refresh_token, linked=True
            )

        session = self._database.write(work, deadline=call.deadline)
        return self._tokens.build_user_tokens(session, refresh_token=refresh_token)

    def _end_access(self, call: Call, identity: Identity) -> None:
        """Take the roles and the sessions of a person who has a user, but whose groups no longer give it valid roles.

        Raises: IdentityTokenInvalid; IdentityNotAllowed if the user is disabled or deleted.
        """

        def work(tx: Transaction) -> None:
            _use_token(tx, identity)
            key = index_identity(tx, identity.issuer, identity.subject)
            row = store.FIND_USER_BY_IDENTITY.one(tx, identity=key)
            if row is not None:
                _set_roles(tx, call, row[0], key, ())
                end_sessions(make_own_mutation(tx, call, row[0]), row[0])

        self._database.write(work, deadline=call.deadline)

    def _ensure_user(self, tx: Transaction, call: Call, identity: Identity, roles: tuple[str, ...]) -> User:
        """Return the user of a person, with exactly these roles.

        Raises: IdentityNotAllowed.
        """
        try:
            find_permissions(tx, roles)
        except RoleNotFound as error:
            raise IdentityNotAllowed(f"the settings map a group to a role that does not exist: {error}") from None
        key = index_identity(tx, identity.issuer, identity.subject)
        row = store.FIND_USER_BY_IDENTITY.one(tx, identity=key)
        if row is not None:
            return _set_roles(tx, call, row[0], key, roles)
        email = normalize_email(identity.email)
        row = store.FIND_USER_BY_EMAIL.one(tx, email=index_email(tx, email)) if email else None
        if row is not None:
            return self._link(tx, call, row[0], key, roles)
        return self._create(tx, call, identity, key, roles)

    def _link(self, tx: Transaction, call: Call, user_id: str, key: str, roles: tuple[str, ...]) -> User:
        """Link the user with the verified email address of the person, and end its sessions.

        They are of somebody who knew a password, who may be another person.

        Raises: IdentityNotAllowed.
        """
        if not self._rules.links_by_email:
            raise IdentityNotAllowed("another user has your email address here")
        if USERS.find(tx, (user_id,)).identity:
            raise IdentityNotAllowed("the user with your email address belongs to another person of the provider")
        store.DELETE_SECRETS.run(tx, user_id=user_id)
        end_sessions(make_own_mutation(tx, call, user_id), user_id)
        return _set_roles(tx, call, user_id, key, roles)

    def _create(self, tx: Transaction, call: Call, identity: Identity, key: str, roles: tuple[str, ...]) -> User:
        """Create the user of a person.

        Raises: IdentityNotAllowed.
        """
        if not self._rules.creates_users:
            raise IdentityNotAllowed("you have no user here")
        email = normalize_email(identity.email)
        email = "" if find_email_problem(email) else email
        user_id = new_id()
        name = "".join(character for character in identity.display_name if character.isprintable()).strip()
        user = User(user_id, (name or email or "No name")[:NAME_CHARS_MAX], email, roles, identity=key)
        return USERS.add(make_own_mutation(tx, call, user_id), user)

    def find_caller(self, identity: Identity) -> Caller:
        """Return the caller of a verified access token: the linked user, with the roles of the token's groups.

        Raises: TokenRevoked if the user is disabled or deleted; Unauthenticated without a linked user.
        """
        roles = self._rules.map_groups(identity.groups)

        def read(tx: Transaction) -> tuple[str, bool, str, list[str]] | None:
            key = index_identity(tx, identity.issuer, identity.subject)
            row = store.FIND_IDENTITY_GRANT.one(tx, identity=key, roles=msgspec.json.encode(roles).decode())
            if row is None:
                return None
            user_id, is_active, encrypted, permissions = row
            held = sorted(set((permissions or "").split()))
            return user_id, bool(is_active), read_display_name(tx, user_id, encrypted), held

        found = self._database.snapshot(read)
        if found is None:
            raise Unauthenticated("the person of the token has no user here: sign in to the console once")
        user_id, is_active, display_name, permissions = found
        if not is_active:
            raise TokenRevoked
        return Caller(
            subject=f"users/{user_id}",
            display_name=display_name,
            roles=tuple(f"roles/{role}" for role in roles),
            permissions=frozenset(permissions),
            token_id=identity.token_id,
            expire_us=identity.expire_us,
        )


def _use_token(tx: Transaction, identity: Identity) -> None:
    """Record that an ID token was used.

    Raises: IdentityTokenInvalid if it was used before.
    """
    if not store.USE_IDENTITY_TOKEN.change(tx, token_id=identity.token_id, expire_time_us=identity.expire_us):
        raise IdentityTokenInvalid("the ID token was used before")


def _set_roles(tx: Transaction, call: Call, user_id: str, key: str, roles: tuple[str, ...]) -> User:
    """Link a user to a person if it is not, give it exactly these roles, and return it.

    Raises: IdentityNotAllowed if it is disabled or deleted.
    """
    old = USERS.find(tx, (user_id,))
    if old.disabled or old.delete_time_us is not None:
        raise IdentityNotAllowed("your user here is disabled")
    changes: dict[str, object] = {"roles": roles, "identity": key}
    if not old.identity:
        changes |= {"has_password": False, "totp_enabled": False, "secrets_digest": ""}
    new = msgspec.structs.replace(old, **changes)
    if new == old:
        return old
    store.DELETE_PASSWORD_LINKS.run(tx, user_id=user_id)
    return USERS.replace(make_own_mutation(tx, call, user_id), old, new, action="updated")


def purge_used_tokens(tx: Transaction) -> int:
    """Forget used ID tokens that have expired, at most `PURGE_ROWS_MAX`; return their number."""
    return store.PURGE_IDENTITY_TOKENS.change(tx, before_us=tx.now_us, rows_max=PURGE_ROWS_MAX)
