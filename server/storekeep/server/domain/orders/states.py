"""How far an order can go from where it is. The one table of states: the documentation prints it."""

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
"""Beside these, an order is held and resumed, and edited where it is in `EDITABLE`, in the state that it is in."""
ORDER_STATES = tuple(ORDER_STEPS)
HOLDS_STOCK = frozenset({PLACED, CONFIRMED, PARTIALLY_FULFILLED})
"""States in which an order can have open units, whose stock is promised to it."""
FULFILLABLE = frozenset({CONFIRMED, PARTIALLY_FULFILLED})
"""States in which units can be bound to fulfilments, and shipped."""
EDITABLE = frozenset({PLACED, CONFIRMED})
"""States in which lines can be added and changed: nothing has been shipped."""
ENDED = frozenset(state for state, steps in ORDER_STEPS.items() if not steps)
"""States that are never left."""


def check_step(order: str, *, state: str, wanted: str) -> None:
    """Refuse a step that the table does not have.

    Raises: IllegalState, with both states.
    """
    if wanted not in ORDER_STEPS[state]:
        raise IllegalState(order, state=state, wanted=wanted)


def require_state(order: str, *, state: str, among: frozenset[str], wanted: str) -> None:
    """Refuse what can be done in some states alone.

    Args:
        wanted: what it would have become, for the refusal.

    Raises: IllegalState.
    """
    if state not in among:
        raise IllegalState(order, state=state, wanted=wanted)
