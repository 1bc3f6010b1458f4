"""Sessions of the console: who is signed in, with a client of the server each. Kept in memory; tokens never leave it.

A restart of the gateway ends all sessions, and several gateways share none. The cookie is a random name; only its hash
is kept as the key.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from storekeep.client import Storekeep, StorekeepError, WhoAmIResponse

COOKIE_BYTES = 32
ACCOUNT_PART = 10
"""One account can have a tenth of all sessions, so that it cannot end those of the others by signing in again."""
CLOSE_TIMEOUT_S = 2.0
Draft = Mapping[str, Sequence[str]]
"""The fields of a form."""
DRAFTS_MAX = 5
"""Forms of new orders that are kept for an account. The page bounds the length of each."""
DRAFT_LIFETIMES = 2
"""The forms of an account are kept for so many lifetimes of a session, since its newest session began."""
ACCESS_LIFETIME_S = 30.0
"""How long the permissions of a session are kept, in seconds. The server checks each call anyway."""


class Drafts:
    """Forms of new orders whose price is shown, of one account. A new session of the account finds them again.

    Attributes:
        used_s: start of the newest session of the account, on the monotonic clock.
    """

    def __init__(self) -> None:
        self._forms: OrderedDict[str, Draft] = OrderedDict()
        self.used_s = 0.0

    def keep(self, form: Draft) -> str:
        """Keep a form, and return its key. The oldest beyond `DRAFTS_MAX` are dropped."""
        key = secrets.token_urlsafe(COOKIE_BYTES)
        self._forms[key] = form
        for old in list(self._forms)[:-DRAFTS_MAX]:
            self.drop(old)
        return key

    def find(self, key: str) -> Draft | None:
        """Return the form with a key; None if it was sent or dropped."""
        return self._forms.get(key)

    def drop(self, key: str) -> None:
        """Drop a form that has been sent."""
        self._forms.pop(key, None)


@dataclass
class Session:
    """One signed-in person or program.

    Attributes:
        client: client of the server with the credential of the session.
        csrf_token: value that each form of the session sends.
        started_s: start of the session, on the monotonic clock.
        used_s: latest request; live updates do not count.
        subject: name of the service account or user.
        display_name: its display name.
        permissions: what it may do, as the server said last.
        notice: text for the next page.
        is_person: whether a user has signed in, and not a program with an API key.
        is_by_provider: whether the user has signed in at an identity provider.
    """

    client: Storekeep
    csrf_token: str
    started_s: float
    used_s: float
    subject: str = ""
    display_name: str = ""
    permissions: frozenset[str] = frozenset()
    notice: str = ""
    is_person: bool = False
    is_by_provider: bool = False
    checked_s: float = field(default=-ACCESS_LIFETIME_S)
    drafts: Drafts = field(default_factory=Drafts)
    """Those of the account."""

    def refresh_access(self) -> None:
        """Ask the server who is signed in and with which permissions, at most every 30 s.

        Raises: StorekeepError.
        """
        if time.monotonic() - self.checked_s >= ACCESS_LIFETIME_S:
            self.set_access(self.client.auth.who_am_i())

    def set_access(self, caller: WhoAmIResponse) -> None:
        """Keep who is signed in and with which permissions."""
        self.subject, self.display_name = caller.subject, caller.display_name
        self.permissions = frozenset(caller.permissions)
        self.checked_s = time.monotonic()

    def may(self, permission: str) -> bool:
        """Return whether the session has a permission, such as `orders.write`."""
        return permission in self.permissions

    def take_notice(self) -> str:
        """Return the text for the next page, once."""
        notice, self.notice = self.notice, ""
        return notice


class Sessions:
    """All sessions of a gateway process. Thread-safe.

    Args:
        idle_s: a session ends after this time without a request, in seconds.
        lifetime_s: a session ends after this time in any case, in seconds.
        sessions_max: greatest number of sessions; a further one ends the one that was used least recently. So it is
            for the sessions of one account, of which there are at most a tenth.
    """

    def __init__(
        self,
        *,
        idle_s: float,
        lifetime_s: float,
        sessions_max: int,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._idle_s = idle_s
        self._lifetime_s = lifetime_s
        self._sessions_max = sessions_max
        self._now_s = now_s
        self._lock = threading.Lock()
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._drafts: OrderedDict[str, Drafts] = OrderedDict()
        self._closer = ThreadPoolExecutor(1, thread_name_prefix="ended-session")

    def start(self, client: Storekeep, *, subject: str) -> tuple[str, Session]:
        """Start a session of a service account or user; return the value of its cookie with it."""
        cookie = secrets.token_urlsafe(COOKIE_BYTES)
        now_s = self._now_s()
        token = secrets.token_urlsafe(COOKIE_BYTES)
        session = Session(client, token, started_s=now_s, used_s=now_s, subject=subject)
        session.is_person = subject.startswith("users/")
        with self._lock:
            ended = self._remove_expired(now_s)
            session.drafts = self._take_drafts(subject, now_s)
            own = [key for key, other in self._sessions.items() if other.subject == subject]
            if len(own) >= max(1, self._sessions_max // ACCOUNT_PART):
                ended.append(self._sessions.pop(own[0]))
            while len(self._sessions) >= self._sessions_max:
                ended.append(self._sessions.popitem(last=False)[1])
            self._sessions[_hash(cookie)] = session
        self._close(ended)
        return cookie, session

    def find(self, cookie: str) -> Session | None:
        """Return the session of a cookie, and count the request as its use; None if it has ended."""
        now_s = self._now_s()
        with self._lock:
            ended = self._remove_expired(now_s)
            session = self._sessions.get(_hash(cookie)) if cookie else None
            if session is not None:
                session.used_s = now_s
                self._sessions.move_to_end(_hash(cookie))
        self._close(ended)
        return session

    def peek(self, cookie: str) -> Session | None:
        """Return the session of a cookie, without counting as its use; None if it is over."""
        now_s = self._now_s()
        with self._lock:
            session = self._sessions.get(_hash(cookie)) if cookie else None
            return None if session is None or self._is_over(session, now_s) else session

    def end(self, cookie: str) -> None:
        """End the session of a cookie."""
        with self._lock:
            session = self._sessions.pop(_hash(cookie), None)
        self._close([session] if session else [])

    def _take_drafts(self, subject: str, now_s: float) -> Drafts:
        """Return the drafts of an account for a new session of it. The caller holds the lock."""
        self._drafts[subject] = drafts = self._drafts.pop(subject, None) or Drafts()
        drafts.used_s = now_s
        while len(self._drafts) > self._sessions_max:
            self._drafts.popitem(last=False)
        return drafts

    def forget_drafts(self, subject: str) -> None:
        """Drop the drafts of an account that signs out."""
        with self._lock:
            self._drafts.pop(subject, None)

    def end_all(self, subject: str) -> int:
        """End all sessions of a service account; return their number."""
        with self._lock:
            keys = [key for key, session in self._sessions.items() if session.subject == subject]
            ended = [self._sessions.pop(key) for key in keys]
        self._close(ended)
        return len(ended)

    def count(self) -> int:
        """Return the number of sessions."""
        with self._lock:
            return len(self._sessions)

    def _close(self, sessions: list[Session]) -> None:
        """Close the clients of ended sessions, in a thread of its own. Sessions of users end on the server too."""
        for session in sessions:
            self._closer.submit(_end_on_server, session)

    def close(self) -> None:
        """End the thread, without waiting for it."""
        self._closer.shutdown(wait=False, cancel_futures=True)

    def _remove_expired(self, now_s: float) -> list[Session]:
        """Remove and return the sessions that are over, and remove old drafts. The caller holds the lock."""
        keys = [key for key, session in self._sessions.items() if self._is_over(session, now_s)]
        oldest_s = now_s - DRAFT_LIFETIMES * self._lifetime_s
        while self._drafts and next(iter(self._drafts.values())).used_s < oldest_s:
            self._drafts.popitem(last=False)
        return [self._sessions.pop(key) for key in keys]

    def _is_over(self, session: Session, now_s: float) -> bool:
        return now_s - session.used_s > self._idle_s or now_s - session.started_s > self._lifetime_s


class OneTimeCodes:
    """Codes that each sign in once. Thread-safe.

    Args:
        lifetime_s: how long a code can be used, in seconds.
    """

    def __init__(self, *, lifetime_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._lifetime_s = lifetime_s
        self._now_s = now_s
        self._lock = threading.Lock()
        self._codes: dict[bytes, float] = {}

    def make(self) -> str:
        """Return a new code."""
        code = secrets.token_urlsafe(COOKIE_BYTES)
        with self._lock:
            self._codes[_hash(code)] = self._now_s() + self._lifetime_s
        return code

    def is_valid(self, code: str) -> bool:
        """Return whether a code could be used now."""
        with self._lock:
            return self._codes.get(_hash(code), 0.0) > self._now_s()

    def use(self, code: str) -> bool:
        """Use up a code; return whether it was valid."""
        with self._lock:
            return self._codes.pop(_hash(code), 0.0) > self._now_s()


def is_same(one: str, other: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def _hash(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()


def _end_on_server(session: Session) -> None:
    """End the session of a user on the server, if it can be reached, and close the client."""
    if session.is_person:
        with suppress(StorekeepError):  # it has ended, or ends when its tokens expire
            current = session.client.users.get_own_user(timeout_s=CLOSE_TIMEOUT_S).current_session
            session.client.users.end_own_sessions(current, timeout_s=CLOSE_TIMEOUT_S)
    session.client.close()
