"""The option `--state` of lists."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import typer


def build_state_filter(text: str, states: Any) -> str:
    """Return the filter of `--state`, empty if the option is not given.

    Args:
        text: a state in upper or lower case, such as `placed` or `partially-fulfilled`.
        states: the enum of the resource's states in the contract, such as `OrderState`.

    Raises: typer.BadParameter, with the state that may be meant.
    """
    if not text:
        return ""
    unspecified, *names = states.keys()
    prefix = unspecified.removesuffix("UNSPECIFIED")
    existing = {name.removeprefix(prefix).lower().replace("_", "-"): name.removeprefix(prefix) for name in names}
    state = text.strip().lower().replace("_", "-")
    if state not in existing:
        close = get_close_matches(state, existing, n=1)
        advice = f"did you mean {close[0]}?" if close else f"the states are {', '.join(existing)}"
        raise typer.BadParameter(f"no such state: {text}; {advice}")
    return f"state = {existing[state]}"
