"""Steps for categories, products and variants."""

from __future__ import annotations

from docs.walk.steps import Step, eur, post, read, remove_and_restore

CATEGORIES = (
    Step("POST /v1/categories?categoryId=tea", {"displayName": "Tea", "description": "Loose leaf, by origin"}),
    Step(
        "POST /v1/categories?categoryId=black-tea",
        {
            "displayName": "Black tea",
            "parentCategory": "categories/tea",
            "translations": {"de": {"displayName": "Schwarzer Tee"}},
        },
    ),
    *read("/v1/categories/black-tea", query="orderBy=display_name&pageSize=5", batch="categories/tea"),
    Step("PATCH /v1/categories/black-tea", {"description": "Assam, Darjeeling and Ceylon"}),
    *post("/v1/categories/black-tea", ("archive", "unarchive")),
    *remove_and_restore("/v1/categories/black-tea"),
)
PRODUCTS = (
    Step(
        "POST /v1/products?productId=assam",
        {
            "displayName": "Assam second flush",
            "description": "Malty and strong",
            "category": "categories/black-tea",
            "labels": {"origin": "india"},
            "media": [{"uri": "https://img.example/assam.jpg", "altText": "A cup of Assam"}],
        },
    ),
    Step("POST /v1/products?productId=mug-blue&draft=true", {"displayName": "Blue mug"}),
    *post("/v1/products/mug-blue", ("publish", "archive", "unarchive")),
    *read("/v1/products/assam", query="filter=state%3DACTIVE&pageSize=5", batch="products/mug-blue"),
    Step("PATCH /v1/products/assam", {"description": "Malty, strong, good with milk"}),
    Step(
        "POST /v1/products:batchCreate",
        {
            "requests": [
                {"productId": "sencha", "product": {"displayName": "Sencha"}},
                {"productId": "genmaicha", "product": {"displayName": "Genmaicha"}},
            ]
        },
    ),
    Step(
        "POST /v1/products:batchUpdate",
        {
            "requests": [
                {
                    "product": {"name": "products/sencha", "description": "Green tea from Uji"},
                    "updateMask": "description",
                },
                {
                    "product": {"name": "products/missing", "description": "Nobody has it"},
                    "updateMask": "description",
                },
            ],
            "mode": "BATCH_MODE_PER_ITEM",
        },
    ),
    *remove_and_restore("/v1/products/genmaicha"),
)
VARIANTS = (
    Step(
        "POST /v1/products/assam/variants?variantId=100g",
        {
            "sku": "TEA-ASSAM-100",
            "displayName": "100 g",
            "options": {"weight": "100 g"},
            "prices": [eur("8.90")],
            "weightG": "120",
            "barcode": "4006381333931",
        },
    ),
    Step(
        "POST /v1/products/assam/variants:batchCreate",
        {
            "requests": [
                {
                    "parent": "products/assam",
                    "variantId": "250g",
                    "variant": {"sku": "TEA-ASSAM-250", "displayName": "250 g", "prices": [eur("19.90")]},
                },
                {
                    "parent": "products/assam",
                    "variantId": "1kg",
                    "variant": {
                        "sku": "TEA-ASSAM-1000",
                        "displayName": "1 kg",
                        "prices": [eur("64.00")],
                        "quantityRules": {"minimum": 2, "multiple": 2},
                    },
                },
            ]
        },
    ),
    Step(
        "POST /v1/products/mug-blue/variants?variantId=300ml",
        {"sku": "MUG-BLUE", "displayName": "300 ml", "prices": [eur("12.00")], "weightG": "350"},
    ),
    *read("/v1/products/assam/variants/100g", batch="products/assam/variants/250g"),
    Step("PATCH /v1/products/assam/variants/100g", {"prices": [eur("9.50")]}),
    Step(
        "POST /v1/products/assam/variants:batchUpdate",
        {
            "requests": [
                {
                    "variant": {"name": "products/assam/variants/250g", "prices": [eur("21.50")]},
                    "updateMask": "prices",
                }
            ]
        },
    ),
    *post("/v1/products/assam/variants/1kg", ("archive", "unarchive")),
    *remove_and_restore("/v1/products/assam/variants/1kg"),
    Step("GET /v1/products:search?query=strong+assam&pageSize=5"),
)
STEPS = (*CATEGORIES, *PRODUCTS, *VARIANTS)
