"""Steps for accounts, API keys, roles, tokens, the audit log, events and webhooks."""

from __future__ import annotations

from docs.walk.steps import Step, post, read, remove_and_restore

ACCOUNTS = (
    Step(
        "POST /v1/roles?roleId=pickers",
        {"displayName": "Pickers", "permissions": ["orders.read", "stock.read"]},
    ),
    *read("/v1/roles/pickers"),
    Step("PATCH /v1/roles/pickers", {"permissions": ["orders.read", "orders.write", "stock.read"]}),
    Step(
        "POST /v1/serviceAccounts?serviceAccountId=packing",
        {"displayName": "Packing station", "roles": ["roles/pickers"]},
    ),
    *read("/v1/serviceAccounts/packing", batch="serviceAccounts/admin"),
    Step("PATCH /v1/serviceAccounts/packing", {"displayName": "Packing station 1"}),
    *remove_and_restore("/v1/serviceAccounts/packing"),
    Step(
        "POST /v1/serviceAccounts/packing/apiKeys?apiKeyId=station-1",
        {"displayName": "Station 1"},
        {"key": "secret"},
    ),
    *read("/v1/serviceAccounts/packing/apiKeys/station-1"),
    Step("POST /v1/tokens:issue", {"apiKey": "{key}"}, {"refresh": "refreshToken"}),
    Step("POST /v1/tokens:refresh", {"refreshToken": "{refresh}"}, {"token": "accessToken"}),
    Step("POST /v1/tokens:revoke", {"token": "{token}"}),
    Step("POST /v1/serviceAccounts/packing/apiKeys/station-1:rotate", {"overlap": "3600s"}),
    *post("/v1/serviceAccounts/packing/apiKeys/station-1", ("revoke",)),
    Step("POST /v1/roles?roleId=temps", {"displayName": "Temps", "permissions": ["orders.read"]}),
    Step("DELETE /v1/roles/temps"),
    Step("GET /v1/whoAmI"),
    Step("POST /v1/permissions:test", {"permissions": ["orders.write", "orders.read"]}),
    Step("POST /v1/signingKeys:rotate", {}),
    Step("GET /v1/jwks"),
)
AUDIT = (
    Step(
        "GET /v1/auditEntries?filter=resource%3D%22products%2Fassam%22&pageSize=2",
        saves={"entry": "auditEntries.0.name"},
    ),
    Step("GET /v1/{entry}"),
    Step("POST /v1/auditEntries:verifyChain", {}),
    Step("GET /v1/auditCheckpoints?pageSize=2"),
)
EVENTS = (
    Step(
        "GET /v1/events?filter=type%3D%22product.created%22&pageSize=2",
        saves={"event": "events.0.name"},
    ),
    Step("GET /v1/{event}"),
    Step(
        "POST /v1/webhookEndpoints?webhookEndpointId=erp",
        {"displayName": "ERP", "url": "https://erp.example/hooks", "eventTypes": ["order.*"]},
    ),
    *read("/v1/webhookEndpoints/erp"),
    Step("PATCH /v1/webhookEndpoints/erp", {"payload": "WEBHOOK_PAYLOAD_FULL"}),
    Step("POST /v1/webhookEndpoints/erp:rotateSecret", {"overlap": "86400s"}),
    Step("POST /v1/webhookEndpoints/erp:pause", {}),
    # Nothing is sent while the endpoint is paused, so these deliveries stay as they are.
    Step(
        "POST /v1/webhookEndpoints/erp:redeliver",
        {"startTime": "2025-12-01T00:00:00Z", "eventTypes": ["order.placed"], "maxEvents": 10},
    ),
    Step("GET /v1/webhookEndpoints/erp/deliveries?pageSize=2", saves={"delivery": "webhookDeliveries.0.name"}),
    Step("GET /v1/{delivery}"),
    Step("POST /v1/webhookEndpoints/erp:resume", {}),
    Step("POST /v1/webhookEndpoints/erp:test", {}),
    *remove_and_restore("/v1/webhookEndpoints/erp"),
)
STEPS = (*ACCOUNTS, *AUDIT, *EVENTS)
