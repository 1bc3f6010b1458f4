"""What accepted batches cost others: the CPU time of the writer's thread, which all changes share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import grpc
import pytest

from storekeep.server.domain.customers import Customer, prepare_customers
from storekeep.server.domain.keys.personal_fields import install_index_key
from storekeep.server.domain.standard.batches import run_batch
from storekeep.server.servicers.customers import parse_customer_creation
from storekeep.server.store.engine import Store
from storekeep.v1 import addresses_pb2, customers_pb2
from tests.conftest import MakeServer
from tests.support.batches import WHOLE, build_batch
from tests.support.databases import Database
from tests.support.hostile.long_texts import SCRIPTS
from tests.support.patience import report_progress
from tests.support.placing import CALL
from tests.support.refusals import parse_refusal
from tests.support.shops import Shop, new_id
from tests.support.stores import open_store

BATCHES = 10
ROUNDS, TRIES = 3, 5
"""A time is the lowest of some rounds, as other load inflates CPU times, and is measured again until it fits."""
ITEMS = {"umlauts": 150, "han": 90}
"""Items of a batch by script. A batch of Chinese texts may have no more."""
pytestmark = pytest.mark.engine("sqlite", reason="words are cut before the database is reached")


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    """Open a store that has the key of blind indexes, as that of a server does."""
    with closing(open_store(database.url)) as opened:
        opened.write(install_index_key)
        yield opened


def build_creations(count: int, write: Callable[[], str]) -> list[customers_pb2.CreateCustomerRequest]:
    """Build requests for new customers with an address."""
    address = {"recipient": write(), "organization": write(), "locality": write()[:100], "region_code": "DE"}
    addresses = [customers_pb2.CustomerAddress(address=addresses_pb2.Address(**address))]
    customer = customers_pb2.Customer(display_name=write(), addresses=addresses)
    return [customers_pb2.CreateCustomerRequest(customer=customer, customer_id=new_id("c")) for _ in range(count)]


def measure(store: Store, requests: list[Any]) -> tuple[float, float]:
    """Return the CPU time in seconds that a whole batch takes in the writer's thread, and that its words take."""
    effects = [parse_customer_creation(request) for request in requests]
    began_s = time.thread_time()
    prepare_customers(store, effects)
    words_s = time.thread_time() - began_s
    before_s = store.write(lambda _: time.thread_time())
    list(run_batch(store, CALL, effects, resource=Customer, per_item=False, prepare=prepare_customers))
    return store.write(lambda _: time.thread_time()) - before_s, words_s


@pytest.mark.parametrize("script", ITEMS)
def test_writer_takes_less_for_long_texts_than_their_words_take(store: Store, script: str):
    """It takes more if it cuts and hashes them itself. To write and index them is left."""
    count, write = ITEMS[script], SCRIPTS[script]
    for _ in range(TRIES):
        report_progress()
        times = [measure(store, build_creations(count, lambda: write(180))) for _ in range(ROUNDS)]
        long_s, words_s = map(min, zip(*times, strict=True))
        short_s = min(measure(store, build_creations(count, lambda: "x"))[0] for _ in range(ROUNDS))
        if long_s - short_s < words_s:
            return
    pytest.fail(f"long texts take {long_s:.3f} s, short ones {short_s:.3f}, the words alone {words_s:.3f}")


@pytest.mark.fast_path  # without it, gRPC runs what a queue rejects in threads of their own
def test_flood_of_batches_stops_no_other_changes_and_is_rejected_in_words(make_server: MakeServer):
    server = make_server(bulk_queue_max="1")
    with grpc.insecure_channel(server.address) as channel, grpc.insecure_channel(server.address) as other:
        shop, others = Shop(channel, api_key=server.admin_key), Shop(other, api_key=server.admin_key)
        write = SCRIPTS["umlauts"]
        rpc = "BatchCreateCustomers"
        batches = [build_batch(rpc, build_creations(300, lambda: write(180)), mode=WHOLE) for _ in range(BATCHES)]
        calls = [shop.stub(rpc).future(batch, timeout=300) for batch in batches]
        for _ in range(3):
            others.category()
        reasons = {"OK" if (error := call.exception()) is None else parse_refusal(error).reason for call in calls}
    assert reasons == {"OK", "OVERLOADED"}
