"""Batches of changes: many items in one call, all or none, or each by itself.

All or none is one transaction. Item by item, a batch is cut into slices. Each slice is a transaction with a savepoint
for each item, so that other callers' changes are committed in between. A slice stores its own reply, under the request
id of the batch and its number: a repeated call does only what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, count, islice, repeat
from typing import Any, Generic, TypeVar

import msgspec

from storekeep.server.domain import errors
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import BatchTooLarge, DomainError
from storekeep.server.domain.keys.personal_fields import create_keys
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.deferred import defer_actions
from storekeep.server.domain.standard.pages import PAGE_BYTES_MAX
from storekeep.server.domain.standard.preparations import Prepare, prepare_nothing
from storekeep.server.store.engine import Store

R = TypeVar("R")

SLICE_ITEMS = 50
"""The most items in one transaction, if each item succeeds by itself. Another caller's change waits for these, and
PostgreSQL keeps 64 savepoints of a transaction in fast memory."""
Effect = Callable[[Mutation], R]
"""Makes the change of one item within a running mutation."""
SLICE_BYTES = 8_000
"""Bytes of the request after whose items a slice ends: 50 customers with long Chinese names and addresses held the
writer for 155 ms, most of it to cut and hash the words for the search (2026-11-30). Usual items are smaller."""
Item = Effect[R] | DomainError
"""An item, or the error for which it cannot succeed whatever the state of the database."""
_encode = msgspec.json.Encoder().encode


class Failure(msgspec.Struct, frozen=True):
    """The error of an item, as stored for retries.

    Attributes:
        error: the name of its class.
        text: its text for people.
        metadata: its attributes.
    """

    error: str
    text: str
    metadata: dict[str, str]

    def restore(self) -> DomainError:
        """Return an error that is reported like the original one."""
        kind: type[DomainError] = getattr(errors, self.error)
        error = kind.__new__(kind, self.text)
        vars(error).update(self.metadata)
        return error


class ItemResult(msgspec.Struct, Generic[R], frozen=True):
    """The result of an item: the changed resource or the failure, of which the other is None."""

    resource: R | None = None
    failure: Failure | None = None


def run_batch(
    db: Store,
    call: Call,
    items: Iterable[Item[R]],
    *,
    resource: type[R],
    per_item: bool,
    sizes: Iterable[int] = repeat(0),
    prepare: Prepare = prepare_nothing,
) -> Iterator[ItemResult[R]]:
    """Change the resources of a batch and yield the result of each item, in order.

    Args:
        items: with `per_item`, they are taken as their turn comes, so that their conversion delays no one else.
        resource: the type of the changed resources.
        per_item: whether each item succeeds or fails by itself.
        sizes: the bytes of each item in the request.
        prepare: computes what the effects of a transaction need, before it.

    Raises: the errors of `mutate`; without `per_item` also the error of the first item that fails.
    """
    if not per_item:
        changed = _run_whole(db, call, items, resource=resource, prepare=prepare)
        yield from (ItemResult(one) for one in changed)
        return
    remaining: Iterator[tuple[Item[R], int]] = zip(items, sizes, strict=False)
    left_bytes, start = PAGE_BYTES_MAX, 0
    replays: list[int] = []
    for number in count():
        piece = _take_slice(remaining)
        if not piece:
            if call.on_replay is not None and len(replays) == number:  # else this call has done a part of the batch
                call.on_replay()
            return
        chosen = [item for item, _ in piece]
        prepared = prepare(db, [item for item in chosen if not isinstance(item, DomainError)])
        own_call = msgspec.structs.replace(call, on_replay=partial(replays.append, number), prepared=prepared)
        results = _run_slice(db, own_call, chosen, resource=resource, number=number, start=start, left_bytes=left_bytes)
        remaining = _move_on(remaining, piece, done=len(results))
        start += len(results)
        left_bytes -= sum(len(_encode(result.resource)) for result in results if result.resource is not None)
        yield from results


def _take_slice(remaining: Iterator[tuple[Item[R], int]]) -> list[tuple[Item[R], int]]:
    """Return the items of the next slice, and their sizes; empty after the last one."""
    piece: list[tuple[Item[R], int]] = []
    slice_bytes = 0
    for item, item_bytes in remaining:
        piece.append((item, item_bytes))
        slice_bytes += item_bytes
        if len(piece) == SLICE_ITEMS or slice_bytes >= SLICE_BYTES:
            break
    return piece


def _move_on(
    remaining: Iterator[tuple[Item[R], int]], piece: Sequence[tuple[Item[R], int]], *, done: int
) -> Iterator[tuple[Item[R], int]]:
    """Return the items after a slice. The stored reply of a first call has as many results as its slice had items.

    Args:
        piece: the items that were meant to be in the slice.
        done: the number of its results: another one if the first call was made by a release with other slices.
    """
    return chain(piece[done:], islice(remaining, max(done - len(piece), 0), None))


def _run_whole(db: Store, call: Call, items: Iterable[Item[R]], *, resource: type[R], prepare: Prepare) -> Sequence[R]:
    """Run all items in one transaction.

    Raises: the error of the first item that fails, with its index; the errors of `mutate`.
    """
    effects: list[Effect[R]] = []
    for index, item in enumerate(items):
        if isinstance(item, DomainError):
            item.set_index(index)
            raise item
        effects.append(item)
    prepared = prepare(db, effects)

    def effect(mutation: Mutation) -> tuple[R, ...]:
        room = _Room(PAGE_BYTES_MAX)
        changed: list[R] = []
        if prepared.subjects:
            create_keys(mutation.tx, prepared.subjects)
        with defer_actions(mutation.tx):
            for index, change in enumerate(effects):
                try:
                    changed.append(room.take(change(mutation), index=index))
                except DomainError as error:
                    error.set_index(index)
                    raise
        return tuple(changed)

    reply_type: Any = tuple[resource, ...]  # type: ignore[valid-type]  # a type is known only when it runs
    reply: Sequence[R] = mutate(db, msgspec.structs.replace(call, prepared=prepared), effect, reply_type)
    return reply


def _run_slice(
    db: Store, call: Call, items: Sequence[Item[R]], *, resource: type[R], number: int, start: int, left_bytes: int
) -> Sequence[ItemResult[R]]:
    """Run the items of one slice in one transaction, each in a savepoint.

    Args:
        number: the number of the slice in its batch, from 0.
        start: the index of its first item in the batch.
        left_bytes: how large its resources may be together, as JSON.
    """
    has_own_id = call.request_id and number
    own_call = msgspec.structs.replace(call, request_id=f"{call.request_id}/{number}") if has_own_id else call

    def effect(mutation: Mutation) -> tuple[ItemResult[R], ...]:
        room = _Room(left_bytes)
        recording = mutation.by(call)
        with defer_actions(mutation.tx):
            return tuple(_run_item(recording, item, room, index=index) for index, item in enumerate(items, start))

    reply_type: Any = tuple[ItemResult[resource], ...]  # type: ignore[valid-type]  # a type is known only when it runs
    results: Sequence[ItemResult[R]] = mutate(db, own_call, effect, reply_type)
    return results


def _run_item(mutation: Mutation, item: Item[R], room: _Room, *, index: int) -> ItemResult[R]:
    """Run one item. Return its failure if it fails, with no change made."""
    try:
        if isinstance(item, DomainError):
            raise item
        return ItemResult(mutation.attempt(lambda own: room.take(item(own), index=index)))
    except DomainError as error:
        return ItemResult(failure=Failure(type(error).__name__, str(error), error.metadata))


class _Room:
    """The room that is left in a reply.

    Args:
        left_bytes: the most bytes of further resources, as JSON.
    """

    def __init__(self, left_bytes: int) -> None:
        self._left_bytes = left_bytes

    def take(self, resource: R, *, index: int) -> R:
        """Take the room of a resource and return it. The first item of a batch always has room, as a single call has.

        Args:
            index: the index of its item in the batch.

        Raises: BatchTooLarge.
        """
        size = len(_encode(resource))
        if index and size > self._left_bytes:
            raise BatchTooLarge(index)
        self._left_bytes -= size
        return resource
