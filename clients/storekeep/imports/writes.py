"""The calls that a row makes, each by itself and as an item of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from google.protobuf.message import Message

from storekeep.client import BatchResults, NotFound, WriteOptions


class Outcome(StrEnum):
    """Outcome of a row."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REPEATED = "repeated"
    SKIPPED = "skipped"
    FAILED = "failed"


BatchSender = Callable[..., BatchResults[Any]]
"""A method of the client that sends a batch, such as `client.products.batch_create`."""


@dataclass(frozen=True)
class Batched:
    """A call as an item of a batch.

    Attributes:
        send: sends a batch of such items.
        resource: name or SKU of the resource that the item changes.
        request: the item.
    """

    send: BatchSender
    resource: str
    request: Message


@dataclass(frozen=True)
class Write:
    """One call of the change that a row makes.

    Attributes:
        call: makes the call with the options of a mutation.
        awaited: error of a dry run because an earlier call of the same row was not executed; None if there is none.
        batched: the call as an item of a batch; None if there is no such batch.
    """

    call: Callable[[WriteOptions], object]
    outcome: Outcome
    awaited: type[NotFound] | None = None
    batched: Batched | None = None


def run_writes(writes: Sequence[Write], *, dry_run: bool) -> Outcome:
    """Make the calls of one row, each of them first as a dry run, so that a rejected row changes nothing.

    Returns: the outcome of the row.

    Raises: Refused.
    """
    if dry_run or len(writes) > 1:
        for write in writes:
            try:
                write.call({"validate_only": True})
            except NotFound as error:
                if write.awaited is None or not isinstance(error, write.awaited):
                    raise
    if not dry_run:
        for write in writes:
            write.call({})
    return combine_outcomes([write.outcome for write in writes])


def combine_outcomes(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome of a row with several resources: that of the first if it was created."""
    if outcomes and outcomes[0] is Outcome.CREATED:
        return Outcome.CREATED
    return Outcome.UPDATED if outcomes else Outcome.UNCHANGED
