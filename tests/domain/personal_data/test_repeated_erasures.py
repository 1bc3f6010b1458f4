"""Erasures that an older backup lacks: newer keys restore it without the keys of customers that were erased since."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storekeep.server.domain.customers import CUSTOMERS, Customer
from storekeep.server.domain.errors import InvalidField
from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.orders.orders import get_order
from storekeep.server.domain.personal_data.erasures import (
    MERGED_CUSTOMERS_MAX,
    REPEATED_MAX,
    erase_customer,
    merge_customers,
    repeat_erasures,
)
from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.standard.blind_words import blind_condition
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.domain.stock.reservations import NewReservation, reserve
from storekeep.server.runtime.words import parse_query
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.search import CUSTOMER_INDEX
from storekeep.server.wiring.expirers import EXPIRERS
from tests.support.databases import Database, new_database
from tests.support.placing import CALL, place
from tests.support.stores import open_store

MARK = "zyxwv"
COUNT = REPEATED_MAX + 2


@pytest.fixture
def database(engine: str, tmp_path: Path) -> Iterator[Database]:
    made = new_database(engine, tmp_path)
    yield made
    made.remove()


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    with closing(open_store(database.url)) as opened:
        set_expirers(opened, EXPIRERS)
        load_sample(opened)
        yield opened


def create(store: Store, customer_id: str) -> str:
    customer = Customer(customer_id, MARK, email=f"{MARK}@example.com", labels={"person": MARK}, groups=(MARK,))
    return CUSTOMERS.create(store, CALL, customer).name


def destroy(store: Store, *names: str) -> None:
    """Destroy keys and nothing else: what an older backup is like that newer keys restored."""
    store.write(lambda tx: tx.data_keys.destroy(tx, names))


def list_breaches(store: Store) -> list[str]:
    return [breach for finding in verify(store, store.chain) for breach in finding.breaches]


def search(store: Store, query: str) -> list[str]:
    def work(tx: Transaction) -> list[str]:
        condition = blind_condition(tx, parse_query(query))
        return [hit.key for hit in CUSTOMER_INDEX.search(tx, condition, after=(0, 0), limit=9, show_all=True)]

    return store.read(work)


def read_all(database: Database, sql: str) -> list[tuple[object, ...]]:
    with database.opened() as session:
        return [tuple(row) for row in session.rows(sql)]


def test_customer_with_a_destroyed_key_is_erased_again_with_all_that_is_in_clear(
    store: Store, database: Database
) -> None:
    name = create(store, "ernst")
    order = place(store, "ernst", ("MUG-BLUE", 1))
    destroy(store, name)
    assert [breach for breach in list_breaches(store) if name in breach and "not erased" in breach]
    assert repeat_erasures(store) == 1
    erased = CUSTOMERS.get(store, ("ernst",))
    bare = Customer(
        "ernst",
        "",
        version=erased.version,
        create_time_us=erased.create_time_us,
        update_time_us=erased.update_time_us,
        delete_time_us=erased.delete_time_us,
        erase_time_us=erased.erase_time_us,
    )
    assert (erased, erased.erase_time_us is not None, erased.delete_time_us is not None) == (bare, True, True)
    assert search(store, MARK) == []
    assert read_all(database, "SELECT email, labels FROM customers WHERE id = 'ernst'") == [("", "{}")]
    entries = read_all(
        database, f"SELECT type, actor FROM audit_entries WHERE resource = '{name}' ORDER BY sequence DESC LIMIT 1"
    )
    assert entries == [("customer.erased", "system/erasures")]
    assert get_order(store, order.id).total_minor == order.total_minor
    assert list_breaches(store) == []
    assert repeat_erasures(store) == 0


def test_more_customers_than_a_batch_has_are_erased_again_and_no_others(store: Store) -> None:
    names = [create(store, f"ernst-{number}") for number in range(COUNT)]
    destroy(store, *names[1:])
    assert repeat_erasures(store) == COUNT - 1
    assert CUSTOMERS.get(store, ("ernst-0",)).display_name == MARK
    assert search(store, MARK) == ["ernst-0"]
    assert list_breaches(store) == []


def test_merge_of_more_customers_than_an_erasure_can_reach_is_refused(store: Store, database: Database) -> None:
    for customer_id in ("target", "source", "last"):
        create(store, customer_id)
    with database.opened() as session:
        columns = "addresses, labels, version, create_time_us, update_time_us"
        for number in range(MERGED_CUSTOMERS_MAX - 1):
            target = "target" if number % 2 else "source"
            session.run(
                f"INSERT INTO customers (id, display_name, email, phone, {columns}, merged_into)"
                f" VALUES (?, '', '', '', '[]', '{{}}', 1, 1, 1, ?)",
                f"merged-{number}",
                f"customers/{target}",
            )
    merge_customers(store, CALL, "target", "source")
    with pytest.raises(InvalidField, match="500 customers"):
        merge_customers(store, CALL, "target", "last")
    erase_customer(store, CALL, "target")
    assert CUSTOMERS.get(store, ("merged-0",)).erase_time_us is not None


def test_merged_customers_and_reservations_are_emptied_again(store: Store, database: Database) -> None:
    target, source = create(store, "ernst"), create(store, "ernst-2")
    merge_customers(store, CALL, "ernst", "ernst-2")
    reservation = reserve(store, CALL, NewReservation((("MUG-BLUE", 1),), ttl_us=60_000_000, reference=MARK))
    destroy(store, target, source, reservation.name)
    assert repeat_erasures(store) == 2
    merged = CUSTOMERS.get(store, ("ernst-2",))
    assert (merged.merged_into, merged.erase_time_us is not None, merged.labels) == (target, True, {})
    assert read_all(database, "SELECT reference FROM reservations") == [("",)]
    assert list_breaches(store) == []
