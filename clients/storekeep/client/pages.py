"""Lists of resources, fetched page by page.

A `Listing` fetches each page when it is first needed. Iterating again fetches the pages again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypedDict, TypeVar

ItemT = TypeVar("ItemT")


class Query(TypedDict, total=False):
    """Keyword arguments of list methods."""

    filter: str
    """A filter in a subset of AIP-160; the contract names the fields of each list."""
    order_by: str
    """Comma-separated fields, each optionally followed by ` desc` (AIP-132)."""
    page_size: int
    """Resources per page, at most 1000, 50 when 0 (the default)."""


class DeletableQuery(Query, total=False):
    """Keyword arguments of list methods of resources with soft deletion."""

    show_deleted: bool
    """Whether to include deleted resources."""


@dataclass(frozen=True)
class Page(Generic[ItemT]):
    """One page of a list."""

    items: Sequence[ItemT]
    """The resources, in the order of `order_by`."""
    next_page_token: str
    """Token of the next page; empty on the last page."""


class Listing(Generic[ItemT]):
    """A list of resources on the server. Iterate over it, or over `pages()`, or fetch one `page(token)`."""

    def __init__(self, fetch: Callable[[str], Page[ItemT]]) -> None:
        self._fetch = fetch

    def page(self, page_token: str = "") -> Page[ItemT]:
        """Fetch one page: the first, or that of a `next_page_token`.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        return self._fetch(page_token)

    def pages(self) -> Iterator[Page[ItemT]]:
        """Yield all pages, fetching each when it is needed."""
        page = self._fetch("")
        yield page
        while page.next_page_token:
            page = self._fetch(page.next_page_token)
            yield page

    def __iter__(self) -> Iterator[ItemT]:
        for page in self.pages():
            yield from page.items
