"""Updates from command line options: the changed resource and its update mask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import typer
from google.protobuf.message import Message

MessageT = TypeVar("MessageT", bound=Message)


def build_update(
    kind: type[MessageT], name: str, *, etag: str, cleared: Iterable[str] = (), **fields: Any
) -> tuple[MessageT, list[str]]:
    """Return a resource with the fields that are not None, and their names as the update mask.

    Args:
        cleared: names of further fields, which become absent.

    Raises: typer.BadParameter if there is no field to change.
    """
    changes = {field: value for field, value in fields.items() if value is not None}
    mask = [*changes, *cleared]
    if not mask:
        raise typer.BadParameter("name at least one field to change")
    return kind(name=name, etag=etag, **changes), mask
