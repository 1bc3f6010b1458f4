"""Deliveries over days: attempts, claims and endpoints that fail for long, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from storekeep.server.domain.access.roles import Role, create_role
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.customers import CUSTOMERS, Customer
from storekeep.server.domain.keys.encryption import DecryptionFailed
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.standard.resources import MICROS, new_id
from storekeep.server.domain.webhooks import deliveries
from storekeep.server.domain.webhooks.deliveries import (
    Attempt,
    Claimed,
    RetryRules,
    choose_delay_us,
    claim,
    finish,
    get_delivery,
    list_due,
    plan_events,
    plan_test,
    purge_deliveries,
)
from storekeep.server.domain.webhooks.endpoints import (
    DISABLED,
    ENABLED,
    ENDPOINTS,
    EndpointSecrets,
    WebhookEndpoint,
    create_endpoint,
    pause_endpoint,
    reencrypt_secrets,
    resume_endpoint,
)
from storekeep.server.domain.webhooks.event_types import PERMISSIONS
from storekeep.server.integrations.signatures import generate_secret
from storekeep.server.servicers.webhook_payloads import RESOURCES
from storekeep.server.store.engine import Store
from storekeep.server.store.tables.webhooks import TEST_EVENT
from tests.support.databases import Database
from tests.support.installations import SECRET
from tests.support.stores import open_store

DAY_US = 86_400 * MICROS
RULES = RetryRules(retry_us=3 * DAY_US, disable_us=5 * DAY_US)
LEASE_US = 60 * MICROS
CALL = Call(Caller("serviceAccounts/test", permissions=frozenset(PERMISSIONS.values())), "test/Webhooks")


class Clock:
    """A clock that the test moves."""

    now_us = 1_800_000_000 * MICROS

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: Database, clock: Clock) -> Iterator[Store]:
    opened = open_store(database.url, clock=clock)
    yield opened
    opened.close()


def create(
    store: Store, endpoint_id: str = "erp", *, ordered: bool = False, event_types: tuple[str, ...] = ("customer.*",)
) -> None:
    secrets = EndpointSecrets(Keyring.from_secret(SECRET), generate=generate_secret, retention_s=600)
    endpoint = WebhookEndpoint(endpoint_id, url="https://example.com/", event_types=event_types, ordered=ordered)
    create_endpoint(store, CALL, endpoint, secrets=secrets, check_url=lambda _url: "")


def add_customers(store: Store, count: int) -> None:
    for _ in range(count):
        CUSTOMERS.create(store, CALL, Customer(new_id(), display_name="Ada"))


def claim_all(store: Store, limit: int = 1_000) -> list[Claimed]:
    return claim(store, dict.fromkeys(list_due(store), limit), lease_us=LEASE_US)


def reply(claimed: Claimed, status: int) -> Attempt:
    return Attempt(claimed, status, "", "", 1)


def test_every_kind_of_event_has_a_permission_and_a_message() -> None:
    assert PERMISSIONS.keys() == RESOURCES.keys()


def test_endpoint_of_every_event_gets_no_changes_of_access(store: Store) -> None:
    create(store, event_types=("*",))
    known = frozenset({"products.read"})
    caller = Caller("serviceAccounts/test", permissions=known)
    create_role(store, Call(caller, "storekeep.v1.AuthService/CreateRole"), Role("reader", "Reader"), known=known)
    add_customers(store, 1)
    plan_events(store)
    assert [one.event_type for one in claim_all(store)] == ["customer.created"]


def test_test_event_reaches_its_own_endpoint_alone_and_once(store: Store) -> None:
    create(store, "one", event_types=("*",))
    create(store, "two", event_types=("*",))
    plan_test(store, CALL, "one")
    plan_events(store)
    tested = [one for one in claim_all(store) if one.event_type == TEST_EVENT]
    assert [one.endpoint for one in tested] == ["one"]
    finish(store, [reply(one, 200) for one in tested], rules=RULES)
    plan_events(store)
    assert TEST_EVENT not in [one.event_type for one in claim_all(store)]


@pytest.mark.parametrize("status", [10**40, 2**63, -(10**40)])
def test_outcome_that_cannot_be_stored_is_a_failure_and_holds_no_other_back(store: Store, status: int) -> None:
    create(store)
    add_customers(store, 3)
    plan_events(store)
    first, second, third = claim_all(store)
    finish(store, [reply(first, 200), reply(second, status), reply(third, 200)], rules=RULES)
    stored = [get_delivery(store, "erp", one.sequence) for one in (first, second, third)]
    assert [one.state for one in stored] == ["DELIVERED", "PENDING", "DELIVERED"]
    assert stored[1].last_problem.startswith("internal error")


def test_event_that_takes_the_sequence_of_a_lost_one_has_another_id() -> None:
    lost, new = (deliveries.format_webhook_id(7, bytes((number,)) * 32) for number in range(2))
    assert lost != new


def test_ordered_endpoint_gets_events_of_other_resources_meanwhile(store: Store) -> None:
    create(store, ordered=True)
    add_customers(store, 3)
    plan_events(store)
    assert len(claim_all(store)) == 3


def test_delay_grows_and_is_random_within_its_bound() -> None:
    for attempts in (0, 5, 100):
        delays = {choose_delay_us(attempts) for _ in range(50)}
        assert len(delays) > 40
        assert max(delays) <= min(6 * 3600, 5 * 2**attempts) * MICROS


def test_delivery_fails_after_three_days_of_attempts(store: Store, clock: Clock) -> None:
    create(store)
    add_customers(store, 1)
    plan_events(store)
    start_us, attempts, last_us = clock.now_us, 0, 0
    while clock.now_us < start_us + 4 * DAY_US:
        for one in claim_all(store):
            finish(store, [reply(one, 500)], rules=RULES)
            attempts, last_us = attempts + 1, clock.now_us
        clock.now_us += 1800 * MICROS
    assert 10 < attempts < 60
    assert 2 * DAY_US < last_us - start_us <= 3 * DAY_US
    (delivery,) = store.read(lambda tx: tx.run(deliveries.LISTING.query()).fetchall())
    assert delivery[4] == "FAILED"
    assert delivery[5] == attempts


def test_endpoint_that_fails_for_long_is_disabled_and_resumes_with_everything(store: Store, clock: Clock) -> None:
    create(store)
    for day in range(6):
        assert ENDPOINTS.get(store, ("erp",)).state == ENABLED
        add_customers(store, 1)
        plan_events(store)
        claimed = claim_all(store)
        finish(store, [reply(one, 0) for one in claimed], rules=RULES)
        clock.now_us += DAY_US
        assert claimed or day
    endpoint = ENDPOINTS.get(store, ("erp",))
    assert (endpoint.state, endpoint.state_reason) == (DISABLED, "it failed for too long without a success")
    add_customers(store, 2)
    assert plan_events(store) == 0
    assert claim_all(store) == []
    resume_endpoint(store, CALL, "erp", etag="")
    plan_events(store)
    assert len(claim_all(store)) >= 2


def test_claim_takes_what_has_been_due_for_the_longest_in_the_order_of_events(store: Store, clock: Clock) -> None:
    create(store)
    add_customers(store, 1)
    plan_events(store)
    (failed,) = claim_all(store)
    clock.now_us += DAY_US
    add_customers(store, 2)
    plan_events(store)  # due before the new attempt for the older event
    finish(store, [reply(failed, 500)], rules=RULES)
    clock.now_us += DAY_US
    first, second = claim_all(store, 2), claim_all(store, 2)
    assert failed.sequence < first[0].sequence < first[1].sequence
    assert [one.sequence for one in second] == [failed.sequence]


def test_claims_are_exclusive_and_end_with_their_lease(store: Store, clock: Clock) -> None:
    create(store)
    add_customers(store, 4)
    plan_events(store)
    first, second = claim_all(store, 3), claim_all(store, 3)
    assert (len(first), len(second)) == (3, 1)
    assert not {one.sequence for one in first} & {one.sequence for one in second}
    clock.now_us += LEASE_US
    assert len(claim_all(store)) == 4
    finish(store, [reply(one, 204) for one in first], rules=RULES)
    finish(store, [reply(one, 500) for one in first], rules=RULES)
    clock.now_us += DAY_US
    assert [one.sequence for one in claim_all(store)] == [one.sequence for one in second], (
        "late outcomes change nothing"
    )


def test_deliveries_that_are_due_at_the_same_time_are_claimed_in_their_order(store: Store) -> None:
    create(store)
    add_customers(store, 6)
    plan_events(store)
    first = claim_all(store, 3)
    finish(store, [reply(one, 500) for one in reversed(first)], rules=RULES)  # PostgreSQL moves the rows
    pause_endpoint(store, CALL, "erp", etag="")
    resume_endpoint(store, CALL, "erp", etag="")
    assert claim_all(store, 3) == first == sorted(first, key=lambda one: one.sequence)


def test_paused_or_slow_endpoint_fills_no_table(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "PENDING_MAX", 3)
    create(store)
    add_customers(store, 7)
    while plan_events(store):
        pass
    sent: list[int] = []
    while claimed := claim_all(store):
        assert len(claimed) <= 3
        sent += [one.sequence for one in claimed]
        finish(store, [reply(one, 200) for one in claimed], rules=RULES)
        plan_events(store)
    assert len(sent) == len(set(sent)) == 7
    pause_endpoint(store, CALL, "erp", etag="")
    add_customers(store, 1)
    assert plan_events(store) == 0


def test_events_are_planned_in_batches_while_many_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that is far behind costs the writer no transaction for each event that was sent."""
    monkeypatch.setattr(deliveries, "PENDING_MAX", 20)
    create(store)
    add_customers(store, 30)
    assert plan_events(store) == 20
    finish(store, [reply(one, 200) for one in claim_all(store, 1)], rules=RULES)
    assert plan_events(store) == 0
    finish(store, [reply(one, 200) for one in claim_all(store, 1)], rules=RULES)
    assert plan_events(store) == 2


def test_many_endpoints_are_planned_in_short_transactions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "ENDPOINTS_PER_TRANSACTION_MAX", 3)
    for number in range(8):
        create(store, f"erp-{number}")
    add_customers(store, 2)
    sizes: list[int] = []
    plan_some = deliveries._plan_some
    monkeypatch.setattr(
        deliveries, "_plan_some", lambda tx, filters: sizes.append(len(filters)) or plan_some(tx, filters)
    )
    while plan_events(store):
        pass
    assert sizes[:3] == [3, 3, 2]
    assert len(claim_all(store)) == 16


def test_finished_deliveries_are_purged_and_pending_ones_are_not(store: Store, clock: Clock) -> None:
    create(store)
    add_customers(store, 2)
    plan_events(store)
    finish(store, [reply(one, 200) for one in claim_all(store, 1)], rules=RULES)
    clock.now_us += 8 * DAY_US
    purged = [store.write(lambda tx: purge_deliveries(tx, retention_us=7 * DAY_US, rows_max=500)) for _ in range(2)]
    assert purged == [1, 0]


def test_secrets_move_to_a_new_server_secret(store: Store) -> None:
    create(store)
    new = b"another secret for tests, 32 bytes long, at least"
    endpoint = ENDPOINTS.get(store, ("erp",))

    def list_secrets(keyring: Keyring) -> list[str]:
        secrets = EndpointSecrets(keyring, generate=generate_secret, retention_s=600)
        return store.read(lambda tx: secrets.list_valid(tx, endpoint))

    before = list_secrets(Keyring.from_secret(SECRET))
    both = Keyring(lambda: (new, SECRET))
    store.write(lambda tx: reencrypt_secrets(tx, both))
    assert list_secrets(Keyring.from_secret(new)) == before
    with pytest.raises(DecryptionFailed):
        list_secrets(Keyring.from_secret(SECRET))
