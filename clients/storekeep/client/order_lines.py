"""Lines of orders, reservations and transfers, which callers write as pairs of SKU and units."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

Line = TypeVar("Line")


def build_lines(lines: Iterable[tuple[str, int]], make: Callable[..., Line]) -> list[Line]:
    """Return the lines of a request.

    Args:
        lines: pairs of SKU and units.
        make: the message of a line, with `sku` and `quantity`.

    Raises: ValueError for a line that is not a pair.
    """
    return [make(sku=sku, quantity=quantity) for sku, quantity in map(_split_line, lines)]


def _split_line(line: Any) -> tuple[Any, Any]:
    is_text = isinstance(line, str)
    parts: Any = (line,) if is_text else line
    try:
        sku, quantity = parts
    except (TypeError, ValueError):
        example = line if is_text else "CHAI-1"
        raise ValueError(f"{line!r} is not a pair of SKU and units, such as ({example!r}, 1)") from None
    return sku, quantity
