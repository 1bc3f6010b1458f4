"""Pages of promotions, coupons, prices, taxes and shipping: forms, previews, conflicts, and what is not allowed."""

from __future__ import annotations

import json

import pytest

from storekeep.client import (
    ApiKey,
    Coupon,
    ItemSelection,
    Product,
    Promotion,
    PromotionAction,
    PromotionState,
    Role,
    ServiceAccount,
    Storekeep,
    TaxArea,
    TaxZone,
)
from storekeep.console.spellings import CODECS
from tests.support.gateways import GatewayProcess
from tests.support.shops import Shop, money, new_id
from tests.support.visitors import Visitor, get_wrong

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
TENTH = PromotionAction(kind="PROMOTION_ACTION_KIND_PERCENTAGE", percentage_ppm=100_000)  # type: ignore[arg-type]


def fill_promotion(visitor: Visitor, **values: str) -> dict[str, str]:
    """Return the fields of a new promotion: 10% off unless others are given, with an empty basket."""
    form = visitor.get("/promotions/new").form("/promotions/new")
    fields = dict(form.fields) | {
        name: "" for name, _ in form.fields if name.startswith(("basket.sku", "basket.units"))
    }
    changed = {name.replace("__", "."): value for name, value in values.items()}
    return fields | {"display_name": "Ten off", "action.percentage_ppm": "10"} | changed


def test_promotion_is_created_previewed_activated_and_ended(admin: Visitor, client: Storekeep, shop: Shop):
    sku, name = shop.variant(stock=9, prices={"EUR": "10"}).sku, new_id("spring")
    fields = fill_promotion(admin, action__items__skus=sku, resource_id=name, action__tiers="from 5 units: 20")
    page = admin.post("/promotions/new", fields)
    assert "has been created" in page.text
    stored = client.promotions.get(f"promotions/{name}")
    assert (stored.action.percentage_ppm, list(stored.action.items.skus)) == (100_000, [sku])
    assert [(tier.min_units, tier.percentage_ppm) for tier in stored.action.tiers] == [(5, 200_000)]
    path = f"/promotions/{name}"
    form = page.form(path)
    changed = dict(form.fields) | {"action.percentage_ppm": "50", "basket.sku.0": sku, "basket.units.0": "2"}
    preview = admin.post(path, changed | {"basket.currency": "EUR", "step": "preview"})
    assert "It takes €10.00 off." in preview.text
    assert dict(preview.form(path).fields)["action.percentage_ppm"] == "50"  # not saved, and not lost
    assert client.promotions.get(stored.name).etag == stored.etag
    page = admin.submit(preview.form(path))
    assert client.promotions.get(stored.name).action.percentage_ppm == 500_000
    assert len(client.promotions.get(stored.name).action.tiers) == 1
    page = admin.submit(page.form(f"{path}/state", button="Activate"))
    assert client.promotions.get(stored.name).state == PromotionState.PROMOTION_STATE_ACTIVE
    page = admin.submit(page.form(f"{path}/state", button="End"))
    assert "Ended" in page.text
    assert not [form for form in page.forms if form.action == path]  # an ended promotion cannot be changed


def test_preview_for_the_script_is_json_and_changes_nothing(admin: Visitor, client: Storekeep, shop: Shop):
    sku = shop.variant(stock=9, prices={"EUR": "10"}).sku
    fields = fill_promotion(admin, action__items__skus=sku, requires_coupon="yes")
    basket = {"basket.sku.0": sku, "basket.units.0": "3", "basket.currency": "eur"}
    count = len(list(client.promotions.list()))
    reply = admin.post("/promotions/new/preview", fields | basket)
    assert reply.headers["content-type"].startswith("application/json")
    answer = json.loads(reply.body)
    assert (answer["before"], answer["after"], answer["verdict"]) == ("€30.00", "€27.00", "It takes €3.00 off.")
    wrong = json.loads(admin.post("/promotions/new/preview", fields | basket | {"action.amount": "ten"}).body)
    assert "is not an amount" in wrong["problem"][0]
    other = json.loads(admin.post("/promotions/new/preview", fields | basket | {"basket.units.0": "x"}).body)
    assert "whole number" in other["problem"][0]
    assert len(list(client.promotions.list())) == count


@pytest.mark.parametrize("currency", ["EUR", "USD"])
def test_preview_of_an_active_promotion_compares_with_its_absence(
    admin: Visitor, client: Storekeep, shop: Shop, currency: str
):
    sku = shop.variant(stock=9, prices={"EUR": "10", "USD": "10"}).sku
    action = PromotionAction(percentage_ppm=500_000, items=ItemSelection(skus=[sku]))
    action.kind = TENTH.kind
    promotion = client.promotions.create(Promotion(display_name="Half", action=action))
    client.promotions.activate(promotion.name)
    path = f"/{promotion.name}"
    form = dict(admin.get(path).form(path).fields)
    basket = {"basket.sku.0": sku, "basket.units.0": "2", "basket.currency": currency, "basket.sku.1": ""}
    for percentage, after, off in (("50", "10.00", "10.00"), ("25", "15.00", "5.00")):
        answer = json.loads(admin.post(f"{path}/preview", form | basket | {"action.percentage_ppm": percentage}).body)
        assert answer["before"].endswith("20.00")
        assert answer["after"].endswith(after)
        assert answer["verdict"].endswith(f"{off} off.")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("action.percentage_ppm", "ten", "not a percentage"),
        ("action.percentage_ppm", "1e9", "not a percentage"),
        ("action.percentage_ppm", "NaN", "not a percentage"),
        ("action.amount", "5.00", "with its currency"),
        ("budget", "1.2.3 EUR", "amount"),
        ("start_time", "tomorrow", "not a time"),
        ("action.kind", "PROMOTION_ACTION_KIND_FREE", "Choose one"),
        ("action.tiers", "10 units", "not a tier"),
        ("action.tiers", "from 5000 g: 10", "'5000 g' is not a minimum such as 10 units or 50.00 EUR"),
        ("action.tiers", "from x units: 10", "'x' is not a whole number"),
        ("max_uses", "-1", "not a whole number"),
        ("action.max_units", "٣", "not a whole number"),
        ("action.items.skus", "NO-SUCH-SKU", "SKU_NOT_FOUND"),
    ],
)
def test_wrong_value_is_explained_beside_the_input(admin: Visitor, field: str, value: str, words: str):
    page = admin.post("/promotions/new", fill_promotion(admin) | {field: value, "priority": "77"})
    assert page.status in (400, 404)
    assert words in page.text
    assert dict(page.form("/promotions/new").fields)["priority"] == "77"


def test_tier_takes_its_amounts_with_the_currency_on_either_side(admin: Visitor, client: Storekeep):
    name = new_id("tiers")
    tiers = "from EUR 50: EUR 5\nfrom 100 EUR: 12.50 EUR"
    kind = {"action.kind": "PROMOTION_ACTION_KIND_AMOUNT", "action.percentage_ppm": "", "action.amount": "EUR 2"}
    kind["currency_code"] = "EUR"
    page = admin.post("/promotions/new", fill_promotion(admin, resource_id=name, action__tiers=tiers) | kind)
    assert "has been created" in page.text, page.text
    stored = client.promotions.get(f"promotions/{name}").action
    assert stored.amount == money("2")
    assert [(tier.min_amount, tier.amount) for tier in stored.tiers] == [
        (money("50"), money("5")),
        (money("100"), money("12.50")),
    ]


def test_error_of_the_server_stands_once_beside_the_field_with_its_label(admin: Visitor):
    page = admin.post("/promotions/new", fill_promotion(admin) | {"action.percentage_ppm": "101"})
    assert page.text.count("1,000,000") == 1
    assert "Nothing was saved. Correct Percentage off." in page.text
    assert "percentage_ppm" not in page.text
    assert [values["name"] for _, values in page.tags if "aria-invalid" in values] == ["action.percentage_ppm"]
    form = admin.get("/taxZones/new").form("/taxZones/new")
    page = admin.submit(form, display_name="Nowhere", areas="AT\nEUROPE")
    assert "Correct Areas." in page.text
    assert "Line 2:" in page.text
    assert "region_code" not in page.text


def test_lists_of_promotions_say_what_they_give_and_filter_by_state(admin: Visitor, client: Storekeep):
    name = new_id("tenth")
    client.promotions.create(Promotion(display_name=name, action=TENTH))
    page = admin.get("/promotions?state=DRAFT")
    row = page.text.partition(name)[2]
    assert row.startswith(" Draft10% off") or "10% off" in row[:40]
    assert ("select", "state") in [(tag, values.get("name")) for tag, values in page.tags]
    page = admin.get("/promotions/new")
    assert page.text.count("Each line") == 1


def test_promotion_that_changed_meanwhile_shows_both_versions(admin: Visitor, client: Storekeep):
    promotion = client.promotions.create(Promotion(display_name="Old", action=TENTH))
    path = f"/{promotion.name}"
    form = admin.get(path).form(path)
    client.promotions.update(Promotion(name=promotion.name, display_name="Theirs"), update_mask=["display_name"])
    page = admin.submit(form, display_name="Mine")
    assert page.status == 409
    assert "Theirs" in page.text
    admin.submit(page.form(path))
    assert client.promotions.get(promotion.name).display_name == "Mine"


def test_coupons_are_generated_shown_and_downloaded(admin: Visitor, client: Storekeep):
    promotion = client.promotions.create(Promotion(display_name="Coupon", action=TENTH, requires_coupon=True))
    name = promotion.name.removeprefix("promotions/")
    page = admin.get(f"/coupons/generate?promotion={name}")
    page = admin.submit(page.form("/coupons/generate"), count="25", prefix="SP", max_uses="1")
    codes = [coupon.code for coupon in client.coupons.list(filter=f'promotion = "{promotion.name}"')]
    assert len(codes) == 25
    assert all(code in page.text for code in codes)
    file = admin.get(f"/export/coupons?promotion={name}")
    assert file.headers["content-disposition"] == 'attachment; filename="coupons.csv"'
    assert all(code in file.body for code in codes)
    assert codes[0] in admin.get(f"/{promotion.name}").text
    form = admin.get("/coupons/generate").form("/coupons/generate")
    assert set(get_wrong(admin.submit(form, count="1"))) == {"promotion"}
    for count in ("0", "1001", "x", ""):
        page = admin.submit(form, count=count, prefix="S P", start_time="soon")
        assert (page.status, set(get_wrong(page))) == (400, {"count", "promotion", "start_time"})
        assert dict(page.form("/coupons/generate").fields)["prefix"] == "S P"
    page = admin.submit(form, count="9", prefix="S P", promotion=name)
    assert set(get_wrong(page)) == {"prefix"}


def test_coupon_is_created_with_a_code_of_its_own_deleted_and_restored(admin: Visitor, client: Storekeep):
    promotion = client.promotions.create(Promotion(display_name="Coupon", action=TENTH))
    code = new_id("CODE").upper()
    page = admin.get(f"/coupons/new?promotion={promotion.name.removeprefix('promotions/')}")
    page = admin.submit(page.form("/coupons/new"), resource_id=code, max_uses="3")
    coupon = client.coupons.get(f"coupons/{code}")
    assert (coupon.promotion, coupon.max_uses) == (promotion.name, 3)
    path = f"/{coupon.name}"
    page = admin.submit(page.form(f"{path}/state", button="Delete"))
    assert "Deleted" in page.text
    admin.submit(page.form(f"{path}/state", button="Restore"))
    assert not client.coupons.get(coupon.name).HasField("delete_time")


def test_variant_shows_its_prices_its_history_and_the_lowest_price(admin: Visitor, client: Storekeep, shop: Shop):
    variant = shop.variant(prices={"EUR": "20"})
    page = admin.get(f"/prices/new?sku={variant.sku}")
    page = admin.submit(page.form("/prices/new"), amount="15.50 EUR", customer_group="wholesale", minimum_quantity="10")
    assert "has been created" in page.text
    price = next(iter(client.prices.list(filter=f'sku = "{variant.sku}"')))
    assert (price.amount.units, price.customer_group, price.minimum_quantity) == (15, "wholesale", 10)
    text = admin.get(f"/{variant.name}").text
    assert "€15.50" in text
    assert "lowest price of the last 30 days: €20.00" in text
    assert "What it has cost" in text


def test_tax_zone_rate_and_shipping_method_are_created_and_changed(admin: Visitor, client: Storekeep):
    zone, method = new_id("zone"), new_id("parcel")
    form = admin.get("/taxZones/new").form("/taxZones/new")
    admin.submit(form, display_name="Islands", areas="FK\nUS/NY\nUS//100", resource_id=zone)
    assert client.tax_zones.get(f"taxZones/{zone}").areas == [
        TaxArea(region_code="FK"),
        TaxArea(region_code="US", administrative_area="NY"),
        TaxArea(region_code="US", postal_code_prefix="100"),
    ]
    page = admin.get("/taxRates/new")
    assert ("option", zone) in [(tag, values.get("value")) for tag, values in page.tags]
    form = page.form("/taxRates/new")
    page = admin.submit(form, tax_zone=zone, components="GST 5 %\nQST 9.975% compound", resource_id=f"{zone}-rate")
    rate = client.tax_rates.get(f"taxRates/{zone}-rate")
    assert [(one.display_name, one.rate_ppm, one.compound) for one in rate.components] == [
        ("GST", 50_000, False),
        ("QST", 99_750, True),
    ]
    page = admin.submit(page.form(f"/{rate.name}"), components="GST 6")
    assert [one.rate_ppm for one in client.tax_rates.get(rate.name).components] == [60_000]
    form = admin.get("/shippingMethods/new").form("/shippingMethods/new")
    page = admin.submit(
        form,
        display_name="Parcel",
        basis="SHIPPING_BASIS_BY_WEIGHT",
        prices="EUR 4.90\nfrom 5000 g: 9.90 EUR",
        free_from="80 EUR",
        tax_zones=zone,
        resource_id=method,
    )
    stored = client.shipping_methods.get(f"shippingMethods/{method}")
    assert [price.min_weight_g for price in stored.prices] == [0, 5000]
    assert stored.tax_zones == [f"taxZones/{zone}"]
    fields = dict(page.form(f"/{stored.name}").fields)
    assert fields["prices"] == "4.90 EUR\nfrom 5000 g: 9.90 EUR"  # it is written as it was read
    assert "has been deleted" not in admin.submit(admin.get(f"/taxZones/{zone}").form(f"/taxZones/{zone}/state")).text


@pytest.mark.parametrize("text", [f"from {' ' * 1_000_000}x", f"from{' :' * 500_000}", f"from 1{' ' * 1_000_000}x:"])
@pytest.mark.parametrize("codec", ["shipping_prices", "tiers"])
def test_step_that_is_none_is_refused_at_once_however_long_it_is(codec: str, text: str):
    with pytest.raises(ValueError, match="is not a"):
        CODECS[codec].write(PromotionAction(), "tiers", text)


@pytest.mark.parametrize("price", ["from 10 units: 4.90 EUR", "from 5 kg: 4.90 EUR", "from 50: 4.90 EUR"])
def test_shipping_price_from_units_is_refused_in_words(admin: Visitor, client: Storekeep, price: str):
    name = new_id("parcel")
    form = admin.get("/shippingMethods/new").form("/shippingMethods/new")
    page = admin.submit(form, display_name="Parcel", basis="SHIPPING_BASIS_BY_WEIGHT", prices=price, resource_id=name)
    assert page.status == 400
    assert "is not a minimum such as 5000 g or 50.00 EUR" in page.text
    assert not [method for method in client.shipping_methods.list() if method.name == f"shippingMethods/{name}"]


def test_reader_of_prices_sees_no_forms_and_cannot_send_them(gateway: GatewayProcess, client: Storekeep):
    role = client.auth.create_role(
        Role(display_name="Reader", permissions=["pricing.read", "orders.read"]), role_id=new_id("reader")
    )
    account = client.auth.create_service_account(
        ServiceAccount(display_name="reader", roles=[role.name]), service_account_id=new_id("reader")
    )
    key = client.auth.create_api_key(account.name, ApiKey(display_name="console")).secret
    promotion = client.promotions.create(Promotion(display_name="Seen", action=TENTH))
    zone = client.tax_zones.create(TaxZone(areas=[TaxArea(region_code="GL")]))
    visitor = Visitor(gateway.address)
    visitor.sign_in(key)
    for path in (f"/{promotion.name}", f"/{zone.name}", "/promotions", "/taxZones"):
        page = visitor.get(path)
        assert page.status == 200
        assert {form.action for form in page.forms if form.method == "post"} == {"/sign-out"}
        assert not [link for link in page.links if link.endswith("/new")]
    token = dict(page.form("/sign-out").fields)["csrf_token"]
    for path in (f"/{promotion.name}", f"/{promotion.name}/state", "/promotions/new", "/coupons/generate"):
        assert visitor.post(path, {"csrf_token": token, "step": "activate"}).status == 403
    assert client.promotions.get(promotion.name).state == PromotionState.PROMOTION_STATE_DRAFT
    assert visitor.get("/coupons").status == 403


def test_lists_are_filtered_and_show_what_is_deleted_on_request(admin: Visitor, client: Storekeep):
    promotion = client.promotions.create(Promotion(display_name="Gone", action=TENTH))
    code = new_id("GONE").upper()
    client.coupons.create(Coupon(promotion=promotion.name), coupon_id=code)
    client.coupons.delete(f"coupons/{code}")
    name = promotion.name.removeprefix("promotions/")
    assert code not in admin.get(f"/coupons?promotion={name}").text
    assert code in admin.get(f"/coupons?promotion={name}&deleted=yes").text


def test_plain_amount_of_a_promotion_has_the_currency_of_the_orders(admin: Visitor, client: Storekeep):
    form = admin.get("/promotions/new").form("/promotions/new")
    key = new_id("five")
    kind = {"action.kind": "PROMOTION_ACTION_KIND_AMOUNT", "action.percentage_ppm": "", "action.amount": "5"}
    values = dict(form.fields) | kind | {"currency_code": "eur", "resource_id": key, "display_name": "Five off"}
    page = admin.post("/promotions/new", values | {"action.max_discount": "7.50"})
    assert "The promotion has been created." in page.text
    made = client.promotions.get(f"promotions/{key}")
    assert (made.action.amount, made.action.max_discount) == (money("5"), money("7.50"))


def test_wrong_price_of_a_variant_stands_beside_its_row(admin: Visitor, client: Storekeep, shop: Shop):
    variant = shop.variant(prices={"EUR": "10"})
    path, token = f"/{variant.name}", dict(admin.get(f"/{variant.name}").form(f"/{variant.name}").fields)
    fields = [(name, value) for name, value in token.items() if name not in ("amount", "currency")]
    rows = [("EUR", "5.00"), ("USD", ""), ("GBP", "4,x"), ("CHF", "y")]
    page = admin.post(
        path, [*fields, *(pair for row in rows for pair in zip(("currency", "amount"), row, strict=True))]
    )
    assert set(get_wrong(page)) == {"prices.1", "prices.2", "prices.3"}
    assert "Correct Price 2, Price 3, Price 4." in page.text
    page = admin.post(path, [*fields, ("currency", "EUR"), ("amount", "5"), ("currency", "USD"), ("amount", "-1")])
    assert set(get_wrong(page)) == {"prices.1"}


def test_what_is_wrong_with_a_new_variant_stands_beside_it(admin: Visitor, client: Storekeep):
    product = client.products.create(Product(display_name="Sencha"))
    form = admin.get(f"/{product.name}").form(f"/{product.name}/variants")
    page = admin.submit(form, sku=new_id("TEA").upper(), amount="5x", units="6y")
    assert set(get_wrong(page)) == {"prices.0", "units"}
    assert dict(page.form(f"/{product.name}/variants").fields)["amount"] == "5x"
    assert set(get_wrong(admin.submit(form, sku="no such sku", amount="5"))) == {"sku"}
