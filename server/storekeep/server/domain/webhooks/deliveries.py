"""Deliveries: each event that an endpoint asks for, from the ledger to the endpoint's acceptance or failure.

Invariant: an event is planned once per endpoint, from a position in the ledger that moves in the same transaction. It
stays pending until the endpoint accepts it or the time for attempts has passed, whatever process ends in between.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.errors import WebhookDeliveryNotFound
from storekeep.server.domain.events.cursors import make_check
from storekeep.server.domain.keys.personal_fields import decrypt_json, decrypt_texts, encrypt_text
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.orders import find_subject
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.domain.standard.resources import MICROS, check_not_deleted
from storekeep.server.domain.webhooks.endpoints import (
    DISABLED,
    ENABLED,
    ENDPOINTS,
    EndpointSecrets,
    WebhookEndpoint,
    make_endpoint_check,
)
from storekeep.server.domain.webhooks.event_types import matches
from storekeep.server.store.engine import Store
from storekeep.server.store.errors import StoreError
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import audit
from storekeep.server.store.tables import webhooks as store
from storekeep.server.store.tables.ledger import AuditEntry
from storekeep.server.store.tables.webhooks import DELIVERED, FAILED, PENDING, TEST_EVENT

STATES = (PENDING, DELIVERED, FAILED)
EVENTS_PER_TRANSACTION_MAX = 500
"""Ledger entries that one transaction plans, so that it does not delay the writes of callers."""
ENDPOINTS_PER_TRANSACTION_MAX = 20
"""Endpoints whose events one transaction plans, for the same reason."""
PENDING_MAX = 1_000
"""Deliveries of one endpoint that wait in the table. Later events wait in the ledger, which costs nothing."""
REFILL_SHARE = 0.1
"""The share of them that must be free before more events of an endpoint are planned. Planning each time that one was
sent costs more transactions of the writer: a message then takes 1.48 ms of CPU in place of 1.31 if the receiver needs
30 ms for each (2026-11-30, three turns each)."""
BACKOFF_BASE_S = 5.0
BACKOFF_MAX_S = 6 * 3600.0
"""The range of delays: the n-th is random up to 5 s * 2^n, at most 6 h, so that many failures do not retry at once."""
RETRY_AFTER_MAX_S = 86_400.0
"""The longest `Retry-After` that is honoured: a day leaves attempts on the other days."""
GONE = 410
SUBJECT = "system/webhooks"
"""The subject of the key for replies to events that are about no person."""
log = logging.getLogger(__name__)
CALL = Call(Caller("system/webhooks"), "system/DisableWebhookEndpoint")


class WebhookDelivery(msgspec.Struct, frozen=True):
    """A delivery; see `WebhookDelivery` in the contract. Times are microseconds since 1970."""

    endpoint: str
    sequence: int
    event_type: str
    resource: str
    state: str
    attempts: int
    last_status: int
    last_problem: str
    last_reply: str
    last_duration_us: int
    last_attempt_time_us: int | None
    next_attempt_time_us: int | None
    create_time_us: int
    entry_hash: bytes = b""

    @property
    def name(self) -> str:
        """The resource name."""
        return format_name(self.endpoint, self.sequence)

    @property
    def webhook_id(self) -> str:
        """The id in the header of every attempt."""
        return format_webhook_id(self.sequence, self.entry_hash)


FIELDS = tuple(getattr(store.WebhookDelivery, name) for name in WebhookDelivery.__struct_fields__[:-1])


def _select() -> Any:
    is_entry = AuditEntry.sequence == store.WebhookDelivery.sequence
    return store.WebhookDelivery.select(*FIELDS, AuditEntry.entry_hash).left_outer_join(AuditEntry, on=is_entry)


def _read_rows(tx: Transaction, rows: Sequence[Row]) -> list[WebhookDelivery]:
    deliveries = [
        WebhookDelivery(*row[:-1], bytes(row[-1] or b""))  # type: ignore[call-arg]  # a delivery has a hash
        for row in rows
    ]
    replies = decrypt_texts(tx, [(delivery.last_reply, delivery.name) for delivery in deliveries])
    return [
        msgspec.structs.replace(delivery, last_reply=reply) for delivery, reply in zip(deliveries, replies, strict=True)
    ]


LISTING = Listing(
    method="ListWebhookDeliveries",
    query=_select,
    columns={
        "event_type": Column(store.WebhookDelivery.event_type, FilterField(Kind.TEXT)),
        "resource": Column(store.WebhookDelivery.resource, FilterField(Kind.TEXT)),
        "state": Column(store.WebhookDelivery.state, FilterField(Kind.STATE, STATES)),
        "attempts": Column(store.WebhookDelivery.attempts, FilterField(Kind.INTEGER)),
        "create_time": Column(store.WebhookDelivery.create_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.WebhookDelivery.endpoint, store.WebhookDelivery.sequence),
    read_rows=_read_rows,
    parent=store.WebhookDelivery.endpoint,
)


class Claimed(msgspec.Struct, frozen=True):
    """A delivery that this process sends now."""

    endpoint: str
    sequence: int
    event_type: str


class Message(msgspec.Struct, frozen=True):
    """What to send, and how to sign it.

    Attributes:
        secrets: the valid signing secrets, newest first.
        webhook_id: the id in the header of every attempt.
        after: the resource after the change, as the ledger's JSON; None if it was deleted.
        time_us: when the event was committed, microseconds since 1970.
        now_us: the time of this attempt, microseconds since 1970.
    """

    endpoint: WebhookEndpoint
    sequence: int
    event_type: str
    resource: str
    after: bytes | None
    webhook_id: str
    time_us: int
    now_us: int
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        """Return a text without the secrets."""
        return f"Message({self.endpoint.name}, {self.sequence})"


class Attempt(msgspec.Struct, frozen=True):
    """The outcome of sending.

    Attributes:
        status: the HTTP status; 0 without a reply.
        problem: why there is no reply; empty with one.
        reply: the start of the reply's body.
        retry_after_s: seconds that the endpoint asks to wait; 0 if it does not.
    """

    claimed: Claimed
    status: int
    problem: str
    reply: str
    duration_us: int
    retry_after_s: float = 0.0

    @property
    def accepted(self) -> bool:
        """Whether the endpoint accepted the event."""
        return 200 <= self.status < 300


class RetryRules(msgspec.Struct, frozen=True):
    """How long attempts go on.

    Attributes:
        retry_us: how long after the first attempt of a delivery others follow, in microseconds.
        disable_us: how long an endpoint may fail without a success in between before it is disabled, in microseconds.
    """

    retry_us: int
    disable_us: int


def format_name(endpoint_id: str, sequence: int) -> str:
    """Return the resource name of a delivery."""
    return f"webhookEndpoints/{endpoint_id}/deliveries/{sequence}"


def format_webhook_id(sequence: int, entry_hash: bytes) -> str:
    """Return the id of an event in the header `webhook-id`.

    The hash tells it from an event that got the same sequence after a backup was restored.
    """
    return f"evt_{sequence}_{make_check(entry_hash).hex()}"


def list_deliveries(database: Store, request: ListRequest, *, tokens: PageTokens) -> Page[WebhookDelivery]:
    """Return one page of the deliveries of an endpoint.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    return database.snapshot(lambda tx: LISTING.page(tx, request, tokens=tokens))


def get_delivery(database: Store, endpoint_id: str, sequence: int) -> WebhookDelivery:
    """Return one delivery.

    Raises: WebhookDeliveryNotFound.
    """
    return database.read(lambda tx: _find_delivery(tx, endpoint_id, sequence))


def _find_delivery(tx: Transaction, endpoint_id: str, sequence: int) -> WebhookDelivery:
    key = (store.WebhookDelivery.endpoint == endpoint_id) & (store.WebhookDelivery.sequence == sequence)
    row = tx.run(_select().where(key)).fetchone() if sequence < 2**63 else None
    if row is None:
        raise WebhookDeliveryNotFound(f"webhookEndpoints/{endpoint_id}/deliveries/{sequence}")
    return _read_rows(tx, [row])[0]


def plan_test(database: Store, call: Call, endpoint_id: str) -> WebhookDelivery:
    """Plan a test event for an endpoint, whatever its state.

    Raises: WebhookEndpointNotFound, PrivilegeEscalation, ResourceDeleted.
    """

    def effect(mutation: Mutation) -> WebhookDelivery:
        tx = mutation.tx
        endpoint = ENDPOINTS.find(tx, (endpoint_id,))
        check_not_deleted(endpoint)
        mutation.record(TEST_EVENT, before=endpoint, after=endpoint)
        plan(tx, endpoint_id, [(mutation.last_entry, TEST_EVENT, endpoint.name)])
        return _find_delivery(tx, endpoint_id, mutation.last_entry)

    return mutate(database, call, effect, WebhookDelivery, check_access=make_endpoint_check(endpoint_id))


def plan(tx: Transaction, endpoint_id: str, events: Sequence[tuple[int, str, str]]) -> None:
    """Plan the delivery of events now, or again: (sequence, type, resource) of each."""
    if events:
        encoded = msgspec.json.encode(events).decode()
        store.PLAN.run(tx, endpoint_id=endpoint_id, events=encoded, now_us=tx.now_us)


def plan_events(database: Store) -> int:
    """Plan the next events of every endpoint that is behind the ledger.

    Returns: how far the positions moved, in ledger entries; if it is not 0, there may be more.

    Raises: the errors of `Store.write`.
    """
    pending_max = PENDING_MAX - max(1, round(PENDING_MAX * REFILL_SHARE))
    behind = database.read(lambda tx: store.BEHIND.all(tx, pending_max=pending_max))
    if not behind:
        return 0
    filters = [(endpoint_id, msgspec.json.decode(types, type=tuple[str, ...])) for endpoint_id, types in behind]
    moved = 0
    for start in range(0, len(filters), ENDPOINTS_PER_TRANSACTION_MAX):
        some = dict(filters[start : start + ENDPOINTS_PER_TRANSACTION_MAX])
        moved += database.write(lambda tx, some=some: _plan_some(tx, some))  # type: ignore[misc]  # runs at once
    return moved


def _plan_some(tx: Transaction, filters: Mapping[str, Sequence[str]]) -> int:
    entries: dict[tuple[int, int], list[Row]] = {}
    return sum(_plan_next(tx, endpoint_id, types, entries) for endpoint_id, types in filters.items())


def _plan_next(
    tx: Transaction, endpoint_id: str, filters: Sequence[str], entries: dict[tuple[int, int], list[Row]]
) -> int:
    """Plan the next events of an endpoint. Return how far its position moved.

    Args:
        entries: position and number -> that many entries after it, if this transaction has read them.
    """
    progress = store.LOCK_PROGRESS.one(tx, endpoint_id=endpoint_id)
    if progress is None:
        return 0
    start, pending = progress
    rows_max = min(EVENTS_PER_TRANSACTION_MAX, PENDING_MAX - pending)
    if rows_max <= 0:
        return 0
    rows = entries.get((start, rows_max))
    if rows is None:
        rows = entries[start, rows_max] = store.EVENTS_AFTER.all(tx, sequence=start, rows_max=rows_max)
    # A gap would be a change that is not committed yet.
    dense = [row for number, row in enumerate(rows, start=start + 1) if row[0] == number]
    if not dense:
        return 0
    plan(tx, endpoint_id, [row[:3] for row in dense if matches(row[1], filters)])
    store.SET_PROGRESS.run(tx, endpoint_id=endpoint_id, sequence=dense[-1][0])
    return len(dense)


class Due(msgspec.Struct, frozen=True):
    """An endpoint with due deliveries."""

    endpoint: str
    ordered: bool
    enabled: bool
    failing: bool


def list_due(database: Store) -> list[Due]:
    """Return the endpoints with due deliveries, those that work first."""
    rows = database.read(lambda tx: store.DUE.all(tx, now_us=tx.now_us))
    return [Due(row[0], bool(row[1]), row[2] == ENABLED, bool(row[3])) for row in rows]


def claim(database: Store, limits: Mapping[Due, int], *, lease_us: int) -> list[Claimed]:
    """Claim due deliveries, so that no other process sends them before the lease ends.

    Of each endpoint, those that have been due for the longest are claimed. They are returned in the order of their
    events.

    Args:
        limits: the number of deliveries to claim for each endpoint.

    Raises: the errors of `Store.write`.
    """

    def work(tx: Transaction) -> list[Claimed]:
        return [
            Claimed(due.endpoint, row[0], row[1])
            for due, rows_max in limits.items()
            for row in sorted(
                store.CLAIM.all(
                    tx,
                    endpoint_id=due.endpoint,
                    now_us=tx.now_us,
                    claim_until_us=tx.now_us + lease_us,
                    all_events=due.enabled,
                    ordered=due.ordered,
                    rows_max=rows_max,
                )
            )
        ]

    return database.write(work)


def release_claims(database: Store) -> None:
    """End all claims. Only for the process that sends all deliveries, before it sends the first."""
    database.write(store.RELEASE_CLAIMS.change)


def load_message(database: Store, claimed: Claimed, *, secrets: EndpointSecrets) -> Message:
    """Return what to send for a claimed delivery.

    Raises: DecryptionFailed, and the store's errors.
    """

    def work(tx: Transaction) -> Message:
        endpoint = ENDPOINTS.find(tx, (claimed.endpoint,))
        entry = audit.FIND_ENTRY.one(tx, sequence=claimed.sequence)
        if entry is None:
            raise WebhookDeliveryNotFound(f"auditEntries/{claimed.sequence}")
        return Message(
            endpoint,
            claimed.sequence,
            claimed.event_type,
            entry[5],
            decrypt_json(tx, None if entry[10] is None else bytes(entry[10]), owner=entry[5]),
            format_webhook_id(claimed.sequence, entry[8]),
            entry[1],
            tx.now_us,
            tuple(secrets.list_valid(tx, endpoint)),
        )

    return database.snapshot(work)


def finish(database: Store, attempts: Sequence[Attempt], *, rules: RetryRules) -> None:
    """Record the outcomes of attempts: accepted, to be repeated, or failed. Disable endpoints that are gone.

    An outcome that cannot be stored counts as a failed attempt, and does not hold the others back.

    Raises: StoreError.
    """
    try:
        _finish_all(database, attempts, rules=rules)
    except StoreError:
        raise
    except Exception as error:
        log.exception("an outcome of a webhook could not be stored")
        if len(attempts) > 1:
            for attempt in attempts:
                finish(database, [attempt], rules=rules)
        else:
            failed = [Attempt(one.claimed, 0, f"internal error ({type(error).__name__})", "", 0) for one in attempts]
            _finish_all(database, failed, rules=rules)


def _finish_all(database: Store, attempts: Sequence[Attempt], *, rules: RetryRules) -> None:
    def work(tx: Transaction) -> None:
        for attempt in attempts:
            _finish_one(tx, attempt, rules=rules)

    database.write(work)
    for endpoint_id in dict.fromkeys(a.claimed.endpoint for a in attempts if a.status == GONE):
        _disable(database, endpoint_id, reason="it replied 410 (Gone)")
    for endpoint_id in dict.fromkeys(a.claimed.endpoint for a in attempts if not a.accepted):
        since = database.read(lambda tx: (store.FAILING_SINCE.one(tx, endpoint_id=endpoint_id), tx.now_us))  # noqa: B023 - read at once
        if since[0] is not None and since[0][0] is not None and since[1] - since[0][0] >= rules.disable_us:
            _disable(database, endpoint_id, reason="it failed for too long without a success")


def _finish_one(tx: Transaction, attempt: Attempt, *, rules: RetryRules) -> None:
    key = {"endpoint_id": attempt.claimed.endpoint, "sequence": attempt.claimed.sequence}
    previous = store.FIND_ATTEMPTS.one(tx, **key)
    if previous is None:  # another process has finished it after the claim ended
        return
    first_us = tx.now_us if previous[0] is None else previous[0]
    owner = format_name(attempt.claimed.endpoint, attempt.claimed.sequence)
    reply = encrypt_text(tx, attempt.reply, subject=find_subject(tx, previous[2]) or SUBJECT, owner=owner)
    state, next_us = DELIVERED, None
    if attempt.accepted:
        store.WORKS.run(tx, endpoint_id=attempt.claimed.endpoint)
    else:
        hold_us = tx.now_us + round(min(attempt.retry_after_s, RETRY_AFTER_MAX_S) * MICROS)
        store.FAILS.run(
            tx,
            endpoint_id=attempt.claimed.endpoint,
            now_us=tx.now_us,
            hold_until_us=hold_us if attempt.retry_after_s > 0 else 0,
        )
        next_us = max(hold_us, tx.now_us + choose_delay_us(previous[1]))
        exhausted = attempt.status != GONE and next_us > first_us + rules.retry_us
        state, next_us = (FAILED, None) if exhausted else (PENDING, next_us)
    store.FINISH.run(
        tx,
        **key,
        state=state,
        now_us=tx.now_us,
        next_time_us=next_us,
        status=attempt.status,
        problem=attempt.problem,
        reply=reply,
        duration_us=attempt.duration_us,
    )


def choose_delay_us(attempts: int) -> int:
    """Return the delay after a failed attempt in microseconds: exponential with full jitter.

    Args:
        attempts: number of earlier attempts.
    """
    bound_s = min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2 ** min(attempts, 20))
    return round(random.uniform(0, bound_s) * MICROS)  # noqa: S311 - no secret


def _disable(database: Store, endpoint_id: str, *, reason: str) -> None:
    def effect(mutation: Mutation) -> WebhookEndpoint:
        old = ENDPOINTS.find(mutation.tx, (endpoint_id,))
        if old.state != ENABLED or old.delete_time_us is not None:
            return old
        new = msgspec.structs.replace(old, state=DISABLED, state_reason=reason)
        return ENDPOINTS.replace(mutation, old, new, action="disabled")

    mutate(database, CALL, effect, WebhookEndpoint)


def purge_deliveries(tx: Transaction, *, retention_us: int, rows_max: int) -> int:
    """Delete finished deliveries older than the retention time, at most `rows_max`. Return the number."""
    return store.PURGE_DELIVERIES.change(tx, before_us=tx.now_us - retention_us, rows_max=rows_max)


def measure_oldest_s(database: Store) -> float:
    """Return the age of the oldest delivery that waits, in seconds; 0 without one."""

    def work(tx: Transaction) -> float:
        row = store.OLDEST_PENDING.one(tx)
        return 0.0 if row is None or row[0] is None else max(0.0, (tx.now_us - row[0]) / MICROS)

    return database.read(work)
