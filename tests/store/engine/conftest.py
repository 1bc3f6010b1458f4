"""Databases with notes only, and threads that write them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storekeep.server.store.engine import BATCH_MAX, Store
from tests.support.databases import Database, new_database
from tests.support.note_stores import CALLERS, new_store


@pytest.fixture
def database(engine: str, tmp_path: Path) -> Iterator[Database]:
    made = new_database(engine, tmp_path, migrated=False)
    yield made
    made.remove()


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    made = new_store(database)
    yield made
    made.close()


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(BATCH_MAX + CALLERS) as pool:
        yield pool
