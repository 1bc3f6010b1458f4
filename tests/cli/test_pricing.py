"""`storekeep prices`, `zones`, `taxes`, `promotions`, `coupons` and `shipping`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from storekeep.client import (
    ItemSelection,
    Product,
    Promotion,
    PromotionAction,
    PromotionConditions,
    Storekeep,
    Variant,
)
from tests.support.command_line import CommandLine
from tests.support.shops import money, new_id


def run(cli: CommandLine, *words: str) -> Any:
    done = cli(*words, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_zone_and_rate_are_created_changed_and_deleted(cli: CommandLine):
    zone, rate = new_id("z"), new_id("r")
    made = run(cli, "zones", "create", "--id", zone, "--area", "de", "--area", "US/NY/100")
    areas = [tuple(area.values()) for area in made["areas"]]
    assert areas == [("DE", "", ""), ("US", "NY", "100")]
    assert run(cli, "zones", "update", zone, "--name", "Both")["displayName"] == "Both"
    taxes = ("--tax", "GST=5", "--compound", "QST=9.975%")
    made = run(cli, "taxes", "create", "--id", rate, "--zone", zone, *taxes, "--start", "2026-01-01T00:00:00Z")
    components = [tuple(component.values()) for component in made["components"]]
    assert components == [("GST", 50_000, False), ("QST", 99_750, True)]
    assert made["startTime"] == "2026-01-01T00:00:00Z"
    changed = run(cli, "taxes", "update", rate, "--class", "reduced", "--clear", "start_time")
    assert changed["taxClass"] == "reduced"
    assert "startTime" not in changed
    assert "RESOURCE_IN_USE" in cli("zones", "delete", zone).err
    assert cli("taxes", "delete", rate).code == cli("zones", "delete", zone).code == 0
    assert rate in cli("taxes", "list", "--deleted", "--filter", f"tax_zone = taxZones/{zone}").out


@pytest.mark.parametrize("percentage", ["", "x", "1.00001", "NaN", "inf"])
def test_percentage_that_is_none_is_refused(cli: CommandLine, percentage: str):
    done = cli("taxes", "create", "--zone", "de", "--tax", f"VAT={percentage}")
    assert done.code == 2
    assert repr(percentage) in done.err


def test_promotion_with_coupons_is_created_and_activated(cli: CommandLine, client: Storekeep):
    product = client.products.create(Product(display_name="P"))
    sku = client.variants.create(product.name, Variant(sku=new_id("S"))).sku
    name, code = new_id("p"), new_id("CODE").upper()
    options = ("--percent", "12.5", "--sku", sku, "--min-subtotal", "20", "--currency", "eur", "--coupon")
    made = run(cli, "promotions", "create", "--id", name, *options)
    assert made["state"] == "PROMOTION_STATE_DRAFT"
    assert made["action"]["percentagePpm"] == 125_000
    assert made["conditions"]["minSubtotal"]["units"] == "20"
    assert run(cli, "promotions", "update", name, "--priority", "3")["priority"] == 3
    assert cli("promotions", "activate", name).code == 0
    assert run(cli, "promotions", "show", name)["state"] == "PROMOTION_STATE_ACTIVE"
    assert run(cli, "coupons", "create", code, "--promotion", name)["name"] == f"coupons/{code.lower()}"
    assert "no limit" in cli("coupons", "show", code).out
    assert cli("coupons", "list", "-o", "csv", "--columns", "code,max_uses").out.endswith(f"{code},0\n")
    assert run(cli, "coupons", "update", code, "--max-uses", "5")["maxUses"] == "5"
    generated = run(cli, "coupons", "generate", "3", "--promotion", name, "--prefix", "SP")
    assert {coupon["code"][:2] for coupon in generated} == {"SP"}
    assert len(run(cli, "coupons", "list", "--filter", f"promotion = promotions/{name}")) == 4
    assert "ENDED" in cli("promotions", "end", name).out


def test_promotion_has_tiers_limits_and_other_lines(cli: CommandLine, client: Storekeep):
    product = client.products.create(Product(display_name="P"))
    sku = client.variants.create(product.name, Variant(sku=new_id("S"))).sku
    options = (
        "--percent",
        "5",
        "--tier",
        "10=7.5",
        "--amount-tier",
        "100=10",
        "--currency",
        "eur",
        "--max-units",
        "20",
    )
    lines = ("--except", "--sku", sku, "--min-amount", "30", "--dearest-first")
    made = run(cli, "promotions", "create", *options, *lines)
    action, conditions = made["action"], made["conditions"]
    values = [(tier["percentagePpm"], tier["minUnits"]) for tier in action["tiers"]]
    assert values == [(75_000, "10"), (100_000, "0")]
    assert action["tiers"][1]["minAmount"]["units"] == "100"
    assert (action["items"]["skus"], action["items"]["inverted"], action["maxUnits"]) == ([sku], True, "20")
    assert (conditions["minAmount"]["units"], conditions["items"]["inverted"]) == ("30", True)
    assert action["dearestFirst"]
    name = made["name"]
    assert run(cli, "promotions", "update", name, "--budget", "500")["budget"]["units"] == "500"
    off = ("--amount", "2", "--currency", "EUR", "--tier", "5=3.50")
    assert run(cli, "promotions", "create", *off)["action"]["tiers"][0]["amount"]["nanos"] == 500_000_000
    gift = ("--percent", "100", "--buy", "2", "--get", "1", "--bought-sku", sku)
    assert run(cli, "promotions", "create", *gift)["action"]["bought"]["skus"] == [sku]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--percent", "1", "--amount", "1"),
        ("--percent", "1", "--off", "all"),
        ("--percent", "1", "--except"),
        ("--percent", "1", "--tier", "x=5"),
        ("--percent", "1", "--tier", "0=5"),
        ("--percent", "1", "--tier", "5"),
        ("--percent", "1", "--tier", "5=101"),
    ],
)
def test_promotion_without_one_discount_is_refused(cli: CommandLine, options: tuple[str, ...]):
    assert cli("promotions", "create", *options).code == 2


def test_update_of_a_promotion_changes_what_it_gives_and_when(cli: CommandLine, client: Storekeep):
    product = client.products.create(Product(display_name="P"))
    skus = [client.variants.create(product.name, Variant(sku=new_id("S"))).sku for _ in range(2)]
    name = new_id("p")
    created = ("--percent", "10", "--sku", skus[0], "--min-units", "2", "--currency", "EUR", "--max-discount", "9")
    old = run(cli, "promotions", "create", "--id", name, *created, "--group", "vip")
    update = ("promotions", "update", name)
    tried = run(cli, *update, "--percent", "15", "--sku", skus[1], "--min-subtotal", "20", "--dry-run")
    assert run(cli, "promotions", "show", name) == old
    new = run(cli, *update, "--percent", "15", "--sku", skus[1], "--min-subtotal", "20")
    assert (
        new["action"] == tried["action"] == old["action"] | {"percentagePpm": 150_000, "items": new["action"]["items"]}
    )
    assert new["action"]["items"]["skus"] == new["conditions"]["items"]["skus"] == [skus[1]]
    assert new["conditions"]["minSubtotal"]["currencyCode"] == "EUR"
    assert (new["conditions"]["customerGroups"], new["conditions"]["minUnits"]) == (["vip"], "2")
    amount = run(cli, *update, "--amount", "3", "--tier", "5=4", "--any-order", "--except")
    assert amount["action"]["kind"] == "PROMOTION_ACTION_KIND_AMOUNT"
    assert (amount["action"]["percentagePpm"], amount["action"]["items"]["inverted"]) == (0, True)
    assert amount["conditions"]["items"]["inverted"]
    bare = run(cli, *update, "--clear", "action.max_discount", "--clear", "action.items", "--min-units", "0")
    assert "maxDiscount" not in bare["action"]
    assert "items" not in bare["action"]
    assert "items" not in bare["conditions"]
    gift = run(cli, *update, "--percent", "100", "--buy", "2", "--get", "1", "--clear", "action.tiers")
    assert gift["action"]["kind"] == "PROMOTION_ACTION_KIND_BUY_X_GET_Y"
    assert run(cli, *update, "--buy", "0", "--get", "0")["action"]["kind"] == "PROMOTION_ACTION_KIND_PERCENTAGE"
    assert run(cli, *update, "--percent", "100")["action"]["percentagePpm"] == 1_000_000
    assert "conditions" not in run(cli, *update, "--clear", "conditions")


def test_update_of_a_promotion_keeps_other_lines_that_its_conditions_count(cli: CommandLine, client: Storekeep):
    product = client.products.create(Product(display_name="P"))
    skus = [client.variants.create(product.name, Variant(sku=new_id("S"))).sku for _ in range(2)]
    action = PromotionAction(kind="PROMOTION_ACTION_KIND_PERCENTAGE", percentage_ppm=100_000)
    counted = PromotionConditions(items=ItemSelection(skus=skus[:1]), min_units=3)
    made = client.promotions.create(Promotion(conditions=counted, action=action))
    changed = run(cli, "promotions", "update", made.name, "--sku", skus[1], "--min-units", "4")
    assert changed["action"]["items"]["skus"] == skus[1:]
    assert changed["conditions"]["items"]["skus"] == skus[:1]
    assert changed["conditions"]["minUnits"] == "4"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((), "name at least one field to change"),
        (("--percent", "1", "--amount", "1"), "give one of --percent, --amount and --unit-price"),
        (("--except",), "--except needs"),
        (("--off", "all"), "--off must be one of"),
        (("--clear", "action.colour"), "'action.colour' is not a field of a promotion"),
        (("--clear", "action"), "action"),
        (("--buy", "2"), "BUY_X_GET_Y needs units to buy and to get"),
        (("--percent", "2", "--etag", "v9"), "ETAG_MISMATCH"),
    ],
)
def test_wrong_update_of_a_promotion_is_refused(cli: CommandLine, options: tuple[str, ...], text: str):
    name = run(cli, "promotions", "create", "--percent", "10")["name"]
    done = cli("promotions", "update", name, *options)
    assert done.code != 0
    assert text in done.err
    assert run(cli, "promotions", "show", name)["etag"] == "v1"


def test_promotion_without_a_currency_gets_a_budget_with_one(cli: CommandLine):
    name = run(cli, "promotions", "create", "--percent", "5")["name"]
    assert "--budget: set --currency, too" in cli("promotions", "update", name, "--budget", "100 EUR").err
    changed = run(cli, "promotions", "update", name, "--budget", "100 EUR", "--currency", "eur")
    assert changed["budget"] == {"currencyCode": "EUR", "units": "100", "nanos": 0}


def test_shipping_has_prices_by_weight(cli: CommandLine):
    name = new_id("s")
    options = ("--price", "EUR=4.90", "--over", "5000:EUR=9.90", "--free-from", "EUR=80")
    made = run(cli, "shipping", "create", "--id", name, *options)
    assert made["basis"] == "SHIPPING_BASIS_BY_WEIGHT"
    assert made["prices"][1]["minWeightG"] == "5000"
    other = ("--price", "EUR 4.90", "--over", "5000:9.90 eur", "--free-from", "80 EUR")
    assert run(cli, "shipping", "create", "--id", new_id("s"), *other)["prices"] == made["prices"]
    assert "must be GRAMS:CURRENCY=AMOUNT" in cli("shipping", "create", "--price", "EUR=1", "--over", "5000:9.90").err
    changed = run(cli, "shipping", "update", name, "--price", "EUR=5", "--clear", "free_from")
    assert changed["basis"] == "SHIPPING_BASIS_FLAT"
    assert "freeFrom" not in changed


def test_price_of_a_group_is_set_and_its_history_shown(cli: CommandLine, client: Storekeep):
    product = client.products.create(Product(display_name="P"))
    sku = client.variants.create(product.name, Variant(sku=new_id("S"), prices=[money("20")])).sku
    name = new_id("p")
    made = run(cli, "prices", "create", sku, "EUR=15", "--id", name, "--group", "wholesale", "--from", "10")
    assert (made["customerGroup"], made["minimumQuantity"]) == ("wholesale", "10")
    assert run(cli, "prices", "update", name, "14 EUR")["amount"]["units"] == "14"
    assert "must be CURRENCY=AMOUNT, such as EUR=19.90" in cli("prices", "update", name, "14").err
    history = run(cli, "prices", "history", sku)
    assert {price["amount"]["units"] for price in history} == {"14", "15", "20"}
    assert run(cli, "prices", "lowest", sku, "EUR")["amount"]["units"] == "20"
    assert sku in cli("prices", "list", "--filter", f"sku = {sku}").out
