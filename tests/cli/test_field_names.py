"""Errors name the options of the command and not the fields of the contract."""

from __future__ import annotations

import pytest

from storekeep.imports.field_names import name_options
from tests.support.command_line import CommandLine
from tests.support.shops import Shop, new_id

OPTIONS = {
    "email": "--email",
    "id": "--id",
    "name": "--name",
    "currency": "--currency",
    "price": "--price",
    "line": "--line",
    "tax_id": "--tax-id",
    "start": "--start",
    "until": "--until",
    "force": "--force",
    "country": "--country",
    "percent": "--percent",
    "tax": "--tax",
    "area": "--area",
    "event": "--event",
    "min_amount": "--min-amount",
    "min_units": "--min-units",
    "tier": "--tier",
    "amount_tier": "--amount-tier",
}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("customer.email: must be an address", "--email: must be an address"),
        ("customer_id: must be an id", "--id: must be an id"),
        ("customer.display_name: is required", "--name: is required"),
        ("currency_code: must be a code", "--currency: must be a code"),
        ("variant.prices[0]: is too exact", "--price: is too exact"),
        ("coupon.start_time: must be earlier", "--start: must be earlier"),
        ("quote.expire_time: must be in the future", "--until: must be in the future"),
        (
            "customers/a is in use by orders/b; `force` erases it",
            "customers/a is in use by orders/b; --force erases it",
        ),
        ("lines[3].quantity: must be at least 1", "--line: must be at least 1"),
        ("action.percentage_ppm: must be at most 1", "--percent: must be at most 1"),
        ("tax_rate.components[0].rate_ppm: is too high", "--tax: is too high"),
        ("tax_zone.areas[1].postal_code_prefix: is too long", "--area: is too long"),
        ("price.amount: is too exact", "--price: is too exact"),
        ("promotion.action.tiers[1].min_amount: must be in EUR", "--amount-tier: must be in EUR"),
        ("promotion.action.tiers[0].min_units: is too high", "--tier: is too high"),
        ("promotion.conditions.min_amount: must be in EUR", "--min-amount: must be in EUR"),
        ("price.floor: is too exact", "price.floor: is too exact"),
        ("webhook_endpoint.event_types[1]: is unknown", "--event: is unknown"),
        ("it has no address; set `shipping_address`", "it has no address; set --country"),
        ("lines: has too many", "--line: has too many"),
        ("customer.tax_id: is too long", "--tax-id: is too long"),
        ("customer.addresses[0].address.region_code: unknown", "--country: unknown"),
        ('labels["a: b"]: is too long', 'labels["a: b"]: is too long'),
        ("filter, position 1: cannot filter", "filter, position 1: cannot filter"),
        ("customers/email: is deleted", "customers/email: is deleted"),
        ("set `currency` or `other`", "set --currency or `other`"),
        ("", ""),
    ],
)
def test_field_is_named_by_its_option(text: str, named: str) -> None:
    assert name_options(text, OPTIONS) == named


def test_repeated_option_is_counted() -> None:
    text = "lines[3].quantity: must be at least 1"
    assert name_options(text, OPTIONS, repeated={"--line"}) == "--line no. 4: must be at least 1"
    assert name_options(text, OPTIONS, repeated={"--tax"}) == "--line: must be at least 1"


def test_long_text_costs_no_time() -> None:
    text = "a." * 50_000 + "["
    assert name_options(text, OPTIONS) == text


@pytest.mark.engine("sqlite", reason="the command line does not know the engine")
def test_rejected_value_is_reported_with_its_option(cli: CommandLine, shop: Shop) -> None:
    product, sku = shop.product().name, shop.variant(stock=5).sku
    shop.order((sku, 4))
    customer = new_id("u")
    cases = {
        "--email: must be": ("customers", "create", "--id", customer, "--name", "Ann", "--email", "nobody"),
        "--id: must be": ("customers", "create", "--id", "Ünö", "--name", "Ann"),
        "--language: must be": ("customers", "create", "--name", "Ann", "--language", "german"),
        "--price: EUR allows": ("variants", "create", product, "--sku", new_id("S"), "--price", "EUR=4.999"),
        "--line: must be": ("orders", "place", "--customer", customer, "--line", f"{sku}=0", "--currency", "EUR"),
        "'110' must be a percentage from 0 to 100": ("promotions", "create", "--percent", "110"),
        "'5000' must be a percentage from 0 to 1000": ("taxes", "create", "--zone", "de", "--tax", "VAT=5000"),
        "--amount-tier: the currency is required": (
            "promotions",
            "create",
            "--percent",
            "5",
            "--amount-tier",
            "100=10",
        ),
        "--budget: set --currency, too": ("promotions", "create", "--percent", "5", "--budget", "100 EUR"),
        "Germny": ("zones", "create", "--area", "Germny"),
        "set --backorder-shortage to": ("stock", "set", sku, "3"),
    }
    for text, command in cases.items():
        run = cli(*command)
        assert (run.code in (1, 2), text in run.err) == (True, True), run.err
        assert not any(name in run.err for name in ("ppm", "region_code", "lines["))
