"""Lists fetch each page when it is needed, not earlier."""

from __future__ import annotations

from storekeep.client import Product, Storekeep
from storekeep.v1.products_pb2 import ListProductsResponse
from tests.support.scripted_server import ScriptedServer, replies


def script_two_pages(scripted: ScriptedServer) -> None:
    first = ListProductsResponse(products=[Product(name="products/a")], next_page_token="t2")
    scripted.scripts["ListProducts"] = [replies(first), replies(ListProductsResponse(products=[Product(name="z")]))]


def test_list_when_made_sends_nothing(scripted: ScriptedServer, client: Storekeep) -> None:
    client.products.list(filter="state = ACTIVE")
    assert scripted.calls_of("ListProducts") == []


def test_list_when_read_follows_the_page_tokens(scripted: ScriptedServer, client: Storekeep) -> None:
    script_two_pages(scripted)
    listing = client.products.list(filter="state = ACTIVE", order_by="display_name", page_size=1, show_deleted=True)
    assert [product.name for product in listing] == ["products/a", "z"]
    first, second = (call.request for call in scripted.calls_of("ListProducts"))
    assert (first.page_token, second.page_token) == ("", "t2")
    assert first.filter == second.filter == "state = ACTIVE"
    assert (second.order_by, second.page_size, second.show_deleted) == ("display_name", 1, True)


def test_list_when_read_in_part_fetches_one_page(scripted: ScriptedServer, client: Storekeep) -> None:
    script_two_pages(scripted)
    assert next(iter(client.products.list())).name == "products/a"
    assert len(scripted.calls_of("ListProducts")) == 1


def test_page_by_token_fetches_just_that(scripted: ScriptedServer, client: Storekeep) -> None:
    script_two_pages(scripted)
    page = client.products.list().page()
    assert ([product.name for product in page.items], page.next_page_token) == (["products/a"], "t2")
    assert client.products.list().page(page.next_page_token).next_page_token == ""
    assert [call.request.page_token for call in scripted.calls_of("ListProducts")] == ["", "t2"]


def test_batch_get_of_none_is_the_servers_to_refuse(scripted: ScriptedServer, client: Storekeep) -> None:
    client.products.batch_get(name for name in ("products/a", "products/b"))
    assert list(scripted.calls_of("BatchGetProducts")[0].request.names) == ["products/a", "products/b"]


def test_list_with_a_total_counts_once(scripted: ScriptedServer, client: Storekeep) -> None:
    first = ListProductsResponse(products=[Product(name="a")], next_page_token="t2", total_size=2)
    scripted.scripts["ListProducts"] = [replies(first), replies(ListProductsResponse(products=[Product(name="z")]))]
    one, two = client.products.list(include_total_size=True, read_mask=["name", "labels.color"]).pages()
    assert (one.total_size, one.total_size_is_lower_bound, two.total_size) == (2, False, None)
    requests = [call.request for call in scripted.calls_of("ListProducts")]
    assert [request.include_total_size for request in requests] == [True, False]
    assert [list(request.read_mask.paths) for request in requests] == [["name", "labels.color"]] * 2


def test_get_with_a_mask_sends_it_and_without_one_sends_none(scripted: ScriptedServer, client: Storekeep) -> None:
    client.products.get("products/a", read_mask="name")
    client.products.batch_get(["products/a"], read_mask=("name", "etag"))
    client.products.get("products/a")
    masked, whole = (call.request for call in scripted.calls_of("GetProduct"))
    assert list(masked.read_mask.paths) == ["name"]
    assert not whole.HasField("read_mask")
    assert list(scripted.calls_of("BatchGetProducts")[0].request.read_mask.paths) == ["name", "etag"]
