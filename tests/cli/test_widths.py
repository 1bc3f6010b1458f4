"""Tables fit the width of the terminal by a rule: columns are shortened, then left out, the empty ones first."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from typing import cast

import pytest
from rich.cells import cell_len
from rich.console import Console

from storekeep.cli.orders import COLUMNS
from storekeep.cli.tables import build_row_table
from storekeep.cli.widths import Layout, fit_columns, shorten
from tests.support.processes import ServerProcess
from tests.support.shops import Shop, new_id

ROW = ["SK-00001234", "customers/" + "e" * 40, "PARTIALLY_FULFILLED", "1204.50 EUR", "2026-01-31 12:00:00Z", "web-17"]


@pytest.mark.parametrize("width", range(1, 200, 3))
def test_whole_columns_are_never_cut_and_the_rest_fits(width: int) -> None:
    layout = fit_columns(COLUMNS, [ROW], width=width)
    cells = dict(zip(COLUMNS, ROW, strict=True))
    for column, chars in layout.widths.items():
        if column in {"number", "state", "total", "create_time"}:
            assert chars >= cell_len(cells[column])
    assert [column for column in COLUMNS if column in layout.widths] == list(layout.widths)
    assert {*layout.widths, *layout.left_out} == set(COLUMNS)
    total = sum(layout.widths.values()) + (2 if layout.is_narrow else 3) * (len(layout.widths) - 1)
    assert total <= width or list(layout.widths) == ["number"]


def test_chosen_columns_are_not_left_out() -> None:
    layout = fit_columns(COLUMNS, [ROW], width=20, keeps_all=True)
    assert (list(layout.widths), layout.left_out) == (list(COLUMNS), ())


@pytest.mark.parametrize(
    ("text", "column", "short"),
    [
        ("Ernst Handel", "display_name", "Ernst H…"),
        ("customers/ernst", "customer", "…/ernst"),
        ("customers/ernst-handel", "customer", "…-handel"),
        ("short", "customer", "short"),
        ("茶茶茶茶茶", "display_name", "茶茶茶…"),
        ("one\nmore than one", "lines", "one\nmore th…"),
        ("prose that continues", "content", "prose that continues"),
    ],
)
def test_text_is_shortened_to_the_width(text: str, column: str, short: str) -> None:
    assert shorten(text, 8, column=column) == short


def test_empty_columns_are_left_out_first_and_without_a_word() -> None:
    row = [*ROW[:-1], ""]
    whole = fit_columns(COLUMNS, [ROW], width=200)
    needed = sum(chars for column, chars in whole.widths.items() if column != "external_reference")
    layout = fit_columns(COLUMNS, [row], width=needed + 3 * (len(COLUMNS) - 2))
    assert layout == Layout({column: whole.widths[column] for column in COLUMNS[:-1]})


def test_what_a_table_is_read_for_is_left_out_last() -> None:
    columns = ("line", "sku", "display_name", "ordered", "shipped", "open", "cancelled", "unit_price", "total")
    row = ["1", "TEA-ASSAM-100", "Assam Broken Gate", "2", "0", "2", "0", "7.90 EUR", "15.80 EUR"]
    layout = fit_columns(columns, [row], width=40)
    assert layout.widths.keys() >= {"line", "sku", "total"}
    assert "unit_price" in layout.left_out


def test_values_of_a_list_get_a_line_each_and_are_whole() -> None:
    rows = [["users/ann", "roles/operator, roles/viewer"]]
    table, left_out = build_row_table(rows, ("name", "roles"), width=26)
    console = Console(width=26, file=io.StringIO())
    console.print(table)
    assert re.findall(r"roles/\w+", cast("io.StringIO", console.file).getvalue()) == ["roles/operator", "roles/viewer"]
    assert left_out == ()


def run_on_terminal(server: ServerProcess, *arguments: str, columns: int) -> str:
    """Run the command line on a terminal and return what it shows."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    access = {"STOREKEEP_ADDRESS": server.address, "STOREKEEP_API_KEY": server.admin_key}
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TERM": "dumb", "LANG": "C.UTF-8"}
    command = [sys.executable, "-m", "storekeep.cli", *arguments]
    program = subprocess.Popen(command, env={**environment, **access}, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:
        while part := terminal.read(65536):  # an error when the program has closed the terminal
            shown += part
    assert program.wait(timeout=60) == 0, shown
    return shown.decode()


def test_list_on_a_terminal_of_80_columns_has_whole_numbers(server: ServerProcess) -> None:
    shown = run_on_terminal(server, "audit", "list", "--limit", "5", columns=80)
    lines = shown.replace("\r", "").splitlines()
    rows = [line for line in lines if re.match(r"\d+ ", line)]
    assert rows, shown
    assert len(rows) == len([line for line in lines if re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", line)])
    assert max(len(line) for line in rows) <= 80
    assert "No room for" in shown


def test_placed_order_on_a_terminal_of_80_columns_shows_its_totals(server: ServerProcess, shop: Shop) -> None:
    sku = shop.variant(prices={"EUR": "14.50"}, stock=5, display_name="stoneware, half a litre of tea fits").sku
    customer = shop.customer().name
    line = ("--line", f"{sku}=3", "--currency", "EUR")
    shown = run_on_terminal(server, "orders", "place", "--customer", customer, *line, columns=80)
    assert re.search(rf"{sku}.* 43\.50 EUR", shown), shown
    assert "No room for unit_price" in shown


def test_history_on_a_terminal_of_80_columns_shows_what_changed(server: ServerProcess, shop: Shop) -> None:
    order = shop.confirm(shop.order())
    shown = run_on_terminal(server, "orders", "history", order.number, columns=80)
    lines = [line.rstrip() for line in shown.replace("\r", "").splitlines()]
    assert max(len(line) for line in lines if not line.startswith("No room for")) <= 80
    assert "state: PLACED ->" in shown


def test_fulfillments_fit_a_terminal_of_80_columns(server: ServerProcess, shop: Shop) -> None:
    order = shop.confirm(shop.order())
    fulfillment = shop.ship(shop.fulfill(order), carrier="Post", tracking_number="RR123456785AT")
    shown = run_on_terminal(server, "fulfillments", "list", columns=80)
    lines = [line.rstrip() for line in shown.replace("\r", "").splitlines()]
    assert max(len(line) for line in lines if not line.startswith("No room for")) <= 80
    first = next(number for number, line in enumerate(lines) if line.startswith(f"{order.name}/"))
    assert "SHIPPED" in lines[first]
    assert f"{order.name}/{lines[first + 1].split()[0]}" == fulfillment.name
    shown = run_on_terminal(server, "fulfillments", "show", fulfillment.name, columns=80)
    assert re.search(
        rf"^name +{order.name}/ *\r?\n +{fulfillment.name.removeprefix(f'{order.name}/')}\b", shown, re.MULTILINE
    )


def test_id_on_a_terminal_of_80_columns_can_be_copied_into_a_command(server: ServerProcess, shop: Shop) -> None:
    order = shop.confirm(shop.order())
    fulfillment = shop.ship(shop.fulfill(order), carrier="Post", tracking_number="RR123456785AT")
    shown = run_on_terminal(server, "orders", "show", order.number, columns=80)
    (short,) = re.findall(r"^([0-9a-f-]+\u2026?) .*SHIPPED", shown, re.MULTILINE)
    assert short.endswith("\u2026")
    delivered = run_on_terminal(server, "fulfillments", "deliver", f"{order.number}/{short}", columns=120)
    assert fulfillment.name.rpartition("/")[2] in re.sub(r"\s", "", delivered)
    assert "DELIVERED" in delivered


def test_order_on_a_terminal_of_80_columns_cuts_no_time_and_no_sku(server: ServerProcess, shop: Shop) -> None:
    sku = f"PEPPERMINT-{new_id()[-6:]}"
    shop.variant(prices={"EUR": "14.50"}, stock=5, sku=sku)
    order = shop.confirm(shop.order((sku, 2)))
    shop.ship(shop.fulfill(order), carrier="Post", tracking_number="RR123456785AT")
    shown = run_on_terminal(server, "orders", "show", order.number, columns=80)
    assert f"1: 2 x {sku}" in shown, shown
    assert re.search(r"SHIPPED +20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ", shown), shown
    assert not re.search(r"20\d\d-[\d: -]*\u2026", shown), shown
