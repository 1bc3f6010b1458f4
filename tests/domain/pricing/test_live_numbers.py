"""Orders of a running server cost what the model says, when they are placed and after each change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.live_pricing import check_orders, check_uses

CASES = 5
"""Random orders for each kind of settings. `make prove` has more."""


@pytest.mark.parametrize("kind", ["gross", "net by unit"])
def test_random_orders_cost_what_the_model_says_through_all_changes(engine: str, tmp_path: Path, kind: str) -> None:
    check_orders(engine, tmp_path, kind, seeds=range(CASES))


def test_random_orders_share_the_limits_of_promotions_and_give_uses_back(engine: str, tmp_path: Path) -> None:
    check_uses(engine, tmp_path, seeds=range(CASES))
