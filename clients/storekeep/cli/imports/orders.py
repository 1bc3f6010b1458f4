"""`storekeep import orders`: parsing of rows, and the historic orders that they form.

A row has one line of an order. Order-level values may be on all of its rows, on one of them, or in a second file with
one row per order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import IntEnum

from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.cli.imports.taxes import DEFAULT_NAME, NamedTax, format_taxes, parse_taxes
from storekeep.client import HistoricOrder, HistoricOrderLine, HistoricTax, Money, to_money
from storekeep.client.names import to_customer_name, to_location_name
from storekeep.imports.addresses import TARGETS as ADDRESS_TARGETS
from storekeep.imports.addresses import read_address
from storekeep.imports.columns import InvalidCell, Target, Values, check_code
from storekeep.imports.ids import parse_id
from storekeep.imports.sku_maps import SkuMap

NUMBER = Target("number", "Number of the order: 1 to 64 printable ASCII characters without spaces.", required=True)
LINE_TARGETS = (
    Target("sku", "SKU of a variant, which may be archived.", required=True),
    Target("quantity", "Units ordered, 1 or more; also negative with --cancel-negative.", required=True),
    Target("unit_price", "Price of a unit.", required=True),
    Target("discount_rate", "Discount on the line as a fraction or percentage, such as 0.15 or 15%."),
    Target("discount_amount", "Discount on the line as an amount."),
    Target("line_total", "Total of the line, without tax that is added. A mismatch leaves the order out."),
    Target("line_tax", "Tax of the units of the line that were not cancelled."),
    Target("line_taxes", "What line_tax is made of: names, rates and amounts, such as `GST 5%=1.05; QST 9.975%=2.09`."),
    Target("line_shipping", "Shipping cost of the line; added up over the order."),
    Target("cancelled_quantity", "Units of the line that were cancelled (default: 0)."),
    Target("shipped_quantity", "Units of the line that were shipped (default: all, or none without a ship_date)."),
)
ORDER_TARGETS = (
    Target("customer", "Id of the customer.", required=True),
    Target("currency", "ISO 4217 code, such as EUR.", required=True),
    Target("order_date", "When it was placed (ISO 8601); the earliest date on its rows.", required=True),
    Target("ship_date", "When it was shipped; the latest date on its rows (default: not shipped)."),
    Target("carrier", "Name of the carrier."),
    Target("tracking_number", "Tracking number of the carrier."),
    Target("shipping", "Shipping cost of the whole order; counts once, on however many rows it is."),
    Target("shipping_tax", "Tax of the shipping cost of the whole order; counts once, on however many rows it is."),
    Target("shipping_taxes", "What shipping_tax is made of, as in line_taxes."),
    Target("prices_include_tax", "Yes if prices, discounts and shipping include tax (default: it is added)."),
    Target("cancelled", "Yes if the whole order was cancelled: all its units become cancelled units."),
    Target("new_number", "Number that the order gets, if `number` only joins the rows."),
    Target("order_total", "Total of the order. A mismatch leaves the order out."),
    Target("location", "Id of the location that it was, or will be, shipped from."),
    Target("note", "At most 2,000 characters."),
    *ADDRESS_TARGETS,
)
TARGETS = (NUMBER, *LINE_TARGETS, *ORDER_TARGETS)

LINES_MAX = 1000
"""Maximum lines of an order and of one call."""
QUANTITY_MAX = 1_000_000
TEXT_CHARS_MAX = {"carrier": 100, "tracking_number": 100, "note": 2000}
"""Maximum characters of each text in the contract."""
REMARK = "remark"
"""Order-level value of a known format: what of the order is not imported."""
DATES = frozenset({"order_date", "ship_date"})
MILLION = 1_000_000
_NUMBER = re.compile(r"[!-~]{1,64}")
_CURRENCY = re.compile(r"[A-Z]{3}")


class LineKind(IntEnum):
    """Kind of a row."""

    GOODS = 0
    SHIPPING = 1
    CANCELLATION = 2


@dataclass(frozen=True)
class Rules:
    """Options of the command line for parsing rows.

    Attributes:
        skus: SKUs of other systems and their SKUs here.
        shipping_skus: SKUs of rows with shipping costs.
        cancel_negative: whether a row with a negative quantity cancels units of earlier orders.
    """

    skus: SkuMap
    shipping_skus: frozenset[str] = frozenset()
    cancel_negative: bool = False


@dataclass(frozen=True)
class OrderCells:
    """Order-level values of a row.

    Attributes:
        placed_us, shipped_us: microseconds since 1970; None if absent.
        cells: the other targets, as a JSON object. Numbers have a decimal point.
    """

    placed_us: int | None
    shipped_us: int | None
    customer: str | None
    cells: str


@dataclass(frozen=True)
class Line:
    """One row of the line file.

    Attributes:
        quantity: units ordered or, for a cancellation, cancelled.
        unit_price: in major units, without trailing zeros.
        discount_ppm: discount in millionths of the line.
        shipping: shipping cost of the line.
        shipped: units shipped; None if the row does not state them.
        cancelled: units that the row or later rows cancel.
        tax: tax of the line, or of a row with shipping costs.
        taxes: what it is made of, as a cell; see `taxes`.
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
    shipping: str | None
    tax: str | None
    taxes: str | None
    shipped: int | None
    order: OrderCells
    cancelled: int = 0


@dataclass(frozen=True)
class BuiltOrder:
    """An order that can be sent.

    Attributes:
        notes: what was decided for cells that differ or repeat, without the number of the order.
    """

    order: HistoricOrder
    notes: Sequence[str]


def read_number(values: Values) -> str:
    """Return the order number of a row. Raises: InvalidCell."""
    return check_number(values.require("number"), target="number")


def check_number(number: str, *, target: str) -> str:
    """Return `number` if it is a valid order number. Raises: InvalidCell."""
    if not _NUMBER.fullmatch(check_code(number, target=target)):
        raise InvalidCell(f"{target}: {number!r} is not an order number: 1 to 64 printable ASCII characters, no spaces")
    return number


def read_line(values: Values, *, number: str, rules: Rules) -> Line:
    """Parse a row of the line file. Raises: InvalidCell."""
    theirs, quantity = values.require("sku"), _read_quantity(values, rules)
    kind = LineKind.CANCELLATION if quantity < 0 else LineKind.GOODS
    if theirs in rules.shipping_skus:
        if kind is LineKind.CANCELLATION:
            raise InvalidCell(f"quantity: {theirs} is a shipping cost, which cannot be cancelled")
        kind = LineKind.SHIPPING
    values.require("unit_price")
    ppm, amount = _read_ppm(values), _read_amount(values, "discount_amount")
    if ppm is not None and amount is not None:
        raise InvalidCell("discount_amount: the row already has a discount_rate")
    return Line(
        line=values.line,
        number=number,
        kind=kind,
        sku=theirs if kind is LineKind.SHIPPING else rules.skus.find_or_make(theirs),
        quantity=abs(quantity),
        unit_price=_read_amount(values, "unit_price") or "0",
        discount_ppm=ppm,
        discount_amount=amount,
        total=_read_amount(values, "line_total"),
        shipping=_read_amount(values, "line_shipping"),
        tax=_read_amount(values, "line_tax"),
        taxes=_read_taxes(values),
        shipped=_read_part(values, "shipped_quantity", quantity=quantity),
        order=read_order_cells(values),
        cancelled=_read_part(values, "cancelled_quantity", quantity=quantity) or 0,
    )


def read_order_cells(values: Values) -> OrderCells:
    """Parse the order-level values of a row. Raises: InvalidCell."""
    cells = {name: value for name, value in values.by_target.items() if name in _ORDER_CELLS}
    for name in _AMOUNTS & cells.keys():
        amount = values.amount(name, currency=values.text("currency"))
        cells[name] = "0" if amount is None else f"{amount.normalize():f}"
    return OrderCells(
        placed_us=values.time_us("order_date"),
        shipped_us=values.time_us("ship_date"),
        customer=values.text("customer"),
        cells=json.dumps(cells),
    )


def build_order(lines: Sequence[Line], *, order_cells: OrderCells | None) -> BuiltOrder:
    """Build an order from its rows.

    Args:
        lines: its lines with goods and shipping costs, in the order of the file.
        order_cells: its row of the order file; None if the order-level values are on its lines.

    Raises: InvalidCell.
    """
    sources = [order_cells] if order_cells is not None else [line.order for line in lines]
    values = Values(lines[0].line, _merge_order_cells(sources))
    goods = [line for line in lines if line.kind is LineKind.GOODS]
    is_cancelled = values.boolean("cancelled") or all(line.cancelled >= line.quantity for line in goods)
    if is_cancelled:
        goods = [replace(one, cancelled=one.quantity, shipped=None, total=None, tax=None, taxes=None) for one in goods]
    if not goods:
        raise InvalidCell("it has only shipping costs")
    if len(goods) > LINES_MAX:
        raise InvalidCell(f"it has more than {LINES_MAX} lines")
    placed = [cells.placed_us for cells in sources if cells.placed_us is not None]
    shipped = [cells.shipped_us for cells in sources if cells.shipped_us is not None and not is_cancelled]
    if not placed:
        raise InvalidCell("order_date is missing")
    currency = _read_currency(values)
    cancelled = sum((Decimal(line.unit_price) * line.cancelled for line in goods), Decimal())
    total = None if is_cancelled else values.decimal("order_total")
    shipping, shipping_tax, shipping_taxes = (None, None, "") if is_cancelled else _sum_shipping(lines, values)
    order = HistoricOrder(
        number=check_number(values.text("new_number") or lines[0].number, target="new_number"),
        customer=to_customer_name(parse_id(values.require("customer"), target="customer")),
        currency_code=currency,
        order_time=_to_timestamp(min(placed)),
        lines=[_build_line(line, currency=currency, dated=bool(shipped)) for line in goods],
        shipping=_to_money_message(shipping, target="shipping", currency=currency),
        ship_time=_to_timestamp(max(shipped)) if shipped else None,
        carrier=_read_text(values, "carrier"),
        tracking_number=check_code(_read_text(values, "tracking_number"), target="tracking_number"),
        shipping_address=read_address(values),
        note=_read_text(values, "note"),
        location=to_location_name(parse_id(location, target="location"))
        if (location := values.text("location"))
        else "",
        total=_compute_stated_total(total, cancelled, target="order_total", currency=currency),
        shipping_tax=_to_money_message(shipping_tax, target="shipping_tax", currency=currency),
        prices_include_tax=values.boolean("prices_include_tax") or False,
        shipping_taxes=_build_taxes(shipping_taxes, "shipping_taxes", currency),
    )
    return BuiltOrder(order, list(_list_notes(lines, sources, values)))


def _list_notes(lines: Sequence[Line], sources: Sequence[OrderCells], values: Values) -> Iterator[str]:
    """Yield what was decided for order-level cells that differ between rows, or that may be meant per row."""
    if remark := values.text(REMARK):
        yield remark
    if len({cells.placed_us for cells in sources} - {None}) > 1:
        yield "its rows have several order dates; the earliest counts"
    if len({cells.shipped_us for cells in sources} - {None}) > 1:
        yield "its rows have several ship dates; the latest counts"
    repeated = sum('"shipping":' in cells.cells for cells in sources) > 1
    if repeated and values.decimal("shipping") and values.text("order_total") is None:
        yield "the shipping cost is on several rows and counts once; to add it up, map the column to line_shipping"


def _build_line(line: Line, *, currency: str, dated: bool) -> HistoricOrderLine:
    """Build a line. `dated`: whether any row of the order has a ship date."""
    price = Decimal(line.unit_price)
    stated = None if line.total is None else Decimal(line.total)
    built = HistoricOrderLine(
        sku=line.sku,
        quantity=line.quantity,
        unit_price=_to_money_message(price, target="unit_price", currency=currency),
        cancelled_quantity=line.cancelled,
        total=_compute_stated_total(stated, price * line.cancelled, target="line_total", currency=currency),
        tax=None if line.tax is None else _to_money_message(Decimal(line.tax), target="line_tax", currency=currency),
        taxes=_build_taxes(line.taxes, "line_taxes", currency),
    )
    shipped = line.shipped
    if shipped is None and dated and line.order.placed_us is not None and line.order.shipped_us is None:
        shipped = 0
    if shipped and not dated:
        raise InvalidCell(f"ship_date is missing, but shipped_quantity is {shipped}")
    if shipped is not None and dated:
        built.shipped_quantity = min(shipped, line.quantity - line.cancelled)
    if line.discount_ppm is not None:
        built.discount_ppm = line.discount_ppm
    elif line.discount_amount is not None:
        amount = _to_money_message(Decimal(line.discount_amount), target="discount_amount", currency=currency)
        built.discount_amount.CopyFrom(amount)
    return built


def _merge_order_cells(sources: Iterable[OrderCells]) -> Mapping[str, str]:
    """Return the order-level values of all rows. Raises: InvalidCell if two rows differ."""
    merged: dict[str, str] = {}
    for cells in {cells.cells: None for cells in sources}:
        for target, value in json.loads(cells).items():
            if merged.setdefault(target, value) != value:
                raise InvalidCell(f"{target}: its rows have both {merged[target]!r} and {value!r}")
    return merged


def _sum_shipping(lines: Sequence[Line], values: Values) -> tuple[Decimal | None, Decimal | None, str]:
    """Return the shipping cost, its tax, and the cell of what that is made of: those of the order plus those of rows.

    Raises: InvalidCell.
    """
    shipping = [line for line in lines if line.kind is LineKind.SHIPPING]
    costs = [Decimal(line.unit_price) * line.quantity for line in shipping]
    costs += [Decimal(line.shipping) for line in lines if line.shipping is not None]
    stated = [(values.decimal("shipping_tax"), values.text("shipping_taxes"))]
    stated += [(None if line.tax is None else Decimal(line.tax), line.taxes) for line in shipping]
    parts = [(tax, parse_taxes(text or "", target="shipping_taxes")) for tax, text in stated]
    taxes = [_get_tax(tax, named) for tax, named in parts if tax is not None or named]
    names = format_taxes(_merge_taxes(parts)) if any(named for _, named in parts) else ""
    return _add_rows(values.decimal("shipping"), costs), sum(taxes, Decimal()) if taxes else None, names


def _get_tax(tax: Decimal | None, named: Iterable[NamedTax]) -> Decimal:
    """Return a tax that is stated as an amount, or by what it is made of, or both."""
    return tax if tax is not None else sum([one.amount for one in named], Decimal())


def _merge_taxes(parts: Iterable[tuple[Decimal | None, list[NamedTax]]]) -> Iterator[NamedTax]:
    """Yield each tax of several parts once, with its amount over all of them. A tax without a name gets the default."""
    amounts: dict[tuple[str, int], Decimal] = {}
    for tax, named in parts:
        for one in named or ([NamedTax(DEFAULT_NAME, 0, tax)] if tax else []):
            amounts[one.name, one.rate_ppm] = amounts.get((one.name, one.rate_ppm), Decimal()) + one.amount
    for (name, rate_ppm), amount in amounts.items():
        yield NamedTax(name, rate_ppm, amount)


def _add_rows(order_value: Decimal | None, rows: Sequence[Decimal]) -> Decimal | None:
    return order_value if not rows else sum(rows, order_value or Decimal())


def _compute_stated_total(total: Decimal | None, cancelled: Decimal, *, target: str, currency: str) -> Money | None:
    """Return a total from the file, less the amount that later rows cancelled."""
    return None if total is None else _to_money_message(total - cancelled, target=target, currency=currency)


def _to_money_message(amount: Decimal | None, *, target: str, currency: str) -> Money | None:
    if amount is None:
        return None
    try:
        return to_money(amount, currency_code=currency)
    except ValueError as error:
        raise InvalidCell(f"{target}: {error}") from None


def _read_quantity(values: Values, rules: Rules) -> int:
    values.require("quantity")
    quantity = values.signed_integer("quantity") or 0
    if quantity == 0 or abs(quantity) > QUANTITY_MAX:
        raise InvalidCell(f"quantity: {quantity} is not between 1 and {QUANTITY_MAX}")
    if quantity < 0 and not rules.cancel_negative:
        raise InvalidCell(f"quantity: {quantity} is negative; use --cancel-negative to cancel units of earlier orders")
    return quantity


def _read_part(values: Values, target: str, *, quantity: int) -> int | None:
    """Return a part of the units of a line, or None if it is absent. Raises: InvalidCell."""
    part = values.integer(target)
    if part is not None and part > abs(quantity):
        raise InvalidCell(f"{target}: {part} is more than the quantity {quantity}")
    return part


def _read_ppm(values: Values) -> int | None:
    text = values.text("discount_rate")
    if text is None:
        return None
    percent = text.endswith("%")
    number = Values(values.line, {"discount_rate": text.removesuffix("%").strip()}, values.spelling)
    rate = number.decimal("discount_rate") or Decimal()
    ppm = rate * MILLION / (100 if percent else 1)
    if not 0 <= ppm <= MILLION or ppm != ppm.to_integral_value():
        raise InvalidCell(f"discount_rate: {text!r} is not between 0 and 1, to six decimals, such as 0.15 or 15%")
    return int(ppm)


def _read_amount(values: Values, target: str) -> str | None:
    amount = values.amount(target, currency=values.text("currency"))
    if amount is None:
        return None
    if amount < 0:
        raise InvalidCell(f"{target}: {amount} is negative")
    return f"{amount.normalize():f}"


def _read_taxes(values: Values) -> str | None:
    """Return the taxes of a row as a cell. Raises: InvalidCell."""
    text = values.text("line_taxes")
    return format_taxes(parse_taxes(text, target="line_taxes")) if text else None


def _build_taxes(text: str | None, target: str, currency: str) -> list[HistoricTax]:
    """Build the taxes in a cell. Raises: InvalidCell."""
    return [
        HistoricTax(
            display_name=tax.name,
            rate_ppm=tax.rate_ppm,
            amount=_to_money_message(tax.amount, target=target, currency=currency),
        )
        for tax in parse_taxes(text or "", target=target)
    ]


def _read_currency(values: Values) -> str:
    currency = values.require("currency").upper()
    if not _CURRENCY.fullmatch(currency):
        raise InvalidCell(f"currency: {currency!r} is not an ISO 4217 code such as EUR")
    return currency


def _read_text(values: Values, target: str) -> str:
    text = values.text(target) or ""
    if len(text) > TEXT_CHARS_MAX[target]:
        raise InvalidCell(f"{target}: more than {TEXT_CHARS_MAX[target]} characters")
    return text


def _to_timestamp(time_us: int) -> Timestamp:
    return Timestamp(seconds=time_us // MILLION, nanos=time_us % MILLION * 1000)


_ORDER_CELLS = frozenset(target.name for target in ORDER_TARGETS) - DATES | {REMARK}
_AMOUNTS = frozenset({"shipping", "shipping_tax", "order_total"})
