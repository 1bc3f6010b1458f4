"""Categories: the tree that groups products."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Unpack

import grpc

from storekeep.client.calls import Calls, ReadOptions, WriteOptions
from storekeep.client.masks import field_mask
from storekeep.client.pages import DeletableQuery, Listing
from storekeep.v1.products_pb2 import (
    ArchiveCategoryRequest,
    BatchGetCategoriesRequest,
    Category,
    CreateCategoryRequest,
    DeleteCategoryRequest,
    GetCategoryRequest,
    ListCategoriesRequest,
    UnarchiveCategoryRequest,
    UndeleteCategoryRequest,
    UpdateCategoryRequest,
)
from storekeep.v1.products_pb2_grpc import ProductServiceStub


class Categories:
    """Gets, lists and changes categories."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = ProductServiceStub(channel)

    def get(self, name: str, **options: Unpack[ReadOptions]) -> Category:
        """Get one category, deleted or not.

        Raises: CategoryNotFound.
        """
        return self._calls.read(self._stub.GetCategory, GetCategoryRequest(name=name), **options)

    def list(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[DeletableQuery]
    ) -> Listing[Category]:
        """List categories, fetching page after page as they are read.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListCategoriesRequest(**query)
        return self._calls.listing(
            self._stub.ListCategories,
            request,
            items=lambda page: page.categories,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def batch_get(self, names: Iterable[str], **options: Unpack[ReadOptions]) -> Sequence[Category]:
        """Get up to 1000 categories at one point in time, all or none, in the order of the names.

        Raises: CategoryNotFound.
        """
        request = BatchGetCategoriesRequest(names=names)
        return self._calls.read(self._stub.BatchGetCategories, request, **options).categories

    def create(self, category: Category, *, category_id: str = "", **options: Unpack[WriteOptions]) -> Category:
        """Create a category. Its output-only fields are ignored.

        `category_id` is the last part of its name; the server chooses one when it is empty.

        Raises: CategoryNotFound, AlreadyExists.
        """
        request = CreateCategoryRequest(category=category, category_id=category_id)
        return self._calls.write(self._stub.CreateCategory, request, **options)

    def update(
        self, category: Category, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]
    ) -> Category:
        """Change fields of a category: those of `update_mask`, or all that the message sets.

        With the `etag` in the message, a change by somebody else is not overwritten.

        Raises: InvalidUpdateMask, CategoryNotFound, ResourceDeleted, EtagMismatch, CategoryCycle.
        """
        request = UpdateCategoryRequest(category=category, update_mask=field_mask(update_mask))
        return self._calls.write(self._stub.UpdateCategory, request, **options)

    def archive(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Category:
        """Take a category off sale.

        Raises: CategoryNotFound, ResourceDeleted, EtagMismatch, IllegalState.
        """
        return self._calls.write(self._stub.ArchiveCategory, ArchiveCategoryRequest(name=name, etag=etag), **options)

    def unarchive(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Category:
        """Put an archived category back on sale.

        Raises: CategoryNotFound, ResourceDeleted, EtagMismatch, IllegalState.
        """
        return self._calls.write(
            self._stub.UnarchiveCategory, UnarchiveCategoryRequest(name=name, etag=etag), **options
        )

    def delete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Category:
        """Delete a category softly: it leaves the lists and can be undeleted.

        Raises: CategoryNotFound, ResourceDeleted, EtagMismatch, ResourceInUse.
        """
        return self._calls.write(self._stub.DeleteCategory, DeleteCategoryRequest(name=name, etag=etag), **options)

    def undelete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Category:
        """Bring a deleted category back.

        Raises: CategoryNotFound, ResourceNotDeleted, EtagMismatch.
        """
        return self._calls.write(self._stub.UndeleteCategory, UndeleteCategoryRequest(name=name, etag=etag), **options)
