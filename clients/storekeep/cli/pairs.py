"""Pairs: options that are written as KEY=VALUE: labels, prices, order lines."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from storekeep.client import Money, to_money

INTEGER_DIGITS_MAX = 18
"""Of a number, its sign counted: as many always fit into 64 bits."""


def pair(text: str) -> tuple[str, str]:
    """Split KEY=VALUE at the first `=`.

    Raises: typer.BadParameter.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE")
    return key.strip(), value.strip()


def labels(texts: Iterable[str]) -> dict[str, str]:
    """Read labels or options, as `season=winter`."""
    return dict(pair(text) for text in texts)


def prices(texts: Iterable[str]) -> list[Money]:
    """Read prices, as `EUR=19.90`.

    Raises: typer.BadParameter.
    """
    return [amount(price, currency_code=currency_code) for currency_code, price in map(pair, texts)]


def line_units(texts: Iterable[str]) -> dict[int, int]:
    """Read units of lines, as `2=3` for 3 units of line 2, or `2` for all of it, which is 0.

    Raises: typer.BadParameter.
    """
    return dict(_line_units(text) for text in texts)


def amount(text: str, *, currency_code: str) -> Money:
    """Read an amount, as `19.90`.

    Raises: typer.BadParameter.
    """
    try:
        return to_money(text, currency_code=currency_code.upper())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def order_lines(texts: Iterable[str]) -> list[tuple[str, int]]:
    """Read order lines, as `TEA-1=2`.

    Raises: typer.BadParameter.
    """
    return [(sku, whole_number(quantity)) for sku, quantity in map(pair, texts)]


def whole_number(text: str) -> int:
    """Read an integer in ASCII digits that a message can hold; whether it is one that makes sense, the server says.

    Raises: typer.BadParameter.
    """
    if not text.isascii() or not text.removeprefix("-").isdigit():
        raise typer.BadParameter(f"{text!r} is not a whole number")
    if len(text) > INTEGER_DIGITS_MAX:
        raise typer.BadParameter(f"{text} does not fit into 64 bits")
    return int(text)


def _line_units(text: str) -> tuple[int, int]:
    if "=" not in text:
        return whole_number(text.strip()), 0
    line, units = pair(text)
    return whole_number(line), whole_number(units)
