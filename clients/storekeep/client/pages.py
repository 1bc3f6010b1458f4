"""Lists of resources, fetched page by page.

A `Listing` fetches each page when it is first needed. Iterating again fetches the pages again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypedDict, TypeVar

from google.protobuf.message import Message

from storekeep.client.masks import build_field_mask

ItemT = TypeVar("ItemT")


class PageQuery(TypedDict, total=False):
    """Keyword arguments of list methods without filter and order."""

    page_size: int
    """Resources per page, at most 1000, 50 when 0 (the default). A larger number counts as 1000."""
    read_mask: Iterable[str]
    """Fields of each resource to return, such as `name` or `lines.sku` (default: all)."""
    include_total_size: bool
    """Whether the first page has the number of resources on all pages."""


class Query(PageQuery, total=False):
    """Keyword arguments of list methods."""

    filter: str
    """A filter in a subset of AIP-160; the contract names the fields of each list."""
    order_by: str
    """Comma-separated fields, each optionally followed by ` desc` (AIP-132)."""


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
    total_size: int | None = None
    """Resources on all pages, at most 10,000; only on the first page of a list with `include_total_size`."""
    total_size_is_lower_bound: bool = False
    """Whether there are more than `total_size`."""
    item_descriptor: Any = None
    """The descriptor of the message type of the resources; None if there is none."""


def build_query(query: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request fields of the keyword arguments of a list method."""
    fields = dict(query)
    if "read_mask" in fields:
        fields["read_mask"] = build_field_mask(fields["read_mask"])
    return fields


def build_page(items: Iterable[ItemT], reply: Any) -> Page[ItemT]:
    """Return the page in a reply."""
    if not isinstance(reply, Message):
        return Page(tuple(items), reply.next_page_token)
    fields = reply.DESCRIPTOR.fields_by_name
    (descriptor,) = (field.message_type for field in fields.values() if field.is_repeated)
    page = Page(tuple(items), reply.next_page_token, item_descriptor=descriptor)  # type: ignore[attr-defined]
    if "total_size" not in fields:
        return page
    total_size = reply.total_size if reply.HasField("total_size") else None  # type: ignore[attr-defined]
    return replace(page, total_size=total_size, total_size_is_lower_bound=reply.total_size_is_lower_bound)  # type: ignore[attr-defined]


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
