"""Imports of files with the faults of spreadsheets, shops and people: nothing is lost, merged or changed in silence."""

from __future__ import annotations

import csv
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from storekeep.client import OrderState, ProductNotFound, Storekeep, to_decimal
from tests.support.command_line import CommandLine, Run
from tests.support.processes import ServerProcess
from tests.support.shops import new_id

COMMAND = Path(sysconfig.get_path("scripts"), "storekeep")
LINES = "number,sku,quantity,unit_price,customer,order_date,ship_date"


def write(tmp_path: Path, text: str | bytes, name: str = "file.csv") -> str:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def run_import(cli: CommandLine, *arguments: str, dry: bool = False) -> Run:
    run = cli("import", *arguments, "--dry-run" if dry else "--yes", "--json")
    assert run.code in (0, 5), run.err
    return run


def count(run: Run) -> dict[str, int]:
    """Return the counts of a run that are not 0."""
    names = ("created", "updated", "unchanged", "repeated", "skipped", "failed")
    return {name: run.document[name] for name in names if run.document[name]}


def reasons(run: Run) -> dict[int, str]:
    return {failure["line"]: failure["reason"] for failure in run.document["failures"]}


def get_reason(run: Run) -> str:
    (failure,) = run.document["failures"]
    return str(failure["reason"])


@pytest.fixture(scope="module")
def catalogue(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two SKUs, of which the first has stock, and a customer."""
    folder = tmp_path_factory.mktemp("catalogue")
    access = {"STOREKEEP_ADDRESS": server.address, "STOREKEEP_API_KEY": server.admin_key}
    products = write(folder, "sku,name,stock\nOPEN-1,Open,50\nDONE-1,Done,\n", "products.csv")
    customers = write(folder, "id,name\nann,Ann\n", "customers.csv")
    for kind, file in (("products", products), ("customers", customers)):
        subprocess.run([COMMAND, "import", kind, file, "--yes"], env=os.environ | access, check=True, timeout=60)


def import_orders(cli: CommandLine, tmp_path: Path, rows: str, *arguments: str, header: str = LINES) -> Run:
    return run_import(cli, "orders", write(tmp_path, f"{header}\n{rows}"), "--set", "currency=EUR", *arguments)


# -- orders: broken members


@pytest.mark.parametrize(
    "broken",
    [
        "{0},DONE-1,1,1,234.00,ann,2001-05-01,2001-05-02",
        "{0},DONE-1",
        '{0},"DONE"-1,1,1.00,ann,2001-05-01,2001-05-02',
        "{0},DONE-1,one,1.00,ann,2001-05-01,2001-05-02",
        "{0},DONE-1,1,\u00a0\udcff,ann,2001-05-01,2001-05-02",
        ",DONE-1,1,1.00,ann,2001-05-01,2001-05-02",
        ",DONE-1,1,1,00,ann,2001-05-01,2001-05-02",
        "DONE-1,1,1.00,ann,2001-05-01,2001-05-02",
        '="{0}",DONE-1,1,1,234.00,ann,2001-05-01,2001-05-02',
        '="{0}","DONE"-1,1,1.00,ann,2001-05-01,2001-05-02',
    ],
    ids=[
        "cell too many",
        "cells too few",
        "quote",
        "number",
        "encoding",
        "no order number",
        "no order number, cell too many",
        "first cell missing",
        "number as a formula, cell too many",
        "number as a formula, quote",
    ],
)
def test_broken_row_leaves_out_its_order_and_no_other(
    broken: str, catalogue: None, cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    hurt, before, after = new_id("H"), new_id("B"), new_id("A")
    good = "DONE-1,1,10.00,ann,2001-05-01,2001-05-02"
    text = f"{LINES}\n{before},{good}\n{hurt},{good}\n{broken.format(hurt)}\n{hurt},{good}\n{after},{good}\n"
    file = write(tmp_path, text.encode("utf-8", "surrogateescape"))
    run = run_import(cli, "orders", file, "--set", "currency=EUR")
    assert run.document["rows"]["total"] == 5
    assert run.document["rows"]["imported"] == 2
    assert sorted(reasons(run)) == [3, 4, 5]
    numbers = {order.number for order in client.orders.list(page_size=1000)}
    assert numbers.intersection([hurt, before, after]) == {before, after}
    mended = run_import(
        cli,
        "orders",
        write(tmp_path, text.replace(f"\n{broken.format(hurt)}\n", f"\n{hurt},{good}\n")),
        "--set",
        "currency=EUR",
    )
    assert mended.document["orders"] == {"imported": 1, "alreadyThere": 2, "leftOut": 0}


def test_row_without_a_number_leaves_out_all_orders_of_a_file_that_is_not_grouped(
    catalogue: None, cli: CommandLine, tmp_path: Path
) -> None:
    one, two, good = new_id("M"), new_id("M"), "DONE-1,1,10.00,ann,2001-05-01,2001-05-02\n"
    run = import_orders(cli, tmp_path, f"{one},{good}{two},{good}{one},{good},{good}")
    assert run.document["orders"] == {"imported": 0, "alreadyThere": 0, "leftOut": 2}
    assert "may belong to it" in reasons(run)[3]


def test_order_row_that_cannot_be_read_leaves_out_its_order(catalogue: None, cli: CommandLine, tmp_path: Path) -> None:
    one, two = new_id("T"), new_id("T")
    lines = f"number,sku,quantity,unit_price\n{one},DONE-1,1,10.00\n{one},DONE-1,1,1,234.00\n{two},DONE-1,1,1\n"
    heads = f"number,customer,order_date,ship_date\n{one},ann,2001-05-01,2001-05-02\n{two},ann,2001-05-01,,\n"
    files = (write(tmp_path, lines), "--orders", write(tmp_path, heads, "heads.csv"))
    run = run_import(cli, "orders", *files, "--set", "currency=EUR")
    assert run.document["orders"]["imported"] == 0
    assert run.document["rows"] == {
        "imported": 0, "alreadyThere": 0, "cancellations": 0, "skipped": 0, "leftOut": 3, "total": 3,
    }  # fmt: skip


# -- one fault does not hide others


def test_unclosed_quote_costs_its_own_row_alone(cli: CommandLine, tmp_path: Path) -> None:
    mark = new_id("Q")
    rows = [f"{mark}-{number},Name {number},{number}" for number in range(60)]
    rows[20] = f'{mark}-20,"Name 20,20'
    rows[40] = f'{mark}-40,"Name 40'
    rows[50] = f'{mark}-50,"Name of\ntwo ""lines""",50'
    run = run_import(cli, "products", write(tmp_path, "sku,name,stock\n" + "\n".join(rows) + "\n"))
    assert count(run) == {"created": 58, "failed": 2}
    assert {line: reason[:7] for line, reason in reasons(run).items()} == {22: "not CSV", 42: "not CSV"}
    assert cli.json("products", "show", f"{mark}-50")["displayName"] == 'Name of\ntwo "lines"'


# -- a row is one transaction, and a dry run is the act


REFUSED = """sku,name,id,price,currency,stock,location,category
{mark}-1,SKU of another product,{mark}-new,,,,,
{mark}-2,Price too fine,,12.345,EUR,,,
{mark}-3,Price below zero,,-4.50,EUR,,,
{mark}-4,No such currency,,1,BTC,,,
{mark}-5,No such location,,1,EUR,5,{mark}-nowhere,
{mark}-6,Good,,1,EUR,5,,
{mark}-7,{long},,1,EUR,,,
"""


def test_rejected_row_changes_nothing_and_the_dry_run_counts_it(
    cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    mark = new_id("R")
    run_import(cli, "products", write(tmp_path, f"sku,name,id\n{mark}-1,Old,{mark}-old\n"))
    file = write(tmp_path, REFUSED.format(mark=mark, long="x" * 201))
    preview = run_import(cli, "products", file, dry=True)
    act = run_import(cli, "products", file)
    assert count(preview) == count(act) == {"created": 1, "failed": 6}
    assert [line.partition(", request id")[0] for line in reasons(preview).values()] == [
        line.partition(", request id")[0] for line in reasons(act).values()
    ]
    for product_id in (f"{mark}-new", *(f"{mark}-{number}" for number in (2, 3, 4, 5, 7))):
        with pytest.raises(ProductNotFound):
            client.products.get(f"products/{product_id}")
    assert count(run_import(cli, "products", file)) == {"unchanged": 1, "failed": 6}


def test_rejected_change_of_a_row_keeps_its_other_values(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    mark = new_id("R")
    header = "sku,name,price,currency\n"
    run_import(cli, "products", write(tmp_path, f"{header}{mark},Old,1,EUR\n"))
    run = run_import(cli, "products", write(tmp_path, f"{header}{mark},New,1.005,EUR\n"))
    assert count(run) == {"failed": 1}
    assert client.products.get(f"products/{mark}").display_name == "Old"


# -- deleted resources


def test_deleted_resources_are_reported(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    mark = new_id("D")
    products = write(
        tmp_path, f"sku,name,category,stock\n{mark}-P,Tea,{mark} Teas,3\n{mark}-V,Pot,,3\n", "products.csv"
    )
    customers = write(tmp_path, f"id,name\n{mark}-C,Gone\n", "customers.csv")
    counted = write(tmp_path, f"sku,quantity\n{mark}-V,3\n", "stock.csv")
    run_import(cli, "products", products)
    run_import(cli, "customers", customers)
    client.customers.delete(f"customers/{mark}-C")
    client.products.delete(f"products/{mark}-P")
    client.inventory.set_stock(f"locations/main/stockLevels/{mark}-V", quantity=0)
    client.variants.delete(f"products/{mark}-V/variants/{mark}-V")
    assert "is deleted; undelete it first" in get_reason(run_import(cli, "customers", customers))
    assert "is deleted; undelete it first" in get_reason(run_import(cli, "stock", counted))
    run = run_import(cli, "products", products)
    assert count(run) == {"failed": 2}
    assert all("is deleted; undelete it first" in reason for reason in reasons(run).values())
    client.categories.delete(f"categories/{mark.lower()}-teas")
    other = write(tmp_path, f"sku,name,category\n{mark}-X,Tea,{mark} Teas\n")
    assert "is deleted; undelete it first" in get_reason(run_import(cli, "products", other))


# -- ids made of text


def test_categories_of_any_name_get_an_id_of_their_own(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    mark = new_id("G").lower()
    names = [f"{mark} {name}" for name in ("Café", "Cafe", "Bath & Body", "Bath Body", "Чай", "日本茶", "!")]
    rows = "".join(f"{mark}-{number},Tea,{name}\n" for number, name in enumerate([*names, *names]))
    file = write(tmp_path, f"sku,name,category\n{rows}")
    assert count(run_import(cli, "products", file, dry=True)) == {"created": 14}
    assert count(run_import(cli, "products", file)) == {"created": 14}
    found = [one for one in client.categories.list(page_size=1000) if one.display_name.startswith(mark)]
    assert sorted(one.display_name for one in found) == sorted(names)
    assert {f"categories/{mark}-{slug}" for slug in ("cafe", "bath-body", "chai")} <= {one.name for one in found}
    assert count(run_import(cli, "products", file)) == {"unchanged": 14}
    by_name = write(
        tmp_path, f"sku,name,category\n{mark}-R,R,categories/{mark}-chai\n{mark}-S,S,categories/{mark}-none\n"
    )
    run = run_import(cli, "products", by_name)
    assert (count(run), get_reason(run)) == (
        {"created": 1, "failed": 1},
        f"category: no such category: categories/{mark}-none",
    )
    assert client.products.get(f"products/{mark}-R").category == f"categories/{mark}-chai"


def test_skus_that_would_share_an_id_get_products_of_their_own(cli: CommandLine, tmp_path: Path) -> None:
    mark = new_id("S").lower()
    file = write(tmp_path, f"sku,name\n{mark}+1,Plus\n{mark}-1,Minus\n")
    assert count(run_import(cli, "products", file)) == {"created": 2}
    assert count(run_import(cli, "products", file)) == {"unchanged": 2}


def test_other_skus_are_mapped_and_kept_in_a_file(
    catalogue: None, cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    mark, number = new_id("K"), new_id("N")
    theirs = [f"{mark}/{end}" for end in ("A B", "A&B", "чай", "#1", "=2+2")]
    products = write(tmp_path, "sku,name,stock\n" + "".join(f"{sku},{sku},1\n" for sku in theirs), "products.csv")
    assert "is not a SKU" in reasons(run_import(cli, "products", products))[2]
    path = tmp_path / "skus.csv"
    run = run_import(cli, "products", products, "--sku-map", str(path))
    assert count(run) == {"created": 5}
    with path.open(encoding="utf-8", newline="") as file:
        pairs = {row["theirs"]: row["ours"] for row in csv.DictReader(file)}
    assert list(pairs) == theirs
    assert len(set(pairs.values())) == 5
    ours = pairs[theirs[2]]
    assert client.products.get(f"products/{ours}").labels["source_sku"] == theirs[2]
    counted = write(tmp_path, f"sku,quantity\n{theirs[2]},7\n", "stock.csv")
    assert count(run_import(cli, "stock", counted, "--sku-map", str(path))) == {"updated": 1}
    path.unlink()
    rows = f"{number},{theirs[2]},1,2.00,ann,2001-05-01,2001-05-02\n"
    assert import_orders(cli, tmp_path, rows, "--sku-map", str(path)).document["orders"]["imported"] == 1
    assert path.read_text(encoding="utf-8").splitlines() == ["theirs,ours", f"{theirs[2]},{ours}"]
    chosen = write(tmp_path, f"theirs,ours\n{theirs[0]},{mark}-MINE\n", "mine.csv")
    run_import(cli, "products", write(tmp_path, f"sku,name\n{theirs[0]},Mine\n"), "--sku-map", chosen)
    assert cli.json("products", "show", f"{mark}-MINE")["displayName"] == "Mine"


# -- spellings


SPELLINGS: list[tuple[str | bytes, tuple[str, ...]]] = [
    ("Stock list\n\n2026-11-28,,\nsku,name,stock\n{0},Tea,12.0\n", ()),
    ("sku,name,,\n{0},Tea,,\n", ()),
    ("sku,name,,stock\n{0},Tea,x,100.0000\n", ()),
    ("\n\n,,\nsku,name,stock\n,,\n{0},Tea,1E+2\n\n,,\n", ()),
    ("sep=;\nsku;name;price\n{0};Tea;12.50\n", ("--set", "currency=EUR")),
    ("sku\tname\tprice\n{0}\tTea\t1.234,50\n", ("--delimiter", "tab", "--decimal-comma", "--set", "currency=EUR")),
    ("sku;name;price\n{0};Tea;1234,5\n", ("--delimiter", ";", "--decimal-comma", "--set", "currency=EUR")),
    ("sku,name\n{0},Grüner Tee\n".encode("utf-16"), ()),
    ("sku,name\n{0},Grüner Tee\n".encode("utf-16-le"), ("--encoding", "utf-16-le")),
    ("sku,name\n{0},Grüner Tee\n".encode("cp1252"), ("--encoding", "cp1252")),
    ("\ufeffsku,name\r\n{0},Tea\r\n", ()),
    ("sku,name,name\n{0},Tea,Tea\n", ("--column", "name=sku")),
    ('sku,name\n{0},"NULL"\n', ()),
    ("sku,name\n{0},NULL\n", ("--null", "")),
    ('sku,name\n="{0}",Tea\n', ()),
    ('"=""sku""",name,stock\n"=""{0}""",="Tea","=""12"""\n', ()),
]


@pytest.mark.parametrize(("content", "options"), SPELLINGS, ids=range(len(SPELLINGS)))
def test_file_is_read_as_other_programs_write_it(
    content: str | bytes, options: tuple[str, ...], cli: CommandLine, tmp_path: Path
) -> None:
    sku = new_id("W")
    wide = isinstance(content, bytes) and b"{\0" in content
    data = content.encode() if isinstance(content, str) else content
    file = write(
        tmp_path,
        data.replace("{0}".encode("utf-16-le" if wide else "ascii"), sku.encode("utf-16-le" if wide else "ascii")),
    )
    assert count(run_import(cli, "products", file, *options)) == {"created": 1}
    assert cli.json("products", "show", sku)["displayName"] in {"Tea", "Grüner Tee", "NULL", sku}


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ("sku,name,stock\nX,Tea,12.5\n", (), "stock: '12.5' is not a whole number"),
        ('sku,name,price\nX,Tea,"1,234"\n', ("--set", "currency=EUR"), "add --decimal-comma"),
        ("sku,name,price\nX,Tea,1e999999\n", ("--set", "currency=EUR"), "is not a number"),
        ("sku,name,price\nX,Tea,1E+99\n", ("--set", "currency=EUR"), "too many digits"),
        (
            "sku,name,price\nX,Tea,12.50\n",
            ("--decimal-comma", "--set", "currency=EUR"),
            "not a number such as 1.234,50",
        ),
        ("sku,name,barcode\nX,Tea,4.00638E+12\n", (), "barcode: '4.00638E+12' was rounded by a spreadsheet"),
        ("sku,name\n4.00638E+12,Tea\n", (), "sku: '4.00638E+12' was rounded by a spreadsheet"),
        ('sku;name\n="4,00638E+12";Tea\n', ("--delimiter", ";"), "sku: '4,00638E+12' was rounded by a spreadsheet"),
        ("sku,name\nX,NULL\n", (), "name is missing"),
        (b"sku,name\nX,Gr\xfcn\n", (), "--encoding cp1252"),
        ("sku,name,id\nX-1,Tea,x-shared\nX-2,Pot,x-shared\n", (), "line 2 gives products/x-shared 'Tea'"),
    ],
)
def test_spelling_that_is_not_stated_is_reported(
    content: str | bytes, options: tuple[str, ...], expected: str, cli: CommandLine, tmp_path: Path
) -> None:
    run = run_import(cli, "products", write(tmp_path, content), *options, dry=True)
    assert expected in get_reason(run)


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ("sku,name\nX,Tea\n".encode("utf-16-le"), (), "--encoding utf-16-le"),
        ("sku,name\nX,Tea\n".encode("utf-16"), ("--encoding", "cp1252"), "byte order mark states utf-16"),
        ("sku,name,sku\nX,Tea,Y\n", (), "names a column twice: sku"),
        ("SKU,Name\nX,Tea\n", (), "add --column sku=SKU, or"),
        ("sku,name\nX,Tea\n", ("--encoding", "klingon"), "is not an encoding"),
        ("sku,name\nX,Tea\n", ("--encoding", "base64"), "is not an encoding"),
        ("sku,name\nX,Tea\n", ("--format", "amazon"), "formats: shopify-products"),
        ("sku,name\nX,Tea\n", ("--format", "shopify-orders"), "has no products"),
        ("sku,name\nX,Tea\n", ("--format", "shopify-products"), "it has no column Handle"),
    ],
)
def test_file_that_is_written_otherwise_is_a_usage_error(
    content: str | bytes, options: tuple[str, ...], expected: str, cli: CommandLine, tmp_path: Path
) -> None:
    run = cli("import", "products", write(tmp_path, content), *options)
    assert run.code == 2
    assert expected in " ".join(run.err.split())


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        (("--date-format", "%m/%d/%Y %H:%M"), "12/1/2010 8:26", "2010-12-01T08:26:00"),
        (("--date-format", "%d.%m.%Y"), "04.07.1996", "1996-07-04T00:00:00"),
        (("--date-format", "%m/%d/%Y", "--time-zone", "Asia/Tokyo"), "7/4/1996", "1996-07-03T15:00:00"),
        ((), "1996-07-04T12:00:00+02:00", "1996-07-04T10:00:00"),
        ((), "7/4/1996", "--date-format"),
        (("--date-format", "%d.%m.%Y"), "1996-07-04", "is not a date in the format"),
        (("--date-format", "%d.%m.%Y", "--date-format", "%m.%d.%Y"), "04.07.1996", "a different date in each"),
        (("--date-format", "%d.%m.%Y", "--date-format", "%m.%d.%Y"), "31.12.1996", "1996-12-31T00:00:00"),
    ],
)
def test_date_is_read_in_the_stated_format(
    options: tuple[str, ...],
    text: str,
    expected: str,
    catalogue: None,
    cli: CommandLine,
    client: Storekeep,
    tmp_path: Path,
) -> None:
    number = new_id("D")
    run = import_orders(cli, tmp_path, f"{number},DONE-1,1,1.00,ann,{text},{text}\n", *options)
    if run.code:
        assert expected in get_reason(run)
    else:
        (order,) = client.orders.list(filter=f'number = "{number}"')
        assert order.create_time.ToDatetime().isoformat() == expected


# -- orders: cells that differ


def test_cells_that_differ_within_an_order_are_never_merged_in_silence(
    catalogue: None, cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    part, freight, dates = new_id("P"), new_id("F"), new_id("E")
    rows = (
        f"{part},OPEN-1,3,1.00,ann,2001-05-01,2001-05-02,\n{part},OPEN-1,4,2.00,ann,2001-05-01,,\n"
        f"{freight},DONE-1,1,1.00,ann,2001-05-01,2001-05-02,4.50\n{freight},DONE-1,1,1.00,ann,2001-05-01,2001-05-02,4.50\n"
        f"{dates},DONE-1,1,1.00,ann,2001-05-01,2001-05-02,\n{dates},DONE-1,1,1.00,ann,2001-05-03,2001-05-04,\n"
    )
    run = import_orders(cli, tmp_path, rows, header=f"{LINES},shipping")
    assert run.document["orders"]["imported"] == 3
    orders = {order.number: order for order in client.orders.list(page_size=1000)}
    assert orders[part].state == OrderState.ORDER_STATE_PARTIALLY_FULFILLED
    assert [line.fulfilled_quantity for line in orders[part].lines] == [3, 0]
    notes = {note["first"]: note["text"] for note in run.document["notes"]}
    assert "counts once" in notes[freight]
    assert "several" in notes[dates]
    assert "line_shipping" in run.err
    again = import_orders(cli, tmp_path, rows, header=f"{LINES},shipping")
    assert again.document["orders"]["alreadyThere"] == 3
    added = import_orders(cli, tmp_path, rows.replace(freight, f"{freight}-2"), header=f"{LINES},line_shipping")
    (order,) = client.orders.list(filter=f'number = "{freight}-2"')
    assert (to_decimal(order.shipping), added.document["orders"]["imported"]) == (9, 1)


def test_cancelled_and_shipped_units_of_a_line_are_imported(
    catalogue: None, cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    number, gone = new_id("U"), new_id("U")
    rows = f"{number},OPEN-1,6,1.00,ann,2001-05-01,2001-05-02,2,3,\n{gone},DONE-1,6,1.00,ann,2001-05-01,,,,yes\n"
    run = import_orders(cli, tmp_path, rows, header=f"{LINES},cancelled_quantity,shipped_quantity,cancelled")
    assert run.document["orders"]["imported"] == 2, run.err
    (order,) = client.orders.list(filter=f'number = "{number}"')
    (line,) = order.lines
    assert (line.cancelled_quantity, line.fulfilled_quantity, line.open_quantity) == (2, 3, 1)
    (order,) = client.orders.list(filter=f'number = "{gone}"')
    assert (order.state, to_decimal(order.total)) == (OrderState.ORDER_STATE_CANCELLED, 0)


def test_report_never_has_a_live_formula(catalogue: None, cli: CommandLine, tmp_path: Path) -> None:
    report = tmp_path / "report.csv"
    import_orders(cli, tmp_path, "=2+2,NONE-1,1,1.00,ann,2001-05-01,2001-05-02\n", "--report", str(report))
    with report.open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert "'=2+2" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


# -- customers, stock


def test_email_of_any_script_is_imported(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    mark = new_id("E")
    good = ["müller@exämple.de", "用户@例子.广告", "δοκιμή@παράδειγμα.δοκιμή", "a@xn--exmple-cua.de"]
    bad = ["a b@x.de", "a@b@c.de", "@x.de", "a@", "a@-x.de", "a@x..de", "a\u200b@x.de", "a\u3000b@x.de", "x@y.de\u202e"]
    rows = "".join(f"{mark}-{number},Name,{email}\n" for number, email in enumerate([*good, *bad]))
    run = run_import(cli, "customers", write(tmp_path, f"id,name,email\n{rows}"))
    assert count(run) == {"created": len(good), "failed": len(bad)}
    assert client.customers.get(f"customers/{mark}-0").email == good[0]
    assert all("an email address" in reason for reason in reasons(run).values())


def test_stock_of_skus_that_look_like_filters_is_looked_up(cli: CommandLine, tmp_path: Path) -> None:
    mark = new_id("NOTE")
    skus = [f"{mark}-NOTEPAD-{'NOT' * 3}-{number}" for number in range(60)]
    run_import(cli, "products", write(tmp_path, "sku,name\n" + "".join(f"{sku},Pad\n" for sku in skus)))
    file = write(tmp_path, "sku,quantity\n" + "".join(f"{sku},1\n" for sku in skus))
    assert count(run_import(cli, "stock", file)) == {"created": 60}
    assert count(run_import(cli, "stock", file)) == {"unchanged": 60}


def test_default_time_zone_needs_no_database_of_time_zones(
    catalogue: None, cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoneinfo.TZPATH", ())
    row = f"{new_id('Z')},DONE-1,1,1.00,ann,2001-05-01,2001-05-02\n"
    assert import_orders(cli, tmp_path, row).document["orders"]["imported"] == 1
