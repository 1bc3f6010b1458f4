"""Changes: what an update command was told to change: the fields that were given, and the mask that names them."""

from __future__ import annotations

from typing import Any, TypeVar

import typer
from google.protobuf.message import Message

MessageT = TypeVar("MessageT", bound=Message)


def changes_of(kind: type[MessageT], name: str, *, etag: str, **fields: Any) -> tuple[MessageT, list[str]]:
    """Return a resource that holds the fields that are not None, and their names: the update mask.

    Raises: typer.BadParameter when there is nothing to change.
    """
    given = {field: value for field, value in fields.items() if value is not None}
    if not given:
        raise typer.BadParameter("Say what to change")
    return kind(name=name, etag=etag, **given), list(given)
