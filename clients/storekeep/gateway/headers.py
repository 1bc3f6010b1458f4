"""Headers: what a request says beyond its path and body, and what each reply says beyond its content."""

from __future__ import annotations

import gzip
import re
import uuid
import zlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import uuid_utils
from google.protobuf.message import Message

from storekeep.gateway.credentials import parse_credential
from storekeep.gateway.errors import INVALID_FIELD, MALFORMED, TOO_LARGE, UNSUPPORTED_TYPE, Header
from storekeep.gateway.hosts import is_authority
from storekeep.gateway.routes import Route

IDEMPOTENCY_KEY_CHARS_MAX = 255
IDEMPOTENCY_NAMESPACE = uuid.UUID("6f1c8e0a-52c6-5a53-9b7e-0d6f6a0c3f5e")
"""Namespace of the request ids that are derived from `Idempotency-Key`. A change would give retries a second effect."""
CONSISTENCY_KEY = "storekeep-position"
REPLAYED_KEY = "storekeep-replayed"
FORWARDED_KEYS = ("traceparent", CONSISTENCY_KEY)
"""Request headers that are forwarded unchanged as metadata."""
LANGUAGE_KEY = "accept-language"
LANGUAGES_LENGTH_MAX = 1_000
"""The most characters of `Accept-Language`. A longer one counts as none, as it does for the server."""
GZIP_BYTES_MIN = 1_024
"""Replies below this size are not compressed: it would make them larger, or hardly smaller."""
GZIP_LEVEL = 1
"""Level 1 costs a third of the CPU time of the default, level 6, and JSON becomes hardly larger."""
GZIP_WBITS = zlib.MAX_WBITS | 16
REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
TIMEOUT = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)s?")
ETAG = re.compile(r'"([\x21\x23-\x7e]{1,192})"')
"""An etag in quotes. It is three times as long as the longest of the contract if each character is percent-encoded."""
ETAG_SAFE = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""Characters of an etag that a header can have, besides letters and digits; `%` starts an encoded one."""
ETAG_SEPARATOR = ";"
"""Separates the etag of a resource from what else is special about the reply in the header `ETag`: its language and its
coding, as in `"v3;de;gzip"`. A strong etag belongs to the bytes of one reply (RFC 9110, 8.8.3)."""
PRIVATE: tuple[Header, ...] = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""Headers of every reply. A GET with an ETag says `private, no-cache` instead of `no-store`, so that it can be
revalidated."""
REVALIDATE: Header = (b"cache-control", b"private, no-cache")
CLOSE: Header = (b"connection", b"close")
VARY: Header = (b"vary", b"Authorization, Accept-Encoding, Accept-Language")


@dataclass(slots=True)
class RequestHeaders:
    """The headers of one request.

    Args:
        raw: names and values as the HTTP server gives them, names in lower case.
    """

    raw: list[Header]

    def get(self, name: str) -> str | None:
        """Return the value of a header; None without it.

        Raises: Refused if it appears more than once or is no text.
        """
        key = name.encode()
        values = [value for found, value in self.raw if found == key]
        if not values:
            return None
        if len(values) > 1:
            raise MALFORMED.make(f"the header {name} appears more than once")
        try:
            return values[0].decode("ascii")
        except UnicodeDecodeError:
            raise MALFORMED.make(f"the header {name} is not ASCII") from None

    def join(self, name: str) -> str:
        """Return the value of a header that is a list, which may stand on several lines (RFC 9110, 5.3)."""
        key = name.encode()
        return b",".join(value for found, value in self.raw if found == key).decode("latin-1")

    def accepts(self, media_type: str) -> bool:
        """Return whether `Accept` names a media type."""
        return media_type in self.join("accept").lower()

    def check_framing(self) -> None:
        """Refuse a body whose length a proxy in front may have read differently. The connection is then closed.

        Raises: Refused.
        """
        encodings = [value for name, value in self.raw if name == b"transfer-encoding"]
        if not encodings:
            return
        has_length = any(name == b"content-length" for name, _ in self.raw)
        if has_length or len(encodings) > 1 or encodings[0].strip().lower() != b"chunked":
            text = "the length of the body is ambiguous: send Content-Length, or Transfer-Encoding: chunked"
            raise MALFORMED.make(text, headers=[CLOSE])

    def check_host(self, http_version: str) -> None:
        """Refuse a request without one valid `Host` (RFC 9112, 3.2): a proxy in front may have read another one.

        Granian gives a request without one an empty one, which HTTP/1.0 allows.

        Raises: Refused.
        """
        hosts = [value for name, value in self.raw if name == b"host"]
        is_valid = len(hosts) == 1 and (
            is_authority(hosts[0].decode("latin-1")) or (not hosts[0] and http_version == "1")
        )
        if not is_valid:
            raise MALFORMED.make("send one Host header, such as example.com:8080", headers=[CLOSE])

    def find_request_id(self) -> str:
        """Return the request id that the caller chose, or a new one."""
        chosen = next((value for name, value in self.raw if name == b"x-request-id"), b"").decode("latin-1")
        return chosen if REQUEST_ID.fullmatch(chosen) else str(uuid_utils.uuid7())

    def get_credential(self) -> str:
        """Return the credential of `Authorization`; empty without it. Raises: Refused."""
        return parse_credential(self.get("authorization"))

    def get_timeout_s(self, *, longest_s: float) -> float:
        """Return the deadline in seconds: `X-Request-Timeout`, and at most `longest_s`. Raises: Refused."""
        text = self.get("x-request-timeout")
        if text is None:
            return longest_s
        match = TIMEOUT.fullmatch(text)
        if match is None or float(match[1]) <= 0:
            raise MALFORMED.make("X-Request-Timeout is a number of seconds above 0, such as 2.5")
        return min(float(match[1]), longest_s)

    def list_metadata(self, *, request_id: str, token: str) -> list[tuple[str, str]]:
        """Return the metadata of the call. Raises: Refused."""
        metadata = [("x-request-id", request_id)]
        if token:
            metadata.append(("authorization", f"Bearer {token}"))
        for key in FORWARDED_KEYS:
            if (value := self.get(key)) is not None and value.isprintable():
                metadata.append((key, value))
        if languages := self._list_languages():
            metadata.append((LANGUAGE_KEY, languages))
        return metadata

    def _list_languages(self) -> str:
        """Return `Accept-Language`. A malformed one counts as none."""
        text = self.join(LANGUAGE_KEY)
        return text if len(text) <= LANGUAGES_LENGTH_MAX and text.isascii() and text.isprintable() else ""

    def derive_request_id(self) -> str:
        """Return the `request_id` of `Idempotency-Key`; empty without it.

        The server keeps request ids apart by caller and method, so the same key of two callers never collides.

        Raises: Refused if it is empty, too long or not printable.
        """
        key = self.get("idempotency-key")
        if key is None:
            return ""
        if not 0 < len(key) <= IDEMPOTENCY_KEY_CHARS_MAX or not key.isprintable():
            raise MALFORMED.make(f"Idempotency-Key has 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable characters")
        return str(uuid.uuid5(IDEMPOTENCY_NAMESPACE, key))

    def get_condition(self) -> str:
        """Return the etag of `If-Match`; empty without it, or if any version will do. Raises: Refused."""
        text = self.get("if-match")
        if text is None or text.strip() == "*":
            return ""
        match = ETAG.fullmatch(text.strip())
        if match is None:
            raise MALFORMED.make('If-Match is one strong etag in quotes, such as "v3"')
        try:
            return unquote(match[1].partition(ETAG_SEPARATOR)[0], errors="strict")
        except UnicodeDecodeError:
            raise MALFORMED.make("If-Match is not percent-encoded UTF-8") from None

    def matches_none(self, etag: str) -> bool:
        """Return whether `If-None-Match` names an etag, so that the caller has the current version."""
        text = self.join("if-none-match")
        return text.strip() == "*" or quote(etag, safe=ETAG_SAFE) in ETAG.findall(text)

    def is_compressed(self, body: bytes) -> bool:
        """Return whether the reply with this body is sent as gzip."""
        return len(body) >= GZIP_BYTES_MIN and self._accepts_gzip()

    def _accepts_gzip(self) -> bool:
        text = self.join("accept-encoding").lower()
        parts = [part.replace(" ", "").partition(";q=") for part in text.split(",")]
        weights = {name: weight for name, _, weight in parts}
        return weights.get("gzip", weights.get("*", "0")) not in ("0", "0.0", "0.00", "0.000")

    def decompress(self, body: bytes, *, size_max_bytes: int) -> bytes:
        """Return the body without its `Content-Encoding`. At most `size_max_bytes` are ever decompressed.

        Raises: Refused.
        """
        coding = (self.get("content-encoding") or "identity").strip().lower()
        if coding == "identity":
            return body
        if coding not in ("gzip", "x-gzip"):
            raise UNSUPPORTED_TYPE.make("Content-Encoding is gzip or identity", headers=[(b"accept-encoding", b"gzip")])
        decompressor = zlib.decompressobj(GZIP_WBITS)
        try:
            plain = decompressor.decompress(body, size_max_bytes + 1)
        except zlib.error:
            raise MALFORMED.make("the body is not valid gzip") from None
        if len(plain) > size_max_bytes:
            raise TOO_LARGE.make(f"the body has more than {size_max_bytes} bytes when decompressed")
        if not decompressor.eof or decompressor.unused_data:
            raise MALFORMED.make("the body is not one complete gzip stream")
        return plain

    def check_json(self) -> None:
        """Refuse a body that is not JSON in UTF-8. Other parameters of the type mean nothing. Raises: Refused."""
        kind, *parameters = (self.get("content-type") or "").lower().split(";")
        pairs = [parameter.partition("=") for parameter in parameters]
        charsets = {value.strip().strip('"') for name, _, value in pairs if name.strip() == "charset"}
        if kind.strip() != "application/json" or not charsets <= {"utf-8"}:
            raise UNSUPPORTED_TYPE.make("send the body with Content-Type: application/json", headers=[ACCEPT])


ACCEPT: Header = (b"accept", b"application/json")


def format_etag(etag: str) -> Header:
    """Return the header `ETag`. What a header cannot have is percent-encoded, and `If-Match` is decoded."""
    return b"etag", f'"{quote(etag, safe=ETAG_SAFE)}"'.encode()


def mark_compressed(etag: str) -> str:
    """Return the etag of a compressed reply: the same resource has another one if it is sent as it is."""
    return f"{etag}{ETAG_SEPARATOR}gzip"


def compress(body: bytes) -> bytes:
    """Return a body as gzip, the same for the same body."""
    return gzip.compress(body, GZIP_LEVEL, mtime=0)


def build_etag(message: Message) -> str:
    """Return the etag of a reply; empty without one.

    Each language has its own. Otherwise a browser whose user has changed the language would revalidate its copy in the
    old language, and keep it.
    """
    owner: Any = message
    fields = message.DESCRIPTOR.fields_by_name
    etag: str = owner.etag if "etag" in fields else ""
    if etag and "language_code" in fields and owner.language_code:
        return f"{etag}{ETAG_SEPARATOR}{owner.language_code}"
    return etag


def takes_etag(route: Route) -> bool:
    """Return whether a request can have an etag: in a field of its own, or as a PATCH in the resource.

    The etag in the resource of another request, such as one that creates it, is not compared with anything.
    """
    request = route.rpc.input_type
    body = request.fields_by_name.get(route.body)
    resource = body.message_type if body is not None and route.http_method == "PATCH" else None
    return any(message is not None and "etag" in message.fields_by_name for message in (request, resource))


def set_request_id(request: Message, request_id: str) -> None:
    """Set the `request_id` of a mutation. Other requests have none and stay unchanged.

    Raises: Refused if the body has another one.
    """
    if not request_id or "request_id" not in request.DESCRIPTOR.fields_by_name:
        return
    owner: Any = request
    if owner.request_id not in ("", request_id):
        raise INVALID_FIELD.make("send either Idempotency-Key or requestId", field="requestId")
    owner.request_id = request_id


def set_condition(request: Message, etag: str, *, route: Route) -> None:
    """Set the etag that the call requires: the request's own, or that of the resource that it changes.

    Raises: Refused if the request has another etag, or none that the server compares.
    """
    if not takes_etag(route):
        raise INVALID_FIELD.make("this request has no etag, so it cannot have an If-Match", field="etag")
    owner: Any = request
    if "etag" not in owner.DESCRIPTOR.fields_by_name:
        owner = getattr(owner, route.body)
    if owner.etag not in ("", etag):
        raise INVALID_FIELD.make("the body has another etag than If-Match", field="etag")
    owner.etag = etag
