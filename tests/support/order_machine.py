"""A state machine that runs stock and orders in the domain and compares the result with a model after each step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from storekeep.server.domain.errors import DomainError
from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.money import Money
from storekeep.server.domain.orders import changes as order_changes
from storekeep.server.domain.orders import fulfillments, orders, placing
from storekeep.server.domain.orders.cancellations import cancel_order, cancel_order_lines
from storekeep.server.domain.orders.edits import Edit, apply_order_edit
from storekeep.server.domain.orders.fulfillments import LineUnits
from storekeep.server.domain.orders.new_orders import NewOrder
from storekeep.server.domain.orders.placing import PlacingRules
from storekeep.server.domain.orders.updates import update_order
from storekeep.server.domain.stock import counts, reservations
from storekeep.server.domain.stock import levels as inventory
from storekeep.server.domain.stock.expiry import expire_batch, set_expirers
from storekeep.server.domain.stock.reservations import NewReservation, ReservationChanges
from storekeep.server.wiring.expirers import EXPIRERS
from tests.support.databases import Database, Session
from tests.support.order_inputs import (
    COUNTED,
    LEFT,
    PRICES,
    PRIORITIES,
    SECOND,
    START_US,
    any_location,
    few_lines,
    few_texts,
    line_units,
    locations,
    recent,
    skus,
    wanted_lines,
)
from tests.support.order_model import Model
from tests.support.outcomes import convert_error, get_outcome
from tests.support.patience import report_progress
from tests.support.placing import CALL, NUMBERS
from tests.support.stock_model import Movement
from tests.support.stores import open_store

STOCK = {("main", "MUG-MOSS"): 6, ("north", "MUG-MOSS"): 4, ("depot", "MUG-MOSS"): 5, ("north", "STRAINER"): 9}
CUSTOMER = "ada-marsh"
TTLS_S = (1, 30, 60)
ENDED = ("COMPLETED", "CANCELLED", "EXPIRED", "RELEASED", "COMMITTED", "DELIVERED", "RESTOCKED")


class OrderLife(RuleBasedStateMachine):
    """One run on its own database.

    Args:
        prepared: Database with the initial data.
        played: Counts the actions, and the refused ones by reason.
    """

    def __init__(self, prepared: Database, played: Counter[str]) -> None:
        super().__init__()
        report_progress()
        self.model = Model(PRIORITIES, PRICES, now_us=START_US)
        self.played = played
        self.ids: dict[str, str] = {}
        self._discounted: set[str] = set()
        self._stack = ExitStack()
        folder = Path(self._stack.enter_context(TemporaryDirectory()))
        self._database = prepared.copy(folder)
        self._stack.callback(self._database.remove)
        self._session: Session = self._stack.enter_context(self._database.opened())
        self.store = open_store(self._database.url, clock=lambda: self.model.now_us)
        set_expirers(self.store, EXPIRERS)
        self._stack.callback(self.store.close)
        self._movement, self._entry = self._ends()

    def teardown(self) -> None:
        """Check that all invariants hold, except the audit entries of discounts that were given behind the domain."""
        with self._stack:
            breaches = [(finding.name, breach) for finding in verify(self.store) for breach in finding.breaches]
            assert [breach for breach in breaches if not self._is_discount(*breach)] == []

    def _is_discount(self, name: str, breach: str) -> bool:
        """Return whether a breach is the missing audit entry of a discount that was given here."""
        return name == "audit-rows" and breach.partition(":")[0] in self._discounted

    # -- actions

    def play(self, name: str, action: Callable[[], Any], real: Callable[[], Any], *, key: str = "") -> None:
        """Run the same action on the model and the server, which must agree on whether it succeeds.

        Args:
            name: Name of the action, for the count.
            key: Key of the resource that it creates, if any.
        """
        refused = self.model.attempt(action)
        made = get_outcome(real)
        error = convert_error(made) if isinstance(made, DomainError) else None
        assert error == (refused.reported if refused else None), name
        self.played[f"{name}: {error[0]}" if error else name] += 1
        if key and not error:
            self.ids[key] = made.id

    def some(self, promises: Mapping[str, Any], pick: int) -> str:
        """Choose one of the newest resources, mostly one that has not ended."""
        going_on = [key for key, one in promises.items() if one.state not in ENDED]
        candidates = list(promises) if pick == 4 or not going_on else going_on
        return candidates[-1 - pick % min(4, len(candidates))]

    def etag(self, key: str) -> str:
        """Return the etag that the server should have for a resource."""
        return f"v{self.model.version(key)}"

    def _ends(self) -> tuple[int, int]:
        ((movement, entry),) = self._session.rows(
            "SELECT (SELECT MAX(id) FROM stock_movements), (SELECT MAX(sequence) FROM audit_entries)"
        )
        return movement, entry

    @initialize(backorder=st.sampled_from([0, 0, 3]), safety=st.sampled_from([0, 0, 2]))
    def begin(self, backorder: int, safety: int) -> None:
        """Fill some levels, in the server and the model, and allocate the first units."""
        for sku in COUNTED:
            self.model.move("COUNT", "", 0, ("main", sku), on_hand=LEFT)
        self.model.ledger.clear()
        for place, units in STOCK.items():
            self.adjust(place[0], place[1], units, inventory.RECEIVE)
        self.update_level("main", "TIN-RED", backorder, safety, 4)
        self.reserve([("STRAINER", 2)], "", 30)
        self.reserve([("STRAINER", 1)], "", 30)
        self.place([("STRAINER", 4)], "", 0, 0, [0, 1])
        self.reserve([("MUG-MOSS", 2)], "", 30)
        self.place([("MUG-MOSS", 2), ("TIN-RED", 1), ("MUG-MOSS", 1)], "", 490, 60, [])
        self.place([("MUG-MOSS", 4), ("STRAINER", 2)], "north", 0, 0, [])
        self.give_discount(0, 77)
        self.give_discount(1, 35)
        self.go_on(0, 2)
        self.step_fulfillment(0, "cancel_fulfillment")
        self.go_on(0, 1)

    # -- stock

    @rule(
        location=locations,
        sku=skus,
        delta=st.integers(-4, 4).filter(bool),
        cause=st.sampled_from([inventory.RECEIVE, inventory.ADJUST, inventory.WRITE_OFF]),
    )
    def adjust(self, location: str, sku: str, delta: int, cause: str) -> None:
        if delta * inventory.REQUIRED_SIGNS.get(cause, delta) < 0:
            cause = inventory.ADJUST
        self.play(
            "adjust",
            lambda: self.model.adjust((location, sku), delta, cause=cause),
            lambda: inventory.adjust_stock(self.store, CALL, (location, sku), quantity_delta=delta, cause=cause),
        )

    @rule(location=locations, sku=skus, quantity=st.integers(0, 9), limits=st.none() | st.integers(0, 17))
    def set_level(self, location: str, sku: str, quantity: int, limits: int | None) -> None:
        """Set the stock on hand, or the backorder limit and the thresholds."""
        if limits is not None:
            self.update_level(location, sku, limits % 5, limits % 9 // 4, limits // 9 * 3)
            return
        self.play(
            "set",
            lambda: self.model.set((location, sku), quantity),
            lambda: counts.set_stock(self.store, CALL, (location, sku), quantity=quantity),
        )

    def update_level(self, location: str, sku: str, backorder: int, safety: int, low: int) -> None:
        place = location, sku
        changes = {"backorder_limit": backorder, "safety_threshold": safety, "low_stock_threshold": low}
        self.play(
            "update level",
            lambda: self.model.update_level(place, backorder=backorder, safety=safety, low=low),
            lambda: inventory.update_level(self.store, CALL, place, changes=changes),
        )

    @rule(lines=few_lines, ways=st.permutations(sorted(PRIORITIES)))
    def transfer(self, lines: list[tuple[str, int]], ways: list[str]) -> None:
        self.play(
            "transfer",
            lambda: self.model.transfer(lines, ways[0], ways[1]),
            lambda: inventory.transfer_stock(self.store, CALL, lines, source_id=ways[0], destination_id=ways[1]),
        )

    # -- time

    @rule(seconds=st.sampled_from([1, 30, 29]), sweep=st.sampled_from([False, True]))
    def pass_time(self, seconds: int, sweep: bool) -> None:
        self.model.now_us += seconds * SECOND
        self.played["pass time"] += 1
        if sweep:
            with self.model.crossing_thresholds():
                ended = self.model.expire_due()
            assert expire_batch(self.store) == ended
            self.played["sweep"] += ended > 0

    # -- reservations

    @rule(
        lines=wanted_lines,
        location=any_location,
        ttl_s=st.sampled_from(TTLS_S),
        unique=st.sampled_from(["", "cart-1", "cart-1", "cart-2"]),
    )
    def reserve(self, lines: list[tuple[str, int]], location: str, ttl_s: int, unique: str = "") -> None:
        key = f"reservations/{len(self.ids)}"
        new = NewReservation(tuple(lines), location, ttl_s * SECOND, unique, unique_reference=bool(unique))
        made: list[str] = []
        self.play(
            "reserve uniquely" if unique else "reserve",
            lambda: made.append(self.model.reserve(key, lines, location, ttl_s * SECOND, unique)),
            lambda: reservations.reserve(self.store, CALL, new),
            key=key,
        )
        if made and made[0] != key:  # an update: the id of the server's reply must be that of the existing reservation
            assert self.ids.pop(key) == self.ids[made[0]]
            self.played["reserve again"] += 1

    @rule(pick=recent, lines=wanted_lines, location=any_location, ttl_s=st.sampled_from(TTLS_S))
    def update_reservation(self, pick: int, lines: list[tuple[str, int]], location: str, ttl_s: int) -> None:
        key = self.some(self.model.reservations, pick)
        etag = self.etag(key)
        changes = ReservationChanges(tuple(lines), location, ttl_us=ttl_s * SECOND)
        self.play(
            "update reservation",
            lambda: self.model.update_reservation(key, lines, location, ttl_s * SECOND),
            lambda: reservations.update_reservation(self.store, CALL, self.ids[key], changes, etag=etag),
        )

    @rule(pick=recent, ttl_s=st.sampled_from(TTLS_S))
    def extend(self, pick: int, ttl_s: int) -> None:
        key = self.some(self.model.reservations, pick)
        etag = self.etag(key)
        self.play(
            "extend",
            lambda: self.model.extend(key, ttl_s * SECOND),
            lambda: reservations.extend(self.store, CALL, self.ids[key], ttl_us=ttl_s * SECOND, etag=etag),
        )

    @rule(pick=recent, commit=st.booleans())
    def end_reservation(self, pick: int, commit: bool) -> None:
        key = self.some(self.model.reservations, pick)
        etag = self.etag(key)
        real = reservations.commit if commit else reservations.release_reservation
        self.play(
            "commit" if commit else "release",
            lambda: self.model.commit(key) if commit else self.model.release(key),
            lambda: real(self.store, CALL, self.ids[key], etag=etag),
        )

    # -- orders

    @rule(
        lines=wanted_lines,
        location=any_location,
        shipping=st.sampled_from([0, 490]),
        ttl_s=st.sampled_from([0, 0, *TTLS_S]),
        picks=st.sampled_from([[], [], [0], [1], [0, 1], [2, 0, 1]]),
    )
    def place(self, lines: list[tuple[str, int]], location: str, shipping: int, ttl_s: int, picks: list[int]) -> None:
        key = f"orders/{len(self.ids)}"
        reserved = list(dict.fromkeys(self.some(self.model.reservations, pick) for pick in picks))
        new = NewOrder(
            CUSTOMER,
            tuple(lines),
            "EUR",
            location_id=location,
            shipping=Money("EUR", shipping) if shipping else None,
            reservation_ids=tuple(self.ids[one] for one in reserved),
        )
        self.play(
            ("place", "place with reservation")[len(reserved)] if len(reserved) < 2 else "place with reservations",
            lambda: self.model.place(
                key, lines, location=location, reservations=reserved, shipping=shipping, ttl_us=ttl_s * SECOND
            ),
            lambda: placing.place_order(self.store, CALL, new, rules=PlacingRules(NUMBERS, ttl_s)),
            key=key,
        )

    @rule(pick=recent, times=st.integers(1, 4))
    def go_on(self, pick: int, times: int) -> None:
        """Perform the next regular step of an order."""
        key = self.some(self.model.orders, pick)
        for _ in range(times):
            self.go_one_step(key, {1: 1} if pick % 2 else {})

    def go_one_step(self, key: str, units: dict[int, int]) -> None:
        pending = [name for name, one in self.model.fulfillments.items() if (one.order, one.state) == (key, "PENDING")]
        state = self.model.orders[key].state
        if self.model.orders[key].held and not units:
            self.step_order(key, "resume")
        elif pending:
            self.step_bound(pending[0], "ship")
        elif state in ("CONFIRMED", "PARTIALLY_FULFILLED"):
            self.bind(key, units, "")
        else:
            self.step_order(key, "confirm" if state == "PLACED" else "complete")

    @rule(pick=recent, name=st.sampled_from(["cancel", "resume", "complete", "confirm", "hold"]))
    def step(self, pick: int, name: str) -> None:
        self.step_order(self.some(self.model.orders, pick), name)

    @rule(pick=recent)
    def hold(self, pick: int) -> None:
        self.step_order(self.some(self.model.orders, pick), "hold")

    def step_order(self, key: str, name: str) -> None:
        etag = self.etag(key)
        real: dict[str, Callable[..., Any]] = {
            "confirm": order_changes.confirm_order,
            "hold": order_changes.hold_order,
            "resume": order_changes.resume_order,
            "complete": order_changes.complete_order,
            "cancel": cancel_order,
        }
        self.play(
            name,
            lambda: getattr(self.model, name)(key),
            lambda: real[name](self.store, CALL, self.ids[key], etag=etag),
        )

    @rule(pick=recent, units=line_units)
    def cancel_lines(self, pick: int, units: dict[int, int]) -> None:
        key = self.some(self.model.orders, pick)
        etag = self.etag(key)
        asked = self._select_units(key, units) or {1: 0}
        self.play(
            "cancel lines",
            lambda: self.model.cancel_lines(key, asked),
            lambda: cancel_order_lines(self.store, CALL, self.ids[key], _lines(asked), etag=etag),
        )

    @rule(
        pick=recent,
        added=st.just([]) | few_lines,
        changed=st.dictionaries(st.integers(1, 3), st.integers(1, 6), max_size=2),
        removed=st.sets(st.integers(1, 3), max_size=1),
    )
    def edit(self, pick: int, added: list[tuple[str, int]], changed: dict[int, int], removed: set[int]) -> None:
        key = self.some(self.model.orders, pick)
        gone = sorted(self._select_units(key, dict.fromkeys(removed, 0)))
        new = {number: units for number, units in self._select_units(key, changed).items() if number not in gone}
        if not (added or new or gone):
            new = {1: 2}
        self.edit_order(key, added, new, gone)

    @rule(pick=recent, units=st.integers(1, 6))
    def change_line(self, pick: int, units: int) -> None:
        self.edit_order(self.some(self.model.orders, pick), [], {1: units}, [])

    def edit_order(self, key: str, added: list[tuple[str, int]], new: dict[int, int], gone: list[int]) -> None:
        etag = self.etag(key)
        asked = Edit(tuple(added), _lines(new), tuple(gone))
        self.play(
            "edit",
            lambda: self.model.edit(key, added=added, changed=new, removed=gone),
            lambda: apply_order_edit(self.store, CALL, self.ids[key], asked, etag=etag),
        )

    @rule(
        pick=recent,
        changes=st.fixed_dictionaries(
            {}, optional={"shipping": st.sampled_from([0, 490, 990]), "phone": few_texts, "note": few_texts}
        ),
    )
    def update(self, pick: int, changes: dict[str, Any]) -> None:
        key = self.some(self.model.orders, pick)
        etag = self.etag(key)
        new = changes | ({"shipping": Money("EUR", changes["shipping"])} if "shipping" in changes else {})
        self.play(
            "update",
            lambda: self.model.update_order(key, changes),
            lambda: update_order(self.store, CALL, self.ids[key], new, etag=etag),
        )

    @rule(pick=recent, minor=st.integers(1, 99))
    def give_discount(self, pick: int, minor: int) -> None:
        """Give a discount behind the domain, as only an import can, to an order that has not been changed."""
        key = self.some(self.model.orders, pick)
        order = self.model.orders[key]
        line = order.lines[1]
        if order.state == "PLACED" and not order.frozen and line.open:
            line.discount += minor
            self.played["discount"] += 1
            order_id = self.ids[key]
            self._discounted.add(f"orders/{order_id}")
            self._session.run(
                "UPDATE order_lines SET discount_minor = discount_minor + ?, total_minor = total_minor - ?"
                " WHERE order_id = ? AND line_number = 1",
                *(minor, minor, order_id),
            )
            self._session.run("UPDATE orders SET total_minor = total_minor - ? WHERE id = ?", minor, order_id)

    def _select_units(self, key: str, units: dict[int, int]) -> dict[int, int]:
        """Return the units of the lines that the order has."""
        return {number: count for number, count in sorted(units.items()) if number in self.model.orders[key].lines}

    # -- fulfilments

    @rule(pick=recent, units=line_units, location=any_location)
    def fulfill(self, pick: int, units: dict[int, int], location: str) -> None:
        key = self.some(self.model.orders, pick)
        self.bind(key, self._select_units(key, units), location)

    def bind(self, order: str, asked: dict[int, int], location: str) -> None:
        key, etag = f"fulfillments/{len(self.ids)}", self.etag(order)
        self.play(
            "fulfill",
            lambda: self.model.fulfill(key, order, asked, location),
            lambda: fulfillments.create_fulfillment(
                self.store, CALL, self.ids[order], location_id=location, lines=_lines(asked), etag=etag
            ),
            key=key,
        )

    @rule(pick=recent, name=st.sampled_from(["ship", "ship", "deliver", "cancel_fulfillment"]))
    def step_fulfillment(self, pick: int, name: str) -> None:
        self.step_bound(self.some(self.model.fulfillments, pick), name)

    @rule(pick=recent, location=any_location)
    def restock(self, pick: int, location: str) -> None:
        shipped = {key: one for key, one in self.model.fulfillments.items() if one.state in ("SHIPPED", "DELIVERED")}
        key = self.some(shipped or self.model.fulfillments, pick)
        ids, etag = self.get_ids(key), self.etag(key)
        self.play(
            "restock",
            lambda: self.model.restock(key, location),
            lambda: fulfillments.restock_fulfillment(self.store, CALL, ids, location_id=location, etag=etag),
        )

    @rule(pick=recent, carrier=few_texts)
    def update_fulfillment(self, pick: int, carrier: str) -> None:
        key = self.some(self.model.fulfillments, pick)
        ids, etag, changes = self.get_ids(key), self.etag(key), {"carrier": carrier}
        self.play(
            "update fulfillment",
            lambda: self.model.update_fulfillment(key, carrier),
            lambda: fulfillments.update_fulfillment(self.store, CALL, ids, changes, etag=etag),
        )

    def get_ids(self, key: str) -> tuple[str, str]:
        """Return the ids of a fulfilment's order and of the fulfilment."""
        return self.ids[self.model.fulfillments[key].order], self.ids[key]

    def step_bound(self, key: str, name: str) -> None:
        ids = self.get_ids(key)
        etag = self.etag(key)
        real: dict[str, Callable[..., Any]] = {
            "ship": fulfillments.ship_fulfillment,
            "deliver": fulfillments.deliver_fulfillment,
            "cancel_fulfillment": fulfillments.cancel_fulfillment,
        }
        self.play(
            name.replace("_", " "),
            lambda: getattr(self.model, name)(key),
            lambda: real[name](self.store, CALL, ids, etag=etag),
        )

    # -- comparison

    @invariant()
    def model_is_sound(self) -> None:
        self.model.check()

    @invariant()
    def levels_agree(self) -> None:
        rows = self._session.rows(
            "SELECT location_id, sku, on_hand, reserved, allocated, backorder_limit, safety_threshold,"
            " low_stock_threshold FROM stock_levels WHERE sku IN (?, ?, ?)",
            *PRICES,
        )
        levels = self.model.levels.items()
        assert {tuple(row) for row in rows} == {
            (*place, one.on_hand, one.reserved, one.allocated, one.backorder, one.safety, one.low)
            for place, one in levels
        }
        for availability in inventory.check_availability(self.store, list(PRICES)):
            assert list(availability.locations.items()) == self.model.available(availability.sku)

    @invariant()
    def ledgers_agree(self) -> None:
        """Compare the entries that each step wrote to both ledgers, and the sums of the stock ledger."""
        keys = {f"{key.partition('/')[0]}/{made}": key for key, made in self.ids.items()}
        movements = self._session.rows(
            "SELECT cause, source, line_number, location_id, sku, quantity_delta, reserved_delta, allocated_delta"
            " FROM stock_movements WHERE id > ?",
            self._movement,
        )
        written = Counter(Movement(row[0], _source(row[1], keys), *row[2:]) for row in movements)
        assert written == Counter(self.model.ledger)
        entries = self._session.rows("SELECT type, resource FROM audit_entries WHERE sequence > ?", self._entry)
        assert Counter((kind, _resource(name, keys)) for kind, name in entries) == Counter(self.model.events)
        sums = self._session.rows(
            "SELECT location_id, sku, SUM(quantity_delta), SUM(reserved_delta), SUM(allocated_delta)"
            " FROM stock_movements WHERE sku IN (?, ?, ?) GROUP BY location_id, sku",
            *PRICES,
        )
        for location, sku, *total in sums:
            level = self.model.levels[location, sku]
            assert total == [level.on_hand, level.reserved, level.allocated]

    @invariant()
    def promises_agree(self) -> None:
        """Compare orders, reservations and fulfilments as they are read, expired or not."""
        for key, order in self.model.orders.items():
            seen = orders.get_order(self.store, self.ids[key])
            due = order.state != self.model.state_of_order(key)
            assert (seen.state, seen.version) == (self.model.state_of_order(key), self.model.version(key))
            assert (seen.total_minor, seen.held) == ((0, False) if due else (order.total, order.held))
            assert (seen.phone, seen.note) == (order.phone, order.note)
            assert [
                (one.line_number, one.sku, one.quantity, one.unit_price_minor, one.fulfilled, one.open, one.total_minor)
                for one in seen.lines
            ] == [
                (n, one.sku, one.quantity, one.price, one.fulfilled, 0 if due else one.open, 0 if due else one.cost)
                for n, one in order.lines.items()
            ]
        for key, reserved in self.model.reservations.items():
            actual = reservations.get_reservation(self.store, self.ids[key])
            state, order_id = self.model.state_of_reservation(key), self.ids.get(reserved.order, "")
            assert (actual.state, actual.order_id, actual.expire_time_us) == (state, order_id, reserved.expires_us)
            assert [(one.line_number, one.sku, one.location_id, one.quantity) for one in actual.lines] == reserved.parts
        for key, bound in self.model.fulfillments.items():
            made = fulfillments.get_fulfillment(self.store, (self.ids[bound.order], self.ids[key]))
            assert (made.state, made.location_id, made.carrier) == (bound.state, bound.location, bound.carrier)
            assert {line.line_number: line.quantity for line in made.lines} == bound.units


def play(make: Callable[[], OrderLife], *, plays: int, steps: int, **options: Any) -> None:
    """Run the machine several times; fail with the shortest failing run."""
    chosen = settings(
        max_examples=plays,
        stateful_step_count=steps,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **options,
    )
    run_state_machine_as_test(make, settings=chosen)


def _lines(units: dict[int, int]) -> tuple[LineUnits, ...]:
    return tuple(LineUnits(number, count) for number, count in units.items())


def _source(name: str, keys: dict[str, str]) -> str:
    return "transfer" if name.startswith("transfers/") else keys.get(name, name)


def _resource(name: str, keys: dict[str, str]) -> str:
    """Return the key of an entry's resource; a fulfilment's name begins with its order's."""
    return keys.get(name, keys.get(f"fulfillments/{name.rpartition('/')[2]}", name))
