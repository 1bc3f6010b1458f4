"""Variants: the sellable units, each one SKU with its prices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Unpack

import grpc

from storekeep.client.calls import Calls, ReadOptions, WriteOptions
from storekeep.client.masks import field_mask
from storekeep.client.pages import DeletableQuery, Listing
from storekeep.v1.products_pb2 import (
    ArchiveVariantRequest,
    BatchGetVariantsRequest,
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
    """Gets, lists and changes variants."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = ProductServiceStub(channel)

    def get(self, name: str, **options: Unpack[ReadOptions]) -> Variant:
        """Get one variant, deleted or not.

        Raises: VariantNotFound.
        """
        return self._calls.read(self._stub.GetVariant, GetVariantRequest(name=name), **options)

    def list(
        self,
        parent: str = "products/-",
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[DeletableQuery],
    ) -> Listing[Variant]:
        """List variants, fetching page after page as they are read.

        `parent` limits them to one parent; `-` in place of its id means all.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListVariantsRequest(parent=parent, **query)
        return self._calls.listing(
            self._stub.ListVariants,
            request,
            items=lambda page: page.variants,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def batch_get(
        self, names: Iterable[str], *, parent: str = "products/-", **options: Unpack[ReadOptions]
    ) -> Sequence[Variant]:
        """Get up to 1000 variants at one point in time, all or none, in the order of the names.

        Raises: VariantNotFound.
        """
        request = BatchGetVariantsRequest(parent=parent, names=names)
        return self._calls.read(self._stub.BatchGetVariants, request, **options).variants

    def create(
        self, parent: str, variant: Variant, *, variant_id: str = "", **options: Unpack[WriteOptions]
    ) -> Variant:
        """Create a variant. Its output-only fields are ignored.

        `variant_id` is the last part of its name; the server chooses one when it is empty.

        Raises: UnknownCurrency, InvalidAmount, CurrencyMismatch, ProductNotFound, ResourceDeleted, SkuTaken,
        AlreadyExists.
        """
        request = CreateVariantRequest(parent=parent, variant=variant, variant_id=variant_id)
        return self._calls.write(self._stub.CreateVariant, request, **options)

    def update(self, variant: Variant, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]) -> Variant:
        """Change fields of a variant: those of `update_mask`, or all that the message sets.

        With the `etag` in the message, a change by somebody else is not overwritten.

        Raises: InvalidUpdateMask, UnknownCurrency, InvalidAmount, VariantNotFound, ResourceDeleted, EtagMismatch,
        CurrencyMismatch.
        """
        request = UpdateVariantRequest(variant=variant, update_mask=field_mask(update_mask))
        return self._calls.write(self._stub.UpdateVariant, request, **options)

    def archive(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Variant:
        """Take a variant off sale.

        Raises: VariantNotFound, ResourceDeleted, EtagMismatch, IllegalState.
        """
        return self._calls.write(self._stub.ArchiveVariant, ArchiveVariantRequest(name=name, etag=etag), **options)

    def unarchive(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Variant:
        """Put an archived variant back on sale.

        Raises: VariantNotFound, ResourceDeleted, EtagMismatch, IllegalState.
        """
        return self._calls.write(self._stub.UnarchiveVariant, UnarchiveVariantRequest(name=name, etag=etag), **options)

    def delete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Variant:
        """Delete a variant softly: it leaves the lists and can be undeleted.

        Raises: VariantNotFound, ResourceDeleted, EtagMismatch, ResourceInUse.
        """
        return self._calls.write(self._stub.DeleteVariant, DeleteVariantRequest(name=name, etag=etag), **options)

    def undelete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Variant:
        """Bring a deleted variant back.

        Raises: VariantNotFound, ResourceNotDeleted, EtagMismatch.
        """
        return self._calls.write(self._stub.UndeleteVariant, UndeleteVariantRequest(name=name, etag=etag), **options)
