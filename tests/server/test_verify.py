"""`verify`: each promise is broken on purpose, by SQL, and has to be found and named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storekeep.server.domain.fulfillments import LineUnits, create_fulfillment, ship_fulfillment
from storekeep.server.domain.inventory import adjust_stock
from storekeep.server.domain.order_cancellations import cancel_order
from storekeep.server.domain.order_changes import confirm_order
from storekeep.server.domain.reservations import NewReservation, release_reservation, reserve
from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.verification import Finding, verify
from storekeep.server.store.opening import open_store
from tests import postgres
from tests.databases import Database, new_database
from tests.placing import CALL, place
from tests.processes import run_command

MUG = "WHERE location_id = 'main' AND sku = 'MUG-BLUE'"
ORDER = "(SELECT MIN(id) FROM orders)"
CALLED_OFF = "(SELECT MIN(id) FROM orders WHERE state = 'CANCELLED')"
BREACHES: dict[str, tuple[str, str]] = {
    "foreign-keys": (f"UPDATE orders SET customer_id = 'nobody' WHERE id = {ORDER}", "orders, row "),
    "stock-on-hand": (f"UPDATE stock_levels SET on_hand = on_hand + 1 {MUG}", "locations/main/stockLevels/MUG-BLUE:"),
    "stock-running": (f"UPDATE stock_movements SET on_hand = 7 {MUG} AND id < 999", "stockLevels/MUG-BLUE: movement"),
    "stock-allocated": (f"UPDATE stock_levels SET allocated = allocated - 1 {MUG}", "stockLevels/MUG-BLUE: allocated"),
    "stock-reserved": (f"UPDATE stock_levels SET reserved = 1 {MUG}", "stockLevels/MUG-BLUE: reserved is 1,"),
    "order-stock": (f"UPDATE order_lines SET quantity = 3 WHERE order_id = {ORDER} AND line_number = 1", "orders/"),
    "reservation-stock": (
        "UPDATE reservation_lines SET quantity = 5 WHERE quantity = 4",
        ", line 1: keeps 5 units of MUG-BLUE at locations/main, the ledger has reserved 4",
    ),
    "reservation-history": ("UPDATE reservations SET version = 9 WHERE state = 'ACTIVE'", "is at version 9"),
    "stock-promised": ("UPDATE stock_movements SET source = '' WHERE allocated_delta > 0", "ALLOCATE for nobody"),
    "stock-oversold": (f"UPDATE stock_levels SET backorder_limit = -99 {MUG}", "stockLevels/MUG-BLUE:"),
    "order-lines": (f"UPDATE order_lines SET subtotal_minor = 1 WHERE order_id = {ORDER}", "orders/"),
    "order-quantities": (f"UPDATE order_lines SET cancelled = 0 WHERE order_id = {CALLED_OFF}", "orders/"),
    "order-totals": (f"UPDATE orders SET total_minor = total_minor + 1 WHERE id = {ORDER}", "orders/"),
    "fulfillment-shipped": (
        "UPDATE fulfillment_lines SET quantity = 2 WHERE fulfillment_id ="
        " (SELECT id FROM fulfillments WHERE state = 'SHIPPED')",
        "line 1: 1 units are fulfilled, 2 were shipped",
    ),
    "fulfillment-pending": (
        "UPDATE fulfillments SET location_id = 'elsewhere' WHERE state = 'PENDING'",
        "line 1: 1 units are bound at locations/elsewhere, 0 allocated",
    ),
    "fulfillment-lines": ("UPDATE fulfillment_lines SET line_number = 9", "the order has no line 9"),
    "order-history": (f"UPDATE orders SET version = version + 1 WHERE id = {ORDER}", "orders/"),
    "event-sequence": ("DELETE FROM audit_entries WHERE sequence = 3", "events: number 3 is missing, before 4"),
    "product-search": ("DELETE FROM product_documents WHERE product_id = 'mug'", "products/mug:"),
    "audit-chain": ("UPDATE audit_entries SET actor = 'nobody' WHERE sequence = 4", "auditEntries/4:"),
}


@pytest.fixture(scope="module")
def sound(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with the sample, an order in each state, and a reservation in most."""
    made = new_database(engine, tmp_path_factory.mktemp("sound"))
    store = open_store(made.url)
    load_sample(store)
    orders = [place(store, "ada-marsh", ("MUG-BLUE", 2), ("TIN-RED", 1)) for _ in range(3)]
    confirm_order(store, CALL, orders[1].id)
    shipped, _ = (create_fulfillment(store, CALL, orders[1].id, lines=(LineUnits(1, 1),)) for _ in range(2))
    ship_fulfillment(store, CALL, (orders[1].id, shipped.id))
    cancel_order(store, CALL, orders[2].id, reason="test")
    _, given_back, sold = (
        reserve(store, CALL, NewReservation((("MUG-BLUE", units), ("TIN-RED", 1)))) for units in (4, 2, 1)
    )
    release_reservation(store, CALL, given_back.id)
    place(store, "ada-marsh", ("MUG-BLUE", 1), reservation_id=sold.id)
    adjust_stock(store, CALL, ("main", "MUG-BLUE"), quantity_delta=-1, reason="broken")
    store.close()
    yield made
    made.remove()


@pytest.fixture
def database(sound: Database, tmp_path: Path) -> Iterator[Database]:
    """A copy of it, which a test may break."""
    copy = sound.copy(tmp_path)
    yield copy
    copy.remove()


def findings(database: Database) -> dict[str, Finding]:
    with closing(open_store(database.url)) as store:
        return {finding.name: finding for finding in verify(store)}


def break_it(database: Database, sql: str) -> None:
    with database.unguarded() as session:
        assert session.run(sql) > 0, "the test breaks nothing"


def test_sound_database_holds(database):
    assert [finding.name for finding in findings(database).values() if not finding.holds] == []


def test_every_check_has_a_test_that_breaks_it(database):
    assert set(BREACHES) | {"integrity"} == set(findings(database))


@pytest.mark.parametrize("name", BREACHES)
def test_broken_promise_is_found_and_its_row_named(database, name):
    sql, told = BREACHES[name]
    break_it(database, sql)
    breaches = findings(database)[name].breaches
    assert breaches
    assert told in breaches[0]


DAMAGE = {
    "sqlite": (
        "PRAGMA writable_schema = ON",
        """
        UPDATE sqlite_master SET sql = 'CREATE INDEX orders_external_reference ON orders (currency_code)'
        WHERE name = 'orders_external_reference'
        """,
    ),
    "postgresql": (
        "UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = CAST('orders_external_reference' AS regclass)",
    ),
}


def test_damaged_index_is_found(database):
    with database.opened() as session:
        for statement in DAMAGE[database.engine]:
            session.run(statement)
    assert not findings(database)["integrity"].holds


def test_verify_command_names_the_row_and_fails(database, tmp_path):
    sql, told = BREACHES["order-totals"]
    break_it(database, sql)
    verified = run_command("verify", data_dir=tmp_path, database_url=database.url)
    assert verified.returncode == 1
    assert "BROKEN  order-totals" in verified.stdout
    assert told in verified.stdout
    assert f"1 of {len(BREACHES) + 1} checks failed" in verified.stdout


def test_verify_of_a_missing_database_is_refused(engine, tmp_path):
    missing = {"sqlite": "", "postgresql": postgres.of_run().url("missing")}[engine]
    assert run_command("verify", data_dir=tmp_path, database_url=missing).returncode == 1
    assert list(tmp_path.glob("*.db")) == []
