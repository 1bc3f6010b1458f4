"""Places orders directly in the domain, without a server."""

from __future__ import annotations

from typing import Any

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.orders import placing
from storekeep.server.domain.orders.new_orders import NewOrder
from storekeep.server.domain.orders.numbers import OrderNumbers
from storekeep.server.domain.orders.orders import Order
from storekeep.server.domain.orders.placing import PlacingRules
from storekeep.server.store.engine import Store

CALL = Call(Caller("serviceAccounts/test"), "storekeep.v1.OrderService/PlaceOrder")
NUMBERS = OrderNumbers("T-{sequence}")
RULES = PlacingRules(NUMBERS, unpaid_ttl_s=60)
ENDLESS = PlacingRules(NUMBERS, unpaid_ttl_s=0)


def place(store: Store, customer_id: str, *lines: tuple[str, int], **fields: Any) -> Order:
    """Place an order in EUR that expires after a minute."""
    return placing.place_order(store, CALL, NewOrder(customer_id, lines, "EUR", **fields), rules=RULES)


def place_order(store: Store, call: Call, new: NewOrder) -> Order:
    """Place an order that never expires."""
    return placing.place_order(store, call, new, rules=ENDLESS)
