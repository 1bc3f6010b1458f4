"""Imports of exports in their published columns, on made-up files with the traps of real ones."""

# ruff: noqa: E501 - rows of tables are longer
from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from storekeep.client import Order, OrderState, ProductState, Storekeep, to_decimal
from tests.support.command_line import CommandLine, Run

SHOPIFY_PRODUCTS = (
    "Handle,Title,Body (HTML),Vendor,Product Category,Type,Tags,Published,Option1 Name,Option1 Value,Option2 Name,"
    "Option2 Value,Option3 Name,Option3 Value,Variant SKU,Variant Grams,Variant Inventory Tracker,"
    "Variant Inventory Qty,Variant Inventory Policy,Variant Fulfillment Service,Variant Price,"
    "Variant Compare At Price,Variant Requires Shipping,Variant Taxable,Variant Barcode,Image Src,Image Position,"
    "Image Alt Text,Gift Card,SEO Title,SEO Description,Variant Image,Variant Weight Unit,Variant Tax Code,"
    "Cost per item,Status"
)
SHOPIFY_ORDERS = (
    "Name,Email,Financial Status,Paid at,Fulfillment Status,Fulfilled at,Accepts Marketing,Currency,Subtotal,Shipping,"
    "Taxes,Total,Discount Code,Discount Amount,Shipping Method,Created at,Lineitem quantity,Lineitem name,"
    "Lineitem price,Lineitem compare at price,Lineitem sku,Lineitem requires shipping,Lineitem taxable,"
    "Lineitem fulfillment status,Billing Name,Billing Street,Billing Address1,Billing Address2,Billing Company,"
    "Billing City,Billing Zip,Billing Province,Billing Country,Billing Phone,Shipping Name,Shipping Street,"
    "Shipping Address1,Shipping Address2,Shipping Company,Shipping City,Shipping Zip,Shipping Province,"
    "Shipping Country,Shipping Phone,Notes,Note Attributes,Cancelled at,Payment Method,Payment Reference,"
    "Refunded Amount,Vendor,Outstanding Balance,Employee,Location,Device ID,Id,Tags,Risk Level,Source,"
    "Lineitem discount,Tax 1 Name,Tax 1 Value,Phone,Receipt Number,Duties,Billing Province Name,Shipping Province Name"
)
WOO_PRODUCTS = (
    'ID,Type,SKU,"GTIN, UPC, EAN, or ISBN",Name,Published,Is featured?,Visibility in catalog,Short description,'
    "Description,Tax status,Tax class,In stock?,Stock,Backorders allowed?,Weight (kg),Sale price,Regular price,"
    "Categories,Tags,Images,Parent,Position,Attribute 1 name,Attribute 1 value(s),Attribute 1 visible,"
    "Attribute 1 global"
)
WOO_ORDERS = (
    "order_id,order_number,date,status,shipping_total,shipping_tax_total,fee_total,fee_tax_total,tax_total,"
    "discount_total,order_total,refunded_total,order_currency,payment_method,shipping_method,customer_id,"
    "billing_first_name,billing_last_name,billing_company,billing_email,billing_phone,billing_address_1,"
    "billing_address_2,billing_postcode,billing_city,billing_state,billing_country,shipping_first_name,"
    "shipping_last_name,shipping_address_1,shipping_address_2,shipping_postcode,shipping_city,shipping_state,"
    "shipping_country,shipping_company,customer_note,item_id,item_name,item_sku,item_quantity,item_subtotal,"
    "item_subtotal_tax,item_total,item_total_tax,item_refunded"
)
MAGENTO_PRODUCTS = (
    "sku,store_view_code,attribute_set_code,product_type,categories,product_websites,name,description,"
    "short_description,weight,product_online,tax_class_name,visibility,price,special_price,url_key,created_at,"
    "updated_at,additional_attributes,qty,out_of_stock_qty,is_in_stock,configurable_variations"
)
MAGENTO_ITEMS = (
    "item_id,order_id,parent_item_id,product_type,sku,name,qty_canceled,qty_invoiced,qty_ordered,qty_refunded,"
    "qty_shipped,price,discount_amount,row_total"
)
MAGENTO_ORDERS = (
    "entity_id,state,status,customer_id,grand_total,shipping_amount,subtotal,tax_amount,total_canceled,"
    "total_refunded,customer_email,customer_firstname,customer_lastname,increment_id,order_currency_code,"
    "created_at,updated_at,customer_note"
)


def write(tmp_path: Path, header: str, rows: Sequence[Mapping[str, object]], name: str = "file.csv") -> str:
    """Write a file with the columns of the header, and the given cells of each row."""
    columns = next(csv.reader([header]))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    path = tmp_path / name
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    return str(path)


def run_import(cli: CommandLine, kind: str, *arguments: str) -> Run:
    run = cli("import", kind, *arguments, "--yes", "--json")
    assert run.code in (0, 5), run.err
    return run


def count(run: Run) -> dict[str, int]:
    names = ("created", "updated", "unchanged", "repeated", "skipped", "failed")
    return {name: run.document[name] for name in names if run.document[name]}


def reasons(run: Run) -> dict[int, str]:
    return {failure["line"]: failure["reason"] for failure in run.document["failures"]}


def get_orders(client: Storekeep) -> dict[str, Order]:
    return {order.number: order for order in client.orders.list(page_size=1000)}


def list_lines(order: Order) -> list[tuple[Any, ...]]:
    """Return SKU, units, price, discount and shipped units of each line."""
    return [
        (line.sku, line.quantity, to_decimal(line.unit_price), to_decimal(line.discount), line.fulfilled_quantity)
        for line in order.lines
    ]


def make_products(cli: CommandLine, tmp_path: Path, skus: Sequence[str]) -> None:
    rows = "".join(f"{sku},{sku},100\n" for sku in skus)
    (tmp_path / "made.csv").write_text(f"sku,name,stock\n{rows}")
    run_import(cli, "products", str(tmp_path / "made.csv"))


def test_shopify_products_are_imported_with_their_variants(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    tee = {"Handle": "sp-tee", "Option1 Value": "S", "Variant SKU": "'SP-TEE-S", "Variant Grams": "120.0"}
    rows: list[dict[str, object]] = [
        tee
        | {"Title": "Tee, organic", "Body (HTML)": "<p>Soft\nand light</p>", "Vendor": "Acme", "Type": "Shirts"}
        | {"Option1 Name": "Size", "Variant Inventory Qty": "5", "Variant Price": "19.90", "Status": "active"},
        {"Handle": "sp-tee", "Option1 Value": "M", "Variant SKU": "SP-TEE-M", "Variant Price": "21.00"},
        {"Handle": "sp-tee", "Image Src": "https://cdn.example/tee.jpg", "Image Position": "2"},
        {"Handle": "sp-mug", "Title": "Mug", "Option1 Name": "Title", "Option1 Value": "Default Title"}
        | {"Variant SKU": "SP-MUG", "Variant Price": "9", "Status": "draft", "Variant Inventory Qty": "-2"},
        {"Handle": "sp-cup", "Title": "Cup", "Option1 Name": "Title", "Option1 Value": "Default Title"}
        | {"Variant SKU": "SP-CUP", "Variant Price": "9", "Status": "archived"},
        {"Handle": "sp-bag", "Title": "Bag", "Option1 Name": "Title", "Option1 Value": "Default Title"}
        | {"Variant SKU": "SP-BAG", "Variant Price": "9", "Status": "draft", "Variant Inventory Qty": "2"},
        {"Handle": "sp-nosku", "Title": "No SKU", "Variant Price": "9", "Status": "active"},
    ]
    file = write(tmp_path, SHOPIFY_PRODUCTS, rows)
    options = ("--format", "shopify-products", "--set", "currency=EUR")
    run = run_import(cli, "products", file, *options)
    assert count(run) == {"created": 4, "skipped": 1, "failed": 2}
    assert "stock: '-2'" in reasons(run)[6]
    assert "sku is missing" in reasons(run)[9]
    variants = {variant.sku: variant for variant in client.variants.list("products/sp-tee")}
    assert {sku: dict(variant.options) for sku, variant in variants.items()} == {
        "SP-TEE-S": {"Size": "S"},
        "SP-TEE-M": {"Size": "M"},
    }
    assert (variants["SP-TEE-S"].weight_g, to_decimal(variants["SP-TEE-M"].prices[0])) == (120, 21)
    tee_product = client.products.get("products/sp-tee")
    assert (tee_product.display_name, tee_product.category, tee_product.labels["vendor"]) == (
        "Tee, organic",
        "categories/shirts",
        "Acme",
    )
    assert client.products.get("products/sp-cup").state == ProductState.PRODUCT_STATE_ARCHIVED
    assert client.products.get("products/sp-bag").state == ProductState.PRODUCT_STATE_DRAFT
    assert count(run_import(cli, "products", file, *options)) == {"unchanged": 4, "skipped": 1, "failed": 2}
    rows[5]["Status"] = "active"
    run = run_import(cli, "products", write(tmp_path, SHOPIFY_PRODUCTS, rows), *options)
    assert count(run) == {"updated": 1, "unchanged": 3, "skipped": 1, "failed": 2}
    assert client.products.get("products/sp-bag").state == ProductState.PRODUCT_STATE_ACTIVE


def test_shopify_orders_are_imported_with_discounts_and_part_shipments(
    cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    make_products(cli, tmp_path, ["SO-A", "SO-B", "SO-C"])
    when = "2021-03-04 10:00:00 -0500"

    def line(name: str, sku: str, quantity: int, price: str, **cells: str) -> dict[str, object]:
        return {
            "Name": name, "Email": "Ann@shop.example", "Lineitem quantity": quantity, "Lineitem sku": sku,
            "Lineitem price": price, "Lineitem discount": "0.00", "Lineitem name": sku,
        } | cells  # fmt: skip

    def head(subtotal: str, shipping: str, taxes: str, total: str, **cells: str) -> dict[str, str]:
        return {
            "Created at": when, "Currency": "USD", "Subtotal": subtotal, "Shipping": shipping, "Taxes": taxes,
            "Total": total, "Billing Name": "Ann", "Shipping Name": "Ann", "Shipping Address1": "1 Road",
            "Shipping City": "Boston", "Shipping Zip": "'02108", "Shipping Province": "MA", "Shipping Country": "US",
        } | cells  # fmt: skip

    fulfilled = {"Fulfillment Status": "fulfilled", "Fulfilled at": "2021-03-05 10:00:00 -0500"}
    partial = fulfilled | {"Fulfillment Status": "partial"}
    status = "Lineitem fulfillment status"
    rows = [
        line("#1", "SO-A", 2, "10.00") | head("23.33", "5.00", "0.00", "28.33", **{"Discount Amount": "6.67"}, **fulfilled),
        line("#1", "SO-B", 1, "10.00"),
        line("#2", "SO-A", 1, "10.00", **{status: "fulfilled"}) | head("30.00", "0.00", "2.40", "32.40", **partial),
        line("#2", "SO-B", 2, "10.00", **{status: "pending"}),
        line("#3", "SO-A", 1, "10.00") | head("10.00", "5.00", "0.00", "15.00", **{"Cancelled at": when}),
        line("#4", "SO-A", 2, "10.00", **{status: "partial"}) | head("20.00", "0.00", "0.00", "20.00", **partial),
        line("#5", "SO-A", 1, "10.00") | head("9.00", "0.00", "0.00", "9.00", **fulfilled),
        line("#6", "SO-A", 1, "10.00") | head("10.00", "0.00", "0.00", "10.00", **{"Refunded Amount": "10.00"}, **fulfilled),
        {"Name": "#6", "Email": "Ann@shop.example", "Payment Method": "gift card"},
        line("#7", "", 1, "10.00") | head("10.00", "0.00", "0.00", "10.00", **fulfilled),
    ]  # fmt: skip
    file = write(tmp_path, SHOPIFY_ORDERS, rows)
    options = ("--format", "shopify-orders")
    assert count(run_import(cli, "customers", file, *options)) == {"created": 1, "repeated": 6, "skipped": 3}
    run = run_import(cli, "orders", file, *options)
    assert run.document["orders"] == {"imported": 4, "alreadyThere": 0, "leftOut": 3}, run.err
    rows_counted = run.document["rows"]
    assert (rows_counted["skipped"], rows_counted["leftOut"], rows_counted["total"]) == (1, 3, 10)
    assert "how many of its units" in reasons(run)[7]
    assert "are not its Subtotal" in reasons(run)[8]
    assert "sku is missing" in reasons(run)[11]
    orders = get_orders(client)
    assert list_lines(orders["#1"]) == [
        ("SO-A", 2, 10, Decimal("4.45"), 2),
        ("SO-B", 1, 10, Decimal("2.22"), 1),
    ]
    assert to_decimal(orders["#1"].total) == Decimal("28.33")
    assert orders["#1"].shipping_address.postal_code == "02108"
    assert orders["#1"].create_time.ToDatetime().isoformat() == "2021-03-04T15:00:00"
    assert orders["#2"].state == OrderState.ORDER_STATE_PARTIALLY_FULFILLED
    assert [line.fulfilled_quantity for line in orders["#2"].lines] == [1, 0]
    assert orders["#3"].state == OrderState.ORDER_STATE_CANCELLED
    notes = {note["first"]: note["text"] for note in run.document["notes"]}
    assert "taxes" in notes["#2"]
    assert "refund" in notes["#6"]
    assert run_import(cli, "orders", file, *options).document["orders"]["alreadyThere"] == 4


def test_woocommerce_products_and_orders_are_imported(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    products: list[dict[str, object]] = [
        {"ID": 1, "Type": "variable", "SKU": "WC-HOOD", "Name": "Hoodie", "Published": 1, "Categories": "Clothing > Hoods, Sale"},
        {"ID": 2, "Type": "variation", "SKU": "WC-HOOD-B", "Name": "Hoodie - Blue", "Published": 1, "Parent": "WC-HOOD",
         "Regular price": "45", "Stock": "3.0", "Attribute 1 name": "Color", "Attribute 1 value(s)": "Blue"},
        {"ID": 3, "Type": "simple, virtual", "SKU": "WC-CARD", "Name": "Card", "Published": -1, "Regular price": "5.50",
         "Weight (kg)": "0.0125", "Description": "One\\nTwo"},
        {"ID": 4, "Type": "grouped", "SKU": "WC-SET", "Name": "Set", "Published": 1},
        {"ID": 5, "Type": "variation", "SKU": "WC-LOST", "Name": "Lost", "Published": 1, "Parent": "WC-NONE"},
    ]  # fmt: skip
    file = write(tmp_path, WOO_PRODUCTS, products)
    run = run_import(cli, "products", file, "--format", "woocommerce-products", "--set", "currency=EUR")
    assert count(run) == {"created": 2, "skipped": 2, "failed": 1}
    (hood,) = client.variants.list("products/WC-HOOD")
    assert (hood.sku, dict(hood.options), hood.display_name) == ("WC-HOOD-B", {"Color": "Blue"}, "Hoodie - Blue")
    assert client.products.get("products/WC-HOOD").category == "categories/hoods"
    card = client.products.get("products/WC-CARD")
    assert (card.state, card.description) == (ProductState.PRODUCT_STATE_ARCHIVED, "One\nTwo")
    assert client.variants.get("products/WC-CARD/variants/WC-CARD").weight_g == 12
    base = {
        "billing_email": "bob@woo.example", "billing_first_name": "Bob", "billing_last_name": "Lee", "tax_total": "0",
        "order_currency": "EUR", "date": "2022-01-02 03:04:05", "shipping_total": "4.00", "fee_total": "0.00",
        "shipping_address_1": "Weg 1", "shipping_city": "Ulm", "shipping_country": "DE",
    }  # fmt: skip
    card_item = {"item_sku": "WC-CARD", "item_quantity": 3, "item_subtotal": "10.00", "item_total": "9.00"}
    hood_item = {"item_sku": "WC-HOOD-B", "item_quantity": 1, "item_subtotal": "45.00", "item_total": "45.00"}
    orders = [
        base | card_item | {"order_number": "W-1", "status": "completed", "order_total": "58.00"},
        base | hood_item | {"order_number": "W-1", "status": "completed", "order_total": "58.00"},
        base | hood_item | {"order_number": "W-2", "status": "cancelled", "order_total": "49.00"},
        base | hood_item | {"order_number": "W-3", "status": "pending", "order_total": "49.00"},
        base | hood_item | {"order_number": "W-4", "status": "processing", "order_total": "49.00"},
        base | hood_item | {"order_number": "W-5", "status": "completed", "order_total": "50.00"},
    ]  # fmt: skip
    file = write(tmp_path, WOO_ORDERS, orders)
    assert count(run_import(cli, "customers", file, "--format", "woocommerce-orders"))["created"] == 1
    run = run_import(cli, "orders", file, "--format", "woocommerce-orders")
    assert run.document["orders"] == {"imported": 3, "alreadyThere": 0, "leftOut": 2}, run.err
    assert "'pending' is not an order that was paid" in reasons(run)[5]
    assert "DOES_NOT_ADD_UP" in reasons(run)[7]
    found = get_orders(client)
    assert list_lines(found["W-1"])[0] == ("WC-CARD", 3, Decimal("3.34"), Decimal("1.02"), 3)
    assert (to_decimal(found["W-1"].total), found["W-2"].state) == (58, OrderState.ORDER_STATE_CANCELLED)
    assert found["W-4"].state == OrderState.ORDER_STATE_CONFIRMED
    assert any("no ship date" in note["text"] for note in run.document["notes"])


def test_magento_products_and_orders_are_imported(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    simple = {"product_type": "simple", "attribute_set_code": "Default", "product_online": 1}
    products: list[dict[str, object]] = [
        simple | {"sku": "MG-S", "name": "Bag S", "price": "34.000000", "qty": "100.0000", "categories": "Default Category/Gear/Bags,Default Category"},
        simple | {"sku": "MG-S", "store_view_code": "de", "name": "Tasche S"},
        {"sku": "MG-BAG", "product_type": "configurable", "name": "Bag", "configurable_variations": "sku=MG-S,size=S"},
        simple | {"sku": "MG-OFF", "name": "Off", "price": "1", "product_online": 2},
    ]  # fmt: skip
    file = write(tmp_path, MAGENTO_PRODUCTS, products)
    run = run_import(cli, "products", file, "--format", "magento-products", "--set", "currency=USD")
    assert count(run) == {"created": 2, "skipped": 2}
    assert client.products.get("products/MG-S").category == "categories/bags"
    assert [level.on_hand for level in client.inventory.list_stock_levels(filter='sku = "MG-S"')] == [100]
    item = {
        "product_type": "configurable",
        "sku": "MG-S",
        "price": "34.0000",
        "discount_amount": "0.0000",
        "qty_canceled": "0.0000",
    }
    items: list[dict[str, object]] = [
        item | {"item_id": 1, "order_id": 71, "qty_ordered": "2.0000", "qty_shipped": "1.0000", "discount_amount": "3.4000"},
        item | {"item_id": 2, "order_id": 71, "parent_item_id": 1, "product_type": "simple", "qty_ordered": "2.0000", "price": "0.0000"},
        item | {"item_id": 3, "order_id": 72, "qty_ordered": "1.0000", "qty_shipped": "0.0000"},
        item | {"item_id": 4, "order_id": 73, "qty_ordered": "1.0000", "qty_shipped": "0.0000"},
    ]  # fmt: skip
    order = {
        "customer_email": "cy@mage.example", "customer_firstname": "Cy", "customer_lastname": "NULL",
        "order_currency_code": "USD", "shipping_amount": "5.0000", "tax_amount": "0.0000", "created_at": "2020-05-05 12:00:00",
    }  # fmt: skip
    heads = [
        order | {"entity_id": 71, "increment_id": "000000071", "state": "processing", "grand_total": "69.6000"},
        order | {"entity_id": 72, "increment_id": "000000072", "state": "canceled", "grand_total": "39.0000"},
        order | {"entity_id": 73, "increment_id": "000000073", "state": "pending_payment", "grand_total": "39.0000"},
    ]
    lines, orders = write(tmp_path, MAGENTO_ITEMS, items), write(tmp_path, MAGENTO_ORDERS, heads, "orders.csv")
    assert count(run_import(cli, "customers", orders, "--format", "magento-orders")) == {"created": 1, "repeated": 2}
    run = run_import(cli, "orders", lines, "--orders", orders, "--format", "magento-orders")
    assert run.document["orders"] == {"imported": 2, "alreadyThere": 0, "leftOut": 1}, run.err
    assert (run.document["rows"]["skipped"], run.document["rows"]["leftOut"]) == (1, 1)
    found = get_orders(client)
    assert list_lines(found["000000071"]) == [("MG-S", 2, 34, Decimal("3.4"), 1)]
    assert found["000000071"].state == OrderState.ORDER_STATE_PARTIALLY_FULFILLED
    assert found["000000072"].state == OrderState.ORDER_STATE_CANCELLED


def test_olist_is_joined_from_its_files(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    def hexadecimal(text: str) -> str:
        return text.encode().hex().ljust(32, "0")

    product, person = hexadecimal("olp"), hexadecimal("oly")
    keys = [hexadecimal(f"olk{number}") for number in range(4)]
    numbers = [hexadecimal(f"olo{number}") for number in range(4)]
    products = write(
        tmp_path,
        "product_id,product_category_name,product_name_lenght,product_weight_g",
        [{"product_id": product, "product_category_name": "beleza_saude", "product_weight_g": "500"}],
        "products.csv",
    )
    people = write(
        tmp_path,
        "customer_id,customer_unique_id,customer_zip_code_prefix,customer_city,customer_state",
        [
            {"customer_id": key, "customer_unique_id": person, "customer_zip_code_prefix": "01310"}
            | {"customer_city": "sao paulo", "customer_state": "SP"}
            for key in keys[:3]
        ],
        "customers.csv",
    )
    bought = {"order_purchase_timestamp": "2018-01-02 10:00:00"}
    carrier, delivered = "order_delivered_carrier_date", "order_delivered_customer_date"
    orders = write(
        tmp_path,
        f"order_id,customer_id,order_status,order_purchase_timestamp,order_approved_at,{carrier},{delivered}",
        [
            bought | {"order_id": numbers[0], "customer_id": keys[0], "order_status": "delivered", carrier: "2018-01-03 11:00:00"},
            bought | {"order_id": numbers[1], "customer_id": keys[1], "order_status": "canceled"},
            bought | {"order_id": numbers[2], "customer_id": keys[2], "order_status": "unavailable"},
            bought | {"order_id": numbers[3], "customer_id": keys[3], "order_status": "delivered", delivered: "2018-01-04 11:00:00"},
        ],
        "orders.csv",
    )  # fmt: skip
    item = {"product_id": product, "price": "58.90", "freight_value": "13.29", "seller_id": "s"}
    items = write(
        tmp_path,
        "order_id,order_item_id,product_id,seller_id,shipping_limit_date,price,freight_value",
        [
            item | {"order_id": numbers[0], "order_item_id": 1},
            item | {"order_id": numbers[0], "order_item_id": 2},
            item | {"order_id": numbers[1], "order_item_id": 1},
            item | {"order_id": numbers[3], "order_item_id": 1},
        ],
    )
    assert count(run_import(cli, "products", products, "--format", "olist")) == {"created": 1}
    assert count(run_import(cli, "customers", people, "--format", "olist")) == {"created": 1, "repeated": 2}
    options = ("--orders", orders, "--join", people, "--format", "olist")
    run = run_import(cli, "orders", items, *options)
    assert run.document["orders"] == {"imported": 2, "alreadyThere": 0, "leftOut": 2}, run.err
    found = get_orders(client)
    order = found[numbers[0]]
    assert (to_decimal(order.shipping), to_decimal(order.total)) == (Decimal("26.58"), Decimal("144.38"))
    assert (order.customer, order.shipping_address.locality) == (f"customers/{person}", "sao paulo")
    assert order.create_time.ToDatetime().isoformat() == "2018-01-02T12:00:00"
    assert found[numbers[1]].state == OrderState.ORDER_STATE_CANCELLED
    assert "is not in the file of --join" in str(run.document["failures"])
    assert cli("import", "orders", items, "--format", "olist").code == 2


RETAIL = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
R536365,RT-1,WHITE HOLDER,6,12/1/2010 8:26,2.55,17850.0,United Kingdom
R536365,RT-2,METAL LANTERN £,8,12/1/2010 8:27,3.39,17850.0,United Kingdom
R536370,POST,POSTAGE,3,12/1/2010 8:45,18,12583,France
R536370,RT-1,WHITE HOLDER,24,12/1/2010 8:45,2.55,12583,France
RC536379,RT-1,WHITE HOLDER,-1,12/1/2010 9:41,2.55,17850,United Kingdom
R536414,RT-3,,56,12/1/2010 11:52,0,,United Kingdom
R536415,RT-1,WHITE HOLDER,2,12/1/2010 11:53,2.55,,United Kingdom
RC536400,RT-1,WHITE HOLDER,-99,12/1/2010 12:00,2.55,17850,United Kingdom
RA563185,B,Adjust bad debt,1,12/1/2010 12:00,-11062.06,,United Kingdom
"""


@pytest.mark.parametrize("iso", [False, True], ids=["as published", "ISO dates"])
def test_online_retail_is_imported_with_its_cancellations(
    iso: bool, cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    text = RETAIL.replace("R536", "S536").replace("12/1/2010 8:26", "2010-12-01 08:26:00") if iso else RETAIL
    path = tmp_path / "retail.csv"
    path.write_bytes(text.encode("cp1252"))
    options = (str(path), "--format", "online-retail", "--encoding", "cp1252")
    run_import(cli, "products", *options)
    run_import(cli, "customers", *options)
    run = run_import(cli, "orders", *options)
    assert run.document["orders"] == {"imported": 3, "alreadyThere": 0, "leftOut": 2}, run.err
    assert run.document["rows"] == {
        "imported": 5, "alreadyThere": 0, "cancellations": 1, "skipped": 0, "leftOut": 3, "total": 9,
    }  # fmt: skip
    orders = get_orders(client)
    mark = "S" if iso else "R"
    assert [line.cancelled_quantity for line in orders[f"{mark}536365"].lines] == [1, 0]
    assert to_decimal(orders[f"{mark}536370"].shipping) == 54
    assert orders[f"{mark}536415"].customer == "customers/guest"
    assert any("several order dates" in note["text"] for note in run.document["notes"])
