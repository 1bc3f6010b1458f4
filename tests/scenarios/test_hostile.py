"""Hostile input: every request gets a reply or a reason of the contract, and the server keeps running."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.type.money_pb2 import Money
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storekeep.client.errors import MessageTooLarge
from storekeep.client.statuses import from_rpc_error
from storekeep.server.transport.contract import read_contract
from storekeep.v1 import customers_pb2, inventory_pb2, orders_pb2, products_pb2
from tests.support.messages import LONG, messages
from tests.support.processes import ServerProcess
from tests.support.records import Records
from tests.support.refusal_cases import build_new_variant
from tests.support.refusals import list_shortages, refusal, refused
from tests.support.resources import CUSTOMER, KINDS, Kind
from tests.support.shops import MAIN, Shop, get_amount, new_id, new_request_id

CONTRACT = read_contract()
PROTECTED = [path for path, method in CONTRACT.methods.items() if method.permission != "public"]
PLACE = "/storekeep.v1.OrderService/PlaceOrder"
GET = "/storekeep.v1.OrderService/GetOrder"
TEXTS = {
    "emoji": "Tea 🫖👨‍👩‍👧‍👦🇮🇳",
    "right to left": "שלום مرحبا",
    "override": "abc\u202edef\u202c",
    "combining": "Z\u0351\u036b\u0343\u036aalgo n\u0303 ñ",
    "beyond the plane": "\U0001d518\U0001f9ff \U0010ffff",
    "quotes": "'; DROP TABLE orders; -- \"`",
    "backslashes": "\\ \\n \\u0000 %s {0} $x",
    "spaces": "\u00a0\u2003\ufeff\u200b",
    "lines": "a\r\nb\tc\u2028d",
    "controls": "\x01\x07\x1b[31m\x7f\x85",
    "noncharacters": "\ufffe\uffff\ufffd",
}
before_the_database = pytest.mark.engine("sqlite", reason="refused before the database, so its engine cannot matter")
each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
each_text = pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
each_path = pytest.mark.parametrize("path", list(CONTRACT.methods), ids=lambda path: path.rpartition("/")[2])


@pytest.fixture(scope="module", autouse=True)
def _server_lives_and_logs_no_defect(server: ServerProcess) -> Iterator[None]:
    yield
    assert server.process.poll() is None
    assert "Traceback" not in server.log()


# -- invalid orders


@before_the_database
@pytest.mark.parametrize("quantity", [0, -1, 1_000_001, 10**9, 2**63 - 1, -(2**63)])
def test_quantity_out_of_bounds_is_refused(shop: Shop, quantity: int):
    with refused("INVALID_FIELD") as refusal:
        shop.order((shop.variant().sku, quantity))
    assert list(refusal.violations) == ["lines[0].quantity"]


@pytest.mark.parametrize("quantity_delta", [0, 10**9 + 1, -(10**9) - 1, 2**63 - 1, -(2**63)])
def test_adjustment_out_of_bounds_is_refused(shop: Shop, quantity_delta: int):
    with refused("INVALID_FIELD") as refusal:
        shop.adjust(shop.variant().sku, quantity_delta)
    assert list(refusal.violations) == ["quantity_delta"]


@pytest.mark.parametrize("quantity", [-1, 10**9 + 1, 2**63 - 1])
def test_count_out_of_bounds_is_refused(shop: Shop, quantity: int):
    name = f"{MAIN}/stockLevels/{shop.variant().sku}"
    with refused("INVALID_FIELD") as refusal:
        shop.inventory.SetStock(inventory_pb2.SetStockRequest(name=name, quantity=quantity))
    assert list(refusal.violations) == ["quantity"]


def test_unknown_sku_is_named(shop: Shop):
    with refused("SKU_NOT_FOUND") as refusal:
        shop.order((shop.variant(stock=1).sku, 1), ("NO-SUCH", 1))
    assert refusal.metadata == {"sku": "NO-SUCH"}


def test_line_without_a_price_in_the_currency_is_named(shop: Shop):
    euros, dollars = shop.variant(stock=1), shop.variant(prices={"USD": "1"}, stock=1)
    with refused("CURRENCY_MISMATCH") as refusal:
        shop.order((euros.sku, 1), (dollars.sku, 1))
    assert list(refusal.violations) == ["lines[1].sku"]


@pytest.mark.parametrize(
    ("reason", "currency_code", "units", "nanos"),
    [
        ("INVALID_AMOUNT", "EUR", 1, 1),
        ("INVALID_AMOUNT", "EUR", 1, 999_999_999),
        ("INVALID_AMOUNT", "JPY", 1, 500_000_000),
        ("INVALID_AMOUNT", "KWD", 1, 500_000),
        ("INVALID_AMOUNT", "EUR", -1, 0),
        ("INVALID_AMOUNT", "EUR", 0, -10_000_000),
        ("INVALID_AMOUNT", "EUR", 1, 1_000_000_000),
        ("INVALID_AMOUNT", "EUR", 1, 2**31 - 1),
        ("INVALID_AMOUNT", "EUR", 10**10, 10_000_000),
        ("INVALID_AMOUNT", "EUR", 2**63 - 1, 990_000_000),
        ("INVALID_AMOUNT", "EUR", -(2**63), 0),
        ("UNKNOWN_CURRENCY", "", 1, 0),
        ("UNKNOWN_CURRENCY", "eur", 1, 0),
        ("UNKNOWN_CURRENCY", "EURO", 1, 0),
        ("UNKNOWN_CURRENCY", "XAU", 1, 0),
        ("UNKNOWN_CURRENCY", "DEM", 1, 0),
        ("UNKNOWN_CURRENCY", "\x00\x00\x00", 1, 0),
        ("UNKNOWN_CURRENCY", LONG, 1, 0),
    ],
)
def test_price_that_cannot_be_is_refused(shop: Shop, reason: str, currency_code: str, units: int, nanos: int):
    price = Money(currency_code=currency_code, units=units, nanos=nanos)
    with refused(reason) as refusal:
        shop.products.CreateVariant(build_new_variant(shop, price))
    assert list(refusal.violations) == ["variant.prices[0]"]


def test_highest_price_and_quantity_are_added_up_exactly(shop: Shop):
    sku = shop.variant(prices={"KWD": "999999999.999"}, stock=5_000_000).sku
    order = shop.order(*[(sku, 1_000_000)] * 5, currency_code="KWD")
    assert get_amount(order.total) * 1000 == 999_999_999_999 * 5_000_000


def test_500_lines_of_the_same_sku_are_one_allocation(shop: Shop):
    sku = shop.variant(stock=501).sku
    order = shop.order(*[(sku, 1)] * 500)
    assert [line.line_number for line in order.lines] == list(range(1, 501))
    assert (shop.level(sku).allocated, shop.level(sku).available) == (500, 1)
    with refused("OUT_OF_STOCK") as refusal:
        shop.order((sku, 1), (sku, 1))
    assert refusal.metadata == list_shortages({sku: (2, 1)})


def test_501_lines_are_refused(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        shop.order(*[("TEA", 1)] * 501)
    assert list(refusal.violations) == ["lines"]


def test_500_short_skus_are_refused_with_an_error_that_arrives(shop: Shop):
    product = shop.product().name
    skus = [f"S{number:03}".ljust(64, "x") + "" for number in range(100)]
    for sku in skus:
        shop.products.CreateVariant(
            products_pb2.CreateVariantRequest(
                parent=product, variant=products_pb2.Variant(sku=sku, prices=[Money(currency_code="EUR", units=1)])
            )
        )
    with refused("OUT_OF_STOCK") as refusal:
        shop.order(*[(sku, 1_000_000) for sku in skus])
    told = refusal.metadata["skus"].split(",")
    assert told == skus[: len(told)]
    assert [refusal.metadata[f"sku-{number}"] for number in range(1, len(told) + 1)] == told
    assert all(refusal.metadata[f"requested-{number}"] == "1000000" for number in range(1, len(told) + 1))
    assert int(refusal.metadata["more"]) == len(skus) - len(told)


def test_500_broken_lines_are_refused_with_an_error_that_arrives(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        shop.order(*[("é" * 100, 0)] * 500)
    assert "lines[0].sku" in refusal.violations


# -- names and ids


@before_the_database
@each_kind
@pytest.mark.parametrize(
    "resource_id",
    ["..", ".", "-", "a/b", "../x", "%2e%2e", "a b", " a", "a\n", "é", "a\x00", "", "a" * 64, "_a", "a;b", LONG],
    ids=lambda text: repr(text[:8]),
)
def test_name_that_cannot_be_is_refused(shop: Shop, kind: Kind, resource_id: str):
    prefix = kind.missing.rpartition("/")[0]
    with refused("INVALID_FIELD") as refusal:
        kind.get(shop, f"{prefix}/{resource_id}")
    assert list(refusal.violations) == ["name"]


@before_the_database
@each_kind
def test_name_of_another_collection_is_refused(shop: Shop, kind: Kind):
    for name in ("orders/x", "x", "/", "", f"/{kind.missing}", f"{kind.missing}/", f"//{kind.missing}"):
        with refused("INVALID_FIELD"):
            kind.get(shop, name)


@before_the_database
@each_kind
@pytest.mark.parametrize("resource_id", ["..", "-", "a/b", "a\n", "é", "a" * 64])
def test_id_that_cannot_be_is_refused(shop: Shop, kind: Kind, resource_id: str):
    with refused("INVALID_FIELD") as refusal:
        shop.stub(f"Create{kind.noun}")(kind.create_request(shop, resource_id))
    assert f"{kind.field}_id" in refusal.violations


@each_kind
def test_longest_id_is_taken(shop: Shop, kind: Kind):
    resource_id = new_id().ljust(63, "_")
    made = shop.stub(f"Create{kind.noun}")(kind.create_request(shop, resource_id))
    assert made.name.endswith(f"/{resource_id}")
    assert kind.get(shop, made.name) == made


def test_ids_that_differ_in_case_are_two(shop: Shop):
    low, high = new_id("a"), new_id("a").upper()
    requests = [CUSTOMER.create_request(shop, one) for one in (low, low.upper(), high)]
    names = {shop.customers.CreateCustomer(request).name for request in requests}
    assert len(names) == 3


# -- text


@each_kind
@each_text
def test_text_comes_back_as_it_went(shop: Shop, kind: Kind, text: str):
    made = kind.make(shop, display_name=text)
    assert made.display_name == text
    assert kind.get(shop, made.name) == made


@each_text
def test_text_of_an_order_comes_back_as_it_went(shop: Shop, text: str):
    product = shop.product(display_name=text, description=text, labels={text: text})
    sku = shop.variant(parent=product.name, stock=1, display_name=text, options={text: text}).sku
    address = {"region_code": "DE", "recipient": text}
    placed = shop.order((sku, 1), note=text, external_reference=text, shipping_address=address)
    assert (placed.note, placed.lines[0].display_name) == (text, f"{text}, {text}")
    assert shop.orders.GetOrder(orders_pb2.GetOrderRequest(name=placed.name)) == placed
    cancelled = shop.cancel(placed, reason=text)
    assert cancelled.cancel_reason == text


@before_the_database
@each_kind
def test_text_with_a_null_is_refused(shop: Shop, kind: Kind):
    with refused("INVALID_FIELD") as refusal:
        kind.make(shop, display_name="before\x00after")
    assert list(refusal.violations) == [f"{kind.field}.display_name"]


def test_null_deep_inside_is_refused_and_named(shop: Shop):
    for fields, named in (
        ({"labels": {"kind": "a\x00"}}, 'customer.labels["kind"]'),
        (
            {"addresses": [{"label": "home", "address": {"region_code": "DE", "address_lines": ["a", "\x00"]}}]},
            "customer.addresses[0].address.address_lines[1]",
        ),
    ):
        with refused("INVALID_FIELD") as refusal:
            shop.customer(**fields)
        assert list(refusal.violations) == [named]
    with refused("INVALID_FIELD") as refusal:
        shop.order(note="\x00")
    assert list(refusal.violations) == ["note"]


@each_text
def test_text_is_searched_for_without_harm(shop: Shop, text: str):
    shop.products.SearchProducts(products_pb2.SearchProductsRequest(query=text))


@before_the_database
@each_kind
def test_64_kib_of_text_are_refused(shop: Shop, kind: Kind):
    with refused("INVALID_FIELD") as refusal:
        kind.make(shop, display_name=LONG)
    assert list(refusal.violations) == [f"{kind.field}.display_name"]


def test_limits_count_characters_and_not_bytes(shop: Shop):
    assert len(shop.customer(display_name="🫖" * 200).display_name) == 200
    with refused("INVALID_FIELD"):
        shop.customer(display_name="🫖" * 201)


# -- bytes


def test_message_of_2_mb_is_too_large(shop: Shop):
    with refused("MESSAGE_TOO_LARGE") as refusal:
        shop.send(PLACE, orders_pb2.PlaceOrderRequest(note="x" * 2_000_000).SerializeToString())
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "at most 1048576 are accepted" in refusal.text
    assert shop.order().name


@before_the_database
def test_message_far_beyond_the_limit_is_refused_by_grpc_itself(shop: Shop):
    with pytest.raises(grpc.RpcError) as refused_by_grpc:
        shop.send(PLACE, bytes(10_000_000))
    assert refused_by_grpc.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in refused_by_grpc.value.details()
    assert isinstance(from_rpc_error(refused_by_grpc.value), MessageTooLarge)
    assert shop.order().name


@before_the_database
@pytest.mark.parametrize(
    "raw",
    [
        b"\x0a\x02\xff\xfe",
        b"\x0a\x03\xed\xa0\x80",
        b"\x0a\x05abc",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x0f",
        b"\x00\x00",
        b"\x0b" * 1000,
        b"\x12\xff\xff\xff\xff\x0f",
    ],
    ids=["not UTF-8", "a surrogate", "cut off", "varint", "wire type", "field 0", "open groups", "length"],
)
def test_bytes_that_do_not_parse_are_malformed(shop: Shop, raw: bytes):
    with refused("MALFORMED_MESSAGE") as refusal:
        shop.send(PLACE, raw)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_request_that_is_cut_off_has_no_effect(shop: Shop, records: Records, cut: int):
    raw = shop.order_request(request_id=new_request_id()).SerializeToString()
    before = records.last_sequence()
    outcome = refusal(shop.send, PLACE, raw[:-cut])
    assert outcome is not None
    assert outcome.reason in ("MALFORMED_MESSAGE", "INVALID_FIELD")
    assert records.last_sequence() == before


def test_unknown_field_is_ignored(shop: Shop):
    raw = shop.order_request().SerializeToString() + b"\xfa\xf4\x04\x05later"
    assert orders_pb2.Order.FromString(shop.send(PLACE, raw)).name


def test_unknown_enum_value_is_refused(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        shop.adjust(shop.variant().sku, 1, cause=99)
    assert list(refusal.violations) == ["cause"]


def test_empty_message_is_refused_for_what_it_lacks(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        shop.send(PLACE, b"")
    assert {"customer", "lines", "currency_code"} <= set(refusal.violations)


# -- calls


NOWHERE = ("/storekeep.v1.OrderService/Nothing", "/nobody.v1.Service/Get", "/x", "/storekeep.v1./")


@before_the_database
@pytest.mark.parametrize("path", NOWHERE)
def test_unknown_method_is_reported(shop: Shop, path: str):
    with refused("UNKNOWN_METHOD") as refusal:
        shop.send(path, b"")
    assert refusal.code is grpc.StatusCode.UNIMPLEMENTED


@before_the_database
@pytest.mark.parametrize("path", PROTECTED, ids=lambda path: path.rpartition("/")[2])
def test_call_without_token_is_refused(shop: Shop, path: str):
    with refused("UNAUTHENTICATED"):
        shop.bare_channel.unary_unary(path)(b"", timeout=60)


@before_the_database
@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer a.b.c",
        "Basic YWRtaW46YWRtaW4=",
        "Bearer " + "x" * 9_000,
        "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJzZXJ2aWNlQWNjb3VudHMvYWRtaW4ifQ.",
    ],
    ids=lambda text: text[:20] or "empty",
)
def test_wrong_token_is_refused(shop: Shop, authorization: str):
    with refused("UNAUTHENTICATED"):
        shop.bare_channel.unary_unary(GET)(b"", timeout=60, metadata=[("authorization", authorization)])


def test_token_that_was_cut_or_changed_is_refused(shop: Shop):
    head, body, signature = shop.token.split(".")
    for token in (f"{head}.{body}", f"{head}.{body}.", f"{head}.{body[:-2]}AA.{signature}", shop.token[:-5]):
        with refused("UNAUTHENTICATED"):
            shop.bare_channel.unary_unary(GET)(b"", timeout=60, metadata=[("authorization", f"Bearer {token}")])


def test_huge_metadata_is_refused_and_the_server_lives(shop: Shop):
    with pytest.raises(grpc.RpcError) as refused_by_grpc:
        shop.send(GET, b"", metadata=[("x-junk", "x" * 100_000)])
    assert refused_by_grpc.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert shop.order().name


@before_the_database
@pytest.mark.parametrize("request_id", ["x" * 65, "a b", "a,b", "<script>", "{}"])
def test_call_id_that_cannot_be_is_replaced(shop: Shop, request_id: str):
    with pytest.raises(grpc.RpcError) as raised:
        shop.send(GET, b"", metadata=[("x-request-id", request_id)])
    assert dict(raised.value.trailing_metadata())["x-request-id"] != request_id


def test_call_id_is_returned(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        shop.send(GET, b"", metadata=[("x-request-id", "call-1"), ("traceparent", "nonsense"), ("x-bin", b"\xff")])
    assert refusal.request_id == "call-1"


# -- random input

fuzzing = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@before_the_database
@each_path
@fuzzing
@given(raw=st.binary(max_size=200))
def test_any_bytes_are_answered_or_refused(shop: Shop, path: str, raw: bytes):
    refusal(shop.send, path, raw)


@each_path
@fuzzing
@given(data=st.data())
def test_any_request_is_answered_or_refused(shop: Shop, server: ServerProcess, path: str, data):
    request = data.draw(messages(CONTRACT.methods[path].request_type.DESCRIPTOR))
    refusal(shop.send, path, request.SerializeToString())


@fuzzing
@given(data=st.data())
def test_any_customer_is_stored_unchanged_or_refused(shop: Shop, data):
    customer = data.draw(messages(customers_pb2.Customer.DESCRIPTOR))
    customer.display_name = customer.display_name[:200] or "x"
    request = customers_pb2.CreateCustomerRequest(customer=customer)
    try:
        made = shop.customers.CreateCustomer(request)
    except grpc.RpcError:
        return
    assert shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=made.name)) == made
    assert made.labels == customer.labels
