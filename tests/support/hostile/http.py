"""Hostile HTTP requests as bytes: framing that proxies read differently, broken text, large and deep bodies.

Most carry a valid key, so that they get past the limits for strangers. Each gets a second, valid request behind it on
the same connection.
"""

from __future__ import annotations

import gzip
import itertools
import random
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

END = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
CONTINUE = 100
STATUS = re.compile(rb"(?:^|(?<=[\n}]))HTTP/1\.[01] (\d{3})")
READ_TIMEOUT_S = 60.0
ENCODINGS = (
    "chunked",
    "\tchunked",
    "chunked ",
    "CHUNKED",
    "chunked, chunked",
    "identity, chunked",
    "chunked, identity",
    "chunked;q=1",
    "xchunked",
    "\x0bchunked",
    "chunked\0",
    '"chunked"',
    "",
)
ENCODING_NAMES = (
    "Transfer-Encoding",
    "Transfer-Encoding ",
    "Transfer-Encoding\t",
    " Transfer-Encoding",
    "transfer_encoding",
    "X: y\nTransfer-Encoding",
    "X: y\rTransfer-Encoding",
    "Transfer-Encoding: identity\r\nTransfer-Encoding",
)
VALID_NAMES = ("Transfer-Encoding", "X: y\nTransfer-Encoding")
"""RFC 9112, 2.2, lets a server accept a line that ends with LF alone."""
LENGTHS = (
    "",
    "0",
    "2",
    "+2",
    "0x2",
    "2,2",
    "2, 3",
    "-1",
    "2 2",
    " 2",
    "1e0",
    "\xb2",
    "18446744073709551618",
    "2\r\nContent-Length: 3",
)
CHUNKS = (
    b"2;" + b"x" * 60_000 + b"\r\n{}\r\n0\r\n\r\n",
    b"2;a=b\r\n{}\r\n0;c\r\n\r\n",
    b'2;a="\n"\r\n{}\r\n0\r\n\r\n',
    b"2\n{}\n0\n\n",
    b"2\r{}\r0\r\r",
    b"02\r\n{}\r\n00\r\n\r\n",
    b" 2\r\n{}\r\n0\r\n\r\n",
    b"2 \r\n{}\r\n0\r\n\r\n",
    b"0x2\r\n{}\r\n0\r\n\r\n",
    b"-2\r\n{}\r\n0\r\n\r\n",
    b"+2\r\n{}\r\n0\r\n\r\n",
    b"zz\r\n{}\r\n0\r\n\r\n",
    b"\r\n{}\r\n0\r\n\r\n",
    b"3\r\n{}\r\n0\r\n\r\n",
    b"2\r\n{}0\r\n\r\n",
    b"2\r\n{}XX0\r\n\r\n",
    b"10000000000000002\r\n{}\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    b"2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\nContent-Length: 9\r\n\r\n",
    b"2\r\n{}\r\n0\r\n" + b"t: v\r\n" * 5_000 + b"\r\n",
    b"1\r\n{\r\n" * 3_000 + b"0\r\n\r\n",
)
TARGETS = (
    b"http://x/v1/products",
    b"http://evil.example:99999/v1/products",
    b"ftp://x/",
    b"http://",
    b"x:80",
    b"*",
    b"",
    b"v1/products",
    b"//v1/products",
    b"/v1//products",
    b"/v1/../../etc/passwd",
    b"/v1/%2e%2e/products",
    b"/v1/products\\a",
    b"/v1/products#f",
    b"/v1/products;a=b",
    b"/v1/products/a;b=c/d",
    b"/v1/products/a%252Fb",
    b"/v1/products/a%25252e%25252e",
    b"/v1/products?page_size=1&page_size=2",
    b"/v1/products?pageSize=1&page_size=1",
    b"http://user:password@x/v1/products",
    b"http://x:80@evil.example/v1/products",
    b"/v1/products?",
    b"/v1/products?&&&=",
    b"/v1/products?=x",
    b"/v1/products?filter=%",
    b"/v1/products?filter=%zz",
    b"/v1/products?filter=%00",
    b"/v1/products?filter=%c0%af",
    b"/v1/products?filter=%ed%a0%80",
    b"/v1/products?filter=\xff",
    b"/v1/products?page_size=" + b"9" * 5_000,
    b"/v1/products?page_size=-1",
    b"/v1/products?page_size=1e9",
    b"/v1/products?page_token=" + b"A" * 4_000,
    b"/v1/products?" + b"a=b&" * 1_500,
    b"/v1/products?filter=" + b"(" * 4_000,
    b"/v1/products?read_mask=" + b"a.b," * 1_000,
    b"/v1/products/%00",
    b"/v1/products/%ff",
    b"/v1/products/%c0%ae",
    b"/v1/products/%2F%2f",
    b"/v1/products/\xc3\xa4",
    b"/v1/products/\x01",
    b"/v1/products/\x7f",
    b"/v1/products/a\tb",
    b"/v1/products/a b",
    b"/" + b"a" * 9_000,
    b"/" + b"a/" * 20_000,
    b"/v1/products/" + b"%41" * 2_500,
    b"/v1/products:" + b":" * 500,
)
VERSIONS = (
    b"",
    b" HTTP/0.9",
    b" HTTP/1.0",
    b" HTTP/1.2",
    b" HTTP/2.0",
    b" HTTP/1.1 ",
    b" http/1.1",
    b" HTTP/1",
    b" HTTP/11.1",
    b" HTTP/1.1\x00",
)
HEADERS = (
    b"X: " + b"a" * 100_000,
    b"X-" + b"n" * 60_000 + b": 1",
    b"\r\n".join(b"h%d: v" % number for number in range(10_000)),
    b"\r\n".join(b"h%d: v" % number for number in range(90)),
    b"X: a\r\n folded",
    b" X: starts folded",
    b"X: a\r\n\tfolded\r\n\t: b",
    b"no colon",
    b": no name",
    b"X\0: y",
    b"X: a\0b",
    b"X: a\rb",
    b"\xff\xfe: y",
    b"Host: y",
    b"Host:",
    b"Host: a/b@c",
    b"Expect: 100-continue",
    b"Expect: 200-ok",
    b"Expect: 100-continue\r\nExpect: 100-continue",
    b"Host: [::1",
    b"Host: x, y",
    b"X-Forwarded-Host: evil.example\r\nForwarded: host=evil.example",
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: QUFBQQ==\r\nSec-WebSocket-Version: 13",
    b"Connection: close, Authorization, Host",
    b"Keep-Alive: timeout=-1, max=99999999999999999999",
    b"TE: trailers, deflate;q=0.5",
    b"Trailer: Authorization",
    b"Range: bytes=0-1,1-2,2-3",
)
NAMES = (
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "Forwarded",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "Origin",
    "X-Forwarded-For",
    "X-Request-ID",
    "X-Request-Timeout",
    "storekeep-position",
    "traceparent",
)
VALUES = (
    b"",
    b'"',
    b"\xff\xc3",
    b"a" * 6_000,
    b"9" * 400,
    b"-1",
    b"NaN",
    b'"%ff"',
    b"*",
    b",;q=,;" * 50,
    b"1\r\n%s: 2",
    b"a\x01b",
    b"%0d%0aX: y",
)
ROUTES = (
    b"POST /v1/orders:place",
    b"POST /v1/products",
    b"PATCH /v1/products/none",
    b"POST /v1/auth:issueToken",
    b"GET /v1/events:watch",
)
BODIES = (
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b'{"lines":[' + b'{"lines":[' * 40 + b"]}" * 41,
    b"[]" * 30_000,
    b'{"quantity":' + b"9" * 5_000 + b"}",
    b'{"quantity":1e999999999999}',
    b'{"lines":[{"quantity":1e400}]}',
    "{}".encode("utf-16"),
    b"{\0}\0",
    b'{"lines":[],"__proto__":{"lines":[{}]}}',
    b'{"quantity":-1e-999999999999}',
    b'{"lines":[{"quantity":1.0000000000000000000000000000001}]}',
    b'{"lines":[{"quantity":"NaN"}]}',
    b'{"a":NaN}',
    b"-",
    b"1e",
    b"\xef\xbb\xbf{}",
    b'{"a":"\xff"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"customer":"\\ud800"}',
    b'{"customer":"\\u0000"}',
    b'{"customer":"\0"}',
    b'{"\\u0063ustomer":"a","customer":"b"}',
    b'{"customer":"' + b"\\u00e4" * 10_000 + b'"}',
    b'{"customer":"unfinished',
    b"{}{}",
    b"{} x",
    b"null",
    b"[]",
    b'"text"',
    b'{"__proto__":{},"constructor":1}',
    b'{"lines":' + b"[{}," * 5_000,
    b'{"lines":[' + b"{}," * 15_000 + b"{}]}",
    b'{"labels":{' + b",".join(b'"k%d":"v"' % number for number in range(4_000)) + b"}}",
)
GZIPS = (
    b"\x1f\x8b",
    gzip.compress(b"{}", mtime=0)[:-4],
    gzip.compress(b"{}", mtime=0) * 2,
    gzip.compress(b"{}", mtime=0) + b"x",
    gzip.compress(bytes(30_000_000), mtime=0),
    gzip.compress(gzip.compress(bytes(1_000_000), mtime=0), mtime=0),
    b"\x1f\x8b\x08" + bytes(1_000),
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
PING = b"\0\0\x08\x06\0\0\0\0\0" + bytes(8)
OPEN_HEADERS = b"\0\0\x01\x01\0\0\0\0\x01\x82"
CONTINUATION = b"\0\0\x01\x09\0\0\0\0\x01\x82"
RAPID_RESET = b"\0\0\x01\x01\x05\0\0\0\x01\x82" + b"\0\0\x04\x03\0\0\0\0\x01" + bytes(4)
HPACK_BOMB = b"\0\x40\0\x01\x05\0\0\0\x01" + b"\xbe" * 0x4000
HTTP2 = (
    PREFACE + EMPTY_SETTINGS * 10_000,
    PREFACE + EMPTY_SETTINGS + PING * 5_000,
    PREFACE + EMPTY_SETTINGS + OPEN_HEADERS + CONTINUATION * 10_000,
    PREFACE + EMPTY_SETTINGS + RAPID_RESET * 3_000,
    PREFACE + EMPTY_SETTINGS + HPACK_BOMB * 10,
)
"""HTTP/2 with prior knowledge, and its floods. The gateway speaks HTTP/1.1 only, so none is more than bytes to it."""


@dataclass(frozen=True)
class Outcome:
    """What the gateway answered: the statuses of all replies on the connection, and its last bytes."""

    statuses: tuple[int, ...]
    tail: bytes


def send(address: tuple[str, int], request: bytes) -> Outcome:
    """Send a hostile request and a valid one behind it, and read until the gateway closes the connection.

    Raises: TimeoutError if it stays open.
    """
    received = b""
    with socket.create_connection(address, timeout=READ_TIMEOUT_S) as connection:
        with suppress(ConnectionError):
            connection.sendall(request + END)
        with suppress(ConnectionError):
            while data := connection.recv(65_536):
                received += data
    statuses = (int(status) for status in STATUS.findall(received))
    return Outcome(tuple(status for status in statuses if status != CONTINUE), received[-300:])


def list_requests(key: str, *, number: int, seed: int) -> Iterator[tuple[bytes, int]]:
    """Return hostile requests, each with the largest number of replies that it and the valid one behind it may get.

    Args:
        key: API key.
        number: number of requests: all shapes that are listed here, then random changes of them.
        seed: seed of the random changes.
    """
    bearer = f"Host: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n".encode()
    shapes = [(request, 2) for request in _list_shapes(bearer)]
    shapes += [(request, 2) for request in _list_smuggling(bearer)]
    shapes.append((b"".join(b"GET /v1/products/none HTTP/1.1\r\n" + bearer + b"\r\n" for _ in range(50)), 51))
    chance = random.Random(seed)
    chance.shuffle(shapes)
    yield from shapes[:number]
    for _ in range(number - len(shapes)):
        request, replies = chance.choice(shapes)
        for _ in range(chance.randint(1, 4)):
            request = chance.choice(CHANGES)(chance, request[:4_000])
        yield request, max(replies, request.count(b"HTTP/1.") + 1)


def _list_smuggling(bearer: bytes) -> Iterator[bytes]:
    """Return requests whose length two parsers may read differently, each with a request hidden in the body."""
    body = b"2\r\n{}\r\n0\r\n\r\n" + SMUGGLED
    pairs = itertools.product(ENCODING_NAMES, ENCODINGS, LENGTHS)
    for number, (name, encoding, length) in enumerate(pairs):
        if number % 4 and name != ENCODING_NAMES[0]:  # a quarter of the rarer spellings
            continue
        lines = f"{name}: {encoding}\r\n" + (f"Content-Length: {length}\r\n" if length else "")
        is_plain = name in VALID_NAMES and encoding.strip(" \t").lower() == "chunked" and not length
        if not is_plain:
            yield b"POST /v1/orders:place HTTP/1.1\r\n" + bearer + lines.encode("latin-1") + b"\r\n" + body


def _list_shapes(bearer: bytes) -> Iterator[bytes]:
    for chunk in CHUNKS:
        yield b"POST /v1/orders:place HTTP/1.1\r\n" + bearer + b"Transfer-Encoding: chunked\r\n\r\n" + chunk
    for target in TARGETS:
        yield b"GET " + target + b" HTTP/1.1\r\n" + bearer + b"\r\n"
    for version in VERSIONS:
        yield b"GET /v1/products/none" + version + b"\r\n" + bearer + b"\r\n"
    for header in HEADERS:
        yield b"GET /v1/products/none HTTP/1.1\r\n" + bearer + header + b"\r\n\r\n"
        yield _frame(ROUTES[0], bearer + header + b"\r\n", b"{}")
    for name, value in itertools.product(NAMES, VALUES):
        kept = b"Host: x\r\n" if name == "Authorization" else bearer
        line = name.encode() + b": " + value.replace(b"%s", name.encode()) + b"\r\n"
        yield _frame(ROUTES[0], kept + line, b"{}")
    for route, body in itertools.product(ROUTES, BODIES):
        yield _frame(route, bearer, body)
    for body in GZIPS:
        yield _frame(ROUTES[0], bearer + b"Content-Encoding: gzip\r\n", body)
    yield from (
        PREFACE,
        *HTTP2,
        b"\x16\x03\x01\x02\x00\x01\x00",
        bytes(5_000),
        b"\r\n" * 5_000,
        b"GET /v1/products\r\n",
    )
    yield b"GET /v1/products HTTP/1.1\n" + bearer.replace(b"\r\n", b"\n") + b"\n"
    yield b"GET /v1/products HTTP/1.1\r" + bearer.replace(b"\r\n", b"\r") + b"\r"


def _frame(route: bytes, headers: bytes, body: bytes) -> bytes:
    return route + b" HTTP/1.1\r\n" + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


Change = Callable[[random.Random, bytes], bytes]


def _flip(chance: random.Random, request: bytes) -> bytes:
    place = chance.randrange(len(request) or 1)
    return request[:place] + bytes([chance.randrange(256)]) + request[place + 1 :]


def _insert(chance: random.Random, request: bytes) -> bytes:
    place = chance.randrange(len(request) + 1)
    return (
        request[:place]
        + chance.choice((b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\xff", b"%", b"{", b'"'))
        + request[place:]
    )


def _repeat(chance: random.Random, request: bytes) -> bytes:
    start = chance.randrange(len(request) or 1)
    part = request[start : start + chance.randrange(200)]
    return request[:start] + part + request[start:]


def _cut(chance: random.Random, request: bytes) -> bytes:
    start = chance.randrange(len(request) or 1)
    return request[:start] + request[start + chance.randrange(50) :]


CHANGES: tuple[Change, ...] = (_flip, _insert, _repeat, _cut)
