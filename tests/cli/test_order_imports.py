"""Imports of historic orders from CSV files into a real server: every row is imported or reported."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sysconfig
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from storekeep.client import Order, OrderState, Storekeep, to_decimal
from tests.support import northwind
from tests.support.command_line import CommandLine, Run
from tests.support.processes import ServerProcess
from tests.support.shops import new_id

COMMAND = Path(sysconfig.get_path("scripts"), "storekeep")
HEADER = "number,sku,quantity,unit_price,customer,order_date,ship_date"
GUESTS = ("--cancel-negative", "--column", "customer=customer", "--set", "customer=guest")


def write(tmp_path: Path, text: str, name: str = "orders.csv") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def catalogue(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two customers, four SKUs, and stock of one of them."""
    folder = tmp_path_factory.mktemp("catalogue")
    products = write(folder, "sku,name,stock\nTEA-1,Assam,9\nTEA-2,Keemun,\nTEA-3,Sencha,\nPOST,Postage,\n")
    customers = write(folder, "id,name\nann,Ann\nbob,Bob\nguest,Guest\n", "customers.csv")
    access = {"STOREKEEP_ADDRESS": server.address, "STOREKEEP_API_KEY": server.admin_key}
    for kind, file in (("products", products), ("customers", customers)):
        subprocess.run([COMMAND, "import", kind, file, "--yes"], env=os.environ | access, check=True, timeout=60)


def import_orders(cli: CommandLine, *arguments: str) -> Run:
    run = cli("import", "orders", *arguments, "--set", "currency=EUR", "--yes", "--json")
    assert run.code in (0, 5), run.err
    return run


def counts(run: Run) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the counts of orders (imported, already there, left out) and of rows (also cancellations)."""
    orders, rows = run.document["orders"], run.document["rows"]
    order_counts = tuple(orders[name] for name in ("imported", "alreadyThere", "leftOut"))
    row_counts = tuple(rows[name] for name in ("imported", "alreadyThere", "cancellations", "leftOut"))
    assert sum(row_counts) == rows["total"]
    return order_counts, row_counts


def reasons(run: Run) -> dict[int, str]:
    return {failure["line"]: failure["reason"] for failure in run.document["failures"]}


def get_order(client: Storekeep, number: str) -> Order:
    (order,) = client.orders.list(filter=f'number = "{number}"')
    return order


def list_changes(client: Storekeep) -> list[str]:
    """Return the names of the audit entries, without those of logins by the command line."""
    return [entry.name for entry in client.audit.list(page_size=1000) if "AuthService" not in entry.method]


def fill_in_numbers(text: str) -> tuple[str, list[str]]:
    """Return the text with unique order numbers for `{0}`, `{1}` and so on, and the numbers."""
    numbers = [new_id("N") for _ in range(10)]
    return text.format(*numbers), numbers


def test_rows_become_orders_wherever_they_stand(
    catalogue: None, cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    text, numbers = fill_in_numbers(
        f"{HEADER},discount_rate,shipping,note,country,city\n"
        "{0},TEA-1,2,7.35,ann,2001-05-01,2001-05-03,15%,4.50,,Germany,Ulm\n"
        "{1},TEA-2,1,1.25,bob,2001-04-01T12:00:00+02:00,,,,by post,,\n"
        "{0},TEA-2,1,3.00,ann,2001-05-01,2001-05-03,0,4.50,,Germany,Ulm\n"
    )
    run = import_orders(cli, write(tmp_path, text.replace("TEA-2,1,1.25", "TEA-1,1,1.25")))
    assert (run.code, counts(run)) == (0, ((2, 0, 0), (3, 0, 0, 0)))
    first, second = get_order(client, numbers[0]), get_order(client, numbers[1])
    assert [(line.sku, line.quantity) for line in first.lines] == [("TEA-1", 2), ("TEA-2", 1)]
    assert to_decimal(first.total) == Decimal("20.00")  # 12.495 + 3 + 4.50, the first rounded up
    assert (first.state, first.shipping_address.locality) == (OrderState.ORDER_STATE_FULFILLED, "Ulm")
    assert (second.state, second.note) == (OrderState.ORDER_STATE_CONFIRMED, "by post")
    assert second.create_time.ToDatetime().isoformat() == "2001-04-01T10:00:00"


def test_second_run_changes_nothing(catalogue: None, cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    text, _ = fill_in_numbers(f"{HEADER}\n{{0}},TEA-2,1,2,ann,2001-05-01,2001-05-03\n{{1}},TEA-1,1,2,bob,2001-05-01,\n")
    file = write(tmp_path, text)
    import_orders(cli, file)
    before = list_changes(client)
    run = import_orders(cli, file)
    assert (run.code, counts(run)) == (0, ((0, 2, 0), (0, 2, 0, 0)))
    assert list_changes(client) == before


def test_import_without_yes_is_a_dry_run(catalogue: None, cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    text, numbers = fill_in_numbers(f"{HEADER}\n{{0}},TEA-2,1,2,ann,2001-05-01,2001-05-03\n")
    run = cli("import", "orders", write(tmp_path, text), "--set", "currency=EUR", "--json")
    assert (run.code, run.document["dryRun"], counts(run)) == (0, True, ((1, 0, 0), (1, 0, 0, 0)))
    assert not list(client.orders.list(filter=f'number = "{numbers[0]}"'))


def test_table_adds_up_for_people(catalogue: None, cli: CommandLine, tmp_path: Path) -> None:
    text, _ = fill_in_numbers(f"{HEADER}\n{{0}},TEA-2,1,2,ann,2001-05-01,2001-05-03\n")
    run = cli("import", "orders", write(tmp_path, text), "--set", "currency=EUR", "--yes")
    assert run.code == 0
    assert [line.split() for line in run.out.splitlines() if line.split()[:1] in (["orders"], ["rows"])] == [
        ["orders", "1", "0", "0", "0", "0"],
        ["rows", "1", "0", "0", "0", "0"],
    ]


BAD = f"""{HEADER},line_total,order_total,discount_amount
{{0}},TEA-1,2,1.00,ann,2001-05-01,2001-05-02,1.99,,
{{0}},TEA-2,1,1.00,ann,2001-05-01,2001-05-02,,,
{{1}},TEA-1,two,1.00,ann,2001-05-01,2001-05-02,,,
{{1}},TEA-2,1,1.00,ann,2001-05-01,2001-05-02,,,
{{2}},TEA-1,1,1.00,ann,2001-05-01,2001-05-02,,,
{{2}},TEA-2,1,1.00,bob,2001-05-01,2001-05-02,,,
{{3}},TEA-1,1,1.00,nobody,2001-05-01,2001-05-02,,,
{{4}},TEA-9,1,1.00,ann,2001-05-01,2001-05-02,,,
{{5}},TEA-1,-1,1.00,ann,2001-05-01,2001-05-02,,,
{{6}},TEA-1,1,1.00,ann,1 May 2001,2001-05-02,,,
{{7}},TEA-3,1,1.00,ann,2001-05-01,,,,
,TEA-1,1,1.00,ann,2001-05-01,2001-05-02,,,
SK-00000001,TEA-1,1,1.00,ann,2001-05-01,2001-05-02,,,
{{8}},TEA-1,1,1.00,ann,2001-05-01,2001-05-02,,5,1
{{9}},TEA-1,1,1.00,ann,2001-05-01,2001-05-02,1.00,1.00,
{{9}}0,TEA-1,1,1.00,ann,1801-05-01,,,,
"""


def test_rows_that_are_not_imported_are_told_and_reported_with_their_reasons(
    catalogue: None, cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    text, numbers = fill_in_numbers(BAD)
    report = tmp_path / "report.csv"
    run = import_orders(cli, write(tmp_path, text), "--report", str(report))
    assert (run.code, counts(run)) == (5, ((1, 0, 11), (1, 0, 0, 15)))
    expected = {
        2: "DOES_NOT_ADD_UP",
        3: "DOES_NOT_ADD_UP",
        4: "'two' is not a whole number",
        5: "left out because lines line 4",
        6: "customer: its rows have both 'ann' and 'bob'",
        7: "customer: its rows have both 'ann' and 'bob'",
        8: "CUSTOMER_NOT_FOUND",
        9: "SKU_NOT_FOUND: no such SKU: TEA-9",
        10: "--cancel-negative",
        11: "is not a date",
        12: "left out because lines line 13, which cannot be read, may belong to it",
        13: "number is missing",
        14: "left out because lines line 13, which cannot be read, may belong to it",
        15: "DOES_NOT_ADD_UP",
        17: "order_date: must be at least",
    }
    assert {line for line, text in expected.items() if text not in reasons(run).get(line, "")} == set()
    assert sorted(reasons(run)) == sorted(expected)
    with report.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["line"]): row["reason"] for row in rows} == reasons(run)
    assert [row["number"] for row in rows][:2] == [numbers[0]] * 2
    assert to_decimal(get_order(client, numbers[9]).total) == 1


def test_cancellations_take_units_off_the_newest_earlier_order_of_the_customer(
    catalogue: None, cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    text, numbers = fill_in_numbers(
        f"{HEADER}\n"
        "{0},TEA-1,5,2.00,ann,2001-05-01,2001-05-01\n"
        "C1,TEA-1,-4,2.0,ann,2001-05-04,\n"
        "{1},TEA-1,3,2.00,ann,2001-05-02,2001-05-02\n"
        "{2},TEA-1,9,2.00,ann,2001-05-05,2001-05-05\n"
        "{3},TEA-1,9,2.50,ann,2001-05-01,2001-05-01\n"
        "{4},TEA-1,9,2.00,,2001-05-01,2001-05-01\n"
        "C2,TEA-1,-5,2.00,ann,2001-05-04,\n"
        "C3,TEA-1,-9,2.00,,2001-05-02,\n"
        "{5},TEA-9,2,1.00,ann,2001-05-01,2001-05-01\n"
        "C4,TEA-9,-1,1.00,ann,2001-05-02,\n"
    )
    run = import_orders(cli, write(tmp_path, text), *GUESTS)
    assert counts(run) == ((5, 0, 1), (5, 0, 2, 3))
    cancelled = [get_order(client, number).lines[0].cancelled_quantity for number in numbers[:5]]
    assert cancelled == [1, 3, 0, 0, 9]
    states = [get_order(client, numbers[place]).state for place in (1, 4)]
    assert states == [OrderState.ORDER_STATE_CANCELLED] * 2
    assert "cancels more units (5) than earlier orders have (4) of TEA-1 at 2 for ann" in reasons(run)[8]
    assert reasons(run)[11] == f"it cancels units of order {numbers[5]}, which is left out"


def test_rows_of_shipping_are_what_shipping_costs(
    catalogue: None, cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    text, numbers = fill_in_numbers(
        f"{HEADER}\n"
        "{0},TEA-2,1,2.00,ann,2001-05-01,2001-05-02\n"
        "{0},POST,2,4.00,ann,2001-05-01,2001-05-02\n"
        "{1},POST,1,4.00,ann,2001-05-01,2001-05-02\n"
    )
    run = import_orders(cli, write(tmp_path, text), "--shipping-sku", "POST")
    assert counts(run) == ((1, 0, 1), (2, 0, 0, 1))
    order = get_order(client, numbers[0])
    assert (len(order.lines), to_decimal(order.shipping), to_decimal(order.total)) == (1, 8, 10)
    assert reasons(run) == {4: "it has only shipping costs"}


def test_two_files_are_joined_by_number(catalogue: None, cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    lines, numbers = fill_in_numbers("order,sku,quantity,unit_price\n{0},TEA-2,1,2\n{1},TEA-2,1,2\n{2},TEA-2,1,2\n")
    heads = (
        f"order,customer,order_date,shipped\n{numbers[0]},ann,2001-05-01,2001-05-02\n"
        f"{numbers[1]},ann,some day,\n{numbers[3]},bob,2001-05-01,2001-05-02\n"
    )
    files = (write(tmp_path, lines), "--orders", write(tmp_path, heads, "heads.csv"))
    run = import_orders(cli, *files, "--column", "number=order", "--column", "ship_date=shipped")
    assert counts(run) == ((1, 0, 3), (1, 0, 0, 2))
    expected = {(failure["file"], failure["line"]): failure["reason"] for failure in run.document["failures"]}
    assert set(expected) == {("lines", 3), ("lines", 4), ("orders", 3), ("orders", 4)}
    assert expected["lines", 3] == "left out because orders line 3, of the same order, is left out"
    assert expected["lines", 4] == "the order file has no row for it"
    assert expected["orders", 4] == "the other file has no lines of this order"
    assert get_order(client, numbers[0]).state == OrderState.ORDER_STATE_FULFILLED


def test_columns_without_a_target_are_named_of_both_files(catalogue: None, cli: CommandLine, tmp_path: Path) -> None:
    lines, _ = fill_in_numbers("number,sku,quantity,unit_price,weight,empty\n{0},TEA-2,1,2 EUR,5,\n")
    heads, _ = fill_in_numbers("number,customer,order_date,shop\n")
    heads += lines.splitlines()[1].split(",")[0] + ",ann,2001-05-01,West\n"
    files = (write(tmp_path, lines), "--orders", write(tmp_path, heads, "heads.csv"))
    run = import_orders(cli, *files)
    assert run.document["ignoredColumns"] == ["shop", "weight"]
    assert "Not imported, because they are no targets: the columns shop, weight. See --column." in run.err


def test_amounts_may_repeat_the_currency(catalogue: None, cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    rows = (
        "{0},TEA-2,2,EUR 2.50,EUR,ann,2001-05-01,2001-05-02,4.90 EUR\n"
        "{1},TEA-2,2,2.50 USD,EUR,ann,2001-05-01,2001-05-02,\n"
    )
    text, numbers = fill_in_numbers(
        "number,sku,quantity,unit_price,currency,customer,order_date,ship_date,shipping\n" + rows
    )
    run = import_orders(cli, write(tmp_path, text))
    assert counts(run) == ((1, 0, 1), (1, 0, 0, 1))
    assert to_decimal(get_order(client, numbers[0]).total) == Decimal("9.90")
    assert reasons(run) == {3: "unit_price: '2.50 USD' is not in EUR"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--column", "colour=a"], "no target 'colour'"),
        (["--column", "sku=nowhere"], "no column 'nowhere'"),
        (["--time-zone", "Mars/Olympus"], "not a time zone"),
        (["--orders", "nowhere.csv"], "cannot read nowhere.csv"),
        (["--set", "customer=ann"], "no column is mapped to currency"),
    ],
)
def test_command_line_that_cannot_be_used_is_a_usage_error(
    arguments: list[str], expected: str, cli: CommandLine, tmp_path: Path
) -> None:
    run = cli("import", "orders", write(tmp_path, f"{HEADER}\n"), *arguments, "--yes")
    assert run.code == 2
    assert expected in run.err


def test_import_that_was_killed_goes_on_where_it_was(
    catalogue: None, server: ServerProcess, cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    mark = new_id("K")
    rows = [
        f"{mark}-{order},TEA-{1 + line},1,{order % 9}.{line}5,ann,2001-05-01,2001-05-02"
        for order in range(4000)
        for line in range(2)
    ]
    file = write(tmp_path, "\n".join([HEADER, *rows, ""]))
    access = {"STOREKEEP_ADDRESS": server.address, "STOREKEEP_API_KEY": server.admin_key}
    command = [COMMAND, "import", "orders", file, "--set", "currency=EUR", "--yes", "--json"]
    with subprocess.Popen(command, env=os.environ | access, stdout=subprocess.PIPE, text=True) as process:
        give_up = time.monotonic() + 60
        while not list(client.orders.list(filter=f'number = "{mark}-200"', page_size=1)):
            assert time.monotonic() < give_up
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
        assert (process.returncode, out) == (-signal.SIGKILL, "")
    orders, row_counts = counts(import_orders(cli, file))
    assert 200 < orders[1] < 4000
    assert (sum(orders), orders[2], sum(row_counts)) == (4000, 0, 8000)
    found = Counter(order.number for order in client.orders.list(page_size=1000) if order.number.startswith(mark))
    assert found == Counter({f"{mark}-{number}": 1 for number in range(4000)})
    assert server.run("verify").returncode == 0


def test_long_notes_go_in_several_calls(catalogue: None, cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    mark, note = new_id("L"), "é" * 2000
    rows = [f"{mark}-{number},TEA-2,1,1,ann,2001-05-01,2001-05-02,{note}" for number in range(299)]
    rows.append(f"{mark}-299,TEA-2,1,1,ann,2001-05-01,2001-05-02,{note}é")
    run = import_orders(cli, write(tmp_path, "\n".join([f"{HEADER},note", *rows, ""])))
    assert (run.code, counts(run)[0]) == (5, (299, 0, 1))
    assert reasons(run) == {301: "note: more than 2000 characters"}
    assert get_order(client, f"{mark}-298").note == note


def test_server_that_is_gone_ends_the_import(cli: CommandLine, tmp_path: Path) -> None:
    file = write(tmp_path, f"{HEADER}\nX-1,TEA-2,1,2,ann,2001-05-01,2001-05-02\n")
    run = cli("import", "orders", file, "--set", "currency=EUR", "--yes", "--address", "127.0.0.1:1")
    assert run.code == 4
    assert "Stopped after 0 orders; run the import again to continue." in run.err


# -- Northwind


@pytest.mark.skipif(not northwind.DATA.is_dir(), reason="the Northwind data is not beside this checkout")
def test_northwind_is_taken_over_whole_once_there_is_stock(
    make_server: Any, monkeypatch: pytest.MonkeyPatch, bare_cli: CommandLine
) -> None:
    server = make_server()
    monkeypatch.setenv("STOREKEEP_ADDRESS", server.address)
    monkeypatch.setenv("STOREKEEP_API_KEY", server.admin_key)
    for kind, columns in (("products", northwind.PRODUCTS), ("customers", northwind.CUSTOMERS)):
        assert bare_cli("import", kind, str(northwind.DATA / f"{kind}.csv"), *columns, "--yes").code == 0
    command = ("import", "orders", *northwind.ORDERS, "--yes", "--json")
    with Storekeep(server.address, api_key=server.admin_key) as client:
        run = bare_cli(*command)
        (imported, _, left_out), _ = counts(run)
        assert (run.code, imported + left_out) == (5, 830)
        assert 0 < left_out <= len(northwind.unshipped()) == 21
        assert all(failure["reason"].startswith("OUT_OF_STOCK") for failure in run.document["failures"])
        for sku, units in northwind.needed().items():
            client.inventory.adjust_stock(f"locations/main/stockLevels/{sku}", quantity_delta=units)
        run = bare_cli(*command)
        assert (run.code, counts(run)[0]) == (0, (left_out, imported, 0))
        orders = {order.number: order for order in client.orders.list(page_size=1000)}
    assert {number: to_decimal(order.total) for number, order in orders.items()} == northwind.totals()
    still_open = {number for number, order in orders.items() if order.state == OrderState.ORDER_STATE_CONFIRMED}
    assert still_open == northwind.unshipped()
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout
