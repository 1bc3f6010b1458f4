"""Variants of products, each with its own SKU and prices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Unpack

import grpc

from storekeep.client.batches import BatchResults, get_mode, read_results
from storekeep.client.calls import Calls, TextOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import DeletableQuery, Listing, build_query
from storekeep.v1.products_pb2 import (
    ArchiveVariantRequest,
    BatchCreateVariantsRequest,
    BatchGetVariantsRequest,
    BatchUpdateVariantsRequest,
    CreateVariantRequest,
    DeleteVariantRequest,
    GetVariantRequest,
    ListVariantsRequest,
    UnarchiveVariantRequest,
    UndeleteVariantRequest,
    UpdateVariantRequest,
    Variant,
)
from storekeep.v1.products_pb2_grpc import ProductServiceStub


class Variants:
    """Reads and changes variants."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = ProductServiceStub(channel)

    def get(self, name: str, **options: Unpack[TextOptions]) -> Variant:
        """Get one variant, deleted or not.

        Raises: VariantNotFound.
        """
        return self._calls.get(self._stub.GetVariant, GetVariantRequest(name=name), **options)

    def list(
        self,
        parent: str = "products/-",
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        accept_language: str = "",
        **query: Unpack[DeletableQuery],
    ) -> Listing[Variant]:
        """List variants; pages are fetched as you iterate.

        `parent` is the product, as `products/{product}`; `products/-` lists those of all products.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListVariantsRequest(parent=parent, **build_query(query))
        return self._calls.list_pages(
            self._stub.ListVariants,
            request,
            items=lambda page: page.variants,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
            accept_language=accept_language,
        )

    def batch_get(
        self, names: Iterable[str], *, parent: str = "products/-", **options: Unpack[TextOptions]
    ) -> Sequence[Variant]:
        """Get up to 1000 variants from one snapshot, in the order of `names`; fail if one is missing.

        Raises: VariantNotFound.
        """
        request = BatchGetVariantsRequest(parent=parent, names=names)
        return self._calls.get(self._stub.BatchGetVariants, request, **options).variants

    def create(
        self, parent: str, variant: Variant, *, variant_id: str = "", **options: Unpack[WriteOptions]
    ) -> Variant:
        """Create a variant of the product `parent`. Output-only fields are ignored.

        `variant_id` becomes the last segment of its name; the server generates one if it is empty.

        Raises: UnknownCurrency, InvalidAmount, CurrencyMismatch, ProductNotFound, ResourceDeleted, SkuTaken,
        AlreadyExists.
        """
        request = CreateVariantRequest(parent=parent, variant=variant, variant_id=variant_id)
        return self._calls.write(self._stub.CreateVariant, request, **options)

    def update(self, variant: Variant, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]) -> Variant:
        """Update a variant: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, UnknownCurrency, InvalidAmount, VariantNotFound, ResourceDeleted, EtagMismatch,
        CurrencyMismatch.
        """
        request = UpdateVariantRequest(variant=variant, update_mask=build_field_mask(update_mask))
        return self._calls.write(self._stub.UpdateVariant, request, **options)

    def batch_create(
        self,
        items: Iterable[CreateVariantRequest],
        *,
        parent: str = "products/-",
        per_item: bool = False,
        **options: Unpack[WriteOptions],
    ) -> BatchResults[Variant]:
        """Create up to 1000 variants: all or none, or with `per_item` each by itself.

        The items must have no `request_id` or `validate_only`: those of the batch apply to all.
        `parent` is the parent of all items; `products/-` if they have different ones.

        Raises: unless `per_item`, the error of the first item that fails: UnknownCurrency, InvalidAmount,
        CurrencyMismatch, ProductNotFound, ResourceDeleted, SkuTaken, AlreadyExists.
        """
        request = BatchCreateVariantsRequest(parent=parent, requests=items, mode=get_mode(per_item=per_item))
        reply = self._calls.write(self._stub.BatchCreateVariants, request, **options)
        return read_results(reply.results, resource=lambda result: result.variant)

    def batch_update(
        self,
        items: Iterable[UpdateVariantRequest],
        *,
        parent: str = "products/-",
        per_item: bool = False,
        **options: Unpack[WriteOptions],
    ) -> BatchResults[Variant]:
        """Update up to 1000 variants: all or none, or with `per_item` each by itself.

        The items must have no `request_id` or `validate_only`: those of the batch apply to all.
        `parent` is the parent of all items; `products/-` if they have different ones.

        Raises: unless `per_item`, the error of the first item that fails: InvalidUpdateMask, UnknownCurrency,
        InvalidAmount, VariantNotFound, ResourceDeleted, EtagMismatch, CurrencyMismatch.
        """
        request = BatchUpdateVariantsRequest(parent=parent, requests=items, mode=get_mode(per_item=per_item))
        reply = self._calls.write(self._stub.BatchUpdateVariants, request, **options)
        return read_results(reply.results, resource=lambda result: result.variant)

    def archive(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Variant:
        """Archive a variant, which takes it off sale.

        Raises: VariantNotFound, ResourceDeleted, EtagMismatch, IllegalState.
        """
        return self._calls.write(self._stub.ArchiveVariant, ArchiveVariantRequest(name=name, etag=etag), **options)

    def unarchive(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Variant:
        """Put an archived variant back on sale.

        Raises: VariantNotFound, ResourceDeleted, EtagMismatch, IllegalState.
        """
        return self._calls.write(self._stub.UnarchiveVariant, UnarchiveVariantRequest(name=name, etag=etag), **options)

    def delete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Variant:
        """Soft-delete a variant: lists omit it, and it can be undeleted.

        Raises: VariantNotFound, EtagMismatch, ResourceInUse.
        """
        return self._calls.write(self._stub.DeleteVariant, DeleteVariantRequest(name=name, etag=etag), **options)

    def undelete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Variant:
        """Restore a deleted variant.

        Raises: VariantNotFound, ResourceNotDeleted, EtagMismatch.
        """
        return self._calls.write(self._stub.UndeleteVariant, UndeleteVariantRequest(name=name, etag=etag), **options)
