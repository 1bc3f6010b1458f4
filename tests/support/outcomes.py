"""What the domain answers, in the words of a model that has no code of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from storekeep.server.domain.errors import DomainError, IllegalState, OutOfStock


def outcome_of(real: Callable[[], Any]) -> Any:
    """What is made, or why it is refused."""
    try:
        return real()
    except DomainError as error:
        return error


def told(error: DomainError) -> tuple[Any, ...]:
    """A refusal of the server as the model has it."""
    name = type(error).__name__
    if isinstance(error, IllegalState):
        return name, error.state, error.wanted
    if isinstance(error, OutOfStock):
        facts = error.metadata
        short = facts["skus"].split(",")
        return name, {sku: (int(facts[f"wanted.{sku}"]), int(facts[f"available.{sku}"])) for sku in short}
    return (name,)
