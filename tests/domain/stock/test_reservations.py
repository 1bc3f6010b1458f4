"""Reservations: expiry to the microsecond by the server's clock, release, commitment and conversion to orders."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.errors import DomainError, IllegalState, OutOfStock
from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.orders.new_orders import NewOrder
from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.standard.lists import ListRequest
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.stock import reservations
from storekeep.server.domain.stock.expiry import expire_batch, set_expirers
from storekeep.server.domain.stock.levels import adjust_stock, check_availability, get_level, transfer_stock
from storekeep.server.domain.stock.locations import LOCATIONS, Location
from storekeep.server.domain.stock.reservations import NewReservation, Reservation
from storekeep.server.jobs.periodic import ExpiryJob
from storekeep.server.store.engine import Store
from storekeep.server.wiring.expirers import EXPIRERS
from storekeep.v1 import inventory_pb2
from tests.support.databases import Database
from tests.support.placing import place_order
from tests.support.records import Records
from tests.support.refusals import parse_refusal, refused
from tests.support.shops import MAIN, Shop, new_id, new_request_id
from tests.support.statements import record_statements
from tests.support.stores import open_store

CALL = Call(Caller("serviceAccounts/cart"), "storekeep.v1.InventoryService/ReserveStock")
SECOND = 1_000_000
SKU = "SHORTBREAD-12"
LEVEL = ("main", SKU)


class Clock:
    """A clock that only the test advances."""

    def __init__(self) -> None:
        self.now_us = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        """Return the current time in microseconds."""
        return self.now_us

    def pass_s(self, seconds: float) -> None:
        self.now_us += round(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: Database, clock: Clock) -> Iterator[Store]:
    """Open a store with the sample (30 shortbreads) and the test's own clock. Verify it at the end."""
    with closing(open_store(database.url, clock=clock)) as opened:
        set_expirers(opened, EXPIRERS)
        load_sample(opened)
        yield opened
        assert [finding for finding in verify(opened) if not finding.holds] == []


def make_reservation(store: Store, units: int, *, ttl_s: float = 60, **fields) -> Reservation:
    new = NewReservation(((SKU, units),), ttl_us=round(ttl_s * SECOND), **fields)
    return reservations.reserve(store, CALL, new)


def read_available(store: Store) -> int:
    return check_availability(store, [SKU])[0].available


def make_new_order(units: int, **fields) -> NewOrder:
    return NewOrder("ada-marsh", ((SKU, units),), "EUR", **fields)


def list_events(database: Database, resource: str) -> list[tuple[str, str]]:
    with database.opened() as session:
        return session.rows("SELECT type, actor FROM audit_entries WHERE resource = ? ORDER BY sequence", resource)


# -- expiry time


def test_reservation_stops_counting_at_its_instant(store: Store, clock: Clock):
    made = make_reservation(store, 10, ttl_s=60)
    clock.pass_s(59.999999)
    assert (read_available(store), get_level(store, LEVEL).reserved) == (20, 10)
    assert reservations.get_reservation(store, made.id).state == "ACTIVE"
    clock.pass_s(0.000001)
    assert (read_available(store), get_level(store, LEVEL).reserved, get_level(store, LEVEL).available) == (30, 0, 30)
    assert reservations.get_reservation(store, made.id).state == "EXPIRED"


def test_stock_of_an_expired_reservation_is_sold_before_anybody_swept(store: Store, clock: Clock, database: Database):
    made = make_reservation(store, 10, ttl_s=60)
    with pytest.raises(OutOfStock):
        place_order(store, CALL, make_new_order(21))
    clock.pass_s(60)
    placed = place_order(store, CALL, make_new_order(30))
    assert get_level(store, LEVEL).available == 0
    expected = [("reservation.created", "serviceAccounts/cart"), ("reservation.expired", "system/expiry")]
    assert list_events(database, made.name) == expected
    assert list_events(database, placed.name) == [("order.placed", "serviceAccounts/cart")]


def test_refused_order_leaves_no_expiry_behind(store: Store, clock: Clock, database: Database):
    made = make_reservation(store, 10, ttl_s=60)
    clock.pass_s(60)
    with pytest.raises(OutOfStock) as refusal:
        place_order(store, CALL, make_new_order(31))
    assert refusal.value.metadata["available-1"] == "30"
    assert [kind for kind, _ in list_events(database, made.name)] == ["reservation.created"]


def test_more_reservations_than_one_piece_are_ended_for_one_order(store: Store, clock: Clock):
    adjust_stock(store, CALL, LEVEL, quantity_delta=120)
    for _ in range(150):
        make_reservation(store, 1, ttl_s=1)
    clock.pass_s(1)
    place_order(store, CALL, make_new_order(150))
    assert get_level(store, LEVEL).available == 0


@pytest.mark.parametrize("step", ["extend", "release", "commit", "order"])
def test_expired_reservation_goes_nowhere(store: Store, clock: Clock, step: str):
    made = make_reservation(store, 1, ttl_s=60)
    clock.pass_s(60)
    steps = {
        "extend": lambda: reservations.extend(store, CALL, made.id, ttl_us=SECOND),
        "release": lambda: reservations.release_reservation(store, CALL, made.id),
        "commit": lambda: reservations.commit(store, CALL, made.id),
        "order": lambda: place_order(store, CALL, make_new_order(1, reservation_ids=(made.id,))),
    }
    with pytest.raises(IllegalState) as refusal:
        steps[step]()
    assert refusal.value.state == "EXPIRED"


def test_extended_reservation_lasts_from_now_and_never_shorter(store: Store, clock: Clock):
    made = make_reservation(store, 1, ttl_s=60)
    clock.pass_s(30)
    assert reservations.extend(store, CALL, made.id, ttl_us=SECOND).expire_time_us == made.expire_time_us
    extended = reservations.extend(store, CALL, made.id, ttl_us=60 * SECOND)
    assert extended.expire_time_us == clock.now_us + 60 * SECOND
    clock.pass_s(59)
    assert read_available(store) == 29


def test_listing_returns_the_states_at_the_time(store: Store, clock: Clock):
    make_reservation(store, 1, ttl_s=60, reference="cart-1")
    make_reservation(store, 1, ttl_s=120, reference="cart-2")
    clock.pass_s(60)
    tokens = PageTokens(Keyring.from_secret(b"test"))
    states = {
        state: [
            (one.reference, one.state)
            for one in reservations.list_reservations(
                store, ListRequest(filter=f"state = {state}"), tokens=tokens
            ).items
        ]
        for state in ("ACTIVE", "EXPIRED")
    }
    assert states == {"ACTIVE": [("cart-2", "ACTIVE")], "EXPIRED": [("cart-1", "EXPIRED")]}


# -- the expiry job


def test_expiry_job_writes_expiries(store: Store, clock: Clock, database: Database):
    made = [make_reservation(store, 1, ttl_s=60) for _ in range(3)]
    lasting = make_reservation(store, 1, ttl_s=61)
    assert expire_batch(store) == 0
    clock.pass_s(60)
    assert expire_batch(store) == 3
    assert expire_batch(store) == 0
    assert reservations.get_reservation(store, lasting.id).state == "ACTIVE"
    assert {kind for one in made for kind, _ in list_events(database, one.name)[1:]} == {"reservation.expired"}
    with database.opened() as session:
        rows = session.rows(
            "SELECT cause, reserved_delta, reason, actor FROM stock_movements WHERE source = ? ORDER BY id",
            made[0].name,
        )
    assert rows == [("RESERVE", 1, "", "serviceAccounts/cart"), ("RELEASE", -1, "expired", "system/expiry")]


def test_expiry_job_expires_all_batches(store: Store, clock: Clock):
    adjust_stock(store, CALL, LEVEL, quantity_delta=300)
    for _ in range(230):
        make_reservation(store, 1, ttl_s=1)
    clock.pass_s(1)
    assert ExpiryJob(store, interval_s=60).run_once() == 230
    assert get_level(store, LEVEL).reserved == 0


def test_adjustment_and_transfer_see_what_has_expired(store: Store, clock: Clock):
    make_reservation(store, 30, ttl_s=1)
    clock.pass_s(1)
    level = adjust_stock(store, CALL, LEVEL, quantity_delta=-5)
    assert (level.reserved, level.available) == (0, 25)


# -- conversion to an order


def test_order_takes_over_what_was_reserved(store: Store, database: Database):
    made = make_reservation(store, 10)
    placed = place_order(store, CALL, make_new_order(10, reservation_ids=(made.id,)))
    kept = reservations.get_reservation(store, made.id)
    assert (kept.state, kept.order_id) == ("COMMITTED", placed.id)
    level = get_level(store, LEVEL)
    assert (level.reserved, level.allocated, level.available) == (0, 10, 20)
    with database.opened() as session:
        rows = session.rows(
            "SELECT source, cause, reserved_delta, allocated_delta FROM stock_movements WHERE source <> '' ORDER BY id"
        )
    assert rows == [
        (made.name, "RESERVE", 10, 0),
        (made.name, "RELEASE", -10, 0),
        (placed.name, "ALLOCATE", 0, 10),
    ]


@pytest.mark.parametrize("units", [4, 25])
def test_order_takes_less_or_more_than_was_reserved(store: Store, units: int):
    made = make_reservation(store, 10)
    place_order(store, CALL, make_new_order(units, reservation_ids=(made.id,)))
    level = get_level(store, LEVEL)
    assert (level.reserved, level.allocated) == (0, units)


def test_order_beyond_all_stock_leaves_the_reservation(store: Store):
    made = make_reservation(store, 10)
    with pytest.raises(OutOfStock):
        place_order(store, CALL, make_new_order(31, reservation_ids=(made.id,)))
    assert reservations.get_reservation(store, made.id).state == "ACTIVE"
    assert get_level(store, LEVEL).reserved == 10


def test_reservation_goes_to_one_order(store: Store):
    made = make_reservation(store, 10)
    place_order(store, CALL, make_new_order(1, reservation_ids=(made.id,)))
    with pytest.raises(IllegalState):
        place_order(store, CALL, make_new_order(1, reservation_ids=(made.id,)))


def test_order_with_a_reservation_costs_the_same_however_many_lines(store: Store):
    costs = set()
    place_order(store, CALL, NewOrder("ada-marsh", ((SKU, 1),), "EUR"))  # caches the data key of the customer
    for number in (1, 20):
        lines = ((SKU, 1),) * number
        made = reservations.reserve(store, CALL, NewReservation(lines))
        new = NewOrder("ada-marsh", lines, "EUR", reservation_ids=(made.id,))
        costs.add(len(record_statements(lambda new=new: place_order(store, CALL, new))))
    assert len(costs) == 1


# -- concurrent callers


def test_last_unit_goes_to_one(store: Store):
    adjust_stock(store, CALL, LEVEL, quantity_delta=-29)
    outcomes: list[str] = []

    def take() -> None:
        try:
            make_reservation(store, 1)
        except DomainError as error:
            outcomes.append(type(error).__name__)
        else:
            outcomes.append("RESERVED")

    threads = [threading.Thread(target=take) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(outcomes) == ["OutOfStock"] * 19 + ["RESERVED"]


# -- over gRPC


def reserve(shop: Shop, *lines: tuple[str, int], ttl_s: int = 0, **fields) -> inventory_pb2.Reservation:
    wanted = [inventory_pb2.ReserveStockLine(sku=sku, quantity=quantity) for sku, quantity in lines]
    ttl = Duration(seconds=ttl_s) if ttl_s else None
    return shop.inventory.ReserveStock(inventory_pb2.ReserveStockRequest(lines=wanted, ttl=ttl, **fields))


def get_reservation(shop: Shop, name: str) -> inventory_pb2.Reservation:
    return shop.inventory.GetReservation(inventory_pb2.GetReservationRequest(name=name))


def test_reservation_returns_its_lines_and_locations(shop: Shop):
    first, reference = shop.location(priority=-1).name, new_id("cart")
    sku, other = shop.variant(stock=5).sku, shop.variant(stock=1).sku
    shop.adjust(sku, 1, location=first)
    made = reserve(shop, (sku, 6), (other, 1), reference=reference)
    assert made.state == inventory_pb2.RESERVATION_STATE_ACTIVE
    lines = [(line.line_number, line.sku, line.quantity, line.location) for line in made.lines]
    assert sorted(lines) == sorted([(1, sku, 1, first), (1, sku, 5, MAIN), (2, other, 1, MAIN)])
    assert (made.reference, made.etag, made.order) == (reference, "v1", "")
    assert made.expire_time.seconds - made.create_time.seconds == 15 * 60
    assert get_reservation(shop, made.name) == made
    request = inventory_pb2.ListReservationsRequest(filter=f'reference = "{reference}"')
    assert list(shop.inventory.ListReservations(request).reservations) == [made]
    level = shop.level(sku)
    assert (level.reserved, level.allocated, level.available) == (5, 0, 0)


def test_reserved_stock_cannot_be_ordered(shop: Shop):
    sku = shop.variant(stock=3).sku
    made = reserve(shop, (sku, 2))
    with refused("OUT_OF_STOCK"):
        shop.order((sku, 2))
    shop.inventory.ReleaseReservation(inventory_pb2.ReleaseReservationRequest(name=made.name))
    shop.order((sku, 3))


def test_line_split_across_locations_is_returned_as_it_is_read(shop: Shop):
    sku = shop.variant(stock=2).sku
    shop.adjust(sku, 3, location=shop.location(priority=9).name)
    made = shop.reserve((sku, 5))
    assert sorted(line.quantity for line in made.lines) == [2, 3]
    assert shop.inventory.GetReservation(inventory_pb2.GetReservationRequest(name=made.name)) == made


def test_reservation_stays_at_the_location_that_was_named(shop: Shop):
    location = shop.location(priority=-1).name
    sku = shop.variant(stock=3).sku
    shop.adjust(sku, 3, location=location)
    assert reserve(shop, (sku, 2), location=MAIN).lines[0].location == MAIN


def test_committed_reservation_takes_its_units_away(shop: Shop):
    sku = shop.variant(stock=3).sku
    made = reserve(shop, (sku, 2))
    request = inventory_pb2.CommitReservationRequest(name=made.name, reason="sold in the shop", etag=made.etag)
    assert shop.inventory.CommitReservation(request).state == inventory_pb2.RESERVATION_STATE_COMMITTED
    level = shop.level(sku)
    assert (level.on_hand, level.reserved, level.available) == (1, 0, 1)
    ledger = shop.inventory.ListStockMovements(
        inventory_pb2.ListStockMovementsRequest(filter=f'source = "{made.name}"')
    ).stock_movements
    assert [(one.quantity_delta, one.reserved_delta, one.on_hand, one.reason) for one in ledger] == [
        (0, 2, 3, ""),
        (-2, -2, 1, "sold in the shop"),
    ]


def test_reservation_ends_by_itself(shop: Shop):
    sku = shop.variant(stock=2).sku
    made = reserve(shop, (sku, 2), ttl_s=1)
    deadline = threading.Event()
    for _ in range(100):
        if get_reservation(shop, made.name).etag == "v2":
            break
        deadline.wait(0.1)
    swept = get_reservation(shop, made.name)
    assert (swept.state, swept.etag) == (inventory_pb2.RESERVATION_STATE_EXPIRED, "v2")
    assert shop.level(sku).available == 2


# -- concurrent clients


def list_reasons(calls: list[grpc.Future]) -> list[str]:
    """Return the error reason of each call; empty for success."""
    return ["" if (error := call.exception()) is None else parse_refusal(error).reason for call in calls]


def test_reservations_and_orders_at_once_take_each_unit_once(shop: Shop, records: Records):
    reference = new_id("cart")
    sku, customer = shop.variant(stock=7).sku, shop.customer().name
    wanted = [inventory_pb2.ReserveStockLine(sku=sku, quantity=1)]
    calls = []
    for _ in range(40):
        request = inventory_pb2.ReserveStockRequest(lines=wanted, reference=reference)
        calls.append(shop.inventory.ReserveStock.future(request))
        calls.append(shop.orders.PlaceOrder.future(shop.order_request((sku, 1), customer=customer)))
    reasons = list_reasons(calls)
    assert sorted(reasons) == [""] * 7 + ["OUT_OF_STOCK"] * 73
    level = shop.level(sku)
    assert (level.reserved, level.allocated, level.available) == (reasons[::2].count(""), reasons[1::2].count(""), 0)
    query = inventory_pb2.ListReservationsRequest(filter=f'reference = "{reference}"', page_size=100)
    assert len(shop.inventory.ListReservations(query).reservations) == level.reserved
    assert records.value("SELECT COUNT(*) FROM stock_movements WHERE sku = ? AND source <> ''", sku) == 7


def test_reservation_goes_to_one_of_many_who_end_it(shop: Shop):
    sku = shop.variant(stock=5).sku
    name = reserve(shop, (sku, 5)).name
    customer = shop.customer().name
    calls = []
    for _ in range(10):
        calls.append(shop.inventory.ReleaseReservation.future(inventory_pb2.ReleaseReservationRequest(name=name)))
        calls.append(shop.inventory.CommitReservation.future(inventory_pb2.CommitReservationRequest(name=name)))
        request = shop.order_request((sku, 5), customer=customer, reservation=name)
        calls.append(shop.orders.PlaceOrder.future(request))
    assert sorted(list_reasons(calls)) == [""] + ["ILLEGAL_STATE"] * 29
    assert shop.level(sku).reserved == 0


def test_one_request_id_of_many_reserves_once(shop: Shop):
    sku = shop.variant(stock=50).sku
    request = inventory_pb2.ReserveStockRequest(
        lines=[inventory_pb2.ReserveStockLine(sku=sku, quantity=1)], request_id=new_request_id()
    )
    calls = [shop.inventory.ReserveStock.future(request) for _ in range(50)]
    assert len({call.result().SerializeToString(deterministic=True) for call in calls}) == 1
    assert shop.level(sku).reserved == 1


@pytest.mark.parametrize("ttl_s", [-1, 30 * 86_400 + 1])
def test_reservation_for_longer_than_a_month_is_refused(shop: Shop, ttl_s: int):
    with refused("INVALID_FIELD") as refusal:
        reserve(shop, (shop.variant(stock=1).sku, 1), ttl_s=ttl_s)
    assert list(refusal.violations) == ["ttl"]


def test_transfer_leaves_what_is_reserved(store: Store, clock: Clock):
    make_reservation(store, 20, ttl_s=60)
    LOCATIONS.create(store, CALL, Location("north", "North"))
    with pytest.raises(OutOfStock):
        transfer_stock(store, CALL, [(SKU, 11)], source_id="main", destination_id="north")
    clock.pass_s(60)
    moved = transfer_stock(store, CALL, [(SKU, 30)], source_id="main", destination_id="north")
    assert [level.on_hand for level in moved.levels] == [0, 30]
