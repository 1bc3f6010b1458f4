"""The details that exceptions of the client carry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FieldProblem:
    """A field that violates a constraint of the contract."""

    field: str
    """Path of the field, such as `lines[0].quantity`."""
    description: str
    """Description of the violation."""


@dataclass(frozen=True)
class Shortage:
    """A SKU with insufficient stock."""

    sku: str
    requested: int
    """Units requested."""
    available: int
    """Units available."""
