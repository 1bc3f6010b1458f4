"""The prices of orders and quotes on the pages of the console: what a person adds up is the total."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from storekeep.client import (
    Address,
    HistoricOrder,
    HistoricOrderLine,
    Order,
    OrderTaxExemption,
    Quote,
    Storekeep,
    to_decimal,
)
from storekeep.v1.orders_pb2 import PlaceOrderLine
from tests.support.databases import new_database
from tests.support.gateways import GatewayProcess
from tests.support.processes import ServerProcess
from tests.support.shops import new_id
from tests.support.tills import Receipt, Till, make_money
from tests.support.visitors import Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
EXEMPTION = OrderTaxExemption(reason="reseller", certificate="C-1")
Basket = Callable[[Till, Address], Receipt]


def read_rows(body: str) -> list[tuple[str, str]]:
    """Return (first text, amount) of each row of the table of lines; the amount without what is below it."""
    table = body.partition('<table class="items">')[2].partition("</table>")[0]
    rows = re.findall(r"<tr.*?</tr>", table.partition("<tbody>")[2], re.DOTALL)
    found = []
    for row in rows:
        cells = [cell for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) if cell]
        found.append((cells[0], cells[-1].partition("<br>")[0] if len(cells) > 1 else ""))
    return found


def check_page(body: str, total: Decimal) -> list[str]:
    """Assert that the amounts above the total add up to it; return the labels of the rows below the lines."""
    rows = read_rows(body)
    place = next(place for place, (label, _) in enumerate(rows) if label == "Total")
    labels = [re.sub("<[^>]+>", "", label) for label, _ in rows]
    subtotal = next((at for at, label in enumerate(labels) if label.startswith("Subtotal")), place)
    lines = [parse(amount) for _, amount in rows[:subtotal]]
    if subtotal != place:
        assert sum(lines) == parse(rows[subtotal][1])
    assert sum(lines) + sum(parse(amount) for _, amount in rows[subtotal + 1 : place]) == parse(rows[place][1]) == total
    assert all("fine" in label for label, _ in rows[place + 1 :])
    return labels[subtotal:]


def parse(amount: str) -> Decimal:
    """Return an amount such as `€10.00`, with a minus sign for a discount."""
    return Decimal(re.sub(r"[€,]", "", amount).replace("\N{MINUS SIGN}", "-"))


# -- baskets


def plain(till: Till, _: Address) -> Receipt:
    return till.buy((till.sku(1000), 2))


def taxed(till: Till, address: Address) -> Receipt:
    return till.buy((till.sku(1000), 2), (till.sku(500, tax_class="books"), 1), shipping_address=address)


def shipped(till: Till, address: Address) -> Receipt:
    return till.buy((till.sku(1000), 1), shipping_address=address, shipping=make_money(490))


def reduced(till: Till, address: Address) -> Receipt:
    skus = till.skus(1000, 333)
    till.promote(*skus, percent="15", display_name="Spring", priority=1)
    till.promote(skus[0], off=100, display_name="One off")
    return till.buy((skus[0], 3), (skus[1], 1), shipping_address=address, shipping=make_money(490))


def freely_shipped(till: Till, address: Address) -> Receipt:
    code = till.coupon(till.promote(percent="100", with_target="SHIPPING", requires_coupon=True))
    return till.buy((till.sku(1000), 1), coupon_codes=[code], shipping=make_money(490), shipping_address=address)


def partly_shipped_free(till: Till, address: Address) -> Receipt:
    sku = till.sku(999)
    till.promote(sku, percent="10")
    code = till.coupon(till.promote(percent="50", with_target="SHIPPING", requires_coupon=True))
    return till.buy((sku, 3), coupon_codes=[code], shipping=make_money(495), shipping_address=address)


def cancelled(till: Till, address: Address) -> Receipt:
    return till.cancel(reduced(till, address), line_1=1)


def exempt(till: Till, address: Address) -> Receipt:
    return till.buy((till.sku(1000), 2), shipping_address=address, tax_exemption=EXEMPTION, shipping=make_money(490))


def free(till: Till, address: Address) -> Receipt:
    sku = till.sku(1000)
    till.promote(sku, percent="100")
    return till.buy((sku, 1), shipping_address=address)


def moved(till: Till, address: Address) -> Receipt:
    return till.move(reduced(till, address), Address(recipient="Ada", region_code="JP"))


BASKETS = (
    plain,
    taxed,
    shipped,
    reduced,
    freely_shipped,
    partly_shipped_free,
    cancelled,
    exempt,
    free,
    moved,
)


@pytest.fixture(scope="module")
def net_till(client: Storekeep) -> Till:
    return Till(client)


@pytest.fixture(scope="module")
def net_address(net_till: Till) -> Address:
    return net_till.zone(standard=("5", "9.975 compound"), books="7")


@pytest.mark.parametrize("basket", BASKETS, ids=lambda basket: basket.__name__)
def test_amounts_of_an_order_add_up(admin: Visitor, net_till: Till, net_address: Address, basket: Basket) -> None:
    receipt = basket(net_till, net_address)
    check_page(admin.get(f"/{receipt.order.name}").body, to_decimal(receipt.order.total))


def test_rows_of_an_order_with_net_prices(admin: Visitor, net_till: Till, net_address: Address) -> None:
    order = reduced(net_till, net_address).order
    assert check_page(admin.get(f"/{order.name}").body, to_decimal(order.total)) == [
        "Subtotal before discounts",
        "Spring",
        "One off",
        "Shipping",
        "5 5%",
        "9.975 compound 9.975%",
        "Total",
        "Total without tax",
    ]


def test_quote_and_preview_of_an_edit_add_up(admin: Visitor, net_till: Till, net_address: Address) -> None:
    order = reduced(net_till, net_address).order
    lines = [PlaceOrderLine(sku=line.sku, quantity=line.quantity) for line in order.lines]
    quote = Quote(customer=net_till.customer, lines=lines, currency_code="EUR", shipping_address=net_address)
    made = net_till.client.quotes.create(quote)
    check_page(admin.get(f"/{made.name}").body, to_decimal(made.total))
    page = admin.submit(admin.get(f"/{order.name}/edit").form(f"/{order.name}/edit"), quantity__1="1")
    preview = net_till.client.orders.preview_edit(order.name, change={1: 1})
    check_page(page.body, to_decimal(preview.total))


def import_shipped(till: Till, *, tax_minor: int | None = None, **fields: Any) -> Order:
    """Import an order of two equal lines with a discount and with shipping."""
    line = HistoricOrderLine(
        sku=till.sku(1),
        quantity=3,
        unit_price=make_money(1000),
        discount_ppm=100_000,
        cancelled_quantity=1,
        tax=None if tax_minor is None else make_money(tax_minor),
    )
    historic = HistoricOrder(
        number=new_id("H"),
        customer=till.customer,
        currency_code="EUR",
        order_time={"seconds": 1_700_000_000},
        ship_time={"seconds": 1_700_000_001},
        lines=[line, line],
        shipping=make_money(490),
        **fields,
    )
    (result,) = till.client.orders.import_orders([historic])
    return till.client.orders.get(result.order)


def test_imported_order_with_discounts_adds_up(admin: Visitor, net_till: Till) -> None:
    order = import_shipped(net_till)
    labels = check_page(admin.get(f"/{order.name}").body, to_decimal(order.total))
    assert labels == ["Subtotal before discounts", "Discounts", "Shipping", "Total"]


def test_imported_order_with_taxes_adds_up(admin: Visitor, net_till: Till) -> None:
    order = import_shipped(net_till, tax_minor=342, shipping_tax=make_money(93))
    labels = check_page(admin.get(f"/{order.name}").body, to_decimal(order.total))
    assert labels == ["Subtotal before discounts", "Discounts", "Shipping", "Tax", "Total", "Total without tax"]
    assert order.total == make_money(4867)
    order = import_shipped(net_till, tax_minor=287, prices_include_tax=True)
    labels = check_page(admin.get(f"/{order.name}").body, to_decimal(order.total))
    assert labels[-3:] == ["Total", "Included tax", "Total without tax"]
    assert order.total == make_money(4090)


# -- prices that include tax


@pytest.fixture(scope="module")
def gross(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Till, GatewayProcess]]:
    """A till and a console at a server whose prices include tax."""
    folder: Path = tmp_path_factory.mktemp("gross")
    server = ServerProcess(folder, database=new_database("sqlite", folder), prices_include_tax="true")
    gateway = GatewayProcess(folder, server_address=server.address, api_key=server.admin_key)
    with Storekeep(server.address, api_key=server.admin_key) as client:
        yield Till(client), gateway
    gateway.process.kill()
    server.kill()


def test_amounts_of_an_order_add_up_without_the_tax_that_they_include(gross: tuple[Till, GatewayProcess]) -> None:
    till, gateway = gross
    visitor, address = Visitor(gateway.address), till.zone(standard=("5", "9.975 compound"), books="7")
    visitor.sign_in(gateway.api_key)
    for basket in BASKETS:
        order = basket(till, address).order
        labels = check_page(visitor.get(f"/{order.name}").body, to_decimal(order.total))
        below = labels[labels.index("Total") + 1 :]
        assert all(label.startswith(("Included", "Total without tax", "Exempt from tax")) for label in below)
        assert bool(below) == bool(order.price_details.taxes)
