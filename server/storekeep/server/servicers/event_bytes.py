"""Events on the wire. A replay of the ledger makes tens of thousands a second, so no message object is built for them.

The resource in an event is built as its own message, except for orders; see `order_bytes`.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from google.protobuf.message import Message

from storekeep.server.domain.events.cursors import make_check, write_cursors
from storekeep.server.domain.events.reading import Event
from storekeep.server.domain.orders.orders import Order, OrderLine, decode_order
from storekeep.server.domain.orders.prorating import build_price_view
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.resources import make_etag
from storekeep.server.servicers.order_bytes import LINES_CACHED, encode_line, encode_order
from storekeep.server.transport.wire import (
    LENGTH,
    SHORT,
    VARINT,
    encode_time,
    make_tag,
    write_text,
    write_varint,
)
from storekeep.v1 import events_pb2 as pb
from storekeep.v1 import orders_pb2

TEXTS_CACHED = 1_024
"""Encoded types, callers and versions that are cached."""
ANY_PREFIX = "type.googleapis.com/"
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
"""Errors of a content that another release stored in a form that this release does not read."""

_FIELDS = pb.Event.DESCRIPTOR.fields_by_name
_TYPE, _ETAG, _ACTOR = (make_tag(_FIELDS[name].number, LENGTH) for name in ("type", "etag", "actor"))
_NAME, _RESOURCE, _CONTENT, _REQUEST_ID, _CREATE_TIME, _CURSOR = (
    make_tag(_FIELDS[name].number, LENGTH)
    for name in ("name", "resource", "content", "request_id", "create_time", "cursor")
)
_RESOURCE_SEQUENCE = make_tag(_FIELDS["resource_sequence"].number, VARINT)
_FIRST_BYTES, _VALUE = make_tag(1, LENGTH), make_tag(2, LENGTH)
"""The fields of a `google.protobuf.Any`."""

Kinds = Mapping[str, tuple[type[msgspec.Struct], Callable[[Any], Message]]]
"""The noun of an event type -> the resource that its entries store, and the function that builds its message."""
Parts = tuple[bytes, ...]
"""The fields of an event for its resource; none if it has no content."""


@functools.lru_cache(TEXTS_CACHED)
def _write_head(event_type: str, actor: str) -> bytes:
    """Return the fields that events repeat, up to the tag of the name."""
    return write_text(_TYPE, event_type) + write_text(_ACTOR, actor) + _NAME


@functools.lru_cache(TEXTS_CACHED)
def _write_revision(version: int | None) -> bytes:
    """Return the fields that tell the version of a resource; None for one without versions, which never changes."""
    etag = b"" if version is None else write_text(_ETAG, make_etag(version))
    return _RESOURCE_SEQUENCE + write_varint(version or 1) + etag


OMITTED = "an event has no content, because it cannot be encoded"
log = logging.getLogger("storekeep.events")


class EventEncoder:
    """Encodes events. Thread-safe.

    Args:
        kinds: the resources in events.
        tokens: writes cursors.

    Attributes:
        omitted: how many contents could not be encoded, by noun. The log has the first of each noun.
    """

    def __init__(self, kinds: Kinds, *, tokens: PageTokens) -> None:
        self.omitted: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._tokens = tokens
        self._encoders = {noun: _make_content_encoder(kind, build) for noun, (kind, build) in kinds.items()}

    def encode(self, events: Sequence[Event], omit_content: bool = False) -> list[bytes]:
        """Return events as bytes. One whose content cannot be encoded has neither content nor etag.

        No content raises: an event that always fails would end every watcher and every replay at the same entry.
        """
        positions = [(event.sequence, make_check(event.entry_hash)) for event in events]
        cursors = write_cursors(positions, tokens=self._tokens)
        return [
            _encode_event(event, cursor, () if omit_content else self._encode_content(event))
            for event, cursor in zip(events, cursors, strict=True)
        ]

    def _encode_content(self, event: Event) -> Parts:
        try:
            return self._encoders[event.noun](event.content)
        except UNREADABLE as error:
            if self._count_omitted(event):
                log.warning(OMITTED, extra=_describe(event) | {"problem": str(error)})
            return ()
        except Exception as error:  # a fault of this release
            if self._count_omitted(event):
                log.error(OMITTED, extra=_describe(event), exc_info=error)
            return ()

    def _count_omitted(self, event: Event) -> bool:
        """Count a content that cannot be encoded. Return whether it is the first of its noun."""
        with self._lock:
            self.omitted[event.noun] += 1
            return self.omitted[event.noun] == 1


def _describe(event: Event) -> dict[str, str]:
    """Return what the log says about an event."""
    return {"event": event.name, "type": event.type}


def _encode_event(event: Event, cursor: bytes, content: Parts) -> bytes:
    """Return an event as bytes.

    Args:
        cursor: its cursor in ASCII.
        content: the fields for its resource.
    """
    name, resource, request_id = b"events/%d" % event.sequence, event.resource.encode(), event.request_id.encode()
    time = encode_time(event.create_time_us)
    parts = [
        _write_head(event.type, event.actor),
        SHORT[len(name)],
        name,
        _RESOURCE,
        SHORT[len(resource)],
        resource,
        _CREATE_TIME,
        SHORT[len(time)],
        time,
        _CURSOR,
        SHORT[len(cursor)],
        cursor,
        *content,
    ]
    if request_id:
        parts += (_REQUEST_ID, SHORT[len(request_id)], request_id)
    return b"".join(parts)


def _make_content_encoder(kind: type[msgspec.Struct], build: Callable[[Any], Message]) -> Callable[[bytes], Parts]:
    """Return the function that encodes the content of one noun.

    It raises one of UNREADABLE for a content of another release.
    """
    if kind is Order:
        return _encode_order_content
    decode = msgspec.json.Decoder(kind).decode

    def encode(content: bytes) -> Parts:
        resource = decode(content)
        message = build(resource)
        encoded = message.SerializeToString()
        return _pack(_write_type(message.DESCRIPTOR.full_name), encoded, getattr(resource, "version", None))

    return encode


def _encode_order_content(content: bytes) -> Parts:
    """Return the fields of an event for an order. Lines without price details are not decoded: most are cached.

    Raises: one of UNREADABLE.
    """
    head, start, lines = content.rpartition(LINES_START)
    if start and lines.endswith(LINES_END):
        try:
            order = decode_order(head + b"}")
            if order.pricing is None and build_price_view(order) is None:
                texts = lines[: -len(LINES_END)].split(LINES_SEPARATOR)
                encoded_lines = b"".join([_encode_line_text(order.currency_code, text) for text in texts])
                return _pack(_ORDER_TYPE, encode_order(order, with_contact=True, lines=encoded_lines), order.version)
        except UNREADABLE:
            pass  # these bytes stand in a text, or in another list
    order = decode_order(content)
    return _pack(_ORDER_TYPE, encode_order(order, with_contact=True), order.version)


LINES_START, LINES_SEPARATOR, LINES_END = b',"lines":[{', b"},{", b"}]}"
"""What the lines of an order in JSON stand between, if they are its last member. If an order with these bytes is cut
there, and all parts are JSON, no part ends within a text or another list."""
_decode_line = msgspec.json.Decoder(OrderLine).decode


@functools.lru_cache(LINES_CACHED)
def _encode_line_text(currency_code: str, text: bytes) -> bytes:
    """Return a line of an order without price details, given as the members of its JSON."""
    return encode_line(currency_code, _decode_line(b"{%b}" % text))


def _pack(type_url: bytes, encoded: bytes, version: int | None) -> Parts:
    """Return the fields of an event for a resource: its message as a `google.protobuf.Any`, and its version.

    Args:
        type_url: the first field of the `Any`.
    """
    size = write_varint(len(encoded))
    packed_size = len(type_url) + len(_VALUE) + len(size) + len(encoded)
    return _CONTENT, write_varint(packed_size), type_url, _VALUE, size, encoded, _write_revision(version)


@functools.lru_cache(TEXTS_CACHED)
def _write_type(name: str) -> bytes:
    """Return the field of an `Any` that names the type of its message."""
    return write_text(_FIRST_BYTES, ANY_PREFIX + name)


_ORDER_TYPE = _write_type(orders_pb2.Order.DESCRIPTOR.full_name)
