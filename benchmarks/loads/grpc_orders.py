"""A process that keeps a number of PlaceOrder calls in flight, each with its own `request_id` and three random SKUs.

Requests are put together from serialised parts, and answers are only parsed when they are in the sample, so that the
load costs its core as little as a Python client can. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import time
import uuid

import grpc.aio

from benchmarks import catalogue
from benchmarks.loads.load import LINES, SAMPLE_EVERY, Tally
from storekeep.v1 import orders_pb2

PLACE_ORDER = "/storekeep.v1.OrderService/PlaceOrder"
DEADLINE_S = 30.0


class Requests:
    """Serialised requests: their fields may follow each other in any order."""

    def __init__(self) -> None:
        self._lines = [
            orders_pb2.PlaceOrderRequest(lines=[orders_pb2.PlaceOrderLine(sku=sku, quantity=1)]).SerializeToString()
            for sku in catalogue.skus()
        ]
        self._heads = [
            orders_pb2.PlaceOrderRequest(
                customer=f"customers/{customer}", currency_code=catalogue.CURRENCY
            ).SerializeToString()
            for customer in catalogue.customer_ids()
        ]

    def make(self) -> bytes:
        """The next request."""
        request_id = str(uuid.UUID(bytes=os.urandom(16), version=4))
        tail = orders_pb2.PlaceOrderRequest(request_id=request_id).SerializeToString()
        return b"".join((random.choice(self._heads), *random.sample(self._lines, LINES), tail))


def check(answer: bytes) -> None:
    """Refuse an answer that is not the order that was asked for.

    Raises: ValueError.
    """
    order = orders_pb2.Order.FromString(answer)
    total_minor = sum(line.subtotal.units * 100 + line.subtotal.nanos // 10_000_000 for line in order.lines)
    good = (
        order.name.startswith("orders/")
        and order.state == orders_pb2.ORDER_STATE_PLACED
        and len(order.lines) == LINES
        and total_minor == order.total.units * 100 + order.total.nanos // 10_000_000
        and total_minor > 0
    )
    if not good:
        raise ValueError(f"this is not the order: {order}")


async def keep_calling(address: str, token: str, *, seconds: float, in_flight: int) -> Tally:
    """Call until the time is over, then wait for what is in flight.

    Raises: grpc.RpcError, ValueError.
    """
    requests, tally = Requests(), Tally()
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
                    check(answer)

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
    options = parser.parse_args()
    calling = keep_calling(options.address, options.token, seconds=options.seconds, in_flight=options.in_flight)
    print(asyncio.run(calling).to_json())


if __name__ == "__main__":
    main()
