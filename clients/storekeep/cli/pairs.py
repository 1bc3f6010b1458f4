"""Options of the form KEY=VALUE: labels, prices, order lines."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from storekeep.cli.integers import parse_integer
from storekeep.client import Money, to_money


def split_pair(text: str, *, form: str = "KEY=VALUE", example: str = "") -> tuple[str, str]:
    """Split KEY=VALUE at the first `=`.

    Args:
        form: the expected form, for the error.
        example: what the user may have meant, for the error.

    Raises: typer.BadParameter.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        hint = f", such as {example}" if example else ""
        raise typer.BadParameter(f"{text!r} must be {form}{hint}")
    return key.strip(), value.strip()


def parse_labels(texts: Iterable[str], *, form: str = "KEY=VALUE") -> dict[str, str]:
    """Parse labels or options such as `season=winter`.

    Args:
        form: the expected form, for the error.

    Raises: typer.BadParameter.
    """
    return dict(split_pair(text, form=form) for text in texts)


def parse_prices(texts: Iterable[str]) -> list[Money]:
    """Parse prices such as `EUR=19.90`.

    Raises: typer.BadParameter.
    """
    pairs = [split_pair(text, form="CURRENCY=AMOUNT", example="EUR=19.90") for text in texts]
    return [parse_amount(price, currency_code=currency_code) for currency_code, price in pairs]


def change_prices(prices: Iterable[Money], texts: Iterable[str]) -> list[Money]:
    """Return prices with those of some currencies changed, as `EUR=19.90`, or removed, as `EUR=`.

    Raises: typer.BadParameter.
    """
    by_currency = {price.currency_code: price for price in prices}
    for text in texts:
        currency_code, amount = split_pair(text, form="CURRENCY=AMOUNT", example="EUR=19.90")
        code = currency_code.upper()
        if amount:
            by_currency[code] = parse_amount(amount, currency_code=code)
        elif by_currency.pop(code, None) is None:
            raise typer.BadParameter(f"there is no price in {code} to remove")
    return list(by_currency.values())


def parse_line_units(texts: Iterable[str]) -> dict[int, int]:
    """Parse units by line number: `2=3` for 3 units of line 2, or `2` for all its units, which is 0.

    Raises: typer.BadParameter.
    """
    return dict(_parse_line_units_pair(text) for text in texts)


def parse_amount(text: str, *, currency_code: str) -> Money:
    """Parse an amount such as `19.90`.

    Raises: typer.BadParameter.
    """
    try:
        return to_money(text, currency_code=currency_code.upper())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def parse_order_lines(texts: Iterable[str]) -> list[tuple[str, int]]:
    """Parse order lines such as `TEA-1=2` into pairs of SKU and units.

    Raises: typer.BadParameter.
    """
    pairs = [split_pair(text, form="SKU=UNITS", example=f"{text.strip('=') or 'CHAI-1'}=1") for text in texts]
    return [(sku, _parse_units(quantity)) for sku, quantity in pairs]


def _parse_units(text: str) -> int:
    """Parse a number of units or of a line. The server checks its range.

    Raises: typer.BadParameter.
    """
    try:
        return parse_integer(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _parse_line_units_pair(text: str) -> tuple[int, int]:
    if "=" not in text:
        return _parse_units(text.strip()), 0
    line, units = split_pair(text, form="LINE or LINE=UNITS", example="1=2")
    return _parse_units(line), _parse_units(units)
