"""`storekeep import orders`: rows that are lines of historic orders, and the orders that they make together.

A row has one line of an order; what concerns the whole order may stand on every one of them, on one, or in a second
file with one row per order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import IntEnum

from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.cli.customers import customer_name
from storekeep.cli.imports.addresses import TARGETS as ADDRESS_TARGETS
from storekeep.cli.imports.addresses import read_address
from storekeep.cli.imports.columns import CellRefused, Target, Values
from storekeep.cli.imports.ids import id_of, sku_of
from storekeep.cli.inventory import location_name
from storekeep.client import HistoricOrder, HistoricOrderLine, Money, to_money

NUMBER = Target("number", "The order's own number: 1 to 64 printable ASCII characters without spaces.", required=True)
LINE_TARGETS = (
    Target("sku", "The SKU of a variant; it need not be for sale.", required=True),
    Target("quantity", "Units ordered, 1 or more; fewer than 0 with --cancel-negative.", required=True),
    Target("unit_price", "What a unit cost then.", required=True),
    Target("discount_rate", "What part of the line was taken off, such as 0.15 or 15%."),
    Target("discount_amount", "What was taken off the line, as an amount."),
    Target("line_total", "What the line costs; a line that comes to something else is refused."),
)
ORDER_TARGETS = (
    Target("customer", "The customer's id.", required=True),
    Target("currency", "ISO 4217, such as EUR.", required=True),
    Target("order_date", "When it was placed, as in ISO 8601; the earliest on its rows.", required=True),
    Target("ship_date", "When it was shipped; the latest on its rows. Without, it is open and takes stock."),
    Target("carrier", "Who carried it."),
    Target("tracking_number", "The carrier's number."),
    Target("shipping", "What its shipping costs, once for the order."),
    Target("order_total", "What the order costs; one that comes to something else is refused."),
    Target("location", "The id of the location that it was shipped from, or is to be."),
    Target("note", "At most 2,000 characters."),
    *ADDRESS_TARGETS,
)
TARGETS = (NUMBER, *LINE_TARGETS, *ORDER_TARGETS)

LINES_MAX = 1000
"""Lines of an order: as many as one call takes."""
QUANTITY_MAX = 1_000_000
TEXTS_MAX = {"carrier": 100, "tracking_number": 100, "note": 2000}
"""Characters that the contract takes."""
DATES = frozenset({"order_date", "ship_date"})
MILLION = 1_000_000
_NUMBER = re.compile(r"[!-~]{1,64}")
_QUANTITY = re.compile(r"-?[0-9]{1,18}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class LineKind(IntEnum):
    """What a row is to its order."""

    GOODS = 0
    SHIPPING = 1
    CANCELLATION = 2


@dataclass(frozen=True)
class Rules:
    """What the command line says about rows.

    Attributes:
        zone: the time zone of dates that name none.
        shipping_skus: rows with these are not goods but what the order's shipping costs.
        cancel_negative: whether a row with a negative quantity cancels units of an earlier order.
    """

    zone: tzinfo
    shipping_skus: frozenset[str] = frozenset()
    cancel_negative: bool = False


@dataclass(frozen=True)
class OrderCells:
    """What a row says about the whole order.

    Attributes:
        placed_us, shipped_us: microseconds since 1970; None where it does not say.
        cells: the other targets, as a JSON object.
    """

    placed_us: int | None
    shipped_us: int | None
    customer: str | None
    cells: str


@dataclass(frozen=True)
class Line:
    """One row of the file of lines.

    Attributes:
        quantity: units ordered; of a cancellation, the units that it cancels.
        unit_price: in major units, without zeros at its end.
        cancelled: units of it that later rows cancel.
    """

    line: int
    number: str
    kind: LineKind
    sku: str
    quantity: int
    unit_price: str
    discount_ppm: int | None
    discount_amount: str | None
    total: str | None
    order: OrderCells
    cancelled: int = 0


def read_number(values: Values) -> str:
    """Return the number of the order that a row belongs to. Raises: CellRefused."""
    number = values.needed("number")
    if not _NUMBER.fullmatch(number):
        raise CellRefused(f"number: {number!r} is no order number: 1 to 64 printable ASCII characters without spaces")
    return number


def read_line(values: Values, *, number: str, rules: Rules) -> Line:
    """Read a row of the file of lines. Raises: CellRefused."""
    sku, quantity = sku_of(values.needed("sku")), _read_quantity(values, rules)
    kind = LineKind.CANCELLATION if quantity < 0 else LineKind.GOODS
    if sku in rules.shipping_skus:
        if kind is LineKind.CANCELLATION:
            raise CellRefused(f"quantity: {sku} is what shipping costs, which no row cancels")
        kind = LineKind.SHIPPING
    values.needed("unit_price")
    ppm, amount = _read_ppm(values), _read_amount(values, "discount_amount")
    if ppm is not None and amount is not None:
        raise CellRefused("discount_amount: there is a discount_rate already")
    return Line(
        line=values.line,
        number=number,
        kind=kind,
        sku=sku,
        quantity=abs(quantity),
        unit_price=_read_amount(values, "unit_price") or "0",
        discount_ppm=ppm,
        discount_amount=amount,
        total=_read_amount(values, "line_total"),
        order=read_order_cells(values, rules=rules),
    )


def read_order_cells(values: Values, *, rules: Rules) -> OrderCells:
    """Read what a row says about the whole order. Raises: CellRefused."""
    cells = {name: value for name, value in values.by_target.items() if name in _ORDER_CELLS}
    return OrderCells(
        placed_us=_read_time_us(values, "order_date", zone=rules.zone),
        shipped_us=_read_time_us(values, "ship_date", zone=rules.zone),
        customer=values.text("customer"),
        cells=json.dumps(cells),
    )


def build_order(lines: Sequence[Line], *, head: OrderCells | None) -> HistoricOrder:
    """Return the order that its rows make.

    Args:
        lines: its goods and its shipping, in the order of the file.
        head: what the file of orders says of it; None where the lines say it themselves.

    Raises: CellRefused.
    """
    said = [head] if head is not None else [line.order for line in lines]
    values = Values(lines[0].line, _agreed(said))
    goods = [line for line in lines if line.kind is LineKind.GOODS]
    placed = [cells.placed_us for cells in said if cells.placed_us is not None]
    shipped = [cells.shipped_us for cells in said if cells.shipped_us is not None]
    if not goods:
        raise CellRefused("it has nothing but what its shipping costs")
    if len(goods) > LINES_MAX:
        raise CellRefused(f"it has more than {LINES_MAX} lines")
    if not placed:
        raise CellRefused("order_date is missing")
    currency = _read_currency(values)
    cancelled = sum((Decimal(line.unit_price) * line.cancelled for line in goods), Decimal())
    return HistoricOrder(
        number=lines[0].number,
        customer=customer_name(id_of(values.needed("customer"), target="customer")),
        currency_code=currency,
        order_time=_timestamp(min(placed)),
        lines=[_build_line(line, currency=currency) for line in goods],
        shipping=_money(_shipping_of(lines, values), target="shipping", currency=currency),
        ship_time=_timestamp(max(shipped)) if shipped else None,
        carrier=_short_text(values, "carrier"),
        tracking_number=_short_text(values, "tracking_number"),
        shipping_address=read_address(values),
        note=_short_text(values, "note"),
        location=location_name(id_of(location, target="location")) if (location := values.text("location")) else "",
        total=_stated(values.decimal("order_total"), cancelled, target="order_total", currency=currency),
    )


def _build_line(line: Line, *, currency: str) -> HistoricOrderLine:
    price = Decimal(line.unit_price)
    stated = None if line.total is None else Decimal(line.total)
    built = HistoricOrderLine(
        sku=line.sku,
        quantity=line.quantity,
        unit_price=_money(price, target="unit_price", currency=currency),
        cancelled_quantity=line.cancelled,
        total=_stated(stated, price * line.cancelled, target="line_total", currency=currency),
    )
    if line.discount_ppm is not None:
        built.discount_ppm = line.discount_ppm
    elif line.discount_amount is not None:
        amount = _money(Decimal(line.discount_amount), target="discount_amount", currency=currency)
        built.discount_amount.CopyFrom(amount)
    return built


def _agreed(said: Iterable[OrderCells]) -> Mapping[str, str]:
    """What all rows of an order say together, each target once. Raises: CellRefused where two differ."""
    agreed: dict[str, str] = {}
    for cells in {cells.cells: None for cells in said}:
        for target, value in json.loads(cells).items():
            if agreed.setdefault(target, value) != value:
                raise CellRefused(f"{target}: its rows say {agreed[target]!r} and {value!r}")
    return agreed


def _shipping_of(lines: Iterable[Line], values: Values) -> Decimal | None:
    """What shipping costs: by the order's own cell, and by its rows that are shipping."""
    rows = [Decimal(line.unit_price) * line.quantity for line in lines if line.kind is LineKind.SHIPPING]
    own = values.decimal("shipping")
    return own if not rows else sum(rows, own or Decimal())


def _stated(total: Decimal | None, cancelled: Decimal, *, target: str, currency: str) -> Money | None:
    """What a stated total is after what later rows have cancelled."""
    return None if total is None else _money(total - cancelled, target=target, currency=currency)


def _money(amount: Decimal | None, *, target: str, currency: str) -> Money | None:
    if amount is None:
        return None
    try:
        return to_money(amount, currency_code=currency)
    except ValueError as error:
        raise CellRefused(f"{target}: {error}") from None


def _read_quantity(values: Values, rules: Rules) -> int:
    text = values.needed("quantity")
    if not _QUANTITY.fullmatch(text):
        raise CellRefused(f"quantity: {text!r} is not a whole number")
    quantity = int(text)
    if quantity == 0 or abs(quantity) > QUANTITY_MAX:
        raise CellRefused(f"quantity: {text} is not from 1 to {QUANTITY_MAX}")
    if quantity < 0 and not rules.cancel_negative:
        raise CellRefused(f"quantity: {text} is negative; --cancel-negative takes it off an earlier order")
    return quantity


def _read_ppm(values: Values) -> int | None:
    text = values.text("discount_rate")
    if text is None:
        return None
    percent = text.endswith("%")
    rate = Values(values.line, {"discount_rate": text.removesuffix("%").strip()}).decimal("discount_rate") or Decimal()
    ppm = rate * MILLION / (100 if percent else 1)
    if not 0 <= ppm <= MILLION or ppm != ppm.to_integral_value():
        raise CellRefused(f"discount_rate: {text!r} is not a part of 1, to six digits, such as 0.15 or 15%")
    return int(ppm)


def _read_amount(values: Values, target: str) -> str | None:
    amount = values.decimal(target)
    if amount is None:
        return None
    if amount < 0:
        raise CellRefused(f"{target}: {amount} is negative")
    return f"{amount.normalize():f}"


def _read_currency(values: Values) -> str:
    currency = values.needed("currency").upper()
    if not _CURRENCY.fullmatch(currency):
        raise CellRefused(f"currency: {currency!r} is no code of ISO 4217, such as EUR")
    return currency


def _read_time_us(values: Values, target: str, *, zone: tzinfo) -> int | None:
    text = values.text(target)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        local = moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
        return (local - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        raise CellRefused(f"{target}: {text!r} is no date such as 2011-10-06 or 2011-10-06T16:20:00Z") from None


def _short_text(values: Values, target: str) -> str:
    text = values.text(target) or ""
    if len(text) > TEXTS_MAX[target]:
        raise CellRefused(f"{target}: more than {TEXTS_MAX[target]} characters")
    return text


def _timestamp(time_us: int) -> Timestamp:
    return Timestamp(seconds=time_us // MILLION, nanos=time_us % MILLION * 1000)


_ORDER_CELLS = frozenset(target.name for target in ORDER_TARGETS) - DATES
