"""Webhooks: an endpoint's life, its secret shown once, its deliveries, and events that are sent again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from storekeep.client import ApiKey, Customer, Role, ServiceAccount, Storekeep, WebhookEndpoint
from storekeep.v1 import webhooks_pb2 as pb
from tests.support.databases import new_database
from tests.support.gateways import GatewayProcess
from tests.support.processes import ServerProcess
from tests.support.receivers import ACCEPT, Receiver, answer_with, receive
from tests.support.shops import new_id
from tests.support.visitors import Page, Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
TIMEOUT_S = 60.0
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receive(tmp_path_factory.mktemp("receiver")) as running:
        yield running


@pytest.fixture(scope="module")
def server(engine: str, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    database = new_database(engine, folder)
    process = ServerProcess(
        folder,
        database=database,
        webhook_allowed_networks="127.0.0.0/8",
        webhook_ports="any",
        webhook_ca_file=str(receiver.ca_file),
        webhook_interval_s="0.1",
    )
    yield process
    process.kill()
    database.remove()


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition is true."""
    end_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def create(client: Storekeep, url: str = "https://example.invalid/hooks", *types: str) -> WebhookEndpoint:
    """Create an endpoint that is paused, so that nothing is sent to it."""
    endpoint = WebhookEndpoint(url=url, event_types=types or ("product.*",))
    made = client.webhooks.create(endpoint).webhook_endpoint
    return client.webhooks.pause(made.name)


def read_secret(page: Page) -> str:
    """Return the secret on a page; empty if it shows none."""
    return page.body.partition('id="secret">')[2].partition("<")[0]


def deliver(client: Storekeep, url: str) -> tuple[WebhookEndpoint, pb.WebhookDelivery]:
    """Return an endpoint and its first delivery, which was tried."""
    endpoint = client.webhooks.create(WebhookEndpoint(url=url, event_types=["customer.*"])).webhook_endpoint
    client.customers.create(Customer(display_name="Ada"))
    wait_for(lambda: any(one.attempts for one in client.webhooks.list_deliveries(endpoint.name)))
    return endpoint, next(iter(client.webhooks.list_deliveries(endpoint.name)))


def test_endpoint_is_created_and_its_secret_shown_once(admin: Visitor, client: Storekeep):
    key = new_id("erp")
    form = admin.get("/webhookEndpoints/new").form("/webhookEndpoints/new")
    values = {
        "display_name": "ERP",
        "url": "https://example.invalid/hooks",
        "event_types": "order.*\r\nproduct.created",
        "payload": "WEBHOOK_PAYLOAD_FULL",
        "labels": "team=erp",
        "resource_id": key,
    }
    page = admin.post(form.action, dict(form.fields) | values)
    secret = read_secret(page)
    assert secret.startswith("whsec_")
    assert any("data-copy" in attributes for _, attributes in page.tags)
    assert read_secret(admin.post(form.action, dict(form.fields) | values)) == secret  # the same form again
    endpoint = client.webhooks.get(f"webhookEndpoints/{key}")
    assert list(endpoint.event_types) == ["order.*", "product.created"]
    assert endpoint.payload == pb.WEBHOOK_PAYLOAD_FULL
    assert dict(endpoint.labels) == {"team": "erp"}
    assert "whsec_" not in admin.get(f"/webhookEndpoints/{key}").body
    assert f"/webhookEndpoints/{key}" in admin.get("/webhookEndpoints").links


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ({"url": "http://example.com/", "event_types": "order.*"}, "URL"),
        ({"url": "https://example.invalid/", "event_types": "order.eaten"}, "Events"),
        ({"url": "https://example.invalid/", "event_types": "Order!"}, "Events"),
    ],
)
def test_wrong_endpoint_is_refused_beside_the_field(admin: Visitor, values: dict[str, str], label: str):
    form = admin.get("/webhookEndpoints/new").form("/webhookEndpoints/new")
    page = admin.submit(form, display_name="ERP", **values)
    assert page.status == 400
    assert f"Nothing was saved. Correct {label}." in page.text
    assert ("url", values["url"]) in page.form("/webhookEndpoints/new").fields


def test_endpoint_is_changed_paused_resumed_deleted_and_restored(admin: Visitor, client: Storekeep):
    endpoint = create(client)
    path = f"/{endpoint.name}"
    page = admin.submit(admin.get(path).form(path, button="Save"), display_name="New name", event_types="*")
    assert "The webhook endpoint has been changed." in page.text
    assert list(client.webhooks.get(endpoint.name).event_types) == ["*"]
    for button, text in (
        ("Resume", "The webhook endpoint has been resumed."),
        ("Pause", "The webhook endpoint has been paused."),
        ("Delete", "The webhook endpoint has been deleted."),
        ("Restore", "The webhook endpoint has been restored."),
    ):
        page = admin.submit(page.form(f"{path}/state", button=button))
        assert text in page.text
    form = page.form(f"{path}/state", button="Resume")
    client.webhooks.update(WebhookEndpoint(name=endpoint.name, display_name="Theirs"), update_mask=["display_name"])
    page = admin.submit(form)
    assert page.status == 409
    assert "ETAG_MISMATCH" in page.text


def test_new_secret_is_shown_once_with_its_overlap(admin: Visitor, client: Storekeep):
    endpoint = create(client)
    path = f"/{endpoint.name}"
    form = admin.get(path).form(f"{path}/rotate")
    for hours in ("-1", "721", "soon", "9" * 400):
        assert admin.submit(form, overlap_hours=hours).status == 400
    page = admin.submit(form, overlap_hours="2")
    assert read_secret(page).startswith("whsec_")
    assert "The previous secret ends" in page.text
    assert "whsec_" not in admin.get(path).body


def test_test_event_leads_to_its_delivery(admin: Visitor, client: Storekeep, receiver: Receiver):
    path = f"/{new_id()}"
    receiver.answers[path] = [answer_with("418 Teapot", body=f"no {SCRIPT}".encode())]
    endpoint = client.webhooks.create(WebhookEndpoint(url=receiver.url(path), event_types=["order.*"])).webhook_endpoint
    page = admin.submit(admin.get(f"/{endpoint.name}").form(f"/{endpoint.name}/test"))
    assert "A test event is on its way." in page.text
    delivery = next(iter(client.webhooks.list_deliveries(endpoint.name)))
    wait_for(lambda: client.webhooks.get_delivery(delivery.name).attempts)
    page = admin.get(f"/{delivery.name}")
    for text in (f"POST {receiver.url(path)}", delivery.webhook_id, "webhook_endpoint.tested", "418", "Next attempt"):
        assert text in page.text
    assert SCRIPT in page.text
    assert SCRIPT not in page.body
    assert f"/{delivery.name}" in admin.get(f"/{endpoint.name}").links


def test_one_event_is_sent_again_once(admin: Visitor, client: Storekeep, receiver: Receiver):
    path = f"/{new_id()}"
    endpoint, delivery = deliver(client, receiver.url(path))
    client.customers.create(Customer(display_name="Bob"))
    wait_for(lambda: len(receiver.received[path]) == 2)
    form = admin.get(f"/{delivery.name}").form(f"/{delivery.name}")
    for _ in range(2):
        assert "The event is sent again." in admin.submit(form).text
    wait_for(lambda: len(receiver.received[path]) == 3)
    assert receiver.received[path][2][0]["webhook-id"] == delivery.webhook_id
    client.webhooks.update(WebhookEndpoint(name=endpoint.name, event_types=["order.*"]), update_mask=["event_types"])
    page = admin.submit(admin.get(f"/{delivery.name}").form(f"/{delivery.name}"))
    assert page.status == 409
    assert "no longer asks for events of this type" in page.text


def test_events_of_a_time_are_checked_and_then_sent_again(admin: Visitor, client: Storekeep, receiver: Receiver):
    path = f"/{new_id()}"
    endpoint, _ = deliver(client, receiver.url(path))
    client.customers.create(Customer(display_name="Bob"))
    wait_for(lambda: len(receiver.received[path]) == 2)
    action = f"/{endpoint.name}/redeliver"
    fields = dict(admin.get(f"/{endpoint.name}").form(action).fields) | {"start": "2020-01-01T00:00"}
    page = admin.post(action, fields | {"step": "check", "failed_only": "yes"})
    assert "0 events would be sent again" in page.text
    page = admin.post(action, fields | {"step": "check", "types": "customer.*"})
    assert "Nothing has been sent yet." in page.text
    checked = dict(page.form(action).fields) | {"step": "apply"}
    assert checked["types"].strip() == "customer.*"
    page = admin.post(action, checked | {"types": "customer.created"})  # differs from what was checked
    assert "Nothing has been sent yet." in page.text
    page = admin.post(action, dict(page.form(action).fields) | {"step": "apply"})
    assert "sent again." in page.text
    wait_for(lambda: len(receiver.received[path]) >= 4)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "From: enter the time"),
        ({"start": "yesterday"}, "is not a time"),
        ({"start": "2020-01-01T00:00", "types": "nonsense"}, "INVALID_FIELD"),
        ({"start": "2020-01-01T00:00", "after_event": "x"}, "whole number"),
        ({"start": "0001-01-01T00:00"}, ""),
    ],
)
def test_wrong_span_of_time_is_explained(admin: Visitor, client: Storekeep, values: dict[str, str], text: str):
    endpoint = create(client)
    action = f"/{endpoint.name}/redeliver"
    fields = dict(admin.get(f"/{endpoint.name}").form(action).fields)
    page = admin.post(action, fields | values | {"step": "check"})
    assert page.status in ((200, 400) if not text else (400,))
    assert text in page.text


def test_reader_is_offered_no_change_and_refused(gateway: GatewayProcess, client: Storekeep):
    endpoint = create(client)
    role = client.auth.create_role(Role(display_name="Reader", permissions=["webhooks.read"]))
    account = client.auth.create_service_account(ServiceAccount(display_name="Reader", roles=[role.name]))
    reader = Visitor(gateway.address)
    reader.sign_in(client.auth.create_api_key(account.name, ApiKey(display_name="console")).secret)
    page = reader.get(f"/{endpoint.name}")
    assert [form.action for form in page.forms if form.method == "post"] == ["/sign-out"]
    token = dict(page.form("/sign-out").fields)
    paths = ["/webhookEndpoints/new", *(f"/{endpoint.name}{end}" for end in ("", "/state", "/rotate", "/redeliver"))]
    for path in [*paths, f"/{endpoint.name}/test", f"/{endpoint.name}/deliveries/1"]:
        assert reader.post(path, token).status == 403
    assert client.webhooks.get(endpoint.name).etag == endpoint.etag


def test_dashboard_counts_endpoints_whose_last_attempt_failed(admin: Visitor, client: Storekeep, receiver: Receiver):
    def count() -> int:
        page = admin.get("/")
        assert "/webhookEndpoints?failing=true" in page.links
        return int(page.text.partition("Failing webhooks")[0].split()[-1])

    for one in client.webhooks.list(filter="failing = true"):
        client.webhooks.pause(one.name)
    path = f"/{new_id()}"
    receiver.answers[path] = [answer_with("500 Broken")]
    assert count() == 0
    endpoint, _ = deliver(client, receiver.url(path))
    wait_for(lambda: count() == 1)
    assert f"/{endpoint.name}" in admin.get("/webhookEndpoints?failing=true").links
    assert f"/{endpoint.name}" not in admin.get("/webhookEndpoints?failing=false").links
    client.webhooks.pause(endpoint.name)
    assert count() == 0
    receiver.answers[path] = [ACCEPT]
    client.webhooks.resume(endpoint.name)
    wait_for(lambda: client.webhooks.list_deliveries(endpoint.name, filter="state = DELIVERED").page().items)
    assert count() == 0
