"""External references of orders, which can be unique per source.

An order keeps its reference in every state, so a cancelled or expired order is not ordered again by a marketplace that
is read again. Unlike a `request_id`, a reference never lapses. A unique index also rejects duplicates.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from storekeep.server.domain.errors import InvalidField, ReferenceTaken
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.orders import FIND_BY_REFERENCE

FIELD = "external_reference"
Reference = tuple[str, str]
"""The source of an order, such as a marketplace, and its external reference."""


def find_references(tx: Transaction, references: Iterable[Reference]) -> dict[Reference, str]:
    """Return reference -> id of an order that has it, for those that an order has. One statement, if there are any."""
    requested = sorted(set(references))
    if not requested:
        return {}
    rows = FIND_BY_REFERENCE.all(tx, references=msgspec.json.encode(requested).decode())
    return {(source, reference): order_id for source, reference, order_id in rows if order_id is not None}


def require_unused_reference(tx: Transaction, reference: Reference) -> None:
    """Raise if an order has the reference.

    Raises: ReferenceTaken.
    """
    for order_id in find_references(tx, [reference]).values():
        raise ReferenceTaken(reference[1], resource=f"orders/{order_id}", source=reference[0])


def require_reference(external_reference: str, *, field: str = FIELD) -> None:
    """Raise unless an order that asks for a unique reference has one.

    Args:
        field: the path of the field in the request.

    Raises: InvalidField.
    """
    if not external_reference:
        raise InvalidField(field, "is required with unique_external_reference")
