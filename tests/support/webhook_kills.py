"""Kills of a server under load while a receiver gets its webhooks: it has exactly the committed events in the end."""

from __future__ import annotations

import json

from storekeep.client import Storekeep, WebhookEndpoint
from tests.conftest import MakeServer
from tests.support.buyers import Buyers, kill_while_buying
from tests.support.receivers import Receiver

PATH = "/kills"
SETTINGS = {
    "webhook_allowed_networks": "127.0.0.0/8",
    "webhook_ports": "any",
    "webhook_timeout_s": "2",
    "webhook_interval_s": "0.1",
    "webhook_attempts_per_endpoint_max": "16",
}
LOAD_MAX_S = 0.3
END_TIMEOUT_S = 600.0
"""On PostgreSQL, the claims of a killed process end after half a minute."""


def get_number(webhook_id: str) -> str:
    """Return the number of the event that a message with this id is about."""
    return webhook_id.split("_")[1]


def kill_while_sending(make_server: MakeServer, receiver: Receiver, *, rounds: int, seed: int) -> tuple[int, int]:
    """Kill a server under load, and compare what its receiver has with the ledger. Return both numbers of messages.

    Returns: the number of events, and of the messages with repetitions.
    """
    server = make_server(**SETTINGS, webhook_ca_file=str(receiver.ca_file))
    buyers = Buyers(server, seed=seed)
    with Storekeep(server.address, api_key=server.admin_key) as client:
        start = client.events.list(order_by="sequence desc", page_size=1).page().items[0].cursor
        client.webhooks.create(WebhookEndpoint(url=receiver.url(PATH), event_types=["*"]))
    for _ in range(rounds):
        kill_while_buying(buyers, after_s=buyers.random.uniform(0, LOAD_MAX_S))
    buyers.check()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        events = {
            event.name.removeprefix("events/"): (event.type, event.resource)
            for event in client.events.list(cursor=start, page_size=1_000)
        }
    receiver.wait_for(lambda: {get_number(one) for one in receiver.ids} >= events.keys(), timeout_s=END_TIMEOUT_S)
    assert len(receiver.ids) == len(events)
    messages = [(headers["webhook-id"], json.loads(body)) for headers, body in receiver.received[PATH]]
    assert {get_number(one): (body["type"], body["data"]["name"]) for one, body in messages} == events
    return len(events), len(messages)
