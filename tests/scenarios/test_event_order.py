"""The order of events is that of the commits, on every worker and host."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from storekeep.server.store.postgresql.driver import WRITE_LOCK
from tests.conftest import MakeServer
from tests.support.processes import ServerProcess
from tests.support.refusals import refused
from tests.support.shops import Shop
from tests.support.watches import Watch

WRITERS = 3
EACH = 20
HELD_S = 1.0
INSERT_HELD = """
INSERT INTO audit_entries (
    sequence, create_time_us, type, actor, method, resource, request_id, previous_hash, entry_hash, after
)
SELECT sequence + 1, create_time_us, type, actor, method, resource, '', entry_hash,
       sha256(entry_hash), after
FROM audit_entries ORDER BY sequence DESC LIMIT 1
"""


def write_concurrently(shop: Shop) -> list[threading.Thread]:
    """Start threads that create customers."""

    def write() -> None:
        for _ in range(EACH):
            shop.customer()

    threads = [threading.Thread(target=write) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    return threads


def get_numbers(watch: Watch, count: int) -> list[int]:
    return [int(event.name.removeprefix("events/")) for event in watch.take(count)]


@pytest.mark.engine("postgresql", reason="SQLite has one writer, so no transaction can commit after a later one")
def test_transaction_that_was_held_open_is_not_skipped(shop: Shop, server: ServerProcess):
    first = shop.customer()
    watch = Watch(shop, event_types=["customer.*"])
    database: Any = server.database
    with psycopg.connect(database.url, connect_timeout=60) as held:
        held.execute("SELECT pg_advisory_xact_lock(%s)", [WRITE_LOCK])
        held.execute(INSERT_HELD)
        threads = write_concurrently(shop)
        time.sleep(HELD_S)
        held.commit()
    for thread in threads:
        thread.join()
    events = watch.take(WRITERS * EACH + 1)
    assert events[0].resource == first.name
    numbers = [int(event.name.removeprefix("events/")) for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    watch.close()


def test_watchers_of_every_worker_get_the_same_events(make_server: MakeServer):
    server = make_server(workers="2")
    options = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.insecure_channel(server.address, options) for _ in range(6)]
    shops = [Shop(channel, api_key=server.admin_key) for channel in channels]
    watches = [Watch(shop, event_types=["customer.*"]) for shop in shops]
    for thread in write_concurrently(shops[0]):
        thread.join()
    expected = get_numbers(watches[0], WRITERS * EACH)
    assert expected == list(range(expected[0], expected[0] + WRITERS * EACH))
    assert all(get_numbers(watch, WRITERS * EACH) == expected for watch in watches[1:])
    for channel in channels:
        channel.close()


@pytest.mark.engine("postgresql", reason="two servers share a database")
def test_watcher_continues_on_another_host(make_server: MakeServer, tmp_path: Path):
    servers = [make_server(data_dir=tmp_path / "data") for _ in range(2)]
    channels = [grpc.insecure_channel(server.address) for server in servers]
    shops = [Shop(channel, api_key=servers[0].admin_key) for channel in channels]
    start = shops[0].customer()
    watch = Watch(shops[0], start_time=start.create_time, event_types=["customer.*"])
    threads = [thread for shop in shops for thread in write_concurrently(shop)]
    seen: list[int] = []
    while len(seen) < 2 * WRITERS * EACH:
        event = watch.take(1)[0]
        seen.append(int(event.name.removeprefix("events/")))
        if len(seen) % EACH == 0:
            watch.close()
            shops.reverse()
            watch = Watch(shops[0], cursor=event.cursor, event_types=["customer.*"])
    for thread in threads:
        thread.join()
    assert seen == list(range(seen[0], seen[0] + len(seen)))
    for channel in channels:
        channel.close()


def test_watcher_ends_when_the_ledger_has_lost_what_it_was_sent(make_server: MakeServer):
    """As after a failover to a late replica. Its cursor is after the newest event, which is a clear error."""
    server = make_server()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        watch = Watch(shop, event_types=["customer.*"])
        shop.customer()
        cursor = watch.take(1)[0].cursor
        with server.database.unguarded() as session:
            session.run("DELETE FROM audit_entries WHERE sequence = (SELECT MAX(sequence) FROM audit_entries)")
        with refused("STORAGE_UNAVAILABLE"):
            while True:
                watch.receive()
        server.await_log("the ledger has lost entries")
        with refused("HISTORY_CHANGED"):
            Watch(shop, cursor=cursor)
