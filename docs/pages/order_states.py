"""The states of orders and fulfilments as diagrams, and the fields that can change in each, from the domain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from docs.pages.markdown import code, head, table
from storekeep.server.domain.orders.fulfillments import FULFILLMENT_CHANGEABLE, FULFILLMENT_STEPS, PENDING
from storekeep.server.domain.orders.states import (
    CHANGEABLE,
    EDITABLE,
    FULFILLABLE,
    HOLDS_STOCK,
    ORDER_STEPS,
    PLACED,
    RESTOCK_STEPS,
)

FIELDS_INTRODUCTION = """
An update that gives a field another value in any other state fails with FIELD_NOT_CHANGEABLE, and changes nothing. A
value that equals the current one is accepted in every state.
"""


def build_section() -> str:
    """Return the diagrams, and the actions that each state allows."""
    facts = [
        f"While an order is {_join_states(HOLDS_STOCK)}, stock is allocated for its open units.",
        f"Its lines can be edited while it is {_join_states(EDITABLE)}.",
        f"Fulfilments can be created and shipped while it is {_join_states(FULFILLABLE)}.",
        f"A shipped fulfilment can be restocked while the order is {_join_states(frozenset(RESTOCK_STEPS))}.",
        "A hold does not change the state. A held order cannot be confirmed, fulfilled, shipped or completed.",
        "[Changeable fields](reference/changeable-fields.md) lists the states in which each field can change.",
    ]
    steps = {state: following | RESTOCK_STEPS.get(state, frozenset()) for state, following in ORDER_STEPS.items()}
    return "\n".join(
        [
            *_draw_diagram(steps, first=PLACED),
            "",
            *(f"{fact}\n" for fact in facts),
            "The states of a fulfilment:\n",
            *_draw_diagram(FULFILLMENT_STEPS, first=PENDING),
            "",
        ]
    )


def build_fields_page() -> str:
    """Return the page of the fields that `UpdateOrder` and `UpdateFulfillment` change, with the states."""
    source = "CHANGEABLE and FULFILLMENT_CHANGEABLE in server/storekeep/server/domain/orders"
    return "".join(
        [
            head("Changeable fields", source=source),
            FIELDS_INTRODUCTION,
            "\n## UpdateOrder\n\n",
            _build_table(CHANGEABLE, states=tuple(ORDER_STEPS)),
            "\n## UpdateFulfillment\n\n",
            _build_table(FULFILLMENT_CHANGEABLE, states=tuple(FULFILLMENT_STEPS)),
        ]
    )


def _build_table(changeable: Mapping[str, frozenset[str]], *, states: tuple[str, ...]) -> str:
    """Return a table of the fields and the states in which they can change."""
    rows = [
        (code(field), "all" if allowed >= set(states) else ", ".join(state for state in states if state in allowed))
        for field, allowed in changeable.items()
    ]
    return table(("Field", "States"), rows)


def _draw_diagram(steps: Mapping[str, frozenset[str]], *, first: str) -> Iterable[str]:
    yield from ("```mermaid", "stateDiagram-v2", f"  [*] --> {first}")
    for state, following in steps.items():
        yield from (f"  {state} --> {after}" for after in steps if after in following)
    yield from (f"  {state} --> [*]" for state, following in steps.items() if not following)
    yield "```"


def _join_states(states: frozenset[str]) -> str:
    *most, last = [state for state in ORDER_STEPS if state in states]
    return f"{', '.join(most)} or {last}"
