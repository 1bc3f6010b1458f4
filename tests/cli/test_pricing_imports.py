"""`storekeep import prices` and `storekeep import coupons`: rows become resources, and repeats change nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from storekeep.client import Coupon, Storekeep
from tests.support.command_line import CommandLine
from tests.support.pricing import TEN_PERCENT, build_price
from tests.support.shops import new_id

COUNTS = ("created", "updated", "unchanged", "failed")


def run_import(cli: CommandLine, kind: str, path: Path, text: str, *options: str) -> tuple[int, ...]:
    path.write_text(text)
    run = cli("import", kind, str(path), *options, "--yes", "--json")
    assert run.code in (0, 5), run.err
    document: Any = run.document
    return tuple(document[name] for name in COUNTS)


def test_prices_are_created_then_changed_and_a_repeat_changes_nothing(
    cli: CommandLine, client: Storekeep, tmp_path: Path
):
    sku, path = build_price(client).sku, tmp_path / "prices.csv"
    head = "sku,price,currency,group,minimum_quantity,start_time,compare_at\n"
    rows = f"{sku},9.50,EUR,gold,1,,\n{sku},8,EUR,gold,10,,12\n{sku},7,EUR,,1,2026-11-27T00:00:00Z,\n"
    wrong = f"NOWHERE,1,EUR,gold,1,,\n{sku},1,EUR,,1,,\n{sku},x,EUR,gold,5,,\n"
    assert run_import(cli, "prices", path, head + rows + wrong) == (3, 0, 0, 3)
    assert run_import(cli, "prices", path, head + rows) == (0, 0, 3, 0)
    spelled = rows.replace("9.50,", "9.50 eur,").replace("8,EUR", "EUR 8,EUR").replace(",12\n", ",EUR12\n")
    assert run_import(cli, "prices", path, head + spelled) == (0, 0, 3, 0)
    assert run_import(cli, "prices", path, head + f"{sku},9 USD,EUR,gold,1,,\n") == (0, 0, 0, 1)
    assert run_import(cli, "prices", path, head + rows.replace("9.50", "9.40")) == (0, 1, 2, 0)
    found = {
        price.minimum_quantity: price for price in client.prices.list(filter=f"sku = {sku} AND customer_group = gold")
    }
    assert (found[1].amount.units, found[1].amount.nanos) == (9, 400_000_000)
    assert found[10].compare_at.units == 12
    client.prices.delete(found[1].name)
    assert run_import(cli, "prices", path, head + rows) == (0, 0, 2, 1)


def test_coupons_are_created_then_changed_and_a_repeat_changes_nothing(
    cli: CommandLine, client: Storekeep, tmp_path: Path
):
    promotion, path = client.promotions.create(TEN_PERCENT).name.partition("/")[2], tmp_path / "coupons.csv"
    codes = [new_id("Code") for _ in range(2)]
    text = "code,max_uses\n" + "".join(f"{code},1\n" for code in codes)
    options = ("--set", f"promotion={promotion}")
    assert run_import(cli, "coupons", path, text + "a b,1\n", *options) == (2, 0, 0, 1)
    assert run_import(cli, "coupons", path, text.upper().replace("CODE,MAX_USES", "code,max_uses"), *options) == (
        0,
        0,
        2,
        0,
    )
    assert run_import(cli, "coupons", path, text.replace(",1", ",5"), *options) == (0, 2, 0, 0)
    assert client.coupons.get(f"coupons/{codes[0].lower()}").max_uses == 5
    other = client.promotions.create(TEN_PERCENT).name.partition("/")[2]
    assert run_import(cli, "coupons", path, text, "--set", f"promotion={other}") == (0, 0, 0, 2)


def test_many_coupons_are_written_in_batches_and_every_row_is_accounted_for(
    cli: CommandLine, client: Storekeep, tmp_path: Path
):
    promotion, prefix = client.promotions.create(TEN_PERCENT).name.partition("/")[2], new_id("Many")
    deleted = client.coupons.create(Coupon(promotion=f"promotions/{promotion}"), coupon_id=f"{prefix}-7")
    client.coupons.delete(deleted.name)
    client.coupons.create(Coupon(promotion=f"promotions/{promotion}", max_uses=9), coupon_id=f"{prefix}-8".upper())
    rows = [f"{prefix}-{number},{promotion},1" for number in range(1_200)]
    wrong = [f"{prefix}-x,nowhere,1", f"{prefix}-y,{promotion},many", f"{prefix}-z z,{promotion},1"]
    path = tmp_path / "coupons.csv"
    text = "\n".join(["code,promotion,max_uses", *rows, *wrong])
    assert run_import(cli, "coupons", path, text) == (1_198, 1, 0, 4)
    methods = Counter(entry.method.rpartition("/")[2] for entry in client.audit.list(page_size=1000))
    assert methods["BatchCreateCoupons"] > 900
    assert run_import(cli, "coupons", path, text) == (0, 0, 1_199, 4)
