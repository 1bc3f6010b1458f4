"""Erasures in the midst of load after many random operations; see `tests.support.erasure_load`."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import MakeServer
from tests.support.budgets import ROUNDS, SEED
from tests.support.erasure_load import erase_under_load

OPERATIONS = max(600, ROUNDS * 100 // 3)
ERASURES = max(10, ROUNDS // 3)


def test_customers_erased_under_load_are_unreadable_and_their_totals_stay(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server(access_token_lifetime_s="86400")
    refused = erase_under_load(server, tmp_path / "copy", operations=OPERATIONS, erasures=ERASURES, seed=SEED)
    print(f"\n{OPERATIONS} operations, {ERASURES} customers erased, refused: {dict(refused)}")  # noqa: T201 - the result
