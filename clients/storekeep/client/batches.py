"""Batches of changes: many items in one call, all or none, or each by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from storekeep.client.error_families import Refused
from storekeep.client.statuses import from_status
from storekeep.v1.batches_pb2 import BATCH_MODE_ALL_OR_NOTHING, BATCH_MODE_PER_ITEM, BatchMode

ResourceT = TypeVar("ResourceT")
ResultT = TypeVar("ResultT", bound=Message)
"""A message with the result of an item: its resource or its `error`."""


@dataclass(frozen=True)
class BatchResults(Generic[ResourceT]):
    """The results of a batch."""

    items: Sequence[ResourceT | Refused]
    """The resource or the error of each item, in the order of the request."""

    @property
    def failures(self) -> dict[int, Refused]:
        """The errors of the items that failed, by index."""
        return {index: item for index, item in enumerate(self.items) if isinstance(item, Refused)}

    @property
    def resources(self) -> list[ResourceT]:
        """The resources of the items that succeeded: of all items, unless `per_item` was set."""
        return [item for item in self.items if not isinstance(item, Refused)]


def get_mode(*, per_item: bool) -> BatchMode.ValueType:
    """Return the mode of a batch."""
    return BATCH_MODE_PER_ITEM if per_item else BATCH_MODE_ALL_OR_NOTHING


def read_results(results: Iterable[ResultT], *, resource: Callable[[ResultT], ResourceT]) -> BatchResults[ResourceT]:
    """Convert the results of a reply. `resource` extracts the resource of an item that succeeded."""
    return BatchResults([_read_result(result, resource) for result in results])


def _read_result(result: Any, resource: Callable[[Any], ResourceT]) -> ResourceT | Refused:
    return from_status(result.error) if result.HasField("error") else resource(result)
