"""Templates of the console: the Jinja environment, and how amounts, times, states and names look."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from babel import Locale, UnknownLocaleError
from babel.dates import format_skeleton
from babel.numbers import format_currency, format_decimal, format_percent
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from markupsafe import Markup, escape

from storekeep.client import Address, to_decimal, to_money
from storekeep.console.spellings import MULTILINE, parse_time
from storekeep.console.static import get_path
from storekeep.v1 import inventory_pb2, orders_pb2, pricing_pb2, products_pb2, quotes_pb2, webhooks_pb2

TEMPLATES = files(__package__ or "storekeep.console") / "templates"
DEFAULT_LOCALE = "en"
QUALITY = re.compile(r"q=([01](?:\.[0-9]{0,3})?)")
"""The weight of a language in a header."""
ROW = re.compile(r"\[([0-9]+)\]")
"""Index of a list in a path."""
ACRONYMS = {"sku", "url", "id"}
ADDRESS_WORDS = {
    "address_lines": "Street",
    "locality": "City",
    "administrative_area": "State or province",
    "region_code": "Country code",
}
GOOD, WAITING, BAD, NEUTRAL = "good", "waiting", "bad", "neutral"
TONES = {
    "PLACED": WAITING,
    "CONFIRMED": GOOD,
    "PARTIALLY_FULFILLED": WAITING,
    "FULFILLED": GOOD,
    "COMPLETED": NEUTRAL,
    "CANCELLED": BAD,
    "EXPIRED": BAD,
    "PENDING": WAITING,
    "SHIPPED": GOOD,
    "DELIVERED": GOOD,
    "RESTOCKED": NEUTRAL,
    "ACTIVE": GOOD,
    "ARCHIVED": NEUTRAL,
    "DRAFT": WAITING,
    "ENABLED": GOOD,
    "INVITED": WAITING,
    "PAUSED": WAITING,
    "DISABLED": BAD,
    "FAILED": BAD,
    "RELEASED": NEUTRAL,
    "COMMITTED": GOOD,
    "ENDED": NEUTRAL,
    "SENT": WAITING,
    "ACCEPTED": GOOD,
    "DELETED": BAD,
}
"""Meaning of each state: it decides the colour of its badge, which also names it."""
ENUMS: Mapping[str, Any] = {
    "OrderState": orders_pb2.OrderState,
    "FulfillmentState": orders_pb2.FulfillmentState,
    "ProductState": products_pb2.ProductState,
    "VariantState": products_pb2.VariantState,
    "ReservationState": inventory_pb2.ReservationState,
    "StockMovementCause": inventory_pb2.StockMovementCause,
    "StockDifferenceKind": inventory_pb2.StockDifferenceKind,
    "PromotionState": pricing_pb2.PromotionState,
    "CouponProblem": orders_pb2.CouponProblem,
    "QuoteState": quotes_pb2.QuoteState,
    "CategoryState": products_pb2.CategoryState,
    "WebhookEndpointState": webhooks_pb2.WebhookEndpointState,
    "WebhookDeliveryState": webhooks_pb2.WebhookDeliveryState,
}
PAGES: Mapping[str, str] = {
    "orders": "orders.read",
    "quotes": "orders.read",
    "products": "products.read",
    "categories": "products.read",
    "stock": "stock.read",
    "locations": "stock.read",
    "reservations": "reservations.read",
    "customers": "customers.read",
    "promotions": "pricing.read",
    "prices": "pricing.read",
    "taxZones": "pricing.read",
    "taxRates": "pricing.read",
    "shippingMethods": "pricing.read",
    "coupons": "coupons.read",
    "webhookEndpoints": "webhooks.read",
    "users": "accounts.read",
    "access": "accounts.read",
    "roles": "accounts.read",
}
"""Collections whose resources have a page at their own name, with the permission that the page needs."""
PATHS = {"serviceAccounts": "access"}
"""First segments of paths that are not the collection."""
INNER_PAGES = {("products", "variants"), ("webhookEndpoints", "deliveries")}
"""Collections within others whose resources have a page at their own name."""


def get_state(value: int, enum: str) -> str:
    """Return a state without the prefix of its type: `PLACED`."""
    name: str = ENUMS[enum].Name(value)
    prefix = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in enum).lstrip("_")
    return name.removeprefix(f"{prefix}_")


def format_words(state: str) -> str:
    """Return a constant or a field of the contract as words: `Partially fulfilled`, `SKU`."""
    words = state.replace("_", " ").lower().split(" ")
    text = " ".join(word.upper() if word in ACRONYMS else word for word in words)
    return text[:1].upper() + text[1:]


def format_path(path: str) -> str:
    """Return a path in a request, whose lists count from 0, as words: `Lines 1, sku`."""
    numbered = ROW.sub(lambda match: f" {int(match[1]) + 1}", path)
    text = numbered.replace(".", ", ").replace("_", " ")
    return text[:1].upper() + text[1:]


def format_input(name: str) -> str:
    """Return the name of an input of a form as words: `Units 1`, `Address, region code`."""
    parts = re.sub(r"\.([0-9]+)$", r" \1", name).split(".")
    return ", ".join(ADDRESS_WORDS.get(part, format_words(part)) for part in parts)


def format_change(path: str) -> str:
    """Return a field of the history of an order, whose lines have their number, as words: `Line 1, open units`."""
    head, _, last = path.rpartition(".")
    words = "units" if last == "quantity" else format_words(last).replace(" quantity", " units")
    row = ROW.search(head)
    return f"Line {row[1]}, {words if words.isupper() else words.lower()}" if row else format_path(path)


def format_method(method: str) -> str:
    """Return a method of the contract as words: `Place order` for `/storekeep.v1.OrderService/PlaceOrder`."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", method.rpartition("/")[2])
    return words.capitalize().replace("fulfillment", "fulfilment")


def format_commands(text: str) -> Markup:
    """Return a text whose commands stand in backticks."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(one) if at % 2 else one for at, one in enumerate(parts))


def format_delta(units: int, locale: str) -> str:
    """Return a change of a number with its sign, as the locale writes it: `+1,204`; empty for none."""
    sign = "+" if units > 0 else "\N{MINUS SIGN}"
    return f"{sign}{format_count(abs(units), locale)}" if units else ""


def format_badge(state: str) -> Markup:
    """Return a badge for a state."""
    tone = TONES.get(state, NEUTRAL)
    return Markup('<span class="badge badge-{}">{}</span>').format(tone, format_words(state))


def format_money(money: Money, locale: str) -> str:
    """Return an amount with its currency, as the locale writes it."""
    amount = to_decimal(money)
    if not money.currency_code:
        return format_decimal(amount, locale=locale)
    return format_currency(amount, money.currency_code, locale=locale)


def format_count(number: int, locale: str, *, noun: str = "") -> str:
    """Return a whole number, as the locale writes it: `12,345`; with a noun, so many of them: `1 unit`, `2 units`."""
    text: str = format_decimal(number, locale=locale)
    if not noun:
        return text
    plural = re.sub("(?<![aeiou])y$", "ie", noun) + "s"
    return f"{text} {noun if number == 1 else plural}"


def format_day(day: date, locale: str) -> str:
    """Return a day without its year, as the locale writes it: `Nov 30`."""
    return format_skeleton("MMMd", day, locale=locale)


def add_amounts(amounts: Sequence[Money]) -> Money:
    """Return the sum of amounts in one currency; an amount that is not set counts as 0."""
    code = next((amount.currency_code for amount in amounts if amount.currency_code), "")
    return to_money(sum((to_decimal(amount) for amount in amounts), Decimal()), currency_code=code)


def format_share(ppm: int, locale: str) -> str:
    """Return a share in parts per million as a percentage, as the locale writes it: `8.875%`."""
    return format_percent(Decimal(ppm) / 1_000_000, locale=locale, decimal_quantization=False)


def format_time(time: Timestamp, *, with_seconds: bool = False) -> Markup:
    """Return a time in UTC. The script of the page shows it in the browser's time zone, with UTC as the title."""
    if not time.seconds and not time.nanos:
        return Markup("&ndash;")
    moment = time.ToDatetime(tzinfo=UTC)
    return format_moment(moment, with_seconds=with_seconds)


def format_moment(moment: datetime, *, with_seconds: bool = False) -> Markup:
    """Return a time in UTC, marked for the script."""
    text = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S" if with_seconds else "%Y-%m-%d %H:%M")
    machine = moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    seconds = Markup(" data-seconds") if with_seconds else ""
    return Markup('<time datetime="{0}" title="{1} UTC"{2}>{1} UTC</time>').format(machine, text, seconds)


def format_form_time(text: str) -> Markup | str:
    """Return a time that stands in a form in UTC; what is no time as it is."""
    try:
        return format_time(parse_time(text))
    except ValueError:
        return text


def get_id(name: str) -> str:
    """Return the last segment of a resource name."""
    return name.rpartition("/")[2]


def may_open(path: str, may: Callable[[str], bool]) -> bool:
    """Return whether somebody may open the page of a resource or of a collection.

    Args:
        may: return whether they have a permission.
    """
    permission = PAGES.get(path.split("/")[1])
    return permission is None or may(permission)


def build_link(name: str, text: str = "", *, may: Callable[[str], bool]) -> Markup:
    """Return a link to the page of a resource; its text alone if it has no page, or somebody may not open it."""
    path = find_page(name, may=may)
    return Markup('<a href="{}">{}</a>').format(path, text or name) if path else escape(text or name)


def find_page(name: str, *, may: Callable[[str], bool]) -> str:
    """Return the path of the page of a resource; empty if it has none, or somebody may not open it."""
    path = get_resource_path(name)
    return path if path and may_open(path, may) else ""


def get_resource_path(name: str) -> str:
    """Return the path of the page of a resource, or of the one that it is in; empty if there is none."""
    collection, _, rest = name.partition("/")
    collection = PATHS.get(collection, collection)
    if collection == "locations" and "/stockLevels/" in name:
        return build_level_path(name)
    if collection not in PAGES:
        return ""
    parts = rest.split("/")
    has_page = len(parts) > 2 and (collection, parts[1]) in INNER_PAGES
    return "/" + quote("/".join([collection, *parts[: 3 if has_page else 1]]))


def build_level_path(name: str) -> str:
    """Return the path of the page of a stock level."""
    _, location, _, sku = name.split("/", 3)
    return f"/stock/{quote(location, safe='')}/{quote(sku, safe='')}"


def format_address(address: Address) -> Markup:
    """Return a postal address on several lines."""
    place = " ".join(part for part in (address.postal_code, address.locality) if part)
    lines = [address.recipient, address.organization, *address.address_lines, place]
    lines += [address.administrative_area, address.region_code, address.phone]
    return Markup("<address>{}</address>").format(Markup("<br>").join(line for line in lines if line))


def build_query(current: Mapping[str, str], **changes: str | None) -> str:
    """Return a query string with some parameters changed; None or empty text removes one."""
    merged = {**current, **changes}
    return "?" + urlencode({name: value for name, value in merged.items() if value})


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """Return the leaves of nested data by their path: `shippingAddress.regionCode`."""
    if isinstance(value, Message):
        value = MessageToDict(value)
    if isinstance(value, Mapping):
        items: Iterable[tuple[str, Any]] = (
            (f"{prefix}.{key}" if prefix else str(key), item) for key, item in value.items()
        )
    elif isinstance(value, list | tuple):
        items = ((f"{prefix}[{index}]", item) for index, item in enumerate(value))
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
        return {prefix: text}
    return {path: leaf for name, item in items for path, leaf in flatten(item, name).items()}


def compare(before: Any, after: Any) -> list[tuple[str, str, str]]:
    """Return (path, before, after) of each leaf that differs."""
    old, new = flatten(before), flatten(after)
    paths = [*old, *(path for path in new if path not in old)]
    return [(path, old.get(path, ""), new.get(path, "")) for path in paths if old.get(path) != new.get(path)]


def choose_locale(accept_language: str) -> str:
    """Return the language of the header that the person likes best (RFC 9110, 12.5.4) and Babel knows, else English."""
    weights: dict[str, float] = {}
    for part in accept_language[:200].split(","):
        tag, _, parameter = part.partition(";")
        weight = QUALITY.fullmatch(parameter.replace(" ", "")) if parameter else None
        if not parameter or weight:
            weights.setdefault(tag.strip().replace("-", "_"), float(weight[1]) if weight else 1.0)
    tags = sorted((tag for tag in weights if weights[tag] > 0), key=lambda tag: -weights[tag])
    return next((tag for tag in tags if tag and _is_known(tag)), DEFAULT_LOCALE)


@lru_cache(maxsize=256)
def _is_known(tag: str) -> bool:
    try:
        Locale.parse(tag)
    except (UnknownLocaleError, ValueError, TypeError):
        return False
    return True


@lru_cache(maxsize=1)
def get_environment() -> jinja2.Environment:
    """Return the environment. All templates are escaped, and a name that does not exist is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(TEMPLATES)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(badge=format_badge, words=format_words, time=format_time, id=get_id, state=get_state)
    environment.filters.update(form_time=format_form_time, moment=format_moment, change=format_change)
    environment.filters.update(method=format_method, commands=format_commands)
    environment.globals.update(
        add=add_amounts,
        address=format_address,
        level_path=build_level_path,
        static=get_path,
        query=build_query,
        new_request_id=lambda: str(uuid.uuid4()),
        refresh_s=0,
        multiline=MULTILINE,
        Decimal=Decimal,
        to_decimal=to_decimal,
    )
    return environment


def render(template: str, **values: Any) -> bytes:
    """Return a page."""
    return get_environment().get_template(template).render(**values).encode()
