"""Steps for prices, tax, promotions, coupons and shipping methods."""

from __future__ import annotations

from docs.walk.steps import Step, eur, post, read, remove_and_restore

TAX = (
    Step(
        "POST /v1/taxZones?taxZoneId=portugal",
        {"displayName": "Portugal", "areas": [{"regionCode": "PT"}]},
    ),
    *read("/v1/taxZones/portugal"),
    Step("PATCH /v1/taxZones/portugal", {"displayName": "Portugal, mainland"}),
    *remove_and_restore("/v1/taxZones/portugal"),
    Step(
        "POST /v1/taxRates?taxRateId=pt-standard",
        {
            "displayName": "Portugal, standard",
            "taxZone": "taxZones/portugal",
            "taxClass": "standard",
            "components": [{"displayName": "IVA", "ratePpm": 230000}],
        },
    ),
    *read("/v1/taxRates/pt-standard"),
    Step("PATCH /v1/taxRates/pt-standard", {"displayName": "IVA, taxa normal"}),
    *remove_and_restore("/v1/taxRates/pt-standard"),
)
PRICES = (
    Step(
        "POST /v1/prices?priceId=assam-100-wholesale",
        {"sku": "TEA-ASSAM-100", "amount": eur("7.20"), "customerGroup": "wholesale", "minimumQuantity": "10"},
    ),
    *read("/v1/prices/assam-100-wholesale"),
    Step("PATCH /v1/prices/assam-100-wholesale", {"amount": eur("7.00")}),
    *remove_and_restore("/v1/prices/assam-100-wholesale"),
    Step(
        "POST /v1/prices:batchCreate",
        {
            "requests": [
                {
                    "priceId": "mug-blue-sale",
                    "price": {"sku": "MUG-BLUE", "amount": eur("9.90"), "endTime": "2030-01-01T00:00:00Z"},
                },
                {
                    "priceId": "assam-250-ten",
                    "price": {"sku": "TEA-ASSAM-250", "amount": eur("18.00"), "minimumQuantity": "10"},
                },
            ]
        },
    ),
    Step(
        "POST /v1/prices:batchUpdate",
        {
            "requests": [
                {
                    "price": {"name": "prices/mug-blue-sale", "compareAt": eur("12.00")},
                    "updateMask": "compare_at",
                }
            ]
        },
    ),
    Step("GET /v1/prices:history?sku=MUG-BLUE&currencyCode=EUR&pageSize=5"),
    Step("GET /v1/prices:lowest?sku=MUG-BLUE&currencyCode=EUR"),
)
PROMOTIONS = (
    Step(
        "POST /v1/promotions?promotionId=autumn",
        {
            "displayName": "Ten percent in autumn",
            "requiresCoupon": True,
            "currencyCode": "EUR",
            "conditions": {"minSubtotal": eur("15.00")},
            "action": {"kind": "PROMOTION_ACTION_KIND_PERCENTAGE", "percentagePpm": 100000},
        },
    ),
    Step("POST /v1/promotions/autumn:activate", {}),
    *read("/v1/promotions/autumn"),
    Step("PATCH /v1/promotions/autumn", {"maxUses": "1000"}),
    Step(
        "POST /v1/promotions?promotionId=spring",
        {
            "displayName": "Two euros off",
            "currencyCode": "EUR",
            "action": {"kind": "PROMOTION_ACTION_KIND_AMOUNT", "amount": eur("2.00")},
        },
    ),
    *remove_and_restore("/v1/promotions/spring"),
    *post("/v1/promotions/spring", ("activate", "end")),
    Step("POST /v1/coupons?couponId=autumn-10", {"promotion": "promotions/autumn", "code": "AUTUMN-10"}),
    *read("/v1/coupons/autumn-10"),
    Step("PATCH /v1/coupons/autumn-10", {"maxUsesPerCustomer": "1"}),
    *remove_and_restore("/v1/coupons/autumn-10"),
    Step("POST /v1/coupons:generate", {"promotion": "promotions/autumn", "count": 2, "prefix": "FRIEND"}),
    Step(
        "POST /v1/coupons:batchCreate",
        {
            "requests": [
                {"couponId": "PARTNER-1", "coupon": {"promotion": "promotions/autumn", "maxUses": "1"}},
                {"couponId": "PARTNER-2", "coupon": {"promotion": "promotions/autumn", "maxUses": "1"}},
            ]
        },
    ),
    Step(
        "POST /v1/coupons:batchUpdate",
        {"requests": [{"coupon": {"name": "coupons/partner-1", "maxUses": "5"}, "updateMask": "max_uses"}]},
    ),
)
SHIPPING = (
    Step(
        "POST /v1/shippingMethods?shippingMethodId=post",
        {
            "displayName": "Post",
            "taxZones": ["taxZones/portugal"],
            "basis": "SHIPPING_BASIS_BY_WEIGHT",
            "prices": [{"amount": eur("4.90")}, {"amount": eur("7.90"), "minWeightG": "2000"}],
            "freeFrom": eur("60.00"),
        },
    ),
    *read("/v1/shippingMethods/post"),
    Step("PATCH /v1/shippingMethods/post", {"taxClass": "standard"}),
    *remove_and_restore("/v1/shippingMethods/post"),
)
STEPS = (*TAX, *PRICES, *PROMOTIONS, *SHIPPING)
