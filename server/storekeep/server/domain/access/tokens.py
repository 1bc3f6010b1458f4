"""Tokens and sessions: issued for an API key or a sign-in of a user, refreshed and revoked.

All tokens from one use of a key, or one sign-in, form a session. Using a refresh token twice ends its session, because
one of the two users must be an attacker (RFC 9700, 4.14.2). Invariant: the database holds only hashes and ids of
tokens. While nothing can be written, as with a full disk, a key gets an access token without a session, and a refresh
returns the same refresh token.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from storekeep.server.domain.access.api_keys import KeySecrets, digest_key_hash, parse_lookup_id, rehash_key
from storekeep.server.domain.access.permissions import apply_limit, limit_to_scopes, raise_version, read_names
from storekeep.server.domain.access.sessions import (
    RevokedToken,
    Session,
    build_session,
    make_mutation,
    revoke_session,
)
from storekeep.server.domain.access.signing_keys import ACCESS_LIFETIME_S
from storekeep.server.domain.access.unrecorded_tokens import IssuedToken, UnrecordedTokens, record_issued
from storekeep.server.domain.access.users import read_display_name
from storekeep.server.domain.access_errors import (
    AccessRefused,
    ApiKeyInvalid,
    TokenExpired,
    TokenRevoked,
    Unauthenticated,
)
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.keys.keyrings import CurrentSecret
from storekeep.server.domain.mutations import Mutation
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.store.engine import Store
from storekeep.server.store.errors import StorageFull, StorageUnavailable, StoreError
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as store

SECOND_US = 1_000_000
REFRESH_LIFETIME_S = 86_400
"""The lifetime of a refresh token: one day without a refresh ends the session."""
SESSION_LIFETIME_MAX_S = 30 * 86_400
"""The most that refreshing can extend a session: 30 days."""
ENDED_RETENTION_US = 86_400 * SECOND_US
"""How long rows stay after they end, so that a late token is reported as expired and not as unknown."""
PURGE_ROWS_MAX = 500
"""The most rows of each table that one purge removes, because other writers wait for it."""
NOT_WRITABLE = (StorageFull, StorageUnavailable)
"""Errors of a database that may still be readable."""
REFRESH_PREFIX = "rt_"
NO_HASH = bytes(32)
"""Stands in for the hash of an unknown key, so that checking it takes as long as checking a known key."""


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """The claims of an access token (RFC 9068). Permissions are looked up instead, so that changes apply at once.

    Attributes:
        subject: the resource name of the account or user.
        session_id: the session of the token; empty if none could be written, as with a full disk.
        client: the resource name of the API key that the token was issued for, or of the user.
        issue_us, expire_us: microseconds since 1970, in whole seconds.
    """

    token_id: str
    subject: str
    session_id: str
    client: str
    issue_us: int
    expire_us: int


@dataclass(frozen=True, slots=True, repr=False)
class TokenSet:
    """An access token and the refresh token for the next one, which is empty without a session."""

    access_token: str
    expire_us: int
    refresh_token: str
    refresh_expire_us: int | None


@dataclass(frozen=True, slots=True)
class _Presented:
    """A presented refresh token that the database knows.

    Attributes:
        session: its session; `expire_time_us` is the token's.
        now_us: the time of the lookup, microseconds since 1970.
        key_expire_us: when the API key of the session expires; None if it does not.
        used: whether the token was used before.
        valid: whether its session, API key and account are still valid.
        revoked: whether its session was revoked.
        linked: whether its user is a person of the identity provider.
    """

    session: Session
    now_us: int
    key_expire_us: int | None
    used: bool
    valid: bool
    revoked: bool
    linked: bool


class Tokens:
    """Issues, refreshes and revokes tokens.

    Args:
        database: the store that holds the sessions.
        key_secrets: verifies presented API keys.
        sign: encodes claims as a signed token.
        verify: decodes a signed token; raises AccessRefused if it is invalid or expired.
        access_lifetime_s, refresh_lifetime_s: the lifetimes of the tokens, unless their API key expires sooner.
        session_lifetime_max_s: how long a session can be extended by refreshing.
        identity_session_max_s: the same for users of the identity provider, who then sign in there again.
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
        identity_session_max_s: float = SESSION_LIFETIME_MAX_S,
    ) -> None:
        self._database = database
        self._key_secrets = key_secrets
        self._sign = sign
        self._verify = verify
        self._access_lifetime_us = access_lifetime_s * SECOND_US
        self._refresh_lifetime_us = refresh_lifetime_s * SECOND_US
        self._session_lifetime_max_us = session_lifetime_max_s * SECOND_US
        self._identity_session_max_us = min(self._session_lifetime_max_us, round(identity_session_max_s * SECOND_US))
        self._unrecorded = UnrecordedTokens()

    def issue(self, call: Call, api_key: str) -> TokenSet:
        """Start a session with an API key. If it cannot be written, return an access token without a session instead.

        So reads go on while the disk is full, or the database is read-only.

        Args:
            call: its caller is anonymous; the audit entry names the key's account instead.

        Raises: ApiKeyInvalid. The text and the work done are the same for every cause, so that neither reveals it.
        """
        account_id, key_id, key_expire_us, stored = self._check_key(api_key)
        key_name = f"serviceAccounts/{account_id}/apiKeys/{key_id}"
        refresh_token = generate_refresh_token()

        def work(tx: Transaction) -> Session:
            new_session = Session(account_id, new_id(), key_name)
            session = self._add_session(
                tx, new_session, refresh_token, key_expire_us, lookup_id=parse_lookup_id(api_key)
            )
            mutation = make_mutation(tx, call, session)
            mutation.record("session.created", before=None, after=session)
            current = self._key_secrets.keyring.read_current(tx)
            if self._key_secrets.find_matching_secret(api_key, stored) != current.secret:
                rehash_key(mutation, (account_id, key_id), api_key, stored=stored, current=current)
            record_issued(tx, call, unrecorded)
            return session

        try:
            with self._unrecorded.take() as unrecorded:
                session = self._database.write(work, deadline=call.deadline)
        except NOT_WRITABLE:
            return self._issue_without_session(Session(account_id, "", key_name), key_expire_us)
        return self._make_token_set(session, session.create_time_us, key_expire_us, refresh_token)

    def _issue_without_session(self, session: Session, key_expire_us: int | None) -> TokenSet:
        """Return an access token without a session or a refresh token. Its audit entry is written later."""
        now_us = time.time_ns() // 1_000
        claims = self._make_claims(msgspec.structs.replace(session, create_time_us=now_us), now_us, key_expire_us)
        self._unrecorded.add(
            IssuedToken(session.account_id, session.api_key, claims.token_id, claims.issue_us, claims.expire_us)
        )
        return TokenSet(self._sign(claims), claims.expire_us, "", None)

    def add_user_session(
        self, tx: Transaction, call: Call, user_id: str, *, program: str, refresh_token: str, linked: bool = False
    ) -> Session:
        """Start a session of a user whose credentials were checked.

        Args:
            call: its caller is anonymous; the audit entry names the user instead.
            program: how the program of the user names itself.
            refresh_token: a token of `generate_refresh_token`; pass it to `build_user_tokens` after the commit.
            linked: whether the user is a person of the identity provider.
        """
        new_session = Session("", new_id(), "", user_id=user_id, program=program)
        end_us = tx.now_us + self._identity_session_max_us if linked else None
        session = self._add_session(tx, new_session, refresh_token, end_us, lookup_id=None)
        make_mutation(tx, call, session).record("session.created", before=None, after=session)
        return session

    def build_user_tokens(self, session: Session, *, refresh_token: str) -> TokenSet:
        """Return the first tokens of a new session of a user."""
        return self._make_token_set(session, session.create_time_us, session.expire_time_us, refresh_token)

    def _add_session(
        self,
        tx: Transaction,
        new_session: Session,
        refresh_token: str,
        key_expire_us: int | None,
        *,
        lookup_id: str | None,
    ) -> Session:
        """Store a session with its times and its first refresh token, and return it."""
        expire_us = self._compute_session_end(tx.now_us, tx.now_us, key_expire_us)
        session = msgspec.structs.replace(
            new_session,
            create_time_us=tx.now_us,
            expire_time_us=expire_us,
            token_digest=digest_key_hash(_hash(refresh_token)),
        )
        store.INSERT_SESSION.run(
            tx,
            id=session.id,
            lookup_id=lookup_id,
            user_id=session.user_id or None,
            program=session.program,
            now_us=tx.now_us,
            expire_time_us=expire_us,
        )
        _insert_refresh_token(tx, refresh_token, session)
        return session

    def _check_key(self, api_key: str) -> tuple[str, str, int | None, bytes]:
        """Return the account id, the key id, the key's expiry time (None without one) and the stored hash.

        Raises: ApiKeyInvalid.
        """
        known = self._key_secrets.keyring.list_secrets()
        row, now_us, current = self._find_credential(api_key)
        secret = self._key_secrets.find_matching_secret(api_key, bytes(row[0]))
        if secret is None and self._key_secrets.keyring.reload_since(known):  # the secret was rotated a moment ago
            row, now_us, current = self._find_credential(api_key)
            secret = self._key_secrets.find_matching_secret(api_key, bytes(row[0]))
        key_hash, account_id, key_id, expire_us, valid = row
        if secret is None or not self._key_secrets.keyring.accepts(secret, current=current, now_us=now_us):
            raise ApiKeyInvalid
        if not valid or (expire_us is not None and expire_us <= now_us):
            raise ApiKeyInvalid
        return account_id, key_id, expire_us, bytes(key_hash)

    def _find_credential(self, api_key: str) -> tuple[Row, int, CurrentSecret]:
        """Return the row to check a presented key against, the time, and the secret that the database uses now."""
        lookup_id = parse_lookup_id(api_key)

        def work(tx: Transaction) -> tuple[Row, int, CurrentSecret]:
            row = store.FIND_CREDENTIAL.one(tx, lookup_id=lookup_id) or (NO_HASH, "", "", None, False)
            return row, tx.now_us, self._key_secrets.keyring.read_current(tx)

        return self._database.snapshot(work)

    def refresh(self, call: Call, refresh_token: str) -> TokenSet:
        """Extend a session. End it if the refresh token was used before.

        A read checks the token first, so that an unknown or expired token never waits for the writer. While nothing can
        be written, the session is not extended, and a refresh token that was not used before stays unused. If the
        database gave no answer, it may yet turn out to be used; its next use then ends the session, as after an error.

        Raises: Unauthenticated (an unknown token), TokenExpired, TokenRevoked.
        """
        error = self._database.read(lambda tx: self._find_error(tx, _find_presented(tx, refresh_token)))
        if error is not None:
            raise error
        new_token = generate_refresh_token()

        def work(tx: Transaction) -> _Presented | AccessRefused:
            presented = _find_presented(tx, refresh_token)
            error = self._find_error(tx, presented)
            if presented is None or error is not None:
                return error or Unauthenticated("the refresh token is unknown")
            if presented.linked:  # it ends as with a key that expires then
                end_us = presented.session.create_time_us + self._identity_session_max_us
                presented = dataclasses.replace(presented, key_expire_us=end_us)
            mutation = make_mutation(tx, call, presented.session)
            if presented.used:
                revoke_session(mutation, presented.session)
                return TokenRevoked().attach_session(presented.session.id)
            return self._extend(mutation, presented, used=refresh_token, new=new_token)

        try:
            outcome = self._database.write(work, deadline=call.deadline)
        except NOT_WRITABLE as cause:
            return self._refresh_without_writing(refresh_token, cause)
        if isinstance(outcome, AccessRefused):  # raised after the commit, which ends the session
            raise outcome
        return self._make_token_set(outcome.session, outcome.now_us, outcome.key_expire_us, new_token)

    def _refresh_without_writing(self, refresh_token: str, cause: StoreError) -> TokenSet:
        """Return a new access token with the same refresh token.

        Raises: the errors of `refresh`; `cause` if the token was used before, so that its session must end.
        """

        def work(tx: Transaction) -> tuple[_Presented | None, AccessRefused | None]:
            presented = _find_presented(tx, refresh_token)
            return presented, self._find_error(tx, presented)

        presented, error = self._database.snapshot(work)
        if error is not None:
            raise error
        if presented is None or presented.used:
            raise cause
        session = presented.session
        return self._make_token_set(session, presented.now_us, session.expire_time_us, refresh_token)

    def _find_error(self, tx: Transaction, presented: _Presented | None) -> AccessRefused | None:
        """Return why a refresh token is rejected; None if it is valid, or if its reuse must end the session."""
        if presented is None:
            return Unauthenticated("the refresh token is unknown")
        if presented.used and not presented.revoked:
            return None
        if not presented.valid:
            return TokenRevoked().attach_session(presented.session.id)
        age_us = tx.now_us - presented.session.create_time_us
        if presented.session.expire_time_us <= tx.now_us or age_us >= self._session_lifetime_max_us:
            return TokenExpired().attach_session(presented.session.id)
        return None

    def _extend(self, mutation: Mutation, presented: _Presented, *, used: str, new: str) -> _Presented:
        """Replace the refresh token of a session with a new one, and extend the session from now on."""
        tx = mutation.tx
        expire_us = self._compute_session_end(presented.session.create_time_us, tx.now_us, presented.key_expire_us)
        session = msgspec.structs.replace(
            presented.session, expire_time_us=expire_us, token_digest=digest_key_hash(_hash(new))
        )
        store.USE_REFRESH_TOKEN.run(tx, token_hash=_hash(used), now_us=tx.now_us)
        store.EXTEND_SESSION.run(tx, id=session.id, expire_time_us=expire_us)
        _insert_refresh_token(tx, new, session)
        mutation.record("session.refreshed", before=presented.session, after=session)
        return dataclasses.replace(presented, session=session)

    def _make_token_set(self, session: Session, now_us: int, key_expire_us: int | None, refresh_token: str) -> TokenSet:
        claims = self._make_claims(session, now_us, key_expire_us)
        return TokenSet(self._sign(claims), claims.expire_us, refresh_token, session.expire_time_us)

    def _make_claims(self, session: Session, now_us: int, key_expire_us: int | None) -> TokenClaims:
        expire_us = _compute_end(now_us, self._access_lifetime_us, key_expire_us)
        return TokenClaims(
            token_id=new_id(),
            subject=session.subject,
            session_id=session.id,
            client=session.api_key or session.subject,
            issue_us=_truncate_to_second(now_us),
            expire_us=_truncate_to_second(min(expire_us, self._compute_latest_end(session.create_time_us))),
        )

    def _compute_session_end(self, create_us: int, now_us: int, key_expire_us: int | None) -> int:
        """Return when a session ends unless it is refreshed again, in microseconds since 1970."""
        return min(_compute_end(now_us, self._refresh_lifetime_us, key_expire_us), self._compute_latest_end(create_us))

    def _compute_latest_end(self, create_us: int) -> int:
        """Return when a session ends at the latest, in microseconds since 1970."""
        return create_us + self._session_lifetime_max_us

    def revoke(self, call: Call, token: str) -> bool:
        """Revoke an access token, or a refresh token with its whole session (RFC 7009).

        Returns: False if nothing changed. Unknown, expired and already revoked tokens are not an error.
        """
        if token.startswith(REFRESH_PREFIX):
            return self._revoke_refresh_token(call, token)
        try:
            claims = self._verify(token)
        except AccessRefused:
            return False
        return self._revoke_access_token(call, claims)

    def _revoke_refresh_token(self, call: Call, token: str) -> bool:
        existing = self._database.read(lambda tx: _find_presented(tx, token))
        if existing is None or existing.revoked:  # a read, so that a call without effect never waits for the writer
            return False

        def work(tx: Transaction) -> None:
            presented = _find_presented(tx, token)
            if presented is not None:
                revoke_session(make_mutation(tx, call, presented.session), presented.session)

        self._database.write(work, deadline=call.deadline)
        return True

    def _revoke_access_token(self, call: Call, claims: TokenClaims) -> bool:
        if self._database.read(lambda tx: store.FIND_REVOKED_TOKEN.one(tx, token_id=claims.token_id)) is not None:
            return False
        account_id, user_id = _parse_subject(claims.subject)

        def work(tx: Transaction) -> None:
            inserted = store.INSERT_REVOKED_TOKEN.change(tx, token_id=claims.token_id, expire_time_us=claims.expire_us)
            if inserted:
                raise_version(tx)
                revoked = RevokedToken(
                    account_id, claims.session_id, claims.token_id, tx.now_us, claims.expire_us, user_id
                )
                session = Session(account_id, claims.session_id, "" if user_id else claims.client, user_id=user_id)
                make_mutation(tx, call, session).record("token.revoked", before=None, after=revoked)

        self._database.write(work, deadline=call.deadline)
        return True

    def find_caller(self, claims: TokenClaims) -> Caller:
        """Return the caller of a verified token, with its current permissions.

        Raises: TokenRevoked, Unauthenticated.
        """
        account_id, user_id = _parse_subject(claims.subject)
        if user_id:
            return self._find_user(claims, user_id)
        row = self._database.read(
            lambda tx: store.FIND_GRANT.one(
                tx,
                session_id=claims.session_id,
                account_id=account_id,
                key_id=claims.client.rpartition("/")[2],
                token_id=claims.token_id,
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

    def _find_user(self, claims: TokenClaims, user_id: str) -> Caller:
        """Return the caller of a verified token of a user, with no permissions beyond those of its password.

        Raises: TokenRevoked, Unauthenticated.
        """
        key = {"session_id": claims.session_id, "user_id": user_id, "token_id": claims.token_id}

        def read(tx: Transaction) -> tuple[Row | None, str]:
            row = store.FIND_USER_GRANT.one(tx, **key)
            return row, "" if row is None else read_display_name(tx, user_id, row[1])

        row, display_name = self._database.snapshot(read)
        if row is None:
            raise Unauthenticated("the token belongs to no session of this server")
        revoked, _, roles, permissions, limit = row
        if revoked:
            raise TokenRevoked
        held = frozenset((permissions or "").split())
        effective = apply_limit(held, frozenset(read_names(limit)))
        return Caller(
            subject=claims.subject,
            display_name=display_name,
            roles=tuple(sorted(f"roles/{role}" for role in read_names(roles))),
            permissions=effective,
            withheld=held - effective,
            token_id=claims.token_id,
            expire_us=claims.expire_us,
            session_id=claims.session_id,
        )


def purge_expired(tx: Transaction) -> int:
    """Delete sessions, tokens and signing keys that ended long ago, at most `PURGE_ROWS_MAX` of each kind.

    Returns: the number of deleted rows; if it is not 0, there may be more.
    """
    purged = 0
    for statement in store.PURGES:
        purged += statement.change(tx, before_us=tx.now_us - ENDED_RETENTION_US, rows_max=PURGE_ROWS_MAX)
    return purged


def _find_presented(tx: Transaction, token: str) -> _Presented | None:
    row = store.FIND_REFRESH_TOKEN.one(tx, token_hash=_hash(token))
    if row is None:
        return None
    expire_us, use_us, session_id, create_us, account_id, key_id, key_expire_us, *states = row
    valid, revoked, user_id, program, linked = states
    expire_us = expire_us if key_expire_us is None else min(expire_us, key_expire_us)
    session = build_session(session_id, account_id, key_id, user_id, program, create_us, expire_us)
    return _Presented(session, tx.now_us, key_expire_us, use_us is not None, bool(valid), bool(revoked), bool(linked))


def _parse_subject(subject: str) -> tuple[str, str]:
    """Return the id of the account, or of the user, in the subject of a token; the other one is empty."""
    kind, _, own_id = subject.partition("/")
    return ("", own_id) if kind == "users" else (own_id, "")


def _insert_refresh_token(tx: Transaction, token: str, session: Session) -> None:
    store.INSERT_REFRESH_TOKEN.run(
        tx, token_hash=_hash(token), session_id=session.id, expire_time_us=session.expire_time_us
    )


def generate_refresh_token() -> str:
    """Return a new refresh token."""
    return REFRESH_PREFIX + secrets.token_urlsafe(32)


def _hash(token: str) -> bytes:
    """Return the SHA-256 of a token; 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode()).digest()


def _compute_end(now_us: int, lifetime_us: int, key_expire_us: int | None) -> int:
    """Return when a token that starts now expires: after its lifetime, but no later than its API key."""
    return now_us + lifetime_us if key_expire_us is None else min(now_us + lifetime_us, key_expire_us)


def _truncate_to_second(time_us: int) -> int:
    return time_us - time_us % SECOND_US
