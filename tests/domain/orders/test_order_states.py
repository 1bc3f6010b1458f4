"""Order states: every pair of states, and expiry, tested in the domain with the test's own clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.errors import DomainError, FieldNotChangeable, IllegalState, OrderHeld, OutOfStock
from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.money import Money
from storekeep.server.domain.orders.cancellations import cancel_order, cancel_order_lines
from storekeep.server.domain.orders.changes import complete_order, confirm_order, hold_order, resume_order
from storekeep.server.domain.orders.edits import Edit, apply_order_edit
from storekeep.server.domain.orders.fulfillments import (
    FULFILLMENT_CHANGEABLE,
    FULFILLMENT_STEPS,
    LineUnits,
    Parcel,
    cancel_fulfillment,
    create_fulfillment,
    deliver_fulfillment,
    get_fulfillment,
    list_fulfillments,
    restock_fulfillment,
    ship_fulfillment,
    update_fulfillment,
)
from storekeep.server.domain.orders.history import list_order_history
from storekeep.server.domain.orders.orders import Order, get_order, list_orders
from storekeep.server.domain.orders.states import (
    CHANGEABLE,
    EDITABLE,
    FULFILLABLE,
    HOLDS_STOCK,
    ORDER_STATES,
    ORDER_STEPS,
    RESTOCK_STEPS,
    TERMINAL_STATES,
)
from storekeep.server.domain.orders.updates import update_order
from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.standard.lists import ListRequest
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.stock.expiry import expire_batch, set_expirers
from storekeep.server.domain.stock.levels import adjust_stock, get_level
from storekeep.server.domain.stock.reservations import NewReservation, commit, release_reservation, reserve
from storekeep.server.store.engine import Store
from storekeep.server.wiring.expirers import EXPIRERS
from tests.support.databases import Database
from tests.support.placing import CALL, RULES, place
from tests.support.statements import record_statements
from tests.support.stores import open_store

MICROS = 1_000_000
TTL_US = RULES.unpaid_ttl_s * MICROS
TOKENS = PageTokens(Keyring.from_secret(b"secret"))
SKUS = ("MUG-BLUE", "TIN-RED", "STRAINER")
ONE = (LineUnits(1, 1),)


@dataclass
class Desk:
    """A store with the sample and a clock that the test sets."""

    database: Database
    now_us: int = 1_800_000_000 * MICROS
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = open_store(self.database.url, clock=lambda: self.now_us)
        set_expirers(self.store, EXPIRERS)
        load_sample(self.store)

    def order(self, *lines: tuple[str, int]) -> Order:
        return place(self.store, "ada-marsh", *(lines or (("MUG-BLUE", 2), ("TIN-RED", 1))))

    def get(self, order: Order) -> Order:
        return get_order(self.store, order.id)

    def pass_time(self, us: int) -> None:
        self.now_us += us

    def ship(self, order: Order, *lines: LineUnits) -> None:
        made = create_fulfillment(self.store, CALL, order.id, lines=lines)
        ship_fulfillment(self.store, CALL, (order.id, made.id))

    def available(self, sku: str) -> int:
        return get_level(self.store, ("main", sku)).available

    def broken(self) -> list[str]:
        return [finding.name for finding in verify(self.store) if not finding.holds]


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    made = Desk(database)
    yield made
    made.store.close()


def make_confirmed(desk: Desk) -> Order:
    return confirm_order(desk.store, CALL, desk.order().id)


def make_partially_fulfilled(desk: Desk) -> Order:
    order = make_confirmed(desk)
    desk.ship(order, *ONE)
    return desk.get(order)


def make_fulfilled(desk: Desk) -> Order:
    order = make_confirmed(desk)
    desk.ship(order)
    return desk.get(order)


def make_expired(desk: Desk) -> Order:
    order = desk.order()
    desk.pass_time(TTL_US)
    expire_batch(desk.store)
    return desk.get(order)


IN_STATE: dict[str, Callable[[Desk], Order]] = {
    "PLACED": lambda desk: desk.order(),
    "CONFIRMED": make_confirmed,
    "PARTIALLY_FULFILLED": make_partially_fulfilled,
    "FULFILLED": make_fulfilled,
    "COMPLETED": lambda desk: complete_order(desk.store, CALL, make_fulfilled(desk).id),
    "CANCELLED": lambda desk: cancel_order(desk.store, CALL, desk.order().id),
    "EXPIRED": make_expired,
}
TO_STATE: dict[str, Callable[[Desk, Order], object]] = {
    "CONFIRMED": lambda desk, order: confirm_order(desk.store, CALL, order.id),
    "PARTIALLY_FULFILLED": lambda desk, order: desk.ship(order, *ONE),
    "FULFILLED": lambda desk, order: desk.ship(order),
    "COMPLETED": lambda desk, order: complete_order(desk.store, CALL, order.id),
    "CANCELLED": lambda desk, order: cancel_order(desk.store, CALL, order.id),
}
"""State -> action that brings an order to it. Only the clock brings an order to EXPIRED."""


def test_every_state_can_be_reached_and_every_step_taken():
    assert set(IN_STATE) == set(ORDER_STATES)
    assert {to for steps in ORDER_STEPS.values() for to in steps} == {*TO_STATE, "EXPIRED"}


@pytest.mark.parametrize("state", ORDER_STATES)
def test_step_is_taken_exactly_where_the_table_has_it(desk: Desk, state: str):
    for wanted, step in TO_STATE.items():
        order = IN_STATE[state](desk)
        assert order.state == state
        if wanted in ORDER_STEPS[state]:
            step(desk, order)
            assert desk.get(order).state == wanted
            continue
        before = desk.database.everything()
        with pytest.raises(IllegalState) as refused:
            step(desk, order)
        assert (refused.value.state, refused.value.resource) == (state, order.name)
        assert desk.database.everything() == before
    assert desk.broken() == []


@pytest.mark.parametrize("state", ORDER_STATES)
def test_order_expires_exactly_where_the_table_has_it(desk: Desk, state: str):
    order = IN_STATE[state](desk)
    desk.pass_time(365 * 86_400 * MICROS)
    assert expire_batch(desk.store) == (state == "PLACED")
    assert desk.get(order).state == ("EXPIRED" if state == "PLACED" else state)
    assert desk.broken() == []


IN_PLACE: dict[str, tuple[frozenset[str], Callable[[Desk, Order], object]]] = {
    "hold": (frozenset(ORDER_STATES) - TERMINAL_STATES, lambda desk, order: hold_order(desk.store, CALL, order.id)),
    "edit": (EDITABLE, lambda desk, order: apply_order_edit(desk.store, CALL, order.id, Edit(changed=ONE))),
    "cancel lines": (HOLDS_STOCK, lambda desk, order: cancel_order_lines(desk.store, CALL, order.id, ONE)),
    "create fulfillment": (FULFILLABLE, lambda desk, order: create_fulfillment(desk.store, CALL, order.id, lines=ONE)),
}
"""Action that keeps the state -> states that allow it, and the call."""


@pytest.mark.parametrize("state", ORDER_STATES)
def test_action_is_possible_exactly_in_its_states(desk: Desk, state: str):
    for states, act in IN_PLACE.values():
        order = IN_STATE[state](desk)
        if state in states:
            act(desk, order)
            assert desk.get(order).state == state
            continue
        with pytest.raises(IllegalState):
            act(desk, order)
    assert desk.broken() == []


FULFILLMENT_ACTIONS = {
    "SHIPPED": ship_fulfillment,
    "DELIVERED": deliver_fulfillment,
    "CANCELLED": cancel_fulfillment,
    "RESTOCKED": restock_fulfillment,
}
PATHS = {
    "PENDING": (),
    "SHIPPED": ("SHIPPED",),
    "DELIVERED": ("SHIPPED", "DELIVERED"),
    "CANCELLED": ("CANCELLED",),
    "RESTOCKED": ("SHIPPED", "RESTOCKED"),
}


@pytest.mark.parametrize("state", FULFILLMENT_STEPS)
def test_fulfillment_steps_exactly_where_the_table_has_it(desk: Desk, state: str):
    for wanted, act in FULFILLMENT_ACTIONS.items():
        order = make_confirmed(desk)
        key = (order.id, create_fulfillment(desk.store, CALL, order.id, lines=ONE).id)
        for step in PATHS[state]:
            FULFILLMENT_ACTIONS[step](desk.store, CALL, key)
        if wanted in FULFILLMENT_STEPS[state]:
            assert act(desk.store, CALL, key).state == wanted
        else:
            with pytest.raises(IllegalState) as refused:
                act(desk.store, CALL, key)
            assert (refused.value.state, refused.value.wanted) == (state, wanted)
        assert get_fulfillment(desk.store, key).state == (wanted if wanted in FULFILLMENT_STEPS[state] else state)
    assert desk.broken() == []


# -- updates and restocking

VALUES: dict[str, Any] = {
    "shipping_address": Address(region_code="IE"),
    "billing_address": Address(region_code="AT"),
    "shipping": Money("EUR", 490),
    "ship_by_time": 1,
    "deliver_by_time": 2,
    "email": "new@shop.example",
    "phone": "1",
    "language_code": "de",
    "external_reference": "web-7",
    "note": "Ring twice.",
    "labels": {"gift": "yes"},
}
"""A new value of each field of an order that can change."""
FULFILLMENT_VALUES: dict[str, Any] = {"carrier": "Post", "parcels": (Parcel("P-1"),)}


@pytest.mark.parametrize("state", ORDER_STATES)
def test_field_changes_exactly_in_its_states(desk: Desk, state: str):
    assert VALUES.keys() == CHANGEABLE.keys()
    order = IN_STATE[state](desk)
    for field_name, value in VALUES.items():
        before = desk.get(order)
        if state in CHANGEABLE[field_name]:
            assert update_order(desk.store, CALL, order.id, {field_name: value}).version == before.version + 1
            assert desk.get(order).state == state
            continue
        with pytest.raises(FieldNotChangeable) as refused:
            update_order(desk.store, CALL, order.id, {field_name: value})
        assert (refused.value.field, refused.value.state) == (field_name, state)
        assert desk.get(order) == before
    assert desk.broken() == []


@pytest.mark.parametrize("state", FULFILLMENT_STEPS)
def test_field_of_a_fulfillment_changes_exactly_in_its_states(desk: Desk, state: str):
    assert FULFILLMENT_VALUES.keys() == FULFILLMENT_CHANGEABLE.keys()
    order = make_confirmed(desk)
    key = (order.id, create_fulfillment(desk.store, CALL, order.id, lines=ONE).id)
    for step in PATHS[state]:
        FULFILLMENT_ACTIONS[step](desk.store, CALL, key)
    for field_name, value in FULFILLMENT_VALUES.items():
        if state in FULFILLMENT_CHANGEABLE[field_name]:
            update_fulfillment(desk.store, CALL, key, {field_name: value})
            continue
        with pytest.raises(FieldNotChangeable):
            update_fulfillment(desk.store, CALL, key, {field_name: value})
    assert desk.broken() == []


def test_update_of_an_order_past_its_expiry_writes_the_expiry_first(desk: Desk):
    order = desk.order()
    desk.pass_time(TTL_US)
    updated = update_order(desk.store, CALL, order.id, {"labels": {"lost": "yes"}}, etag="v1")
    assert (updated.state, updated.version, updated.labels) == ("EXPIRED", 3, {"lost": "yes"})
    assert desk.get(order) == updated
    history = list_order_history(desk.store, ListRequest(parent=order.name), tokens=TOKENS).items
    assert [change.actor for change in history[1:]] == ["system/expiry", CALL.caller.subject]
    assert get_level(desk.store, ("main", "MUG-BLUE")).allocated == 0
    assert desk.broken() == []
    with pytest.raises(FieldNotChangeable):
        update_order(desk.store, CALL, order.id, {"phone": "1"})


def test_restocking_leads_back_exactly_where_the_table_has_it(desk: Desk):
    found: dict[str, set[str]] = {}
    for shipped in ((2, 0), (1, 1), (1,), (1, 0, 1)):
        order = desk.order(("MUG-BLUE", 2), ("TIN-RED", 1))
        confirm_order(desk.store, CALL, order.id)
        keys = []
        for quantity in shipped:
            lines = (LineUnits(1, quantity),) if quantity else (LineUnits(2, 1),)
            keys.append((order.id, create_fulfillment(desk.store, CALL, order.id, lines=lines).id))
            ship_fulfillment(desk.store, CALL, keys[-1])
        before = desk.get(order).state
        restock_fulfillment(desk.store, CALL, keys[0])
        found.setdefault(before, set()).add(desk.get(order).state)
    order = make_fulfilled(desk)
    key = (order.id, list_fulfillments(desk.store, ListRequest(parent=order.id), tokens=TOKENS).items[0].id)
    restock_fulfillment(desk.store, CALL, key)
    found["FULFILLED"].add(desk.get(order).state)
    assert found == {state: set(steps) for state, steps in RESTOCK_STEPS.items()}
    assert desk.broken() == []


# -- holds

HELD_BACK: dict[str, tuple[str, Callable[[Desk, Order], object]]] = {
    "confirm": ("PLACED", TO_STATE["CONFIRMED"]),
    "create fulfillment": ("CONFIRMED", IN_PLACE["create fulfillment"][1]),
    "complete": ("FULFILLED", TO_STATE["COMPLETED"]),
    "hold": ("PLACED", IN_PLACE["hold"][1]),
}


@pytest.mark.parametrize("action", HELD_BACK)
def test_held_order_goes_no_further_until_it_is_resumed(desk: Desk, action: str):
    state, act = HELD_BACK[action]
    order = hold_order(desk.store, CALL, IN_STATE[state](desk).id, reason="fraud?")
    with pytest.raises(OrderHeld, match=r"fraud\?"):
        act(desk, order)
    assert not resume_order(desk.store, CALL, order.id).held
    act(desk, order)


def test_held_order_is_not_shipped(desk: Desk):
    order = make_confirmed(desk)
    key = (order.id, create_fulfillment(desk.store, CALL, order.id).id)
    hold_order(desk.store, CALL, order.id)
    with pytest.raises(OrderHeld):
        ship_fulfillment(desk.store, CALL, key)
    resume_order(desk.store, CALL, order.id)
    assert ship_fulfillment(desk.store, CALL, key).state == "SHIPPED"


def test_held_order_can_be_cancelled_and_expires(desk: Desk):
    order = hold_order(desk.store, CALL, desk.order().id, reason="x")
    assert not cancel_order(desk.store, CALL, order.id).held
    hold_order(desk.store, CALL, desk.order().id, reason="x")
    desk.pass_time(TTL_US)
    assert expire_batch(desk.store) == 1


# -- expiry


def test_order_expires_at_its_expiry_time_before_it_is_written(desk: Desk):
    order = desk.order()
    assert order.expire_time_us == desk.now_us + TTL_US
    desk.pass_time(TTL_US - 1)
    assert desk.get(order).state == "PLACED"
    desk.pass_time(1)
    shown = desk.get(order)
    assert (shown.state, shown.version, shown.total_minor) == ("EXPIRED", 1, 0)
    assert [(line.open, line.cancelled) for line in shown.lines] == [(0, 2), (0, 1)]


def test_written_expiry_shows_what_was_shown_before(desk: Desk):
    order = desk.order()
    desk.pass_time(TTL_US)
    shown = desk.get(order)
    assert expire_batch(desk.store) == 1
    written = desk.get(order)
    assert (written.state, written.lines, written.total_minor) == (shown.state, shown.lines, shown.total_minor)
    assert written.version == 2
    assert expire_batch(desk.store) == 0


def test_confirmation_in_time_ends_the_expiry(desk: Desk):
    order = desk.order()
    desk.pass_time(TTL_US - 1)
    assert confirm_order(desk.store, CALL, order.id).expire_time_us is None
    desk.pass_time(10 * TTL_US)
    assert expire_batch(desk.store) == 0
    assert desk.get(order).state == "CONFIRMED"


def test_confirmation_at_the_instant_is_refused_and_leaves_nothing(desk: Desk):
    order = desk.order()
    desk.pass_time(TTL_US)
    before = desk.database.everything()
    with pytest.raises(IllegalState) as refused:
        confirm_order(desk.store, CALL, order.id)
    assert (refused.value.state, refused.value.wanted) == ("EXPIRED", "CONFIRMED")
    assert desk.database.everything() == before


def test_stock_of_a_due_order_is_sold_at_once_and_its_expiry_written_with_it(desk: Desk):
    all_there = desk.available("MUG-BLUE")
    first = desk.order(("MUG-BLUE", all_there))
    with pytest.raises(OutOfStock):
        desk.order(("MUG-BLUE", 1))
    desk.pass_time(TTL_US)
    assert desk.available("MUG-BLUE") == all_there
    second = desk.order(("MUG-BLUE", all_there))
    assert desk.get(first).version == 2
    assert expire_batch(desk.store) == 0
    with desk.database.opened() as session:
        rows = session.rows("SELECT type, actor, resource FROM audit_entries ORDER BY sequence DESC LIMIT 2")
    assert rows == [
        ("order.placed", CALL.caller.subject, second.name),
        ("order.expired", "system/expiry", first.name),
    ]
    assert desk.broken() == []


def test_number_of_an_order_is_its_own_place_in_the_ledger_whatever_expired_with_it(desk: Desk):
    all_there = desk.available("MUG-BLUE")
    desk.order(("MUG-BLUE", all_there))
    desk.pass_time(TTL_US)
    second = desk.order(("MUG-BLUE", all_there))
    with desk.database.opened() as session:
        ((sequence,),) = session.rows(
            "SELECT sequence FROM audit_entries WHERE resource = ? AND type = 'order.placed'", second.name
        )
    assert second.number == f"T-{sequence}"


def test_many_due_orders_are_ended_piece_by_piece(desk: Desk):
    for _ in range(130):
        desk.order(("STRAINER", 1))
    desk.pass_time(TTL_US)
    assert [expire_batch(desk.store), expire_batch(desk.store), expire_batch(desk.store)] == [100, 30, 0]
    assert desk.available("STRAINER") == 200
    assert desk.broken() == []


def test_expired_orders_are_listed_as_such(desk: Desk):
    due, later = desk.order(), None
    desk.pass_time(TTL_US - 1)
    later = desk.order()
    desk.pass_time(1)

    def list_ids(wanted: str) -> set[str]:
        return {order.id for order in list_orders(desk.store, ListRequest(filter=wanted), tokens=TOKENS).items}

    for _ in range(2):
        assert list_ids("state = EXPIRED") == {due.id}
        assert list_ids("state = PLACED") == {later.id}
        assert list_ids("state != EXPIRED") == {later.id}
        assert list_ids("NOT state = PLACED") == {due.id}
        assert list_ids("state = CONFIRMED") == set()
        expire_batch(desk.store)


def test_expiry_is_listed_in_the_history(desk: Desk):
    order = make_expired(desk)
    history = list_order_history(desk.store, ListRequest(parent=order.name), tokens=TOKENS).items
    last = history[-1]
    assert (last.method, last.actor, last.from_state, last.to_state) == (
        "ExpirePromises",
        "system/expiry",
        "PLACED",
        "EXPIRED",
    )


# -- number of statements


def make_reservation_cases(desk: Desk, lines: int) -> dict[str, tuple[Callable[[], Any], Callable[[Any], object]]]:
    """Return name -> (preparation, call) of each use case of reservations with this many lines."""
    store = desk.store
    requested = tuple((SKUS[number % 3], 1) for number in range(lines))

    def make_reservation() -> str:
        return reserve(store, CALL, NewReservation(requested)).id

    return {
        "reserve": (lambda: None, lambda _: make_reservation()),
        "release": (make_reservation, lambda key: release_reservation(store, CALL, key)),
        "commit": (make_reservation, lambda key: commit(store, CALL, key)),
        "order": (make_reservation, lambda key: place(store, "ada-marsh", *requested, reservation_ids=(key,))),
    }


def count_statements(desk: Desk, lines: int) -> dict[str, int]:
    """Return name -> number of SQL statements of each use case, for orders with this many lines."""

    def make_order() -> Order:
        return desk.order(*((SKUS[number % 3], 1) for number in range(lines)))

    def make_confirmed_order() -> Order:
        return confirm_order(desk.store, CALL, make_order().id)

    def make_pending() -> tuple[str, str]:
        order = make_confirmed_order()
        return order.id, create_fulfillment(desk.store, CALL, order.id).id

    def make_shipped() -> tuple[str, str]:
        key = make_pending()
        ship_fulfillment(desk.store, CALL, key)
        return key

    half = tuple(LineUnits(number, 0) for number in range(1, lines // 2 + 2))
    gone = tuple(number for number, _ in half)
    every = tuple(LineUnits(number, 2) for number in range(1, lines + 1))
    added = tuple((SKUS[number % 3], 1) for number in range(lines))
    store = desk.store
    actions: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
        "place": (lambda: None, lambda _: make_order()),
        "get": (make_order, lambda order: get_order(store, order.id)),
        "list": (make_order, lambda _: list_orders(store, ListRequest(), tokens=TOKENS)),
        "confirm": (make_order, lambda order: confirm_order(store, CALL, order.id)),
        "cancel": (make_confirmed_order, lambda order: cancel_order(store, CALL, order.id)),
        "cancel lines": (make_order, lambda order: cancel_order_lines(store, CALL, order.id, half)),
        "edit": (make_order, lambda order: apply_order_edit(store, CALL, order.id, Edit(added=added, changed=every))),
        "reduce": (make_order, lambda order: apply_order_edit(store, CALL, order.id, Edit(added=added, removed=gone))),
        "create fulfillment": (make_confirmed_order, lambda order: create_fulfillment(store, CALL, order.id)),
        "ship": (make_pending, lambda key: ship_fulfillment(store, CALL, key)),
        "deliver": (make_shipped, lambda key: deliver_fulfillment(store, CALL, key)),
        "update": (make_order, lambda order: update_order(store, CALL, order.id, VALUES)),
        "update fulfillment": (
            make_shipped,
            lambda key: update_fulfillment(store, CALL, key, {"parcels": tuple(Parcel(f"P{n}") for n in range(lines))}),
        ),
        "restock": (make_shipped, lambda key: restock_fulfillment(store, CALL, key)),
    }
    actions |= make_reservation_cases(desk, lines)
    counts = {}
    for name, (prepare, act) in actions.items():
        prepared = prepare()
        counts[name] = len(record_statements(partial(act, prepared)))
    return counts


def test_number_of_statements_does_not_depend_on_the_lines(desk: Desk):
    for sku in SKUS:
        adjust_stock(desk.store, CALL, ("main", sku), quantity_delta=10_000)
    count_statements(desk, 1)  # caches the data key of the customer
    one, three, hundred = (count_statements(desk, lines) for lines in (1, 3, 100))
    assert one == three == hundred
    snapshot = {"sqlite": 1, "postgresql": 0}[desk.database.engine]
    assert (one["place"], one["get"], one["list"]) == (8, 3 + snapshot, 3 + snapshot)


def test_loser_of_any_kind_leaves_nothing(desk: Desk):
    order = make_confirmed(desk)
    stale = "v1"
    attempts: list[Callable[[], object]] = [
        lambda: cancel_order_lines(desk.store, CALL, order.id, ONE, etag=stale),
        lambda: apply_order_edit(desk.store, CALL, order.id, Edit(removed=(1,)), etag=stale),
        lambda: apply_order_edit(desk.store, CALL, order.id, Edit(changed=(LineUnits(1, 1), LineUnits(2, 10**6)))),
        lambda: create_fulfillment(desk.store, CALL, order.id, etag=stale),
        lambda: cancel_order_lines(desk.store, CALL, order.id, (LineUnits(1, 1), LineUnits(2, 9))),
    ]
    before = desk.database.everything()
    for attempt in attempts:
        with pytest.raises(DomainError):
            attempt()
    assert desk.database.everything() == before
