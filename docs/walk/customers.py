"""Steps for customers and their personal data."""

from __future__ import annotations

from docs.walk.steps import Step, read, remove_and_restore

HOME = {
    "recipient": "Ada Marsh",
    "addressLines": ["Rua do Sol 4"],
    "locality": "Lisboa",
    "postalCode": "1200-001",
    "regionCode": "PT",
}
STEPS = (
    Step(
        "POST /v1/customers?customerId=ada-marsh",
        {
            "displayName": "Ada Marsh",
            "email": "ada@example.com",
            "phone": "+351210000000",
            "addresses": [{"label": "home", "address": HOME}],
            "groups": ["wholesale"],
        },
    ),
    Step(
        "POST /v1/customers:batchCreate",
        {
            "requests": [
                {"customerId": "kim-lee", "customer": {"displayName": "Kim Lee", "email": "kim@example.com"}},
                {"customerId": "sol-cafe", "customer": {"displayName": "Sol Café", "company": "Sol Lda"}},
            ]
        },
    ),
    Step(
        "POST /v1/customers:batchUpdate",
        {
            "requests": [
                {"customer": {"name": "customers/sol-cafe", "labels": {"route": "south"}}, "updateMask": "labels"}
            ]
        },
    ),
    *read("/v1/customers/ada-marsh", batch="customers/kim-lee"),
    Step("GET /v1/customers:search?query=ada%40example.com&pageSize=5"),
    Step("PATCH /v1/customers/ada-marsh", {"company": "Marsh & Daughters"}),
    *remove_and_restore("/v1/customers/kim-lee"),
    Step("POST /v1/customers/ada-marsh:export", {}, {"export": "exportToken"}),
    Step("GET /v1/customers/ada-marsh:readData?exportToken={export}&pageSize=5"),
)
