"""Categories, the tree that groups products."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Unpack

import grpc

from storekeep.client.calls import Calls, TextOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import DeletableQuery, Listing, build_query
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
    """Reads and changes categories."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = ProductServiceStub(channel)

    def get(self, name: str, **options: Unpack[TextOptions]) -> Category:
        """Get one category, deleted or not.

        Raises: CategoryNotFound.
        """
        return self._calls.get(self._stub.GetCategory, GetCategoryRequest(name=name), **options)

    def list(
        self,
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        accept_language: str = "",
        **query: Unpack[DeletableQuery],
    ) -> Listing[Category]:
        """List categories; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListCategoriesRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListCategories,
            request,
            items=lambda page: page.categories,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
            accept_language=accept_language,
        )

    def batch_get(self, names: Iterable[str], **options: Unpack[TextOptions]) -> Sequence[Category]:
        """Get up to 1000 categories from one snapshot, in the order of `names`; fail if one is missing.

        Raises: CategoryNotFound.
        """
        request = BatchGetCategoriesRequest(names=names)
        return self._calls.get(self._stub.BatchGetCategories, request, **options).categories

    def create(self, category: Category, *, category_id: str = "", **options: Unpack[WriteOptions]) -> Category:
        """Create a category. Output-only fields are ignored.

        `category_id` becomes the last segment of its name; the server generates one if it is empty.

        Raises: CategoryNotFound, AlreadyExists.
        """
        request = CreateCategoryRequest(category=category, category_id=category_id)
        return self._calls.write(self._stub.CreateCategory, request, **options)

    def update(
        self, category: Category, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]
    ) -> Category:
        """Update a category: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, CategoryNotFound, ResourceDeleted, EtagMismatch, CategoryCycle.
        """
        request = UpdateCategoryRequest(category=category, update_mask=build_field_mask(update_mask))
        return self._calls.write(self._stub.UpdateCategory, request, **options)

    def archive(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Category:
        """Archive a category, which takes it off sale.

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
        """Soft-delete a category: lists omit it, and it can be undeleted.

        Raises: CategoryNotFound, EtagMismatch, ResourceInUse.
        """
        return self._calls.write(self._stub.DeleteCategory, DeleteCategoryRequest(name=name, etag=etag), **options)

    def undelete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Category:
        """Restore a deleted category.

        Raises: CategoryNotFound, ResourceNotDeleted, EtagMismatch.
        """
        return self._calls.write(self._stub.UndeleteCategory, UndeleteCategoryRequest(name=name, etag=etag), **options)
