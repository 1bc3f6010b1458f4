"""Server streams as newline-delimited JSON or as server-sent events (`text/event-stream`).

Each message is a line, or an event whose id is the message's cursor field. A browser that reconnects sends the last
one as `Last-Event-ID`. An error after the first byte is the last line, or an event `error`. An idle stream
gets an empty line or a comment now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from storekeep.gateway.errors import MALFORMED, UNKNOWN_PATH, build_error_reply, from_rpc_error

HEARTBEAT_S = 15.0
"""Interval of signs of life in an idle stream, in seconds: proxies close connections that are silent for a minute."""
CURSORS = ("resume_token", "event_id", "sequence", "cursor")
"""Names of the field of a streamed message that says where to resume, by precedence."""
RESUMES = ("resume_token", "last_event_id", "after_sequence", "start_after", "cursor")
"""Names of the field of the request that takes it."""
EVENT_STREAM = "text/event-stream"
NDJSON = "application/x-ndjson"

Send = Callable[[bytes], Awaitable[None]]
Encode = Callable[[bytes], bytes]


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


async def write_stream(
    stream: Any, send: Send, *, encode: Encode, output: type[Message], as_events: bool, request_id: str
) -> None:
    """Write the messages of a stream until it ends.

    Args:
        stream: a streaming call of `grpc.aio`; its messages are on the wire.
        send: writes bytes to the client; raises OSError if it is gone.
        encode: converts a message to JSON.
        output: class of the messages.
        as_events: write server-sent events instead of lines.
        request_id: request id of an error.
    """
    cursor = find_field(output.DESCRIPTOR, CURSORS) if as_events else ""
    pending: asyncio.Task[Any] | None = None
    try:
        while True:
            pending = pending or asyncio.create_task(stream.read())
            done, _ = await asyncio.wait({pending}, timeout=HEARTBEAT_S)
            if not done:
                await send(b": idle\n\n" if as_events else b"\n")
                continue
            message, pending = pending.result(), None
            if message is grpc.aio.EOF:
                return
            line = encode(message)
            event_id = str(getattr(output.FromString(message), cursor)) if cursor else ""
            await send(_format_event(line, event_id) if as_events else line + b"\n")
    except grpc.aio.AioRpcError as error:
        body, _ = build_error_reply(from_rpc_error(error), request_id=request_id)
        await send(b"event: error\ndata: " + body + b"\n\n" if as_events else body + b"\n")
    finally:
        stream.cancel()
        if pending is not None:
            pending.cancel()


def _format_event(line: bytes, event_id: str) -> bytes:
    head = b"id: " + event_id.encode() + b"\n" if event_id else b""
    return head + b"data: " + line + b"\n\n"
