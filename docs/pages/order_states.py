"""The states of orders and fulfilments as the technical design shows them: the domain's own tables, as diagrams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from storekeep.server.domain.orders.fulfillments import FULFILLMENT_STEPS, PENDING
from storekeep.server.domain.orders.states import EDITABLE, FULFILLABLE, HOLDS_STOCK, ORDER_STEPS, PLACED


def section() -> str:
    """The diagrams, and what can be done in which states."""
    facts = [
        f"While an order is {_listed(HOLDS_STOCK)}, the stock of its open units is allocated to it.",
        f"Its lines can be edited while it is {_listed(EDITABLE)}.",
        f"Units are bound to fulfilments and shipped while it is {_listed(FULFILLABLE)}.",
        "A hold leaves the state as it is, and keeps an order from being confirmed, fulfilled, shipped and completed.",
    ]
    return "\n".join(
        [
            *_diagram(ORDER_STEPS, first=PLACED),
            "",
            *(f"{fact}\n" for fact in facts),
            "A fulfilment of an order:\n",
            *_diagram(FULFILLMENT_STEPS, first=PENDING),
            "",
        ]
    )


def _diagram(steps: Mapping[str, frozenset[str]], *, first: str) -> Iterable[str]:
    yield from ("```mermaid", "stateDiagram-v2", f"  [*] --> {first}")
    for state, following in steps.items():
        yield from (f"  {state} --> {after}" for after in steps if after in following)
    yield from (f"  {state} --> [*]" for state, following in steps.items() if not following)
    yield "```"


def _listed(states: frozenset[str]) -> str:
    *most, last = [state for state in ORDER_STEPS if state in states]
    return f"{', '.join(most)} or {last}"
