"""The text index of SQLite is filled anew with a memory that does not depend on the number of documents."""

from __future__ import annotations

import apsw
import pytest

from storekeep.server.runtime.words import Term
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.search import CUSTOMER_INDEX, Words
from tests.support.databases import Database
from tests.support.stores import open_store

pytestmark = pytest.mark.engine("sqlite", reason="the index of PostgreSQL is a column, and is not filled")
DOCUMENTS = 8_000
TEXT_BYTES = 4_000
MEMORY_MAX_BYTES = 20 * 1024 * 1024
"""Above the caches of SQLite, 8 MiB for the writer, and below the 32 MB of the texts."""


def test_rebuild_keeps_the_order_and_not_all_texts_in_memory(database: Database) -> None:
    with database.opened() as session:
        session.run(
            "WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < ?) "
            "INSERT INTO customers (id, display_name, email, phone, addresses, labels, version, create_time_us, "
            "update_time_us) SELECT 'c' || n, '', '', '', '[]', '{}', 1, 1, 1 FROM counted",
            DOCUMENTS,
        )
    store = open_store(database.url)

    def put(tx: Transaction) -> None:
        for number in range(1, DOCUMENTS + 1):
            words = Words("all", "a" * 60 + f" {number:0{TEXT_BYTES}}"[:TEXT_BYTES], 1 + number % 3)
            CUSTOMER_INDEX.put(tx, f"c{number}", words)

    store.write(put)
    apsw.memory_high_water(True)
    before = apsw.memory_used()
    store.write(CUSTOMER_INDEX.rebuild)
    assert apsw.memory_high_water() - before < MEMORY_MAX_BYTES
    hits = store.read(lambda tx: CUSTOMER_INDEX.search(tx, Term("all"), after=(0, 0), limit=5))
    assert [hit.key for hit in hits] == ["c3", "c6", "c9", "c12", "c15"]  # the shortest, in the order of their ids
    store.close()
