"""The pages of the console: their addresses come from its routes, and what they show is made here, one of each.

A new page is visited without a word about it here, unless it shows a resource that `make_one_of_each` does not make.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from google.protobuf.message import Message

from storekeep.client import (
    Address,
    ApiKey,
    Category,
    Coupon,
    Customer,
    CustomerAddress,
    Location,
    Order,
    PlaceOrderLine,
    Price,
    Product,
    Promotion,
    PromotionAction,
    Quote,
    Role,
    ServiceAccount,
    ShippingMethod,
    ShippingPrice,
    Storekeep,
    TaxArea,
    TaxComponent,
    TaxRate,
    TaxZone,
    User,
    Variant,
    WebhookEndpoint,
    to_money,
)
from storekeep.console.imports import ImportFiles
from storekeep.console.routes import build_routes
from tests.support.shops import new_id

DOWNLOADS = "/export/"
"""Where files begin that are no pages."""
PARAMETER = re.compile(r"\{\w+\}")


def list_patterns() -> list[str]:
    """Return the patterns of all pages, such as `/orders/{order}`, in alphabetical order."""
    files = ImportFiles(report_error=lambda _, error: None)
    patterns = {route.pattern for route in build_routes(files) if route.method == "GET"}
    files.close()
    return sorted(pattern for pattern in patterns if not pattern.startswith(DOWNLOADS))


def index_names(names: Iterable[str]) -> dict[str, str]:
    """Return the last segment of each resource name by the path before it: `{"/orders": "123"}`."""
    return {f"/{before}": last for before, _, last in (name.rpartition("/") for name in names)}


def fill_pattern(pattern: str, ids: dict[str, str]) -> str:
    """Return a path of a pattern.

    Args:
        ids: segment that replaces a parameter, by the path before it.

    Raises: LookupError if a page shows a resource of which there is none.
    """
    path = ""
    for segment in pattern.strip("/").split("/"):
        if PARAMETER.fullmatch(segment) and path not in ids:
            raise LookupError(
                f"{pattern}: let `make_one_of_each` make something below {path}, so that it can be visited"
            )
        path += "/" + (ids[path] if PARAMETER.fullmatch(segment) else segment)
    return path


def make_one_of_each(client: Storekeep, text: str) -> dict[str, str]:
    """Create a resource of each kind that the console shows.

    Args:
        text: stands in each field for a text of a person.

    Returns: ids for `fill_pattern`.
    """
    suffix = new_id("x")
    category = client.categories.create(Category(display_name=text, description=text))
    client.categories.create(Category(display_name=text, parent_category=category.name))
    product = client.products.create(Product(display_name=text, description=text, category=category.name))
    variant = client.variants.create(
        product.name, Variant(sku=new_id("SKU").upper(), display_name=text, prices=[_euros("10")])
    )
    level = client.inventory.adjust_stock(f"locations/main/stockLevels/{variant.sku}", quantity_delta=20, reason=text)
    customer = client.customers.create(
        Customer(
            display_name=text,
            email=f"{suffix}@example.com",
            company=text[:50],
            labels={"note": text[:60]},
            addresses=[CustomerAddress(label="home", address=_build_address(text))],
        )
    )
    order = place_order(client, customer, variant.sku, text)
    below = client.categories.create(Category(display_name=text, parent_category=category.name))
    location = client.inventory.create_location(
        Location(display_name=text, labels={text[:60]: text}), location_id=new_id("x")
    )
    role = client.auth.create_role(Role(display_name=text), role_id=new_id("x"))
    made: list[Message] = [category, below, product, variant, level, customer, order, location, role]
    made += _make_offers(client, customer.name, variant.sku, text)
    made.append(client.inventory.reserve_stock([(variant.sku, 1)], reference=text[:60]))
    user = client.users.create_user(
        User(display_name=text, email=f"{''.join(filter(str.isalpha, suffix))}@example.com", roles=["roles/viewer"])
    )
    account = client.auth.create_service_account(
        ServiceAccount(display_name=text, roles=["roles/viewer"]), service_account_id=suffix
    )
    client.auth.create_api_key(account.name, ApiKey(display_name=text))
    made += [user, *_make_places(client, text)]
    entry = next(iter(client.audit.list(filter=f'resource = "{order.name}"')))
    named = index_names(one.name for one in [*made, entry])  # type: ignore[attr-defined]
    named |= {"/access": suffix, "/audit": named["/auditEntries"]}
    return named | {"/stock": "main", "/stock/main": variant.sku}


def _make_places(client: Storekeep, text: str) -> list[Message]:
    """Create a location, a role, and a webhook endpoint with a delivery."""
    suffix, labels = new_id("x"), {text[:60]: text}
    endpoint = client.webhooks.create(
        WebhookEndpoint(
            display_name=text, url="https://hooks.example.com/orders", event_types=["order.placed"], labels=labels
        )
    ).webhook_endpoint
    return [
        client.inventory.create_location(Location(display_name=text, labels=labels), location_id=suffix),
        client.auth.create_role(Role(display_name=text, permissions=["orders.read"]), role_id=suffix),
        endpoint,
        client.webhooks.test(endpoint.name),
    ]


def place_order(client: Storekeep, customer: Customer, sku: str, text: str) -> Order:
    """Place an order, confirm it, ship one of its units, write a note on it and hold it, each with this text."""
    order = client.orders.place(
        customer=customer.name,
        lines=[(sku, 2)],
        currency_code="EUR",
        note=text,
        external_reference=text[:60],
        shipping_address=_build_address(text),
    )
    client.orders.confirm(order.name)
    shipped = client.fulfillments.create(order.name, units={1: 1})
    client.fulfillments.ship(shipped.name, carrier=text[:60], tracking_number="AT3499")
    client.fulfillments.create(order.name, units={1: 1})
    client.orders.add_note(order.name, text)
    return client.orders.hold(order.name, reason=text)


def _make_offers(client: Storekeep, customer: str, sku: str, text: str) -> list[Message]:
    """Create a resource of each kind of pricing, and a quote."""
    suffix = new_id("x")
    action = PromotionAction(kind="PROMOTION_ACTION_KIND_PERCENTAGE", percentage_ppm=150_000)  # type: ignore[arg-type]
    action.items.skus.append(sku)
    promotion = client.promotions.create(Promotion(display_name=text, requires_coupon=True, action=action))
    zone = client.tax_zones.create(
        TaxZone(display_name=text, areas=[TaxArea(region_code="AQ", administrative_area=suffix)])
    )
    component = TaxComponent(display_name=text, rate_ppm=200_000)
    parcel = ShippingMethod(display_name=text, prices=[ShippingPrice(amount=_euros("4.20"))])
    lines = [PlaceOrderLine(sku=sku, quantity=2)]
    return [
        promotion,
        client.coupons.create(Coupon(promotion=promotion.name, max_uses=100), coupon_id=f"SPRING-{suffix}"),
        client.prices.create(Price(sku=sku, amount=_euros("4.20"), customer_group="wholesale", minimum_quantity=10)),
        zone,
        client.tax_rates.create(TaxRate(display_name=text, tax_zone=zone.name, components=[component])),
        client.shipping_methods.create(parcel),
        client.quotes.create(
            Quote(
                customer=customer,
                currency_code="EUR",
                lines=lines,
                note=text,
                shipping_address=_build_address(text),
            )
        ),
    ]


def _euros(amount: str) -> Message:
    return to_money(amount, currency_code="EUR")


def _build_address(text: str) -> Address:
    return Address(recipient=text, address_lines=[text], locality=text[:60], region_code="AT")
