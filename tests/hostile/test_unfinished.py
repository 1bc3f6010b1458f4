"""Calls whose request never arrives: HEADERS without a message, incomplete messages. Others are not affected."""

from __future__ import annotations

import struct
import threading

import pytest

from storekeep.client import Product, Storekeep
from storekeep.v1 import products_pb2
from tests.conftest import MakeServer
from tests.hostile.conftest import Attack
from tests.support.hostile.callers import run_unharmed_callers
from tests.support.hostile.usage import memory_mib, threads
from tests.support.hostile.wire import (
    CHECK,
    GET,
    ISSUE,
    LIST,
    PLACE,
    REFLECT,
    UNKNOWN,
    WATCH,
    Attacker,
    frame_message,
    wait_until,
)
from tests.support.processes import ServerProcess

pytestmark = pytest.mark.fast_path

LIST_PRODUCTS = "/storekeep.v1.ProductService/ListProducts"
RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, UNIMPLEMENTED = 8, 4, 12
MIB = 1024 * 1024


def test_headers_without_a_message_hold_up_nobody(server: ServerProcess, attack: Attack):
    """Attack 2: two connections with 1,000 streams each; here each of three opens 100 per kind of method."""
    before = threads(server)
    with run_unharmed_callers(server):
        for path in (GET, PLACE, ISSUE, CHECK, LIST, WATCH, REFLECT, UNKNOWN):
            attackers = [attack() for _ in range(3)]
            for attacker in attackers:
                for _ in range(100):
                    attacker.open(path)
        assert threads(server) <= before + 2


def test_replies_that_nobody_reads_hold_up_nobody(server: ServerProcess, attack: Attack):
    """A variant: complete requests whose replies wait for a flow control window that the client never opens."""
    with run_unharmed_callers(server):
        for path in (CHECK, LIST):
            attackers = [attack(window=0) for _ in range(22)]
            for attacker in attackers:
                for _ in range(100):
                    attacker.open(path, frame_message(b""), ends=True)


@pytest.mark.engine("sqlite", reason="nothing is read or written")
def test_unread_replies_do_not_hold_the_end_up(make_server: MakeServer):
    server = make_server(drain_s="300")
    with Attacker(server.address, window=0) as attacker:
        streams = [attacker.open(CHECK, frame_message(b""), ends=True) for _ in range(50)]
        wait_until(
            lambda: all(attacker.streams[s].headers for s in streams), what="all are answered, as far as it goes"
        )
        assert server.stop(timeout_s=120) == 0


@pytest.mark.engine("sqlite", reason="replies are bounded by their bytes, whatever they are made of")
def test_bytes_of_unread_replies_are_bounded(make_server: MakeServer):
    """A variant: few calls with replies of megabytes each; 1,000 of them took 3 GB."""
    server = make_server(unread_replies_max_bytes=str(8 * MIB), queue_wait_max_s="60")
    with Storekeep(server.address, api_key=server.admin_key) as client:
        for _ in range(100):
            client.products.create(Product(display_name="Long", description="\U0001f375" * 9_900))
        token = client.auth.issue_token(server.admin_key).access_token
    message = products_pb2.ListProductsRequest(page_size=1000).SerializeToString()
    shown = [("authorization", f"Bearer {token}")]
    with Attacker(server.address, window=0) as attacker:
        streams = [attacker.open(LIST_PRODUCTS, frame_message(message), extra=shown, ends=True) for _ in range(8)]
        wait_until(
            lambda: sum(attacker.streams[s].status == DEADLINE_EXCEEDED for s in streams) >= 5,
            what="all but some 8 MiB are dropped",
        )
        told = next(heard for s in streams if (heard := attacker.streams[s]).status is not None)
        assert "not read in time" in told.headers["grpc-message"]
        assert attacker.streams[streams[-1]].status is None  # the newest calls still wait, within the budget


def test_holder_is_evicted_and_told_why(attack: Attack):
    attackers = [attack() for _ in range(3)]
    streams = [(attacker, attacker.open(GET)) for attacker in attackers for _ in range(100)]
    wait_until(
        lambda: any(attacker.streams[stream].status == RESOURCE_EXHAUSTED for attacker, stream in streams),
        what="a holder is evicted",
    )
    told = next(heard for a, s in streams if (heard := a.streams[s]).status is not None)
    assert told.reason == "OVERLOADED"
    held = sum(attacker.streams[stream].status is None for attacker, stream in streams)
    assert held >= 64  # a client within the budget keeps its calls


@pytest.mark.parametrize("path", [GET, CHECK, WATCH, REFLECT])
@pytest.mark.parametrize("begun", [None, b"", b"\0", struct.pack(">BI", 0, 100) + b"half"])
@pytest.mark.engine("sqlite", reason="the request does not arrive, so no database is asked")
def test_request_that_does_not_arrive_in_time_ends_its_call(impatient: ServerProcess, path: str, begun: bytes | None):
    with Attacker(impatient.address) as attacker:
        heard = attacker.await_end(attacker.open(path, begun))
        assert heard.status == DEADLINE_EXCEEDED
        assert heard.reason == "DEADLINE_EXCEEDED"


@pytest.fixture(scope="module")
def impatient(engine: str, tmp_path_factory: pytest.TempPathFactory):
    """Start a server that waits one second for requests."""
    process = ServerProcess(tmp_path_factory.mktemp("impatient"), request_timeout_s="1", reflection_idle_max_s="1")
    yield process
    process.kill()


@pytest.mark.engine("sqlite", reason="the request does not arrive, so no database is asked")
def test_trickled_request_ends_with_the_time_for_all_of_it(impatient: ServerProcess):
    """Occasional bytes do not extend the timeout."""
    with Attacker(impatient.address) as attacker:
        stream = attacker.open(GET, struct.pack(">BI", 0, 1000))
        heard = attacker.streams[stream]
        sends = threading.Thread(
            target=lambda: [attacker.data(stream, b"x") or threading.Event().wait(0.05) for _ in range(600)],
            daemon=True,
        )
        sends.start()
        wait_until(lambda: heard.is_over, what="the trickled call ends")
        assert heard.status == DEADLINE_EXCEEDED


@pytest.mark.engine("sqlite", reason="the request is not served, so no database is asked")
def test_idle_reflection_ends(impatient: ServerProcess):
    with Attacker(impatient.address) as attacker:
        stream = attacker.open(REFLECT, frame_message(b"\x3a\x00"))
        wait_until(lambda: attacker.streams[stream].data != b"", what="the answer")
        assert attacker.await_end(stream).status == DEADLINE_EXCEEDED


def test_unknown_method_is_refused_before_its_request(attack: Attack):
    attacker = attack()
    for path in (UNKNOWN, "/", "/x", "/grpc.health.v1.Health/Nothing", "/grpc.reflection.v1.ServerReflection/Nothing"):
        heard = attacker.await_end(attacker.open(path))
        assert heard.status == UNIMPLEMENTED
        assert "grpc-status-details-bin" in heard.headers


def test_bytes_of_unfinished_requests_are_bounded(server: ServerProcess, attack: Attack):
    """Attack 4: messages of 16 MiB less one byte, then of the size limit less one byte."""
    before = memory_mib(server)
    with run_unharmed_callers(server):
        for size in (16 * MIB, 2 * MIB):
            attackers = [attack() for _ in range(4)]
            for attacker in attackers:
                attacker.socket.settimeout(2)
                for _ in range(50):
                    attacker.open(GET, struct.pack(">BI", 0, size) + bytes(60_000))
                raw = bytes(16_384)
                for _ in range(40):
                    for stream in list(attacker.streams):
                        if not attacker.is_closed:
                            attacker.data(stream, raw)
    assert memory_mib(server) - before < 512


def test_deadline_of_one_address_costs_no_other_address(server: ServerProcess, attack: Attack):
    """The address with the most calls is evicted first: a single call of another address is not."""
    patient = attack(source="127.0.0.2")
    stream = patient.open(GET, frame_message(b"")[:3])
    attackers = [attack() for _ in range(4)]
    streams = [(attacker, attacker.open(GET)) for attacker in attackers for _ in range(100)]
    wait_until(lambda: sum(a.streams[s].is_over for a, s in streams) > 100, what="the hog is evicted")
    assert patient.streams[stream].status is None
    patient.data(stream, frame_message(b"")[3:], ends=True)
    assert patient.await_end(stream).status == 16


@pytest.mark.engine("sqlite", reason="several workers hold the same budget each, whatever the engine")
def test_several_workers_hold_up_nobody_either(make_server: MakeServer):
    server = make_server("--workers", "2")
    with run_unharmed_callers(server):
        attackers = [Attacker(server.address) for _ in range(20)]
        for attacker in attackers:
            for path in (GET, PLACE, CHECK, UNKNOWN, REFLECT):
                for _ in range(20):
                    attacker.open(path)
    for attacker in attackers:
        attacker.close()
