"""Pages: lists that are fetched as they are read.

A `Listing` asks the server for a page when it is needed and never before; reading it again asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypedDict, TypeVar

ItemT = TypeVar("ItemT")


class Query(TypedDict, total=False):
    """What a list method takes."""

    filter: str
    """AIP-160 subset; the contract says over which fields."""
    order_by: str
    """AIP-132: fields, each perhaps followed by ` desc`."""
    page_size: int
    """Resources per page: at most 1000, 50 when 0."""


class DeletableQuery(Query, total=False):
    """What a list method takes where resources are deleted softly."""

    show_deleted: bool
    """List deleted ones too."""


@dataclass(frozen=True)
class Page(Generic[ItemT]):
    """One page of a list."""

    items: Sequence[ItemT]
    """In the order that was asked for."""
    next_page_token: str
    """For the next page; empty on the last."""


class Listing(Generic[ItemT]):
    """A list on the server: iterate for the resources, `pages()` for the pages, `page(token)` for one of them."""

    def __init__(self, fetch: Callable[[str], Page[ItemT]]) -> None:
        self._fetch = fetch

    def page(self, page_token: str = "") -> Page[ItemT]:
        """Fetch one page: the first, or the one that a `next_page_token` stands for.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        return self._fetch(page_token)

    def pages(self) -> Iterator[Page[ItemT]]:
        """Fetch page after page, each when it is asked for."""
        page = self._fetch("")
        yield page
        while page.next_page_token:
            page = self._fetch(page.next_page_token)
            yield page

    def __iter__(self) -> Iterator[ItemT]:
        for page in self.pages():
            yield from page.items
