"""A load process that sends the orders of `grpc_orders` to the HTTP peer or the gateway, one in flight per connection.

Requests are joined from encoded parts and replies are read by Content-Length, directly on asyncio, to keep the cost of
the load low. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import uuid_utils

from benchmarks import catalogue
from benchmarks.loads.load import LINES, SAMPLE_EVERY, Tally

ANSWER_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Dialect:
    """How a server spells an order.

    Attributes:
        build_start: builds the start of a body, before its lines, from a customer's id.
        request_id: the name of the field.
        check: checks that a reply is the requested order; raises ValueError if it is not.
    """

    build_start: Callable[[str], str]
    request_id: str
    check: Callable[[Any], bool]


def _build_peer_start(customer: str) -> str:
    return f'{{"customer_id":"{customer}","currency_code":"{catalogue.CURRENCY}"'


def _build_gateway_start(customer: str) -> str:
    return f'{{"customer":"customers/{customer}","currencyCode":"{catalogue.CURRENCY}"'


def _check_peer(order: Any) -> bool:
    total_minor = sum(line["subtotal_minor"] for line in order["lines"])
    return order["state"] == "PLACED" and total_minor == order["total_minor"]  # type: ignore[no-any-return]


def _check_gateway(order: Any) -> bool:
    total = sum(_read_money(line["subtotal"]) for line in order["lines"])
    return order["state"] == "ORDER_STATE_PLACED" and total == _read_money(order["total"])


def _read_money(amount: dict[str, Any]) -> int:
    """Return an amount in billionths of its currency."""
    return int(amount.get("units", 0)) * 1_000_000_000 + int(amount.get("nanos", 0))


DIALECTS = {
    "peer": Dialect(_build_peer_start, "request_id", _check_peer),
    "gateway": Dialect(_build_gateway_start, "requestId", _check_gateway),
}


class Requests:
    """Builds encoded requests."""

    def __init__(self, address: str, token: str, dialect: Dialect) -> None:
        self._head = (
            f"POST /v1/orders:place HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._dialect = dialect
        self._lines = [json.dumps({"sku": sku, "quantity": 1}) for sku in catalogue.list_skus()]
        self._customers = catalogue.list_customer_ids()

    def make(self) -> bytes:
        """Return the next request."""
        lines = ",".join(random.sample(self._lines, LINES))
        start = self._dialect.build_start(random.choice(self._customers))
        body = f'{start},"lines":[{lines}],"{self._dialect.request_id}":"{uuid_utils.uuid7()}"}}'.encode()
        return b"%s%d\r\n\r\n%s" % (self._head, len(body), body)


def check(body: bytes, dialect: Dialect) -> None:
    """Check that a reply is the requested order.

    Raises: ValueError if it is not.
    """
    order = json.loads(body)
    if len(order["lines"]) != LINES or not dialect.check(order):
        raise ValueError(f"unexpected order: {order}")


async def _read_reply(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    if not head.startswith(b"HTTP/1.1 200"):
        raise ValueError(f"{head!r} {body!r}")
    return body


async def keep_calling(address: str, token: str, *, dialect: Dialect, seconds: float, in_flight: int) -> Tally:
    """Send calls for `seconds`, then wait for the calls in flight.

    Raises: OSError; ValueError if a reply is wrong.
    """
    requests, tally = Requests(address, token, dialect), Tally()
    host, _, port = address.rpartition(":")
    connections = [await asyncio.open_connection(host, int(port)) for _ in range(in_flight)]
    end = time.monotonic() + seconds

    async def one_after_another(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while time.monotonic() < end:
            writer.write(requests.make())
            body = await asyncio.wait_for(_read_reply(reader), ANSWER_TIMEOUT_S)
            tally.answered += 1
            if tally.answered % SAMPLE_EVERY == 0:
                check(body, dialect)
        writer.close()

    with tally:
        await asyncio.gather(*(one_after_another(*connection) for connection in connections))
    return tally


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--dialect", choices=DIALECTS, default="peer")
    options = parser.parse_args()
    calling = keep_calling(
        options.address,
        options.token,
        dialect=DIALECTS[options.dialect],
        seconds=options.seconds,
        in_flight=options.in_flight,
    )
    print(asyncio.run(calling).to_json())


if __name__ == "__main__":
    main()
