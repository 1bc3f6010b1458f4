"""Orders that a shop with several locations places in one commit, and their effects."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec

from storekeep.server.domain.orders import placing
from storekeep.server.domain.orders.new_orders import NewOrder
from storekeep.server.domain.orders.orders import Order
from storekeep.server.domain.stock import levels
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.store.engine import Store
from storekeep.server.wiring.expirers import EXPIRERS
from tests.support.databases import Database
from tests.support.order_inputs import PRICES, PRIORITIES, START_US
from tests.support.outcomes import convert_error, get_outcome
from tests.support.placing import CALL, ENDLESS
from tests.support.stores import open_store

WAIT_S = 60.0
SKUS = sorted(PRICES)
HOT = "MUG-MOSS"
STOCK = {("main", HOT): 9, ("north", HOT): 8, ("depot", HOT): 7, ("north", "STRAINER"): 5, ("main", "TIN-RED"): 4}
LEVELS = "SELECT location_id, sku, on_hand, reserved, allocated, version FROM stock_levels ORDER BY location_id, sku"
MOVEMENTS = """
SELECT location_id, sku, line_number, on_hand, allocated_delta, cause FROM stock_movements
WHERE source LIKE 'orders/%' ORDER BY id
"""
EVENTS = "SELECT type FROM audit_entries ORDER BY sequence"

Placing = Callable[[Store], Order]


def open_shop(database: Database) -> Store:
    """Open a store with units at several locations."""
    store = open_store(database.url, clock=lambda: START_US)
    set_expirers(store, EXPIRERS)
    for level, units in STOCK.items():
        levels.adjust_stock(store, CALL, level, quantity_delta=units)
    return store


def order(*lines: tuple[str, int], request_id: str = "", customer_id: str = "ada-marsh", **fields: Any) -> Placing:
    """Return a call that places an order."""
    new = NewOrder(customer_id, lines, fields.pop("currency_code", "EUR"), **fields)
    call = msgspec.structs.replace(CALL, request_id=request_id, fingerprint=b"f")
    return lambda store: placing.place_order(store, call, new, rules=ENDLESS)


def place_together(store: Store, calls: Sequence[Placing]) -> list[Any]:
    """Place orders in one batch of the writer; return orders and errors."""
    results: list[Future[Any]] = [Future() for _ in calls]
    begun, ready = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        ready.wait(WAIT_S)

    def make_task(call: Placing, result: Future[Any]) -> Callable[[], None]:
        return lambda: result.set_result(get_outcome(lambda: call(store)))

    assert store.submit_task(hold)
    assert begun.wait(WAIT_S)
    for call, result in zip(calls, results, strict=True):
        assert store.submit_task(make_task(call, result))
    ready.set()
    return [result.result(WAIT_S) for result in results]


def make_random_call(rng: random.Random) -> Placing:
    """Return an order of a few units; some lack a customer, a SKU, a location or a price."""
    lines = tuple((rng.choice(SKUS), rng.randint(1, 3)) for _ in range(rng.randint(1, 3)))
    fields: dict[str, Any] = {"location_id": rng.choice(["", "", "", "", *PRIORITIES])}
    oddity = rng.randrange(12)
    if oddity == 0:
        fields["customer_id"] = "nobody"
    if oddity == 1:
        lines = (*lines, ("NO-SUCH-SKU", 1))
    if oddity == 2:
        fields["location_id"] = "nowhere"
    if oddity == 3:
        fields["currency_code"] = "CHF"
    return order(*lines, **fields)


def read_effects(database: Database) -> list[Any]:
    """Return the levels, the movements of orders and the types of all events."""
    with database.opened() as session:
        return [session.rows(sql) for sql in (LEVELS, MOVEMENTS, EVENTS)]


def summarize(outcome: Any) -> Any:
    """Return an order without its id, or an error in the terms of the model."""
    return msgspec.structs.replace(outcome, id="") if isinstance(outcome, Order) else convert_error(outcome)


def place_alone(store: Store, call: Placing) -> Any:
    """Place an order in a commit of its own."""
    return get_outcome(lambda: call(store))
