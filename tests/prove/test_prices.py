"""Many random baskets cost the same by the calculation and by the model, and many orders of running servers do."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from storekeep.server.domain.pricing.calculation import price_basket
from tests.support.budgets import SEED
from tests.support.live_pricing import SETTINGS, check_orders, check_uses
from tests.support.pricing_inputs import make_case
from tests.support.pricing_model import check_case

BASKETS = int(os.environ.get("PROVE_BASKETS", "200000"))
"""Baskets; 200,000 take some minutes."""
ORDERS = 150
"""Orders for each kind of settings; a minute or two."""


def test_random_baskets_agree_with_the_model() -> None:
    for number in range(BASKETS):
        basket, terms = make_case(Random(SEED * BASKETS + number))
        check_case(basket, terms, price_basket(basket, terms))


@pytest.mark.parametrize("kind", SETTINGS)
def test_random_orders_agree_with_the_model_through_all_changes(engine: str, tmp_path: Path, kind: str) -> None:
    check_orders(engine, tmp_path, kind, seeds=range(SEED * ORDERS, (SEED + 1) * ORDERS))


def test_random_orders_share_the_limits_of_promotions_and_give_uses_back(engine: str, tmp_path: Path) -> None:
    check_uses(engine, tmp_path, seeds=range(SEED * ORDERS, (SEED + 1) * ORDERS))
