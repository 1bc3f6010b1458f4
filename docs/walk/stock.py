"""Steps for locations, stock, its ledger, and reservations."""

from __future__ import annotations

from docs.walk.steps import Step, post, read, remove_and_restore

BERLIN = {"addressLines": ["Torstraße 1"], "locality": "Berlin", "postalCode": "10119", "regionCode": "DE"}
LEVEL = "/v1/locations/berlin/stockLevels/TEA-ASSAM-100"
LOCATIONS = (
    Step("POST /v1/locations?locationId=berlin", {"displayName": "Berlin", "address": BERLIN, "priority": 10}),
    Step("POST /v1/locations?locationId=lyon", {"displayName": "Lyon"}),
    *read("/v1/locations/berlin", batch="locations/lyon"),
    Step("PATCH /v1/locations/lyon", {"priority": 5}),
    *remove_and_restore("/v1/locations/lyon"),
)
LEVELS = (
    Step(
        f"POST {LEVEL}:adjust",
        {"quantityDelta": "40", "cause": "STOCK_MOVEMENT_CAUSE_RECEIVE", "reason": "Delivery 4711"},
    ),
    Step(
        "POST /v1/locations/berlin/stockLevels/MUG-BLUE:set",
        {"quantity": "12", "expectedQuantity": "0", "reason": "Counted"},
    ),
    Step(
        "POST /v1/locations/berlin/stockLevels:batchAdjust",
        {
            "requests": [
                {
                    "name": "locations/berlin/stockLevels/TEA-ASSAM-250",
                    "quantityDelta": "25",
                    "cause": "STOCK_MOVEMENT_CAUSE_RECEIVE",
                    "reason": "Delivery 4711",
                }
            ]
        },
    ),
    Step(
        "POST /v1/locations/lyon/stockLevels:batchSet",
        {
            "requests": [
                {"name": "locations/lyon/stockLevels/TEA-ASSAM-100", "quantity": "6", "reason": "Counted"},
                {"name": "locations/lyon/stockLevels/MUG-BLUE", "quantity": "4", "reason": "Counted"},
            ]
        },
    ),
    Step(f"PATCH {LEVEL}", {"safetyThreshold": "2", "lowStockThreshold": "5"}),
    Step(
        "POST /v1/inventory:transfer",
        {
            "source": "locations/berlin",
            "destination": "locations/lyon",
            "lines": [{"sku": "TEA-ASSAM-100", "quantity": "3"}],
            "reason": "Lyon sells more of it",
        },
    ),
    *read(LEVEL, batch="locations/berlin/stockLevels/MUG-BLUE"),
    Step("GET /v1/stockLevels:low?availableMax=6&pageSize=5"),
    Step("GET /v1/inventory:checkAvailability?skus=TEA-ASSAM-100&skus=MUG-BLUE"),
    Step("POST /v1/inventory:reconcile", {"skus": ["TEA-ASSAM-100", "MUG-BLUE"]}),
    Step(
        "GET /v1/stockMovements?filter=sku%3D%22TEA-ASSAM-100%22&pageSize=3",
        saves={"movement": "stockMovements.0.name"},
    ),
    Step("GET /v1/{movement}"),
)
RESERVATIONS = (
    Step(
        "POST /v1/reservations:reserve",
        {"lines": [{"sku": "TEA-ASSAM-100", "quantity": "2"}], "ttl": "900s", "reference": "cart-17"},
        {"reservation": "name"},
    ),
    Step("GET /v1/{reservation}"),
    Step("GET /v1/reservations?pageSize=5"),
    Step(
        "PATCH /v1/{reservation}",
        {"lines": [{"sku": "TEA-ASSAM-100", "quantity": "3"}, {"sku": "MUG-BLUE", "quantity": "1"}]},
    ),
    Step("POST /v1/{reservation}:extend", {"ttl": "1800s"}),
    Step("POST /v1/{reservation}:release", {}),
    Step(
        "POST /v1/reservations:reserve",
        {"lines": [{"sku": "MUG-BLUE", "quantity": "1"}], "reference": "shop-window"},
        {"display": "name"},
    ),
    *post("/v1/{display}", ("commit",), {"reason": "Shown in the window"}),
)
STEPS = (*LOCATIONS, *LEVELS, *RESERVATIONS)
