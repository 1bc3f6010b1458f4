"""Imports in batches: each row by itself, rows of one product in any mixture, and few calls for many rows."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from storekeep.client import Storekeep
from tests.cli.test_import_faults import count, reasons, run_import, write
from tests.support.command_line import CommandLine
from tests.support.shops import new_id

HEADER = "sku,name,id,description,price,currency,stock,category,discontinued\n"
BAD_CELLS = ("1.005,EUR,1,", "-1,EUR,1,", "1,BTC,1,", "1,EUR,-1,", f"1,EUR,1,{'x' * 300}")


def list_writes(client: Storekeep) -> list[str]:
    """Return the methods of the changes so far, newest first, without those of logins."""
    entries = client.audit.list(page_size=1000)
    return [entry.method.rpartition("/")[2] for entry in entries if "AuthService" not in entry.method]


def test_rows_are_written_in_batches_and_an_invalid_one_costs_no_other_its_batch(
    cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    mark = new_id("B")
    rows = [f"{mark}-{number},Name {number},,,{number}.50,EUR,{number},,\n" for number in range(1, 61)]
    rows[10] = f"{mark}-11,{'x' * 201},,,1,EUR,1,,\n"
    rows[30] = f"{mark}-31,Too fine,,,1.005,EUR,1,,\n"
    before = len(list_writes(client))
    run = run_import(cli, "products", write(tmp_path, HEADER + "".join(rows)))
    assert count(run) == {"created": 58, "failed": 2}
    assert sorted(reasons(run)) == [12, 32]
    methods = list_writes(client)
    written = methods[: len(methods) - before]
    assert {method for method in written if not method.startswith("Batch")} == set()
    levels = client.inventory.list_stock_levels(filter=f'sku = "{mark}-60"')
    assert [level.on_hand for level in levels] == [60]


def test_rows_that_change_one_product_are_all_imported(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    mark = new_id("B")
    rows = [f"{mark}-{number},{{name}},{mark}-p,{{text}},,,{number},,\n" for number in range(1, 30)]
    first = HEADER + "".join(row.format(name="Tea", text="") for row in rows)
    assert count(run_import(cli, "products", write(tmp_path, first))) == {"created": 29}
    renamed = HEADER + "".join(row.format(name="Green tea", text="") for row in rows)
    file = write(tmp_path, renamed)
    assert count(run_import(cli, "products", file, dry=True)) == {"updated": 29}
    assert count(run_import(cli, "products", file)) == {"updated": 29}
    assert client.products.get(f"products/{mark}-p").display_name == "Green tea"
    assert count(run_import(cli, "products", file)) == {"unchanged": 29}


def test_rows_of_one_product_with_other_cells_each_count_as_in_the_dry_run(
    cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    mark = new_id("B")
    cells = [("", ""), ("Leaves", ""), ("", f"{mark} Teas"), ("Leaves", f"{mark} Teas"), ("", "")]
    new = "".join(
        f"{mark}-{number},Tea,{mark}-p,{text},,,,{category},\n" for number, (text, category) in enumerate(cells)
    )
    file = write(tmp_path, HEADER + new)
    assert count(run_import(cli, "products", file, dry=True)) == {"created": 5}
    assert count(run_import(cli, "products", file)) == {"created": 5}
    product = client.products.get(f"products/{mark}-p")
    assert (product.description, product.category.startswith("categories/")) == ("Leaves", True)
    changed = write(tmp_path, HEADER + new.replace("Leaves", "Buds"))
    assert count(run_import(cli, "products", changed, dry=True)) == {"updated": 2, "unchanged": 3}
    assert count(run_import(cli, "products", changed)) == {"updated": 2, "unchanged": 3}
    assert client.products.get(f"products/{mark}-p").description == "Buds"


@pytest.mark.parametrize("seed", range(3))
def test_dry_run_of_any_mixture_counts_and_explains_as_the_import(
    cli: CommandLine, client: Storekeep, tmp_path: Path, seed: int
) -> None:
    chance, mark = random.Random(seed), new_id("B")
    products = [f"{mark}-p{chance.randrange(12)}" if chance.random() < 0.4 else "" for _ in range(260)]

    def make_row(number: int) -> str:
        product = products[number]
        shared = f"Tea {product or number}"
        good = f"{chance.randrange(50)}.50,EUR,{chance.randrange(5)},"
        cells = chance.choice(BAD_CELLS) if chance.random() < 0.1 else good
        archived = chance.choice(["yes", "no", "", ""]) if not product else ""
        return f"{mark}-{number},{shared},{product},,{cells},{archived}\n"

    kept = "".join(make_row(number) for number in range(0, 260, 4))
    run_import(cli, "products", write(tmp_path, HEADER + kept))
    file = write(tmp_path, HEADER + "".join(make_row(number) for number in range(260)))
    preview = run_import(cli, "products", file, dry=True)
    act = run_import(cli, "products", file)
    told = [
        {line: reason.partition(", request id")[0] for line, reason in reasons(run).items()} for run in (preview, act)
    ]
    assert told[0] == told[1]
    assert count(preview) == count(act)
    assert sum(count(act).values()) == 260
    again = count(run_import(cli, "products", file))
    assert again.get("failed") == count(act).get("failed")
    assert again.get("created", 0) + again.get("updated", 0) == 0
