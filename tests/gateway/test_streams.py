"""Server streams over HTTP, from a gRPC server with a service that the contract does not have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.message_factory import GetMessageClass

from tests.support.own_services import TIMEOUT_S, add_service, serve_own


def make_service() -> Any:
    """Return a service whose RPC `Watch` streams events with an id, after the one that the request names."""
    file = descriptor_pb2.FileDescriptorProto(name="watch.proto", package="watch", syntax="proto3")
    request = file.message_type.add(name="Request")
    request.field.add(name="last_event_id", json_name="lastEventId", number=1, label=1, type=9)
    event = file.message_type.add(name="Event")
    event.field.add(name="event_id", json_name="eventId", number=1, label=1, type=9)
    rpc = file.service.add(name="Service").method.add(name="Watch", server_streaming=True)
    rpc.input_type, rpc.output_type = ".watch.Request", ".watch.Event"
    rpc.options.Extensions[annotations_pb2.http].get = "/v1/events:watch"
    return add_service(file, "watch.Service")


SERVICE = make_service()
REQUEST, EVENT = (GetMessageClass(kind) for kind in (SERVICE.methods[0].input_type, SERVICE.methods[0].output_type))


class Watched:
    """The served RPC: three events after the last one, then an error, or no end for the id `open`."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    async def watch(self, data: bytes, context: Any) -> AsyncIterator[bytes]:
        last = REQUEST.FromString(data).last_event_id
        for number in range(1, 4):
            yield EVENT(event_id=str(number + int(last or 0) if last != "open" else number)).SerializeToString()
        if last != "open":
            await context.abort(grpc.StatusCode.DATA_LOSS, "lost")
        try:
            await asyncio.sleep(TIMEOUT_S)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def read_stream(port: int, *, until: bytes, **headers: str) -> bytes:
    """Send a request, and return what was received when it contains `until`; then leave."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET /v1/events:watch HTTP/1.1\r\nhost: x\r\n{lines}\r\n".encode())
    received = b""
    async with asyncio.timeout(TIMEOUT_S):
        while until not in received:
            data = await reader.read(65_536)
            assert data, received
            received += data
    writer.close()
    return received


async def watch_everything(folder: Path) -> dict[str, bytes]:
    """Serve the stream, and return what each kind of client gets."""
    watched = Watched()
    handlers = {"Watch": grpc.unary_stream_rpc_method_handler(watched.watch)}
    async with serve_own(SERVICE, handlers, folder=folder) as port:
        got = {
            "lines": await read_stream(port, until=b"lost"),
            "events": await read_stream(port, until=b"lost", accept="text/event-stream", last_event_id="7"),
            "refused": await read_stream(port, until=b"appears", last_event_id="1\r\nlast-event-id: 2"),
            "open": await read_stream(port, until=b"id: 3", accept="text/event-stream", last_event_id="open"),
        }
        await asyncio.wait_for(watched.cancelled.wait(), TIMEOUT_S)
        got["timed"] = await read_stream(port, until=b"DEADLINE", last_event_id="open", x_request_timeout="0.3")
    return got


@pytest.fixture(scope="module")
def got(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return what each kind of client gets. The stream of the last, which leaves, was cancelled at the server."""
    return asyncio.run(watch_everything(tmp_path_factory.mktemp("w")))


def test_stream_is_lines_of_json_that_end_in_the_error(got: dict[str, bytes]) -> None:
    assert b"content-type: application/x-ndjson" in got["lines"]
    assert b'{"eventId":"1"}\n' in got["lines"]
    assert b'{"eventId":"3"}\n' in got["lines"]
    assert b'{"error":{"code":500,"status":"DATA_LOSS","message":"lost"' in got["lines"]


def test_event_stream_resumes_after_the_last_event(got: dict[str, bytes]) -> None:
    assert b"content-type: text/event-stream" in got["events"]
    assert b'id: 8\ndata: {"eventId":"8"}\n\n' in got["events"]
    assert b"id: 1\n" not in got["events"]
    assert b'event: error\ndata: {"error":' in got["events"]


def test_stream_ends_at_the_deadline_of_the_client(got: dict[str, bytes]) -> None:
    assert b'{"error":{"code":504,"status":"DEADLINE_EXCEEDED"' in got["timed"]


def test_stream_is_refused_like_any_call(got: dict[str, bytes]) -> None:
    assert got["refused"].startswith(b"HTTP/1.1 400 ")
