"""Callers who take what others need: threads, sessions; and a server that does not answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest

from storekeep.client import Storekeep, TokenSet
from storekeep.client.error_families import ServerUnreachable
from storekeep.console import app, sessions
from storekeep.console.app import FORM_BYTES_MAX, SIGN_IN_THREADS, SIGN_INS_WAITING_MAX, THREADS, Console, parse_form
from storekeep.console.requests import BadRequest
from storekeep.console.sessions import OneTimeCodes, Sessions
from storekeep.console.sign_ins import COOKIE, SignIns

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
NOWHERE = "127.0.0.1:1"
FORM = {"content-type": "application/x-www-form-urlencoded"}
MULTIPART = "multipart/form-data; boundary=x"
MIB = 1024 * 1024
FORM_TIME_S_MAX = 0.2
"""Processor time to parse any form, four times that of the slowest one."""


def build_part(head: bytes, content: bytes = b"v") -> bytes:
    """Return a part of a form with the boundary `x`."""
    return b"--x\r\n" + HEAD + head + b"\r\n\r\n" + content + b"\r\n"


HEAD = b'Content-Disposition: form-data; name="a"'
COSTLY_FORMS = {
    "large": (FORM["content-type"], b"a=" + b"%41" * (MIB // 3)),
    "escapes": (FORM["content-type"], b"a=" + b"%41" * (FORM_BYTES_MAX // 3 - 1)),
    "percent signs": (FORM["content-type"], b"%" * FORM_BYTES_MAX),
    "letters and escapes": (FORM["content-type"], "%41ä".encode() * (FORM_BYTES_MAX // 5)),
    "separators": (FORM["content-type"], b"&" * FORM_BYTES_MAX),
    "fields": (FORM["content-type"], (b"a=" + b"%41" * 86 + b"&") * 1_990),
    "quotes": (MULTIPART, build_part(b';"' * 950) * 540 + b"--x--"),
    "lines": (MULTIPART, build_part(b"\r\nX: y" * 300) * 540 + b"--x--"),
    "parts": (MULTIPART, build_part(b"") * (MIB // 60) + b"--x--"),
    "boundaries": (MULTIPART, b"\r\n--" * (MIB // 4)),
    "near boundaries": ("multipart/form-data; boundary=" + "-" * 70, (b"\r\n" + b"-" * 71 + b"x") * (MIB // 74)),
    "content type": ('multipart/form-data;a="' + ";" * 22_000 + '"; boundary=x', b"--x--"),
    "digits": ("multipart/form-data; boundary*" + "9" * 5_000 + "=x", b"--x--"),
}


class NoLimits:
    """Admits all sign-ins, as those of many addresses are."""

    def admit(self, address: str, credential: str) -> bool:
        """Admit it, and do not count it."""
        return False

    def record(self, address: str, credential: str, reason: str, *, counted: bool) -> None:
        """Record nothing."""


def make_client() -> Storekeep:
    """Return a client whose server does not answer."""
    return Storekeep(NOWHERE, api_key="sk_any", timeout_s=0.2)


class Slow:
    """A console whose sign-ins wait until they are released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.sessions = Sessions(idle_s=60, lifetime_s=60, sessions_max=20)
        sign_ins = SignIns(
            open_client=self._open,
            sessions=self.sessions,
            codes=OneTimeCodes(lifetime_s=60),
            read_key=str,
            provider=None,
        )
        self.console = Console(
            limits=NoLimits(), sessions=self.sessions, sign_ins=sign_ins, report_error=lambda _what, _error: None
        )

    def _open(self, key: str, _tokens: TokenSet | None = None) -> Storekeep:
        if not key:  # the client for sign-ins with a password
            return make_client()
        self.released.wait(60)
        raise ServerUnreachable("the server does not answer")

    async def send(self, method: str, path: str, fields: dict[str, str], **headers: str) -> int:
        """Send a request, and return the status."""
        return await self.send_body(method, path, urlencode(fields).encode(), FORM | headers)

    async def send_body(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> int:
        """Send a request with a body, and return the status."""

        async def read_body() -> bytes:
            return body

        reply = await self.console.answer(method, path.encode(), b"", headers, read_body=read_body, address="192.0.2.1")
        return reply[0]


@pytest.fixture
def slow() -> Iterator[Slow]:
    """Make a slow console."""
    made = Slow()
    yield made
    made.released.set()
    made.console.close()


def test_waiting_sign_ins_leave_the_threads_to_pages(slow: Slow) -> None:
    most = SIGN_IN_THREADS + SIGN_INS_WAITING_MAX

    async def attack() -> tuple[int, list[int], list[int]]:
        waiting = [asyncio.create_task(slow.send("POST", "/sign-in", {"api_key": f"sk_{i}"})) for i in range(most)]
        await asyncio.sleep(0)
        refused = await slow.send("POST", "/sign-in", {"api_key": "sk_one_more"})
        pages = [await slow.send("GET", "/sign-in", {}) for _ in range(2 * THREADS)]
        slow.released.set()
        return refused, pages, await asyncio.gather(*waiting)

    refused, pages, answers = asyncio.run(attack())
    assert refused == 503
    assert set(pages) == {200}
    assert set(answers) == {502}


def test_page_says_that_the_server_does_not_answer(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "ACCESS_LIFETIME_S", 0.0)
    cookie, _ = slow.sessions.start(make_client(), subject="serviceAccounts/ada")
    for method in ("GET", "POST"):
        assert asyncio.run(slow.send(method, "/orders/new", {}, cookie=f"{COOKIE}={cookie}")) == 502


def test_account_that_signs_in_again_and_again_ends_its_own_sessions_only(slow: Slow) -> None:
    ada, _ = slow.sessions.start(make_client(), subject="serviceAccounts/ada")
    cookies = [slow.sessions.start(make_client(), subject="serviceAccounts/eve")[0] for _ in range(30)]
    assert slow.sessions.find(ada) is not None
    assert [cookie for cookie in cookies if slow.sessions.find(cookie)] == cookies[-2:]


@pytest.mark.parametrize("name", COSTLY_FORMS)
def test_form_takes_little_time_whatever_is_in_it(name: str) -> None:
    content_type, body = COSTLY_FORMS[name]
    began_s = time.thread_time()
    with suppress(BadRequest):
        parse_form({"content-type": content_type}, body)
    assert time.thread_time() - began_s < FORM_TIME_S_MAX


@pytest.mark.parametrize("path", ["/sign-in", "/sign-in/provider", "/password", "/import", "/orders/new", "/sign-out"])
def test_no_form_is_parsed_in_the_event_loop(slow: Slow, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    threads: list[threading.Thread] = []
    parse = app.parse_form

    def note_thread(headers: Mapping[str, str], body: bytes) -> Any:
        threads.append(threading.current_thread())
        return parse(headers, body)

    monkeypatch.setattr(app, "parse_form", note_thread)
    asyncio.run(slow.send("POST", path, {"email": "ada@example.com"}))
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_form_of_a_page_that_does_not_exist_is_not_parsed(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "parse_form", lambda _headers, _body: pytest.fail("it was parsed"))
    assert asyncio.run(slow.send("POST", "/no-such-page", {})) == 404


@pytest.mark.parametrize("path", ["/sign-in", "/orders/new"])
@pytest.mark.parametrize("name", COSTLY_FORMS)
def test_costly_form_of_nobody_is_answered(slow: Slow, path: str, name: str) -> None:
    content_type, body = COSTLY_FORMS[name]
    assert asyncio.run(slow.send_body("POST", path, body, {"content-type": content_type})) in (400, 401, 413)
