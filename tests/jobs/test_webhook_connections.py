"""The webhook job closes connections that no message will use: in its loop, and at its stop."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.webhooks.endpoints import EndpointSecrets
from storekeep.server.integrations import connection_pools
from storekeep.server.integrations.addresses import AddressRules
from storekeep.server.integrations.requests import Sender
from storekeep.server.integrations.signatures import generate_secret
from storekeep.server.jobs.webhooks import WebhookJob
from storekeep.server.runtime.webhook_settings import WebhookSettings
from storekeep.server.servicers.webhook_payloads import render_message
from storekeep.server.store.engine import Store
from tests.support.databases import Database
from tests.support.installations import SECRET
from tests.support.scripted_receivers import ScriptedReceiver
from tests.support.stores import open_store

pytestmark = pytest.mark.engine("sqlite", reason="connections to receivers are the same on both")


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    opened = open_store(database.url)
    yield opened
    opened.close()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[ScriptedReceiver]:
    with ScriptedReceiver(tmp_path) as running:
        yield running


@pytest.fixture
def sender(receiver: ScriptedReceiver) -> Sender:
    rules = AddressRules(ports=frozenset(), networks=(ipaddress.ip_network("127.0.0.0/8"),))
    return Sender(rules, timeout_s=30, body_max_bytes=100, ca_file=receiver.ca_file)


@pytest.fixture
def job(store: Store, sender: Sender) -> Iterator[WebhookJob]:
    secrets = EndpointSecrets(Keyring.from_secret(SECRET), generate=generate_secret, retention_s=600)
    made = WebhookJob(
        store, WebhookSettings(webhook_interval_s=0.05), sender=sender, render=render_message, secrets=secrets
    )
    yield made
    made.stop()


def test_running_job_closes_stale_connections_although_nothing_is_sent(
    job: WebhookJob, sender: Sender, receiver: ScriptedReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sender.post(receiver.url(), headers={}, body=b"{}").status == 200
    monkeypatch.setattr(connection_pools, "IDLE_MAX_S", 0)
    job.start()
    assert receiver.closed.acquire(timeout=60)


def test_stopped_job_leaves_no_connection_open(job: WebhookJob, sender: Sender, receiver: ScriptedReceiver) -> None:
    for _ in range(2):  # the second one as of an attempt that is still running
        assert sender.post(receiver.url(), headers={}, body=b"{}").status == 200
        job.stop()
        assert receiver.closed.acquire(timeout=60)
