"""How far an order can go from where it is. The one table of states: the documentation prints it."""

from __future__ import annotations

from storekeep.server.domain.errors import IllegalState

PLACED, CONFIRMED, CANCELLED = "PLACED", "CONFIRMED", "CANCELLED"
FULFILLED = "FULFILLED"
ORDER_STATES = (PLACED, CONFIRMED, FULFILLED, CANCELLED)
ORDER_STEPS: dict[str, frozenset[str]] = {
    PLACED: frozenset({CONFIRMED, CANCELLED}),
    CONFIRMED: frozenset({CANCELLED}),
    FULFILLED: frozenset(),
    CANCELLED: frozenset(),
}
HOLDS_STOCK = frozenset({PLACED, CONFIRMED})
"""States in which an order's lines are open, so that their stock is promised to it."""


def check_step(order: str, *, state: str, wanted: str) -> None:
    """Refuse a step that the table does not have.

    Raises: IllegalState, with both states.
    """
    if wanted not in ORDER_STEPS[state]:
        raise IllegalState(order, state=state, wanted=wanted)
