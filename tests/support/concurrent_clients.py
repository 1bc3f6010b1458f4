"""Concurrent clients: they call at the same time, or compete for scarce stock and record what they got."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import grpc

from storekeep.v1 import inventory_pb2, orders_pb2
from tests.support.processes import ServerProcess
from tests.support.refusals import Refusal, parse_refusal
from tests.support.shops import Shop

CLIENTS = 50
CHANNELS = 10
LINES_MAX = 3


@contextmanager
def open_shops(server: ServerProcess) -> Iterator[list[Shop]]:
    """Connect callers on separate connections."""
    with ExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.insecure_channel(server.address, options) for _ in range(CHANNELS)]
        yield [Shop(stack.enter_context(channel), api_key=server.admin_key) for channel in channels]


def call_at_once(shops: Sequence[Shop], call: Callable[[Shop], Any], *, clients: int = CLIENTS) -> list[Any]:
    """Make a call from many clients at the same time; return the reply or the error of each."""
    callers = itertools.islice(itertools.cycle(shops), clients)
    return call_concurrently([partial(call, shop) for shop in callers])


def call_concurrently(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make several calls at the same time; return the reply or the error of each."""
    ready = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        ready.wait(timeout=60)
        try:
            return call()
        except grpc.RpcError as error:
            return parse_refusal(error)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def reasons(outcomes: Sequence[Any]) -> Counter[str]:
    """Count the error reasons of some outcomes; ignore replies."""
    return Counter(outcome.reason if isinstance(outcome, Refusal) else "" for outcome in outcomes)


class Account:
    """The stock that one client got, by SKU.

    Attributes:
        reserved, allocated, left: Units that are reserved for it, allocated to its orders, or shipped or committed.
        asked: Number of requested reservations.
        refused: Number of refused reservations, by error reason.
    """

    def __init__(self) -> None:
        self.reserved: Counter[str] = Counter()
        self.allocated: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.asked = 0
        self.refused: Counter[str] = Counter()

    def __iadd__(self, other: Account) -> Account:
        """Add another account."""
        self.reserved.update(other.reserved)
        self.allocated.update(other.allocated)
        self.left.update(other.left)
        self.asked += other.asked
        self.refused.update(other.refused)
        return self


def run_clients(
    shops: Sequence[Shop], skus: Sequence[str], *, customer: str, clients: int, reservations: int
) -> Account:
    """Have concurrent clients reserve at random, then release, commit or order the units, or keep them reserved."""
    chances = [random.Random(number) for number in range(clients)]

    def run(number: int) -> Account:
        account = Account()
        for _ in range(reservations // clients):
            _reserve_once(shops[number % len(shops)], chances[number], skus, customer, account)
        return account

    total = Account()
    for account in call_concurrently([partial(run, number) for number in range(clients)]):
        assert isinstance(account, Account), account
        total += account
    return total


def _reserve_once(shop: Shop, chance: random.Random, skus: Sequence[str], customer: str, account: Account) -> None:
    lines = [(sku, chance.randint(1, 3)) for sku in chance.choices(skus, k=chance.randint(1, LINES_MAX))]
    account.asked += 1
    try:
        made = shop.reserve(*lines)
    except grpc.RpcError as error:
        account.refused[parse_refusal(error).reason] += 1
        return
    end = chance.choice(("keep", "release", "release", "commit", "order"))
    if end == "release":
        shop.inventory.ReleaseReservation(inventory_pb2.ReleaseReservationRequest(name=made.name))
        return
    if end == "commit":
        shop.inventory.CommitReservation(inventory_pb2.CommitReservationRequest(name=made.name))
    if end == "order":
        shop.order(*lines, customer=customer, reservation=made.name)
    got = {"keep": account.reserved, "commit": account.left, "order": account.allocated}[end]
    for sku, units in lines:
        got[sku] += units


def check_levels(shop: Shop, account: Account, *, stock: dict[str, int]) -> None:
    """Check that no unit is lost and none is reserved twice."""
    for sku, units in stock.items():
        level = shop.level(sku)
        assert level.on_hand == units - account.left[sku], sku
        assert (level.reserved, level.allocated) == (account.reserved[sku], account.allocated[sku]), sku
        assert level.available == level.on_hand - level.reserved - level.allocated >= 0, sku


def order_units(order: orders_pb2.Order) -> list[tuple[int, int, int, int]]:
    """Return (ordered, open, fulfilled, cancelled) of each line."""
    return [
        (line.quantity, line.open_quantity, line.fulfilled_quantity, line.cancelled_quantity) for line in order.lines
    ]
