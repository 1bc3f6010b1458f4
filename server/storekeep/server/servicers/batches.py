"""Conversion of batches: the items of a request, and the results of a reply."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.rpc import status_pb2

from storekeep.server.domain.errors import BatchTooLarge, DomainError, InvalidField
from storekeep.server.domain.standard.batches import Item, ItemResult, run_batch
from storekeep.server.domain.standard.preparations import Prepare, prepare_nothing
from storekeep.server.interceptors.error_table import find_row
from storekeep.server.interceptors.errors import build_status, shorten
from storekeep.server.servicers.calls import build_call
from storekeep.server.servicers.converters import parse_id
from storekeep.server.store.engine import Store
from storekeep.server.transport.rpc import CURRENT
from storekeep.v1 import batches_pb2

M = TypeVar("M", bound=Message)
R = TypeVar("R")
GRAM_CHARACTERS_MAX = 40_000
"""Characters from U+0800 on, such as Chinese ones, after which a batch has no room for further items. Each may be a
word of a search document, or three of a customer's, at some 2 µs each. A message of 1 MB took 5 s without a limit."""
BYTES_BELOW_U0800 = bytes(range(0xE0))
"""All bytes of UTF-8 that do not begin such a character."""
Key = tuple[str, str]
"""A field of an item and its value, which no other item may have. Empty values may occur repeatedly."""


def change_batch(
    store: Store,
    request: Any,
    parse: Callable[[Any], Item[R]],
    *,
    get_keys: Callable[[Any], Sequence[Key]],
    resource: type[R],
    prepare: Prepare = prepare_nothing,
) -> Iterator[ItemResult[R]]:
    """Run a batch and yield the result of each item.

    Args:
        parse: converts an item to its change.
        get_keys: returns the keys of an item, such as its resource name.
        resource: the type of the changed resources.
        prepare: computes what the changes need, before their transaction.

    Raises: InvalidField for items with a `request_id` or `validate_only`, and the errors of `run_batch`.
    """
    for index, item in enumerate(request.requests):
        for field in ("request_id", "validate_only"):
            if getattr(item, field):
                raise InvalidField(f"requests[{index}].{field}", "must be set for the whole batch only")
    items = _parse_items(request.requests, parse, get_keys)
    per_item = request.mode == batches_pb2.BATCH_MODE_PER_ITEM
    sizes = (message.ByteSize() for message in request.requests)
    call = build_call(request)
    return run_batch(store, call, items, resource=resource, per_item=per_item, sizes=sizes, prepare=prepare)


def _parse_items(
    messages: Iterable[Any], parse: Callable[[Any], Item[R]], get_keys: Callable[[Any], Sequence[Key]]
) -> Iterator[Item[R]]:
    """Yield the change of each item, or its error: BatchTooLarge if those before it have too many search words."""
    indexes: dict[Key, int] = {}
    characters = 0
    for index, message in enumerate(messages):
        try:
            if characters >= GRAM_CHARACTERS_MAX:
                raise BatchTooLarge(index)
            characters += len(message.SerializeToString().translate(None, BYTES_BELOW_U0800))
            for field, value in get_keys(message):
                first = indexes.setdefault((field, value), index) if value else index
                if first != index:
                    raise InvalidField(field, f"is the same as in requests[{first}]")
            yield parse(message)
        except DomainError as error:
            yield error


def check_parents(parent: str, parents: Iterable[str], *, field: str) -> None:
    """Raise unless all items of a batch have its parent.

    Args:
        parent: the parent of the batch; the id `-` accepts any parent.
        parents: the parent of each item.
        field: the field of an item that names its parent.

    Raises: InvalidField for the first item with another parent.
    """
    if parse_id(parent) == "-":
        return
    for index, own in enumerate(parents):
        if own != parent:
            raise InvalidField(f"requests[{index}].{field}", f"must have the parent {parent}")


def build_results(
    results: Iterable[ItemResult[R]], kind: Callable[..., M], *, field: str, build: Callable[[R], Message]
) -> list[M]:
    """Build the messages of the results of a batch.

    Args:
        kind: the type of the messages.
        field: their field for the resource.
        build: builds the message of a resource.
    """
    return [
        kind(error=_build_error(result.failure.restore()))
        if result.failure is not None
        else kind(**{field: build(result.resource)})  # type: ignore[arg-type]  # without a failure there is a resource
        for result in results
    ]


def _build_error(error: DomainError) -> status_pb2.Status:
    return build_status(error, find_row(error), shorten(str(error)), CURRENT.get())
