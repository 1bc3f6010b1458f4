"""ProductService: categories, products and variants."""

from __future__ import annotations

import grpc
import msgspec
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from google.type import money_pb2

from storekeep.server.domain.catalog import categories, products, search, variants
from storekeep.server.domain.catalog.categories import CATEGORIES, Category
from storekeep.server.domain.catalog.preparations import prepare_products, prepare_variants
from storekeep.server.domain.catalog.products import PRODUCTS, MediaLink, Product
from storekeep.server.domain.catalog.quantity_rules import QuantityRules
from storekeep.server.domain.catalog.variants import VARIANTS, Variant
from storekeep.server.domain.money import Money
from storekeep.server.domain.mutations import mutate
from storekeep.server.domain.standard.batches import Effect
from storekeep.server.domain.standard.collections import ACTIVE, Addition, Edit
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.resources import make_etag, new_id
from storekeep.server.servicers.batches import build_results, change_batch, check_parents
from storekeep.server.servicers.calls import (
    build_call,
    build_list_request,
    build_page_fields,
    build_search_request,
    has_permission,
)
from storekeep.server.servicers.converters import (
    Fields,
    build_money,
    build_optional_timestamp,
    build_timestamp,
    fill_labels,
    format_name,
    parse_batch_keys,
    parse_id,
    parse_key,
    parse_money_message,
    parse_time_us,
    parse_update_mask,
)
from storekeep.server.servicers.translations import (
    check_language,
    fill_texts,
    fill_variants,
    parse_texts,
    parse_variants,
)
from storekeep.server.store.engine import Store
from storekeep.v1 import products_pb2 as pb
from storekeep.v1 import products_pb2_grpc

DRAFT_PERMISSION = "products.write"
"""The permission to see drafts, beside the method's own."""
CATEGORY_FIELDS = {
    "display_name": "display_name",
    "description": "description",
    "parent_category": "parent_id",
    "translations": "translations",
}
PRODUCT_FIELDS = {
    "display_name": "display_name",
    "description": "description",
    "category": "category_id",
    "labels": "labels",
    "publish_time": "publish_time_us",
    "media": "media",
    "translations": "translations",
}
VARIANT_FIELDS = {
    name: name
    for name in (
        "display_name",
        "options",
        "prices",
        "tax_class",
        "weight_g",
        "barcode",
        "labels",
        "quantity_rules",
        "translations",
    )
}
CATEGORY_STATES = {"ACTIVE": pb.CATEGORY_STATE_ACTIVE, "ARCHIVED": pb.CATEGORY_STATE_ARCHIVED}
PRODUCT_STATES = {
    "DRAFT": pb.PRODUCT_STATE_DRAFT,
    "ACTIVE": pb.PRODUCT_STATE_ACTIVE,
    "ARCHIVED": pb.PRODUCT_STATE_ARCHIVED,
}
VARIANT_STATES = {"ACTIVE": pb.VARIANT_STATE_ACTIVE, "ARCHIVED": pb.VARIANT_STATE_ARCHIVED}


def build_category(category: Category) -> pb.Category:
    """Build the message of a category."""
    message = pb.Category(
        name=category.name,
        display_name=category.display_name,
        description=category.description,
        parent_category=format_name("categories", category.parent_id),
        state=CATEGORY_STATES[category.state],
        create_time=build_timestamp(category.create_time_us),
        update_time=build_timestamp(category.update_time_us),
        delete_time=build_optional_timestamp(category.delete_time_us),
        etag=make_etag(category.version),
    )
    fill_texts(message.translations, category.translations)
    return message


def parse_category(message: pb.Category, category_id: str) -> Category:
    """Parse a category from a request.

    Raises: InvalidField.
    """
    return Category(
        category_id,
        display_name=message.display_name,
        description=message.description,
        parent_id=parse_id(message.parent_category),
        translations=parse_texts(message.translations, field="category.translations"),
    )


def build_product(product: Product) -> pb.Product:
    """Build the message of a product."""
    message = pb.Product(
        name=product.name,
        display_name=product.display_name,
        description=product.description,
        category=format_name("categories", product.category_id),
        state=PRODUCT_STATES[product.state],
        create_time=build_timestamp(product.create_time_us),
        update_time=build_timestamp(product.update_time_us),
        delete_time=build_optional_timestamp(product.delete_time_us),
        etag=make_etag(product.version),
        publish_time=build_optional_timestamp(product.publish_time_us),
        media=[pb.ProductMedia(uri=link.uri, alt_text=link.alt_text) for link in product.media],
    )
    fill_labels(message.labels, product.labels)
    fill_texts(message.translations, product.translations)
    return message


def parse_product(message: pb.Product, product_id: str, *, draft: bool = False) -> Product:
    """Parse a product from a request. One with a publish time is always a draft.

    Raises: InvalidField.
    """
    has_time = message.HasField("publish_time")
    return Product(
        product_id,
        display_name=message.display_name,
        description=message.description,
        category_id=parse_id(message.category),
        state=products.DRAFT if draft or has_time else ACTIVE,
        labels=dict(message.labels),
        publish_time_us=parse_time_us(message.publish_time) if has_time else None,
        media=tuple(MediaLink(link.uri, link.alt_text) for link in message.media),
        translations=parse_texts(message.translations, field="product.translations"),
    )


def build_variant(variant: Variant) -> pb.Variant:
    """Build the message of a variant."""
    message = pb.Variant(
        name=variant.name,
        sku=variant.sku,
        display_name=variant.display_name,
        options=variant.options,
        prices=[build_money(price) for price in variant.prices],
        tax_class=variant.tax_class,
        weight_g=variant.weight_g,
        barcode=variant.barcode,
        state=VARIANT_STATES[variant.state],
        create_time=build_timestamp(variant.create_time_us),
        update_time=build_timestamp(variant.update_time_us),
        delete_time=build_optional_timestamp(variant.delete_time_us),
        etag=make_etag(variant.version),
        quantity_rules=_build_quantity_rules(variant.quantity_rules),
    )
    fill_labels(message.labels, variant.labels)
    fill_variants(message.translations, variant.translations)
    return message


def _build_quantity_rules(rules: QuantityRules | None) -> Fields | None:
    return None if rules is None else msgspec.structs.asdict(rules)


def parse_variant(message: pb.Variant, *, product_id: str, variant_id: str) -> Variant:
    """Parse a variant from a request.

    Raises: InvalidField, UnknownCurrency, InvalidAmount.
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
        prices=_parse_prices(message.prices),
        labels=dict(message.labels),
        quantity_rules=_parse_quantity_rules(message.quantity_rules),
        translations=parse_variants(message.translations, field="variant.translations"),
    )


def _parse_quantity_rules(message: pb.QuantityRules) -> QuantityRules | None:
    rules = QuantityRules(message.minimum, message.maximum, message.multiple)
    return None if rules == QuantityRules() else rules


def _parse_prices(messages: RepeatedCompositeFieldContainer[money_pb2.Money]) -> tuple[Money, ...]:
    prices = [parse_money_message(price, field=f"variant.prices[{index}]") for index, price in enumerate(messages)]
    return tuple(sorted(prices, key=lambda price: price.currency_code))


def sees_drafts() -> bool:
    """Return whether the caller of the current RPC may see drafts: whether it may change products."""
    return has_permission(DRAFT_PERMISSION)


def parse_product_creation(request: pb.CreateProductRequest) -> Effect[Product]:
    """Parse the creation of a product. Return the effect that creates it.

    Raises: InvalidField.
    """
    check_language(request.product, field="product")
    product = parse_product(request.product, request.product_id or new_id(), draft=request.draft)
    return Addition(PRODUCTS, product)


def parse_product_update(request: pb.UpdateProductRequest) -> Effect[Product]:
    """Parse the update of a product. Return the effect that updates it.

    Raises: InvalidUpdateMask, InvalidField.
    """
    fields = parse_update_mask(request.update_mask, request.product, PRODUCT_FIELDS)
    check_language(request.product, field="product", changed=fields)
    product = parse_product(request.product, parse_id(request.product.name))
    return Edit(PRODUCTS, product, fields, request.product.etag)


def parse_variant_creation(request: pb.CreateVariantRequest) -> Effect[Variant]:
    """Parse the creation of a variant. Return the effect that creates it.

    Raises: InvalidField, UnknownCurrency, InvalidAmount.
    """
    check_language(request.variant, field="variant")
    variant = parse_variant(
        request.variant, product_id=parse_id(request.parent), variant_id=request.variant_id or new_id()
    )
    return Addition(VARIANTS, variant)


def parse_variant_update(request: pb.UpdateVariantRequest) -> Effect[Variant]:
    """Parse the update of a variant. Return the effect that updates it.

    Raises: InvalidUpdateMask, InvalidField, UnknownCurrency, InvalidAmount.
    """
    fields = parse_update_mask(request.update_mask, request.variant, VARIANT_FIELDS)
    check_language(request.variant, field="variant", changed=fields)
    product_id, variant_id = parse_key(request.variant.name)
    variant = parse_variant(request.variant, product_id=product_id, variant_id=variant_id)
    return Edit(VARIANTS, variant, fields, request.variant.etag)


def get_new_variant_keys(request: pb.CreateVariantRequest) -> list[tuple[str, str]]:
    """Return the keys of a variant to create: its name, if it has one, and its SKU."""
    name = f"{request.parent}/variants/{request.variant_id}" if request.variant_id else ""
    return [("variant_id", name), ("variant.sku", request.variant.sku)]


class ProductServicer(products_pb2_grpc.ProductServiceServicer):
    """The RPCs of ProductService; the contract documents each one."""

    def __init__(self, store: Store, tokens: PageTokens) -> None:
        self._store = store
        self._tokens = tokens

    def GetCategory(self, request: pb.GetCategoryRequest, context: grpc.ServicerContext) -> pb.Category:
        return build_category(CATEGORIES.get(self._store, parse_key(request.name)))

    def ListCategories(
        self, request: pb.ListCategoriesRequest, context: grpc.ServicerContext
    ) -> pb.ListCategoriesResponse:
        page = CATEGORIES.page(
            self._store, build_list_request(request), listing=categories.LISTING, tokens=self._tokens
        )
        return pb.ListCategoriesResponse(
            categories=[build_category(item) for item in page.items], **build_page_fields(page)
        )

    def BatchGetCategories(
        self, request: pb.BatchGetCategoriesRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetCategoriesResponse:
        items = CATEGORIES.batch_get(self._store, [parse_key(name) for name in request.names])
        return pb.BatchGetCategoriesResponse(categories=[build_category(item) for item in items])

    def CreateCategory(self, request: pb.CreateCategoryRequest, context: grpc.ServicerContext) -> pb.Category:
        check_language(request.category, field="category")
        category = parse_category(request.category, request.category_id or new_id())
        return build_category(CATEGORIES.create(self._store, build_call(request), category))

    def UpdateCategory(self, request: pb.UpdateCategoryRequest, context: grpc.ServicerContext) -> pb.Category:
        fields = parse_update_mask(request.update_mask, request.category, CATEGORY_FIELDS)
        check_language(request.category, field="category", changed=fields)
        category = parse_category(request.category, parse_id(request.category.name))
        result = CATEGORIES.update(
            self._store, build_call(request), category, fields=fields, etag=request.category.etag
        )
        return build_category(result)

    def ArchiveCategory(self, request: pb.ArchiveCategoryRequest, context: grpc.ServicerContext) -> pb.Category:
        result = CATEGORIES.archive(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_category(result)

    def UnarchiveCategory(self, request: pb.UnarchiveCategoryRequest, context: grpc.ServicerContext) -> pb.Category:
        result = CATEGORIES.unarchive(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_category(result)

    def DeleteCategory(self, request: pb.DeleteCategoryRequest, context: grpc.ServicerContext) -> pb.Category:
        result = CATEGORIES.delete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_category(result)

    def UndeleteCategory(self, request: pb.UndeleteCategoryRequest, context: grpc.ServicerContext) -> pb.Category:
        result = CATEGORIES.undelete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_category(result)

    def GetProduct(self, request: pb.GetProductRequest, context: grpc.ServicerContext) -> pb.Product:
        return build_product(products.get_product(self._store, parse_key(request.name), sees_drafts=sees_drafts()))

    def ListProducts(self, request: pb.ListProductsRequest, context: grpc.ServicerContext) -> pb.ListProductsResponse:
        page = products.list_products(
            self._store, build_list_request(request), tokens=self._tokens, sees_drafts=sees_drafts()
        )
        return pb.ListProductsResponse(products=[build_product(item) for item in page.items], **build_page_fields(page))

    def BatchGetProducts(
        self, request: pb.BatchGetProductsRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetProductsResponse:
        keys = [parse_key(name) for name in request.names]
        items = products.batch_get_products(self._store, keys, sees_drafts=sees_drafts())
        return pb.BatchGetProductsResponse(products=[build_product(item) for item in items])

    def CreateProduct(self, request: pb.CreateProductRequest, context: grpc.ServicerContext) -> pb.Product:
        return build_product(mutate(self._store, build_call(request), parse_product_creation(request), Product))

    def UpdateProduct(self, request: pb.UpdateProductRequest, context: grpc.ServicerContext) -> pb.Product:
        return build_product(mutate(self._store, build_call(request), parse_product_update(request), Product))

    def PublishProduct(self, request: pb.PublishProductRequest, context: grpc.ServicerContext) -> pb.Product:
        key = parse_key(request.name)
        return build_product(products.publish_product(self._store, build_call(request), key, etag=request.etag))

    def ArchiveProduct(self, request: pb.ArchiveProductRequest, context: grpc.ServicerContext) -> pb.Product:
        result = PRODUCTS.archive(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_product(result)

    def UnarchiveProduct(self, request: pb.UnarchiveProductRequest, context: grpc.ServicerContext) -> pb.Product:
        result = PRODUCTS.unarchive(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_product(result)

    def DeleteProduct(self, request: pb.DeleteProductRequest, context: grpc.ServicerContext) -> pb.Product:
        result = PRODUCTS.delete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_product(result)

    def UndeleteProduct(self, request: pb.UndeleteProductRequest, context: grpc.ServicerContext) -> pb.Product:
        result = PRODUCTS.undelete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_product(result)

    def GetVariant(self, request: pb.GetVariantRequest, context: grpc.ServicerContext) -> pb.Variant:
        return build_variant(variants.get_variant(self._store, parse_key(request.name), sees_drafts=sees_drafts()))

    def ListVariants(self, request: pb.ListVariantsRequest, context: grpc.ServicerContext) -> pb.ListVariantsResponse:
        page = variants.list_variants(
            self._store,
            build_list_request(request, parent=parse_key(request.parent)[0]),
            tokens=self._tokens,
            sees_drafts=sees_drafts(),
        )
        return pb.ListVariantsResponse(variants=[build_variant(item) for item in page.items], **build_page_fields(page))

    def BatchGetVariants(
        self, request: pb.BatchGetVariantsRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetVariantsResponse:
        keys = parse_batch_keys(request.parent, request.names)
        items = variants.batch_get_variants(self._store, keys, sees_drafts=sees_drafts())
        return pb.BatchGetVariantsResponse(variants=[build_variant(item) for item in items])

    def CreateVariant(self, request: pb.CreateVariantRequest, context: grpc.ServicerContext) -> pb.Variant:
        return build_variant(mutate(self._store, build_call(request), parse_variant_creation(request), Variant))

    def UpdateVariant(self, request: pb.UpdateVariantRequest, context: grpc.ServicerContext) -> pb.Variant:
        return build_variant(mutate(self._store, build_call(request), parse_variant_update(request), Variant))

    def ArchiveVariant(self, request: pb.ArchiveVariantRequest, context: grpc.ServicerContext) -> pb.Variant:
        result = VARIANTS.archive(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_variant(result)

    def UnarchiveVariant(self, request: pb.UnarchiveVariantRequest, context: grpc.ServicerContext) -> pb.Variant:
        result = VARIANTS.unarchive(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_variant(result)

    def DeleteVariant(self, request: pb.DeleteVariantRequest, context: grpc.ServicerContext) -> pb.Variant:
        result = VARIANTS.delete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_variant(result)

    def UndeleteVariant(self, request: pb.UndeleteVariantRequest, context: grpc.ServicerContext) -> pb.Variant:
        result = VARIANTS.undelete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_variant(result)

    def SearchProducts(
        self, request: pb.SearchProductsRequest, context: grpc.ServicerContext
    ) -> pb.SearchProductsResponse:
        show_drafts = request.show_drafts and sees_drafts()
        search_request = build_search_request(request, show_all=request.show_archived, show_drafts=show_drafts)
        page = search.search_products(self._store, search_request, tokens=self._tokens)
        return pb.SearchProductsResponse(
            products=[build_product(item) for item in page.items], next_page_token=page.next_page_token
        )

    def BatchCreateProducts(
        self, request: pb.BatchCreateProductsRequest, context: grpc.ServicerContext
    ) -> pb.BatchCreateProductsResponse:
        results = change_batch(
            self._store,
            request,
            parse_product_creation,
            get_keys=lambda item: [("product_id", item.product_id)],
            resource=Product,
            prepare=prepare_products,
        )
        messages = build_results(results, pb.ProductResult, field="product", build=build_product)
        return pb.BatchCreateProductsResponse(results=messages)

    def BatchUpdateProducts(
        self, request: pb.BatchUpdateProductsRequest, context: grpc.ServicerContext
    ) -> pb.BatchUpdateProductsResponse:
        results = change_batch(
            self._store,
            request,
            parse_product_update,
            get_keys=lambda item: [("product.name", item.product.name)],
            resource=Product,
            prepare=prepare_products,
        )
        messages = build_results(results, pb.ProductResult, field="product", build=build_product)
        return pb.BatchUpdateProductsResponse(results=messages)

    def BatchCreateVariants(
        self, request: pb.BatchCreateVariantsRequest, context: grpc.ServicerContext
    ) -> pb.BatchCreateVariantsResponse:
        check_parents(request.parent, (item.parent for item in request.requests), field="parent")
        results = change_batch(
            self._store,
            request,
            parse_variant_creation,
            get_keys=get_new_variant_keys,
            resource=Variant,
            prepare=prepare_variants,
        )
        messages = build_results(results, pb.VariantResult, field="variant", build=build_variant)
        return pb.BatchCreateVariantsResponse(results=messages)

    def BatchUpdateVariants(
        self, request: pb.BatchUpdateVariantsRequest, context: grpc.ServicerContext
    ) -> pb.BatchUpdateVariantsResponse:
        parents = (item.variant.name.rpartition("/variants/")[0] for item in request.requests)
        check_parents(request.parent, parents, field="variant.name")
        results = change_batch(
            self._store,
            request,
            parse_variant_update,
            get_keys=lambda item: [("variant.name", item.variant.name)],
            resource=Variant,
            prepare=prepare_variants,
        )
        messages = build_results(results, pb.VariantResult, field="variant", build=build_variant)
        return pb.BatchUpdateVariantsResponse(results=messages)
