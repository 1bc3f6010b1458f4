"""Every RPC of the contract has a client method, named by one rule, which calls that RPC."""

from __future__ import annotations

import inspect
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, get_type_hints

import pytest

from storekeep.client import REASONS, HistoricOrder, Listing, Storekeep
from storekeep.v1 import options_pb2
from storekeep.v1.errors_pb2 import ErrorReason
from tests.support.scripted_server import METHODS, ScriptedServer

NOUNS = {
    "Category": "categories",
    "Categories": "categories",
    "Product": "products",
    "Products": "products",
    "Variant": "variants",
    "Variants": "variants",
    "Customer": "customers",
    "Customers": "customers",
    "CustomerData": "customers",
    "Order": "orders",
    "Orders": "orders",
    "Event": "events",
    "Events": "events",
    "WebhookEndpoint": "webhooks",
    "WebhookEndpoints": "webhooks",
    "WebhookSecret": "webhooks",
    "WebhookDelivery": "webhooks",
    "WebhookDeliveries": "webhooks",
    "RedeliverEvents": "webhooks",
    "Price": "prices",
    "Prices": "prices",
    "PriceHistory": "prices",
    "LowestPrice": "prices",
    "TaxZone": "tax_zones",
    "TaxZones": "tax_zones",
    "TaxRate": "tax_rates",
    "TaxRates": "tax_rates",
    "Promotion": "promotions",
    "Promotions": "promotions",
    "Coupon": "coupons",
    "Coupons": "coupons",
    "ShippingMethod": "shipping_methods",
    "ShippingMethods": "shipping_methods",
    "Quote": "quotes",
    "Quotes": "quotes",
    "OrderHistory": "orders",
    "OrderLines": "orders",
    "OrderEdit": "orders",
    "OrderNote": "orders",
    "OrderNotes": "orders",
    "Fulfillment": "fulfillments",
    "Fulfillments": "fulfillments",
    "AuditEntry": "audit",
    "AuditEntries": "audit",
    "AuditChain": "audit",
    "AuditCheckpoints": "audit",
}
"""Client attributes by the noun that ends an RPC's name. Methods of these attributes omit the noun."""

WHOLE = {"InventoryService": "inventory", "AuthService": "auth", "UserService": "users"}
"""Services with one attribute for all their nouns, whose methods are named after the RPCs."""

SHORTENED = {
    "ReadCustomerData": "read_data",
    "ListOrderHistory": "list_history",
    "ListPriceHistory": "list_history",
    "GetLowestPrice": "get_lowest",
    "CancelOrderLines": "cancel_lines",
    "PreviewOrderEdit": "preview_edit",
    "ApplyOrderEdit": "apply_edit",
    "AddOrderNote": "add_note",
    "ListOrderNotes": "list_notes",
    "ImportOrders": "import_orders",  # `import` is a keyword of Python
    "VerifyAuditChain": "verify_chain",
    "ListAuditCheckpoints": "list_checkpoints",
    "RotateWebhookSecret": "rotate_secret",
    "GetWebhookDelivery": "get_delivery",
    "ListWebhookDeliveries": "list_deliveries",
    "RedeliverEvents": "redeliver",
}

UNARY = [path for path, method in METHODS.items() if not method.server_streaming]
"""The methods with one reply; `test_event_streams` tests the others."""
each_unary_rpc = pytest.mark.parametrize("path", UNARY, ids=lambda path: path.rpartition("/")[2])
each_rpc = pytest.mark.parametrize("path", METHODS, ids=lambda path: path.rpartition("/")[2])


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def client_method(client: Storekeep, path: str) -> Callable[..., Any]:
    _, service, rpc = path.split("/")[0], path.split("/")[1].rpartition(".")[2], path.split("/")[2]
    if service in WHOLE:
        return getattr(getattr(client, WHOLE[service]), snake(rpc))
    noun = max((noun for noun in NOUNS if rpc.endswith(noun)), key=len)
    verb = SHORTENED.get(rpc, snake(rpc.removesuffix(noun)))
    return getattr(getattr(client, NOUNS[noun]), verb)


def arguments(method: Callable[..., Any]) -> dict[str, Any]:
    """Return an argument for every parameter without a default."""
    examples = {
        "names": ["products/a"],
        "skus": ["A"],
        "permissions": ["a.b"],
        "lines": [("A", 1)],
        "units": {1: 1},
        "orders": [HistoricOrder(number="A")],
        "items": [],
        "start": datetime(2026, 1, 1, tzinfo=UTC),
    }
    hints = get_type_hints(method)
    filled: dict[str, Any] = {}
    for parameter in inspect.signature(method).parameters.values():
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            kind = hints[parameter.name]
            filled[parameter.name] = examples[parameter.name] if parameter.name in examples else kind()
    return filled


def call(client: Storekeep, path: str, **options: Any) -> None:
    method = client_method(client, path)
    result = method(**arguments(method), **options)
    if isinstance(result, Listing):
        result.page()


@each_unary_rpc
def test_method_when_called_calls_its_rpc(path: str, scripted: ScriptedServer, client: Storekeep) -> None:
    call(client, path)
    assert scripted.seen[-1].rpc == path.rpartition("/")[2]


@each_unary_rpc
def test_method_when_called_has_a_deadline(path: str, scripted: ScriptedServer, client: Storekeep) -> None:
    call(client, path)
    assert 30 < scripted.seen[-1].left_s < 60.5
    call(client, path, timeout_s=20)
    assert 0 < scripted.seen[-1].left_s < 20.5


@each_unary_rpc
def test_method_when_called_carries_a_token_unless_public(
    path: str, scripted: ScriptedServer, client: Storekeep
) -> None:
    call(client, path)
    public = METHODS[path].GetOptions().Extensions[options_pb2.permission] == "public"
    assert ("authorization" in scripted.seen[-1].metadata) is not public


MUTATIONS = [path for path in METHODS if METHODS[path].GetOptions().Extensions[options_pb2.mutation]]


@pytest.mark.parametrize("path", MUTATIONS, ids=lambda path: path.rpartition("/")[2])
def test_mutation_when_called_carries_a_fresh_request_id(
    path: str, scripted: ScriptedServer, client: Storekeep
) -> None:
    call(client, path)
    call(client, path)
    first, second = (uuid.UUID(seen.request.request_id) for seen in scripted.seen[-2:])
    assert first != second


@pytest.mark.parametrize("path", MUTATIONS, ids=lambda path: path.rpartition("/")[2])
def test_mutation_with_validate_only_sends_it(path: str, scripted: ScriptedServer, client: Storekeep) -> None:
    expected = "01890a5d-ac96-774b-bcce-b302099a8057"
    call(client, path, validate_only=True, request_id=expected)
    assert scripted.seen[-1].request.validate_only
    assert scripted.seen[-1].request.request_id == expected


@each_rpc
def test_docstring_of_method_names_the_reasons_of_its_rpc_in_their_order(path: str) -> None:
    reasons = METHODS[path].GetOptions().Extensions[options_pb2.errors].reasons
    expected = [REASONS[ErrorReason.Name(reason).removeprefix("ERROR_REASON_")].__name__ for reason in reasons]
    with Storekeep("127.0.0.1:1") as unused:
        text = inspect.getdoc(client_method(unused, path)) or ""
    named = re.findall(r"\b[A-Z][A-Za-z]+\b", re.sub(r"\(.*?\)", "", text.partition("Raises:")[2]))
    assert named == list(dict.fromkeys(expected))
