"""Orders that are placed straight in the domain, without a server."""

from __future__ import annotations

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.order_numbers import OrderNumbers
from storekeep.server.domain.order_placing import NewOrder, PlacingRules, place_order
from storekeep.server.domain.orders import Order
from storekeep.server.store.engine import Store

CALL = Call(Caller("serviceAccounts/test"), "storekeep.v1.OrderService/PlaceOrder")
RULES = PlacingRules(OrderNumbers("T-{sequence}"), unpaid_ttl_s=60)


def place(store: Store, customer_id: str, *lines: tuple[str, int], **fields: str) -> Order:
    """Place an order in EUR."""
    return place_order(store, CALL, NewOrder(customer_id, lines, "EUR", **fields), rules=RULES)
