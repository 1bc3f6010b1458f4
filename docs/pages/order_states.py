"""Diagrams of the states of orders and fulfilments for the technical design, from the domain's tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from storekeep.server.domain.orders.fulfillments import FULFILLMENT_STEPS, PENDING
from storekeep.server.domain.orders.states import EDITABLE, FULFILLABLE, HOLDS_STOCK, ORDER_STEPS, PLACED


def build_section() -> str:
    """Return the diagrams, and the actions that each state allows."""
    facts = [
        f"While an order is {_join_states(HOLDS_STOCK)}, stock is allocated for its open units.",
        f"Its lines can be edited while it is {_join_states(EDITABLE)}.",
        f"Fulfilments can be created and shipped while it is {_join_states(FULFILLABLE)}.",
        "A hold does not change the state. A held order cannot be confirmed, fulfilled, shipped or completed.",
    ]
    return "\n".join(
        [
            *_draw_diagram(ORDER_STEPS, first=PLACED),
            "",
            *(f"{fact}\n" for fact in facts),
            "The states of a fulfilment:\n",
            *_draw_diagram(FULFILLMENT_STEPS, first=PENDING),
            "",
        ]
    )


def _draw_diagram(steps: Mapping[str, frozenset[str]], *, first: str) -> Iterable[str]:
    yield from ("```mermaid", "stateDiagram-v2", f"  [*] --> {first}")
    for state, following in steps.items():
        yield from (f"  {state} --> {after}" for after in steps if after in following)
    yield from (f"  {state} --> [*]" for state, following in steps.items() if not following)
    yield "```"


def _join_states(states: frozenset[str]) -> str:
    *most, last = [state for state in ORDER_STEPS if state in states]
    return f"{', '.join(most)} or {last}"
