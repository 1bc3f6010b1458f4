"""The gateway over HTTP: a real gateway in front of a real server."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.gateways import READ_TIMEOUT_S, GatewayProcess, HttpReply, read_reply
from tests.support.processes import ServerProcess

pytestmark = pytest.mark.engine("sqlite", reason="the gateway reaches either database through the same server")
KEYED_CONNECTIONS = 50


@pytest.fixture(scope="module")
def product(gateway: GatewayProcess) -> str:
    """Create a product, and return the path of it."""
    assert gateway.send("POST", "/v1/categories?category_id=tea", {"displayName": "Tea"}).status == 200
    body = {"displayName": "Chai", "category": "categories/tea"}
    reply = gateway.send("POST", "/v1/products?product_id=chai", body)
    assert reply.status == 200, reply.body
    return "/v1/products/chai"


def test_get_answers_with_the_resource_and_private_headers(gateway: GatewayProcess, product: str) -> None:
    reply = gateway.send("GET", product, x_request_id="mine-1")
    assert (reply.status, reply.json["displayName"]) == (200, "Chai")
    assert reply.headers["etag"] == f'"{reply.json["etag"]}"'
    assert reply.headers["x-request-id"] == "mine-1"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "no-cache" in reply.headers["cache-control"]
    assert "strict-transport-security" not in reply.headers
    assert gateway.send("GET", "/v1/products").headers["cache-control"] == "no-store"


def test_head_has_the_headers_of_get(gateway: GatewayProcess, product: str) -> None:
    get, head = gateway.send("GET", product), gateway.send("HEAD", product)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


def test_unchanged_resource_is_not_sent_again(gateway: GatewayProcess, product: str) -> None:
    etag = gateway.send("GET", product).headers["etag"]
    reply = gateway.send("GET", product, if_none_match=f'"v0", W/{etag}')
    assert (reply.status, reply.body) == (304, b"")
    assert gateway.send("GET", product, if_none_match='"v0"').status == 200


def test_reply_is_in_the_language_of_the_caller(gateway: GatewayProcess, product: str) -> None:
    translations = {"de": {"displayName": "Gewürztee"}}
    assert gateway.send("PATCH", product, {"translations": translations}).status == 200
    german = gateway.send("GET", product, accept_language="de-AT, en;q=0.5")
    assert (german.json["displayName"], german.json["languageCode"]) == ("Gewürztee", "de")
    assert "translations" not in german.json
    assert "Accept-Language" in german.headers["vary"]
    lines = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n"
    twice = lines % (product.encode(), gateway.api_key.encode()) + b"Accept-Language: fr\r\nAccept-Language: de\r\n\r\n"
    assert gateway.send_raw(twice).json == german.json
    for header in ("*", "", "ü", "de," * 334):  # the page of an editor, and headers that count as none
        assert gateway.send("GET", product, accept_language=header).json == gateway.send("GET", product).json


def test_copy_in_another_language_is_not_revalidated(gateway: GatewayProcess, product: str) -> None:
    german = gateway.send("GET", product, accept_language="de").headers["etag"]
    assert gateway.send("GET", product, accept_language="de", if_none_match=german).status == 304
    assert gateway.send("GET", product, accept_language="en", if_none_match=german).status == 200
    assert gateway.send("GET", product, if_none_match=german).status == 200
    assert gateway.send("PATCH", product, {"labels": {"shelf": "3"}}, if_match=german).status == 200
    assert gateway.send("PATCH", product, {"labels": {}}, if_match=german).status == 412


def test_patch_takes_its_mask_from_the_body_and_checks_if_match(gateway: GatewayProcess, product: str) -> None:
    old = gateway.send("GET", product)
    stale = gateway.send("PATCH", product, {"description": "new"}, if_match='"v0"')
    assert (stale.status, stale.reason) == (412, "ETAG_MISMATCH")
    new = gateway.send("PATCH", product, {"description": "spiced"}, if_match=old.headers["etag"])
    assert (new.status, new.json["description"], new.json["displayName"]) == (200, "spiced", "Chai")
    assert gateway.send("PATCH", product, {"description": "x"}, if_match="v1").status == 400
    other = gateway.send("PATCH", product, {"name": "products/other", "description": "x"})
    assert (other.status, other.reason) == (400, "INVALID_FIELD")


REFUSED = [
    ("GET", "/v1/nothing", {}, 404, "UNKNOWN_METHOD"),
    ("GET", "/v1/products/none", {}, 404, "PRODUCT_NOT_FOUND"),
    ("PUT", "/v1/products/chai", {}, 405, "UNKNOWN_METHOD"),
    ("BREW", "/v1/products/chai", {}, 405, "UNKNOWN_METHOD"),
    ("GET", "/v1/orders/x:cancel", {}, 405, "UNKNOWN_METHOD"),
    ("POST", "/livez", {}, 405, "UNKNOWN_METHOD"),
    ("GET", "/v1/products?nope=1", {}, 400, "INVALID_FIELD"),
    ("GET", "/v1/products?page_size=x", {}, 400, "INVALID_FIELD"),
    ("GET", "/v1/products?page_size", {}, 400, "MALFORMED_MESSAGE"),
    ("GET", "/v1/products?filter=%ff", {}, 400, "MALFORMED_MESSAGE"),
    ("GET", "/v1/products/%zz", {}, 400, "MALFORMED_MESSAGE"),
    ("GET", "/v1/products", {"authorization": "Basic eDp5"}, 401, "UNAUTHENTICATED"),
    ("GET", "/v1/products", {"authorization": "Bearer a.b.c"}, 401, "UNAUTHENTICATED"),
    ("GET", "/v1/products", {"x_request_timeout": "soon"}, 400, "MALFORMED_MESSAGE"),
    ("GET", "/v1/products", {"x_request_timeout": "0"}, 400, "MALFORMED_MESSAGE"),
    ("GET", "/v1/products", {"if_match": '"v1"'}, 400, "INVALID_FIELD"),
    ("POST", "/v1/products?productId=new", {"if_match": '"v1"'}, 400, "INVALID_FIELD"),
    ("GET", "/v1/products?filter=%zz", {}, 400, "MALFORMED_MESSAGE"),
    ("GET", "/v1/products?filter=" + "a" * 9_000, {}, 414, "MESSAGE_TOO_LARGE"),
    ("GET", "/v1/products", {f"x_{number}": "1" for number in range(70)}, 431, "MESSAGE_TOO_LARGE"),
]


@pytest.mark.parametrize(
    ("method", "target", "headers", "status", "reason"), REFUSED, ids=lambda value: str(value)[:40]
)
def test_refusal_has_a_status_and_a_reason(
    gateway: GatewayProcess, product: str, method: str, target: str, headers: dict[str, str], status: int, reason: str
) -> None:
    reply = gateway.send(method, target, **headers)
    assert (reply.status, reply.reason) == (status, reason), reply.body
    assert reply.json["error"]["code"] == status
    assert reply.headers["x-request-id"] in reply.body.decode()
    assert ("www-authenticate" in reply.headers) == (status == 401)
    assert ("allow" in reply.headers) == (status == 405)


BODIES = [
    (b"{", {}, 400, "MALFORMED_MESSAGE"),
    (b"\xff", {}, 400, "MALFORMED_MESSAGE"),
    (b"{}", {"content_type": "text/plain"}, 415, "MALFORMED_MESSAGE"),
    (b"{}", {"content_type": "application/json; charset=latin-1"}, 415, "MALFORMED_MESSAGE"),
    (b"{}", {"content_encoding": "br"}, 415, "MALFORMED_MESSAGE"),
    (b"{}", {"content_encoding": "gzip"}, 400, "MALFORMED_MESSAGE"),
    (b"[" * 60_000, {}, 400, "INVALID_FIELD"),
    (b'{"nope":1}', {}, 400, "INVALID_FIELD"),
    (b'{"lines":[{"sku":"A","sku":"B"}]}', {}, 400, "INVALID_FIELD"),
    (b" " * 70_000, {}, 413, "MESSAGE_TOO_LARGE"),
    (gzip.compress(b" " * 50_000_000, mtime=0), {"content_encoding": "gzip"}, 413, "MESSAGE_TOO_LARGE"),
    (b"{}", {"content_type": "application/json; charset=utf-8; charset=latin-1"}, 415, "MALFORMED_MESSAGE"),
    (b"{}", {"idempotency_key": "k" * 256}, 400, "MALFORMED_MESSAGE"),
    (b"{}", {"idempotency_key": "a\tb"}, 400, "MALFORMED_MESSAGE"),
    (b'{"requestId":"01a225db-80db-77ee-9757-dc0e8c1e5fcb"}', {"idempotency_key": "k"}, 400, "INVALID_FIELD"),
]


@pytest.mark.parametrize(("body", "headers", "status", "reason"), BODIES, ids=lambda value: str(value)[:30])
def test_body_is_refused_with_a_reason(
    gateway: GatewayProcess, body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    reply = gateway.send("POST", "/v1/orders:place", body, **headers)
    assert (reply.status, reply.reason) == (status, reason), reply.body


def test_request_without_credentials_is_told_both_kinds(gateway: GatewayProcess) -> None:
    connection = http.client.HTTPConnection(*gateway.address, timeout=READ_TIMEOUT_S)
    connection.request("GET", "/v1/products")
    reply = connection.getresponse()
    assert reply.status == 401
    assert "with an API key or an access token" in reply.read().decode()
    connection.close()


def test_options_and_cors_answer_without_credentials(gateway: GatewayProcess) -> None:
    reply = gateway.send("OPTIONS", "/v1/products/chai")
    assert (reply.status, reply.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, PATCH")
    asked = {"access_control_request_method": "PATCH", "access_control_request_headers": "If-Match, traceparent"}
    allowed = gateway.send("OPTIONS", "/v1/products/chai", origin="https://shop.example", **asked)
    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, "https://shop.example")
    head = asked | {"access_control_request_method": "HEAD"}  # browsers ask before a HEAD with a credential, too
    assert gateway.send("OPTIONS", "/v1/products/chai", origin="https://shop.example", **head).status == 200
    foreign = gateway.send("OPTIONS", "/v1/products/chai", origin="https://evil.example", **asked)
    assert "access-control-allow-origin" not in foreign.headers
    called = gateway.send("GET", "/v1/products/chai", origin="https://shop.example")
    assert called.headers["vary"].split(", ").count("Origin") == 1
    assert "Storekeep-Position" in called.headers["access-control-expose-headers"]


@pytest.mark.parametrize("path", ["/", "/livez", "/metrics", "/docs", "/openapi.json", "/.well-known/jwks.json"])
def test_pages_answer_the_methods_that_they_list(gateway: GatewayProcess, path: str) -> None:
    options, head = gateway.send("OPTIONS", path), gateway.send("HEAD", path)
    assert (options.status, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert (head.status, head.body) == (200, b"")
    other = gateway.send("DELETE", path)
    assert (other.status, other.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_gzip_is_understood_and_sent(gateway: GatewayProcess, product: str) -> None:
    body = gzip.compress(json.dumps({"description": "milky " * 300}).encode())
    assert gateway.send("PATCH", product, body, content_encoding="gzip").status == 200
    plain, packed = gateway.send("GET", product), gateway.send("GET", product, accept_encoding="br, gzip;q=0.5")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    for refused in ("gzip;q=0", "gzip;q=0, *", "identity"):
        assert "content-encoding" not in gateway.send("GET", product, accept_encoding=refused).headers


@pytest.mark.parametrize(
    "kind", ["application/json;", 'Application/JSON; Charset="UTF-8"', "application/json; odata=x"]
)
def test_parameters_of_the_content_type_mean_nothing(gateway: GatewayProcess, product: str, kind: str) -> None:
    assert gateway.send("PATCH", product, {"description": "milky"}, content_type=kind).status == 200


def test_parameters_may_have_a_separator_too_many(gateway: GatewayProcess) -> None:
    assert gateway.send("GET", "/v1/products?&pageSize=1&&").status == 200


def test_etag_belongs_to_the_bytes_that_were_sent(gateway: GatewayProcess, product: str) -> None:
    assert gateway.send("PATCH", product, {"description": "milky " * 300}).status == 200
    plain, packed = (gateway.send("GET", product, accept_encoding=coding) for coding in ("identity", "gzip"))
    assert packed.headers["etag"] == plain.headers["etag"][:-1] + ';gzip"'
    for coding, mine, other in (("identity", plain, packed), ("gzip", packed, plain)):
        current = gateway.send("GET", product, accept_encoding=coding, if_none_match=mine.headers["etag"])
        assert (current.status, current.headers["etag"]) == (304, mine.headers["etag"])
        changed = gateway.send("GET", product, accept_encoding=coding, if_none_match=other.headers["etag"])
        assert (changed.status, changed.body) == (200, mine.body)
    assert gateway.send("PATCH", product, {"description": "short"}, if_match=packed.headers["etag"]).status == 200
    assert "gzip" not in gateway.send("GET", product, accept_encoding="gzip").headers["etag"]  # too small for gzip


def test_same_key_from_fifty_connections_has_one_effect(gateway: GatewayProcess) -> None:
    barrier = threading.Barrier(KEYED_CONNECTIONS)

    def create(_: int) -> HttpReply:
        barrier.wait()
        return gateway.send("POST", "/v1/categories", {"displayName": "Once"}, idempotency_key="a key, of any text")

    with ThreadPoolExecutor(KEYED_CONNECTIONS) as pool:
        replies = list(pool.map(create, range(KEYED_CONNECTIONS)))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1
    assert sum(reply.headers.get("idempotency-replayed") == "true" for reply in replies) == KEYED_CONNECTIONS - 1
    reused = gateway.send("POST", "/v1/categories", {"displayName": "Other"}, idempotency_key="a key, of any text")
    assert reused.reason == "REQUEST_ID_REUSED"


def test_equal_keys_of_two_callers_do_not_meet(gateway: GatewayProcess) -> None:
    key = {"idempotency_key": "k" * 255}
    account = gateway.send("POST", "/v1/serviceAccounts", {"displayName": "Other", "roles": ["roles/admin"]})
    assert account.status == 200, account.body
    made = gateway.send("POST", f"/v1/{account.json['name']}/apiKeys", {"displayName": "other"})
    assert made.status == 200, made.body
    secret = made.json["secret"]
    mine = gateway.send("POST", "/v1/categories", {"displayName": "Mine"}, **key)
    theirs = gateway.send("POST", "/v1/categories", {"displayName": "Theirs"}, authorization=f"Bearer {secret}", **key)
    assert (mine.status, theirs.status) == (200, 200), theirs.body
    assert mine.json["name"] != theirs.json["name"]
    assert "idempotency-replayed" not in theirs.headers
    other_method = gateway.send("POST", "/v1/products", {"displayName": "Tray"}, **key)
    assert other_method.status == 200, other_method.body


def test_key_with_another_body_or_a_second_key_is_refused(gateway: GatewayProcess) -> None:
    path, key = "/v1/categories", {"idempotency_key": "changed"}
    assert gateway.send("POST", path, {"displayName": "First"}, **key).status == 200
    reused = gateway.send("POST", path, {"displayName": "Second"}, **key)
    assert (reused.status, reused.reason) == (400, "REQUEST_ID_REUSED")
    again = gateway.send("POST", path, {"displayName": "First"}, **key)
    assert (again.status, again.headers["idempotency-replayed"]) == (200, "true")
    two = gateway.send("POST", path, {"displayName": "First"}, idempotency_key="a\r\nidempotency-key: b")
    assert (two.status, two.reason) == (400, "MALFORMED_MESSAGE")
    for wrong in ("", "k" * 256, "\xe4"):
        reply = gateway.send("POST", path, {"displayName": "First"}, idempotency_key=wrong)
        assert (reply.status, reply.reason) == (400, "MALFORMED_MESSAGE")


def test_client_that_closes_its_side_before_the_reply_loses_at_most_the_reply(gateway: GatewayProcess) -> None:
    body = b'{"displayName": "Half closed"}'
    head = f"POST /v1/categories HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.api_key}\r\n"
    head += f"Content-Type: application/json\r\nIdempotency-Key: half\r\nContent-Length: {len(body)}\r\n\r\n"
    with gateway.connect() as connection:
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        assert read_reply(connection).status in (0, 200)
    again = [gateway.send("POST", "/v1/categories", body, idempotency_key="half") for _ in range(2)]
    assert [reply.status for reply in again] == [200, 200]
    assert again[0].json == again[1].json
    assert gateway.send("GET", "/v1/categories?pageSize=1000").body.count(b"Half closed") == 1


def test_wrong_key_asks_the_server_once(gateway: GatewayProcess, server: ServerProcess) -> None:
    wrong = "sk_" + "a" * 12 + "_" + "b" * 32
    replies = [gateway.send("GET", "/v1/products", authorization=f"Bearer {wrong}") for _ in range(5)]
    assert {(reply.status, reply.reason) for reply in replies} == {(401, "API_KEY_INVALID")}
    server.await_log("API_KEY_INVALID")
    assert server.log().count("API_KEY_INVALID") == 1
    assert wrong not in gateway.log()
    assert gateway.api_key not in gateway.log()


def test_pages_tell_health_keys_and_metrics(gateway: GatewayProcess, product: str) -> None:
    assert gateway.send("GET", "/livez").json == {"status": "alive"}
    assert gateway.send("GET", "/readyz").json == {"status": "ready"}
    assert gateway.send("GET", "/.well-known/jwks.json").json["keys"][0]["kty"] == "EC"
    metrics = gateway.send("GET", "/metrics").body.decode()
    assert 'storekeep_gateway_requests_total{code="200",method="POST",route="/v1/products"}' in metrics
    assert "chai" not in metrics


POST = b"POST /v1/orders:place HTTP/1.1\r\nHost: x\r\n"
HOSTILE = [
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 1_000 + b"\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/products HTTP/1.1\r\nHost: x\r\nauthorization: Bearer \xff\r\n\r\n",
    b"GET /v1/products HTTP/1.1\r\nHost: x\r\nauthorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n",
    POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
    POST + b"Content-Length: -1\r\n\r\n{}",
    POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    b"GET /v1/products HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n",
    b"GET /v1/products HTTP/1.1\r\n Host: x\r\n\r\n",
    b"GET /v1/products\r\n\r\n",
    b"GET  /v1/products HTTP/1.1\r\n\r\n",
    b"GET /livez HTTP/1.1\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: x/y\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: x:y\r\n\r\n",
    *(
        b"GET /livez HTTP/1.1\r\nHost: %s\r\n\r\n" % host
        for host in (
            b"%zz",
            b"a%2",
            b"foo:99999",
            b"foo:65536",
            b"[::::]",
            b"[...]:1",
            b"[1.2.3.4]",
            b"[::1%25lo]",
            b":80",
        )
    ),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\0" * 1_000,
]


@pytest.mark.parametrize("request_bytes", HOSTILE, ids=lambda value: repr(value[:60]))
def test_hostile_request_gets_4xx_or_a_closed_connection(gateway: GatewayProcess, request_bytes: bytes) -> None:
    reply = gateway.send_raw(request_bytes)
    assert reply.status == 0 or 400 <= reply.status < 500, reply
    assert gateway.send("GET", "/livez").status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.0\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
        b"GET http://y/livez HTTP/1.1\r\nHost: x_1.example:\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: b%c3%bccher.example:65535\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: [::ffff:127.0.0.1]\r\n\r\n",
    ],
)
def test_request_with_the_host_that_http_requires_is_answered(gateway: GatewayProcess, head: bytes) -> None:
    assert gateway.send_raw(head).status == 200


def test_slow_clients_are_cut_off_together(gateway: GatewayProcess) -> None:
    slow = (
        b"",
        b"GET /v1/products HTTP/1.1\r\nHost:",
        POST + b"Content-Length: 9\r\n\r\n{",
    )
    connections = [gateway.connect() for _ in slow]
    for connection, sent in zip(connections, slow, strict=True):
        connection.sendall(sent)
    replies = [read_reply(connection) for connection in connections]
    assert [reply.status for reply in replies[:2]] == [0, 0]
    assert (replies[2].status, replies[2].reason) == (408, "DEADLINE_EXCEEDED")
    for connection in connections:
        connection.close()


# The last tests: they end the server and the gateway.
def test_killed_server_gives_503_and_is_found_again(gateway: GatewayProcess, server: ServerProcess) -> None:
    server.kill()
    reply = gateway.send("GET", "/v1/products")
    assert (reply.status, reply.reason) == (503, "STORAGE_UNAVAILABLE")
    assert int(reply.headers["retry-after"]) >= 1
    assert gateway.send("GET", "/readyz").status == 503
    assert gateway.send("GET", "/livez").status == 200
    server.start()
    give_up = time.monotonic() + 60
    while gateway.send("GET", "/v1/products").status != 200:
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_sigterm_ends_the_gateway_with_success(gateway: GatewayProcess) -> None:
    with gateway.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_reply(connection).status == 200
        assert gateway.stop() == 0
    assert "panicked" not in gateway.log()
    assert "unexpected error" not in gateway.log()
