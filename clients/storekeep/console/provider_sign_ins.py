"""Sign-ins by an identity provider: from the button to the return of the person, with the code flow of OpenID Connect.

Each has a state, a PKCE verifier and a nonce of its own, and belongs to the browser that began it. They are not stored,
but derived from the state, the cookie and a key of this process: nobody ends the sign-in of another by beginning many.
The provider takes a code once, and the server an ID token. What a person goes on with is stored, and may be dropped.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storekeep.console.requests import BadRequest

if TYPE_CHECKING:
    from storekeep.console.providers import ProviderClient

COOKIE = "__Host-storekeep-sign-in"
SECRET = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
LIFETIME_S = 600.0
TIME_BYTES, RANDOM_BYTES, MAC_BYTES = 4, 12, 16
"""Parts of a state. Its MAC ties it to the browser."""
CONTINUATIONS_MAX = 1_000
CONTINUATIONS_PER_ADDRESS_MAX = 20
CARRIED_CHARS_MAX = 50_000
"""Longest input of a form that is kept meanwhile; it bounds the memory of what is kept."""
CODE_CHARS_MAX = 4_096
PROBLEMS = {
    "access_denied": "The identity provider refused: you cancelled, or may not use the console.",
    "temporarily_unavailable": "The identity provider is not available now. Try again in a moment.",
    "server_error": "The identity provider has failed. Try again in a moment.",
}
"""Errors of a provider, in words. Its own description is not shown: anybody could write it into a link."""


@dataclass(frozen=True)
class Continuation:
    """What a person goes on with after a sign-in.

    Attributes:
        previous: cookie of the session that the browser has. The provider leads back without it: it is SameSite=Strict.
        next_path, resume, carried: where the person wanted to go, and the input to go on with; see `console.sign_ins`.
        address: address of the client, for the limit.
        start_s: when the sign-in began, on the monotonic clock.
    """

    previous: str = ""
    next_path: str = ""
    resume: str = ""
    carried: Mapping[str, Sequence[str]] = field(default_factory=dict)
    address: str = ""
    start_s: float = 0.0


@dataclass(frozen=True)
class PendingSignIn:
    """A sign-in that was begun.

    Attributes:
        verifier: the PKCE verifier.
        nonce_secret: the text whose SHA-256 is the nonce.
        continuation: what the person goes on with; empty if it was dropped.
    """

    verifier: str
    nonce_secret: str
    continuation: Continuation


class ProviderSignIns:
    """Sign-ins by one provider. Thread-safe.

    Args:
        provider: speaks with the provider.
    """

    def __init__(self, provider: ProviderClient, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self.provider = provider
        self._now_s = now_s
        self._lock = threading.Lock()
        self._start_s = now_s()
        self._key = secrets.token_bytes(32)
        self._continuations: OrderedDict[str, Continuation] = OrderedDict()

    def begin(
        self,
        cookie: str,
        *,
        address: str,
        previous: str,
        next_path: str,
        resume: str,
        carried: Mapping[str, Sequence[str]],
    ) -> tuple[str, str]:
        """Begin a sign-in.

        Args:
            cookie: the cookie of an earlier one of the same browser; empty without one.
            previous: the cookie of the session that the browser has; empty without one.

        Returns: where to send the person, and the value of the cookie.

        Raises: BadRequest.
        """
        if sum(len(value) for values in carried.values() for value in values) > CARRIED_CHARS_MAX:
            raise BadRequest("Your input is too long to be kept meanwhile. Sign in in another tab, then send it again.")
        browser = cookie if SECRET.fullmatch(cookie) else secrets.token_urlsafe(32)
        now_s = self._now_s()
        head = int(now_s - self._start_s).to_bytes(TIME_BYTES) + secrets.token_bytes(RANDOM_BYTES)
        state = _encode(head + self._derive("state", browser, head)[:MAC_BYTES])
        nonce = _encode(hashlib.sha256(self._derive_text("nonce", browser, head).encode()).digest())
        url = self.provider.make_url(state=state, verifier=self._derive_text("verifier", browser, head), nonce=nonce)
        with self._lock:
            self._drop(address)
            self._continuations[state] = Continuation(previous, next_path, resume, carried, address, now_s)
        return url, browser

    def _derive(self, purpose: str, browser: str, head: bytes) -> bytes:
        """Return a secret of a sign-in, 32 bytes, which only this process can compute."""
        return hmac.digest(self._key, f"{purpose} {browser} ".encode() + head, "sha256")

    def _derive_text(self, purpose: str, browser: str, head: bytes) -> str:
        return _encode(self._derive(purpose, browser, head))

    def _drop(self, address: str) -> None:
        """Drop what is kept too long, and the oldest of this address or of all if there are too many."""
        before_s = self._now_s() - LIFETIME_S
        while self._continuations and next(iter(self._continuations.values())).start_s < before_s:
            self._continuations.popitem(last=False)
        own = [state for state, continuation in self._continuations.items() if continuation.address == address]
        if len(own) >= CONTINUATIONS_PER_ADDRESS_MAX:
            del self._continuations[own[0]]
        if len(self._continuations) >= CONTINUATIONS_MAX:
            self._continuations.popitem(last=False)

    def take(self, state: str, cookie: str) -> PendingSignIn:
        """Return a sign-in that this browser began, and forget what the person goes on with.

        Raises: BadRequest.
        """
        head = self._read_state(state, cookie)
        with self._lock:
            continuation = self._continuations.pop(state, None) or Continuation()
        return PendingSignIn(
            self._derive_text("verifier", cookie, head), self._derive_text("nonce", cookie, head), continuation
        )

    def _read_state(self, state: str, cookie: str) -> bytes:
        """Return the time and the random bytes of a state that this process made for this browser.

        Raises: BadRequest.
        """
        if SECRET.fullmatch(state) and SECRET.fullmatch(cookie):
            content = base64.urlsafe_b64decode(f"{state}=")
            head, mac = content[:-MAC_BYTES], content[-MAC_BYTES:]
            age_s = self._now_s() - self._start_s - int.from_bytes(head[:TIME_BYTES])
            is_own = hmac.compare_digest(mac, self._derive("state", cookie, head)[:MAC_BYTES])
            if is_own and state == _encode(content) and age_s <= LIFETIME_S:
                return head
        raise BadRequest("This sign-in was not begun in this browser, or is too old. Sign in again.")

    def redeem(self, pending: PendingSignIn, parameters: Mapping[str, str]) -> str:
        """Return the ID token of a person who came back.

        Args:
            parameters: the query of the address to which the provider has sent the person.

        Raises: BadRequest.
        """
        self.provider.check_issuer(parameters)
        code, error = parameters.get("code", ""), parameters.get("error", "")
        if error or not code:
            raise BadRequest(PROBLEMS.get(error, "The identity provider refused the sign-in. Ask an administrator."))
        if len(code) > CODE_CHARS_MAX:
            raise BadRequest("The code of the identity provider is too long.")
        return self.provider.redeem(code, verifier=pending.verifier)


def make_provider_cookie(value: str, *, lifetime_s: float) -> tuple[bytes, bytes]:
    """Return the header that ties a sign-in to a browser. It is sent when the provider leads back here: Lax."""
    attributes = f"Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={round(lifetime_s)}"
    return b"set-cookie", f"{COOKIE}={value}; {attributes}".encode()


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
