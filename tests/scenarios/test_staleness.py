"""Reads with `max_staleness` on a server without replicas return current data on every engine."""

from __future__ import annotations

from typing import Any

import pytest

from storekeep.client import InvalidField, Storekeep
from tests.support.shops import MAIN, Shop

OLD_S = 3_600.0
DAY_S = 86_400.0


def test_read_that_may_be_old_is_answered_with_what_is_so_now(client: Storekeep, shop: Shop):
    variant = shop.variant(stock=3)
    order = shop.order((variant.sku, 1))
    product = variant.name.rpartition("/variants/")[0]
    reads: list[tuple[Any, tuple[Any, ...]]] = [
        (client.orders.get, (order.name,)),
        (client.orders.batch_get, ([order.name],)),
        (client.products.get, (product,)),
        (client.variants.get, (variant.name,)),
        (client.inventory.get_stock_level, (f"{MAIN}/stockLevels/{variant.sku}",)),
        (client.inventory.check_availability, ([variant.sku],)),
        (client.audit.verify_chain, ()),
    ]
    for read, arguments in reads:
        assert read(*arguments, max_staleness_s=OLD_S) == read(*arguments)
    lists: list[tuple[Any, tuple[Any, ...]]] = [
        (client.orders.list, ()),
        (client.orders.list_history, (order.name,)),
        (client.products.search, (variant.sku,)),
        (client.audit.list, ()),
    ]
    for listed, arguments in lists:
        assert list(listed(*arguments, max_staleness_s=OLD_S)) == list(listed(*arguments))


@pytest.mark.parametrize("max_staleness_s", [-1.0, DAY_S + 1])
def test_read_that_may_be_too_old_is_refused(max_staleness_s: float, client: Storekeep):
    with pytest.raises(InvalidField) as refused:
        client.orders.list(max_staleness_s=max_staleness_s).page()
    assert [problem.field for problem in refused.value.fields] == ["max_staleness"]


def test_change_returns_a_consistency_token_on_engines_with_replicas(engine: str, client: Storekeep, shop: Shop):
    before = client.consistency_token
    client.customers.delete(shop.customer().name)
    assert (client.consistency_token > before) is (engine == "postgresql")
