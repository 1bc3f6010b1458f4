"""A load process that keeps PlaceOrder calls in flight, each with its own `request_id` and three random SKUs.

Requests are joined from serialised parts and only a sample of replies is parsed, to keep the cost of the load low.
Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import grpc.aio

from benchmarks.loads.load import LINES, SAMPLE_EVERY, Tally
from benchmarks.loads.order_messages import PLACE_ORDER, Requests, check

DEADLINE_S = 30.0


async def keep_calling(address: str, token: str, *, seconds: float, in_flight: int, requests: Requests) -> Tally:
    """Send calls for `seconds`, then wait for the calls in flight.

    Args:
        requests: builds the requests.

    Raises: grpc.RpcError; ValueError if a reply is wrong.
    """
    tally = Tally()
    metadata = (("authorization", f"Bearer {token}"),)
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PLACE_ORDER)
        end = time.monotonic() + seconds

        async def one_after_another() -> None:
            while time.monotonic() < end:
                answer = await call(requests.make(), timeout=DEADLINE_S, metadata=metadata)
                tally.answered += 1
                if tally.answered % SAMPLE_EVERY == 0:
                    check(answer, lines=LINES)

        with tally:
            await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
    return tally


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--coupon", default="")
    parser.add_argument("--personal", action="store_true")
    options = parser.parse_args()
    requests = Requests(LINES, coupon=options.coupon, personal=options.personal)
    calling = keep_calling(
        options.address, options.token, seconds=options.seconds, in_flight=options.in_flight, requests=requests
    )
    print(asyncio.run(calling).to_json())


if __name__ == "__main__":
    main()
