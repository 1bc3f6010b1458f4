"""The dashboard: each number leads to its list. Parts that the caller may not read are left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from babel.numbers import format_currency

from storekeep.client import Listing, NotAuthenticated, Order, Page, StorekeepError, to_decimal
from storekeep.console.orders import build_filter
from storekeep.console.rendering import format_count, format_day
from storekeep.console.requests import Reply, Request, Route

DAYS = 14
ORDERS_MAX = 1_000
"""Newest orders that the plots count. The page has a note if there are more."""
STATES = ("PLACED", "CONFIRMED", "PARTIALLY_FULFILLED", "FULFILLED")
WIDTH, HEIGHT, GAP = 560, 120, 6


@dataclass(frozen=True)
class Tile:
    """A number and the list behind it."""

    label: str
    value: str
    path: str
    is_alarming: bool = False


@dataclass(frozen=True)
class Bar:
    """A bar of a plot, in units of its view box."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Plot:
    """Sums by day.

    Attributes:
        bars: one for each day, oldest first.
        rows: (day, sum in words), for those who cannot see the bars.
        total: the sum of all days in words.
        path: the orders since the first day.
    """

    title: str
    bars: list[Bar]
    rows: list[tuple[str, str]]
    total: str
    path: str


def show_dashboard(request: Request) -> Reply:
    """Show what needs attention, and how the last days went."""
    may = request.session.may
    now = datetime.now(UTC)
    tiles: list[Tile] = []
    plots: list[Plot] = []
    low: Sequence[Any] | None = ()
    orders: Sequence[Order] | None = ()
    if may("orders.read"):
        tiles += [_count_orders(request, state.replace("_", " ").capitalize(), {"state": state}) for state in STATES]
        tiles.append(_count_orders(request, "On hold", {"held": "yes"}, is_alarm=True))
        tiles.append(_count_orders(request, "Overdue", {"overdue": "yes"}, is_alarm=True))
        orders = _list_recent(request, now)
        plots = build_plots(orders or (), today=now.date(), locale=request.locale)
    if may("stock.read"):
        page = _try_page(request.session.client.inventory.list_low_stock(page_size=10, include_total_size=True))
        low = None if page is None else page.items
        tiles.append(_make_tile(request, "Low stock", page, "/stock?low=yes", is_alarm=True))
    if may("webhooks.read"):
        tiles.append(_count_failing_webhooks(request))
    return request.page(
        "dashboard.html",
        title="Dashboard",
        tiles=tiles,
        plots=plots,
        low=low,
        is_partial=orders is not None and len(orders) >= ORDERS_MAX,
        unread=[label for label, part in (("newest orders", orders), ("low stock", low)) if part is None],
        days=DAYS,
    )


def _count_orders(request: Request, label: str, filters: dict[str, str], *, is_alarm: bool = False) -> Tile:
    listing = request.session.client.orders.list(
        filter=build_filter(filters), page_size=1, read_mask=["name"], include_total_size=True
    )
    return _make_tile(request, label, _try_page(listing), f"/orders?{urlencode(filters)}", is_alarm=is_alarm)


def _make_tile(request: Request, label: str, page: Page[Any] | None, path: str, *, is_alarm: bool) -> Tile:
    """Return the tile of the total of a list; with a question mark if the list cannot be read."""
    count = page.total_size or 0 if page is not None else 0
    text = "?" if page is None else request.count(count) + ("+" if page.total_size_is_lower_bound else "")
    return Tile(label, text, path, is_alarming=is_alarm and count > 0)


def _count_failing_webhooks(request: Request) -> Tile:
    listing = request.session.client.webhooks.list(filter="failing = true", page_size=1, include_total_size=True)
    page = _try_page(listing)
    return _make_tile(request, "Failing webhooks", page, "/webhookEndpoints?failing=true", is_alarm=True)


def _try_page(listing: Listing[Any]) -> Page[Any] | None:
    """Return the first page of a list; None if it cannot be read now, which the page says. Raises: NotAuthenticated."""
    try:
        return listing.page()
    except NotAuthenticated:
        raise
    except StorekeepError:
        return None


def _read_items(listing: Listing[Any]) -> Sequence[Any] | None:
    """Return the first items of a list; None if it cannot be read now. Raises: NotAuthenticated."""
    page = _try_page(listing)
    return None if page is None else page.items


def _list_recent(request: Request, now: datetime) -> Sequence[Order] | None:
    """Return the newest orders of the last days; None if they cannot be read now. Raises: NotAuthenticated."""
    first = (now - timedelta(days=DAYS - 1)).strftime("%Y-%m-%dT00:00:00Z")
    listing = request.session.client.orders.list(
        filter=f'create_time >= "{first}" AND state != CANCELLED AND state != EXPIRED',
        order_by="create_time desc",
        page_size=ORDERS_MAX,
        read_mask=["total", "create_time", "lines.quantity", "lines.cancelled_quantity"],
    )
    return _read_items(listing)


def build_plots(orders: Sequence[Order], *, today: date, locale: str) -> list[Plot]:
    """Return the revenue in each currency, and the units, of each of the last days."""
    days = [today - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    revenue: dict[str, dict[date, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    units: dict[date, Decimal] = defaultdict(Decimal)
    for order in orders:
        day = order.create_time.ToDatetime(tzinfo=UTC).date()
        revenue[order.total.currency_code][day] += to_decimal(order.total)
        units[day] += sum(line.quantity - line.cancelled_quantity for line in order.lines)
    names = [format_day(day, locale) for day in days]
    path = f"/orders?since={days[0].isoformat()}T00:00:00Z"
    plots = []
    for currency in sorted(revenue, key=lambda code: -sum(revenue[code].values()))[:3]:
        sums = [revenue[currency][day] for day in days]
        words = [format_currency(value, currency, locale=locale) for value in sums]
        total = format_currency(sum(sums, Decimal()), currency, locale=locale)
        plots.append(
            Plot(
                f"Revenue in {currency}",
                _build_bars(names, sums, words),
                list(zip(names, words, strict=True)),
                total,
                path,
            )
        )
    if orders:
        sums = [units[day] for day in days]
        words = [format_count(int(value), locale) for value in sums]
        total = format_count(int(sum(sums)), locale)
        plots.append(
            Plot("Units ordered", _build_bars(names, sums, words), list(zip(names, words, strict=True)), total, path)
        )
    return plots


def _build_bars(days: list[str], values: list[Decimal], words: list[str]) -> list[Bar]:
    greatest = max(values) or Decimal(1)
    width = WIDTH / len(days) - GAP
    bars = []
    for index, (day, value, text) in enumerate(zip(days, values, words, strict=True)):
        height = max(float(value / greatest) * HEIGHT, 1.0)
        x = index * (width + GAP) + GAP / 2
        bars.append(Bar(round(x, 1), round(HEIGHT - height, 1), round(width, 1), round(height, 1), f"{day}: {text}"))
    return bars


ROUTES = (Route("GET", "/", show_dashboard),)
