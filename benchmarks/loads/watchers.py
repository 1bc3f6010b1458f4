"""A load process with watchers of events. It measures how old each event is when a watcher gets it.

Prints `ready` when all streams are open, and one line of JSON at the end. An event counts from the start of its
transaction, so its age includes the commit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from array import array
from collections.abc import Callable

import grpc.aio

from storekeep.v1 import events_pb2 as pb

WATCH = "/storekeep.v1.EventService/WatchEvents"
STREAMS_PER_CONNECTION = 500
OPENED_TOGETHER = 50
ATTEMPTS_MAX = 50
RETRY_AFTER_S = 0.1
"""Streams that a busy server rejects are opened again."""
QUANTILES = {"p50_ms": 0.5, "p99_ms": 0.99}
OWN_CHANNEL = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))

Call = Callable[..., grpc.aio.UnaryStreamCall[bytes, bytes]]


class Watchers:
    """Watchers of one server.

    Args:
        request: the request of each stream, on the wire.
        events_max: end each stream after this many events; 0 for no limit.
    """

    def __init__(self, address: str, token: str, request: bytes, *, count: int, events_max: int) -> None:
        self._address = address
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._request = request
        self._count = count
        self._events_max = events_max
        self.events = 0
        self.ages_ms = array("d")

    async def run(self, seconds: float) -> float:
        """Open all streams, and read them for some seconds or to their last event. Return how long that took."""
        channels = [
            grpc.aio.insecure_channel(self._address, options=OWN_CHANNEL)
            for _ in range(-(-self._count // STREAMS_PER_CONNECTION))
        ]
        calls = [channels[index % len(channels)].unary_stream(WATCH) for index in range(self._count)]
        streams: list[grpc.aio.UnaryStreamCall[bytes, bytes]] = []
        for first in range(0, self._count, OPENED_TOGETHER):
            streams += await asyncio.gather(*map(self._open, calls[first : first + OPENED_TOGETHER]))
        print("ready", flush=True)
        began_s = time.monotonic()
        reading = [asyncio.create_task(self._read(stream)) for stream in streams]
        await asyncio.wait(reading, timeout=seconds)
        took_s = time.monotonic() - began_s
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for channel in channels:
            await channel.close()
        return took_s

    async def _open(self, call: Call) -> grpc.aio.UnaryStreamCall[bytes, bytes]:
        """Open a stream, and read its first response."""
        for attempt in range(ATTEMPTS_MAX):
            stream = call(self._request, metadata=self._metadata)
            try:
                await stream.read()
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED or attempt == ATTEMPTS_MAX - 1:
                    raise
                await asyncio.sleep(RETRY_AFTER_S)
            else:
                return stream
        raise AssertionError

    async def _read(self, stream: grpc.aio.UnaryStreamCall[bytes, bytes]) -> None:
        read = 0
        while not self._events_max or read < self._events_max:
            data = await stream.read()
            if data is grpc.aio.EOF:
                return
            now_ns = time.time_ns()
            events = pb.WatchEventsResponse.FromString(data).events
            read += len(events)
            self.events += len(events)
            if not self._events_max:
                self.ages_ms.extend((now_ns - event.create_time.ToNanoseconds()) / 1e6 for event in events)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--watchers", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--kept", type=int, default=0, help="read this many kept events, from the oldest")
    parser.add_argument("--omit-content", action="store_true")
    options = parser.parse_args()
    request = pb.WatchEventsRequest(omit_content=options.omit_content)
    if options.kept:
        request.start_time.SetInParent()
    watchers = Watchers(
        options.address,
        options.token,
        request.SerializeToString(),
        count=options.watchers,
        events_max=options.kept,
    )
    seconds = asyncio.run(watchers.run(options.seconds))
    ages_ms = sorted(watchers.ages_ms)
    quantiles = {name: ages_ms[int(len(ages_ms) * share)] if ages_ms else 0.0 for name, share in QUANTILES.items()}
    sys.stdout.write(json.dumps({"events": watchers.events, "seconds": seconds, **quantiles}) + "\n")


if __name__ == "__main__":
    main()
