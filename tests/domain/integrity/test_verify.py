"""`verify`: SQL breaks each invariant on purpose, and the check must report it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from storekeep.server.domain.integrity.search_documents import check_documents
from storekeep.server.domain.integrity.verification import Finding, verify
from storekeep.server.domain.orders.cancellations import cancel_order
from storekeep.server.domain.orders.changes import confirm_order
from storekeep.server.domain.orders.fulfillments import LineUnits, create_fulfillment, ship_fulfillment
from storekeep.server.domain.orders.quotes import Quote, create_quote
from storekeep.server.domain.pricing.terms import DEFAULT_RULES
from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.domain.stock.levels import adjust_stock
from storekeep.server.domain.stock.reservations import NewReservation, release_reservation, reserve
from storekeep.server.runtime.words import parse_query
from storekeep.server.store.tables.search import PRODUCT_INDEX
from storekeep.server.wiring.expirers import EXPIRERS
from tests.support import postgres
from tests.support.databases import Database, new_database
from tests.support.placing import CALL, place
from tests.support.processes import run_command
from tests.support.stores import KEK, open_store

MUG = "WHERE location_id = 'main' AND sku = 'MUG-BLUE'"
ORDER = "(SELECT MIN(id) FROM orders)"
CANCELLED_ORDER = "(SELECT MIN(id) FROM orders WHERE state = 'CANCELLED')"
SHIPPED = "(SELECT id FROM fulfillments WHERE state = 'SHIPPED')"
BREACHES = (
    ("foreign-keys", f"UPDATE orders SET customer_id = 'nobody' WHERE id = {ORDER}", "orders, row "),
    ("stock-on-hand", f"UPDATE stock_levels SET on_hand = on_hand + 1 {MUG}", "stockLevels/MUG-BLUE: on_hand is 47"),
    ("stock-on-hand", f"DELETE FROM stock_levels {MUG}", "stockLevels/MUG-BLUE: on_hand is missing"),
    ("stock-running", f"UPDATE stock_movements SET on_hand = 7 {MUG} AND id < 999", "stockLevels/MUG-BLUE: movement"),
    ("stock-allocated", f"UPDATE stock_levels SET allocated = allocated - 1 {MUG}", "stockLevels/MUG-BLUE: allocated"),
    ("stock-reserved", f"UPDATE stock_levels SET reserved = 1 {MUG}", "stockLevels/MUG-BLUE: reserved is 1,"),
    ("stock-promised", "UPDATE stock_movements SET source = '' WHERE allocated_delta > 0", "ALLOCATE for no resource"),
    ("stock-promised", "UPDATE stock_movements SET source = 'x' WHERE reserved_delta > 0", "RESERVE for x"),
    ("stock-oversold", f"UPDATE stock_levels SET backorder_limit = -99 {MUG}", "stockLevels/MUG-BLUE:"),
    ("stock-oversold", f"UPDATE stock_levels SET allocated = -1 {MUG}", "stockLevels/MUG-BLUE:"),
    ("stock-oversold", f"UPDATE stock_levels SET reserved = -1 {MUG}", "stockLevels/MUG-BLUE:"),
    ("order-stock", f"UPDATE order_lines SET quantity = 3 WHERE order_id = {ORDER} AND line_number = 1", "orders/"),
    ("order-stock", "UPDATE stock_movements SET source = 'orders/gone' WHERE cause = 'ALLOCATE'", "orders/"),
    (
        "reservation-stock",
        "UPDATE reservation_lines SET quantity = 5 WHERE quantity = 4",
        ", line 1: holds 5 units of MUG-BLUE at locations/main, the ledger has reserved 4",
    ),
    ("reservation-stock", "DELETE FROM reservation_lines WHERE quantity = 4", "holds 0 units of MUG-BLUE"),
    ("reservation-stock", "UPDATE reservations SET state = 'EXPIRED' WHERE state = 'ACTIVE'", "line 1: holds 0 units"),
    ("reservation-history", "UPDATE reservations SET version = 9 WHERE state = 'ACTIVE'", "is at version 9"),
    ("quote-orders", "UPDATE quotes SET order_id = 'gone'", "quotes/q: is DRAFT, for orders/gone"),
    ("quote-orders", "UPDATE quotes SET state = 'ACCEPTED'", "quotes/q: is ACCEPTED, for orders/"),
    ("reservation-orders", "UPDATE reservations SET order_id = 'gone' WHERE state = 'COMMITTED'", "for orders/gone"),
    ("reservation-orders", f"UPDATE reservations SET order_id = {ORDER} WHERE state = 'ACTIVE'", "is ACTIVE, for"),
    ("order-lines", f"UPDATE order_lines SET subtotal_minor = 1 WHERE order_id = {ORDER}", "is not 1"),
    ("order-lines", "UPDATE order_lines SET quantity = 0", ": 0 x "),
    ("order-lines", f"UPDATE order_lines SET discount_minor = 9 WHERE order_id = {ORDER}", "less 9 is not"),
    ("order-lines", "UPDATE order_lines SET line_number = 3 WHERE line_number = 2", "2 lines, numbered up to 3"),
    ("order-lines", "UPDATE order_lines SET line_number = 0 WHERE line_number = 2", "2 lines, numbered up to 1"),
    ("order-quantities", f"UPDATE order_lines SET cancelled = 0 WHERE order_id = {CANCELLED_ORDER}", "units are open"),
    (
        "order-quantities",
        "UPDATE order_lines SET fulfilled = 2, cancelled = 1 WHERE quantity = 2",
        "2 are fulfilled, 1",
    ),
    ("order-quantities", "UPDATE order_lines SET returned = 1 WHERE fulfilled = 0", "1 returned"),
    ("order-quantities", "UPDATE order_lines SET fulfilled = -1 WHERE fulfilled = 0", "-1 are fulfilled"),
    ("order-states", "UPDATE orders SET state = 'CONFIRMED' WHERE state = 'PARTIALLY_FULFILLED'", "1 units are ful"),
    (
        "order-states",
        "UPDATE orders SET state = 'FULFILLED' WHERE state = 'PARTIALLY_FULFILLED'",
        "is FULFILLED, and 1",
    ),
    ("order-states", "UPDATE orders SET state = 'PLACED' WHERE state = 'CANCELLED'", "0 units are fulfilled, 0 open"),
    ("order-states", "UPDATE orders SET state = 'EXPIRED' WHERE state = 'PLACED'", "is EXPIRED, and 0"),
    ("order-totals", f"UPDATE orders SET total_minor = total_minor + 1 WHERE id = {ORDER}", "orders/"),
    ("order-totals", f"UPDATE orders SET shipping_minor = 1 WHERE id = {ORDER}", "shipping 1"),
    ("order-totals", f"DELETE FROM order_lines WHERE order_id = {ORDER}", "its lines cost nothing (it has none)"),
    ("order-totals", f"UPDATE orders SET tax_minor = 1 WHERE id = {ORDER}", "tax 1"),
    (
        "promotion-uses",
        "INSERT INTO use_counts (subject, uses, discount_minor) VALUES ('coupons/x', 1, 5)",
        "coupons/x: 1 uses with a discount of 5 are counted, there are 0 with 0",
    ),
    (
        "promotion-uses",
        "INSERT INTO promotion_uses (order_id, promotion_id, coupon_id, customer_id, discount_minor)"
        " VALUES ('o', 'p', '', '', 7)",
        "promotions/p: 0 uses with a discount of 0 are counted, there are 1 with 7",
    ),
    ("order-history", f"UPDATE orders SET version = version + 1 WHERE id = {ORDER}", "orders/"),
    (
        "fulfillment-shipped",
        f"UPDATE fulfillment_lines SET quantity = 2 WHERE fulfillment_id = {SHIPPED}",
        "line 1: 1 units are fulfilled, 2 were shipped",
    ),
    (
        "fulfillment-shipped",
        f"DELETE FROM fulfillment_lines WHERE fulfillment_id = {SHIPPED}",
        "line 1: 1 units are fulfilled, 0 were shipped",
    ),
    (
        "fulfillment-pending",
        "UPDATE fulfillments SET location_id = 'elsewhere' WHERE state = 'PENDING'",
        "line 1: 1 units are bound at locations/elsewhere, 0 allocated",
    ),
    (
        "fulfillment-pending",
        "UPDATE order_lines SET cancelled = 1 WHERE fulfilled = 1",
        "line 1: 1 units are bound, 0 open",
    ),
    ("fulfillment-lines", "UPDATE fulfillment_lines SET line_number = 9", "the order has no line 9"),
    ("fulfillment-lines", "DELETE FROM fulfillment_lines", "it has no lines"),
    ("fulfillment-history", "UPDATE fulfillments SET version = 9", "is at version 9, the ledger has "),
    (
        "replies",
        "DROP INDEX replies_caller_method_request_id;"
        "INSERT INTO replies (caller, method, request_id, fingerprint, entry, create_time_us)"
        " SELECT caller, method, request_id, fingerprint, entry, create_time_us FROM replies",
        "has 2 replies to ",
    ),
    ("replies", "UPDATE replies SET entry = 999", "its entry 999 is missing"),
    ("event-sequence", "DELETE FROM audit_entries WHERE sequence = 3", "events: number 3 is missing, before 4"),
    (
        "search-documents",
        "DELETE FROM product_documents WHERE product_id = 'mug'",
        "products/mug: its search document is m",
    ),
    ("search-documents", "UPDATE products SET display_name = 'Jug' WHERE id = 'mug'", "document is out of date"),
    (
        "search-documents",
        "UPDATE customer_documents SET length = 9",
        "customers/ada-marsh: its search document is out of",
    ),
    ("data-keys", "UPDATE data_key_state SET id = 2", "data_key_state: "),
    ("audit-chain", "UPDATE audit_entries SET actor = 'nobody' WHERE sequence = 4", "auditEntries/4:"),
    ("audit-guards", "DROP TRIGGER {guard}", "the trigger audit_entries_kept is missing"),
    ("audit-guards", "NEUTERED {guard}", "the trigger audit_entries_kept was changed"),
    ("schema", "FOREIGN", "the trigger thief is not Storekeep's"),
    ("audit-rows", "UPDATE prices SET amount_minor = 1 WHERE sku = 'MUG-BLUE'", "prices not as recorded in"),
    ("audit-rows", "UPDATE variants SET state = 'ARCHIVED' WHERE sku = 'MUG-BLUE'", ": state not as recorded in"),
    ("audit-rows", "UPDATE products SET id = 'jug' WHERE id = 'mug'", "products/jug: the audit log has no entry"),
    ("audit-rows", "UPDATE products SET id = 'jug' WHERE id = 'mug'", "products/mug: its row is missing, but"),
    ("audit-rows", "UPDATE customers SET email = 'x@y.z' WHERE id = 'ada-marsh'", "customers/ada-marsh: email not the"),
    ("audit-rows", "UPDATE customers SET addresses = '{'", "row ada-marsh: it holds data that Storekeep never writes"),
    ("audit-rows", "UPDATE locations SET display_name = 'x'", "locations/main: "),
    ("audit-rows", "UPDATE order_lines SET display_name = 'x'", ": lines not as recorded in"),
    ("audit-rows", "UPDATE reservations SET expire_time_us = 1 WHERE state = 'ACTIVE'", ": expire_time_us not as"),
    ("audit-rows", "DELETE FROM fulfillments", ": its row is missing, but it exists in auditEntries/"),
    ("audit-rows", f"UPDATE stock_levels SET backorder_limit = 9 {MUG}", "MUG-BLUE: backorder_limit not as recorded"),
    ("audit-rows", "UPDATE audit_entries SET after = NULL WHERE resource = 'products/mug'", "records its deletion"),
)
"""(check, SQL that breaks its invariant, part of the report): one for each way to break an invariant."""
CHECKS = {name for name, _, _ in BREACHES}


@pytest.fixture(scope="module")
def sound(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Yield a database with the sample, an order in each state, and a reservation in most states."""
    made = new_database(engine, tmp_path_factory.mktemp("sound"))
    store = open_store(made.url)
    set_expirers(store, EXPIRERS)
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
    place(store, "ada-marsh", ("MUG-BLUE", 1), reservation_ids=(sold.id,))
    offer = Quote("q", "ada-marsh", currency_code="EUR", lines=(("MUG-BLUE", 1),))
    create_quote(store, CALL, offer, rules=DEFAULT_RULES)
    once = replace(CALL, request_id="7f3c", fingerprint=b"x")
    adjust_stock(store, once, ("main", "MUG-BLUE"), quantity_delta=-1, reason="broken")
    store.close()
    yield made
    made.remove()


@pytest.fixture
def database(sound: Database, tmp_path: Path) -> Iterator[Database]:
    """Yield a copy of the sound database, which a test may break."""
    copy = sound.copy(tmp_path)
    yield copy
    copy.remove()


def findings(database: Database) -> dict[str, Finding]:
    with closing(open_store(database.url)) as store:
        return {finding.name: finding for finding in verify(store)}


GUARD = {"sqlite": "audit_entries_kept", "postgresql": "audit_entries_kept ON audit_entries"}


NEUTERED = {
    "sqlite": "CREATE TRIGGER audit_entries_kept BEFORE UPDATE ON audit_entries WHEN 0 BEGIN"
    " SELECT RAISE(ABORT, 'audit_entries is append-only'); END",
    "postgresql": "CREATE TRIGGER audit_entries_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries"
    " FOR EACH STATEMENT WHEN (FALSE) EXECUTE FUNCTION refuse_change()",
}
"""The trigger of the same name, which refuses nothing."""


NO_TEXT = {
    "sqlite": "UPDATE customers SET display_name = CAST(x'ff41' AS TEXT), addresses = CAST(x'b7' AS TEXT)",
    "postgresql": "UPDATE customers SET addresses = '[[['",
}
"""Data that no program can read as text, or as JSON."""
FOREIGN = {
    "sqlite": "CREATE TRIGGER thief AFTER INSERT ON order_lines BEGIN UPDATE order_lines SET quantity = 0; END",
    "postgresql": "CREATE TRIGGER thief BEFORE INSERT ON order_lines FOR EACH ROW EXECUTE FUNCTION "
    "suppress_redundant_updates_trigger()",
}


def break_database(database: Database, sql: str) -> None:
    if sql == "FOREIGN":
        with database.opened() as session:
            session.run(FOREIGN[database.engine])
        return
    if "{guard}" in sql:
        with database.opened() as session:
            session.run(f"DROP TRIGGER {GUARD[database.engine]}")
            if "NEUTERED" in sql:
                session.run(NEUTERED[database.engine])
        return
    with database.unguarded() as session:
        changed = [session.run(statement) for statement in sql.split(";")]
    assert changed[-1] > 0, "the test breaks nothing"


def test_sound_database_holds(database):
    assert [finding.name for finding in findings(database).values() if not finding.holds] == []


def test_every_check_has_a_test_that_breaks_it(database):
    assert CHECKS | {"integrity"} == set(findings(database))


@pytest.mark.parametrize(("name", "sql", "reported"), BREACHES)
def test_broken_promise_is_found_and_its_row_named(database, name, sql, reported):
    break_database(database, sql)
    assert [breach for breach in findings(database)[name].breaches if reported in breach]


@pytest.mark.engine("postgresql", reason="SQLite's triggers have no functions")
@pytest.mark.parametrize(
    ("sql", "told"),
    [
        (
            "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "was changed",
        ),
        ("ALTER TABLE audit_entries DISABLE TRIGGER audit_entries_kept", "is missing or disabled"),
        ("ALTER TABLE audit_entries ENABLE REPLICA TRIGGER audit_entries_kept", "is missing or disabled"),
        ("ALTER DATABASE {name} SET session_replication_role = replica", "is missing or disabled"),
        (
            "CREATE SCHEMA other; CREATE FUNCTION other.refuse_change() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN RETURN NULL; END'; CREATE OR REPLACE TRIGGER audit_entries_kept BEFORE UPDATE OR DELETE OR"
            " TRUNCATE ON audit_entries FOR EACH STATEMENT EXECUTE FUNCTION other.refuse_change()",
            "is missing or disabled",
        ),
    ],
)
def test_guard_without_effect_is_found(database, sql, told):
    with database.opened() as session:
        for statement in sql.replace("{name}", database.name).split("; CREATE"):
            session.run(statement if statement.startswith(("CREATE", "ALTER")) else f"CREATE{statement}")
    breaches = findings(database)["audit-guards"].breaches
    assert f"the trigger audit_entries_kept {told}" in breaches


@pytest.mark.engine("sqlite", reason="the schema of PostgreSQL is checked for triggers and rules only")
@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("DROP TRIGGER customer_documents_updated", "the trigger customer_documents_updated is missing"),
        ("DROP INDEX orders_number", "the index orders_number is missing"),
        ("CREATE TABLE _litestream_seq (id TEXT); DROP INDEX orders_number", "the index orders_number is missing"),
        (
            "DROP VIEW events; CREATE VIEW events AS SELECT * FROM audit_entries WHERE actor <> 'me'",
            "the view events was changed",
        ),
        (
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', '') "
            "WHERE name = 'stock_levels'",
            "the table stock_levels was changed",
        ),
    ],
)
def test_schema_that_is_not_of_this_release_is_found(database, sql, told):
    with database.opened() as session:
        for statement in sql.split("; "):
            session.run(statement)
    assert findings(database)["schema"].breaches == (told,)


def test_check_that_cannot_read_its_data_fails_and_the_others_run(database):
    with database.unguarded() as session:
        session.run(NO_TEXT[database.engine])
    found = findings(database)
    assert not all(finding.holds for finding in found.values())
    assert CHECKS | {"integrity"} == set(found)


@pytest.mark.engine("postgresql", reason="SQLite has no rules, and its triggers have names of their own")
@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("CREATE RULE thief AS ON INSERT TO orders DO ALSO DELETE FROM replies", "orders: the rule thief is not"),
        (
            "CREATE TRIGGER stock_movements_kept BEFORE UPDATE ON orders EXECUTE FUNCTION refuse_change()",
            "orders: the trigger stock_movements_kept is not",
        ),
    ],
)
def test_rule_and_trigger_of_another_table_are_found(database, sql, told):
    with database.opened() as session:
        session.run(sql)
    (breach,) = findings(database)["schema"].breaches
    assert breach.startswith(told)


INDEX = "orders_external_reference_reference_source"
DAMAGE = {
    "sqlite": (
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_master SET sql = 'CREATE INDEX {INDEX} ON orders (currency_code)' WHERE name = '{INDEX}'",
    ),
    "postgresql": (f"UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = CAST('{INDEX}' AS regclass)",),
}


def test_damaged_index_is_found(database):
    with database.opened() as session:
        for statement in DAMAGE[database.engine]:
            session.run(statement)
    assert not findings(database)["integrity"].holds


def test_verify_command_names_the_row_and_fails(database, tmp_path):
    _, sql, reported = next(breach for breach in BREACHES if breach[0] == "order-totals")
    break_database(database, sql)
    verified = run_command("verify", data_dir=tmp_path, database_url=database.url)
    assert verified.returncode == 1
    assert "BROKEN  order-totals" in verified.stdout
    assert reported in verified.stdout
    assert "BROKEN  audit-rows" in verified.stdout
    assert f"2 of {len(CHECKS) + 1} checks failed" in verified.stdout


def test_verify_of_a_missing_database_is_refused(engine, tmp_path):
    missing = {"sqlite": "", "postgresql": postgres.get_run_postgres().url("missing")}[engine]
    assert run_command("verify", data_dir=tmp_path, database_url=missing).returncode == 1
    assert list(tmp_path.glob("*.db")) == []


def test_reindex_command_rebuilds_what_verify_reports(database, tmp_path):
    with database.opened() as session:
        session.run("DELETE FROM product_documents WHERE product_id = 'mug'")
        session.run("UPDATE customer_documents SET title = 'x'")
        if database.engine == "sqlite":
            session.run("INSERT INTO product_search (product_search) VALUES ('delete-all')")
    with closing(open_store(database.url)) as store:
        assert list(check_documents(store))
        rebuilt = run_command("reindex", data_dir=tmp_path, database_url=database.url, kek=KEK.decode())
        assert rebuilt.returncode == 0, rebuilt.stderr
        assert list(check_documents(store)) == []
        hits = store.read(partial(PRODUCT_INDEX.search, condition=parse_query("mug-blue"), after=(0, 0), limit=9))
        assert [hit.key for hit in hits] == ["mug"]
