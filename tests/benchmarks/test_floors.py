"""The pgbench script and the seeded orders, which are both built from one real order."""

from __future__ import annotations

import json
from pathlib import Path

import apsw
import pytest

from benchmarks import seeds
from benchmarks.floors.order_script import PlacedOrder, Script, Statement, UnclearStatements, read_transaction

ORDER_ID = "019a0000-0000-7000-8000-000000000001"
REQUEST_ID = "11111111-1111-4111-8111-111111111111"
ORDER = PlacedOrder(
    ORDER_ID, REQUEST_ID, "customer-007", ("SKU-0900", "SKU-0002"), 1_700_000_000_000_000, 41, "SK-00000041", "\\xaa"
)
BODY = json.dumps({"id": ORDER_ID, "note": None}, separators=(",", ":")).encode().hex()
LOCK = Statement("SELECT pg_advisory_xact_lock(7)")
READ = Statement('SELECT "t1"."sequence" FROM "audit_entries" AS "t1"')
INSERT = Statement("INSERT INTO audit_entries VALUES ($1, $2, $3, $4)", ("41", ORDER_ID, f"\\x{BODY}", None))
TAKE = Statement("UPDATE stock SET n = n - 1 WHERE sku IN ($1, $2)", ("SKU-0900", "it's"))


def log_line(message: str, detail: str = "", pid: int = 1) -> str:
    return json.dumps({"pid": pid, "message": message, "detail": detail})


def test_read_transaction_among_others_finds_that_of_the_order(tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    lines = [
        log_line("statement: BEGIN;SELECT 1"),
        log_line("execute s0: SELECT $1", "Parameters: $1 = 'other'", pid=2),
        log_line("execute s1: INSERT INTO orders VALUES ($1, $2)", f"Parameters: $1 = '{ORDER_ID}', $2 = 'it''s'"),
        log_line("statement: COMMIT"),
    ]
    log.write_text("\n".join(lines))
    found = read_transaction(log, ORDER_ID)
    assert [each.sql.split()[0] for each in found] == ["BEGIN", "SELECT", "INSERT", "COMMIT"]
    assert found[2].values == (ORDER_ID, "it's")
    with pytest.raises(UnclearStatements):
        read_transaction(log, REQUEST_ID)


def test_script_of_an_order_has_new_values_in_the_places_of_old_ones() -> None:
    script = Script(ORDER).make([Statement("BEGIN"), LOCK, TAKE, READ, INSERT, Statement("COMMIT")])
    assert ORDER_ID not in script
    assert "SKU-0900" not in script
    assert "\\startpipeline\nBEGIN;\n\\endpipeline" in script
    assert "uuidv7() AS order_id" in script
    assert 'AS "t1" \\gset' in script
    assert "CAST(:sequence AS BIGINT) + 1, CAST(:order_id AS TEXT), convert_to(" in script
    assert "NULL)" in script
    assert "'it''s'" in script
    assert script.endswith("COMMIT;\n")


def test_script_quotes_colons_so_that_pgbench_finds_no_variable_in_them() -> None:
    script = Script(ORDER).make([LOCK, INSERT, Statement("COMMIT")])
    assert ":null" not in script
    assert "\\072null" in script


def test_script_of_several_orders_reads_the_chain_once() -> None:
    script = Script(ORDER).make([LOCK, READ, INSERT, Statement("COMMIT")], orders=3)
    assert script.count('FROM "audit_entries"') == 1
    assert script.count("INSERT INTO audit_entries") == 3
    assert script.count("\\set sequence :sequence + 1") == 2


def test_script_without_lock_is_refused() -> None:
    with pytest.raises(UnclearStatements):
        Script(ORDER).make([INSERT, Statement("COMMIT")])


def test_order_id_of_a_number_is_what_the_seeds_have() -> None:
    connection = apsw.Connection(":memory:")
    for number in (0, 1, 65_537, 999_999):
        (written,) = connection.execute(
            f"SELECT {seeds._format_order_id_sql(seeds.SQLITE)} FROM (SELECT {number} AS n)"
        ).fetchone()
        assert written == seeds.format_order_id(number)
