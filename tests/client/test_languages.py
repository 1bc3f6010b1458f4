"""The languages of the client: one for all reads, and another for a single read."""

from __future__ import annotations

from storekeep.client import Product, Storekeep
from storekeep.v1.products_pb2 import ListProductsResponse
from tests.support.scripted_server import ScriptedServer, replies


def test_languages_of_the_client_apply_unless_a_call_has_its_own(scripted: ScriptedServer) -> None:
    scripted.scripts["GetProduct"] = [replies(Product()), replies(Product())]
    scripted.scripts["ListProducts"] = [replies(ListProductsResponse()), replies(ListProductsResponse())]
    with Storekeep(scripted.address, api_key="sk_test_0123456789", timeout_s=60, accept_language="de, en") as client:
        client.products.get("products/a")
        client.products.get("products/a", accept_language="fr")
        list(client.products.list())
        list(client.products.list(accept_language="fr"))
    calls = [*scripted.calls_of("GetProduct"), *scripted.calls_of("ListProducts")]
    assert [call.metadata["accept-language"] for call in calls] == ["de, en", "fr"] * 2


def test_client_without_languages_sends_none(scripted: ScriptedServer, client: Storekeep) -> None:
    scripted.scripts["GetProduct"] = [replies(Product())]
    client.products.get("products/a")
    assert "accept-language" not in scripted.calls_of("GetProduct")[0].metadata
