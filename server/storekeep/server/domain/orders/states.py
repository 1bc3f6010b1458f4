"""Order states and the transitions between them. The documentation prints this table."""

from __future__ import annotations

from storekeep.server.domain.errors import IllegalState

PLACED, CONFIRMED, CANCELLED, EXPIRED = "PLACED", "CONFIRMED", "CANCELLED", "EXPIRED"
PARTIALLY_FULFILLED, FULFILLED, COMPLETED = "PARTIALLY_FULFILLED", "FULFILLED", "COMPLETED"
ORDER_STEPS: dict[str, frozenset[str]] = {
    PLACED: frozenset({CONFIRMED, CANCELLED, EXPIRED}),
    CONFIRMED: frozenset({PARTIALLY_FULFILLED, FULFILLED, CANCELLED}),
    PARTIALLY_FULFILLED: frozenset({PARTIALLY_FULFILLED, FULFILLED}),
    FULFILLED: frozenset({COMPLETED}),
    COMPLETED: frozenset(),
    CANCELLED: frozenset(),
    EXPIRED: frozenset(),
}
"""State -> states that can follow it. Holding, resuming, editing and updating an order do not change its state."""
RESTOCK_STEPS: dict[str, frozenset[str]] = {
    PARTIALLY_FULFILLED: frozenset({PARTIALLY_FULFILLED, CONFIRMED}),
    FULFILLED: frozenset({PARTIALLY_FULFILLED, CONFIRMED}),
}
"""State -> states to which restocking a fulfilment leads back. Nothing else leads back."""
ORDER_STATES = tuple(ORDER_STEPS)
HOLDS_STOCK = frozenset({PLACED, CONFIRMED, PARTIALLY_FULFILLED})
"""States in which an order can have open units with allocated stock."""
FULFILLABLE = frozenset({CONFIRMED, PARTIALLY_FULFILLED})
"""States in which units can be assigned to fulfilments and shipped."""
EDITABLE = frozenset({PLACED, CONFIRMED})
"""States in which lines can be added and changed, because nothing has been shipped."""
TERMINAL_STATES = frozenset(state for state, steps in ORDER_STEPS.items() if not steps)
"""States that no other state follows."""
CHANGEABLE: dict[str, frozenset[str]] = {
    "shipping_address": EDITABLE,
    "billing_address": EDITABLE,
    "shipping": EDITABLE,
    "ship_by_time": HOLDS_STOCK,
    "deliver_by_time": HOLDS_STOCK | {FULFILLED},
    "email": frozenset(ORDER_STATES) - TERMINAL_STATES,
    "phone": frozenset(ORDER_STATES) - TERMINAL_STATES,
    "language_code": frozenset(ORDER_STATES) - TERMINAL_STATES,
    "external_reference": frozenset(ORDER_STATES),
    "note": frozenset(ORDER_STATES),
    "labels": frozenset(ORDER_STATES),
}
"""Field of the contract -> states in which `UpdateOrder` can change it. The documentation prints this table.

Goods and bill leave with the first shipment. A time can be promised until it has passed its event, contacts and
language are needed until the order is completed, and what only describes the order can always change."""


NEXT_STEPS: dict[tuple[str, str], str] = {
    (PLACED, PARTIALLY_FULFILLED): "confirm it first",
    (PLACED, COMPLETED): "confirm it and ship its units first",
    (CONFIRMED, COMPLETED): "ship its units first",
    (PARTIALLY_FULFILLED, COMPLETED): "ship or cancel its open units first",
    (PARTIALLY_FULFILLED, CANCELLED): "cancel its open lines instead",
    (FULFILLED, CANCELLED): "take back its fulfilments instead",
}
"""State and refused state -> what the caller can do to get there."""


def check_step(order: str, *, order_number: str, state: str, target: str) -> None:
    """Raise unless `ORDER_STEPS` allows the transition from `state` to `target`.

    Args:
        order: the order's resource name.
        order_number: its number, for the text of the error.

    Raises: IllegalState, with both states.
    """
    if target not in ORDER_STEPS[state]:
        raise _build_refusal(order, order_number=order_number, state=state, target=target)


def require_state(order: str, *, order_number: str, state: str, among: frozenset[str], target: str) -> None:
    """Raise unless the order is in one of the states that allow an action.

    Args:
        order: the order's resource name.
        order_number: its number, for the text of the error.
        among: the states that allow the action.
        target: the state that the action leads to, for the error.

    Raises: IllegalState.
    """
    if state not in among:
        raise _build_refusal(order, order_number=order_number, state=state, target=target)


def _build_refusal(order: str, *, order_number: str, state: str, target: str) -> IllegalState:
    problem = "this state is final" if state in TERMINAL_STATES else ""
    way_out = NEXT_STEPS.get((state, target), "")
    return IllegalState(order, order_number=order_number, state=state, target=target, problem=problem, way_out=way_out)
