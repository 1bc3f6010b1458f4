"""Lookup of the existing resources of a chunk of rows in a few calls.

A batch get fails if one resource is missing, so such a batch is halved until the existing ones are found. Resources in
a small batch with a missing one remain unknown; creating them reports whether they exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from storekeep.client import NotFound

UNHALVED_BATCH_MAX = 8
"""Maximum names in a batch that is not halved further."""

FILTER_TERMS_MAX = 50
"""Maximum terms of a filter."""


class Named(Protocol):
    """A resource with a name."""

    name: str


NamedT = TypeVar("NamedT", bound=Named)


def find_existing(names: Sequence[str], *, batch_get: Callable[[Sequence[str]], Sequence[NamedT]]) -> dict[str, NamedT]:
    """Return existing resources by name. A resource that is missing from the result may exist too."""
    if not names:
        return {}
    try:
        return {resource.name: resource for resource in batch_get(names)}
    except NotFound:
        if len(names) <= UNHALVED_BATCH_MAX:
            return {}
    middle = len(names) // 2
    return find_existing(names[:middle], batch_get=batch_get) | find_existing(names[middle:], batch_get=batch_get)


def split_batches(items: Sequence[str], *, size: int) -> Iterator[Sequence[str]]:
    """Split a sequence into batches of `size` items or fewer."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
