"""Lookups: what is there already of the resources that a chunk of rows is about, in few calls.

A batch get is all or none, so a batch that misses one is halved until what is there has been found. What lies in a
small batch with a missing one is left open: it is "perhaps there", and its creation will tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from storekeep.client import NotFound

OPEN_BATCH = 8
"""Batches of so many are not halved any further."""

FILTER_TERMS_MAX = 50
"""Terms that a filter may have."""


class Named(Protocol):
    """A resource with a name."""

    name: str


NamedT = TypeVar("NamedT", bound=Named)


def find_known(names: Sequence[str], *, batch_get: Callable[[Sequence[str]], Sequence[NamedT]]) -> dict[str, NamedT]:
    """Return the resources that are known to be there, by name. One that is not in it may be there all the same."""
    if not names:
        return {}
    try:
        return {resource.name: resource for resource in batch_get(names)}
    except NotFound:
        if len(names) <= OPEN_BATCH:
            return {}
    middle = len(names) // 2
    return find_known(names[:middle], batch_get=batch_get) | find_known(names[middle:], batch_get=batch_get)


def in_batches(items: Sequence[str], *, size: int) -> Iterator[Sequence[str]]:
    """Cut a sequence into batches of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
