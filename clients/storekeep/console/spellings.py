"""How values of the contract are written in a form: amounts, percentages, times, lists. Nothing is rounded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.client import (
    Money,
    PromotionTier,
    ShippingPrice,
    TaxArea,
    TaxComponent,
    money,
    to_decimal,
    to_timestamp,
)
from storekeep.client.money import split_currency
from storekeep.imports.spellings import ISO

PPM_PER_PERCENT = 10_000
WHOLE = re.compile(r"[0-9]{1,12}")
INTEGER = re.compile(r"[+-]?[0-9]{1,9}")
TIME_FORMATS = ("%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d")


@dataclass(frozen=True)
class Codec:
    """How a field is written as text.

    Attributes:
        format: return the text of a value.
        write: set a field of a message, given its name and a text. Raises: ValueError with a text for the person.
    """

    format: Callable[[Any], str]
    write: Callable[[Any, str, str], None]


def parse_whole(text: str) -> int:
    """Return a whole number, 0 or more. Raises: ValueError."""
    if not WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a whole number such as 12")
    return int(text)


def parse_integer(text: str) -> int:
    """Return a whole number, also below 0. Raises: ValueError."""
    if not INTEGER.fullmatch(text):
        raise ValueError(f"{text!r} is not a whole number such as 10 or -10")
    return int(text)


def parse_amount(text: str) -> Money:
    """Return an amount such as `4.90 EUR`. Raises: ValueError."""
    amount = money.parse_amount(text)
    if not amount.currency_code:
        raise ValueError(f"{text!r} is not an amount with its currency, such as 4.90 EUR")
    return amount


def format_amount(money: Money) -> str:
    """Return an amount as `4.90 EUR`; empty for none."""
    if not money.currency_code:
        return ""
    return f"{format_plain_amount(money)} {money.currency_code}"


def format_plain_amount(money: Money) -> str:
    """Return an amount without its currency: `4.50`, `5`, `0.125`."""
    amount = to_decimal(money)
    cents = f"{amount:.2f}"
    is_plain = amount == amount.to_integral_value() or Decimal(cents) != amount
    return f"{amount:f}" if is_plain else cents


def parse_percentage(text: str) -> int:
    """Return a percentage such as `9.975` in millionths. Raises: ValueError."""
    try:
        ppm = ISO.parse_decimal(text.strip().removesuffix("%").strip()) * PPM_PER_PERCENT
        if not ppm.is_finite() or abs(ppm) > 10**9 or ppm != int(ppm):
            raise ValueError
    except ValueError:
        raise ValueError(f"{text!r} is not a percentage such as 9.5, with at most four decimals") from None
    return int(ppm)


def format_percentage(ppm: int) -> str:
    """Return millionths as a percentage; empty for 0."""
    return f"{(Decimal(ppm) / PPM_PER_PERCENT).normalize():f}" if ppm else ""


def parse_time(text: str) -> Timestamp:
    """Return a time in UTC. Raises: ValueError."""
    for pattern in TIME_FORMATS:
        try:
            stamp = to_timestamp(datetime.strptime(text.strip().removesuffix("Z"), pattern).replace(tzinfo=UTC))
        except (ValueError, OverflowError):
            continue
        if stamp is not None:
            return stamp
    raise ValueError(f"{text!r} is not a time such as 2026-12-24T18:00")


def format_time(time: Timestamp) -> str:
    """Return a time as a form has it; empty for none."""
    if not time.seconds and not time.nanos:
        return ""
    moment = time.ToDatetime(tzinfo=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S" if moment.second else "%Y-%m-%dT%H:%M")


def split_lines(text: str) -> list[str]:
    """Return the lines of a text that are not empty."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _write_text(target: Any, name: str, text: str) -> None:
    if target.DESCRIPTOR.fields_by_name[name].is_repeated:
        getattr(target, name)[:] = split_lines(text)
    else:
        setattr(target, name, text)


def _format_text(value: Any) -> str:
    return value if isinstance(value, str) else "\n".join(value)


def _write_number(parse: Callable[[str], int]) -> Callable[[Any, str, str], None]:
    return lambda target, name, text: setattr(target, name, parse(text) if text else 0)


def _write_message(parse: Callable[[str], Any]) -> Callable[[Any, str, str], None]:
    def write(target: Any, name: str, text: str) -> None:
        target.ClearField(name)
        if text:
            getattr(target, name).CopyFrom(parse(text))

    return write


def _write_choice(target: Any, name: str, text: str) -> None:
    values = target.DESCRIPTOR.fields_by_name[name].enum_type.values_by_name
    if text and text not in values:
        raise ValueError("choose one of the list")
    setattr(target, name, values[text].number if text else 0)


def _list_codec(format_item: Callable[[Any], str], parse_item: Callable[[str], Any]) -> Codec:
    def write(target: Any, name: str, text: str) -> None:
        items = [parse_item(line) for line in split_lines(text)]
        target.ClearField(name)
        getattr(target, name).extend(items)

    return Codec(lambda value: "\n".join(format_item(item) for item in value), write)


def _parse_area(text: str) -> TaxArea:
    """Return an area such as `DE`, `US/NY` or `US//100`."""
    country, _, rest = text.partition("/")
    region, _, prefix = rest.partition("/")
    return TaxArea(
        region_code=country.strip().upper(), administrative_area=region.strip(), postal_code_prefix=prefix.strip()
    )


def _format_area(area: TaxArea) -> str:
    parts = (area.region_code, area.administrative_area, area.postal_code_prefix)
    return "/".join(parts).rstrip("/")


def _parse_component(text: str) -> TaxComponent:
    """Return a tax such as `VAT 19`, `VAT 19 %` or `QST 9.975 compound`."""
    words = text.replace("%", " ").split()
    is_compound = len(words) > 2 and words[-1].lower() == "compound"
    *names, rate = words[:-1] if is_compound else words
    return TaxComponent(display_name=" ".join(names), rate_ppm=parse_percentage(rate), compound=is_compound)


def _format_component(component: TaxComponent) -> str:
    rate = format_percentage(component.rate_ppm) or "0"
    return " ".join(filter(None, (component.display_name, rate, "compound" if component.compound else "")))


def _parse_minimum(text: str, *, units: Sequence[str], example: str) -> tuple[int, Money | None]:
    """Return (number, amount) of a minimum such as `5000 g` or `50.00 EUR`.

    Args:
        units: the units that the number may have.
        example: a minimum with such a unit.

    Raises: ValueError.
    """
    number, _, unit = text.partition(" ")
    if unit.strip().lower() in units:
        return parse_whole(number), None
    try:
        return 0, parse_amount(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a minimum such as {example} or 50.00 EUR") from None


def _parse_shipping_price(text: str) -> ShippingPrice:
    """Return a price such as `4.90 EUR`, `from 5000 g: 9.90 EUR` or `from 50 EUR: 0 EUR`."""
    step = _split_step(text)
    if step is None:
        return ShippingPrice(amount=parse_amount(text))
    minimum, value = step
    weight_g, subtotal = _parse_minimum(minimum, units=("g",), example="5000 g")
    return ShippingPrice(amount=parse_amount(value), min_weight_g=weight_g, min_subtotal=subtotal)


def _split_step(text: str) -> tuple[str, str] | None:
    """Return the minimum and the value of a step such as `from 50 EUR: 4.90 EUR`; None if the text is none."""
    head, _, value = text.partition(":")
    word, _, minimum = head.replace("\t", " ").partition(" ")
    minimum, value = minimum.strip(), value.strip()
    return (minimum, value) if word == "from" and minimum and value else None


def _format_shipping_price(price: ShippingPrice) -> str:
    amount = format_amount(price.amount)
    if price.min_weight_g:
        return f"from {price.min_weight_g} g: {amount}"
    has_minimum = price.min_subtotal.units or price.min_subtotal.nanos
    return f"from {format_amount(price.min_subtotal)}: {amount}" if has_minimum else amount


def _parse_tier(text: str) -> PromotionTier:
    """Return a tier such as `from 10 units: 15` or `from 100 EUR: 20.00 EUR`."""
    step = _split_step(text)
    if step is None:
        raise ValueError(f"{text!r} is not a tier such as from 10 units: 15")
    own_minimum, value = step
    units, minimum = _parse_minimum(own_minimum, units=("unit", "units"), example="10 units")
    if split_currency(value)[0]:
        return PromotionTier(amount=parse_amount(value), min_units=units, min_amount=minimum)
    return PromotionTier(percentage_ppm=parse_percentage(value), min_units=units, min_amount=minimum)


def _format_tier(tier: PromotionTier) -> str:
    minimum = (
        f"{tier.min_units} unit{'s' if tier.min_units != 1 else ''}"
        if tier.min_units
        else format_amount(tier.min_amount)
    )
    return f"from {minimum}: {format_percentage(tier.percentage_ppm) or format_amount(tier.amount)}"


def _quote_label(text: str, *, is_key: bool) -> str:
    """Return a key or a value of a label; in quotes as in JSON if it would read differently without them."""
    is_plain = text.isprintable() and text == text.strip() and not text.startswith('"')
    return text if is_plain and not (is_key and ("=" in text or not text)) else json.dumps(text)


def _format_labels(labels: Mapping[str, str]) -> str:
    """Return labels as lines of `key=value`."""
    pairs = sorted(labels.items())
    return "\n".join(f"{_quote_label(key, is_key=True)}={_quote_label(text, is_key=False)}" for key, text in pairs)


def _read_quoted(text: str) -> tuple[str, str]:
    """Return the text in quotes at the start of a line, and the rest. Raises: ValueError."""
    value, end = json.JSONDecoder().raw_decode(text)
    return value, text[end:].lstrip()


def _parse_label(line: str) -> tuple[str, str]:
    r"""Return key and value of a line such as `season=autumn` or `"a=b"="two\nlines"`. Raises: ValueError."""
    try:
        key, rest = _read_quoted(line) if line.startswith('"') else ("", line)
        before, sign, value = rest.partition("=")
        value = value.strip()
        value, after = _read_quoted(value) if value.startswith('"') else (value, "")
        f"{key}{value}".encode()
    except ValueError:
        raise ValueError(f"{line[:60]!r} has a text in quotes that is not as in JSON") from None
    if not sign or after or bool(key) == bool(before.strip()):
        raise ValueError(f"{line[:60]!r} is not a label such as season=autumn")
    return key or before.strip(), value


def _write_labels(target: Any, name: str, text: str) -> None:
    pairs = [_parse_label(line.strip()) for line in text.replace("\r\n", "\n").split("\n") if line.strip()]
    labels = dict(pairs)
    if len(labels) < len(pairs):
        raise ValueError("two labels have the same key")
    target.ClearField(name)
    getattr(target, name).update(labels)


def list_collection_names(collection: str, texts: Iterable[str]) -> list[str]:
    """Return resource names for ids or names."""
    return [text if text.startswith(f"{collection}/") else f"{collection}/{text}" for text in texts]


def _names_codec(collection: str) -> Codec:
    def write(target: Any, name: str, text: str) -> None:
        names = list_collection_names(collection, split_lines(text))
        if target.DESCRIPTOR.fields_by_name[name].is_repeated:
            getattr(target, name)[:] = names
        else:
            setattr(target, name, names[0] if names else "")

    return Codec(lambda value: _format_text(value).replace(f"{collection}/", ""), write)


TEXT = Codec(_format_text, _write_text)
CODECS: dict[str, Codec] = {
    "whole": Codec(lambda value: str(value) if value else "", _write_number(parse_whole)),
    "integer": Codec(lambda value: str(value) if value else "", _write_number(parse_integer)),
    "percentage": Codec(format_percentage, _write_number(parse_percentage)),
    "amount": Codec(format_amount, _write_message(parse_amount)),
    "time": Codec(format_time, _write_message(parse_time)),
    "flag": Codec(
        lambda value: "yes" if value else "", lambda target, name, text: setattr(target, name, text == "yes")
    ),
    "choice": Codec(str, _write_choice),  # a message reads the name of its value
    "areas": _list_codec(_format_area, _parse_area),
    "taxes": _list_codec(_format_component, _parse_component),
    "shipping_prices": _list_codec(_format_shipping_price, _parse_shipping_price),
    "tiers": _list_codec(_format_tier, _parse_tier),
    "labels": Codec(_format_labels, _write_labels),
    "products": _names_codec("products"),
    "categories": _names_codec("categories"),
    "category": _names_codec("categories"),
    "zone": _names_codec("taxZones"),
    "zones": _names_codec("taxZones"),
    "promotion": _names_codec("promotions"),
}
"""Codecs by the kind of a field; all other kinds are texts, or lists of texts with one on each line."""
MULTILINE = frozenset(
    {"area", "areas", "taxes", "shipping_prices", "tiers", "labels", "products", "categories", "zones"}
)
"""Kinds with several lines."""
