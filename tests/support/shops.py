"""A shop: an authorised caller of a running server that creates the resources that a test needs.

Every resource gets a unique name, so that tests can share a server.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.money_pb2 import Money

from storekeep.v1 import (
    audit_pb2_grpc,
    auth_pb2,
    auth_pb2_grpc,
    customers_pb2,
    customers_pb2_grpc,
    events_pb2_grpc,
    inventory_pb2,
    inventory_pb2_grpc,
    orders_pb2,
    orders_pb2_grpc,
    pricing_pb2_grpc,
    products_pb2,
    products_pb2_grpc,
    quotes_pb2_grpc,
    users_pb2_grpc,
    webhooks_pb2_grpc,
)
from tests.support.streams import open_method

TIMEOUT_S = 60.0
MAIN = "locations/main"


class _Details(NamedTuple):
    """Call details that an interceptor may change."""

    method: str
    timeout: float | None
    metadata: Sequence[tuple[str, str | bytes]] | None
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Authorization(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds the token, and a default timeout."""

    def __init__(self, token: str) -> None:
        self._header = ("authorization", f"Bearer {token}")

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Continue the call with both."""
        return self._continue(continuation, details, request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        """Continue the stream with both."""
        return self._continue(continuation, details, request)

    def _continue(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = (*(details.metadata or ()), self._header)
        timeout = TIMEOUT_S if details.timeout is None else details.timeout
        changed = _Details(
            details.method, timeout, metadata, details.credentials, details.wait_for_ready, details.compression
        )
        return continuation(changed, request)


def new_id(prefix: str = "t") -> str:
    """Return a unique id."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def new_request_id() -> str:
    """Return a UUID for `request_id`."""
    return str(uuid.uuid4())


def money(amount: str, currency_code: str = "EUR") -> Money:
    """Build an amount from major units, such as `19.99`."""
    units, fraction = divmod(Decimal(amount), 1)
    return Money(currency_code=currency_code, units=int(units), nanos=int(fraction * 10**9))


def get_amount(message: Money) -> Decimal:
    """Return an amount in major units."""
    return message.units + Decimal(message.nanos) / 10**9


class Shop:
    """The administrator's stubs, and functions that create unique resources.

    Args:
        channel: Channel to the server.
        api_key: API key that is used to sign in.
    """

    def __init__(self, channel: grpc.Channel, *, api_key: str) -> None:
        issue = auth_pb2_grpc.AuthServiceStub(channel).IssueToken
        self.bare_channel = channel
        self.token = issue(auth_pb2.IssueTokenRequest(api_key=api_key), timeout=TIMEOUT_S).access_token
        self.channel = grpc.intercept_channel(channel, _Authorization(self.token))
        self.products = products_pb2_grpc.ProductServiceStub(self.channel)
        self.inventory = inventory_pb2_grpc.InventoryServiceStub(self.channel)
        self.customers = customers_pb2_grpc.CustomerServiceStub(self.channel)
        self.orders = orders_pb2_grpc.OrderServiceStub(self.channel)
        self.quotes = quotes_pb2_grpc.QuoteServiceStub(self.channel)
        self.pricing = pricing_pb2_grpc.PricingServiceStub(self.channel)
        self.webhooks = webhooks_pb2_grpc.WebhookServiceStub(self.channel)
        self.auth = auth_pb2_grpc.AuthServiceStub(self.channel)
        self.users = users_pb2_grpc.UserServiceStub(self.channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(self.channel)
        self.events = events_pb2_grpc.EventServiceStub(self.channel)
        self.subject = self.auth.WhoAmI(auth_pb2.WhoAmIRequest()).subject
        self._numbers = itertools.count(1)

    def stub(self, rpc: str) -> Any:
        """Return the method of any service by its bare name."""
        services = (
            self.products,
            self.inventory,
            self.customers,
            self.orders,
            self.quotes,
            self.pricing,
            self.webhooks,
            self.auth,
            self.users,
            self.audit,
            self.events,
        )
        return next(getattr(service, rpc) for service in services if hasattr(service, rpc))

    def send(self, path: str, raw: bytes, **options: Any) -> bytes:
        """Send raw bytes to `/package.Service/Method` with the token; return the bytes of the (first) reply."""
        return open_method(self.channel, path)(raw, **options)

    # -- catalogue

    def category(self, **fields: Any) -> products_pb2.Category:
        """Create a category."""
        category = products_pb2.Category(**{"display_name": f"Category {next(self._numbers)}"} | fields)
        request = products_pb2.CreateCategoryRequest(category=category, category_id=new_id("c"))
        return self.products.CreateCategory(request)

    def product(self, **fields: Any) -> products_pb2.Product:
        """Create a product without variants."""
        product = products_pb2.Product(**{"display_name": f"Product {next(self._numbers)}"} | fields)
        return self.products.CreateProduct(products_pb2.CreateProductRequest(product=product, product_id=new_id("p")))

    def draft(self, **fields: Any) -> products_pb2.Product:
        """Create a draft without variants."""
        product = products_pb2.Product(**{"display_name": f"Product {next(self._numbers)}"} | fields)
        request = products_pb2.CreateProductRequest(product=product, product_id=new_id("p"), draft=True)
        return self.products.CreateProduct(request)

    def variant(
        self,
        *,
        parent: str = "",
        prices: Mapping[str, str] | None = None,
        stock: int = 0,
        location: str = MAIN,
        **fields: Any,
    ) -> products_pb2.Variant:
        """Create a variant with a unique SKU, for 10 EUR unless `prices` are given, with `stock` units on hand."""
        priced = {"EUR": "10"} if prices is None else prices
        sku = new_id("SKU").upper()
        variant = products_pb2.Variant(**{"sku": sku} | fields)
        variant.prices.extend(money(amount, code) for code, amount in priced.items())
        made = self.products.CreateVariant(
            products_pb2.CreateVariantRequest(
                parent=parent or self.product().name, variant=variant, variant_id=new_id("v")
            )
        )
        if stock:
            self.adjust(made.sku, stock, location=location)
        return made

    # -- stock

    def location(self, **fields: Any) -> inventory_pb2.Location:
        """Create a location."""
        location = inventory_pb2.Location(**{"display_name": f"Location {next(self._numbers)}"} | fields)
        request = inventory_pb2.CreateLocationRequest(location=location, location_id=new_id("l"))
        return self.inventory.CreateLocation(request)

    def adjust(self, sku: str, quantity_delta: int, *, location: str = MAIN, **fields: Any) -> inventory_pb2.StockLevel:
        """Add units, or remove some."""
        name = f"{location}/stockLevels/{sku}"
        request = inventory_pb2.AdjustStockRequest(name=name, quantity_delta=quantity_delta, **fields)
        return self.inventory.AdjustStock(request)

    def level(self, sku: str, *, location: str = MAIN) -> inventory_pb2.StockLevel:
        """Return the stock level of a SKU."""
        return self.inventory.GetStockLevel(inventory_pb2.GetStockLevelRequest(name=f"{location}/stockLevels/{sku}"))

    def create_backordered_sku(self, *, units: int, location: str = MAIN) -> str:
        """Create a SKU without stock that can be backordered up to `units`."""
        sku = str(self.variant().sku)
        self.backorder(sku, units=units, location=location)
        return sku

    def backorder(self, sku: str, *, units: int, location: str = MAIN) -> None:
        """Set the backorder limit of a SKU."""
        level = inventory_pb2.StockLevel(name=f"{location}/stockLevels/{sku}", backorder_limit=units)
        self.inventory.UpdateStockLevel(
            inventory_pb2.UpdateStockLevelRequest(stock_level=level, update_mask=FieldMask(paths=["backorder_limit"]))
        )

    def reserve(self, *lines: tuple[str, int], **fields: Any) -> inventory_pb2.Reservation:
        """Create a reservation of `lines` of (SKU, units)."""
        requested = [inventory_pb2.ReserveStockLine(sku=sku, quantity=quantity) for sku, quantity in lines]
        return self.inventory.ReserveStock(inventory_pb2.ReserveStockRequest(lines=requested, **fields))

    def promise(self, sku: str, *, by: str, location: str = MAIN) -> orders_pb2.Order | inventory_pb2.Reservation:
        """Order one unit at a location, or reserve it if `by` is `reservation`."""
        if by == "reservation":
            return self.reserve((sku, 1), location=location)
        return self.order((sku, 1), location=location)

    def end_promise(self, promise: orders_pb2.Order | inventory_pb2.Reservation) -> None:
        """Cancel or release what `promise` created."""
        if isinstance(promise, orders_pb2.Order):
            self.cancel(promise)
        else:
            self.inventory.ReleaseReservation(inventory_pb2.ReleaseReservationRequest(name=promise.name))

    # -- orders

    def customer(self, **fields: Any) -> customers_pb2.Customer:
        """Create a customer."""
        customer = customers_pb2.Customer(**{"display_name": f"Customer {next(self._numbers)}"} | fields)
        request = customers_pb2.CreateCustomerRequest(customer=customer, customer_id=new_id("u"))
        return self.customers.CreateCustomer(request)

    def order_request(self, *lines: tuple[str, int], **fields: Any) -> orders_pb2.PlaceOrderRequest:
        """Build a request for `lines` of (SKU, units), or for one unit of a new SKU, by a new customer, in EUR."""
        requested = lines or ((self.variant(stock=10).sku, 1),)
        chosen = {"currency_code": "EUR"} | fields
        if "customer" not in chosen:
            chosen["customer"] = self.customer().name
        return orders_pb2.PlaceOrderRequest(
            lines=[orders_pb2.PlaceOrderLine(sku=sku, quantity=quantity) for sku, quantity in requested], **chosen
        )

    def order(self, *lines: tuple[str, int], **fields: Any) -> orders_pb2.Order:
        """Place an order; see `order_request`."""
        return self.orders.PlaceOrder(self.order_request(*lines, **fields))

    def confirm(self, order: orders_pb2.Order, **fields: Any) -> orders_pb2.Order:
        """Confirm an order."""
        return self.orders.ConfirmOrder(orders_pb2.ConfirmOrderRequest(name=order.name, **fields))

    def cancel(self, order: orders_pb2.Order, **fields: Any) -> orders_pb2.Order:
        """Cancel an order."""
        return self.orders.CancelOrder(orders_pb2.CancelOrderRequest(name=order.name, **fields))

    def fulfill(
        self, order: orders_pb2.Order, *lines: tuple[int, int], location: str = "", **fields: Any
    ) -> orders_pb2.Fulfillment:
        """Create a pending fulfilment of `lines` of (line number, units), or of all units at one location."""
        units = [orders_pb2.OrderLineUnits(line_number=number, quantity=quantity) for number, quantity in lines]
        request = orders_pb2.CreateFulfillmentRequest(parent=order.name, lines=units, location=location, **fields)
        return self.orders.CreateFulfillment(request)

    def ship(self, fulfillment: orders_pb2.Fulfillment, **fields: Any) -> orders_pb2.Fulfillment:
        """Ship a fulfilment."""
        return self.orders.ShipFulfillment(orders_pb2.ShipFulfillmentRequest(name=fulfillment.name, **fields))

    def get_order(self, order: orders_pb2.Order) -> orders_pb2.Order:
        """Get an order."""
        return self.orders.GetOrder(orders_pb2.GetOrderRequest(name=order.name))
