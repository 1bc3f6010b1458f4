"""Attacks on the console: scripts in stored texts, foreign forms, frames, missing rights, broken requests."""

from __future__ import annotations

import pytest

from storekeep.client import ApiKey, Customer, Role, ServiceAccount, Storekeep
from tests.support.console_pages import fill_pattern, list_patterns, make_one_of_each
from tests.support.gateways import GatewayProcess
from tests.support.shops import Shop, new_id
from tests.support.uploads import send_file
from tests.support.visitors import Page, Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
SCRIPT = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{7007*7007}}"
FORM = "application/x-www-form-urlencoded"


def check_harmless(body: str) -> None:
    """Assert that the stored text is text: no element and no attribute came of it."""
    assert "<script>alert" not in body
    assert "<img src=x" not in body
    assert str(7007 * 7007) not in body


def check_no_inline_code(page: Page) -> None:
    """Assert that a page has no script and no style of its own."""
    for tag, attributes in page.tags:
        assert tag != "style"
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        assert tag != "script" or attributes["src"].startswith("/static/")


@pytest.fixture(scope="module")
def ids(client: Storekeep) -> dict[str, str]:
    """Make a resource of each kind, with the script in each of its texts."""
    return make_one_of_each(client, SCRIPT)


@pytest.mark.parametrize("pattern", list_patterns())
def test_stored_texts_never_become_markup(admin: Visitor, ids: dict[str, str], pattern: str):
    if "{file}" in pattern:
        forms = send_file(admin, "products", f"code,title\nTEA,{SCRIPT}\n".encode()).forms
        ids["/import"] = next(form.action for form in forms if form.action.startswith("/import/")).rpartition("/")[2]
    path = fill_pattern(pattern, ids)
    page = admin.get(path)
    assert page.status == 200, (path, page.text[:200])
    check_harmless(page.body)
    check_no_inline_code(page)


@pytest.mark.parametrize(
    "query", ["/orders?q=", "/products?q=", "/orders?sku=", "/orders?page=", "/orders?filter=", "/sign-in?next=/"]
)
def test_texts_in_the_address_never_become_markup(admin: Visitor, query: str):
    page = admin.get(query + "%22%27%3E%3Cscript%3Ealert(1)%3C/script%3E%3Cimg%20src=x%20onerror=alert(2)%3E")
    check_harmless(page.body)


def test_every_page_has_a_strict_policy(admin: Visitor):
    for path in ("/", "/orders", "/sign-in", "/orders/none", "/static/none"):
        headers = admin.get(path).headers
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_form_of_another_site_is_refused(admin: Visitor, client: Storekeep, headers: dict[str, str]):
    customer = client.customers.create(Customer(display_name="Ada"))
    fields = dict(admin.get(f"/{customer.name}").form(f"/{customer.name}").fields) | {"display_name": "Eve"}
    body = "&".join(f"{name}={value}" for name, value in fields.items()).encode()
    page = admin.send("POST", f"/{customer.name}", body, content_type=FORM, **headers)
    assert page.status == 403
    assert client.customers.get(customer.name).display_name == "Ada"


def test_form_without_its_token_changes_nothing(admin: Visitor, client: Storekeep):
    customer = client.customers.create(Customer(display_name="Ada"))
    fields = dict(admin.get(f"/{customer.name}").form(f"/{customer.name}").fields)
    for token in ("", "wrong", "x" * 10_000, "ключ"):
        page = admin.post(f"/{customer.name}", fields | {"csrf_token": token, "display_name": "Eve"})
        assert "Nothing has been changed yet" in page.text
    assert client.customers.get(customer.name).display_name == "Ada"


def test_token_of_another_session_changes_nothing(gateway: GatewayProcess, admin: Visitor, client: Storekeep):
    other = Visitor(gateway.address)
    other.sign_in(gateway.api_key)
    customer = client.customers.create(Customer(display_name="Ada"))
    fields = dict(other.get(f"/{customer.name}").form(f"/{customer.name}").fields) | {"display_name": "Eve"}
    assert "Nothing has been changed yet" in admin.post(f"/{customer.name}", fields).text
    assert client.customers.get(customer.name).display_name == "Ada"


def test_get_changes_nothing(admin: Visitor, client: Storekeep, shop: Shop):
    variant = shop.variant()
    shop.adjust(variant.sku, 2)
    order = client.orders.place(customer=shop.customer().name, lines=[(variant.sku, 1)], currency_code="EUR")
    for step in ("confirm", "cancel", "hold", "notes", "fulfillments"):
        refused = admin.get(f"/{order.name}/{step}")
        assert (refused.status, refused.headers["allow"]) == (405, "POST")
    assert client.orders.get(order.name).etag == order.etag


def test_method_that_a_page_does_not_have_is_told_the_others(admin: Visitor):
    for method, path, allowed in (
        ("PUT", "/orders", "GET, HEAD"),
        ("DELETE", "/customers/new", "GET, HEAD, POST"),
        ("OPTIONS", "/sign-in", "GET, HEAD, POST"),
        ("POST", "/orders", "GET, HEAD"),
    ):
        refused = admin.send(method, path, origin=admin.origin)
        assert (refused.status, refused.headers.get("allow")) == (405, allowed), (method, path)
    assert admin.get("/orders", follow=False).headers.get("allow") is None


@pytest.fixture
def reader(gateway: GatewayProcess, client: Storekeep) -> Visitor:
    """Return a visitor who may read orders and nothing else."""
    role = client.auth.create_role(Role(display_name="reader", permissions=["orders.read"]), role_id=new_id("reader"))
    account = client.auth.create_service_account(
        ServiceAccount(display_name="Reader", roles=[role.name]), service_account_id=new_id("reader")
    )
    visitor = Visitor(gateway.address)
    visitor.sign_in(client.auth.create_api_key(account.name, ApiKey(display_name="console")).secret)
    return visitor


def test_what_a_caller_may_not_do_is_not_offered_and_refused(reader: Visitor, client: Storekeep, shop: Shop):
    variant = shop.variant()
    shop.adjust(variant.sku, 2)
    order = client.orders.place(customer=shop.customer().name, lines=[(variant.sku, 1)], currency_code="EUR")
    page = reader.get("/")
    assert "/orders" in page.links
    assert not {"/customers", "/stock", "/audit", "/access"} & set(page.links)
    page = reader.get(f"/{order.name}")
    assert [form.action for form in page.forms if form.method == "post"] == ["/sign-out"]
    token = dict(page.form("/sign-out").fields)
    for path in ("/customers", "/stock", "/audit", "/access", "/products", "/webhookEndpoints", "/reservations"):
        assert reader.get(path).status == 403
    for path in (f"/{order.name}/confirm", f"/{order.name}/cancel", "/orders/new", "/products/new"):
        assert reader.post(path, token).status == 403
    assert client.orders.get(order.name).etag == order.etag


@pytest.mark.parametrize(
    ("method", "path", "body", "kind"),
    [
        ("POST", "/orders/new", b"\xff\xfe=1", FORM),
        ("POST", "/orders/new", b"a=1&" * 5_000, FORM),
        ("POST", "/orders/new", b"{}", "application/json"),
        ("POST", "/orders/new", b"x", "multipart/form-data; boundary=x"),
        ("PUT", "/orders/new", b"", FORM),
        ("DELETE", "/orders", b"", FORM),
        ("GET", "/orders/%00", b"", FORM),
        ("GET", "/orders/%ff%fe", b"", FORM),
        ("GET", "/orders/..%2f..%2fetc%2fpasswd", b"", FORM),
        ("GET", "/static/..%2fapp.py", b"", FORM),
        ("GET", "/static/../app.py", b"", FORM),
        ("GET", "/orders?" + "a=1&" * 1_900, b"", FORM),
        ("GET", "/stock/main/" + "x" * 3_000, b"", FORM),
    ],
)
def test_broken_request_is_refused(admin: Visitor, method: str, path: str, body: bytes, kind: str):
    page = admin.send(method, path, body, content_type=kind)
    assert 200 <= page.status < 500, page.text[:300]
    assert "Traceback" not in page.body


@pytest.mark.parametrize("path", ["/nope", "/v1/nope"])
@pytest.mark.parametrize("accept", ["accept: text/css\r\naccept: */*", "accept: \xff", "accept: text/css"])
def test_address_that_is_none_is_told_whatever_the_caller_accepts(gateway: GatewayProcess, path: str, accept: str):
    reply = gateway.send_raw(f"GET {path} HTTP/1.1\r\nhost: x\r\n{accept}\r\n\r\n".encode("latin-1"))
    assert (reply.status, reply.json["error"]["code"]) == (404, 404), reply


def test_line_that_is_no_number_is_refused(admin: Visitor, client: Storekeep, shop: Shop):
    variant = shop.variant()
    shop.adjust(variant.sku, 2)
    order = client.orders.place(customer=shop.customer().name, lines=[(variant.sku, 1)], currency_code="EUR")
    client.orders.confirm(order.name)
    form = admin.get(f"/{order.name}").form(f"/{order.name}/fulfillments")
    for line in ("x", "9" * 5_000, ""):
        page = admin.post(form.action, dict(form.fields) | {f"units.{line}": "1"})
        assert page.status == 400, line[:10]
    assert not client.fulfillments.list(order.name).page().items


@pytest.mark.parametrize(
    "cookie", ["", "a", "__Host-storekeep=", '__Host-storekeep="', "__Host-storekeep=" + "x" * 9_000, "\x7f=;;;"]
)
def test_broken_cookie_is_no_session(visitor: Visitor, cookie: str):
    page = visitor.send("GET", "/orders", cookie=cookie)
    assert page.status in (303, 400, 431)


def test_cookie_never_authorizes_the_api(admin: Visitor):
    assert admin.send("GET", "/v1/orders").status == 401
