"""Updates from command line options: the changed resource and its update mask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

import typer
from google.protobuf.message import Message

MessageT = TypeVar("MessageT", bound=Message)


Clear = Annotated[
    list[str] | None, typer.Option("--clear", metavar="FIELD", help="Field of the contract to clear. May be repeated.")
]


def build_update(
    kind: type[MessageT], name: str, *, etag: str, clear: Iterable[str] = (), **fields: Any
) -> tuple[MessageT, list[str]]:
    """Return a resource with the fields that are not None, and their names as the update mask.

    Args:
        clear: further fields of the mask, which the update clears.

    Raises: typer.BadParameter if all fields are None and none is cleared, or a field is both set and cleared.
    """
    changes = {field: value for field, value in fields.items() if value is not None}
    mask = [*changes, *clear]
    if not mask:
        raise typer.BadParameter("name at least one field to change")
    if len(mask) > len(set(mask)):
        raise typer.BadParameter("a field is named twice")
    return kind(name=name, etag=etag, **changes), mask
