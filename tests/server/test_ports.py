"""Ports: found taken by whoever has them, however they do, and held for those who mean to share."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from storekeep.server.ports import AddressTaken, reserve_port, split_address


@contextmanager
def sharing(port: int, *, listens: bool = True) -> Iterator[None]:
    """Another socket on the port, as a worker has it."""
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
