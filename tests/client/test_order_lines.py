"""Lines of an order are pairs of SKU and units; what is none is refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from storekeep.client import PlaceOrderLine
from storekeep.client.order_lines import build_lines


def test_pairs_become_lines() -> None:
    assert build_lines([("A", 2), ("B", 1)], PlaceOrderLine) == [
        PlaceOrderLine(sku="A", quantity=2),
        PlaceOrderLine(sku="B", quantity=1),
    ]


@pytest.mark.parametrize(
    "line", ["CHAI-1", "AB", ("A",), ("A", 1, 2), ("A", "1"), ("A", 1.5), (1, 2), {"sku": "A", "quantity": 1}, 7, None]
)
def test_line_that_is_no_pair_is_refused_with_an_example(line: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a pair of SKU and units, such as \('"):
        build_lines([line], PlaceOrderLine)


@pytest.mark.parametrize("lines", [{"CHAI-1": 2}, {"sku": "CHAI-1", "quantity": 2}, "CHAI-1"])
def test_lines_that_are_no_list_are_refused_with_an_example(lines: Any) -> None:
    with pytest.raises(ValueError, match=r"must be a list of pairs of SKU and units, such as \[\('CHAI-1', 1\)\], not"):
        build_lines(lines, PlaceOrderLine)
