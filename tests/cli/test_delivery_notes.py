"""An order as a delivery note: where its units are allocated, and not where the request would have had them."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from storekeep.client import PermissionDenied, ServerUnreachable, StorekeepError
from storekeep.client.inventory import Inventory
from tests.support.command_line import CommandLine
from tests.support.shops import Shop, new_id


def read_locations(text: str) -> str:
    """Return the locations that a delivery note names; empty if none."""
    named = re.search(r"^ship from +(.*?) *$", text, re.MULTILINE)
    return named[1] if named else ""


def test_order_ships_from_where_its_units_are_allocated(cli: CommandLine, shop: Shop) -> None:
    sku, customer, attic = shop.variant(stock=9).sku, shop.customer().name, new_id("z")
    cli.json("locations", "create", "--id", attic, "--name", "Attic", "--priority", "9")
    cli.json("stock", "transfer", f"{sku}=9", "--from", "main", "--to", attic)
    placing = ("orders", "place", "--customer", customer, "--line", f"{sku}=1", "--currency", "EUR")
    placed = cli(*placing).out
    assert read_locations(placed) == f"locations/{attic}"
    assert read_locations(cli(*placing, "--dry-run").out) == ""
    number = placed.split()[1]
    cli.json("orders", "confirm", number)
    cli.json("stock", "adjust", sku, "--by", "2")
    assert (
        read_locations(cli("orders", "edit", number, "--add", f"{sku}=2").out) == f"locations/main, locations/{attic}"
    )
    cli.json("orders", "cancel", number)
    assert read_locations(cli("orders", "show", f" {number}\u00a0").out) == ""


@pytest.mark.parametrize(
    ("error", "notice"),
    [
        (ServerUnreachable("127.0.0.1:1 is unreachable"), "127.0.0.1:1 is unreachable"),
        (TimeoutError(110, "another command has locked it", "session.lock"), "another command has locked it"),
        (PermissionDenied("needs stock.read"), ""),
    ],
)
def test_changed_order_is_shown_although_its_locations_cannot_be_read(
    cli: CommandLine, shop: Shop, monkeypatch: pytest.MonkeyPatch, error: StorekeepError | OSError, notice: str
) -> None:
    sku, customer = shop.variant(stock=9).sku, shop.customer().name

    def fail() -> None:
        raise error

    monkeypatch.setattr(Inventory, "list_stock_movements", lambda *_, **__: SimpleNamespace(page=fail))
    placed = cli("orders", "place", "--customer", customer, "--line", f"{sku}=1", "--currency", "EUR")
    assert (placed.code, read_locations(placed.out)) == (0, "")
    number = placed.out.split()[1]
    for words in (("hold", number), ("update", number, "--note", "x"), ("cancel", number), ("show", number)):
        run = cli("orders", *words)
        assert (run.code, run.out.split()[1]) == (0, number)
        assert notice in run.err
        assert len(run.err.splitlines()) == bool(notice)
