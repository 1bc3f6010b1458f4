"""Products, which group the variants that are sold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Unpack

import grpc

from storekeep.client.batches import BatchResults, get_mode, read_results
from storekeep.client.calls import Calls, TextOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import DeletableQuery, Listing, build_query
from storekeep.v1.products_pb2 import (
    ArchiveProductRequest,
    BatchCreateProductsRequest,
    BatchGetProductsRequest,
    BatchUpdateProductsRequest,
    CreateProductRequest,
    DeleteProductRequest,
    GetProductRequest,
    ListProductsRequest,
    Product,
    PublishProductRequest,
    SearchProductsRequest,
    UnarchiveProductRequest,
    UndeleteProductRequest,
    UpdateProductRequest,
)
from storekeep.v1.products_pb2_grpc import ProductServiceStub


class Products:
    """Reads, searches and changes products."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = ProductServiceStub(channel)

    def get(self, name: str, **options: Unpack[TextOptions]) -> Product:
        """Get one product, deleted or not.

        Raises: ProductNotFound.
        """
        return self._calls.get(self._stub.GetProduct, GetProductRequest(name=name), **options)

    def list(
        self,
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        accept_language: str = "",
        **query: Unpack[DeletableQuery],
    ) -> Listing[Product]:
        """List products; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListProductsRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListProducts,
            request,
            items=lambda page: page.products,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
            accept_language=accept_language,
        )

    def batch_get(self, names: Iterable[str], **options: Unpack[TextOptions]) -> Sequence[Product]:
        """Get up to 1000 products from one snapshot, in the order of `names`; fail if one is missing.

        Raises: ProductNotFound.
        """
        request = BatchGetProductsRequest(names=names)
        return self._calls.get(self._stub.BatchGetProducts, request, **options).products

    def create(
        self, product: Product, *, product_id: str = "", draft: bool = False, **options: Unpack[WriteOptions]
    ) -> Product:
        """Create a product. Output-only fields are ignored.

        `product_id` becomes the last segment of its name; the server generates one if it is empty. With `draft`, or a
        `publish_time`, the product is a draft; it goes on sale at its publish time or with `publish`.

        Raises: CategoryNotFound, AlreadyExists.
        """
        request = CreateProductRequest(product=product, product_id=product_id, draft=draft)
        return self._calls.write(self._stub.CreateProduct, request, **options)

    def update(self, product: Product, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]) -> Product:
        """Update a product: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, ProductNotFound, ResourceDeleted, EtagMismatch, IllegalState, CategoryNotFound.
        """
        request = UpdateProductRequest(product=product, update_mask=build_field_mask(update_mask))
        return self._calls.write(self._stub.UpdateProduct, request, **options)

    def publish(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Product:
        """Publish a draft: put it on sale now.

        Raises: ProductNotFound, ResourceDeleted, EtagMismatch, IllegalState.
        """
        return self._calls.write(self._stub.PublishProduct, PublishProductRequest(name=name, etag=etag), **options)

    def batch_create(
        self,
        items: Iterable[CreateProductRequest],
        *,
        per_item: bool = False,
        **options: Unpack[WriteOptions],
    ) -> BatchResults[Product]:
        """Create up to 1000 products: all or none, or with `per_item` each by itself.

        The items must have no `request_id` or `validate_only`: those of the batch apply to all.

        Raises: unless `per_item`, the error of the first item that fails: CategoryNotFound, AlreadyExists.
        """
        request = BatchCreateProductsRequest(requests=items, mode=get_mode(per_item=per_item))
        reply = self._calls.write(self._stub.BatchCreateProducts, request, **options)
        return read_results(reply.results, resource=lambda result: result.product)

    def batch_update(
        self,
        items: Iterable[UpdateProductRequest],
        *,
        per_item: bool = False,
        **options: Unpack[WriteOptions],
    ) -> BatchResults[Product]:
        """Update up to 1000 products: all or none, or with `per_item` each by itself.

        The items must have no `request_id` or `validate_only`: those of the batch apply to all.

        Raises: unless `per_item`, the error of the first item that fails: InvalidUpdateMask, ProductNotFound,
        ResourceDeleted, EtagMismatch, IllegalState, CategoryNotFound.
        """
        request = BatchUpdateProductsRequest(requests=items, mode=get_mode(per_item=per_item))
        reply = self._calls.write(self._stub.BatchUpdateProducts, request, **options)
        return read_results(reply.results, resource=lambda result: result.product)

    def archive(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Product:
        """Archive a product, which takes it off sale.

        Raises: ProductNotFound, ResourceDeleted, EtagMismatch, IllegalState.
        """
        return self._calls.write(self._stub.ArchiveProduct, ArchiveProductRequest(name=name, etag=etag), **options)

    def unarchive(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Product:
        """Put an archived product back on sale.

        Raises: ProductNotFound, ResourceDeleted, EtagMismatch, IllegalState.
        """
        return self._calls.write(self._stub.UnarchiveProduct, UnarchiveProductRequest(name=name, etag=etag), **options)

    def delete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Product:
        """Soft-delete a product: lists omit it, and it can be undeleted.

        Raises: ProductNotFound, EtagMismatch.
        """
        return self._calls.write(self._stub.DeleteProduct, DeleteProductRequest(name=name, etag=etag), **options)

    def undelete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Product:
        """Restore a deleted product.

        Raises: ProductNotFound, ResourceNotDeleted, EtagMismatch.
        """
        return self._calls.write(self._stub.UndeleteProduct, UndeleteProductRequest(name=name, etag=etag), **options)

    def search(
        self,
        query: str,
        *,
        page_size: int = 0,
        show_archived: bool = False,
        show_drafts: bool = False,
        read_mask: Iterable[str] = (),
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        accept_language: str = "",
    ) -> Listing[Product]:
        """Search products by words in their names, descriptions, SKUs and barcodes, best match first.

        A product matches if it contains all words of `query`; the last may be a prefix. Deleted products are excluded,
        and archived ones too unless `show_archived`. `show_drafts` includes drafts for callers with the permission
        `products.write`. `page_size` is at most 100; 20 when 0.

        Raises: InvalidPageToken.
        """
        request = SearchProductsRequest(
            query=query,
            page_size=page_size,
            show_archived=show_archived,
            show_drafts=show_drafts,
            read_mask=build_field_mask(read_mask),
        )
        return self._calls.list_pages(
            self._stub.SearchProducts,
            request,
            items=lambda page: page.products,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
            accept_language=accept_language,
        )
