"""The states of an order as the technical design shows them: the domain's own table, as a diagram."""

from __future__ import annotations

from storekeep.server.domain.order_states import HOLDS_STOCK, ORDER_STATES, ORDER_STEPS, PLACED


def section() -> str:
    """The diagram, and which states hold stock."""
    lines = ["```mermaid", "stateDiagram-v2", f"  [*] --> {PLACED}"]
    lines += [
        f"  {state} --> {after}" for state in ORDER_STATES for after in ORDER_STATES if after in ORDER_STEPS[state]
    ]
    lines += [f"  {state} --> [*]" for state in ORDER_STATES if not ORDER_STEPS[state]]
    holds = ", ".join(state for state in ORDER_STATES if state in HOLDS_STOCK)
    return "\n".join(
        [*lines, "```", "", f"While an order is {holds.replace(', ', ' or ')}, its stock is allocated to it.", ""]
    )
