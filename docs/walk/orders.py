"""Steps for orders, from the quote to the delivery, and for orders of another system."""

from __future__ import annotations

from docs.walk.customers import HOME
from docs.walk.steps import Step, eur

LINES = [{"sku": "TEA-ASSAM-100", "quantity": "2"}, {"sku": "MUG-BLUE", "quantity": "1"}]
BASKET = {
    "customer": "customers/ada-marsh",
    "lines": LINES,
    "currencyCode": "EUR",
    "shippingAddress": HOME,
    "shippingMethod": "shippingMethods/post",
    "couponCodes": ["AUTUMN-10"],
}
PLACED = (
    Step("POST /v1/orders:quote", BASKET, {"total": "total"}),
    Step(
        "POST /v1/orders:place",
        BASKET | {"email": "ada@example.com", "externalReference": "web-1001", "expectedTotal": "{total}"},
        {"order": "name", "number": "number"},
    ),
    Step("GET /v1/{order}"),
    Step("GET /v1/orders?filter=customer%3D%22customers%2Fada-marsh%22&pageSize=5"),
    Step("GET /v1/orders:batchGet?names={order}"),
    Step("POST /v1/orders:batchGet", {"names": ["{order}"]}),
    Step("GET /v1/orders:search?query=web-1001&pageSize=5"),
    Step("PATCH /v1/{order}", {"note": "Leave at the door"}),
    Step("POST /v1/{order}:previewEdit", {"edit": {"changedLines": [{"lineNumber": 2, "quantity": "2"}]}}),
    Step(
        "POST /v1/{order}:edit",
        {"edit": {"changedLines": [{"lineNumber": 2, "quantity": "2"}]}, "reason": "One more mug"},
    ),
    Step("POST /v1/{order}:cancelLines", {"lines": [{"lineNumber": 2, "quantity": "1"}], "reason": "One is enough"}),
    Step("POST /v1/{order}:hold", {"reason": "Address to be checked"}),
    Step("POST /v1/{order}:resume", {}),
    Step("POST /v1/{order}:confirm", {}),
    Step("POST /v1/{order}/notes", {"content": "Called: address is right"}),
    Step("GET /v1/{order}/notes?pageSize=5"),
)
FULFILLED = (
    Step("POST /v1/{order}/fulfillments", {"lines": [{"lineNumber": 2, "quantity": "1"}]}, {"planned": "name"}),
    Step("POST /v1/{planned}:cancel", {}),
    Step("POST /v1/{order}/fulfillments", {"location": "locations/lyon"}, {"fulfillment": "name"}),
    Step("GET /v1/{order}/fulfillments?pageSize=5"),
    Step("GET /v1/{fulfillment}"),
    Step("POST /v1/{fulfillment}:ship", {"carrier": "DHL", "trackingNumber": "00340434161094015902"}),
    Step(
        "PATCH /v1/{fulfillment}",
        {"parcels": [{"trackingNumber": "00340434161094015902", "trackingUrl": "https://dhl.example/0034"}]},
    ),
    Step("POST /v1/{fulfillment}:deliver", {}),
    Step("POST /v1/{order}:complete", {}),
    Step("GET /v1/{order}:history?pageSize=3"),
)
OTHERS = (
    Step(
        "POST /v1/orders:place",
        {"customer": "customers/kim-lee", "lines": [LINES[1]], "currencyCode": "EUR"},
        {"second": "name"},
    ),
    Step("POST /v1/{second}:confirm", {}),
    Step("POST /v1/{second}/fulfillments", {}, {"returned": "name"}),
    Step("POST /v1/{returned}:ship", {"carrier": "Courier"}),
    Step("POST /v1/{returned}:restock", {"reason": "Came back: nobody at home"}),
    Step("POST /v1/{second}:cancel", {"reason": "Nobody at home"}),
    Step(
        "POST /v1/orders:import",
        {
            "orders": [
                {
                    "number": "OLD-7",
                    "customer": "customers/kim-lee",
                    "currencyCode": "EUR",
                    "orderTime": "2025-03-01T10:00:00Z",
                    "lines": [{"sku": "MUG-BLUE", "quantity": "1", "unitPrice": eur("11.00")}],
                    "shipTime": "2025-03-02T08:00:00Z",
                    "location": "locations/berlin",
                }
            ]
        },
    ),
)
QUOTES = (
    Step(
        "POST /v1/quotes?quoteId=cafe-spring",
        {
            "customer": "customers/sol-cafe",
            "lines": [{"sku": "MUG-BLUE", "quantity": "2"}],
            "currencyCode": "EUR",
            "note": "For the new terrace",
        },
    ),
    Step("GET /v1/quotes/cafe-spring"),
    Step("GET /v1/quotes?pageSize=5"),
    Step("PATCH /v1/quotes/cafe-spring", {"lines": [{"sku": "MUG-BLUE", "quantity": "3"}]}),
    Step("POST /v1/quotes/cafe-spring:send", {}),
    Step("POST /v1/quotes/cafe-spring:accept", {}),
    Step(
        "POST /v1/quotes?quoteId=cafe-summer",
        {
            "customer": "customers/sol-cafe",
            "lines": [{"sku": "TEA-ASSAM-250", "quantity": "4"}],
            "currencyCode": "EUR",
        },
    ),
    Step("POST /v1/quotes/cafe-summer:expire", {}),
)
ERASED = (
    Step("POST /v1/customers?customerId=kim-l", {"displayName": "K. Lee", "email": "k.lee@example.com"}),
    Step("POST /v1/customers/kim-lee:merge", {"source": "customers/kim-l"}),
    Step("POST /v1/customers/kim-lee:erase", {}),
)
STEPS = (*PLACED, *FULFILLED, *OTHERS, *QUOTES, *ERASED)
