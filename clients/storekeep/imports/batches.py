"""Writes of a chunk of rows in few calls, each row by itself.

Rows that fail are left to single calls, which report why. So are those with a field that the server rejects before it
looks at any row, those with too much text for one call, and those above the rate limit of batches.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from storekeep.client import BatchResults, InvalidRequest, RateLimited, Refused, WriteOptions
from storekeep.imports.columns import InvalidCell
from storekeep.imports.writes import BatchSender, Outcome, Write, combine_outcomes

KeyT = TypeVar("KeyT", bound=Hashable)
ItemT = TypeVar("ItemT")
RequestT = TypeVar("RequestT")

SENDS_MAX = 5
"""Attempts at a batch, each without the items that the last one was refused for."""
_ITEM = re.compile(r"requests\[([0-9]+)\]")


@dataclass(frozen=True)
class BatchOutcome(Generic[KeyT]):
    """What became of rows.

    Attributes:
        outcomes: outcomes of the rows that are written, by key.
        deferred: the same of the rows that change a resource of an earlier row otherwise and so must come after it.
    """

    outcomes: Mapping[KeyT, Outcome]
    deferred: Mapping[KeyT, Outcome]


def write_batches(
    items: Mapping[KeyT, ItemT], *, plan: Callable[[ItemT], Sequence[Write] | None], dry_run: bool
) -> BatchOutcome[KeyT]:
    """Make the calls of many rows in batches: the first of all rows, then the second of all rows, and so on.

    Rows with several calls are first validated as a whole, so that a rejected row changes nothing. Rows that make the
    same change of a resource share it. Rows without a plan (None or InvalidCell) or with an unbatched call are left.
    """
    plans = {key: writes for key, item in items.items() if (writes := _plan_batched(item, plan)) is not None}
    requests: dict[str, Message] = {}
    deferred = set()
    for key, writes in plans.items():
        parts = [write.batched for write in writes if write.batched is not None]
        if any(requests.setdefault(part.resource, part.request) != part.request for part in parts):
            deferred.add(key)
    ready = {key: writes for key, writes in plans.items() if key not in deferred}
    checked = {key: writes for key, writes in ready.items() if dry_run or len(writes) > 1}
    rejected = checked.keys() - _run_calls(checked, {"validate_only": True})
    ready = {key: writes for key, writes in ready.items() if key not in rejected}
    done = ready.keys() if dry_run else _run_calls(ready, {})
    outcomes = {key: combine_outcomes([write.outcome for write in writes]) for key, writes in plans.items()}
    return BatchOutcome({key: outcomes[key] for key in done}, {key: outcomes[key] for key in deferred})


def _plan_batched(item: ItemT, plan: Callable[[ItemT], Sequence[Write] | None]) -> Sequence[Write] | None:
    """Return the calls of a row, or None if it has none or one of them has no batch."""
    try:
        writes = plan(item)
    except InvalidCell:
        return None
    return None if writes is None or any(write.batched is None for write in writes) else writes


def _run_calls(plans: Mapping[KeyT, Sequence[Write]], options: WriteOptions) -> Collection[KeyT]:
    """Make the calls of rows. Return the keys of the rows for which each succeeded."""
    left = dict(plans)
    for step in range(max((len(writes) for writes in plans.values()), default=0)):
        by_sender: dict[BatchSender, dict[KeyT, Write]] = defaultdict(dict)
        for key, writes in left.items():
            if step < len(writes) and (batched := writes[step].batched) is not None:
                by_sender[batched.send][key] = writes[step]
        for send, writes_by_key in by_sender.items():
            for key in _find_failed(send, writes_by_key, options):
                del left[key]
    return left.keys()


def _find_failed(send: BatchSender, writes: Mapping[KeyT, Write], options: WriteOptions) -> list[KeyT]:
    """Send one call of each row in a batch. Return the keys of the rows for which it failed."""
    requests = {write.batched.resource: write.batched.request for write in writes.values() if write.batched is not None}
    results = _send_items(requests, partial(send, per_item=True, **options))
    failed = []
    for key, write in writes.items():
        result = None if write.batched is None else results.get(write.batched.resource)
        is_awaited = write.awaited is not None and isinstance(result, write.awaited)
        if result is None or (isinstance(result, Refused) and not ("validate_only" in options and is_awaited)):
            failed.append(key)
    return failed


def _send_items(
    requests: Mapping[KeyT, RequestT], send: Callable[[Sequence[RequestT]], BatchResults[Any]]
) -> dict[KeyT, Any]:
    """Send the requests in one call. Return the resources and errors by key, without the items that were not tried."""
    tried = dict(requests)
    for _ in range(SENDS_MAX):
        if not tried:
            break
        try:
            return dict(zip(tried, send(list(tried.values())).items, strict=True))
        except InvalidRequest as error:
            matches = [_ITEM.match(problem.field) for problem in error.fields]
            invalid = {int(match[1]) for match in matches if match is not None}
            if not invalid:
                break
            tried = {key: request for index, (key, request) in enumerate(tried.items()) if index not in invalid}
        except RateLimited:
            break
    return {}
