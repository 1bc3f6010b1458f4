"""What a page gets and what it returns: `Request`, `Reply`, and the routes as data."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from markupsafe import Markup

from storekeep.client import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Refused,
    StorekeepError,
    WriteOptions,
)
from storekeep.client.error_families import ServerError
from storekeep.console.rendering import (
    DEFAULT_LOCALE,
    ROW,
    build_link,
    format_count,
    format_delta,
    format_money,
    format_path,
    format_share,
    may_open,
    render,
)
from storekeep.console.sessions import Session
from storekeep.console.uploads import Upload

Header = tuple[bytes, bytes]
HTML: Header = (b"content-type", b"text/html; charset=utf-8")
SEE_OTHER = 303
BATCH_ITEM = re.compile(r"^requests\[[0-9]+\]: ")
"""What the message of an error begins with that is about one item of a batch."""
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")
NO_WORD = re.compile(r"\S*[/@_0-9]")
"""A first word that is a resource name, an email address or a SKU: it is written as it is, also in a sentence."""


@dataclass(frozen=True)
class NavigationEntry:
    """A page in the navigation, and the permissions of which any shows it; none: everybody sees it."""

    path: str
    label: str
    permissions: tuple[str, ...]
    key: str
    """The second key of its shortcut, after `g`."""
    tabs: tuple[tuple[str, str], ...] = ()
    """Paths and labels of the pages of its section."""


NAVIGATION = (
    NavigationEntry("/", "Dashboard", (), "h"),
    NavigationEntry("/orders", "Orders", ("orders.read",), "o"),
    NavigationEntry("/quotes", "Quotes", ("orders.read",), "q"),
    NavigationEntry(
        "/products",
        "Products",
        ("products.read",),
        "p",
        (("/products", "Products"), ("/categories", "Categories")),
    ),
    NavigationEntry(
        "/promotions",
        "Promotions",
        ("pricing.read",),
        "m",
        (("/promotions", "Promotions"), ("/coupons", "Coupons"), ("/prices", "Prices")),
    ),
    NavigationEntry(
        "/taxZones",
        "Tax, shipping",
        ("pricing.read",),
        "t",
        (("/taxZones", "Tax zones"), ("/taxRates", "Tax rates"), ("/shippingMethods", "Shipping methods")),
    ),
    NavigationEntry(
        "/stock",
        "Stock",
        ("stock.read",),
        "s",
        (("/stock", "Levels"), ("/locations", "Locations")),
    ),
    NavigationEntry("/reservations", "Reservations", ("reservations.read",), "r"),
    NavigationEntry("/customers", "Customers", ("customers.read",), "c"),
    NavigationEntry(
        "/import",
        "Import",
        ("products.write", "pricing.write", "coupons.write", "customers.write", "stock.write"),
        "i",
    ),
    NavigationEntry("/feed", "Live feed", ("events.read",), "l"),
    NavigationEntry("/webhookEndpoints", "Webhooks", ("webhooks.read",), "w"),
    NavigationEntry("/audit", "Audit log", ("audit.read",), "a"),
    NavigationEntry("/users", "Users", ("accounts.read",), "u"),
    NavigationEntry("/access", "Access", ("accounts.read",), "k"),
)

COMPLETIONS: Mapping[str, str] = {
    "skus": "products.read",
    "products": "products.read",
    "customers": "customers.read",
    "categories": "products.read",
    "locations": "stock.read",
}
"""What fields offer while a person types, and the permission that it needs. Without it, they are plain fields."""
REASON_FIELDS: Mapping[str, tuple[str, ...]] = {
    "CATEGORY_CYCLE": ("parent_category",),
    "CATEGORY_NOT_FOUND": ("parent_category", "category"),
    "CUSTOMER_NOT_FOUND": ("customer",),
    "UNKNOWN_PERMISSION": ("scopes",),
    "PRIVILEGE_ESCALATION": ("scopes",),
    "LOCATION_NOT_FOUND": ("location",),
    "ALREADY_EXISTS": ("resource_id", "account_id", "product_id", "customer_id", "sku"),
    "COUNT_BELOW_COMMITTED": ("units",),
    "PROMOTION_NOT_FOUND": ("promotion",),
    "SHIPPING_METHOD_NOT_FOUND": ("shipping_method",),
}
"""Reasons of errors that are about one field, and the names that it has in forms."""


def find_section(section: str) -> NavigationEntry | None:
    """Return the entry of the navigation to which a first segment of a path belongs."""
    fitting = (entry for entry in NAVIGATION if section in (entry.path, *(path for path, _ in entry.tabs)))
    return next(fitting, None)


@dataclass(frozen=True)
class Reply:
    """A reply: status, headers besides those of every page, and body."""

    status: int
    body: bytes = b""
    headers: Sequence[Header] = (HTML,)


class BadRequest(Exception):
    """The request itself is wrong. The text is for the person."""

    def __init__(self, message: str, *, status: int = 400, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.by_field: dict[str, str] = {field: message} if field else {}
        """What is wrong with fields of the form, by their name."""


class Faults:
    """Collects what is wrong with the fields of a form, so that the person sees all of it at once."""

    def __init__(self) -> None:
        self._found: list[BadRequest] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keep an error about a field until `check`; raise any other one."""
        try:
            yield
        except BadRequest as error:
            if type(error) is not BadRequest or not error.by_field:
                raise
            self._found.append(error)

    def check(self) -> None:
        """Refuse the form if something was wrong. Raises: BadRequest."""
        if self._found:
            error = BadRequest(" ".join(one.message for one in self._found), status=self._found[0].status)
            error.by_field = {name: text for one in self._found for name, text in one.by_field.items()}
            raise error


@dataclass(frozen=True)
class Inputs:
    """The inputs of a form, to show an error beside the one that it is about.

    Attributes:
        labels: label of each input, by its name.
        paths: name of the input that has a field of the server's request, by its path: `lines[0].quantity`.
        skus: names of the inputs that have a SKU and its units, by the SKU.
        lines: name of the input that has the units of a line of an order, by the number of the line.
    """

    labels: Mapping[str, str]
    paths: Mapping[str, str] = field(default_factory=dict)
    skus: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    lines: Mapping[int, str] = field(default_factory=dict)


NO_INPUTS = Inputs({})


def parse_number(text: str, *, label: str, field: str = "") -> int:
    """Return a whole number of a field of the form.

    Raises: BadRequest.
    """
    if not WHOLE_NUMBER.fullmatch(text):
        raise BadRequest(f"{label}: enter a whole number, such as 12.", field=field)
    return int(text)


class Query(dict[str, str]):
    """Query parameters; a missing one is empty."""

    def __missing__(self, name: str) -> str:
        return ""


@dataclass
class Request:
    """A request of a page.

    Attributes:
        path: the path, percent-encoded.
        parameters: the variable segments of the path.
        query: the query parameters; of a repeated one the last.
        form: the posted fields.
        locale: locale of amounts, numbers and days.
        problem: the error of a change, for the page that shows it with the input.
        origin: the origin of the console, as the browser states it with a form; empty if it does not.
        files: the posted files.
    """

    method: str
    path: str
    parameters: Mapping[str, str]
    query: Query
    form: Mapping[str, Sequence[str]]
    session: Session
    locale: str
    problem: StorekeepError | BadRequest | None = None
    origin: str = ""
    files: Mapping[str, Upload] = field(default_factory=dict)

    def field(self, name: str, default: str = "") -> str:
        """Return a posted field without surrounding space."""
        values = self.form.get(name)
        return values[-1].strip() if values else default

    def number(self, name: str, *, label: str) -> int:
        """Return a posted whole number.

        Raises: BadRequest.
        """
        return parse_number(self.field(name), label=label, field=name)

    def write_options(self) -> WriteOptions:
        """Return the options of a change. A form sent twice has one effect: it has a request id of its own.

        Raises: BadRequest.
        """
        request_id = self.field("request_id")
        try:
            return WriteOptions(request_id=str(uuid.UUID(request_id)))
        except ValueError:
            raise BadRequest("The form is not complete. Load the page again.") from None

    def link(self, name: str, text: str = "") -> Markup:
        """Return a link to the page of a resource, if the person may open it; else its text."""
        return build_link(name, text, may=self.session.may)

    def count(self, number: int, noun: str = "") -> str:
        """Return a whole number, as the locale writes it; with a noun, so many of them: `1 unit`, `2 units`."""
        return format_count(number, self.locale, noun=noun)

    def page(
        self, template: str, *, title: str, status: int = 200, inputs: Inputs | None = None, **values: Any
    ) -> Reply:
        """Return a page with the navigation around it.

        Args:
            inputs: the inputs of the form that was sent; default: `fields`.
        """
        if self.problem is not None:
            status = find_status(self.problem)
        inputs = inputs or Inputs({item.name: item.label for item, _ in values.get("fields", ())})
        section = find_section("/" + self.path.split("/")[1])
        body = render(
            template,
            title=title,
            request=self,
            session=self.session,
            can=self.session.may,
            navigation=[
                entry for entry in NAVIGATION if not entry.permissions or any(map(self.session.may, entry.permissions))
            ],
            section=section,
            completions=COMPLETIONS,
            notice=self.session.take_notice(),
            problem=describe_problem(self.problem, inputs, locale=self.locale),
            tabs=[tab for tab in section.tabs if may_open(tab[0], self.session.may)] if section else (),
            link=self.link,
            share=lambda ppm: format_share(ppm, self.locale),
            money=lambda amount: format_money(amount, self.locale),
            count=self.count,
            delta=lambda units: format_delta(units, self.locale),
            **values,
        )
        return Reply(status, body)

    def done(self, path: str, notice: str) -> Reply:
        """Return to a page after a change, and say there what was done."""
        self.session.notice = notice
        return redirect(path)


@dataclass(frozen=True)
class Problem:
    """An error as a page shows it.

    Attributes:
        by_field: what is wrong with fields of the form, by their name; it stands beside them.
    """

    message: str
    details: Sequence[str] = ()
    reason: str = ""
    request_id: str = ""
    by_field: Mapping[str, str] = field(default_factory=dict)


def describe_problem(
    error: StorekeepError | BadRequest | None, inputs: Inputs = NO_INPUTS, *, locale: str = DEFAULT_LOCALE
) -> Problem | None:
    """Return an error in words, each once.

    Args:
        inputs: the inputs of the form. Without paths, their names are paths in the resource.
        locale: locale of the numbers of units.
    """
    if error is None:
        return None
    labels = inputs.labels
    message = _capitalize(BATCH_ITEM.sub("", error.message))
    if isinstance(error, BadRequest) and error.by_field and labels.keys() >= error.by_field.keys():
        texts = {name: _capitalize(text.removeprefix(f"{labels[name]}: ")) for name, text in error.by_field.items()}
        return Problem(_say_what_to_correct(texts, labels), by_field=texts)
    if not isinstance(error, Refused):
        return Problem(message)
    by_field, details = _sort_problems(error, inputs, locale)
    if not error.fields:
        by_field |= {name: message for name in REASON_FIELDS.get(error.reason, ()) if name in labels}
    if by_field:
        message = _say_what_to_correct(by_field, labels)
    elif len(details) == 1 and error.fields and error.fields[0].description in error.message:
        message = details.pop()
    return Problem(message, details, error.reason, error.request_id, by_field)


def _capitalize(text: str) -> str:
    """Return a text as a sentence begins. A first word that is no word, such as a resource name, stays as it is."""
    return text if NO_WORD.match(text) else text[:1].upper() + text[1:]


def _sort_problems(error: Refused, inputs: Inputs, locale: str) -> tuple[dict[str, str], list[str]]:
    """Return what is wrong with inputs, by their name, and what is wrong besides."""
    found: list[tuple[str, str, str]] = []
    for item in error.fields:
        name = _find_input(item.field, inputs.paths) or _find_field(item.field, inputs.labels)
        row = ROW.search(item.field)
        is_of_list = row and name and name not in inputs.paths.values()
        text = f"line {int(row[1]) + 1}: {item.description}" if row and is_of_list else item.description
        found.append((name, text, f"{format_path(item.field)}: {text}"))
    for short in getattr(error, "shortages", ()):
        requested, available = format_count(short.requested, locale), format_count(short.available, locale)
        text = f"{requested} requested, {available} available"
        found.append((inputs.skus.get(short.sku, ("", ""))[1], text, f"{short.sku}: {text}"))
    by_field: dict[str, str] = {}
    if not error.fields:
        by_field |= _find_rows(error, inputs)
    details = [detail for name, _, detail in found if not name]
    for name, text, _ in found:
        if name:
            by_field[name] = f"{by_field[name]}; {text}" if name in by_field else _capitalize(text)
    return by_field, details


def _find_rows(error: Refused, inputs: Inputs) -> dict[str, str]:
    """Return the input of the SKU, or of the line of an order, that an error is about, with its text."""
    message = _capitalize(BATCH_ITEM.sub("", error.message))
    sku, line = error.metadata.get("sku", ""), error.metadata.get("line_number", "")
    if sku and sku in inputs.skus:
        return {inputs.skus[sku][0]: message}
    if line.isdecimal() and int(line) in inputs.lines:
        return {inputs.lines[int(line)]: message}
    return {}


def _say_what_to_correct(by_field: Mapping[str, str], labels: Mapping[str, str]) -> str:
    return f"Nothing was saved. Correct {', '.join(label for name, label in labels.items() if name in by_field)}."


def _find_input(path: str, paths: Mapping[str, str]) -> str:
    """Return the input that has the field at a path, or what the field is in; empty if none has."""
    for candidate in (path, path.partition(".")[2]):
        within = [one for one in paths if candidate == one or candidate.startswith((f"{one}.", f"{one}["))]
        if within:
            return paths[max(within, key=len)]
    return ""


def _find_field(path: str, labels: Mapping[str, str]) -> str:
    """Return the field of a form that a path in a request means; empty if there is none."""
    whole = ROW.sub("", path).partition("[")[0]  # what is left in brackets is the key of a map
    for candidate in (whole, whole.partition(".")[2]):
        within = [name for name in labels if f"{candidate}.".startswith(f"{name}.")]
        if within:
            return max(within, key=len)
    inner = whole.partition(".")[2]
    return next((name for name in labels if inner and name.startswith(f"{inner}.")), "")


def find_status(error: Exception) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, BadRequest):
        return error.status
    for kind, status in (
        (NotAuthenticated, 401),
        (NotFound, 404),
        (NotAllowed, 403),
        (Conflict, 409),
        (InvalidRequest, 400),
        (ServerError, 503),
    ):
        if isinstance(error, kind):
            return status
    return 502


def redirect(path: str) -> Reply:
    """Return a redirect to a path of the console, as a GET."""
    return Reply(SEE_OTHER, headers=[(b"location", path.encode())])


def is_own_path(path: str) -> bool:
    """Return whether a text is a path of this site, so that a redirect to it stays here."""
    if not path.startswith("/") or path.startswith("//") or "\\" in path or not path.isascii():
        return False
    parts = urlsplit(path)
    return not parts.scheme and not parts.netloc and path.isprintable()


Handler = Callable[[Request], Reply]


@dataclass(frozen=True)
class Route:
    """A page or a change.

    Attributes:
        pattern: path whose variable segments stand in braces: `/orders/{order}`.
        permission: permission without which it is refused; empty for any signed-in caller.
        fallback: page that shows the error of a change together with the input.
    """

    method: str
    pattern: str
    handler: Handler
    permission: str = ""
    fallback: Handler | None = None

    @property
    def segments(self) -> tuple[str, ...]:
        """The segments of the pattern."""
        return tuple(self.pattern.strip("/").split("/"))


class Router:
    """Finds the route of a path."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [(route, route.segments) for route in routes]
        self.sections = {route.segments[0] for route in routes}

    def find(self, method: str, raw_path: str) -> tuple[Route | None, dict[str, str], set[str]]:
        """Return the route, the variable segments, and the methods that the path has."""
        segments = raw_path.strip("/").split("/")
        methods: set[str] = set()
        for route, pattern in self._routes:
            if len(pattern) != len(segments):
                continue
            parameters: dict[str, str] = {}
            for part, segment in zip(pattern, segments, strict=True):
                if part.startswith("{") and segment:
                    parameters[part.strip("{}")] = unquote(segment)
                elif part != segment:
                    break
            else:
                methods.add(route.method)
                if route.method == method:
                    return route, parameters, methods
        return None, {}, methods


def quote_segment(text: str) -> str:
    """Return a text as one segment of a path."""
    return quote(text, safe="")


def quote_filter(text: str) -> str:
    """Return a text as a string of a filter."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
