"""Sign-in, sessions and their ends."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from storekeep.client import ApiKey, ServiceAccount, Storekeep
from tests.support.gateways import GatewayProcess
from tests.support.processes import ServerProcess
from tests.support.shops import new_id
from tests.support.visitors import Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")


def test_sign_in_with_an_api_key_shows_the_first_page(gateway: GatewayProcess, visitor: Visitor):
    page = visitor.sign_in(gateway.api_key)
    assert page.status == 200
    assert "Dashboard" in page.text
    assert gateway.api_key not in page.body


def test_cookie_is_secure_http_only_and_strict(gateway: GatewayProcess, visitor: Visitor):
    form = visitor.get("/sign-in").form("/sign-in")
    reply = visitor.submit(form, follow=False, api_key=gateway.api_key)
    name, *attributes = reply.headers["set-cookie"].split("; ")
    assert name.startswith("__Host-storekeep=")
    assert set(attributes) == {"Path=/", "Secure", "HttpOnly", "SameSite=Strict"}


@pytest.mark.parametrize("key", ["", "sk_wrong", "sk_" + "a" * 500, "\x00", "ключ", "a b"])
def test_wrong_key_is_refused_in_words(visitor: Visitor, key: str):
    page = visitor.sign_in(key)
    assert page.status in (400, 401, 403, 429, 502)
    assert visitor.cookie == ""
    assert visitor.get("/orders").text.startswith("Sign in")


def test_wrong_key_is_not_a_failure_of_the_gateway(gateway: GatewayProcess, visitor: Visitor):
    page = visitor.sign_in(gateway.api_key[:-6] + "aaaaaa")
    assert page.status == 401  # a balancer would take a gateway with many 5xx away
    assert "API_KEY_INVALID" in page.text


def test_page_without_a_session_leads_back_to_it_after_sign_in(gateway: GatewayProcess, visitor: Visitor):
    page = visitor.get("/orders?state=PLACED")
    assert page.text.startswith("Sign in")
    page = visitor.submit(page.form("/sign-in"), api_key=gateway.api_key)
    assert "Orders" in page.text
    assert 'value="PLACED" selected' in page.body


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "/\r\nx: y", "//"]
)
def test_sign_in_never_redirects_to_another_site(gateway: GatewayProcess, visitor: Visitor, target: str):
    fields = {"api_key": gateway.api_key, "next": target}
    assert visitor.post("/sign-in", fields, follow=False).headers["location"] == "/"


def test_session_name_of_before_sign_in_is_not_kept(gateway: GatewayProcess, visitor: Visitor):
    visitor.cookie = "__Host-storekeep=chosen-by-an-attacker"
    visitor.sign_in(gateway.api_key)
    assert "chosen-by-an-attacker" not in visitor.cookie


@pytest.mark.parametrize("other", ['a="b; c={"x":1}', "a]b=1", "=", "x", 'q="'])
def test_cookie_of_another_site_of_the_domain_does_not_sign_out(gateway: GatewayProcess, visitor: Visitor, other: str):
    visitor.sign_in(gateway.api_key)
    visitor.cookie = f"{other}; {visitor.cookie}"
    assert not visitor.get("/products").text.startswith("Sign in")


def test_link_signs_in_once(gateway: GatewayProcess, visitor: Visitor):
    code = re.search(r"/sign-in\?code=(\S+)", gateway.log())
    assert code is not None
    path = f"/sign-in?code={code[1]}"
    page = visitor.get(path)  # a preview of the link does not use it up
    page = visitor.get(path)
    assert "Dashboard" in visitor.submit(page.form("/sign-in")).text
    other = Visitor(gateway.address)
    assert "has been used or has expired" in other.get(path).text
    assert "has been used or has expired" in other.post("/sign-in", {"code": code[1]}).text
    assert other.cookie == ""


def test_sign_out_ends_the_session(gateway: GatewayProcess, visitor: Visitor):
    visitor.sign_in(gateway.api_key)
    cookie = visitor.cookie
    page = visitor.submit(visitor.get("/").form("/sign-out"))
    assert page.text.startswith("Sign in")
    visitor.cookie = cookie
    assert visitor.get("/").text.startswith("Sign in")


def test_sign_out_everywhere_ends_all_sessions_of_the_account(gateway: GatewayProcess, visitor: Visitor):
    other = Visitor(gateway.address)
    other.sign_in(gateway.api_key)
    visitor.sign_in(gateway.api_key)
    form = visitor.get("/").form("/sign-out")
    visitor.post(form.action, [*form.fields, ("everywhere", "yes")])
    assert other.get("/products").text.startswith("Sign in")


def test_revoked_key_ends_the_session_and_keeps_the_input(gateway: GatewayProcess, visitor: Visitor, client: Storekeep):
    account = client.auth.create_service_account(
        ServiceAccount(display_name="clerk", roles=["roles/admin"]), service_account_id=new_id("clerk")
    )
    key = client.auth.create_api_key(account.name, ApiKey(display_name="console"))
    visitor.sign_in(key.secret)
    form = visitor.get("/products/new").form("/products/new")
    client.auth.revoke_api_key(key.api_key.name)
    for _ in range(200):  # within five seconds
        page = visitor.submit(
            form, display_name="Kept input", product_id=new_id("kept"), description="typed for an hour"
        )
        if "Your session has ended" in page.text:
            break
    assert page.status == 401
    page = visitor.submit(page.form("/sign-in"), api_key=gateway.api_key)
    assert "typed for an hour" in page.text
    page = visitor.submit(page.form("/products/new"))
    assert "Kept input" in page.text
    assert "has been created" in page.text


def test_session_ends_after_its_idle_time(server: ServerProcess, tmp_path: Path):
    gateway = GatewayProcess(
        tmp_path, server_address=server.address, api_key=server.admin_key, console_idle_timeout_s="0.2"
    )
    visitor = Visitor(gateway.address)
    visitor.sign_in(server.admin_key)
    for _ in range(100):
        if visitor.get("/products").text.startswith("Sign in"):
            break
        time.sleep(0.3)
    assert visitor.get("/products").text.startswith("Sign in")
    gateway.stop()


def test_console_that_is_off_has_no_pages(server: ServerProcess, tmp_path: Path):
    gateway = GatewayProcess(tmp_path, server_address=server.address, api_key=server.admin_key, console="off")
    assert gateway.send("GET", "/sign-in").status == 404
    gateway.stop()


def test_wrong_keys_slow_down_their_address_only(server: ServerProcess, tmp_path: Path):
    gateway = GatewayProcess(
        tmp_path,
        server_address=server.address,
        api_key=server.admin_key,
        failed_credentials_burst="3",
        failed_credentials_per_s="0.01",
        trusted_proxies="127.0.0.1",
    )
    visitor = Visitor(gateway.address)
    body = b"api_key=sk_wrong"
    kind = "application/x-www-form-urlencoded"
    statuses = [
        visitor.send("POST", "/sign-in", body, content_type=kind, x_forwarded_for="192.0.2.7").status for _ in range(8)
    ]
    assert statuses[-1] == 429
    assert "Dashboard" in Visitor(gateway.address).sign_in(server.admin_key).text
    gateway.stop()
