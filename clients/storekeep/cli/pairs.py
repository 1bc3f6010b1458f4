"""Options of the form KEY=VALUE: labels, prices, order lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import typer

from storekeep.cli.integers import parse_integer
from storekeep.client import Money, money
from storekeep.client.money import split_currency

PRICE_FORM = "CURRENCY=AMOUNT"
PRICE_EXAMPLE = "EUR=19.90"


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
    return [parse_price(text) for text in texts]


def parse_price(text: str, *, form: str = PRICE_FORM, example: str = PRICE_EXAMPLE) -> Money:
    """Parse `EUR=19.90`, which may also be written `19.90 EUR` or `EUR 19.90`.

    Args:
        form, example: the expected form and an example of it, for the error.

    Raises: typer.BadParameter.
    """
    currency_code, amount = _split_price(text, form=form, example=example)
    return parse_amount(amount, currency_code=currency_code)


def _split_price(text: str, *, form: str = PRICE_FORM, example: str = PRICE_EXAMPLE) -> tuple[str, str]:
    """Split a price into currency and amount.

    Raises: typer.BadParameter.
    """
    own, amount = ("", "") if "=" in text else split_currency(text)
    return (own, amount) if own else split_pair(text, form=form, example=example)


def change_prices(prices: Iterable[Money], texts: Iterable[str]) -> list[Money]:
    """Return prices with those of some currencies changed, as `EUR=19.90`, or removed, as `EUR=`.

    Raises: typer.BadParameter.
    """
    by_currency = {price.currency_code: price for price in prices}
    for text in texts:
        currency_code, amount = _split_price(text)
        code = currency_code.upper()
        if amount:
            by_currency[code] = parse_amount(amount, currency_code=code)
        elif by_currency.pop(code, None) is None:
            raise typer.BadParameter(f"there is no price in {code} to remove")
    return list(by_currency.values())


def parse_line_units(texts: Iterable[str], *, option: str = "--line") -> dict[int, int]:
    """Parse units by line number: `2=3` for 3 units of line 2, or `2` for all its units, which is 0.

    `option`: the option that has the texts, for the error.

    Raises: typer.BadParameter.
    """
    return dict(_parse_line_units_pair(text, option=option) for text in texts)


def parse_amount(text: str, *, currency_code: str) -> Money:
    """Parse an amount such as `19.90`, which may repeat the currency.

    Raises: typer.BadParameter.
    """
    try:
        return money.parse_amount(text, currency_code=currency_code)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def parse_order_lines(texts: Iterable[str], *, option: str = "--line") -> list[tuple[str, int]]:
    """Parse order lines such as `TEA-1=2` into pairs of SKU and units.

    `option`: the option that has the texts, for the error; empty for an argument.

    Raises: typer.BadParameter.
    """
    return [_parse_order_line(text, option=option) for text in texts]


def _parse_order_line(text: str, *, option: str) -> tuple[str, int]:
    with _name_option(option, text):
        sku, units = split_pair(text, form="SKU=UNITS", example=f"{text.strip('=') or 'CHAI-1'}=1")
        return sku, parse_integer(units)


def _parse_line_units_pair(text: str, *, option: str) -> tuple[int, int]:
    with _name_option(option, text):
        if "=" not in text:
            return parse_integer(text.strip()), 0
        line, units = split_pair(text, form="LINE or LINE=UNITS", example="1=2")
        return parse_integer(line), parse_integer(units)


@contextmanager
def _name_option(option: str, text: str) -> Iterator[None]:
    """Name the option with its text in an error. The server checks the range of numbers.

    Raises: typer.BadParameter.
    """
    try:
        yield
    except typer.BadParameter as error:
        raise typer.BadParameter(f"{option} {error.message}".strip()) from None
    except ValueError as error:
        raise typer.BadParameter(f"{option} {text}: {error}".strip()) from None
