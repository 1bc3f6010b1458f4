"""Long runs of callers that compete for scarce stock: nothing is oversold and no change is lost."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.v1 import customers_pb2, inventory_pb2, orders_pb2
from tests.conftest import MakeServer
from tests.support.budgets import SECONDS, SEED
from tests.support.buyers import list_orders, open_shop, verify
from tests.support.refusals import parse_refusal
from tests.support.shops import MAIN, Shop

CALLERS = 8
SKUS = 4
STOCK = 20
EXPECTED = {"OUT_OF_STOCK", "ETAG_MISMATCH", "ILLEGAL_STATE", "QUANTITY_MISMATCH"}
"""The reasons for which a call may fail; any other fails the test."""


class Caller:
    """One competing caller, which counts its changes. The counts of all callers must add up to the server's state.

    Args:
        shop: the shop that all callers share.
        skus: the SKUs that all callers share.
    """

    def __init__(self, shop: Shop, chance: random.Random, *, skus: list[str], customer: str) -> None:
        self.shop = shop
        self.chance = chance
        self.skus = skus
        self.customer = customer
        self.open_orders: list[orders_pb2.Order] = []
        self.added: Counter[str] = Counter()
        self.renamed = 0
        self.outcomes: Counter[str] = Counter()
        self.steps: dict[Callable[[], None], int] = {
            self.order: 8,
            self.cancel: 4,
            self.adjust: 2,
            self.set_stock: 1,
            self.rename_customer: 2,
            self.look: 3,
        }

    def run(self, deadline: float) -> None:
        """Run random steps until the deadline."""
        while time.monotonic() < deadline:
            step = self.chance.choices(list(self.steps), weights=list(self.steps.values()))[0]
            try:
                step()
                self.outcomes[step.__name__] += 1
            except grpc.RpcError as error:
                self.outcomes[parse_refusal(error).reason] += 1

    def order(self) -> None:
        """Order up to three units of up to three SKUs."""
        lines = [(sku, self.chance.randint(1, 3)) for sku in self.chance.choices(self.skus, k=3)]
        self.open_orders.append(self.shop.order(*lines, customer=self.customer))

    def cancel(self) -> None:
        """Cancel one of the caller's own orders, if any."""
        if self.open_orders:
            self.shop.cancel(self.open_orders.pop(self.chance.randrange(len(self.open_orders))))

    def adjust(self) -> None:
        """Add or remove units."""
        sku, delta = self.chance.choice(self.skus), self.chance.choice((-3, -1, 1, 3))
        self.shop.adjust(sku, delta)
        self.added[sku] += delta

    def set_stock(self) -> None:
        """Set the stock to one unit more than it has."""
        sku = self.chance.choice(self.skus)
        seen = self.shop.level(sku)
        request = inventory_pb2.SetStockRequest(
            name=seen.name, quantity=seen.on_hand + 1, expected_quantity=seen.on_hand
        )
        self.shop.inventory.SetStock(request)
        self.added[sku] += 1

    def rename_customer(self) -> None:
        """Add one to the number in the customer's name, unless another caller was faster."""
        customer = self.shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=self.customer))
        customer.display_name = str(int(customer.display_name) + 1)
        mask = FieldMask(paths=["display_name"])
        self.shop.customers.UpdateCustomer(customers_pb2.UpdateCustomerRequest(customer=customer, update_mask=mask))
        self.renamed += 1

    def look(self) -> None:
        """Read a level and check that it is consistent."""
        level = self.shop.level(self.chance.choice(self.skus))
        assert 0 <= level.allocated <= level.on_hand
        assert level.available == level.on_hand - level.allocated


def test_callers_who_compete_add_up(make_server: MakeServer):
    server = make_server(log_level="WARNING", access_token_lifetime_s="86400")
    with open_shop(server) as shop:
        skus = [shop.variant(stock=STOCK).sku for _ in range(SKUS)]
        customer = shop.customer(display_name="0").name
        callers = [Caller(shop, random.Random(SEED + n), skus=skus, customer=customer) for n in range(CALLERS)]
        compete(callers)
        check_sums(shop, callers)
    verify(server)
    outcomes = sum((caller.outcomes for caller in callers), Counter[str]())
    names = {step.__name__ for step in callers[0].steps}
    assert outcomes.keys() <= EXPECTED | names
    print(f"\n{outcomes.total()} calls: {dict(outcomes.most_common())}")  # noqa: T201 - what a campaign found


def compete(callers: list[Caller]) -> None:
    """Run all callers concurrently, each in a thread. An exception in any of them fails the test."""
    failures: list[BaseException] = []

    def run(caller: Caller) -> None:
        try:
            caller.run(time.monotonic() + SECONDS)
        except BaseException as failure:  # noqa: BLE001 - it is raised again below
            failures.append(failure)

    threads = [threading.Thread(target=run, args=[caller]) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def check_sums(shop: Shop, callers: list[Caller]) -> None:
    """Check that the server's sums equal those of the callers."""
    customer = callers[0].customer
    held: Counter[str] = Counter()
    for order in (order for caller in callers for order in caller.open_orders):
        held.update({line.sku: 0 for line in order.lines})
        for line in order.lines:
            held[line.sku] += line.quantity
    placed = [order for order in list_orders(shop, customer=customer) if order.state == orders_pb2.ORDER_STATE_PLACED]
    assert {order.name for order in placed} == {order.name for caller in callers for order in caller.open_orders}
    for sku in callers[0].skus:
        level = shop.inventory.GetStockLevel(inventory_pb2.GetStockLevelRequest(name=f"{MAIN}/stockLevels/{sku}"))
        assert level.on_hand == STOCK + sum(caller.added[sku] for caller in callers)
        assert level.allocated == held[sku]
    renamed = shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=customer)).display_name
    assert renamed == str(sum(caller.renamed for caller in callers)), "a change was lost"
