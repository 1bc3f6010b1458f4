"""A visitor of the console without a browser: keeps the cookie, reads the forms of a page and sends them."""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from urllib.parse import urlencode

from storekeep.client import ApiKey, Role, ServiceAccount, Storekeep
from tests.support.gateways import GatewayProcess
from tests.support.shops import new_id

TIMEOUT_S = 60.0


@dataclass
class Form:
    """A form of a page, with the values that it would send."""

    action: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    button: str = ""


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self._area = ""
        self._select = ""
        self._chosen = False
        self._in_button = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.tags.append((tag, values))
        form = self.forms[-1] if self.forms else None
        if tag == "form":
            self.forms.append(Form(values.get("action", ""), values.get("method", "get")))
        elif tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "input" and form and values.get("name") and values.get("type") != "checkbox":
            form.fields.append((values["name"], values.get("value", "")))
        elif tag == "textarea" and form:
            self._area = values.get("name", "")
            form.fields.append((self._area, ""))
        elif tag == "select" and form:
            self._select, self._chosen = values.get("name", ""), False
        elif tag == "option" and form and self._select and (not self._chosen or "selected" in values):
            if self._chosen:
                form.fields.pop()
            form.fields.append((self._select, values.get("value", "")))
            self._chosen = True
        elif tag == "button":
            self._in_button = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._area = ""
        if tag == "select":
            self._select = ""
        if tag == "button":
            self._in_button = False

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._area and self.forms:
            name, value = self.forms[-1].fields[-1]
            self.forms[-1].fields[-1] = (name, value + data)
        if self._in_button and self.forms:
            self.forms[-1].button = data.strip()


class Page:
    """A page as it was received."""

    def __init__(self, status: int, headers: dict[str, str], body: str) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        parser = _Parser()
        parser.feed(body)
        self.forms, self.links, self.tags = parser.forms, parser.links, parser.tags
        self.text = " ".join("".join(parser.text).split())

    def form(self, action: str, *, button: str = "") -> Form:
        """Return the form with this action, and this text of its button if there are several."""
        found = [form for form in self.forms if form.action == action and (not button or form.button == button)]
        assert found, f"no form for {action} in {[(form.action, form.button) for form in self.forms]}"
        return found[0]


class Visitor:
    """A visitor with one cookie.

    Args:
        address: host and port of the gateway.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.cookie = ""

    @property
    def origin(self) -> str:
        """The origin of the console."""
        return f"http://{self.address[0]}:{self.address[1]}"

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> Page:
        """Send a request; do not follow a redirect. `set_cookie` of the reply is kept."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            sent.setdefault("cookie", self.cookie)
        connection = http.client.HTTPConnection(*self.address, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body or None, sent)
            reply = connection.getresponse()
            text = reply.read().decode()
        finally:
            connection.close()
        found = {name.lower(): value for name, value in reply.getheaders()}
        if "set-cookie" in found:
            self.cookie = found["set-cookie"].partition(";")[0]
        return Page(reply.status, found, text)

    def get(self, path: str, *, follow: bool = True) -> Page:
        """Load a page, and follow redirects."""
        page = self.send("GET", path)
        while follow and page.status == 303:
            page = self.send("GET", page.headers["location"])
        return page

    def post(self, path: str, fields: list[tuple[str, str]] | dict[str, str], *, follow: bool = True) -> Page:
        """Send fields to a path, and follow the redirect."""
        body = urlencode(fields).encode()
        kind = "application/x-www-form-urlencoded"
        page = self.send("POST", path, body, content_type=kind, origin=self.origin)
        return self.get(page.headers["location"]) if follow and page.status == 303 else page

    def submit(self, form: Form, *, follow: bool = True, **values: str) -> Page:
        """Fill in a form and send it. `quantity__1` is the field `quantity.1`."""
        changed = {name.replace("__", "."): value for name, value in values.items()}
        fields = [(name, changed.get(name, value)) for name, value in form.fields]
        return self.post(form.action, fields, follow=follow)

    def submit_with(self, form: Form, **fields: str) -> Page:
        """Send a form with further fields."""
        return self.post(form.action, [*form.fields, *fields.items()])

    def sign_in(self, api_key: str, *, path: str = "/sign-in") -> Page:
        """Sign in with an API key."""
        return self.submit(self.get(path).form("/sign-in"), api_key=api_key)


def get_wrong(page: Page) -> dict[str, str]:
    """Return what stands beside inputs that are wrong, by their name."""
    found = re.findall(r'<span class="wrong" id="wrong-([^"]+)">(.*?)</span>', page.body, re.DOTALL)
    return {name: unescape(text) for name, text in found}


def sign_in(gateway: GatewayProcess, client: Storekeep, *permissions: str) -> Visitor:
    """Return a visitor with some permissions."""
    role = client.auth.create_role(Role(display_name="role", permissions=permissions), role_id=new_id("role"))
    account = client.auth.create_service_account(ServiceAccount(display_name="Account", roles=[role.name]))
    visitor = Visitor(gateway.address)
    visitor.sign_in(client.auth.create_api_key(account.name, ApiKey(display_name="console")).secret)
    return visitor
