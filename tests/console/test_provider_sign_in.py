"""Sign-in to the console by an identity provider, and what attackers try on the way there and back."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import expect

from storekeep.client import Storekeep
from storekeep.console.provider_sign_ins import CONTINUATIONS_MAX, LIFETIME_S, ProviderSignIns
from storekeep.console.requests import BadRequest
from storekeep.server.runtime import base64url
from tests.support.browsers import NEEDS_CHROMIUM, collect_errors, open_window, run_chromium
from tests.support.databases import new_database
from tests.support.gateways import GatewayProcess
from tests.support.mock_providers import BOSS, STAFF, STRANGER, MockProvider
from tests.support.processes import ServerProcess
from tests.support.providers import wait_for_keys
from tests.support.visitors import Page, Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
STATE_COOKIE, COOKIE = "__Host-storekeep-sign-in", "__Host-storekeep"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockProvider]:
    with MockProvider(tmp_path_factory.mktemp("provider")) as started:
        yield started


@pytest.fixture(scope="module")
def server(engine: str, tmp_path_factory: pytest.TempPathFactory, provider: MockProvider) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    database = new_database(engine, folder)
    process = ServerProcess(folder, database=database, **provider.get_server_settings())
    wait_for_keys(process.address)
    yield process
    process.kill()
    database.remove()


@pytest.fixture(scope="module")
def gateway(
    server: ServerProcess, tmp_path_factory: pytest.TempPathFactory, provider: MockProvider
) -> Iterator[GatewayProcess]:
    process = GatewayProcess(
        tmp_path_factory.mktemp("console"),
        server_address=server.address,
        api_key=server.admin_key,
        **provider.get_gateway_settings(),
    )
    yield process
    process.process.kill()


def leave(visitor: Visitor, *, next_path: str = "") -> str:
    """Press the button, and return the address at the provider."""
    page = visitor.get("/sign-in" + (f"?next={quote(next_path, safe='')}" if next_path else ""))
    return find_target(visitor.submit(page.form("/sign-in/provider")))


def find_target(page: Page) -> str:
    """Return where a page leads to at once."""
    assert page.status == 200, page.text
    return next(values["content"] for tag, values in page.tags if values.get("http-equiv")).partition("url=")[2]


@NEEDS_CHROMIUM
def test_person_signs_in_and_out_in_a_browser(gateway: GatewayProcess, provider: MockProvider):
    with run_chromium(f"--host-resolver-rules=MAP 127.0.0.1:80 127.0.0.1:{gateway.address[1]}") as browser:
        # the provider has a certificate of an authority that the browser does not know
        page = open_window(browser, "http://127.0.0.1", ignore_https_errors=True)
        page.route("https://cdn.jsdelivr.net/**", lambda route: route.fulfill(body="", content_type="text/css"))
        errors = collect_errors(page)
        page.goto("/orders?state=PLACED")
        page.get_by_role("button", name="Sign in with Example Works").click()
        page.wait_for_url(f"{provider.issuer}/**")
        page.locator("input[name=sub]").fill(STAFF)
        page.locator("input[name=sub]").press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Orders")
        assert page.url == "http://127.0.0.1/orders?state=PLACED"
        (cookie,) = [one for one in page.context.cookies("http://127.0.0.1/orders") if one["name"] == COOKIE]
        assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
        page.reload()
        page.get_by_role("link", name="Ann Example").click()
        expect(page.get_by_text("You sign in at the identity provider")).to_be_visible()
        page.get_by_role("button", name="Sign out", exact=True).click()
        expect(page.get_by_role("status")).to_contain_text("perhaps not at Example Works")
        page.goto("/orders")
        expect(page.get_by_role("button", name="Sign in with Example Works")).to_be_visible()
        assert errors == []


def find_state(url: str) -> str:
    return parse_qs(urlsplit(url).query)["state"][0]


def enter(visitor: Visitor, provider: MockProvider, subject: str = STAFF, *, next_path: str = "") -> Page:
    """Sign in as a person of the provider, and return the first page."""
    page = visitor.get(provider.sign_in(leave(visitor, next_path=next_path), subject))
    assert visitor.cookie.startswith(f"{COOKIE}="), page.text
    return visitor.get(find_target(page))


def test_person_of_the_provider_signs_in_and_out(visitor: Visitor, provider: MockProvider, server: ServerProcess):
    assert "Sign in with Example Works" in visitor.get("/sign-in").text
    page = enter(visitor, provider, next_path="/orders?state=PLACED")
    assert "Orders" in page.text
    account = visitor.get("/account")
    assert "Ann Example" in account.text
    assert not [form for form in account.forms if form.action == "/account/password"]
    assert "Not possible" in visitor.get("/users").text
    with Storekeep(server.address, api_key=server.admin_key) as client:
        (user,) = [user for user in client.users.list_users() if user.email == "ann@example.com"]
        assert list(user.roles) == ["roles/operator"]
    page = visitor.submit(page.form("/sign-out"))
    assert "perhaps not at Example Works" in page.text
    assert any(link.startswith(f"{provider.issuer}/oauth2/end_session") for link in page.links)
    assert visitor.get("/orders").text.startswith("Sign in")


def test_request_has_state_pkce_and_a_nonce_and_the_cookies_are_strict(visitor: Visitor, provider: MockProvider):
    page = visitor.get("/sign-in")
    reply = visitor.submit(page.form("/sign-in/provider"))
    name, *attributes = reply.headers["set-cookie"].split("; ")
    assert name.startswith(f"{STATE_COOKIE}=")
    assert set(attributes) == {"Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age=600"}
    url = find_target(reply)
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert query["redirect_uri"] == "http://127.0.0.1/sign-in/callback"
    assert query["code_challenge_method"] == "S256"
    assert all(re.fullmatch(r"[\w-]{43}", query[name]) for name in ("state", "nonce", "code_challenge"))
    assert len({query["state"], query["nonce"], query["code_challenge"]}) == 3
    provider.exchanges.clear()
    visitor.get(provider.sign_in(url, STAFF))
    verifier = provider.exchanges[-1]["code_verifier"]
    assert base64url.encode(hashlib.sha256(verifier.encode()).digest()) == query["code_challenge"]


def test_boss_has_the_role_of_the_group(visitor: Visitor, provider: MockProvider):
    enter(visitor, provider, BOSS)
    assert visitor.get("/users").status == 200


def test_person_without_a_role_is_refused_in_words(visitor: Visitor, provider: MockProvider):
    page = visitor.get(provider.sign_in(leave(visitor), STRANGER))
    assert page.status == 403
    assert "None of your groups there has a role here" in page.text or "none of your groups" in page.text
    assert not visitor.cookie.startswith(f"{COOKIE}=")


def test_person_who_cancels_may_try_again(visitor: Visitor, provider: MockProvider):
    state = find_state(leave(visitor))
    text = "you have won, call 555-0100"
    page = visitor.get(f"/sign-in/callback?error=access_denied&error_description={quote(text)}&state={state}")
    assert "you cancelled" in page.text
    assert text not in page.body
    assert page.form("/sign-in/provider")


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_sign_in_by_the_provider_leads_to_no_other_site(visitor: Visitor, provider: MockProvider, target: str):
    page = visitor.get("/sign-in")
    url = find_target(visitor.submit_with(page.form("/sign-in/provider"), next=target))
    assert find_target(visitor.get(provider.sign_in(url, STAFF))) == "/"


def test_code_works_once(visitor: Visitor, provider: MockProvider, gateway: GatewayProcess):
    url = leave(visitor)
    binding = visitor.cookie
    callback = provider.sign_in(url, STAFF)
    assert find_target(visitor.get(callback)) == "/"
    visitor.cookie = binding
    assert "did not accept this sign-in" in visitor.get(callback).text
    assert not visitor.cookie.startswith(f"{COOKIE}=")
    code = parse_qs(urlsplit(callback).query)["code"][0]
    state = find_state(leave(visitor))
    page = visitor.get(f"/sign-in/callback?code={code}&state={state}")
    assert "did not accept this sign-in" in page.text


def test_callback_of_an_attacker_signs_nobody_in(visitor: Visitor, provider: MockProvider, gateway: GatewayProcess):
    attacker = Visitor(gateway.address)
    callback = provider.sign_in(leave(attacker), BOSS)
    for cookie in ("", f"{STATE_COOKIE}=", f"{STATE_COOKIE}={'a' * 43}"):
        visitor.cookie = cookie
        assert "was not begun in this browser" in visitor.get(callback).text
        assert not visitor.cookie.startswith(f"{COOKIE}=")
    leave(visitor)
    assert "was not begun in this browser" in visitor.get(callback).text
    assert find_target(attacker.get(callback)) == "/"  # the attempts have not used it up


def test_code_of_another_sign_in_is_refused_by_its_nonce(
    visitor: Visitor, provider: MockProvider, gateway: GatewayProcess
):
    attacker = Visitor(gateway.address)
    stolen = parse_qs(urlsplit(provider.sign_in(leave(attacker), BOSS)).query)["code"][0]
    page = visitor.get(f"/sign-in/callback?code={stolen}&state={find_state(leave(visitor))}")
    assert "nonce" in page.text
    assert not visitor.cookie.startswith(f"{COOKIE}=")


def test_reply_of_another_provider_is_refused(visitor: Visitor, provider: MockProvider):
    provider.exchanges.clear()
    page = visitor.get(provider.sign_in(leave(visitor), STAFF) + "&iss=https%3A%2F%2Fevil.example")
    assert "another identity provider" in page.text
    assert provider.exchanges == []  # the code goes to nobody


def test_session_of_the_browser_is_replaced(visitor: Visitor, provider: MockProvider, gateway: GatewayProcess):
    visitor.sign_in(gateway.api_key)
    planted = visitor.cookie
    url = leave(visitor)
    assert visitor.cookie.startswith(f"{STATE_COOKIE}=")  # a browser sends no strict cookie on the way back
    visitor.get(provider.sign_in(url, STAFF))
    assert visitor.cookie not in ("", planted)
    assert "Ann Example" in visitor.get("/account").text
    visitor.cookie = planted
    assert visitor.get("/orders").text.startswith("Sign in")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{}", "no ID token"),
        (b"not JSON", "cannot be reached"),
        (b'{"id_token": 1}', "cannot be reached"),
        (b"[" * 100_000, "cannot be reached"),
        (b'{"id_token": "' + b"a" * 300_000 + b'"}', "cannot be reached"),
        (b'{"id_token": "a.b.c"}', "IDENTITY_TOKEN_INVALID"),
        (b'{"id_token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.x"}', "IDENTITY_TOKEN_INVALID"),
    ],
)
def test_bad_reply_of_the_provider_is_an_error_in_words(
    visitor: Visitor, provider: MockProvider, body: bytes, text: str
):
    url = leave(visitor)
    callback = provider.sign_in(url, STAFF)
    provider.replaced["/oauth2/token"] = body
    try:
        page = visitor.get(callback)
    finally:
        provider.replaced.clear()
    assert text in page.text
    assert not visitor.cookie.startswith(f"{COOKIE}=")


def test_input_of_an_ended_session_is_kept(visitor: Visitor, provider: MockProvider):
    enter(visitor, provider)
    visitor.cookie = ""
    page = visitor.post("/products", {"display_name": "Tea <b>", "csrf_token": "x"})
    url = find_target(visitor.submit(page.form("/sign-in/provider")))
    page = visitor.get(provider.sign_in(url, STAFF))
    assert dict(page.form("/products").fields)["display_name"] == "Tea <b>"


class EchoProvider:
    """Makes addresses of what the console sends to a provider."""

    def make_url(self, *, state: str, **_: str) -> str:
        return state


def make_sign_ins(now_s: Callable[[], float] = time.monotonic) -> ProviderSignIns:
    return ProviderSignIns(EchoProvider(), now_s=now_s)  # type: ignore[arg-type]  # it makes addresses


def begin(sign_ins: ProviderSignIns, *, address: str = "person", cookie: str = "", next_path: str = "") -> list[str]:
    options: dict[str, Any] = {"previous": "", "resume": "", "carried": {}}
    return list(sign_ins.begin(cookie, address=address, next_path=next_path, **options))


@pytest.mark.parametrize("address", ["person", "attacker"])
def test_flood_of_begun_sign_ins_ends_no_sign_in_of_another_browser(address: str) -> None:
    sign_ins = make_sign_ins()
    state, cookie = begin(sign_ins, next_path="/orders")
    for _ in range(CONTINUATIONS_MAX + 10):
        begin(sign_ins, address=address)
    pending = sign_ins.take(state, cookie)
    assert len({pending.verifier, pending.nonce_secret, state, cookie}) == 4
    assert pending.continuation.next_path == ("" if address == "person" else "/orders")


def test_sign_ins_of_two_tabs_are_apart() -> None:
    sign_ins = make_sign_ins()
    first, cookie = begin(sign_ins, next_path="/orders")
    second, same = begin(sign_ins, cookie=cookie, next_path="/products")
    assert cookie == same
    pending = [sign_ins.take(state, cookie) for state in (second, first)]
    assert [one.continuation.next_path for one in pending] == ["/products", "/orders"]
    assert pending[0].verifier != pending[1].verifier


def test_state_of_another_process_or_browser_or_an_old_one_is_refused() -> None:
    clock = [1_000_000.5]
    sign_ins = make_sign_ins(lambda: clock[0])
    state, cookie = begin(sign_ins)
    other, other_cookie = begin(make_sign_ins())
    for wrong in (
        (other, other_cookie),
        (state, other_cookie),
        (state, ""),
        (state, f"{cookie}="),
        (f"{state}=", cookie),
        (state[:-2] + ("AA" if state[-2:] != "AA" else "BA"), cookie),
        ("", cookie),
        ("\ud800" * 43, cookie),
        (state, "\ud800" * 43),
    ):
        with pytest.raises(BadRequest, match="not begun in this browser"):
            sign_ins.take(*wrong)
    clock[0] += LIFETIME_S - 1
    assert sign_ins.take(state, cookie)
    clock[0] += 3
    with pytest.raises(BadRequest, match="too old"):
        sign_ins.take(state, cookie)
