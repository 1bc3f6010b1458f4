"""The resources of pricing, so that their standard methods are tested once for each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from storekeep.client import (
    AlreadyExists,
    Category,
    Coupon,
    Price,
    Product,
    Promotion,
    PromotionAction,
    ShippingMethod,
    ShippingPrice,
    SkuTaken,
    Storekeep,
    TaxArea,
    TaxComponent,
    TaxRate,
    TaxZone,
    Variant,
)
from tests.support.shops import money, new_id

VERBS = ("Get", "List", "Create", "Update", "Delete", "Undelete")


@dataclass(frozen=True)
class Kind:
    """A type of resource.

    Attributes:
        attribute: the client's attribute for it.
        field: its field in requests.
        noun: the noun of its events.
        build: builds a valid resource; takes the client to create what it refers to.
        changes: field -> another value, or a function of the resource that makes one, for every field that an update
            can change.
        filter: a filter that finds the changed resource.
        first: the fields to change before the others, which need them.
    """

    attribute: str
    field: str
    noun: str
    build: Callable[[Storekeep], Any]
    changes: dict[str, Any]
    filter: str
    first: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[str, ...]:
        """Return the fields that can be changed, in an order that is always valid."""
        return (*self.first, *(name for name in self.changes if name not in self.first))

    @property
    def rpcs(self) -> set[str]:
        """Return the names of its standard methods."""
        noun = self.field.title().replace("_", "")
        return {f"{verb}{noun}{'s' if verb == 'List' else ''}" for verb in VERBS}

    def __str__(self) -> str:
        """Return the name in test ids."""
        return self.field

    def methods(self, client: Storekeep) -> Any:
        """Return the client's methods for it."""
        return getattr(client, self.attribute)

    def make(self, client: Storekeep, resource_id: str = "", **options: Any) -> Any:
        """Create a resource."""
        ids = {f"{self.field}_id": resource_id or new_id("r")}
        return self.methods(client).create(self.build(client), **ids, **options)

    def change(self, resource: Any) -> Any:
        """Return a copy without an etag, with other values in all fields that can be changed."""
        copy = type(resource)()
        copy.CopyFrom(resource)
        copy.ClearField("etag")
        for name, value in self.changes.items():
            copy.ClearField(name)
            chosen = value(resource) if callable(value) else value
            copy.MergeFrom(type(resource)(**{name: chosen}))
        return copy


def make_zone(client: Storekeep, *areas: TaxArea) -> TaxZone:
    return client.tax_zones.create(TaxZone(areas=areas or [make_area()]), tax_zone_id=new_id("z"))


def make_area() -> TaxArea:
    """Return an area that no other zone has."""
    return TaxArea(region_code="DE", postal_code_prefix=new_id("a"))


def build_promotion(client: Storekeep) -> Promotion:
    """Return a promotion, and create what `SELECTION` names, unless it exists."""
    with suppress(AlreadyExists):
        client.categories.create(Category(display_name="C"), category_id="c")
    with suppress(AlreadyExists):
        client.products.create(Product(display_name="P"), product_id="p")
    for sku in SELECTION["skus"]:
        with suppress(AlreadyExists, SkuTaken):
            client.variants.create("products/p", Variant(sku=sku))
    return TEN_PERCENT


def build_rate(client: Storekeep) -> TaxRate:
    return TaxRate(tax_zone=make_zone(client).name, components=[TaxComponent(display_name="VAT", rate_ppm=190_000)])


def build_price(client: Storekeep) -> Price:
    product = client.products.create(Product(display_name="P"))
    variant = client.variants.create(product.name, Variant(sku=new_id("S"), prices=[money("20")]))
    return Price(sku=variant.sku, amount=money("15"), customer_group="wholesale", minimum_quantity=1)


def build_coupon(client: Storekeep) -> Coupon:
    return Coupon(promotion=client.promotions.create(TEN_PERCENT).name)


TEN_PERCENT = Promotion(action=PromotionAction(kind="PROMOTION_ACTION_KIND_PERCENTAGE", percentage_ppm=100_000))
WINDOW = {"start_time": {"seconds": 1_700_000_000}, "end_time": {"seconds": 1_800_000_000}}
IN_WINDOW = 'start_time < "2024-01-01T00:00:00Z" AND end_time > "2024-01-01T00:00:00Z"'
SELECTION = {"skus": ["A", "B"], "products": ["products/p"], "categories": ["categories/c"], "labels": {"sale": "yes"}}
KINDS = (
    Kind(
        "prices",
        "price",
        "price",
        build_price,
        {
            "amount": money("12.50"),
            "customer_group": "retail",
            "minimum_quantity": 10,
            "compare_at": money("20"),
            "floor": money("8"),
            **WINDOW,
        },
        f"customer_group = retail AND minimum_quantity = 10 AND currency_code = EUR AND {IN_WINDOW}",
    ),
    Kind(
        "promotions",
        "promotion",
        "promotion",
        build_promotion,
        {
            "display_name": "Spring",
            "priority": 7,
            "exclusive": True,
            "requires_coupon": True,
            "currency_code": "EUR",
            "conditions": {
                "min_subtotal": money("50"),
                "items": SELECTION | {"inverted": True},
                "min_units": 2,
                "min_amount": money("20"),
                "customer_groups": ["retail", "wholesale"],
                "first_order": True,
            },
            "action": {
                "kind": "PROMOTION_ACTION_KIND_AMOUNT",
                "amount": money("5"),
                "target": "PROMOTION_TARGET_ORDER",
                "items": SELECTION,
                "tiers": [
                    {"amount": money("8"), "min_amount": money("100")},
                    {"amount": money("9"), "min_amount": money("100"), "min_units": 5},
                ],
                "max_units": 9,
                "max_discount": money("10"),
            },
            "max_uses": 100,
            "budget": money("1000"),
            **WINDOW,
        },
        "priority = 7 AND exclusive = true AND requires_coupon = true AND currency_code = EUR AND state = DRAFT"
        f' AND display_name = "Spring" AND {IN_WINDOW}',
    ),
    Kind(
        "coupons",
        "coupon",
        "coupon",
        build_coupon,
        {"max_uses": 5, "max_uses_per_customer": 1, **WINDOW},
        IN_WINDOW,
    ),
    Kind(
        "shipping_methods",
        "shipping_method",
        "shipping_method",
        lambda client: ShippingMethod(prices=[ShippingPrice(amount=money("4.90"))], basis="SHIPPING_BASIS_BY_WEIGHT"),
        {
            "display_name": "Express",
            "prices": [{"amount": money("3")}, {"amount": money("6"), "min_weight_g": 5_000}],
            "free_from": money("100"),
            "tax_class": "reduced",
        },
        'display_name = "Express" AND tax_class = reduced AND basis = BY_WEIGHT',
    ),
    Kind(
        "tax_zones",
        "tax_zone",
        "tax_zone",
        lambda client: TaxZone(areas=[make_area()]),
        {
            "display_name": "New York",
            "areas": lambda zone: [
                TaxArea(
                    region_code="US",
                    administrative_area="NY",
                    postal_code_prefix=zone.areas[0].postal_code_prefix,
                )
            ],
        },
        'display_name = "New York"',
    ),
    Kind(
        "tax_rates",
        "tax_rate",
        "tax_rate",
        build_rate,
        {
            "display_name": "Québec",
            "tax_class": "reduced",
            "components": [
                {"display_name": "GST", "rate_ppm": 50_000},
                {"display_name": "QST", "rate_ppm": 99_750, "compound": True},
            ],
            "start_time": {"seconds": 1_700_000_000},
            "end_time": {"seconds": 1_800_000_000},
        },
        'tax_class = reduced AND start_time < "2024-01-01T00:00:00Z" AND end_time:* AND display_name = "Québec"',
    ),
)
