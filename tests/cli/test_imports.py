"""Imports of CSV files into a real server: rows become resources, invalid rows are reported, repeats change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storekeep.client import Storekeep
from tests.support.command_line import CommandLine

PRODUCTS = """code,title,group,net,on shelf,gone,size
IMP-1,Assam,Black Tea,4.50,10,no,S
IMP-2,Keemun,Black Tea,6,0,no,NULL
IMP+3,Sencha,Grüner Tee,NULL,NULL,yes,L
"""
MAPPING = (
    *("--column", "sku=code", "--column", "name=title", "--column", "category=group", "--column", "price=net"),
    *("--column", "stock=on shelf", "--column", "discontinued=gone", "--column", "label.size=size"),
    *("--set", "currency=EUR"),
)
COUNTS = ("created", "updated", "unchanged", "failed")


def write(tmp_path: Path, text: str | bytes, name: str = "file.csv") -> str:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def counts(document: Any) -> tuple[int, ...]:
    return tuple(document[name] for name in COUNTS)


def run_import(cli: CommandLine, *arguments: str) -> Any:
    run = cli("import", *arguments, "--yes", "--json")
    assert run.code in (0, 5), run.err
    return run.document


def test_products_become_products_variants_stock_and_categories(
    cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    document = run_import(cli, "products", write(tmp_path, PRODUCTS), *MAPPING)
    assert counts(document) == (3, 0, 0, 0)
    assam = cli.json("products", "show", "IMP-1")
    assert (assam["category"], assam["labels"]) == ("categories/black-tea", {"size": "S"})
    variant = cli.json("variants", "show", "IMP-1/IMP-1")
    assert variant["prices"] == [{"currencyCode": "EUR", "units": "4", "nanos": 500000000}]
    assert [level.on_hand for level in client.inventory.list_stock_levels(filter='sku = "IMP-1"')] == [10]
    sencha = cli.json("products", "show", "imp-3")
    assert (sencha["state"], sencha["category"]) == ("PRODUCT_STATE_ARCHIVED", "categories/gruner-tee")


def test_second_run_changes_nothing(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    file = write(tmp_path, PRODUCTS)
    run_import(cli, "products", file, *MAPPING)
    written = [entry for entry in client.audit.list(page_size=1000) if "AuthService" not in entry.method]
    assert counts(run_import(cli, "products", file, *MAPPING)) == (0, 0, 3, 0)
    after = [entry for entry in client.audit.list(page_size=1000) if "AuthService" not in entry.method]
    assert len(after) == len(written)


def test_changed_row_writes_its_difference_only(cli: CommandLine, tmp_path: Path) -> None:
    run_import(cli, "products", write(tmp_path, PRODUCTS), *MAPPING)
    cli.json(
        "variants", "update", "IMP-1/IMP-1", "--price", "EUR=4.50", "--price", "USD=5", "--barcode", "4006381333931"
    )
    changed = PRODUCTS.replace("4.50,10", "4.80,12").replace("0,no,NULL", "0,yes,NULL")
    assert counts(run_import(cli, "products", write(tmp_path, changed), *MAPPING)) == (0, 2, 1, 0)
    variant = cli.json("variants", "show", "IMP-1/IMP-1")
    assert {price["currencyCode"]: price["units"] for price in variant["prices"]} == {"EUR": "4", "USD": "5"}
    assert variant["barcode"] == "4006381333931"
    assert cli.json("stock", "show", "IMP-1")[0]["onHand"] == "12"
    assert cli.json("products", "show", "IMP-2")["state"] == "PRODUCT_STATE_ARCHIVED"


def test_import_without_yes_is_a_dry_run(cli: CommandLine, tmp_path: Path) -> None:
    file = write(tmp_path, "sku,name,stock\nDRY-1,Dry,3\n")
    for arguments in (["import", "products", file], ["import", "products", file, "--dry-run"]):
        run = cli(*arguments, "--json")
        assert run.code == 0
        assert run.document["dryRun"] is True
        assert counts(run.document) == (1, 0, 0, 0)
        assert "nothing was changed" in run.err
    assert cli("products", "show", "DRY-1").code == 1


BAD = b"""sku,name,price,stock,discontinued
BAD-1,Good,1.50,1,0
BAD 2,A space in its SKU,1,1,0
BAD-3,,1,1,0
BAD-4,Price,1.5O,1,0
BAD-5,Stock,1,-1,0
BAD-6,Gone,1,1,perhaps
BAD-7,\xff\xfe,1,1,0
BAD-8,Too few,1
BAD-9,Too,many,1,1,0
BAD-1,Again,1,1,0
BAD-11,Finer than a cent,1.005,1,0
"BAD-12"x,Quote,1,1,0

BAD-13,"Good, too",2,2,0
"""


def test_bad_rows_are_told_and_the_rest_goes_on(cli: CommandLine, tmp_path: Path) -> None:
    run = cli("import", "products", write(tmp_path, BAD), "--set", "currency=EUR", "--yes", "--json")
    assert run.code == 5
    assert counts(run.document) == (2, 0, 0, 11)
    reasons = {failure["line"]: failure["reason"] for failure in run.document["failures"]}
    expected = {
        3: "not a SKU",
        4: "name is missing",
        5: "not a number",
        6: "not a whole number",
        7: "neither yes nor no",
        8: "in column name: not UTF-8",
        9: "3 cells, but the header has 5",
        10: "6 cells, but the header has 5",
        11: "already on line 2",
        12: "INVALID_AMOUNT",
        13: "not CSV",
    }
    assert {line for line, text in expected.items() if text not in reasons[line]} == set()
    assert sorted(reasons) == sorted(expected)
    lines = [line for line in run.err.splitlines() if line.startswith("line ")]
    assert [int(line.split()[1].rstrip(":")) for line in lines] == sorted(expected)


def test_number_that_no_message_holds_is_a_bad_row(cli: CommandLine, tmp_path: Path) -> None:
    rows = f"sku,name,stock,weight_g\nNUM-1,A,{10**19},\nNUM-2,A,,{2**31}\nNUM-3,A,{'9' * 5000},\nNUM-4,A,{10**9},007\n"
    document = run_import(cli, "products", write(tmp_path, rows))
    assert counts(document) == (1, 0, 0, 3)
    assert [(failure["line"], failure["reason"]) for failure in document["failures"]] == [
        (2, "stock: more than 1000000000"),
        (3, "weight_g: more than 1000000000"),
        (4, "stock: more than 1000000000"),
    ]


def test_customers_become_customers_with_an_address(cli: CommandLine, tmp_path: Path) -> None:
    text = (
        "\ufeffid,name,phone,address,city,postal_code,country,email\r\n"
        "C1,Blondel,88.60.15.31,24, place Kléber,Strasbourg,67000,France,\r\n"
        'C2,Around,(171) 555,"120 Hanover Sq.\nFlat 2",London,WA1 1DP,UK,around@horn.example\r\n'
        "C3,Nowhere,1,Street 1,City,1,Atlantis,\r\n"
        "C4,No address,,,,,,NULL\r\n"
        "C5,Mail,1,Street 1,City,1,de,not-an-address\r\n"
        "C6,No country,1,Street 1,City,1,,\r\n"
    )
    file = write(tmp_path, text)
    run = cli("import", "customers", file, "--yes", "--json")
    assert run.code == 5
    assert counts(run.document) == (3, 0, 0, 3)
    assert [failure["line"] for failure in run.document["failures"]] == [5, 7, 8]
    first = cli.json("customers", "show", "C1")["addresses"][0]
    assert first["address"]["addressLines"] == ["24, place Kléber"]
    assert first["address"]["regionCode"] == "FR"
    second = cli.json("customers", "show", "C2")["addresses"][0]["address"]
    assert (second["addressLines"], second["regionCode"]) == (["120 Hanover Sq.", "Flat 2"], "GB")
    assert cli.json("customers", "show", "C4")["addresses"] == []
    assert counts(run_import(cli, "customers", file)) == (0, 0, 3, 3)


def test_customer_keeps_what_the_file_does_not_say(cli: CommandLine, tmp_path: Path) -> None:
    cli.json("customers", "create", "--id", "K1", "--name", "Old", "--phone", "1", "--label", "vip=yes")
    file = write(tmp_path, "id,name,email\nK1,New,new@k1.example\n")
    assert counts(run_import(cli, "customers", file)) == (0, 1, 0, 0)
    shown = cli.json("customers", "show", "K1")
    assert (shown["displayName"], shown["phone"], shown["labels"]) == ("New", "1", {"vip": "yes"})


def test_company_fields_of_customers_are_imported(cli: CommandLine, tmp_path: Path) -> None:
    cli.json("customers", "create", "--id", "B1", "--name", "One", "--company", "One Ltd", "--group", "retail")
    header = "id,name,company,tax_id,groups,language"
    file = write(tmp_path, f"{header}\nB1,One,,GB980780684,wholesale; vip,PT-br\nB2,Two,Two SA,,NULL,\n")
    assert counts(run_import(cli, "customers", file)) == (1, 1, 0, 0)
    shown = cli.json("customers", "show", "B1")
    assert (shown["company"], shown["taxId"], shown["groups"]) == ("One Ltd", "GB980780684", ["vip", "wholesale"])
    assert shown["languageCode"] == "pt-BR"
    assert cli.json("customers", "show", "B2")["company"] == "Two SA"
    assert counts(run_import(cli, "customers", file)) == (0, 0, 2, 0)
    assert cli.json("customers", "update", "B1", "--group", "")["groups"] == []


def test_quantity_rules_are_imported_and_changed_one_by_one(cli: CommandLine, tmp_path: Path) -> None:
    file = write(tmp_path, "sku,name,minimum,multiple\nQUA-1,One,2,0\nQUA-2,Two,,\n")
    assert counts(run_import(cli, "products", file)) == (2, 0, 0, 0)
    assert counts(run_import(cli, "products", file)) == (0, 0, 2, 0)
    assert cli.json("variants", "show", "QUA-1")["quantityRules"]["minimum"] == "2"
    changed = cli.json("variants", "update", "QUA-1", "--maximum", "9", "--label", "season=winter")
    assert {rule: changed["quantityRules"][rule] for rule in ("minimum", "maximum")} == {"minimum": "2", "maximum": "9"}
    assert changed["labels"] == {"season": "winter"}
    assert cli.json("variants", "show", "QUA-2").get("quantityRules") is None


def test_draft_is_created_scheduled_and_published(cli: CommandLine) -> None:
    draft = cli.json("products", "create", "--id", "drafted", "--name", "Drafted", "--draft")
    assert draft["state"] == "PRODUCT_STATE_DRAFT"
    later = cli.json("products", "update", "drafted", "--publish-time", "2090-03-01T09:00+01:00")
    assert later["publishTime"] == "2090-03-01T08:00:00Z"
    assert cli.json("products", "update", "drafted", "--clear", "publish_time").get("publishTime") is None
    for wrong in "soon", "":
        assert cli("products", "update", "drafted", "--publish-time", wrong).code == 2
    assert cli.json("products", "search", "drafted") == []
    assert [one["name"] for one in cli.json("products", "search", "drafted", "--drafts")] == ["products/drafted"]
    links = ("--media", "https://img.example/1.jpg A box", "--media", "https://img.example/2.jpg")
    shown = cli.json("products", "update", "drafted", *links)["media"]
    assert [(link["uri"], link.get("altText") or "") for link in shown] == [
        ("https://img.example/1.jpg", "A box"),
        ("https://img.example/2.jpg", ""),
    ]
    assert cli.json("products", "update", "drafted", "--media", "")["media"] == []
    cli.json("products", "publish", "drafted")
    assert [one["name"] for one in cli.json("products", "search", "drafted")] == ["products/drafted"]


def test_stock_is_set_per_location(cli: CommandLine, tmp_path: Path) -> None:
    cli.json("locations", "create", "--id", "south", "--name", "South")
    run_import(cli, "products", write(tmp_path, "sku,name\nLOC-1,One\nLOC-2,Two\n"))
    file = write(tmp_path, "sku,quantity,location\nLOC-1,3,south\nLOC-1,4,NULL\nLOC-2,5,south\nLOC-9,1,south\n")
    document = run_import(cli, "stock", file)
    assert counts(document) == (3, 0, 0, 1)
    assert "SKU_NOT_FOUND" in document["failures"][0]["reason"]
    assert {row["name"]: row["onHand"] for row in cli.json("stock", "show", "LOC-1")} == {
        "locations/main/stockLevels/LOC-1": "4",
        "locations/south/stockLevels/LOC-1": "3",
    }
    assert counts(run_import(cli, "stock", file)) == (0, 0, 3, 1)


def test_sku_of_another_product_is_told(cli: CommandLine, tmp_path: Path) -> None:
    run_import(cli, "products", write(tmp_path, "sku,name,id\nTAK-1,One,tak-a\n"))
    document = run_import(cli, "products", write(tmp_path, "sku,name,id\nTAK-1,One,tak-b\n"))
    assert counts(document) == (0, 0, 0, 1)
    assert "SKU_TAKEN" in document["failures"][0]["reason"]


def test_variant_that_was_made_by_hand_is_found_by_its_sku(cli: CommandLine, tmp_path: Path) -> None:
    cli.json("products", "create", "--id", "hand", "--name", "Hand")
    cli.json("variants", "create", "hand", "--id", "box", "--sku", "HAND-1")
    file = write(tmp_path, "sku,name,id,price,currency\nHAND-1,Hand,hand,2.50,EUR\n")
    assert counts(run_import(cli, "products", file)) == (0, 1, 0, 0)
    assert cli.json("variants", "show", "hand/box")["prices"][0]["units"] == "2"
    assert counts(run_import(cli, "products", file)) == (0, 0, 1, 0)


def test_file_of_many_chunks_keeps_the_order_of_its_lines(cli: CommandLine, tmp_path: Path) -> None:
    rows = [f"M-{number},{'' if number % 100 == 0 else 'Name'}" for number in range(1, 451)]
    file = write(tmp_path, "sku,name\n" + "\n".join(rows) + "\n")
    document = run_import(cli, "products", file)
    assert counts(document) == (446, 0, 0, 4)
    assert [failure["line"] for failure in document["failures"]] == [101, 201, 301, 401]
    some = write(tmp_path, "sku,name\n" + "\n".join(f"M-{number},Name" for number in range(401, 461)) + "\n")
    assert counts(run_import(cli, "products", some)) == (10, 0, 50, 0)


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        (b"", [], "the file is empty"),
        (b"sku,sku\n", [], "names a column twice"),
        (b"\xff,b\n", [], "not UTF-8"),
        (b"a,b\n", [], "no column is mapped to sku"),
        (b"a,b\n", ["--column", "sku=c"], "no column 'c'"),
        (b"a,b\n", ["--column", "colour=a"], "no target 'colour'"),
        (b"a,b\n", ["--column", "label.=a"], "no target 'label.'"),
        (b"a,b\n", ["--column", "sku"], "TARGET=HEADER"),
        (b"a,b\n", ["--delimiter", "ab"], "one character"),
        (b"sku,name\n" + b"x" * 1_100_000, [], "this is not a CSV file"),
    ],
)
def test_file_or_mapping_that_cannot_be_used_is_a_usage_error(
    text: bytes, arguments: list[str], expected: str, cli: CommandLine, tmp_path: Path
) -> None:
    run = cli("import", "products", write(tmp_path, text), *arguments, "--yes")
    assert run.code == 2
    assert expected in run.err


def test_other_delimiter_is_taken(cli: CommandLine, tmp_path: Path) -> None:
    file = write(tmp_path, "sku;name\nSEM-1;One, two\n")
    assert counts(run_import(cli, "products", file, "--delimiter", ";")) == (1, 0, 0, 0)
    assert cli.json("products", "show", "SEM-1")["displayName"] == "One, two"


def test_server_that_is_gone_ends_the_import(cli: CommandLine, tmp_path: Path) -> None:
    file = write(tmp_path, "sku,name\nGON-1,One\n")
    run = cli("import", "products", file, "--yes", "--address", "127.0.0.1:1")
    assert run.code == 4


NORTHWIND = Path(__file__).parents[2].parent / "shared" / "data" / "northwind"


@pytest.mark.skipif(not NORTHWIND.is_dir(), reason="the Northwind data is not beside this checkout")
def test_northwind_is_imported_whole(cli: CommandLine, client: Storekeep) -> None:
    products = (
        *("products", str(NORTHWIND / "products.csv"), "--column", "sku=productID", "--column", "name=productName"),
        *("--column", "price=unitPrice", "--set", "currency=USD", "--column", "stock=unitsInStock"),
        *("--column", "category=categoryID", "--column", "description=quantityPerUnit"),
    )
    customers = (
        *("customers", str(NORTHWIND / "customers.csv"), "--column", "id=customerID", "--column", "name=companyName"),
        *("--column", "recipient=contactName", "--column", "postal_code=postalCode"),
    )
    assert counts(run_import(cli, *products)) == (77, 0, 0, 0)
    assert counts(run_import(cli, *customers)) == (91, 0, 0, 0)
    assert counts(run_import(cli, *products)) == (0, 0, 77, 0)
    assert counts(run_import(cli, *customers)) == (0, 0, 91, 0)
    gone = {product.display_name for product in client.products.list(filter="state = ARCHIVED", page_size=1000)}
    assert gone >= {"Chef Anton's Gumbo Mix", "Mishi Kobe Niku", "Perth Pasties"}
    stock = client.inventory.check_availability([str(number) for number in range(1, 78)])
    assert sum(level.available for level in stock) == 3119
    assert cli.json("customers", "show", "BLONP")["addresses"][0]["address"]["addressLines"] == ["24, place Kléber"]


def test_file_with_another_delimiter_is_told_so(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("sku;name\nA;B\n")
    run = cli("import", "products", str(tmp_path / "rows.csv"))
    assert "if ';' separates the columns, use --delimiter ';'" in run.err
    run = cli("import", "products", str(tmp_path / "rows.csv"), "--column", "sku=sku")
    assert "use --delimiter ';'" in run.err
