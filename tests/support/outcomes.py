"""Outcomes of the domain in the terms of a model that shares no code with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from storekeep.server.domain.errors import DomainError, FieldNotChangeable, IllegalState, OutOfStock


def get_outcome(real: Callable[[], Any]) -> Any:
    """Return the created resource or the error."""
    try:
        return real()
    except DomainError as error:
        return error


def convert_error(error: DomainError) -> tuple[Any, ...]:
    """Return an error of the server in the terms of the model."""
    name = type(error).__name__
    if isinstance(error, IllegalState):
        return name, error.state, error.wanted
    if isinstance(error, FieldNotChangeable):
        return name, error.field, error.state
    if isinstance(error, OutOfStock):
        facts = error.metadata
        short = enumerate(facts["skus"].split(","), start=1)
        return name, {sku: (int(facts[f"requested-{i}"]), int(facts[f"available-{i}"])) for i, sku in short}
    return (name,)
