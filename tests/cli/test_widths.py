"""Tables fit the width of the terminal by a rule: columns are shortened, then left out from the right."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl

import pytest
from rich.cells import cell_len

from storekeep.cli.orders import COLUMNS
from storekeep.cli.widths import fit_columns, shorten
from tests.support.processes import ServerProcess

ROW = ["SK-00001234", "customers/" + "e" * 40, "PARTIALLY_FULFILLED", "1204.50 EUR", "2026-01-31 12:00:00Z", "web-17"]


@pytest.mark.parametrize("width", range(1, 200, 3))
def test_whole_columns_are_never_cut_and_the_rest_fits(width: int) -> None:
    layout = fit_columns(COLUMNS, [ROW], width=width)
    cells = dict(zip(COLUMNS, ROW, strict=True))
    for column, chars in layout.widths.items():
        if column in {"number", "state", "total", "create_time"}:
            assert chars >= cell_len(cells[column])
    assert list(layout.widths) + list(layout.left_out) == list(COLUMNS)
    total = sum(layout.widths.values()) + (2 if layout.is_narrow else 3) * (len(layout.widths) - 1)
    assert total <= width or list(layout.widths) == ["number"]


def test_chosen_columns_are_not_left_out() -> None:
    layout = fit_columns(COLUMNS, [ROW], width=20, keeps_all=True)
    assert (list(layout.widths), layout.left_out) == (list(COLUMNS), ())


@pytest.mark.parametrize(
    ("text", "column", "short"),
    [
        ("Ernst Handel", "display_name", "Ernst H…"),
        ("customers/ernst", "customer", "…s/ernst"),
        ("short", "customer", "short"),
        ("茶茶茶茶茶", "display_name", "茶茶茶…"),
        ("one\nmore than one", "lines", "one\nmore th…"),
        ("prose that continues", "content", "prose that continues"),
    ],
)
def test_text_is_shortened_to_the_width(text: str, column: str, short: str) -> None:
    assert shorten(text, 8, column=column) == short


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
