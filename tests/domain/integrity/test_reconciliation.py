"""Reconciliation: each difference is made on purpose, by SQL; it is told, and repaired only when told so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.integrity.reconciliation import Report, reconcile
from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.orders.new_orders import NewOrder
from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.standard.lists import ListRequest
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.domain.stock.levels import list_movements
from storekeep.server.domain.stock.reservations import NewReservation, reserve
from storekeep.server.store.engine import Store
from storekeep.server.wiring.expirers import EXPIRERS
from storekeep.v1 import inventory_pb2
from tests.support.databases import Database, new_database
from tests.support.placing import place_order
from tests.support.processes import ServerProcess
from tests.support.shops import Shop
from tests.support.stores import open_store

CALL = Call(Caller("serviceAccounts/test"), "storekeep.v1.InventoryService/ReconcileStock")
TOKENS = PageTokens(Keyring.from_secret(b"test"))
MUG = "WHERE location_id = 'main' AND sku = 'MUG-BLUE'"
ORDER = "(SELECT MIN(id) FROM orders)"
LAST = "(SELECT MAX(id) FROM stock_movements)"
DIFFERENCES: dict[str, tuple[str, tuple[str, str, int, int]]] = {
    "on hand": (f"UPDATE stock_levels SET on_hand = on_hand + 7 {MUG}", ("ON_HAND", "", 55, 48)),
    "reserved": (f"UPDATE stock_levels SET reserved = 0 {MUG}", ("RESERVED", "", 0, 4)),
    "allocated": (f"UPDATE stock_levels SET allocated = 9 {MUG}", ("ALLOCATED", "", 9, 3)),
    "order lacks": (
        f"UPDATE order_lines SET quantity = 3, subtotal_minor = 3 * unit_price_minor WHERE order_id = {ORDER}"
        " AND sku = 'MUG-BLUE'",
        ("ORDER", "orders/", 2, 3),
    ),
    "order has too much": (
        f"UPDATE order_lines SET quantity = 1, subtotal_minor = unit_price_minor WHERE order_id = {ORDER}"
        " AND sku = 'MUG-BLUE'",
        ("ORDER", "orders/", 2, 1),
    ),
    "order that is over": (
        f"UPDATE orders SET state = 'CANCELLED' WHERE id = {ORDER}",
        ("ORDER", "orders/", 2, 0),
    ),
    "reservation lacks": (
        "UPDATE reservation_lines SET quantity = 5",
        ("RESERVATION", "reservations/", 4, 5),
    ),
    "reservation that is over": (
        "UPDATE reservations SET state = 'RELEASED'",
        ("RESERVATION", "reservations/", 4, 0),
    ),
}


@pytest.fixture(scope="module")
def sound(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The sample, with 48 blue mugs, of which 2 and 1 are in orders and 4 are reserved."""
    made = new_database(engine, tmp_path_factory.mktemp("sound"))
    with closing(open_store(made.url)) as store:
        set_expirers(store, EXPIRERS)
        load_sample(store)
        for units in (2, 1):
            place_order(store, CALL, NewOrder("ada-marsh", (("MUG-BLUE", units),), "EUR"))
        reserve(store, CALL, NewReservation((("MUG-BLUE", 4),)))
    yield made
    made.remove()


@pytest.fixture
def database(sound: Database, tmp_path: Path) -> Iterator[Database]:
    """A copy of it, which a test may break."""
    copy = sound.copy(tmp_path)
    yield copy
    copy.remove()


def run(store: Store, *skus: str, repair: bool = False, page_size: int = 0, page_token: str = "") -> Report:
    return reconcile(store, CALL, skus, repair=repair, page_size=page_size, page_token=page_token, tokens=TOKENS)


def break_it(database: Database, sql: str) -> None:
    with database.unguarded() as session:
        assert session.run(sql) > 0, "the test breaks nothing"


def test_sound_stock_has_no_difference(database: Database):
    with closing(open_store(database.url)) as store:
        report = run(store)
    assert (report.differences, report.next_page_token) == ((), "")
    assert report.skus_checked > 10


@pytest.mark.parametrize("name", DIFFERENCES)
def test_difference_is_told_and_left_as_it_is(database: Database, name: str):
    sql, (kind, source, recorded, expected) = DIFFERENCES[name]
    break_it(database, sql)
    before = database.everything()
    with closing(open_store(database.url)) as store:
        (told,) = run(store).differences
    assert (told.location_id, told.sku, told.repairable) == ("main", "MUG-BLUE", True)
    assert (told.kind, told.recorded, told.expected) == (kind, recorded, expected)
    assert told.source.startswith(source)
    assert bool(told.source) == bool(source)
    assert database.everything() == before


@pytest.mark.parametrize("name", DIFFERENCES)
def test_difference_is_repaired_when_told_so(database: Database, name: str):
    sql, _ = DIFFERENCES[name]
    break_it(database, sql)
    with closing(open_store(database.url)) as store:
        assert len(run(store, "MUG-BLUE", repair=True).differences) == 1
        assert run(store).differences == ()
        broken = [found.name for found in verify(store) if not found.holds and found.name.startswith("stock")]
        assert broken == []


def test_repair_is_in_the_ledger(database: Database):
    break_it(database, DIFFERENCES["order lacks"][0])
    with closing(open_store(database.url)) as store:
        run(store, repair=True)
    with database.opened() as session:
        movement = session.rows(
            f"SELECT cause, allocated_delta, reason, actor, line_number FROM stock_movements WHERE id = {LAST}"
        )
        entry = session.rows("SELECT type, resource FROM audit_entries ORDER BY sequence DESC LIMIT 1")
    assert movement == [("ALLOCATE", 1, "reconciled", "serviceAccounts/test", 1)]
    assert entry == [("stock_level.updated", "locations/main/stockLevels/MUG-BLUE")]


def test_repair_of_a_missing_level_makes_it(database: Database):
    break_it(database, f"DELETE FROM stock_levels {MUG}")
    with closing(open_store(database.url)) as store:
        assert {told.kind for told in run(store, repair=True).differences} == {"ON_HAND", "RESERVED", "ALLOCATED"}
        assert [found.name for found in verify(store) if not found.holds] == []


def test_repair_that_would_oversell_is_left_to_a_person(database: Database):
    break_it(database, "UPDATE order_lines SET quantity = 90, subtotal_minor = 90 * unit_price_minor")
    before = database.everything()
    with closing(open_store(database.url)) as store:
        assert {told.repairable for told in run(store, repair=True).differences} == {False}
    assert database.everything() == before


def test_pages_go_over_all_skus(database: Database):
    break_it(database, DIFFERENCES["on hand"][0])
    with closing(open_store(database.url)) as store:
        checked, differences, token = 0, [], ""
        while True:
            report = run(store, page_size=3, page_token=token)
            checked += report.skus_checked
            differences += report.differences
            token = report.next_page_token
            if not token:
                break
        assert checked == run(store).skus_checked
    assert [told.kind for told in differences] == ["ON_HAND"]


def test_dry_run_of_a_repair_repairs_nothing(shop: Shop, server: ServerProcess):
    sku = shop.variant(stock=5).sku
    with server.database.opened() as session:
        session.run("UPDATE stock_levels SET on_hand = 9 WHERE sku = ?", sku)
    request = inventory_pb2.ReconcileStockRequest(skus=[sku], repair=True, validate_only=True)
    (told,) = shop.inventory.ReconcileStock(request).differences
    assert (told.kind, told.recorded, told.expected) == (inventory_pb2.STOCK_DIFFERENCE_KIND_ON_HAND, 9, 5)
    assert shop.level(sku).on_hand == 9
    request.validate_only = False
    shop.inventory.ReconcileStock(request)
    assert shop.level(sku).on_hand == 5


BLOCK = 4_096
COPY_OF_THE_LAST = """
INSERT INTO stock_movements (
    id, location_id, sku, quantity_delta, on_hand, cause, reason, actor, create_time_us, reserved_delta,
    allocated_delta, source, line_number
)
SELECT {id}, location_id, sku, 0, on_hand, 'ADJUST', '', actor, create_time_us + 1, 0, 0, '', 0
FROM stock_movements WHERE sku = 'MUG-BLUE' ORDER BY id DESC LIMIT 1
"""


def test_movements_of_a_sku_are_found_in_all_blocks_of_the_ledger(database):
    """Ids far apart are in blocks of their own, of which most are empty."""
    before, far = movements_of(database, "MUG-BLUE"), [3 * BLOCK - 1, 3 * BLOCK, 7 * BLOCK + 5]
    assert before
    for number in far:
        break_it(database, COPY_OF_THE_LAST.format(id=number))
    assert movements_of(database, "MUG-BLUE") == [*reversed(far), *before]
    assert movements_of(database, "NO-SUCH-SKU") == []


def movements_of(database: Database, sku: str) -> list[int]:
    """The ids of a SKU's movements, the latest first."""
    with closing(open_store(database.url)) as store:
        request = ListRequest(page_size=100, filter=f"sku = {sku}", order_by="create_time desc")
        return [movement.id for movement in list_movements(store, request, tokens=TOKENS).items]
