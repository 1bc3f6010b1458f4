"""Pages of products and their variants: find, create, change, archive, and set prices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from storekeep.client import Category, CategoryNotFound, Money, Product, ProductState, StockLevel, Variant, money
from storekeep.console.forms import LABELS, FormField, build_conflict, build_new, changed_fields, list_values
from storekeep.console.listings import NOTHING, Shown, fetch, fetch_part, join, show_list, try_allowed, try_fetch
from storekeep.console.pickers import list_locations
from storekeep.console.prices import read_facts
from storekeep.console.requests import BadRequest, Faults, Inputs, Reply, Request, Route, quote_filter
from storekeep.console.spellings import format_plain_amount

READ, WRITE = "products.read", "products.write"
FIELDS = (
    FormField("display_name", "Name"),
    FormField("description", "Description", kind="area"),
    FormField("category", "Category", kind="category", hint="id; may be empty", picker="categories"),
    LABELS,
)
VARIANT_FIELDS = (
    FormField("display_name", "Name"),
    FormField("barcode", "Barcode"),
    FormField("tax_class", "Tax class"),
    LABELS,
)
NEW_VARIANT_INPUTS = Inputs(
    {
        "sku": "SKU",
        "variant_name": "Name",
        "prices.0": "Price",
        "units": "Units in stock",
        "location": "Location",
    },
    {
        "variant.sku": "sku",
        "variant.display_name": "variant_name",
        "variant.prices": "prices.0",
        "quantity": "units",
        "name": "location",
    },
)
VARIANTS_MAX = 200
FILTER_SKUS = 40
PRICE_ROWS = 3
"""Empty rows for new prices in the form of a variant."""


def build_filter(query: Mapping[str, str]) -> str:
    """Return the filter that the parameters of the list's address mean."""
    state = query.get("state", "")
    category = query.get("category", "").strip()
    name = f"categories/{category.removeprefix('categories/')}"
    return join(
        f"state = {state}" if state.isalpha() else "",
        f"category = {quote_filter(name)}" if category else "",
        query.get("filter", ""),
    )


def _check_category(request: Request, category: str) -> None:
    """Raise an error if the category of a filter does not exist. Raises: StorekeepError, BadRequest."""
    name = f"categories/{category.removeprefix('categories/')}"
    try:
        try_allowed(lambda: request.session.client.categories.get(name), None)
    except CategoryNotFound:
        raise BadRequest(f"There is no category {category}.", status=404, field="category") from None


def show_products(request: Request) -> Reply:
    """List products, or search them."""
    client, text = request.session.client.products, request.query.get("q", "").strip()
    if text:
        listing = client.search(text, page_size=50, show_archived=True, show_drafts=request.session.may(WRITE))
    else:
        listing = client.list(
            filter=build_filter(request.query),
            order_by=request.query.get("order", "") or "display_name",
            page_size=50,
            include_total_size=True,
        )
    category, categories = request.query.get("category", "").strip(), dict[str, str]()

    def fetch_page() -> Shown:
        shown = fetch(request, listing)
        if category and not shown.items and not text:
            _check_category(request, category)
        names = sorted({item.category for item in shown.items if item.category})
        found = try_fetch(lambda: request.session.client.categories.batch_get(names), ()) if names else ()
        categories.update({item.name: item.display_name for item in found})
        return shown

    return show_list(request, "products.html", title="Products", fetch_page=fetch_page, categories=categories)


def get_name(request: Request) -> str:
    """Return the resource name of the product in the path."""
    return f"products/{request.parameters['product']}"


def show_product(request: Request) -> Reply:
    """Show a product with its variants, prices and stock. Raises: ProductNotFound."""
    client, name = request.session.client, get_name(request)
    product = client.products.get(name)
    variants = fetch_part(client.variants.list(name, page_size=VARIANTS_MAX))
    category = _find_category(request, product)
    stock: dict[str, list[Any]] = {}
    if request.session.may("stock.read"):
        for level in _list_levels(request, [variant.sku for variant in variants.items]):
            stock.setdefault(level.sku, []).append(level)
    return request.page(
        "product.html",
        title=product.display_name or product.name.partition("/")[2],
        inputs=NEW_VARIANT_INPUTS if "sku" in request.form else None,
        product=product,
        category=category,
        variants=variants,
        stock=stock,
        fields=[
            (replace(item, hint=category.display_name) if item.name == "category" and category else item, text)
            for item, text in list_values(FIELDS, request, product)
        ],
        conflict=build_conflict(FIELDS, product, request),
    )


def _find_category(request: Request, product: Product) -> Category | None:
    """Return the category of a product; None if it has none."""
    name = product.category
    return try_fetch(lambda: request.session.client.categories.get(name), None) if name else None


def _list_levels(request: Request, skus: list[str]) -> Iterator[StockLevel]:
    """Yield the stock levels of SKUs. A filter holds some of them only."""
    client = request.session.client.inventory
    for start in range(0, len(skus), FILTER_SKUS):
        terms = " OR ".join(f"sku = {quote_filter(sku)}" for sku in skus[start : start + FILTER_SKUS])
        listing = client.list_stock_levels(filter=terms, page_size=1_000)
        yield from try_fetch(partial(fetch_part, listing), NOTHING).items


def update_product(request: Request) -> Reply:
    """Change name and description of a product. Raises: StorekeepError, BadRequest."""
    name = get_name(request)
    changed = changed_fields(FIELDS, request)
    if changed:
        product = Product(name=name, etag=request.field("etag"))
        for item in changed:
            item.write(product, request.field(item.name))
        mask = [item.root for item in changed]
        request.session.client.products.update(product, update_mask=mask, **request.write_options())
    return request.done(f"/{name}", "The product has been changed." if changed else "Nothing was changed.")


def change_state(request: Request) -> Reply:
    """Publish, archive or restore a product. Raises: StorekeepError, BadRequest."""
    client, name = request.session.client.products, get_name(request)
    steps = {"publish": client.publish, "archive": client.archive, "unarchive": client.unarchive}
    step = steps.get(request.field("step"))
    if step is None:
        raise BadRequest("There is no such step.")
    step(name, etag=request.field("etag"), **request.write_options())
    return request.done(f"/{name}", "The product has been changed.")


def show_new(request: Request) -> Reply:
    """Show the form of a new product."""
    fields = list_values(FIELDS, request)
    inputs = Inputs({**{item.name: item.label for item in FIELDS}, "product_id": "Id"})
    return request.page("product-new.html", title="New product", inputs=inputs, form=request.field, fields=fields)


def create_product(request: Request) -> Reply:
    """Create a product. Raises: StorekeepError, BadRequest."""
    state = ProductState.PRODUCT_STATE_DRAFT if request.field("draft") else ProductState.PRODUCT_STATE_ACTIVE
    product = build_new(FIELDS, request, Product(state=state))
    created = request.session.client.products.create(
        product, product_id=request.field("product_id"), **request.write_options()
    )
    return request.done(f"/{created.name}", "The product has been created. Add a variant to sell it.")


def show_variant(request: Request) -> Reply:
    """Show the form of a variant. Raises: VariantNotFound."""
    variant = request.session.client.variants.get(_get_variant_name(request))
    product = try_fetch(lambda: request.session.client.products.get(get_name(request)), None)
    prices = [(money.currency_code, format_plain_amount(money)) for money in variant.prices]
    if request.problem is not None and "amount" in request.form:
        prices = _read_price_rows(request)
    return request.page(
        "variant.html",
        title=variant.sku,
        inputs=_find_inputs(prices),
        product=product,
        variant=variant,
        levels=list(_list_levels(request, [variant.sku])) if request.session.may("stock.read") else (),
        places={location.name.partition("/")[2]: location.display_name for location in list_locations(request).items},
        prices=[*prices, *[("", "")] * PRICE_ROWS],
        facts=read_facts(request, variant.sku, [money.currency_code for money in variant.prices]),
        fields=[(item, request.field(item.name, item.read(variant))) for item in VARIANT_FIELDS],
        conflict=build_conflict(VARIANT_FIELDS, variant, request),
    )


def update_variant(request: Request) -> Reply:
    """Change fields and prices of a variant. Raises: StorekeepError, BadRequest."""
    name = _get_variant_name(request)
    stored = request.session.client.variants.get(name).prices
    variant = Variant(name=name, etag=request.field("etag"), prices=_read_prices(request, stored=stored))
    mask = ["prices"]
    for item in changed_fields(VARIANT_FIELDS, request):
        item.write(variant, request.field(item.name))
        mask.append(item.root)
    request.session.client.variants.update(variant, update_mask=mask, **request.write_options())
    return request.done(f"/{get_name(request)}", f"{request.field('sku')} has been changed.")


def change_variant_state(request: Request) -> Reply:
    """Archive or restore a variant. Raises: StorekeepError, BadRequest."""
    client = request.session.client.variants
    steps = {"archive": client.archive, "unarchive": client.unarchive}
    step = steps.get(request.field("step"))
    if step is None:
        raise BadRequest("There is no such step.")
    step(_get_variant_name(request), etag=request.field("etag"), **request.write_options())
    return request.done(f"/{get_name(request)}", "The variant has been changed.")


def create_variant(request: Request) -> Reply:
    """Create a variant with its first price and stock. Raises: StorekeepError, BadRequest."""
    client, name, sku = request.session.client, get_name(request), request.field("sku")
    units, faults = None, Faults()
    variant = Variant(sku=sku, display_name=request.field("variant_name"))
    with faults.collect():
        variant.prices.extend(_read_prices(request))
    with faults.collect():
        units = request.number("units", label="Units in stock") if request.field("units") else None
    faults.check()
    client.variants.create(name, variant, **request.write_options())
    if units is not None and request.session.may("stock.write"):
        level = f"locations/{request.field('location') or 'main'}/stockLevels/{sku}"
        client.inventory.set_stock(level, quantity=units, **request.write_options())
    return request.done(f"/{name}", f"{sku} has been created.")


def _get_variant_name(request: Request) -> str:
    return f"{get_name(request)}/variants/{request.parameters['variant']}"


def _read_price_rows(request: Request) -> list[tuple[str, str]]:
    """Return (currency, amount) of each row that is filled in."""
    currencies, amounts = request.form.get("currency", ()), request.form.get("amount", ())
    rows = [(code.strip().upper(), amount.strip()) for code, amount in zip(currencies, amounts, strict=False)]
    return [row for row in rows if any(row)]


def _read_prices(request: Request, *, stored: Sequence[Money] | None = None) -> list[Any]:
    """Return the prices in the form. Raises: BadRequest, with each row that is wrong.

    Args:
        stored: the prices that an empty amount may remove; default: any.
    """
    prices, faults = [], Faults()
    known = None if stored is None else {price.currency_code for price in stored}
    for row, (currency, amount) in enumerate(_read_price_rows(request)):
        with faults.collect():
            if amount:
                prices.append(_parse_price(amount, currency, field=f"prices.{row}"))
            elif known is not None and currency not in known:
                text = f"Price {row + 1}: enter an amount in {currency}, or remove the currency."
                raise BadRequest(text, field=f"prices.{row}")
    faults.check()
    return prices


def _parse_price(amount: str, currency: str, *, field: str) -> Money:
    try:
        return money.parse_amount(amount, currency_code=currency)
    except ValueError:
        example = f"4.90 {currency}".strip()
        raise BadRequest(f"Price: {amount!r} is not an amount such as {example}.", field=field) from None


def _find_inputs(prices: Sequence[tuple[str, str]]) -> Inputs:
    """Return the inputs of the form of a variant. The prices of a request are the rows with an amount."""
    labels = {item.name: item.label for item in VARIANT_FIELDS}
    rows = {f"prices.{row}": f"Price {row + 1}" for row in range(max(1, len(prices)))}
    sent = [f"prices.{row}" for row, (_, amount) in enumerate(prices) if amount]
    paths = {f"variant.prices[{index}]": name for index, name in enumerate(sent)}
    return Inputs({**labels, **rows}, {**paths, "variant.prices": "prices.0"})


ROUTES = (
    Route("GET", "/products", show_products, READ),
    Route("GET", "/products/new", show_new, WRITE),
    Route("POST", "/products/new", create_product, WRITE, show_new),
    Route("GET", "/products/{product}", show_product, READ),
    Route("POST", "/products/{product}", update_product, WRITE, show_product),
    Route("POST", "/products/{product}/state", change_state, WRITE, show_product),
    Route("POST", "/products/{product}/variants", create_variant, WRITE, show_product),
    Route("GET", "/products/{product}/variants/{variant}", show_variant, READ),
    Route("POST", "/products/{product}/variants/{variant}", update_variant, WRITE, show_variant),
    Route("POST", "/products/{product}/variants/{variant}/state", change_variant_state, WRITE, show_variant),
)
