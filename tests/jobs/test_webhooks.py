"""Webhooks from a real server to a real receiver: every event arrives in the end, or is listed with its problem."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storekeep.client import (
    ApiKey,
    Customer,
    EtagMismatch,
    Refused,
    Role,
    ServiceAccount,
    Storekeep,
    WebhookEndpoint,
    WebhookPayload,
)
from storekeep.client import errors as client_errors
from storekeep.v1 import webhooks_pb2 as pb
from tests.conftest import MakeServer
from tests.support import receivers
from tests.support.databases import new_database
from tests.support.hostile.usage import memory_mib
from tests.support.processes import ServerProcess
from tests.support.receivers import Receiver, answer_with, receive, verify_signature
from tests.support.shops import Shop, new_id, new_request_id
from tests.support.webhook_kills import kill_while_sending

pytestmark = pytest.mark.engine("sqlite", reason="what is sent is the same on both; tests of the queue have both")
DELIVERED = pb.WEBHOOK_DELIVERY_STATE_DELIVERED
PENDING = pb.WEBHOOK_DELIVERY_STATE_PENDING
ENABLED = pb.WEBHOOK_ENDPOINT_STATE_ENABLED
PAUSED = pb.WEBHOOK_ENDPOINT_STATE_PAUSED
DISABLED = pb.WEBHOOK_ENDPOINT_STATE_DISABLED
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receive(tmp_path_factory.mktemp("receiver")) as running:
        yield running


def make_settings(receiver: Receiver) -> dict[str, str]:
    return {
        "webhook_allowed_networks": "127.0.0.0/8",
        "webhook_ports": "any",
        "webhook_ca_file": str(receiver.ca_file),
        "webhook_timeout_s": "5",
        "webhook_interval_s": "0.1",
    }


@pytest.fixture(scope="module")
def server(engine: str, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    database = new_database(engine, folder)
    process = ServerProcess(folder, database=database, **make_settings(receiver))
    yield process
    process.kill()
    database.remove()


class Hooks:
    """Creates endpoints of the receiver and waits for deliveries."""

    def __init__(self, client: Storekeep, receiver: Receiver) -> None:
        self.client = client
        self.receiver = receiver

    def create(self, *types: str, answers: tuple[receivers.Answer, ...] = (), **fields: object) -> tuple[str, str, str]:
        """Create an endpoint with a path of its own. Return its name, its secret and the path."""
        path = f"/{new_id()}"
        if answers:
            self.receiver.answers[path] = list(answers)
        endpoint = WebhookEndpoint(url=self.receiver.url(path), event_types=types or ("customer.*",), **fields)
        made = self.client.webhooks.create(endpoint)
        return made.webhook_endpoint.name, made.secret, path

    def customer(self) -> Customer:
        return self.client.customers.create(Customer(display_name="Ada"), customer_id=new_id())

    def deliveries(self, name: str, **query: str) -> list[pb.WebhookDelivery]:
        return list(self.client.webhooks.list_deliveries(name, **query))

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until a condition is true."""
        end_s = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < end_s
            time.sleep(0.05)

    def wait_for_delivery(self, name: str, **query: str) -> pb.WebhookDelivery:
        """Wait until a delivery of an endpoint was tried, and return it."""
        self.wait_for(lambda: any(one.attempts for one in self.deliveries(name, **query)))
        return next(one for one in self.deliveries(name, **query) if one.attempts)

    def resource_names(self, path: str) -> list[str]:
        """Return the names of the resources that a path has received."""
        return [json.loads(body)["data"]["name"] for _, body in self.receiver.received[path]]


@pytest.fixture
def hooks(client: Storekeep, receiver: Receiver) -> Hooks:
    return Hooks(client, receiver)


@pytest.mark.engine("sqlite", "postgresql", reason="deliveries are claimed in another way on each")
def test_event_arrives_signed_and_is_listed_as_delivered(hooks: Hooks):
    name, secret, path = hooks.create()
    customer = hooks.customer()
    delivery = hooks.wait_for_delivery(name)
    assert (delivery.state, delivery.last_status, delivery.last_reply) == (DELIVERED, 200, "thank you")
    ((headers, body),) = hooks.receiver.received[path]
    verify_signature(secret, headers, body)
    assert headers["webhook-id"] == delivery.webhook_id
    message = json.loads(body)
    assert (message["type"], message["data"]) == ("customer.created", {"name": customer.name})
    assert hooks.client.webhooks.get_delivery(delivery.name) == delivery


def test_full_payload_has_the_resource_of_the_contract(hooks: Hooks):
    _, _, path = hooks.create(payload=WebhookPayload.WEBHOOK_PAYLOAD_FULL)
    customer = hooks.customer()
    hooks.receiver.wait_for(lambda: bool(hooks.receiver.received[path]))
    resource = json.loads(hooks.receiver.received[path][0][1])["data"]["resource"]
    assert (resource["name"], resource["displayName"], resource["etag"]) == (customer.name, "Ada", customer.etag)


def make_limited_client(client: Storekeep, server: ServerProcess, permissions: list[str]) -> Storekeep:
    """Return a client of a new account with these permissions."""
    role = client.auth.create_role(Role(display_name="Hooks", permissions=permissions), role_id=new_id())
    account = client.auth.create_service_account(ServiceAccount(display_name="Hooks", roles=[role.name]))
    return Storekeep(server.address, api_key=client.auth.create_api_key(account.name, ApiKey()).secret)


def test_full_payload_for_a_caller_without_personal_data_is_masked(hooks: Hooks, server: ServerProcess):
    permissions = ["webhooks.write", "webhooks.read", "customers.read"]
    with make_limited_client(hooks.client, server, permissions) as limited:
        name, _, path = Hooks(limited, hooks.receiver).create(payload=WebhookPayload.WEBHOOK_PAYLOAD_FULL)
        customer = hooks.customer()
        hooks.receiver.wait_for(lambda: bool(hooks.receiver.received[path]))
        resource = json.loads(hooks.receiver.received[path][0][1])["data"]["resource"]
        assert (resource["name"], resource["displayName"], resource["etag"]) == (customer.name, "***", customer.etag)
        assert limited.webhooks.get(name).exclude_personal_data
        change = WebhookEndpoint(name=name)
        assert limited.webhooks.update(change, update_mask=["exclude_personal_data"]).exclude_personal_data
        assert not hooks.client.webhooks.update(change, update_mask=["exclude_personal_data"]).exclude_personal_data
        renamed = limited.webhooks.update(WebhookEndpoint(name=name, display_name="Other"))
        assert not renamed.exclude_personal_data
        moved = WebhookEndpoint(name=name, url=hooks.receiver.url(f"/{new_id()}"))
        assert limited.webhooks.update(moved).exclude_personal_data


def test_full_payload_of_an_order_has_its_contact(hooks: Hooks, shop: Shop):
    _, _, path = hooks.create("order.placed", payload=WebhookPayload.WEBHOOK_PAYLOAD_FULL)
    sku = shop.variant(stock=1).sku
    request = shop.order_request((sku, 1))
    request.email = "ada@example.com"
    order = shop.orders.PlaceOrder(request)
    hooks.receiver.wait_for(lambda: bool(hooks.receiver.received[path]))
    resource = json.loads(hooks.receiver.received[path][0][1])["data"]["resource"]
    assert (resource["name"], resource["email"]) == (order.name, "ada@example.com")


def test_dry_run_and_other_types_send_nothing(hooks: Hooks):
    _, _, path = hooks.create("product.*", "customer.updated")
    hooks.client.customers.create(Customer(display_name="Dry"), validate_only=True)
    customer = hooks.customer()
    hooks.client.customers.update(Customer(name=customer.name, display_name="New"))
    hooks.receiver.wait_for(lambda: bool(hooks.receiver.received[path]))
    assert [json.loads(body)["type"] for _, body in hooks.receiver.received[path]] == ["customer.updated"]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (answer_with("500 Internal Server Error", body=b"oh no"), ""),
        (answer_with("301 Moved Permanently", "location: https://example.com/"), ""),
        (answer_with("429 Too Many Requests", "retry-after: 1"), ""),
        (receivers.close_early, "connection broke"),
        (receivers.drip, "no complete reply"),
        (receivers.hang, "no complete reply"),
    ],
    ids=["500", "301", "429", "closes", "drips", "hangs"],
)
def test_failed_attempt_is_listed_and_repeated_with_the_same_id(hooks: Hooks, answer: receivers.Answer, problem: str):
    name, _, path = hooks.create(answers=(answer, receivers.ACCEPT))
    hooks.customer()
    hooks.wait_for(lambda: hooks.deliveries(name) and hooks.deliveries(name)[0].state == DELIVERED)
    first, *_, last = hooks.receiver.received[path]
    assert first[0]["webhook-id"] == last[0]["webhook-id"]
    assert first[1] == last[1]
    assert hooks.deliveries(name)[0].attempts == 2
    failing, _, _ = hooks.create(answers=(answer,))
    hooks.customer()
    delivery = hooks.wait_for_delivery(failing)
    assert problem in delivery.last_problem
    assert delivery.state == PENDING
    assert delivery.HasField("next_attempt_time")
    hooks.client.webhooks.delete(failing)


def test_receiver_that_refuses_connections_gets_its_event_when_it_listens(hooks: Hooks, tmp_path: Path):
    name, _, path = hooks.create()
    with receive(tmp_path) as other:
        url = other.url(path)
    hooks.client.webhooks.update(WebhookEndpoint(name=name, url=url))
    customer = hooks.customer()
    delivery = hooks.wait_for_delivery(name)
    assert (delivery.state, delivery.last_status) == (PENDING, 0)
    assert "cannot connect" in delivery.last_problem
    hooks.client.webhooks.update(WebhookEndpoint(name=name, url=hooks.receiver.url(path)))
    hooks.receiver.wait_for(lambda: hooks.resource_names(path) == [customer.name])
    hooks.wait_for(lambda: hooks.client.webhooks.get_delivery(delivery.name).state == DELIVERED)


def test_retry_after_is_honoured(hooks: Hooks):
    name, _, path = hooks.create(answers=(answer_with("503 Service Unavailable", "retry-after: 3600"),))
    hooks.customer()
    delivery = hooks.wait_for_delivery(name)
    assert delivery.next_attempt_time.ToDatetime(UTC) > datetime.now(UTC) + timedelta(seconds=3000)
    hooks.customer()
    hooks.wait_for(lambda: len(hooks.deliveries(name)) == 2)
    assert len(hooks.receiver.received[path]) == 1, "the whole endpoint waits"


def test_reply_410_disables_the_endpoint_until_it_is_resumed(hooks: Hooks):
    watcher, _, watched = hooks.create("webhook_endpoint.disabled")
    name, _, path = hooks.create(answers=(answer_with("410 Gone"), receivers.ACCEPT))
    customer = hooks.customer()
    hooks.wait_for(lambda: hooks.client.webhooks.get(name).state == DISABLED)
    assert hooks.client.webhooks.get(name).state_reason == "it replied 410 (Gone)"
    assert name in {one.name for one in hooks.client.webhooks.list(filter="failing = true")}
    hooks.receiver.wait_for(lambda: name in hooks.resource_names(watched))
    assert hooks.client.webhooks.resume(name).state == ENABLED
    hooks.receiver.wait_for(lambda: hooks.resource_names(path) == [customer.name] * 2)
    hooks.client.webhooks.delete(watcher)


@pytest.mark.engine("sqlite", "postgresql", reason="deliveries are claimed in another way on each")
def test_paused_endpoint_gets_its_events_when_it_is_resumed(hooks: Hooks):
    name, _, path = hooks.create()
    assert hooks.client.webhooks.pause(name).state == PAUSED
    names = [hooks.customer().name for _ in range(3)]
    test = hooks.client.webhooks.test(name)
    hooks.wait_for(lambda: hooks.client.webhooks.get_delivery(test.name).state == DELIVERED)
    assert hooks.resource_names(path) == [name]
    with pytest.raises(client_errors.IllegalState):
        hooks.client.webhooks.pause(name)
    hooks.client.webhooks.resume(name)
    hooks.receiver.wait_for(lambda: sorted(hooks.resource_names(path)[1:]) == sorted(names))


@pytest.mark.engine("sqlite", "postgresql", reason="deliveries are claimed in another way on each")
def test_ordered_endpoint_sends_no_event_before_an_earlier_one_of_the_resource(hooks: Hooks):
    _, _, path = hooks.create(answers=(answer_with("500 Internal Server Error"), receivers.ACCEPT), ordered=True)
    customer = hooks.customer()
    for number in range(3):
        hooks.client.customers.update(Customer(name=customer.name, display_name=f"Ada {number}"))
    hooks.receiver.wait_for(lambda: len(hooks.receiver.received[path]) == 5)
    ids = [int(headers["webhook-id"].split("_")[1]) for headers, _ in hooks.receiver.received[path]]
    assert ids == sorted(ids)
    assert len(set(ids)) == 4


def test_hanging_endpoints_delay_no_other(hooks: Hooks):
    hanging = [hooks.create(answers=(receivers.hang,))[0] for _ in range(20)]
    customer = hooks.customer()
    _, _, path = hooks.create()
    other = hooks.customer()
    hooks.receiver.wait_for(lambda: hooks.resource_names(path) == [other.name], timeout_s=30)
    assert customer.name not in hooks.resource_names(path)
    for name in hanging:
        hooks.client.webhooks.delete(name)


def test_rotated_secret_signs_beside_the_old_one(hooks: Hooks):
    name, old, path = hooks.create()
    rotated = hooks.client.webhooks.rotate_secret(name)
    assert rotated.webhook_endpoint.HasField("previous_secret_expire_time")
    hooks.customer()
    hooks.receiver.wait_for(lambda: bool(hooks.receiver.received[path]))
    for secret in (old, rotated.secret):
        verify_signature(secret, *hooks.receiver.received[path][0])
    last = hooks.client.webhooks.rotate_secret(name, overlap=timedelta(0))
    hooks.customer()
    hooks.receiver.wait_for(lambda: len(hooks.receiver.received[path]) == 2)
    headers, body = hooks.receiver.received[path][1]
    verify_signature(last.secret, headers, body)
    assert len(headers["webhook-signature"].split()) == 1


def test_retry_of_a_creation_returns_its_secret_and_nothing_else_does(hooks: Hooks, client: Storekeep):
    endpoint = WebhookEndpoint(url=hooks.receiver.url("/retry"), event_types=["order.*"])
    request_id = new_request_id()
    first, again = (client.webhooks.create(endpoint, request_id=request_id) for _ in range(2))
    assert first == again
    entries = list(client.audit.list(filter=f'resource = "{first.webhook_endpoint.name}"'))
    assert entries
    assert not any(first.secret in str(entry) or request_id in str(entry) for entry in entries)
    client.webhooks.rotate_secret(first.webhook_endpoint.name)
    client.webhooks.rotate_secret(first.webhook_endpoint.name)
    with pytest.raises(client_errors.ReplyExpired):
        client.webhooks.create(endpoint, request_id=request_id)


@pytest.mark.engine("sqlite", "postgresql", reason="deliveries are claimed in another way on each")
def test_redelivery_sends_past_events_again_with_the_same_ids(hooks: Hooks):
    start = datetime.now(UTC)
    name, _, path = hooks.create()
    customers = [hooks.customer().name for _ in range(3)]
    hooks.receiver.wait_for(lambda: len(hooks.receiver.received[path]) == 3)
    hooks.wait_for(lambda: all(one.state == DELIVERED for one in hooks.deliveries(name)))
    dry = hooks.client.webhooks.redeliver(name, start=start, validate_only=True)
    assert dry.events == 3
    nothing = hooks.client.webhooks.redeliver(name, start=start, failed_only=True)
    assert nothing.events == hooks.client.webhooks.redeliver(name, start=start, event_types=["product.*"]).events == 0
    assert hooks.client.webhooks.redeliver(name, start=start).events == 3
    hooks.receiver.wait_for(lambda: sorted(hooks.resource_names(path)) == sorted(customers * 2))
    ids = [headers["webhook-id"] for headers, _ in hooks.receiver.received[path]]
    assert sorted(ids[:3]) == sorted(ids[3:])


def test_deleted_endpoint_gets_nothing_and_continues_when_undeleted(hooks: Hooks):
    name, _, path = hooks.create()
    hooks.client.webhooks.delete(name)
    customer = hooks.customer()
    assert name not in [one.name for one in hooks.client.webhooks.list()]
    assert not hooks.deliveries(name)
    hooks.client.webhooks.undelete(name)
    hooks.receiver.wait_for(lambda: hooks.resource_names(path) == [customer.name])


def test_refusals_name_their_reasons(hooks: Hooks, client: Storekeep):
    name, _, _ = hooks.create()
    webhooks, missing, stale = client.webhooks, "webhookEndpoints/none", "v999"
    start = datetime.now(UTC)
    calls: list[tuple[str, Callable[[], object]]] = [
        ("WEBHOOK_ENDPOINT_NOT_FOUND", lambda: webhooks.get(missing)),
        ("WEBHOOK_ENDPOINT_NOT_FOUND", lambda: webhooks.delete(missing)),
        ("WEBHOOK_ENDPOINT_NOT_FOUND", lambda: webhooks.undelete(missing)),
        ("WEBHOOK_ENDPOINT_NOT_FOUND", lambda: webhooks.pause(missing)),
        ("WEBHOOK_ENDPOINT_NOT_FOUND", lambda: webhooks.resume(missing)),
        ("WEBHOOK_ENDPOINT_NOT_FOUND", lambda: webhooks.test(missing)),
        ("WEBHOOK_ENDPOINT_NOT_FOUND", lambda: webhooks.rotate_secret(missing)),
        ("WEBHOOK_ENDPOINT_NOT_FOUND", lambda: webhooks.redeliver(missing, start=start)),
        ("WEBHOOK_DELIVERY_NOT_FOUND", lambda: webhooks.get_delivery(f"{name}/deliveries/9223372036854775808")),
        ("INVALID_FILTER", lambda: list(webhooks.list(filter="no"))),
        ("INVALID_ORDER_BY", lambda: list(webhooks.list_deliveries(name, order_by="no"))),
        ("INVALID_PAGE_TOKEN", lambda: webhooks.list_deliveries(name).page("no")),
        ("INVALID_UPDATE_MASK", lambda: webhooks.update(WebhookEndpoint(name=name), update_mask=["state"])),
        ("ETAG_MISMATCH", lambda: webhooks.delete(name, etag=stale)),
        ("ETAG_MISMATCH", lambda: webhooks.pause(name, etag=stale)),
        ("ETAG_MISMATCH", lambda: webhooks.resume(name, etag=stale)),
        ("ETAG_MISMATCH", lambda: webhooks.rotate_secret(name, etag=stale)),
        ("ILLEGAL_STATE", lambda: webhooks.resume(name)),
        ("RESOURCE_NOT_DELETED", lambda: webhooks.undelete(name)),
    ]
    for reason, call in calls:
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.reason == reason
    endpoint = webhooks.get(name)
    with pytest.raises(client_errors.AlreadyExists):
        webhooks.create(endpoint, webhook_endpoint_id=name.rpartition("/")[2])
    webhooks.delete(name)
    for call in (
        lambda: webhooks.pause(name),
        lambda: webhooks.resume(name),
        lambda: webhooks.test(name),
        lambda: webhooks.rotate_secret(name),
        lambda: webhooks.redeliver(name, start=start),
        lambda: webhooks.update(WebhookEndpoint(name=name, url=endpoint.url, event_types=["order.*"])),
    ):
        with pytest.raises(client_errors.ResourceDeleted):
            call()
    with pytest.raises(EtagMismatch):
        webhooks.undelete(name, etag=stale)


def test_url_or_type_that_is_not_allowed_is_refused(hooks: Hooks, client: Storekeep):
    name, _, _ = hooks.create()
    for url in ("https://169.254.169.254/", "https://user@example.com/", "https://[::ffff:127.0.0.1]/"):
        for call in (
            lambda url=url: client.webhooks.create(WebhookEndpoint(url=url, event_types=["*"])),
            lambda url=url: client.webhooks.update(WebhookEndpoint(name=name, url=url), update_mask=["url"]),
        ):
            with pytest.raises(client_errors.InvalidField):
                call()
    for types in (["api_key.*"], ["session.created"], ["nothing.*"]):
        with pytest.raises(client_errors.InvalidField):
            client.webhooks.create(WebhookEndpoint(url="https://example.com/", event_types=types))


def test_caller_sends_no_events_that_it_may_not_read(hooks: Hooks, client: Storekeep, server: ServerProcess):
    name, _, _ = hooks.create("customer.*")
    permissions = ["webhooks.write", "webhooks.read", "orders.read"]
    role = client.auth.create_role(Role(display_name="Hooks", permissions=permissions), role_id=new_id())
    account = client.auth.create_service_account(ServiceAccount(display_name="Hooks", roles=[role.name]))
    key = client.auth.create_api_key(account.name, ApiKey())
    with Storekeep(server.address, api_key=key.secret) as limited:
        limited.webhooks.create(WebhookEndpoint(url="https://example.com/", event_types=["order.*"]))
        elsewhere = WebhookEndpoint(name=name, url="https://example.com/")
        start = datetime.now(UTC)
        for call in (
            lambda: limited.webhooks.create(WebhookEndpoint(url="https://example.com/", event_types=["*"])),
            lambda: limited.webhooks.update(elsewhere, update_mask=["url"]),
            lambda: limited.webhooks.rotate_secret(name),
            lambda: limited.webhooks.resume(name),
            lambda: limited.webhooks.undelete(name),
            lambda: limited.webhooks.redeliver(name, start=start),
        ):
            with pytest.raises(client_errors.PrivilegeEscalation):
                call()


def test_update_changes_the_named_fields(hooks: Hooks, client: Storekeep):
    name, _, _ = hooks.create()
    changed = client.webhooks.update(
        WebhookEndpoint(name=name, display_name="ERP", event_types=["order.*", "product.updated"], ordered=True)
    )
    assert (changed.display_name, list(changed.event_types)) == ("ERP", ["order.*", "product.updated"])
    assert changed.ordered
    assert client.webhooks.get(name) == changed


@pytest.mark.engine("sqlite", "postgresql", reason="deliveries are claimed in another way on each")
def test_kill_under_load_loses_and_invents_no_event(make_server: MakeServer, tmp_path: Path):
    with receive(tmp_path) as own:
        events, messages = kill_while_sending(make_server, own, rounds=5, seed=1)
    assert 5 < events <= messages


def test_replies_of_a_gigabyte_take_no_memory(hooks: Hooks, server: ServerProcess):
    warm, _, _ = hooks.create()
    hooks.customer()
    hooks.wait_for_delivery(warm)
    hooks.client.webhooks.delete(warm)
    before_mib = memory_mib(server)
    names = [hooks.create(answers=(receivers.send_gigabyte,))[0] for _ in range(10)]
    hooks.customer()
    most_mib = before_mib

    def all_delivered() -> bool:
        nonlocal most_mib
        most_mib = max(most_mib, memory_mib(server))
        return all(one.state == DELIVERED for name in names for one in hooks.deliveries(name)) and all(
            hooks.deliveries(name) for name in names
        )

    hooks.wait_for(all_delivered)
    assert most_mib - before_mib < 48
    for name in names:
        hooks.client.webhooks.delete(name)


def test_stock_events_are_sent_with_the_level(hooks: Hooks, shop: Shop):
    _, _, path = hooks.create("stock.*", payload=WebhookPayload.WEBHOOK_PAYLOAD_FULL)
    sku = shop.variant(stock=1).sku
    shop.cancel(shop.order((sku, 1)))
    hooks.receiver.wait_for(lambda: len(hooks.receiver.received[path]) == 2)
    bodies = [json.loads(body) for _, body in hooks.receiver.received[path]]
    resources = {body["type"]: body["data"]["resource"] for body in bodies}
    assert resources.keys() == {"stock.out", "stock.back"}
    assert (resources["stock.back"]["sku"], resources["stock.back"]["available"]) == (sku, "1")
    assert "available" not in resources["stock.out"]


@pytest.mark.parametrize("change", ["pause", "delete", "rotate_secret"])
def test_attempt_in_progress_ends_when_its_endpoint_changes(hooks: Hooks, change: str):
    name, _, path = hooks.create(answers=(receivers.hang, receivers.ACCEPT))
    hooks.customer()
    hooks.receiver.wait_for(lambda: len(hooks.receiver.received[path]) == 1)
    getattr(hooks.client.webhooks, change)(name)
    hooks.wait_for_delivery(name)
    if change == "delete":
        hooks.client.webhooks.undelete(name)
    elif change == "pause":
        assert hooks.client.webhooks.get(name).state == PAUSED
        hooks.client.webhooks.resume(name)
    hooks.wait_for(lambda: hooks.deliveries(name)[0].state == DELIVERED)
    first, second = hooks.receiver.received[path]
    assert first[0]["webhook-id"] == second[0]["webhook-id"]


@pytest.mark.parametrize(
    "value", ["-5", "9" * 60, "Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "1e9"]
)
def test_odd_retry_after_keeps_the_next_attempt_within_a_day(hooks: Hooks, value: str):
    name, _, _ = hooks.create(answers=(answer_with("429 Too Many Requests", f"retry-after: {value}"),))
    hooks.customer()
    delivery = hooks.wait_for_delivery(name)
    assert delivery.next_attempt_time.ToDatetime(UTC) <= datetime.now(UTC) + timedelta(days=1, seconds=60)
    hooks.client.webhooks.delete(name)


def test_reply_with_a_secret_is_repeated_to_its_own_key_only(hooks: Hooks, client: Storekeep, server: ServerProcess):
    endpoint = WebhookEndpoint(url=hooks.receiver.url("/own"), event_types=["order.*"])
    request_id = new_request_id()
    made = client.webhooks.create(endpoint, request_id=request_id)
    key = client.auth.create_api_key("serviceAccounts/admin", ApiKey())
    with (
        Storekeep(server.address, api_key=key.secret) as other,
        pytest.raises(client_errors.RequestIdReused) as refused,
    ):
        other.webhooks.create(endpoint, request_id=request_id)
    assert made.secret not in str(refused.value)


def test_limited_caller_gets_no_contents_of_orders(hooks: Hooks, client: Storekeep, server: ServerProcess, shop: Shop):
    full, _, path = hooks.create("order.*", "customer.*", payload=WebhookPayload.WEBHOOK_PAYLOAD_FULL)
    order = shop.order()
    hooks.receiver.wait_for(lambda: order.name in hooks.resource_names(path))
    permissions = ["webhooks.write", "webhooks.read"]
    role = client.auth.create_role(Role(display_name="Hooks", permissions=permissions), role_id=new_id())
    account = client.auth.create_service_account(ServiceAccount(display_name="Hooks", roles=[role.name]))
    key = client.auth.create_api_key(account.name, ApiKey())
    own = hooks.receiver.url(f"/{new_id()}")
    with Storekeep(server.address, api_key=key.secret) as limited:
        webhooks = limited.webhooks
        for types in (["order.placed"], ["order.*"], ["*"], ["webhook_endpoint.*", "stock.out"]):
            with pytest.raises(client_errors.PrivilegeEscalation):
                webhooks.create(WebhookEndpoint(url=own, event_types=types))
        mine = webhooks.create(WebhookEndpoint(url=own, event_types=["webhook_endpoint.*"])).webhook_endpoint.name
        full_payload = WebhookPayload.WEBHOOK_PAYLOAD_FULL
        for call in (
            lambda: webhooks.update(WebhookEndpoint(name=mine, event_types=["order.*"]), update_mask=["event_types"]),
            lambda: webhooks.update(WebhookEndpoint(name=full, url=own), update_mask=["url"]),
            lambda: webhooks.update(WebhookEndpoint(name=full, payload=full_payload), update_mask=["payload"]),
            lambda: webhooks.redeliver(full, start=datetime.now(UTC) - timedelta(hours=1)),
        ):
            with pytest.raises(client_errors.PrivilegeEscalation):
                call()
        start = datetime.now(UTC) - timedelta(hours=1)
        assert webhooks.redeliver(mine, start=start, event_types=["order.*"]).events == 0
        assert not any("customer" in str(one.last_reply) for one in webhooks.list_deliveries(full))
    hooks.client.webhooks.delete(mine)
    hooks.client.webhooks.delete(full)


def test_log_has_no_url_of_an_endpoint(hooks: Hooks, server: ServerProcess):
    name, _, path = hooks.create()
    hooks.customer()
    hooks.wait_for_delivery(name)
    assert path not in server.log()
