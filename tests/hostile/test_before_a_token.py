"""Attacks that are refused before authentication: compressed messages, huge metadata, connections, streams."""

from __future__ import annotations

import gzip
import signal
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hyperframe.frame import ContinuationFrame

from storekeep.server.transport.budgets import get_address_block, get_peer_address
from tests.conftest import MakeServer
from tests.hostile.conftest import Attack
from tests.support.hostile.callers import run_unharmed_callers
from tests.support.hostile.usage import cpu_s, memory_mib
from tests.support.hostile.wire import CHECK, GET, LIST, REFLECT, UNKNOWN, WATCH, Attacker, frame_message, wait_until
from tests.support.processes import ServerProcess

INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 3, 5, 8, 12
BOMB_BYTES = 16_000_000
BLOCK_BYTES = 16 * 2**20
TRIES = 10
PATHS = (CHECK, LIST, GET, UNKNOWN, REFLECT, WATCH)

pytestmark = pytest.mark.engine("sqlite", reason="no database is asked")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bombs_are_not_inflated(server: ServerProcess, attack: Attack, encoding: str):
    """Attack 5: 16 KB cost 0.17 s."""
    compress = gzip.compress if encoding == "gzip" else zlib.compress
    bomb = frame_message(compress(bytes(BOMB_BYTES)), compressed=True)
    attacker = attack()
    for path in PATHS:
        before_s = cpu_s(server)
        for _ in range(20):
            heard = attacker.await_end(attacker.open(path, bomb, ends=True, extra=[("grpc-encoding", encoding)]))
            assert heard.status == UNIMPLEMENTED
        assert cpu_s(server) - before_s < 20 * 0.02, path


@pytest.mark.parametrize("encoding", [[], [("grpc-encoding", "identity")], [("grpc-encoding", "snappy")]])
def test_compressed_flag_without_an_encoding_is_refused(attack: Attack, encoding: list[tuple[str, str]]):
    attacker = attack()
    bomb = frame_message(gzip.compress(bytes(BOMB_BYTES)), compressed=True)
    heard = attacker.await_end(attacker.open(GET, bomb, ends=True, extra=encoding))
    assert heard.status != 0 or heard.reset is not None


def test_client_that_compresses_is_told_so(server: ServerProcess):
    request = health_pb2.HealthCheckRequest(service="x" * 2_000)
    with (
        grpc.insecure_channel(server.address, compression=grpc.Compression.Gzip) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "'gzip' is disabled" in refused.value.details()


@pytest.mark.parametrize("acknowledges", [True, False])
@pytest.mark.fast_path
def test_metadata_by_reference_cost_no_memory(server: ServerProcess, attack: Attack, acknowledges: bool):
    """Attack 4: a 4 KB entry of the HPACK table, referenced a thousand times in 1 KB."""
    before = memory_mib(server)
    for path in (GET, UNKNOWN, CHECK, WATCH):
        attacker = attack(acknowledges=acknowledges)
        for _ in range(40):
            attacker.send(
                *attacker.build_header_frames(path, block=build_referencing_block(attacker, path, times=1_000))
            )
        time.sleep(0.2)
    assert attack().call(CHECK).status == 0
    assert memory_mib(server) - before < 128


def build_referencing_block(attacker: Attacker, path: str, *, times: int, length: int = 4_000) -> bytes:
    """Return a header block that references an entry of the HPACK table many times; the first occurrence adds it."""
    head = b"".join(
        b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value  # never indexed (RFC 7541, 6.2.3)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path.encode()),
            (b":authority", b"localhost"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        )
    )
    size = bytes([length]) if length < 127 else b"\x7f" + encode_varint(length - 127)
    entry = b"\x40\x01x" + size + b"y" * length if len(attacker.streams) == 0 else b""
    return head + entry + b"\xbe" * times


def encode_varint(value: int) -> bytes:
    """Return the continuation bytes of an integer that exceeds its prefix (RFC 7541, 5.1)."""
    out = b""
    while value >= 128:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


@pytest.mark.fast_path
@pytest.mark.parametrize("path", [GET, UNKNOWN, WATCH])
def test_metadata_beyond_the_limit_are_refused_before_settings_are_acknowledged(attack: Attack, path: str):
    for _ in range(TRIES):
        attacker = attack(acknowledges=False)
        heard = attacker.await_end(attacker.open(path, frame_message(b""), ends=True, extra=[("x", "y" * 40_000)]))
        if heard.status is not None:  # else a busy machine answers later than the server waits for the acknowledgement
            break
    assert heard.status == RESOURCE_EXHAUSTED


@pytest.mark.fast_path
def test_connection_with_far_too_much_metadata_ends(server: ServerProcess, attack: Attack):
    """Before SETTINGS are acknowledged, 40 MB of one-byte HPACK references took 20 s of CPU and gigabytes."""
    for path in (GET, UNKNOWN, WATCH):
        attacker = attack(acknowledges=False)
        before_s, before = cpu_s(server), memory_mib(server)
        for _ in range(400):
            block = build_referencing_block(attacker, path, times=100_000, length=1)
            if not attacker.send(*attacker.build_header_frames(path, block=block)):
                break
        attacker.await_closed()
        assert cpu_s(server) - before_s < 4
        assert memory_mib(server) - before < 512
        assert attack().call(CHECK).status == 0
    server.await_log("connections closed: far too much metadata")


def test_header_block_without_end_costs_little_and_its_connection_ends(make_server: MakeServer):
    """gRPC's core drops what exceeds the limit. The connection stays open like any other, until it is too old."""
    server = make_server(connection_age_max_s="2", connection_age_grace_s="1")
    with Attacker(server.address) as attacker:
        attacker.call(CHECK)
        before_s, before = cpu_s(server), memory_mib(server)
        stream = attacker.open_block(GET)
        part = b"\x00\x01x\x7f\x81\x7d" + b"y" * 16_000  # a field that is not indexed (RFC 7541, 6.2.2)
        for _ in range(BLOCK_BYTES // len(part)):
            if not attacker.send(ContinuationFrame(stream, part)):
                break
        assert attacker.await_end(stream).status in (RESOURCE_EXHAUSTED, None)
        assert memory_mib(server) - before < 16
        assert cpu_s(server) - before_s < 4
        with Attacker(server.address) as other:
            assert other.call(CHECK).status == 0
        attacker.await_closed()


@pytest.mark.fast_path
def test_connection_that_goes_on_with_too_much_metadata_ends(attack: Attack):
    attacker = attack(acknowledges=False)
    too_large = build_referencing_block(attacker, GET, times=1_000, length=1)
    attacker.send(*attacker.build_header_frames(GET, block=too_large))
    assert attacker.await_end(1).reason == "MESSAGE_TOO_LARGE"  # a few are only refused
    for _ in range(200):
        attacker.send(*attacker.build_header_frames(GET, block=build_referencing_block(attacker, GET, times=1_000)))
    attacker.await_closed()


def test_token_that_is_not_utf8_is_not_logged(server: ServerProcess, attack: Attack):
    """Attack 12."""
    attacker = attack()
    token = b"Bearer sk-secret-token\xff"
    attacker.await_end(attacker.open(GET, frame_message(b""), ends=True, extra=[("authorization", token)]))  # type: ignore[list-item]
    attacker.await_end(attacker.open(GET, frame_message(b""), ends=True, extra=[(b"sk-secret-token\xff", "x")]))  # type: ignore[list-item]
    attacker = attack()
    attacker.await_end(attacker.open(b"/sk-secret-token\xff", frame_message(b""), ends=True))  # type: ignore[arg-type]
    attack().call(UNKNOWN)
    time.sleep(1.1)
    attack().call(UNKNOWN)
    server.await_log("UNKNOWN_METHOD")
    assert "sk-secret-token" not in server.log()
    assert "Traceback" not in server.log()


# -- health and reflection are answered without a thread


@pytest.mark.fast_path
def test_health_answers_what_cannot_be_asked(attack: Attack):
    attacker = attack()
    assert attacker.call(CHECK, b"\x0a\x06nobody").status == NOT_FOUND
    for path in (CHECK, WATCH, LIST, REFLECT):
        heard = attacker.call(path, b"\xff")
        assert (heard.status, heard.reason) == (INVALID_ARGUMENT, "MALFORMED_MESSAGE")
    heard = attacker.call(REFLECT, b"\x22\xff\x7f" + b"x" * 16_383)
    assert (heard.status, heard.reason) == (RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")


@pytest.mark.fast_path
def test_call_without_a_request_is_told_why(attack: Attack):
    attacker = attack()
    for path in (CHECK, LIST, WATCH, GET):
        heard = attacker.await_end(attacker.open(path, b"", ends=True))
        assert (heard.status, heard.reason) == (INVALID_ARGUMENT, "MALFORMED_MESSAGE"), path


def test_watch_of_an_unknown_service_is_answered_and_not_remembered(server: ServerProcess, attack: Attack):
    """Each unknown name would be kept indefinitely."""
    attacker = attack()
    before = memory_mib(server)
    for number in range(600):
        name = f"{number:08d}" + "x" * 60_000
        stream = attacker.open(WATCH, frame_message(health_pb2.HealthCheckRequest(service=name).SerializeToString()))
        wait_until(lambda heard=attacker.streams[stream]: heard.data != b"", what="the answer")
        assert attacker.streams[stream].data[5:] == b"\x08\x03"
        attacker.reset(stream)
    wait_until(lambda: memory_mib(server) - before < 24, what="memory is given back")


@pytest.fixture(scope="module")
def limited_server(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start a server with low limits."""
    process = ServerProcess(
        tmp_path_factory.mktemp("narrow"),
        watch_streams_max="16",
        reflection_streams_max="4",
        connections_per_address_max="8",
    )
    yield process
    process.kill()


@pytest.fixture(scope="module")
def impatient_server(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start a server that waits a second for the beginning of a connection."""
    process = ServerProcess(tmp_path_factory.mktemp("impatient"), handshake_timeout_s="1")
    yield process
    process.kill()


@pytest.mark.engine("sqlite", reason="the locks are those of SQLite's file")
def test_connections_that_are_closed_leave_the_locks_of_the_database(limited_server: ServerProcess):
    """Closing any descriptor of a file drops all of the process's locks on it; the guard watches all descriptors."""
    before = find_locks(limited_server)
    attackers = [Attacker(limited_server.address, source="127.0.0.3") for _ in range(24)]
    wait_until(lambda: sum(attacker.is_closed for attacker in attackers) >= 16, what="the newest are closed")
    assert find_locks(limited_server) == before != []
    for attacker in attackers:
        attacker.close()


def find_locks(server: ServerProcess) -> list[str]:
    """Return the inodes of the database files on which the server holds a POSIX lock; reads add locks to the same."""
    inodes = {path.stat().st_ino for path in server.data_dir.glob("storekeep.db*")}
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    found = [lock for lock in locks if lock[1] == "POSIX" and lock[4] == str(server.process.pid)]
    return sorted({lock[5] for lock in found if int(lock[5].rpartition(":")[2]) in inodes})


@pytest.mark.fast_path
def test_watch_streams_of_one_address_are_bounded(limited_server: ServerProcess):
    with Attacker(limited_server.address) as attacker, Attacker(limited_server.address, source="127.0.0.2") as other:
        streams = [attacker.open(WATCH, frame_message(b"")) for _ in range(20)]
        wait_until(lambda: sum(attacker.streams[s].is_over for s in streams) >= 16, what="streams are refused")
        refused = [heard for s in streams if (heard := attacker.streams[s]).is_over]
        assert {heard.status for heard in refused} == {RESOURCE_EXHAUSTED}
        watched = other.open(WATCH, frame_message(b""))
        wait_until(lambda: other.streams[watched].data != b"", what="another address watches")
        assert sum(attacker.streams[s].is_over for s in streams) == 16


@pytest.mark.fast_path
def test_idle_reflection_gives_way(limited_server: ServerProcess):
    with Attacker(limited_server.address) as attacker:
        idle = [attacker.open(REFLECT, frame_message(b"\x3a\x00")) for _ in range(4)]
        wait_until(lambda: all(attacker.streams[s].data for s in idle), what="answers")
        attacker.data(idle[0], frame_message(b"\x3a\x00"))
        newcomer = attacker.open(REFLECT, frame_message(b"\x3a\x00"))
        wait_until(lambda: attacker.streams[newcomer].data != b"", what="the newcomer is answered")
        assert attacker.await_end(idle[1]).status == RESOURCE_EXHAUSTED
        assert not attacker.streams[newcomer].is_over


def test_connections_of_one_address_are_bounded(limited_server: ServerProcess):
    attackers = [Attacker(limited_server.address, source="127.0.0.4") for _ in range(30)]
    wait_until(lambda: sum(attacker.is_closed for attacker in attackers) >= 22, what="connections are closed")
    assert [attacker.is_closed for attacker in attackers[:8]] == [False] * 8
    assert attackers[0].call(CHECK).status == 0
    with Attacker(limited_server.address, source="127.0.0.2") as other:
        assert other.call(CHECK).status == 0
    for attacker in attackers:
        attacker.close()


@pytest.mark.parametrize("begun", [b"", b"PRI * HT", b"GET / HTTP/1.1\r\n\r\n"])
def test_connection_that_does_not_begin_is_closed(impatient_server: ServerProcess, begun: bytes):
    with Attacker(impatient_server.address, preface=False) as attacker:
        attacker.send_raw(begun)
        attacker.await_closed()


def test_connection_that_does_not_acknowledge_settings_is_closed(impatient_server: ServerProcess):
    with Attacker(impatient_server.address, acknowledges=False) as attacker:
        attacker.await_closed()


def test_burst_of_calls_on_a_new_connection_loses_none(server: ServerProcess):
    """A client opens streams before it knows the limit."""
    for _ in range(5):
        with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            calls = [check.future(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(500)]
            assert {call.code() for call in calls} == {grpc.StatusCode.OK}


def test_streams_are_bounded_before_settings_are_acknowledged(attack: Attack):
    attacker = attack(acknowledges=False)
    streams = [attacker.open(GET) for _ in range(500)]
    wait_until(lambda: sum(attacker.streams[s].is_over for s in streams) >= 400, what="streams are refused")


def test_idle_and_old_connections_are_closed_in_good_order(make_server: MakeServer):
    server = make_server(connection_idle_max_s="1", connection_age_max_s="2", connection_age_grace_s="1")
    with Attacker(server.address) as idle, Attacker(server.address) as busy:
        busy.open(WATCH, frame_message(b""))
        idle.await_closed()
        busy.await_closed()
        assert idle.goaway is not None
        assert busy.goaway == 0
    patient = make_server(connection_idle_max_s="1", connection_age_max_s="2")
    with run_unharmed_callers(patient):
        time.sleep(3)


@pytest.mark.fast_path
def test_open_streams_hold_no_end_up(make_server: MakeServer):
    """Attack 10: an open reflection stream delayed SIGTERM for the whole drain time, even if its client never reads."""
    server = make_server(drain_s="60")
    attacker = Attacker(server.address, window=0)
    asked = frame_message(b"\x22\x19storekeep.v1.OrderService")
    attacker.open(REFLECT, asked)
    attacker.open(WATCH, frame_message(b""))
    attacker.open(REFLECT)
    unfinished = attacker.open(GET)
    reader = Attacker(server.address)
    watch = reader.open(WATCH, frame_message(b""))
    wait_until(lambda: reader.streams[watch].data != b"", what="the watch is answered")
    begun_s = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=60) == 0
    assert time.monotonic() - begun_s < 30
    assert attacker.streams[unfinished].reason == "SHUTTING_DOWN"
    assert reader.streams[watch].data[-2:] == b"\x08\x02"
    attacker.close()
    reader.close()


def test_reflection_finds_the_symbol_of_a_method(attack: Attack):
    attacker = attack()
    for symbol in ("storekeep.v1.OrderService.PlaceOrder", "storekeep.v1.OrderService", "storekeep.v1.Order.name"):
        heard = attacker.call(REFLECT, b"\x22" + bytes([len(symbol)]) + symbol.encode())
        assert heard.status == 0
        assert b"storekeep/v1/orders.proto" in heard.data
    symbol = "storekeep.v1.OrderService.Nothing"
    assert b"orders.proto" not in attacker.call(REFLECT, b"\x22" + bytes([len(symbol)]) + symbol.encode()).data


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:40404", "127.0.0.1"),
        ("ipv6:%5B2001:db8:1:2:3::4%5D:40404", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::9]:1", "2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:40404", "192.0.2.1"),
        ("unix:", "unix"),
    ],
)
def test_address_of_a_peer(peer: str, address: str):
    assert get_peer_address(peer) == address


def test_block_of_an_address():
    assert get_address_block("fe80::1%eth0") == "fe80::/64"
