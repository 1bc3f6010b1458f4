"""Tokens: what callers get for an API key, and what makes them stop working.

All tokens that come from one use of a key are one session; a refresh token that is used twice ends it, as one of
the two users is a thief (RFC 9700, 4.14.2). Invariant: no token stands in the database, only hashes and ids.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from storekeep.server.domain.access.api_keys import KeySecrets, digest_of, lookup_id_of, rehash_key
from storekeep.server.domain.access.permissions import limit_to_scopes, raise_version, read_names
from storekeep.server.domain.access.signing_keys import ACCESS_LIFETIME_S
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.errors import (
    AccessRefused,
    ApiKeyInvalid,
    TokenExpired,
    TokenRevoked,
    Unauthenticated,
)
from storekeep.server.domain.keys.keyrings import CurrentSecret
from storekeep.server.domain.mutations import Mutation
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as store

SECOND_US = 1_000_000
REFRESH_LIFETIME_S = 86_400
"""A day without a call; then the API key begins a new session."""
SESSION_LIFETIME_MAX_S = 30 * 86_400
"""A month, however often it is refreshed; then the API key begins a new session."""
KEEP_US = 86_400 * SECOND_US
"""How long rows stay that are over, so that a late token is told that it expired, not that it is unknown."""
PURGE_ROWS_MAX = 500
"""Rows of each table that one purge removes at most: it holds up the writers behind it."""
REFRESH_PREFIX = "rt_"
NO_HASH = bytes(32)
"""What the HMAC of an unknown key is compared with, so that it takes as long as a known one."""


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What an access token says (RFC 9068). What its holder may do is looked up, so that a change works at once.

    Attributes:
        subject: resource name of the account.
        session_id: the session that it belongs to.
        client: resource name of the API key that it came from.
        issue_us, expire_us: microseconds since 1970, whole seconds.
    """

    token_id: str
    subject: str
    session_id: str
    client: str
    issue_us: int
    expire_us: int


@dataclass(frozen=True, slots=True, repr=False)
class TokenSet:
    """An access token and the refresh token for the next one."""

    access_token: str
    expire_us: int
    refresh_token: str
    refresh_expire_us: int


class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """A session, as audit and events show it. One begins with each use of a key, so what says nothing is left out.

    Attributes:
        token_digest: SHA-256 of the stored hash of the refresh token that continues it, so that the audit log shows
            another in its place; empty in entries of older releases, and of a session that was revoked.
    """

    account_id: str
    id: str
    api_key: str
    create_time_us: int = 0
    expire_time_us: int = 0
    revoke_time_us: int | None = None
    token_digest: str = ""

    @property
    def name(self) -> str:
        """As audit and events call it; the contract has no resource for it."""
        return f"serviceAccounts/{self.account_id}/sessions/{self.id}"


class RevokedToken(msgspec.Struct, frozen=True):
    """One access token that was revoked, as audit and events show it."""

    account_id: str
    session_id: str
    token_id: str
    revoke_time_us: int
    expire_time_us: int = 0

    @property
    def name(self) -> str:
        """As audit and events call it; the contract has no resource for it."""
        return f"serviceAccounts/{self.account_id}/tokens/{self.token_id}"


@dataclass(frozen=True, slots=True)
class _Presented:
    """A refresh token that somebody presents.

    Attributes:
        session: what it continues; it expires when the token does.
        used: whether it was presented before.
        holds: whether its session, key and account still do.
        revoked: whether its session was revoked.
    """

    session: Session
    now_us: int
    key_expire_us: int | None
    used: bool
    holds: bool
    revoked: bool


class Tokens:
    """Issues, refreshes and revokes tokens.

    Args:
        database: where sessions are kept.
        key_secrets: by which a presented API key is known.
        sign: writes claims as a signed token.
        verify: reads a signed token; raises AccessRefused where it is not one of ours, or over.
        access_lifetime_s, refresh_lifetime_s: how long the two kinds of token work, unless their key ends sooner.
        session_lifetime_max_s: how long a session can be refreshed.
    """

    def __init__(
        self,
        database: Store,
        *,
        key_secrets: KeySecrets,
        sign: Callable[[TokenClaims], str],
        verify: Callable[[str], TokenClaims],
        access_lifetime_s: int = ACCESS_LIFETIME_S,
        refresh_lifetime_s: int = REFRESH_LIFETIME_S,
        session_lifetime_max_s: int = SESSION_LIFETIME_MAX_S,
    ) -> None:
        self._database = database
        self._key_secrets = key_secrets
        self._sign = sign
        self._verify = verify
        self._access_lifetime_us = access_lifetime_s * SECOND_US
        self._refresh_lifetime_us = refresh_lifetime_s * SECOND_US
        self._session_lifetime_max_us = session_lifetime_max_s * SECOND_US

    def issue(self, call: Call, api_key: str) -> TokenSet:
        """Begin a session with an API key.

        Args:
            call: its caller, who is nobody yet, is replaced by the key's account in the audit entry.

        Raises: ApiKeyInvalid, in the same words and by the same steps whatever is wrong with the key.
        """
        account_id, key_id, key_expire_us, stored = self._check_key(api_key)
        refresh_token = _new_refresh_token()

        def work(tx: Transaction) -> Session:
            name = f"serviceAccounts/{account_id}/apiKeys/{key_id}"
            expire_us = self._session_end(tx.now_us, tx.now_us, key_expire_us)
            session = Session(
                account_id, new_id(), name, tx.now_us, expire_us, token_digest=digest_of(_hash(refresh_token))
            )
            store.INSERT_SESSION.run(
                tx, id=session.id, lookup_id=lookup_id_of(api_key), now_us=tx.now_us, expire_time_us=expire_us
            )
            _insert_refresh_token(tx, refresh_token, session)
            mutation = _mutation(tx, call, session)
            mutation.record("session.created", before=None, after=session)
            current = self._key_secrets.keyring.current(tx)
            if self._key_secrets.secret_of(api_key, stored) != current.secret:
                rehash_key(mutation, (account_id, key_id), api_key, stored=stored, current=current)
            return session

        session = self._database.write(work, deadline=call.deadline)
        return self._token_set(session, session.create_time_us, key_expire_us, refresh_token)

    def _check_key(self, api_key: str) -> tuple[str, str, int | None, bytes]:
        """The ids of the account and of the key, when the key ends, and the hash that is stored of it.

        Raises: ApiKeyInvalid.
        """
        row, now_us, current = self._find_credential(api_key)
        secret = self._key_secrets.secret_of(api_key, bytes(row[0]))
        if secret is None and self._key_secrets.keyring.reload():  # the secret was rotated a moment ago
            row, now_us, current = self._find_credential(api_key)
            secret = self._key_secrets.secret_of(api_key, bytes(row[0]))
        key_hash, account_id, key_id, expire_us, holds = row
        if secret is None or not self._key_secrets.keyring.accepts(secret, current=current, now_us=now_us):
            raise ApiKeyInvalid
        if not holds or (expire_us is not None and expire_us <= now_us):
            raise ApiKeyInvalid
        return account_id, key_id, expire_us, bytes(key_hash)

    def _find_credential(self, api_key: str) -> tuple[Row, int, CurrentSecret]:
        """What a presented key is held against, the time, and the secret that the database is under."""
        lookup_id = lookup_id_of(api_key)

        def work(tx: Transaction) -> tuple[Row, int, CurrentSecret]:
            row = store.FIND_CREDENTIAL.one(tx, lookup_id=lookup_id) or (NO_HASH, "", "", None, False)
            return row, tx.now_us, self._key_secrets.keyring.current(tx)

        return self._database.snapshot(work)

    def refresh(self, call: Call, refresh_token: str) -> TokenSet:
        """Go on with a session. Ends it, for good, where the refresh token was used before.

        A token is looked up by a read first: one that is unknown, or over already, never waits for the writer.

        Raises: Unauthenticated (an unknown token), TokenExpired, TokenRevoked.
        """
        refused = self._database.read(lambda tx: self._refuse(tx, _find_presented(tx, refresh_token)))
        if refused is not None:
            raise refused
        new_token = _new_refresh_token()

        def work(tx: Transaction) -> _Presented | AccessRefused:
            presented = _find_presented(tx, refresh_token)
            refused = self._refuse(tx, presented)
            if presented is None or refused is not None:
                return refused or Unauthenticated("the refresh token is unknown")
            if presented.used:
                _revoke_session(_mutation(tx, call, presented.session), presented.session)
                return TokenRevoked().of_session(presented.session.id)
            return self._extend(_mutation(tx, call, presented.session), presented, used=refresh_token, new=new_token)

        outcome = self._database.write(work, deadline=call.deadline)
        if isinstance(outcome, AccessRefused):  # raised only here: ending the session has to commit
            raise outcome
        return self._token_set(outcome.session, outcome.now_us, outcome.key_expire_us, new_token)

    def _refuse(self, tx: Transaction, presented: _Presented | None) -> AccessRefused | None:
        """Return why a refresh token does not work; None where it does, or where its use has to end its session."""
        if presented is None:
            return Unauthenticated("the refresh token is unknown")
        if presented.used and not presented.revoked:
            return None
        if not presented.holds:
            return TokenRevoked().of_session(presented.session.id)
        age_us = tx.now_us - presented.session.create_time_us
        if presented.session.expire_time_us <= tx.now_us or age_us >= self._session_lifetime_max_us:
            return TokenExpired().of_session(presented.session.id)
        return None

    def _extend(self, mutation: Mutation, presented: _Presented, *, used: str, new: str) -> _Presented:
        """Exchange the refresh token of a session for a new one, from which its time counts anew."""
        tx = mutation.tx
        expire_us = self._session_end(presented.session.create_time_us, tx.now_us, presented.key_expire_us)
        session = msgspec.structs.replace(
            presented.session, expire_time_us=expire_us, token_digest=digest_of(_hash(new))
        )
        store.USE_REFRESH_TOKEN.run(tx, token_hash=_hash(used), now_us=tx.now_us)
        store.EXTEND_SESSION.run(tx, id=session.id, expire_time_us=expire_us)
        _insert_refresh_token(tx, new, session)
        mutation.record("session.refreshed", before=presented.session, after=session)
        return dataclasses.replace(presented, session=session)

    def _token_set(self, session: Session, now_us: int, key_expire_us: int | None, refresh_token: str) -> TokenSet:
        expire_us = _end(now_us, self._access_lifetime_us, key_expire_us)
        claims = TokenClaims(
            token_id=new_id(),
            subject=f"serviceAccounts/{session.account_id}",
            session_id=session.id,
            client=session.api_key,
            issue_us=_whole_second(now_us),
            expire_us=_whole_second(min(expire_us, self._last_us(session.create_time_us))),
        )
        return TokenSet(self._sign(claims), claims.expire_us, refresh_token, session.expire_time_us)

    def _session_end(self, create_us: int, now_us: int, key_expire_us: int | None) -> int:
        """Return when a session of this age ends that nobody refreshes."""
        return min(_end(now_us, self._refresh_lifetime_us, key_expire_us), self._last_us(create_us))

    def _last_us(self, create_us: int) -> int:
        """Return when a session that began then ends, however often it is refreshed."""
        return create_us + self._session_lifetime_max_us

    def revoke(self, call: Call, token: str) -> None:
        """Stop an access token, or a refresh token and with it its whole session, from working (RFC 7009).

        A token that is unknown, over or revoked already is no error.
        """
        if token.startswith(REFRESH_PREFIX):
            self._revoke_refresh_token(call, token)
            return
        try:
            claims = self._verify(token)
        except AccessRefused:
            return
        self._revoke_access_token(call, claims)

    def _revoke_refresh_token(self, call: Call, token: str) -> None:
        known = self._database.read(lambda tx: _find_presented(tx, token))
        if known is None or known.revoked:  # by a read: what changes nothing never waits for the writer
            return

        def work(tx: Transaction) -> None:
            presented = _find_presented(tx, token)
            if presented is not None:
                _revoke_session(_mutation(tx, call, presented.session), presented.session)

        self._database.write(work, deadline=call.deadline)

    def _revoke_access_token(self, call: Call, claims: TokenClaims) -> None:
        if self._database.read(lambda tx: store.FIND_REVOKED_TOKEN.one(tx, token_id=claims.token_id)) is not None:
            return
        account_id = claims.subject.removeprefix("serviceAccounts/")

        def work(tx: Transaction) -> None:
            noted = store.INSERT_REVOKED_TOKEN.change(tx, token_id=claims.token_id, expire_time_us=claims.expire_us)
            if noted:
                raise_version(tx)
                revoked = RevokedToken(account_id, claims.session_id, claims.token_id, tx.now_us, claims.expire_us)
                session = Session(account_id, claims.session_id, claims.client)
                _mutation(tx, call, session).record("token.revoked", before=None, after=revoked)

        self._database.write(work, deadline=call.deadline)

    def find_caller(self, claims: TokenClaims) -> Caller:
        """Who holds a verified token, and what it may do now.

        Raises: TokenRevoked, TokenExpired (the key that it came from has ended), Unauthenticated.
        """
        account_id = claims.subject.removeprefix("serviceAccounts/")
        row = self._database.read(
            lambda tx: store.FIND_GRANT.one(
                tx, session_id=claims.session_id, account_id=account_id, token_id=claims.token_id
            )
        )
        if row is None:
            raise Unauthenticated("the token belongs to no session of this server")
        revoked, key_expire_us, scopes, display_name, roles, permissions = row
        if revoked:
            raise TokenRevoked
        held = frozenset((permissions or "").split())
        return Caller(
            subject=claims.subject,
            display_name=display_name,
            roles=tuple(sorted(f"roles/{role}" for role in read_names(roles))),
            permissions=limit_to_scopes(held, frozenset(read_names(scopes))),
            token_id=claims.token_id,
            expire_us=claims.expire_us if key_expire_us is None else min(claims.expire_us, key_expire_us),
            api_key=claims.client,
            session_id=claims.session_id,
        )


def purge_expired(tx: Transaction) -> int:
    """Remove sessions, tokens and signing keys that are long over, at most `PURGE_ROWS_MAX` of each kind.

    Returns: how many rows; when it is not 0, there may be more.
    """
    purged = 0
    for statement in store.PURGES:
        purged += statement.change(tx, before_us=tx.now_us - KEEP_US, rows_max=PURGE_ROWS_MAX)
    return purged


def _find_presented(tx: Transaction, token: str) -> _Presented | None:
    row = store.FIND_REFRESH_TOKEN.one(tx, token_hash=_hash(token))
    if row is None:
        return None
    expire_us, use_us, session_id, create_us, account_id, key_id, key_expire_us, holds, revoked = row
    expire_us = expire_us if key_expire_us is None else min(expire_us, key_expire_us)
    session = Session(account_id, session_id, f"serviceAccounts/{account_id}/apiKeys/{key_id}", create_us, expire_us)
    return _Presented(session, tx.now_us, key_expire_us, use_us is not None, bool(holds), bool(revoked))


def _mutation(tx: Transaction, call: Call, session: Session) -> Mutation:
    """What records under the account's name: whoever holds a key or a token of it acts for it."""
    caller = Caller(f"serviceAccounts/{session.account_id}", api_key=session.api_key, session_id=session.id)
    return Mutation(tx, msgspec.structs.replace(call, caller=caller))


def _revoke_session(mutation: Mutation, session: Session) -> None:
    """End a session and all its tokens; ended already, nothing is written."""
    tx = mutation.tx
    if store.REVOKE_SESSION.change(tx, id=session.id, now_us=tx.now_us):
        raise_version(tx)
        revoked = msgspec.structs.replace(session, revoke_time_us=tx.now_us)
        mutation.record("session.revoked", before=session, after=revoked)


def _insert_refresh_token(tx: Transaction, token: str, session: Session) -> None:
    store.INSERT_REFRESH_TOKEN.run(
        tx, token_hash=_hash(token), session_id=session.id, expire_time_us=session.expire_time_us
    )


def _new_refresh_token() -> str:
    return REFRESH_PREFIX + secrets.token_urlsafe(32)


def _hash(token: str) -> bytes:
    """SHA-256 is enough: nobody guesses 256 random bits."""
    return hashlib.sha256(token.encode()).digest()


def _end(now_us: int, lifetime_us: int, key_expire_us: int | None) -> int:
    """When something ends that began now: no later than the key that it came from."""
    return now_us + lifetime_us if key_expire_us is None else min(now_us + lifetime_us, key_expire_us)


def _whole_second(time_us: int) -> int:
    return time_us - time_us % SECOND_US
