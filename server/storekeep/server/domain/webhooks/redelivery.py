"""Redelivery: sends past events again, found by their time in the ledger.

The ledger has no index by time. As its entries are in the order of their commits, a binary search finds the first.
"""

from __future__ import annotations

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import InvalidField
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.resources import check_not_deleted
from storekeep.server.domain.webhooks.deliveries import plan
from storekeep.server.domain.webhooks.endpoints import ENDPOINTS, make_endpoint_check
from storekeep.server.domain.webhooks.event_types import find_unknown, matches
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import webhooks as store

EVENTS_MAX = 1_000
"""The most events that one call plans."""
ENTRIES_MAX = 10_000
"""Ledger entries that one call looks at, so that it does not delay the writes of others."""


class RedeliveryRequest(msgspec.Struct, frozen=True):
    """Which events to send again.

    Attributes:
        start_us, end_us: the range of times, microseconds since 1970; the end is excluded, None for now.
        event_types: type filters; empty for those of the endpoint.
        failed_only: only events whose delivery failed.
        after_event: only events after this sequence.
        events_max: the most events to plan.
    """

    endpoint: str
    start_us: int
    end_us: int | None = None
    event_types: tuple[str, ...] = ()
    failed_only: bool = False
    after_event: int = 0
    events_max: int = EVENTS_MAX


class Redelivery(msgspec.Struct, frozen=True):
    """What a call planned.

    Attributes:
        name: the resource name of the endpoint.
        events: number of events.
        last_event: the sequence of the last event that it looked at.
        has_more: whether there may be more in the time range.
    """

    name: str
    events: int
    last_event: int
    has_more: bool


def redeliver_events(database: Store, call: Call, request: RedeliveryRequest) -> Redelivery:
    """Plan past events again, oldest first. Events that the endpoint does not ask for are never sent.

    Raises: InvalidField, WebhookEndpointNotFound, PrivilegeEscalation, ResourceDeleted.
    """
    index, problem = find_unknown(request.event_types)
    if problem:
        raise InvalidField(f"event_types[{index}]", problem)

    def effect(mutation: Mutation) -> Redelivery:
        tx = mutation.tx
        endpoint = ENDPOINTS.find(tx, (request.endpoint,))
        check_not_deleted(endpoint)
        first = max(request.after_event, _find_first(tx, request.start_us) - 1)
        rows = store.EVENTS_AFTER.all(tx, sequence=first, rows_max=ENTRIES_MAX)
        end_us = tx.now_us if request.end_us is None else request.end_us
        in_range = [row for row in rows if row[3] < end_us]
        last = in_range[-1][0] if in_range else first
        failed = _list_failed(tx, request, first=first, last=last)
        filters = request.event_types or endpoint.event_types
        chosen = [
            row[:3]
            for row in in_range
            if matches(row[1], endpoint.event_types)
            and matches(row[1], filters)
            and (failed is None or row[0] in failed)
        ]
        has_more = len(in_range) == ENTRIES_MAX or len(chosen) > request.events_max
        if len(chosen) > request.events_max:
            chosen = chosen[: request.events_max]
            last = chosen[-1][0]
        mutation.record("webhook_endpoint.redelivered", before=endpoint, after=endpoint)
        plan(tx, endpoint.id, chosen)
        return Redelivery(endpoint.name, len(chosen), last, has_more)

    return mutate(database, call, effect, Redelivery, check_access=make_endpoint_check(request.endpoint))


def _list_failed(tx: Transaction, request: RedeliveryRequest, *, first: int, last: int) -> set[int] | None:
    """Return the sequences of the failed deliveries in a range; None if others are sent too."""
    if not request.failed_only:
        return None
    rows = store.FAILED_SEQUENCES.all(tx, endpoint_id=request.endpoint, first=first, last=last)
    return {row[0] for row in rows}


def _find_first(tx: Transaction, start_us: int) -> int:
    """Return the sequence of the first entry at or after a time; one after the last entry if there is none."""
    row = store.LAST_SEQUENCE.one(tx)
    low, high = 1, (0 if row is None else row[0]) + 1
    while low < high:
        middle = (low + high) // 2
        found = store.TIME_AT.one(tx, sequence=middle)
        if found is not None and found[0] < start_us:
            low = middle + 1
        else:
            high = middle
    return low
