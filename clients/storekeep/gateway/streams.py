"""Server streams as newline-delimited JSON or as server-sent events (`text/event-stream`).

Each message, or each item of a message with a list, is a line, or an event whose id is its cursor field. A browser that
reconnects sends the last one as `Last-Event-ID`. A message without items is a line with its cursor, or a comment with
that id. An error after the first byte is the last line, or an event `error`. An idle stream gets an empty line or a
comment now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from storekeep.gateway.errors import INTERNAL, MALFORMED, UNKNOWN_PATH, Refused, build_error_reply, from_rpc_error
from storekeep.gateway.invalid_json import UnwritableMessage
from storekeep.gateway.json_codec import JsonCodec

HEARTBEAT_S = 15.0
"""Interval of signs of life in an idle stream, in seconds: proxies close connections that are silent for a minute."""
CURSORS = ("resume_token", "event_id", "sequence", "cursor")
"""Names of the field of a streamed message that says where to resume, by precedence."""
RESUMES = ("resume_token", "last_event_id", "after_sequence", "start_after", "cursor")
"""Names of the field of the request that takes it."""
START = "start_time"
"""Name of the field of the request that says where to start without a cursor. The server refuses both together."""
EVENT_STREAM = "text/event-stream"
NDJSON = "application/x-ndjson"

Send = Callable[[bytes], Awaitable[None]]
Encode = Callable[[bytes], bytes]
Reopen = Callable[[grpc.aio.AioRpcError, str], Awaitable[Any]]
"""Returns the call that continues a stream, given its error and its last cursor; None if the error is final."""


def find_field(message: Any, names: tuple[str, ...]) -> str:
    """Return the first of the names that is a field of the message; empty if none is."""
    return next((name for name in names if name in message.fields_by_name), "")


def resume(request: Message, last_event_id: str) -> None:
    """Set where a stream resumes.

    Raises: Refused if the stream cannot resume, or the id is none of it.
    """
    owner: Any = request
    name = find_field(request.DESCRIPTOR, RESUMES)
    if not name:
        raise UNKNOWN_PATH.make("this stream cannot be resumed; leave Last-Event-ID out")
    try:
        setattr(owner, name, type(getattr(owner, name))(last_event_id))
    except (TypeError, ValueError):
        raise MALFORMED.make("Last-Event-ID is not an id of this stream") from None
    if START in request.DESCRIPTOR.fields_by_name:
        owner.ClearField(START)


class StreamFormat:
    """How the messages of a stream are written.

    Args:
        output: class of the messages.
        encode: converts a message on the wire to JSON.
        as_events: write server-sent events instead of lines.
    """

    def __init__(self, output: type[Message], encode: Encode, *, as_events: bool) -> None:
        self._output = output
        self._encode = encode
        self._as_events = as_events
        self._items = find_items(output.DESCRIPTOR)
        self._cursor = find_field(output.DESCRIPTOR, CURSORS)
        if self._items is not None:
            self._item_cursor = find_field(self._items.message_type, CURSORS)
            self._codec = JsonCodec(self._items.message_type, writes_zeros=False)

    def format(self, data: bytes) -> tuple[bytes, str]:
        """Return the text of a message, and its cursor, empty if it has none.

        Raises: Refused if JSON cannot express it.
        """
        message = self._output.FromString(data)
        cursor = str(getattr(message, self._cursor)) if self._cursor else ""
        if self._items is None:
            return self._format(self._encode(data), cursor), cursor
        items = getattr(message, self._items.name)
        if not items:
            heartbeat = b": heartbeat\nid: " + cursor.encode() + b"\n\n"
            return heartbeat if self._as_events else self._encode(data) + b"\n", cursor
        return b"".join(self._format_item(item) for item in items), cursor

    def _format_item(self, item: Any) -> bytes:
        try:
            line = self._codec.encode(item)
        except UnwritableMessage as error:
            raise INTERNAL.make(str(error)) from None
        return self._format(line, str(getattr(item, self._item_cursor)) if self._item_cursor else "")

    def _format(self, line: bytes, event_id: str) -> bytes:
        if not self._as_events:
            return line + b"\n"
        head = b"id: " + event_id.encode() + b"\n" if event_id else b""
        return head + b"data: " + line + b"\n\n"

    def format_error(self, body: bytes) -> bytes:
        """Return the text of an error that ends the stream."""
        return b"event: error\ndata: " + body + b"\n\n" if self._as_events else body + b"\n"

    @property
    def sign_of_life(self) -> bytes:
        """What an idle stream gets now and then."""
        return b": idle\n\n" if self._as_events else b"\n"


def find_items(message: Any) -> Any:
    """Return the field of a message that is its only list of messages; None if there is none."""
    lists = [field for field in message.fields if field.is_repeated and field.message_type is not None]
    return lists[0] if len(lists) == 1 else None


async def write_stream(
    stream: Any, send: Send, *, first: Any, form: StreamFormat, request_id: str, reopen: Reopen
) -> None:
    """Write the messages of a stream until it ends.

    Args:
        stream: a streaming call of `grpc.aio`; its messages are on the wire.
        send: writes bytes to the client; raises OSError if it is gone.
        first: the first message, which was read from the stream.
        form: how they are written.
        request_id: request id of an error.
        reopen: continues the stream after some errors.
    """
    message, cursor = first, ""
    pending: asyncio.Task[Any] | None = None
    try:
        while message is not grpc.aio.EOF:
            text, following = form.format(message)
            cursor = following or cursor
            await send(text)
            pending = asyncio.create_task(stream.read())
            while not (await asyncio.wait({pending}, timeout=HEARTBEAT_S))[0]:
                await send(form.sign_of_life)
            try:
                message = pending.result()
            except grpc.aio.AioRpcError as error:
                continued = await reopen(error, cursor) if cursor else None
                if continued is None:
                    raise
                stream = continued
                message = await stream.read()
    except (grpc.aio.AioRpcError, Refused) as error:
        refused = error if isinstance(error, Refused) else from_rpc_error(error)
        body, _ = build_error_reply(refused, request_id=request_id)
        await send(form.format_error(body))
    finally:
        stream.cancel()
        if pending is not None:
            pending.cancel()
