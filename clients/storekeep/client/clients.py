"""The client: one channel to a server, one attribute per resource type, loaded on first use. Thread-safe.

The defaults of address and API key are `STOREKEEP_ADDRESS` and `STOREKEEP_API_KEY`. Create the client after a fork,
never before, because gRPC does not support forking.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from storekeep.client.attempts import RetryBudget
from storekeep.client.calls import Calls
from storekeep.client.channels import DEFAULT_ADDRESS, Tls, add_default_port, find_proxy, open_channel
from storekeep.client.deadlines import check_timeout
from storekeep.client.error_families import ClientClosed, InvalidSettings
from storekeep.client.tokens import SessionStore, SessionTokens, SharedSessionTokens, TokenCache, Tokens
from storekeep.client.traces import trace_calls

if TYPE_CHECKING:
    from storekeep.client.audit import Audit
    from storekeep.client.auth import Auth
    from storekeep.client.categories import Categories
    from storekeep.client.coupons import Coupons
    from storekeep.client.customers import Customers
    from storekeep.client.events import Events
    from storekeep.client.fulfillments import Fulfillments
    from storekeep.client.health import Health
    from storekeep.client.inventory import Inventory
    from storekeep.client.methods import Methods
    from storekeep.client.orders import Orders
    from storekeep.client.pricing import Prices
    from storekeep.client.products import Products
    from storekeep.client.promotions import Promotions
    from storekeep.client.quotes import Quotes
    from storekeep.client.shipping_methods import ShippingMethods
    from storekeep.client.tax_rates import TaxRates
    from storekeep.client.tax_zones import TaxZones
    from storekeep.client.users import Users
    from storekeep.client.variants import Variants
    from storekeep.client.webhooks import Webhooks
    from storekeep.v1.auth_pb2 import TokenSet
    from storekeep.v1.auth_pb2_grpc import AuthServiceStub

ResourceT = TypeVar("ResourceT")

DEFAULT_TIMEOUT_S = 10.0
"""Default deadline of a call in seconds: it outlasts a server restart and is short enough for an interactive user."""


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
        token_cache: TokenCache | None = None,
        tokens: TokenSet | None = None,
        session_store: SessionStore | None = None,
        accept_language: str = "",
    ) -> None:
        """Create a client. It connects on its first call.

        Args:
            address: `host:port`, `host` (port 50051) or `unix:/path` (default: STOREKEEP_ADDRESS, or
                `127.0.0.1:50051`).
            api_key: the API key (default: STOREKEEP_API_KEY). Without one, only public methods can be called.
            tls: a `Tls`, True for TLS with gRPC's own root certificates, or False for plaintext (default: plaintext
                to loopback addresses and Unix sockets, TLS to all others).
            timeout_s: default deadline of a call in seconds, retries included.
            token_cache: stores the access token for the next program with the same API key (default: not stored).
            tokens: the tokens of a user who signed in (`users.sign_in`), in place of an API key. The client refreshes
                them until the session ends.
            session_store: stores the tokens of a user who signed in, for several programs, in place of an API key.
            accept_language: preferred languages of the texts of the catalogue, as in HTTP: `de-AT, en;q=0.5` (default:
                the texts in the server's default language, with all translations).

        Raises: InvalidSettings.
        """
        try:
            timeout_s = check_timeout(timeout_s)
        except ValueError as error:
            raise InvalidSettings(str(error)) from None
        self.address = add_default_port(address or os.environ.get("STOREKEEP_ADDRESS") or DEFAULT_ADDRESS)
        default_key = "" if tokens or session_store else os.environ.get("STOREKEEP_API_KEY", "")
        key = _check_api_key(default_key if api_key is None else api_key)
        channel = trace_calls(open_channel(self.address, tls=tls), address=self.address)
        self._lock = threading.Lock()
        self._is_closed = False
        budget = RetryBudget()
        own_tokens: Tokens | None = None
        if tokens is not None:
            own_tokens = SessionTokens(self._make_auth_stub, tokens=tokens, budget=budget)
        elif session_store is not None:
            own_tokens = SharedSessionTokens(self._make_auth_stub, store=session_store, budget=budget)
        elif key:
            own_tokens = Tokens(self._make_auth_stub, api_key=key, budget=budget, cache=token_cache)
        calls = Calls(
            tokens=own_tokens,
            timeout_s=timeout_s,
            budget=budget,
            address=self.address,
            proxy=find_proxy(self.address),
            accept_language=accept_language,
        )
        self._channel, self._calls = channel, calls

    def _load(self, kind: Callable[..., ResourceT]) -> ResourceT:
        """Create the methods of a resource type. On a closed channel, gRPC would crash.

        Raises: ClientClosed.
        """
        with self._lock:
            if self._is_closed:
                raise ClientClosed("the client is closed")
            return kind(self._calls, channel=self._channel)

    def _make_auth_stub(self) -> AuthServiceStub:
        from storekeep.v1.auth_pb2_grpc import AuthServiceStub

        return self._load(lambda _calls, channel: AuthServiceStub(channel))

    @cached_property
    def products(self) -> Products:
        """Methods for products."""
        from storekeep.client.products import Products

        return self._load(Products)

    @cached_property
    def categories(self) -> Categories:
        """Methods for the category tree."""
        from storekeep.client.categories import Categories

        return self._load(Categories)

    @cached_property
    def variants(self) -> Variants:
        """Methods for variants of products, with SKUs and prices."""
        from storekeep.client.variants import Variants

        return self._load(Variants)

    @cached_property
    def inventory(self) -> Inventory:
        """Methods for stock, locations and reservations."""
        from storekeep.client.inventory import Inventory

        return self._load(Inventory)

    @cached_property
    def customers(self) -> Customers:
        """Methods for customers."""
        from storekeep.client.customers import Customers

        return self._load(Customers)

    @cached_property
    def orders(self) -> Orders:
        """Methods for orders."""
        from storekeep.client.orders import Orders

        return self._load(Orders)

    @cached_property
    def fulfillments(self) -> Fulfillments:
        """Methods for fulfilments of orders."""
        from storekeep.client.fulfillments import Fulfillments

        return self._load(Fulfillments)

    @cached_property
    def auth(self) -> Auth:
        """Methods for tokens, service accounts, API keys and roles."""
        from storekeep.client.auth import Auth

        return self._load(Auth)

    @cached_property
    def users(self) -> Users:
        """Methods for users: sign-ins, passwords, second factors and sessions."""
        from storekeep.client.users import Users

        return self._load(Users)

    @cached_property
    def audit(self) -> Audit:
        """Methods for the audit log."""
        from storekeep.client.audit import Audit

        return self._load(Audit)

    @cached_property
    def webhooks(self) -> Webhooks:
        """Methods for webhook endpoints and their deliveries."""
        from storekeep.client.webhooks import Webhooks

        return self._load(Webhooks)

    @cached_property
    def tax_zones(self) -> TaxZones:
        """Methods for tax zones."""
        from storekeep.client.tax_zones import TaxZones

        return self._load(TaxZones)

    @cached_property
    def tax_rates(self) -> TaxRates:
        """Methods for tax rates."""
        from storekeep.client.tax_rates import TaxRates

        return self._load(TaxRates)

    @cached_property
    def prices(self) -> Prices:
        """Methods for prices, and their history."""
        from storekeep.client.pricing import Prices

        return self._load(Prices)

    @cached_property
    def promotions(self) -> Promotions:
        """Methods for promotions."""
        from storekeep.client.promotions import Promotions

        return self._load(Promotions)

    @cached_property
    def coupons(self) -> Coupons:
        """Methods for coupons."""
        from storekeep.client.coupons import Coupons

        return self._load(Coupons)

    @cached_property
    def shipping_methods(self) -> ShippingMethods:
        """Methods for shipping methods."""
        from storekeep.client.shipping_methods import ShippingMethods

        return self._load(ShippingMethods)

    @cached_property
    def quotes(self) -> Quotes:
        """Methods for quotes."""
        from storekeep.client.quotes import Quotes

        return self._load(Quotes)

    @cached_property
    def events(self) -> Events:
        """Methods for events: the committed changes of resources."""
        from storekeep.client.events import Events

        return self._load(Events)

    @cached_property
    def health(self) -> Health:
        """Methods for the serving status of the server."""
        from storekeep.client.health import Health

        return self._load(Health)

    @cached_property
    def methods(self) -> Methods:
        """Any method of the contract by its name."""
        from storekeep.client.methods import Methods

        return self._load(Methods)

    @property
    def consistency_token(self) -> int:
        """Token of this client's latest write; 0 before its first. Pass it to another client for read-your-writes."""
        return self._calls.consistency_token.value

    def remember_consistency_token(self, token: int) -> None:
        """Make reads with `max_staleness_s` include all writes up to `token`, the token of another client."""
        self._calls.consistency_token.advance(token)

    def close(self) -> None:
        """Close the channel. Calls in progress fail with ClientClosed or ServerUnreachable. May be called twice."""
        with self._lock:
            self._is_closed = True
        self._calls.close()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_api_key(api_key: str) -> str:
    key = api_key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidSettings("the API key contains characters that are not allowed in an API key")
    return key
