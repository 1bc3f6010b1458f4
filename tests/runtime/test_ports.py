"""Ports: taken ports are detected, and reserved ports can be shared by workers only."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from storekeep.server.runtime.ports import AddressTaken, find_free_addresses, reserve_port, split_address
from tests.support.processes import ServerProcess, run_command


@contextmanager
def sharing(port: int, *, listens: bool = True) -> Iterator[None]:
    """Open another socket on the port, as a worker does."""
    with socket.socket() as shared:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind(("127.0.0.1", port))
        if listens:
            shared.listen()
        yield


def test_free_port_is_held_for_those_who_share():
    with reserve_port("127.0.0.1:0") as address:
        _, port = split_address(address)
        with sharing(port), sharing(port):
            pass


def test_held_port_is_refused_to_another_server():
    with reserve_port("127.0.0.1:0") as address:
        with pytest.raises(AddressTaken), reserve_port(address):
            pass
        _, port = split_address(address)
        with sharing(port), pytest.raises(AddressTaken), reserve_port(address):
            pass


def test_port_that_was_given_up_is_free_again_at_once():
    with reserve_port("127.0.0.1:0") as address:
        _, port = split_address(address)
        with (
            socket.create_server(("127.0.0.1", port), reuse_port=True) as worker,
            socket.create_connection(("127.0.0.1", port)),
        ):
            worker.accept()[0].close()
    with reserve_port(address) as again:
        assert again == address


def test_name_of_several_addresses_is_held_on_one_port():
    with reserve_port("localhost:0") as address:
        assert address.startswith("localhost:")
        with pytest.raises(AddressTaken), reserve_port(f"127.0.0.1:{split_address(address)[1]}"):
            pass


@pytest.mark.parametrize("address", ["no.such.host.invalid:1", "192.0.2.1:1"])
def test_address_that_is_not_here_is_refused(address: str):
    with pytest.raises(AddressTaken), reserve_port(address):
        pass


@pytest.mark.parametrize(("address", "parts"), [("[::1]:5", ("::1", 5)), ("localhost:0", ("localhost", 0))])
def test_address_is_split_into_host_and_port(address: str, parts: tuple[str, int]):
    assert split_address(address) == parts


HAS_IPV6 = any(family == socket.AF_INET6 for family, *_ in socket.getaddrinfo("localhost", 0))


@contextmanager
def taken(host: str, port: int = 0) -> Iterator[int]:
    """Listen on one address exclusively, as another program does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as other:
        other.bind((host, port))
        other.listen()
        yield other.getsockname()[1]


def test_all_addresses_of_a_name_are_given_with_one_port():
    addresses = find_free_addresses("localhost:0")
    ports = {split_address(address)[1] for address in addresses}
    assert len(ports) == 1
    assert 0 not in ports
    assert ("[::1]" in " ".join(addresses)) == HAS_IPV6
    assert find_free_addresses("127.0.0.1:0")[0].startswith("127.0.0.1:")


IPV6_ALONE = pytest.mark.skipif(not HAS_IPV6, reason="localhost is one address here")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@IPV6_ALONE
def test_name_of_which_one_address_is_taken_is_refused_and_that_is_named(host):
    with taken(host) as port:
        named = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        for find in (find_free_addresses, lambda address: reserve_port(address).__enter__()):
            with pytest.raises(AddressTaken) as refused:
                find(f"localhost:{port}")
            assert f"cannot listen on localhost:{port} ({named})" in str(refused.value)


@pytest.mark.parametrize("workers", ["1", "2"])
@IPV6_ALONE
def test_server_does_not_listen_on_a_part_of_a_name(tmp_path, workers):
    assert run_command("migrate", data_dir=tmp_path).returncode == 0
    with taken("127.0.0.1") as port:
        refused = run_command("serve", data_dir=tmp_path, listen=f"localhost:{port}", workers=workers)
    assert refused.returncode == 1
    assert f"127.0.0.1:{port}" in refused.stderr.splitlines()[-1]


@IPV6_ALONE
def test_server_listens_on_every_address_of_a_name(tmp_path):
    server = ServerProcess(tmp_path, listen="localhost:0")
    try:
        host, port = split_address(server.address)
        assert host == "localhost"
        for one in ("127.0.0.1", "::1"):
            socket.create_connection((one, port), timeout=10).close()
    finally:
        server.kill()


def test_second_address_of_a_name_is_tried_too(monkeypatch):
    two = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in ("127.0.0.1", "127.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kinds: two)
    first, second = find_free_addresses("shop:0")
    assert split_address(first)[1] == split_address(second)[1]
    with taken("127.0.0.2") as port, pytest.raises(AddressTaken) as refused:
        find_free_addresses(f"shop:{port}")
    assert f"cannot listen on shop:{port} (127.0.0.2:{port})" in str(refused.value)
