"""ProductService: categories, products and variants."""

from __future__ import annotations

import grpc
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from google.type import money_pb2

from storekeep.server.domain.catalog import categories, products, search, variants
from storekeep.server.domain.catalog.categories import CATEGORIES, Category
from storekeep.server.domain.catalog.products import PRODUCTS, Product
from storekeep.server.domain.catalog.variants import VARIANTS, Variant
from storekeep.server.domain.money import Money
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.resources import etag_of, new_id
from storekeep.server.servicers.calls import call_of, list_request_of
from storekeep.server.servicers.converters import (
    batch_keys,
    fill_labels,
    id_of,
    key_of,
    masked_fields,
    money_from,
    money_message,
    name_of,
    optional_timestamp,
    timestamp_of,
)
from storekeep.server.store.engine import Store
from storekeep.v1 import products_pb2 as pb
from storekeep.v1 import products_pb2_grpc

CATEGORY_FIELDS = {"display_name": "display_name", "description": "description", "parent_category": "parent_id"}
PRODUCT_FIELDS = {
    "display_name": "display_name",
    "description": "description",
    "category": "category_id",
    "labels": "labels",
}
VARIANT_FIELDS = {name: name for name in ("display_name", "options", "prices", "tax_class", "weight_g", "barcode")}
CATEGORY_STATES = {"ACTIVE": pb.CATEGORY_STATE_ACTIVE, "ARCHIVED": pb.CATEGORY_STATE_ARCHIVED}
PRODUCT_STATES = {"ACTIVE": pb.PRODUCT_STATE_ACTIVE, "ARCHIVED": pb.PRODUCT_STATE_ARCHIVED}
VARIANT_STATES = {"ACTIVE": pb.VARIANT_STATE_ACTIVE, "ARCHIVED": pb.VARIANT_STATE_ARCHIVED}


def category_message(category: Category) -> pb.Category:
    """A category as the contract writes it."""
    return pb.Category(
        name=category.name,
        display_name=category.display_name,
        description=category.description,
        parent_category=name_of("categories", category.parent_id),
        state=CATEGORY_STATES[category.state],
        create_time=timestamp_of(category.create_time_us),
        update_time=timestamp_of(category.update_time_us),
        delete_time=optional_timestamp(category.delete_time_us),
        etag=etag_of(category.version),
    )


def category_from(message: pb.Category, category_id: str) -> Category:
    """What a request says of a category."""
    return Category(
        category_id,
        display_name=message.display_name,
        description=message.description,
        parent_id=id_of(message.parent_category),
    )


def product_message(product: Product) -> pb.Product:
    """A product as the contract writes it."""
    message = pb.Product(
        name=product.name,
        display_name=product.display_name,
        description=product.description,
        category=name_of("categories", product.category_id),
        state=PRODUCT_STATES[product.state],
        create_time=timestamp_of(product.create_time_us),
        update_time=timestamp_of(product.update_time_us),
        delete_time=optional_timestamp(product.delete_time_us),
        etag=etag_of(product.version),
    )
    fill_labels(message.labels, product.labels)
    return message


def product_from(message: pb.Product, product_id: str) -> Product:
    """What a request says of a product."""
    return Product(
        product_id,
        display_name=message.display_name,
        description=message.description,
        category_id=id_of(message.category),
        labels=dict(message.labels),
    )


def variant_message(variant: Variant) -> pb.Variant:
    """A variant as the contract writes it."""
    return pb.Variant(
        name=variant.name,
        sku=variant.sku,
        display_name=variant.display_name,
        options=variant.options,
        prices=[money_message(price) for price in variant.prices],
        tax_class=variant.tax_class,
        weight_g=variant.weight_g,
        barcode=variant.barcode,
        state=VARIANT_STATES[variant.state],
        create_time=timestamp_of(variant.create_time_us),
        update_time=timestamp_of(variant.update_time_us),
        delete_time=optional_timestamp(variant.delete_time_us),
        etag=etag_of(variant.version),
    )


def variant_from(message: pb.Variant, *, product_id: str, variant_id: str) -> Variant:
    """What a request says of a variant.

    Raises: UnknownCurrency, InvalidAmount.
    """
    return Variant(
        product_id,
        variant_id,
        sku=message.sku,
        display_name=message.display_name,
        options=dict(message.options),
        tax_class=message.tax_class,
        weight_g=message.weight_g if message.HasField("weight_g") else None,
        barcode=message.barcode,
        prices=_prices_from(message.prices),
    )


def _prices_from(messages: RepeatedCompositeFieldContainer[money_pb2.Money]) -> tuple[Money, ...]:
    prices = [money_from(price, field=f"variant.prices[{place}]") for place, price in enumerate(messages)]
    return tuple(sorted(prices, key=lambda price: price.currency_code))


class ProductServicer(products_pb2_grpc.ProductServiceServicer):
    """The RPCs of ProductService; what each does stands in the contract."""

    def __init__(self, store: Store, tokens: PageTokens) -> None:
        self._store = store
        self._tokens = tokens

    def GetCategory(self, request: pb.GetCategoryRequest, context: grpc.ServicerContext) -> pb.Category:
        return category_message(CATEGORIES.get(self._store, key_of(request.name)))

    def ListCategories(
        self, request: pb.ListCategoriesRequest, context: grpc.ServicerContext
    ) -> pb.ListCategoriesResponse:
        page = CATEGORIES.page(self._store, list_request_of(request), listing=categories.LISTING, tokens=self._tokens)
        return pb.ListCategoriesResponse(
            categories=[category_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    def BatchGetCategories(
        self, request: pb.BatchGetCategoriesRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetCategoriesResponse:
        found = CATEGORIES.batch_get(self._store, [key_of(name) for name in request.names])
        return pb.BatchGetCategoriesResponse(categories=[category_message(item) for item in found])

    def CreateCategory(self, request: pb.CreateCategoryRequest, context: grpc.ServicerContext) -> pb.Category:
        draft = category_from(request.category, request.category_id or new_id())
        return category_message(CATEGORIES.create(self._store, call_of(request), draft))

    def UpdateCategory(self, request: pb.UpdateCategoryRequest, context: grpc.ServicerContext) -> pb.Category:
        fields = masked_fields(request.update_mask, request.category, CATEGORY_FIELDS)
        draft = category_from(request.category, id_of(request.category.name))
        changed = CATEGORIES.update(self._store, call_of(request), draft, fields=fields, etag=request.category.etag)
        return category_message(changed)

    def ArchiveCategory(self, request: pb.ArchiveCategoryRequest, context: grpc.ServicerContext) -> pb.Category:
        changed = CATEGORIES.archive(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return category_message(changed)

    def UnarchiveCategory(self, request: pb.UnarchiveCategoryRequest, context: grpc.ServicerContext) -> pb.Category:
        changed = CATEGORIES.unarchive(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return category_message(changed)

    def DeleteCategory(self, request: pb.DeleteCategoryRequest, context: grpc.ServicerContext) -> pb.Category:
        changed = CATEGORIES.delete(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return category_message(changed)

    def UndeleteCategory(self, request: pb.UndeleteCategoryRequest, context: grpc.ServicerContext) -> pb.Category:
        changed = CATEGORIES.undelete(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return category_message(changed)

    def GetProduct(self, request: pb.GetProductRequest, context: grpc.ServicerContext) -> pb.Product:
        return product_message(PRODUCTS.get(self._store, key_of(request.name)))

    def ListProducts(self, request: pb.ListProductsRequest, context: grpc.ServicerContext) -> pb.ListProductsResponse:
        page = PRODUCTS.page(self._store, list_request_of(request), listing=products.LISTING, tokens=self._tokens)
        return pb.ListProductsResponse(
            products=[product_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    def BatchGetProducts(
        self, request: pb.BatchGetProductsRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetProductsResponse:
        found = PRODUCTS.batch_get(self._store, [key_of(name) for name in request.names])
        return pb.BatchGetProductsResponse(products=[product_message(item) for item in found])

    def CreateProduct(self, request: pb.CreateProductRequest, context: grpc.ServicerContext) -> pb.Product:
        draft = product_from(request.product, request.product_id or new_id())
        return product_message(PRODUCTS.create(self._store, call_of(request), draft))

    def UpdateProduct(self, request: pb.UpdateProductRequest, context: grpc.ServicerContext) -> pb.Product:
        fields = masked_fields(request.update_mask, request.product, PRODUCT_FIELDS)
        draft = product_from(request.product, id_of(request.product.name))
        changed = PRODUCTS.update(self._store, call_of(request), draft, fields=fields, etag=request.product.etag)
        return product_message(changed)

    def ArchiveProduct(self, request: pb.ArchiveProductRequest, context: grpc.ServicerContext) -> pb.Product:
        changed = PRODUCTS.archive(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return product_message(changed)

    def UnarchiveProduct(self, request: pb.UnarchiveProductRequest, context: grpc.ServicerContext) -> pb.Product:
        changed = PRODUCTS.unarchive(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return product_message(changed)

    def DeleteProduct(self, request: pb.DeleteProductRequest, context: grpc.ServicerContext) -> pb.Product:
        changed = PRODUCTS.delete(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return product_message(changed)

    def UndeleteProduct(self, request: pb.UndeleteProductRequest, context: grpc.ServicerContext) -> pb.Product:
        changed = PRODUCTS.undelete(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return product_message(changed)

    def GetVariant(self, request: pb.GetVariantRequest, context: grpc.ServicerContext) -> pb.Variant:
        return variant_message(VARIANTS.get(self._store, key_of(request.name)))

    def ListVariants(self, request: pb.ListVariantsRequest, context: grpc.ServicerContext) -> pb.ListVariantsResponse:
        page = VARIANTS.page(
            self._store,
            list_request_of(request, parent=key_of(request.parent)[0]),
            listing=variants.LISTING,
            tokens=self._tokens,
        )
        return pb.ListVariantsResponse(
            variants=[variant_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    def BatchGetVariants(
        self, request: pb.BatchGetVariantsRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetVariantsResponse:
        found = VARIANTS.batch_get(self._store, batch_keys(request.parent, request.names))
        return pb.BatchGetVariantsResponse(variants=[variant_message(item) for item in found])

    def CreateVariant(self, request: pb.CreateVariantRequest, context: grpc.ServicerContext) -> pb.Variant:
        draft = variant_from(
            request.variant, product_id=id_of(request.parent), variant_id=request.variant_id or new_id()
        )
        return variant_message(VARIANTS.create(self._store, call_of(request), draft))

    def UpdateVariant(self, request: pb.UpdateVariantRequest, context: grpc.ServicerContext) -> pb.Variant:
        fields = masked_fields(request.update_mask, request.variant, VARIANT_FIELDS)
        draft = variant_from(
            request.variant, product_id=key_of(request.variant.name)[0], variant_id=id_of(request.variant.name)
        )
        changed = VARIANTS.update(self._store, call_of(request), draft, fields=fields, etag=request.variant.etag)
        return variant_message(changed)

    def ArchiveVariant(self, request: pb.ArchiveVariantRequest, context: grpc.ServicerContext) -> pb.Variant:
        changed = VARIANTS.archive(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return variant_message(changed)

    def UnarchiveVariant(self, request: pb.UnarchiveVariantRequest, context: grpc.ServicerContext) -> pb.Variant:
        changed = VARIANTS.unarchive(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return variant_message(changed)

    def DeleteVariant(self, request: pb.DeleteVariantRequest, context: grpc.ServicerContext) -> pb.Variant:
        changed = VARIANTS.delete(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return variant_message(changed)

    def UndeleteVariant(self, request: pb.UndeleteVariantRequest, context: grpc.ServicerContext) -> pb.Variant:
        changed = VARIANTS.undelete(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return variant_message(changed)

    def SearchProducts(
        self, request: pb.SearchProductsRequest, context: grpc.ServicerContext
    ) -> pb.SearchProductsResponse:
        page = search.search_products(
            self._store,
            request.query,
            page_size=request.page_size,
            page_token=request.page_token,
            show_archived=request.show_archived,
            tokens=self._tokens,
        )
        return pb.SearchProductsResponse(
            products=[product_message(item) for item in page.items], next_page_token=page.next_page_token
        )
