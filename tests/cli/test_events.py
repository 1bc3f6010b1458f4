"""Commands for events and webhooks as people use them: readable contents, ages, mistyped types, the wrong port."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from storekeep.client import Customer, Storekeep
from tests.support.command_line import CommandLine
from tests.support.shops import new_id

ENDPOINT = ("--url", "https://example.com/hooks", "--event", "customer.*")


@pytest.fixture
def number(client: Storekeep) -> str:
    """The number of the newest event, of a customer."""
    client.customers.create(Customer(display_name="Ada Marsh"), customer_id=new_id())
    (event,) = client.events.list(order_by="sequence desc", page_size=1).page().items
    return event.name.rpartition("/")[2]


def test_events_show_prints_the_resource_as_json(cli: CommandLine, number: str):
    shown = cli("events", "show", number)
    assert shown.code == 0, shown.err
    content = shown.out[shown.out.index("content") :]
    assert '"displayName": "Ada Marsh"' in content
    assert "type.googleapis.com" not in shown.out
    cell = cli("events", "show", number, "--output", "csv", "--columns", "content")
    assert json.loads(cell.out.splitlines()[1].replace('""', '"').strip('"'))["displayName"] == "Ada Marsh"


def test_redeliver_takes_an_age(cli: CommandLine, number: str):
    endpoint = new_id()
    assert cli("webhooks", "create", "--id", endpoint, *ENDPOINT).code == 0
    document = cli.json("webhooks", "redeliver", endpoint, "--since", "1h", "--until", "0s")
    assert int(document["events"]) >= 1
    refused = cli("webhooks", "redeliver", endpoint, "--since", "soon")
    assert refused.code == 2
    assert "an age such as 30m or 7d" in " ".join(refused.err.split())


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("order.plcaed", "did you mean order.placed?"),
        ("ordr.placed", "did you mean order.*?"),
        ("stock.exhausted", "use one of: stock.low, stock.out, stock.back"),
        ("session.created", "use one of: category.*"),
    ],
)
def test_unknown_event_type_is_refused_with_advice(cli: CommandLine, text: str, advice: str):
    for arguments in (
        ("events", "list", "--filter", f'type = "{text}"'),
        ("events", "list", "--filter", f'type != "{text}"'),
        ("webhooks", "create", "--url", "https://example.com/", "--event", text),
    ):
        refused = cli(*arguments)
        assert refused.code == 1
        assert advice in " ".join(refused.err.split())


@pytest.mark.parametrize("text", ["order.*", "order*", "order.placed", "stock.back", "*"])
def test_known_event_type_is_accepted(cli: CommandLine, text: str):
    if text != "*":
        assert cli("events", "list", "--filter", f'type = "{text}"').code == 0
    if text != "order*":
        assert cli("webhooks", "create", "--url", "https://example.com/", "--event", text).code == 0


@pytest.fixture
def http_address() -> Iterator[str]:
    """The address of a server that knows HTTP/1 only."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65_536)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("command", [("orders", "list"), ("health",)])
def test_http_port_is_named_as_such(
    cli: CommandLine, http_address: str, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
):
    monkeypatch.setenv("STOREKEEP_ADDRESS", http_address)
    refused = cli(*command)
    assert refused.code == 4
    assert f"{http_address} speaks HTTP, not gRPC; use the gRPC port" in " ".join(refused.err.split())
