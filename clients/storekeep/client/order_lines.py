"""Lines of orders, reservations and transfers, which callers write as pairs of SKU and units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

Line = TypeVar("Line")


def build_lines(lines: Iterable[tuple[str, int]], make: Callable[..., Line]) -> list[Line]:
    """Return the lines of a request.

    Args:
        lines: pairs of SKU and units.
        make: the message of a line, with `sku` and `quantity`.

    Raises: ValueError for lines that are not pairs.
    """
    if isinstance(lines, (str, Mapping)):
        raise ValueError(f"lines must be a list of pairs of SKU and units, such as [('CHAI-1', 1)], not {lines!r}")
    return [make(sku=sku, quantity=quantity) for sku, quantity in map(_split_line, lines)]


def _split_line(line: Any) -> tuple[Any, Any]:
    if isinstance(line, Sequence) and not isinstance(line, str) and len(line) == 2:
        sku, quantity = line
        if isinstance(sku, str) and hasattr(quantity, "__index__"):
            return sku, quantity
    example = line if isinstance(line, str) else "CHAI-1"
    raise ValueError(f"{line!r} is not a pair of SKU and units, such as ({example!r}, 1)")
