"""The client: one channel to a server, one attribute per noun, safe to share between threads.

What is not given comes from the environment: `STOREKEEP_ADDRESS` and `STOREKEEP_API_KEY`. Make it after a fork,
never before: gRPC does not survive one.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from storekeep.client.attempts import RetryBudget
from storekeep.client.audit import Audit
from storekeep.client.auth import Auth
from storekeep.client.calls import Calls
from storekeep.client.categories import Categories
from storekeep.client.channels import DEFAULT_ADDRESS, Tls, find_proxy, open_channel, with_port
from storekeep.client.customers import Customers
from storekeep.client.errors import InvalidSettings
from storekeep.client.fulfillments import Fulfillments
from storekeep.client.health import Health
from storekeep.client.inventory import Inventory
from storekeep.client.orders import Orders
from storekeep.client.products import Products
from storekeep.client.tokens import Tokens
from storekeep.client.variants import Variants
from storekeep.v1.auth_pb2_grpc import AuthServiceStub

DEFAULT_TIMEOUT_S = 10.0
"""Long enough for a server that is restarted under the call, short enough for a person who waits."""


class Storekeep:
    """A client of one Storekeep server.

    with Storekeep(address="127.0.0.1:50051", api_key="sk_...") as client:
        order = client.orders.place(customer="customers/alfki", lines=[("TEA-1", 2)], currency_code="EUR")
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        api_key: str | None = None,
        tls: Tls | bool | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """Make a client; it connects when it is first used.

        `address` is `host:port`, `host` for port 50051, or `unix:/path`. Without an API key only what needs no token
        can be called.
        `tls`: a `Tls`, True for TLS with gRPC's own certificates, False for plaintext; when not given, plaintext on
        this machine and TLS elsewhere. `timeout_s` bounds every call that does not bring its own, retries included.

        Raises: InvalidSettings.
        """
        if timeout_s <= 0:
            raise InvalidSettings("timeout_s must be more than 0")
        self.address = with_port(address or os.environ.get("STOREKEEP_ADDRESS") or DEFAULT_ADDRESS)
        key = _usable_key(os.environ.get("STOREKEEP_API_KEY", "") if api_key is None else api_key)
        channel = open_channel(self.address, tls=tls)
        budget = RetryBudget()
        tokens = Tokens(AuthServiceStub(channel), api_key=key, budget=budget) if key else None
        calls = Calls(tokens=tokens, timeout_s=timeout_s, budget=budget, proxy=find_proxy(self.address))
        self._channel, self._calls = channel, calls
        self.products = Products(calls, channel=channel)
        self.categories = Categories(calls, channel=channel)
        self.variants = Variants(calls, channel=channel)
        self.inventory = Inventory(calls, channel=channel)
        self.customers = Customers(calls, channel=channel)
        self.orders = Orders(calls, channel=channel)
        self.fulfillments = Fulfillments(calls, channel=channel)
        self.auth = Auth(calls, channel=channel)
        self.audit = Audit(calls, channel=channel)
        self.health = Health(calls, channel=channel)

    @property
    def position(self) -> int:
        """How far the server's ledger goes with what this client wrote. Another client that is told sees all of it."""
        return self._calls.position.value

    def remember_position(self, position: int) -> None:
        """Have reads with `max_staleness_s` show at least what was written up to a position, as of another client."""
        self._calls.position.advance(position)

    def close(self) -> None:
        """Close the channel. Calls under way end with ClientClosed or CANCELLED. Closing twice is no error."""
        self._calls.close()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _usable_key(api_key: str) -> str:
    key = api_key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidSettings("The API key holds characters that no API key has")
    return key
