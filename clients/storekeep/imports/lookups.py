"""Lookup of the existing resources of a chunk of rows in a few calls.

A batch get fails if one resource is missing, so such a batch is halved until the existing ones are found. Resources in
a small batch with a missing one remain unknown; creating them reports whether they exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from storekeep.client import Category, Customer, Location, NotFound, Product, Storekeep, Variant
from storekeep.client.names import quote_text
from storekeep.imports.columns import InvalidCell

UNHALVED_BATCH_MAX = 8
"""Maximum names in a batch that is not halved further."""

FILTER_TERMS_MAX = 50
"""Maximum terms of a filter."""
FILTER_CHARS_MAX = 2000
"""Maximum characters of a filter."""


class Named(Protocol):
    """A resource with a name."""

    name: str


Deletable = Category | Customer | Location | Product | Variant
"""A resource with soft deletion."""


class WithSku(Protocol):
    """An item of a file that has a SKU."""

    @property
    def sku(self) -> str:
        """The SKU."""


NamedT = TypeVar("NamedT", bound=Named)


def find_existing(names: Sequence[str], *, batch_get: Callable[[Sequence[str]], Sequence[NamedT]]) -> dict[str, NamedT]:
    """Return existing resources by name, deleted ones too. A resource that is missing from the result may exist too."""
    if not names:
        return {}
    try:
        return {resource.name: resource for resource in batch_get(names)}
    except NotFound:
        if len(names) <= UNHALVED_BATCH_MAX:
            return {}
    middle = len(names) // 2
    return find_existing(names[:middle], batch_get=batch_get) | find_existing(names[middle:], batch_get=batch_get)


def find_variants(client: Storekeep, items: Iterable[WithSku]) -> dict[str, Variant]:
    """Return the variants that have the SKUs of the items, by SKU, deleted ones too."""
    return {
        variant.sku: variant
        for filter_text in build_filters("sku", [item.sku for item in items])
        for variant in client.variants.list(filter=filter_text, page_size=1000, show_deleted=True)
    }


def build_filters(field: str, values: Iterable[str]) -> Iterator[str]:
    """Yield filters that select the resources with any of these values, each within the limits of a filter."""
    terms = [f"{field} = {quote_text(value)}" for value in dict.fromkeys(values)]
    batch: list[str] = []
    chars = 0
    for term in terms:
        chars += len(term) + len(" OR ")
        if batch and (len(batch) == FILTER_TERMS_MAX or chars > FILTER_CHARS_MAX):
            yield " OR ".join(batch)
            batch, chars = [], len(term) + len(" OR ")
        batch.append(term)
    if batch:
        yield " OR ".join(batch)


def is_deleted(resource: Deletable) -> bool:
    """Return whether a resource is deleted."""
    return resource.HasField("delete_time")


def require_existing(resource: Deletable) -> None:
    """Raise InvalidCell if a resource is deleted: an import changes nothing that was deleted."""
    if is_deleted(resource):
        raise InvalidCell(f"{resource.name} is deleted; undelete it first")
