"""Failovers: callers order through the client library and retry each order until it is acknowledged, while the
primary of the database fails and its replica is promoted.

Each order carries its `request_id` also as `external_reference`, so that a duplicate effect of one call shows.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from storekeep.client import CallTimedOut, Order, ServerError, ServerUnreachable, Storekeep
from tests.support.buyers import STOCK, open_shop, verify
from tests.support.callers import run_callers
from tests.support.processes import ServerProcess
from tests.support.replication import Replication, await_true
from tests.support.shops import new_request_id

CALLERS = 4
ORDERS_MIN = 20
"""Minimum number of acknowledged orders before and after a failover."""
CALL_TIMEOUT_S = 5.0
RETRIED_MAX = 1_000
"""Maximum number of orders that are retried at the end."""
PATIENCE_S = 120.0
"""How long an order is retried until it is acknowledged."""
SETTINGS = {
    "database_connect_timeout_s": "2",
    "database_lock_timeout_s": "2",
    "database_statement_timeout_s": "5",
    "log_level": "WARNING",
}


def serve(replication: Replication, server_folder: object, **settings: str) -> ServerProcess:
    """Start a server that connects to the writable one of primary and replica."""
    url = replication.url(replication.primary, *replication.replicas)
    return ServerProcess(server_folder, database=replication.database, **SETTINGS | {"database_url": url} | settings)  # type: ignore[arg-type]


class OrderCallers:
    """Callers that order continuously.

    Attributes:
        acknowledged: request_id -> the acknowledged order.
        tries: Number of requests for orders.
    """

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.acknowledged: dict[str, Order] = {}
        self.tries = 0
        self._failures: list[BaseException] = []
        self._stop = threading.Event()
        with open_shop(server) as shop:
            self.customer = shop.customer().name
            self.skus = [shop.variant(stock=STOCK).sku for _ in range(4)]

    @contextmanager
    def ordering(self) -> Iterator[None]:
        """Order during the context; each caller ends with an acknowledged order."""
        threads = [threading.Thread(target=self._run) for _ in range(CALLERS)]
        with run_callers(threads, self._stop):
            yield
        if self._failures:
            raise self._failures[0]

    def await_orders(self) -> None:
        """Wait until further orders are acknowledged."""
        target = len(self.acknowledged) + ORDERS_MIN
        await_true(lambda: self._failures or len(self.acknowledged) >= target)

    def _run(self) -> None:
        try:
            with Storekeep(self.server.address, api_key=self.server.admin_key, timeout_s=CALL_TIMEOUT_S) as client:
                while not self._stop.is_set():
                    request_id = new_request_id()
                    self.acknowledged[request_id] = self._order_until_acknowledged(client, request_id)
        except BaseException as failure:  # noqa: BLE001 - re-raised in the waiting thread
            self._failures.append(failure)

    def _order_until_acknowledged(self, client: Storekeep, request_id: str) -> Order:
        give_up = time.monotonic() + PATIENCE_S
        while True:
            self.tries += 1
            try:
                return self.order(client, request_id)
            except (CallTimedOut, ServerError, ServerUnreachable):
                if time.monotonic() > give_up:
                    raise
                time.sleep(random.uniform(0, 0.1))

    def order(self, client: Storekeep, request_id: str) -> Order:
        """Request an order, the same one for the same `request_id`."""
        chance = random.Random(request_id)
        lines = [(sku, chance.randint(1, 3)) for sku in chance.sample(self.skus, 2)]
        return client.orders.place(
            customer=self.customer,
            lines=lines,
            currency_code="EUR",
            external_reference=request_id,
            request_id=request_id,
        )

    def check(self) -> None:
        """Check that every acknowledged order exists once, unchanged, and that retries return it."""
        with Storekeep(self.server.address, api_key=self.server.admin_key, timeout_s=60) as client:
            existing = list(client.orders.list(filter=f'customer = "{self.customer}"', page_size=1000))
            assert Counter(order.external_reference for order in existing) == Counter(self.acknowledged.keys())
            assert {order.external_reference: order for order in existing} == self.acknowledged
            retried = random.sample(sorted(self.acknowledged), min(RETRIED_MAX, len(self.acknowledged)))
            for request_id in retried:
                assert self.order(client, request_id) == self.acknowledged[request_id]
            again = client.orders.list(filter=f'customer = "{self.customer}"', page_size=1000)
            assert sum(1 for _ in again) == len(existing)
        verify(self.server)
