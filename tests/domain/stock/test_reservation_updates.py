"""Updates of reservations, one reservation per reference, and orders that use several reservations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.server.domain.errors import (
    EtagMismatch,
    IllegalState,
    InvalidField,
    OutOfStock,
    ReferenceTaken,
    ReservationNotFound,
)
from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.orders.new_orders import NewOrder
from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.stock import reservations
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.domain.stock.levels import adjust_stock, get_level
from storekeep.server.domain.stock.locations import LOCATIONS, Location
from storekeep.server.domain.stock.reservations import NewReservation, Reservation, ReservationChanges
from storekeep.server.store.engine import Store
from storekeep.server.wiring.expirers import EXPIRERS
from storekeep.v1 import inventory_pb2 as pb
from storekeep.v1 import products_pb2
from tests.support.databases import Database
from tests.support.placing import CALL, place_order
from tests.support.records import Records
from tests.support.refusals import list_shortages, parse_refusal, refused
from tests.support.shops import MAIN, Shop, new_id, new_request_id
from tests.support.stores import open_store

SECOND = 1_000_000
SKU, OTHER = "SHORTBREAD-12", "TIN-RED"
START_US = 1_700_000_000 * SECOND


class Clock:
    """A clock that only the test advances."""

    now_us = START_US

    def __call__(self) -> int:
        """Return the current time in microseconds."""
        return self.now_us


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


def reserve(store: Store, *lines: tuple[str, int], ttl_s: int = 60, **fields) -> Reservation:
    return reservations.reserve(store, CALL, NewReservation(lines, ttl_us=ttl_s * SECOND, **fields))


def update(store: Store, reservation: Reservation, *, etag: str = "", **changes) -> Reservation:
    return reservations.update_reservation(store, CALL, reservation.id, ReservationChanges(**changes), etag=etag)


def list_movements(database: Database, source: str) -> list[tuple[str, int, str, int]]:
    """Return (cause, line, location, reserved units) of each movement of a reservation."""
    with database.opened() as session:
        rows = session.rows(
            "SELECT cause, line_number, location_id, reserved_delta FROM stock_movements WHERE source = ? ORDER BY id",
            source,
        )
    return [tuple(row) for row in rows]


# -- lines


def test_update_of_lines_moves_the_difference_only(store: Store, database: Database):
    made = reserve(store, (SKU, 10), (OTHER, 2))
    changed = update(store, made, lines=((SKU, 12), (OTHER, 1)))
    assert [(line.sku, line.quantity) for line in changed.lines] == [(SKU, 12), (OTHER, 1)]
    assert reservations.get_reservation(store, made.id) == changed
    assert get_level(store, ("main", SKU)).reserved == 12
    assert list_movements(database, made.name)[2:] == [("RELEASE", 2, "main", -1), ("RESERVE", 1, "main", 2)]


def test_units_that_stay_are_kept_when_all_others_are_sold(store: Store):
    made = reserve(store, (SKU, 28))
    reserve(store, (SKU, 2))
    assert update(store, made, lines=((SKU, 14), (SKU, 14))).version == 2
    with pytest.raises(OutOfStock) as refusal:
        update(store, made, lines=((SKU, 29),))
    assert refusal.value.metadata == list_shortages({SKU: (29, 28)})
    assert reservations.get_reservation(store, made.id).version == 2
    assert update(store, made, lines=((SKU, 27),)).lines[0].quantity == 27


def test_units_stay_at_their_location_and_further_units_come_from_the_named_one(store: Store, database: Database):
    LOCATIONS.create(store, CALL, Location("north", "North", priority=-1))
    made = reserve(store, (SKU, 5))
    adjust_stock(store, CALL, ("north", SKU), quantity_delta=9)
    changed = update(store, made, lines=((OTHER, 1), (SKU, 8)), location_id="main")
    assert {(line.line_number, line.location_id, line.quantity) for line in changed.lines} == {
        (1, "main", 1),
        (2, "main", 8),
    }
    changed = update(store, made, lines=((SKU, 9),))
    assert [(line.location_id, line.quantity) for line in changed.lines] == [("main", 8), ("north", 1)]
    assert sum(units for *_, units in list_movements(database, made.name)) == 9
    level = get_level(store, ("north", SKU))
    assert (level.reserved, level.available) == (1, 8)


def test_update_without_a_change_writes_nothing(store: Store, database: Database):
    made = reserve(store, (SKU, 2), reference="cart", labels={"a": "b"})
    same = {"lines": ((SKU, 2),), "reference": "cart", "labels": {"a": "b"}, "expire_time_us": made.expire_time_us}
    assert update(store, made, **same) == made
    assert len(list_movements(database, made.name)) == 1


def test_shrinking_a_reservation_of_an_archived_product_succeeds(shop: Shop):
    variant = shop.variant(stock=5)
    made = shop.reserve((variant.sku, 3))
    shop.products.ArchiveVariant(products_pb2.ArchiveVariantRequest(name=variant.name))
    assert update_lines(shop, made, (variant.sku, 2)).lines[0].quantity == 2
    with refused("NOT_FOR_SALE"):
        update_lines(shop, made, (variant.sku, 3))


# -- the other fields


def test_update_of_the_expiry_time_may_shorten_it(store: Store, clock: Clock):
    made = reserve(store, (SKU, 1), ttl_s=60)
    assert update(store, made, ttl_us=SECOND).expire_time_us == START_US + SECOND
    assert update(store, made, expire_time_us=START_US + 5 * SECOND).expire_time_us == START_US + 5 * SECOND
    for expire_time_us in (START_US, START_US + 30 * 86_400 * SECOND + 1):
        with pytest.raises(InvalidField):
            update(store, made, expire_time_us=expire_time_us)
    clock.now_us += 5 * SECOND
    with pytest.raises(IllegalState) as refusal:
        update(store, made, ttl_us=SECOND)
    assert refusal.value.state == "EXPIRED"


def test_update_checks_etag_and_name(store: Store):
    made = reserve(store, (SKU, 1))
    update(store, made, labels={"a": "b"}, etag="v1")
    with pytest.raises(EtagMismatch):
        update(store, made, labels={}, etag="v1")
    with pytest.raises(ReservationNotFound):
        reservations.update_reservation(store, CALL, "none", ReservationChanges())
    with pytest.raises(InvalidField):
        update(store, made, lines=())


def test_released_reservation_cannot_be_updated(store: Store):
    made = reserve(store, (SKU, 1))
    reservations.release_reservation(store, CALL, made.id)
    with pytest.raises(IllegalState):
        update(store, made, lines=((SKU, 2),))


# -- one reservation per reference


def test_second_reservation_with_a_unique_reference_updates_the_first(store: Store, database: Database):
    reserve(store, (SKU, 1), reference="cart")  # does not count, because it did not ask
    made = reserve(store, (SKU, 28), reference="cart", unique_reference=True, labels={"step": "1"})
    again = reserve(store, (SKU, 29), reference="cart", unique_reference=True, labels={"step": "2"}, ttl_s=90)
    assert (again.id, again.version, again.labels) == (made.id, 2, {"step": "2"})
    assert again.expire_time_us == START_US + 90 * SECOND
    with pytest.raises(OutOfStock):
        reserve(store, (SKU, 30), reference="cart", unique_reference=True)
    assert reservations.get_reservation(store, made.id) == again
    with database.opened() as session:
        events = session.rows("SELECT type FROM audit_entries WHERE resource = ? ORDER BY sequence", made.name)
    assert [kind for (kind,) in events] == ["reservation.created", "reservation.updated"]


@pytest.mark.parametrize("ended", ["expired", "released"])
def test_reference_of_an_ended_reservation_is_free(store: Store, clock: Clock, ended: str):
    made = reserve(store, (SKU, 30), reference="cart", unique_reference=True)
    if ended == "expired":
        clock.now_us += 60 * SECOND
    else:
        reservations.release_reservation(store, CALL, made.id)
    again = reserve(store, (SKU, 30), reference="cart", unique_reference=True)
    assert again.id != made.id
    assert reservations.get_reservation(store, made.id).state == ended.upper()


def test_update_to_a_taken_reference_is_refused_and_names_the_other(store: Store, clock: Clock):
    other = reserve(store, (SKU, 1), reference="cart", unique_reference=True, ttl_s=30)
    made = reserve(store, (SKU, 1), reference="cart")
    with pytest.raises(ReferenceTaken) as refusal:
        update(store, made, unique_reference=True)
    assert refusal.value.metadata == {"resource": other.name, "reference": "cart", "source": ""}
    with pytest.raises(InvalidField):
        update(store, made, reference="", unique_reference=True)
    clock.now_us += 30 * SECOND
    assert update(store, made, unique_reference=True).unique_reference


def test_fifty_at_once_make_one_reservation(shop: Shop, records: Records):
    sku, reference = shop.variant(stock=60).sku, new_id("cart")
    calls = [
        shop.inventory.ReserveStock.future(
            pb.ReserveStockRequest(
                lines=[pb.ReserveStockLine(sku=sku, quantity=number)],
                reference=reference,
                unique_reference=True,
                request_id=new_request_id(),
            )
        )
        for number in range(1, 51)
    ]
    made = [call.result() for call in calls]
    assert len({one.name for one in made}) == 1
    assert sorted(one.etag for one in made) == sorted(f"v{number}" for number in range(1, 51))
    last = max(made, key=lambda one: int(one.etag[1:]))
    assert shop.level(sku).reserved == last.lines[0].quantity
    query = pb.ListReservationsRequest(filter=f'reference = "{reference}"', page_size=100)
    assert len(shop.inventory.ListReservations(query).reservations) == 1
    total = records.value("SELECT SUM(reserved_delta) FROM stock_movements WHERE source = ?", last.name)
    assert total == last.lines[0].quantity


def test_database_rejects_a_second_active_reservation_with_a_unique_reference(store: Store, database: Database):
    made = reserve(store, (SKU, 1), reference="cart", unique_reference=True)
    other = reserve(store, (SKU, 1), reference="cart")
    with database.opened() as session, pytest.raises(Exception, match=r"(?i)unique"):
        session.run("UPDATE reservations SET unique_reference = TRUE WHERE id = ?", other.id)
    assert reservations.get_reservation(store, made.id) == made


# -- orders with several reservations


def make_new_order(units: int, *made: Reservation) -> NewOrder:
    return NewOrder("ada-marsh", ((SKU, units),), "EUR", reservation_ids=tuple(one.id for one in made))


def test_order_uses_all_its_reservations(store: Store):
    held = [reserve(store, (SKU, units), reference=f"cart-{units}") for units in (20, 10)]
    placed = place_order(store, CALL, make_new_order(30, *held))
    assert placed.lines[0].quantity == 30
    ended = [reservations.get_reservation(store, one.id) for one in held]
    assert [(one.state, one.order_id) for one in ended] == [("COMMITTED", placed.id)] * 2
    level = get_level(store, ("main", SKU))
    assert (level.reserved, level.allocated) == (0, 30)


@pytest.mark.parametrize("units", [3, 29])
def test_order_releases_what_it_does_not_need_and_takes_the_rest_from_free_stock(store: Store, units: int):
    held = [reserve(store, (SKU, 10)), reserve(store, (SKU, 8), (OTHER, 1))]
    place_order(store, CALL, make_new_order(units, *held))
    level = get_level(store, ("main", SKU))
    assert (level.reserved, level.allocated) == (0, units)
    assert get_level(store, ("main", OTHER)).reserved == 0


def test_order_with_one_ended_reservation_changes_nothing_and_names_it(store: Store, clock: Clock):
    lasting, short = reserve(store, (SKU, 2), ttl_s=60), reserve(store, (SKU, 1), ttl_s=30)
    clock.now_us += 30 * SECOND
    with pytest.raises(IllegalState) as refusal:
        place_order(store, CALL, make_new_order(3, lasting, short))
    assert (refusal.value.resource, refusal.value.state) == (short.name, "EXPIRED")
    assert reservations.get_reservation(store, lasting.id).state == "ACTIVE"
    with pytest.raises(ReservationNotFound):
        place_order(
            store, CALL, NewOrder("ada-marsh", ((SKU, 1),), "EUR", reservation_ids=(short.id, "none", lasting.id))
        )
    place_order(store, CALL, make_new_order(3, lasting))


# -- over gRPC


def update_lines(shop: Shop, reservation: pb.Reservation, *lines: tuple[str, int], **fields) -> pb.Reservation:
    wanted = [pb.ReservationLine(sku=sku, quantity=quantity) for sku, quantity in lines]
    request = pb.UpdateReservationRequest(
        reservation=pb.Reservation(name=reservation.name, lines=wanted),
        update_mask=FieldMask(paths=["lines"]),
        **fields,
    )
    return shop.inventory.UpdateReservation(request)


def test_read_change_and_update_keeps_the_rest(shop: Shop):
    first = shop.location(priority=-1).name
    sku = shop.variant(stock=5).sku
    shop.adjust(sku, 1, location=first)
    made = shop.reserve((sku, 4), labels={"shop": "a"}, reference="cart", ttl=Duration(seconds=600))
    made = update_lines(shop, made, (sku, 6))
    assert {(line.line_number, line.location, line.quantity) for line in made.lines} == {(1, first, 1), (1, MAIN, 5)}
    made.labels["till"] = "7"
    changed = shop.inventory.UpdateReservation(pb.UpdateReservationRequest(reservation=made))
    assert dict(changed.labels) == {"shop": "a", "till": "7"}
    assert {(line.location, line.quantity) for line in changed.lines} == {(first, 1), (MAIN, 5)}
    assert (changed.reference, changed.expire_time) == ("cart", made.expire_time)
    assert shop.level(sku).reserved == 5


def test_mask_decides_what_an_update_changes(shop: Shop):
    sku = shop.variant(stock=5).sku
    made = shop.reserve((sku, 2), labels={"a": "b"}, reference="cart")
    other = pb.Reservation(name=made.name, reference="other", labels={"c": "d"})
    request = pb.UpdateReservationRequest(reservation=other, update_mask=FieldMask(paths=["reference"]))
    changed = shop.inventory.UpdateReservation(request)
    assert (changed.reference, dict(changed.labels), list(changed.lines)) == ("other", {"a": "b"}, list(made.lines))
    request = pb.UpdateReservationRequest(reservation=other, update_mask=FieldMask(paths=["*"]))
    with refused("INVALID_FIELD") as refusal:
        shop.inventory.UpdateReservation(request)
    assert list(refusal.violations) == ["reservation.expire_time"]
    request.ttl.seconds = 60
    with refused("INVALID_FIELD") as refusal:
        shop.inventory.UpdateReservation(request)
    assert list(refusal.violations) == ["reservation.lines"]
    changed.labels.clear()
    with refused("INVALID_FIELD") as refusal:
        shop.inventory.UpdateReservation(pb.UpdateReservationRequest(reservation=changed, ttl=Duration(seconds=60)))
    assert list(refusal.violations) == ["ttl"]


@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({"lines": [pb.ReservationLine(sku="A", quantity=0)]}, "reservation.lines[0].quantity"),
        ({"lines": [pb.ReservationLine(quantity=1)]}, "reservation.lines[0].sku"),
        ({"labels": {f"k{n}": "" for n in range(65)}}, "reservation.labels"),
        ({"reference": "x" * 101}, "reservation.reference"),
    ],
)
def test_update_beyond_a_limit_is_refused(shop: Shop, fields: dict, violation: str):
    reservation = pb.Reservation(name="reservations/any", **fields)
    with refused("INVALID_FIELD") as refusal:
        shop.inventory.UpdateReservation(pb.UpdateReservationRequest(reservation=reservation))
    assert list(refusal.violations) == [violation]


def test_unique_reference_without_a_reference_is_refused(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        shop.reserve((shop.variant(stock=1).sku, 1), unique_reference=True)
    assert list(refusal.violations) == ["reference"]


def test_cart_of_two_reservations_is_ordered(shop: Shop):
    sku = shop.variant(stock=3).sku
    held = [shop.reserve((sku, units), reference="cart").name for units in (2, 1)]
    with refused("OUT_OF_STOCK"):
        shop.order((sku, 3), reservation=held[0])
    with refused("INVALID_FIELD") as refusal:
        shop.order((sku, 3), reservation=held[0], reservations=held)
    assert list(refusal.violations) == ["reservations"]
    with refused("INVALID_FIELD"):
        shop.order((sku, 3), reservations=[held[0], held[0]])
    order = shop.order((sku, 3), reservations=held)
    assert shop.inventory.GetReservation(pb.GetReservationRequest(name=held[1])).order == order.name
    level = shop.level(sku)
    assert (level.reserved, level.allocated, level.available) == (0, 3, 0)


def test_updates_and_sales_at_once_take_each_unit_once(shop: Shop):
    sku, customer = shop.variant(stock=20).sku, shop.customer().name
    made = shop.reserve((sku, 10))
    orders = [shop.orders.PlaceOrder.future(shop.order_request((sku, 1), customer=customer)) for _ in range(20)]
    updates = []
    for units in [12, 5, 20, 9, 11] * 4:
        line = pb.ReservationLine(sku=sku, quantity=units)
        reservation = pb.Reservation(name=made.name, lines=[line])
        updates.append(shop.inventory.UpdateReservation.future(pb.UpdateReservationRequest(reservation=reservation)))
    reasons = [
        "" if (error := call.exception()) is None else parse_refusal(error).reason for call in [*orders, *updates]
    ]
    assert set(reasons) <= {"", "OUT_OF_STOCK"}
    level = shop.level(sku)
    kept = shop.inventory.GetReservation(pb.GetReservationRequest(name=made.name))
    assert level.reserved == sum(line.quantity for line in kept.lines)
    assert level.allocated == reasons[: len(orders)].count("")
    assert level.reserved + level.allocated + level.available == 20
