"""Files that the console exports are imported again: nothing changes, and a changed cell changes its resource."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.client import (
    Address,
    Category,
    Coupon,
    Customer,
    CustomerAddress,
    Price,
    Product,
    QuantityRules,
    Storekeep,
    Variant,
)
from tests.console.test_imports import finish, get_path
from tests.support.command_line import CommandLine
from tests.support.pricing import TEN_PERCENT, build_price
from tests.support.processes import ServerProcess
from tests.support.shops import Shop, money, new_id
from tests.support.uploads import send_file
from tests.support.visitors import Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
OUTCOMES = ("created", "updated", "unchanged", "failed")


@pytest.fixture
def cli(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """A command line with an administrator's key."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("STOREKEEP_ADDRESS", server.address)
    monkeypatch.setenv("STOREKEEP_API_KEY", server.admin_key)
    return CommandLine(monkeypatch, capsys)


def import_text(cli: CommandLine, kind: str, text: str, path: Path) -> tuple[tuple[int, ...], list[str]]:
    """Import a file. Return the number of rows by outcome, and the columns without a target."""
    path.write_text(text, encoding="utf-8", newline="")
    run = cli("import", kind, str(path), "--yes", "--json")
    assert run.code in (0, 5), run.err
    document = run.document
    return tuple(document[name] for name in OUTCOMES), document["ignoredColumns"]


def make_time(year: int) -> Timestamp:
    """Return a time that has microseconds."""
    time = Timestamp()
    time.FromDatetime(datetime(year, 2, 3, 4, 5, 6, 789_012, tzinfo=UTC))
    return time


def test_exported_prices_are_imported_without_change(
    admin: Visitor, client: Storekeep, cli: CommandLine, tmp_path: Path
):
    sku = build_price(client).sku
    for fields in (
        {"customer_group": "wholesale", "minimum_quantity": 10, "floor": money("3.5")},
        {"start_time": make_time(2040), "end_time": make_time(2041), "compare_at": money("9.99")},
    ):
        client.prices.create(Price(sku=sku, amount=money("4.50"), **fields), price_id=new_id("price"))
    before = list(client.prices.list(filter=f'sku = "{sku}"'))
    text = admin.get(f"/export/prices?filter=sku+%3D+%22{sku}%22").body
    assert import_text(cli, "prices", text, tmp_path / "prices.csv") == ((0, 0, 2, 0), [])
    assert list(client.prices.list(filter=f'sku = "{sku}"')) == before
    for price in before:
        client.prices.delete(price.name)
    text = "\n".join(",".join(row[:3] + row[4:]) for row in csv.reader(io.StringIO(text)))  # without the ids
    assert import_text(cli, "prices", text, tmp_path / "prices.csv") == ((2, 0, 0, 0), [])
    after = client.prices.list(filter=f'sku = "{sku}"')
    facts = [(one.customer_group, one.minimum_quantity, one.floor, one.compare_at, one.end_time) for one in before]
    assert sorted(map(str, facts)) == sorted(
        str((one.customer_group, one.minimum_quantity, one.floor, one.compare_at, one.end_time)) for one in after
    )


def test_exported_coupons_are_imported_without_change(
    admin: Visitor, client: Storekeep, cli: CommandLine, tmp_path: Path
):
    promotion = client.promotions.create(TEN_PERCENT)
    limits = {"max_uses": 7, "max_uses_per_customer": 2, "start_time": make_time(2040), "end_time": make_time(2041)}
    client.coupons.create(Coupon(promotion=promotion.name, **limits), coupon_id=new_id("Code"))
    client.coupons.create(Coupon(promotion=promotion.name), coupon_id=new_id("Code"))
    text = admin.get(f"/export/coupons?promotion={promotion.name.removeprefix('promotions/')}").body
    counts, ignored = import_text(cli, "coupons", text, tmp_path / "coupons.csv")
    assert (counts, ignored) == ((0, 0, 2, 0), ["uses"])


def test_exported_stock_is_imported_without_change(
    admin: Visitor, client: Storekeep, shop: Shop, cli: CommandLine, tmp_path: Path
):
    sku = shop.variant(stock=12).sku
    text = admin.get(f"/export/stock?q={sku}").body
    derived = ["reserved", "allocated", "available"]
    assert import_text(cli, "stock", text, tmp_path / "stock.csv") == ((0, 0, 1, 0), derived)
    text = text.replace(",12,", ",30,", 1)
    assert import_text(cli, "stock", text, tmp_path / "stock.csv")[0] == (0, 1, 0, 0)
    assert client.inventory.get_stock_level(f"locations/main/stockLevels/{sku}").on_hand == 30


def test_exported_products_are_imported_without_change(
    admin: Visitor, client: Storekeep, cli: CommandLine, tmp_path: Path
):
    category = client.categories.create(Category(display_name=new_id("Tea")))
    title = new_id("=Chai")
    product = client.products.create(
        Product(
            display_name=title,
            category=category.name,
            description='Strong, "black"\ntea',
            labels={"season": "=winter", "origin": "Assam"},
        )
    )
    skus = [new_id("RT").upper() for _ in range(2)]
    for sku in skus:
        client.variants.create(
            product.name,
            Variant(
                sku=sku,
                display_name="Box",
                options={"size": sku},
                prices=[money("4.90"), money("5.20", "USD")],
                tax_class="reduced",
                weight_g=250,
                barcode="+1-2",
                quantity_rules=QuantityRules(minimum=2, maximum=10, multiple=2),
            ),
        )
    client.products.archive(product.name)
    before = list(client.variants.list(product.name))
    name = product.name.removeprefix("products/")
    text = admin.get(f"/export/products?filter=category+%3D+%22{category.name}%22").body
    counts, ignored = import_text(cli, "products", text, tmp_path / "products.csv")
    assert (counts, ignored) == ((0, 0, 2, 0), ["other_prices", "changed"]), text
    assert list(client.variants.list(product.name)) == before
    facts = [client.products.get(product.name).labels, [one.options for one in before]]
    client.products.update(Product(name=product.name, labels={"season": "old"}), update_mask=["labels"])
    client.variants.update(Variant(name=before[0].name, options={"size": "old"}), update_mask=["options"])
    assert import_text(cli, "products", text, tmp_path / "products.csv")[0][1] == 2
    after = [client.products.get(product.name).labels, [one.options for one in client.variants.list(product.name)]]
    assert after == facts
    everything = csv.DictReader(io.StringIO(admin.get("/export/products").body))
    assert [row["price"] for row in everything if row["id"] == name] == ["4.90", "4.90"]


def test_exported_customers_are_imported_without_change(
    admin: Visitor, client: Storekeep, cli: CommandLine, tmp_path: Path
):
    group = new_id("group")
    address = Address(
        recipient="Zoë =1",
        organization="Ernst AG",
        address_lines=["Weg 1", "Top 2"],
        locality="Graz",
        administrative_area="Styria",
        postal_code="8010",
        region_code="AT",
        phone="+43 1 23",
    )
    customer = client.customers.create(
        Customer(
            display_name="@Ernst, Handel",
            email=f"{new_id('ernst')}@example.com",
            phone="+43 1 234",
            company="Ernst AG",
            tax_id="ATU57194903",
            language_code="de-AT",
            groups=["b", group],
            addresses=[CustomerAddress(label="depot", address=address)],
            labels={"tier": "gold"},
        )
    )
    text = admin.get(f"/export/customers?filter=groups:{group}").body
    counts, ignored = import_text(cli, "customers", text, tmp_path / "customers.csv")
    assert (counts, ignored) == ((0, 0, 1, 0), ["since"]), text
    assert client.customers.get(customer.name) == customer
    assert import_text(cli, "customers", text.replace("gold", "silver"), tmp_path / "c.csv")[0] == (0, 1, 0, 0)
    assert dict(client.customers.get(customer.name).labels) == {"tier": "silver"}


def test_import_names_columns_that_it_ignores(admin: Visitor, client: Storekeep, cli: CommandLine, tmp_path: Path):
    sku, path = build_price(client).sku, tmp_path / "prices.csv"
    text = f"sku,price,currency,customer_group,note,empty\n{sku},3,EUR,wholesale,x,\n"
    path.write_text(text)
    run = cli("import", "prices", str(path))
    assert "columns customer_group, note." in run.err, run.err
    page = send_file(admin, "prices", text.encode())
    page = finish(admin, admin.submit(page.form(get_path(page))))
    assert "the columns customer_group, note" in page.text, page.text
