"""Fixtures for orders that are placed together: a shop with stock at several locations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from storekeep.server.store.engine import Store
from tests.support.databases import Database
from tests.support.order_inputs import prepare
from tests.support.orders_together import open_shop


@pytest.fixture
def prepared(database: Database) -> Database:
    """A database with products, customers and locations."""
    prepare(database)
    return database


@pytest.fixture
def stocked(prepared: Database) -> Iterator[Store]:
    """The open store of `prepared`, with units at several locations."""
    with closing(open_shop(prepared)) as opened:
        yield opened
