"""Northwind's orders imported as historic orders: each line, date, freight and address is compared with the files."""

from __future__ import annotations

import json
import os
import sysconfig
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from storekeep.client import Fulfillment, FulfillmentState, Order, OrderState, Storekeep, to_decimal
from tests.support import northwind
from tests.support.forks import run_fork
from tests.support.processes import ServerProcess

COMMAND = Path(sysconfig.get_path("scripts"), "storekeep")

pytestmark = pytest.mark.skipif(not northwind.DATA.is_dir(), reason=f"there is no folder {northwind.DATA}")


def run_import(server: ServerProcess, *arguments: str) -> Any:
    access = {"STOREKEEP_ADDRESS": server.address, "STOREKEEP_API_KEY": server.admin_key}
    command = [COMMAND, "import", *arguments, "--yes", "--json"]
    ended = run_fork(command, environment=os.environ | access, timeout_s=300)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def orders(server: ServerProcess, client: Storekeep) -> dict[str, Order]:
    """Return the imported orders by number. Stock for unshipped orders is added before the import."""
    for kind, columns in (("products", northwind.PRODUCTS), ("customers", northwind.CUSTOMERS)):
        run_import(server, kind, str(northwind.DATA / f"{kind}.csv"), *columns)
    for sku, units in northwind.needed().items():
        client.inventory.adjust_stock(f"locations/main/stockLevels/{sku}", quantity_delta=units)
    said = run_import(server, "orders", *northwind.ORDERS)
    assert said["orders"] == {"imported": 830, "alreadyThere": 0, "leftOut": 0}
    assert said["rows"] == {
        "imported": 2155,
        "alreadyThere": 0,
        "cancellations": 0,
        "leftOut": 0,
        "skipped": 0,
        "total": 2155,
    }
    return {order.number: order for order in client.orders.list(page_size=1000)}


@pytest.fixture(scope="module")
def fulfillments(orders: dict[str, Order], client: Storekeep) -> dict[str, Fulfillment]:
    """Return the fulfilments by order number. Each order has at most one."""
    numbers = {order.name: number for number, order in orders.items()}
    listed = list(client.fulfillments.list(page_size=1000))
    found = {numbers[one.name.partition("/fulfillments/")[0]]: one for one in listed}
    assert len(found) == len(listed)
    return found


def test_each_order_costs_to_the_cent_what_the_files_say(orders: dict[str, Order]):
    assert {number: to_decimal(order.total) for number, order in orders.items()} == northwind.totals()


def test_each_line_is_the_files(orders: dict[str, Order]):
    wanted = defaultdict(list)
    for row in northwind.rows("order-details.csv"):
        gross = Decimal(row["unitPrice"]) * int(row["quantity"])
        total = northwind.line_total(row)
        wanted[row["orderID"]].append(
            (row["productID"], int(row["quantity"]), Decimal(row["unitPrice"]), gross - total, total)
        )
    found = {
        number: [
            (
                line.sku,
                line.quantity,
                to_decimal(line.unit_price),
                to_decimal(line.discount),
                to_decimal(line.total),
            )
            for line in order.lines
        ]
        for number, order in orders.items()
    }
    assert found == dict(wanted)


def test_each_order_has_its_customer_date_freight_and_address(orders: dict[str, Order]):
    for row in northwind.rows("orders.csv"):
        order, address = orders[row["orderID"]], orders[row["orderID"]].shipping_address
        assert order.customer == f"customers/{row['customerID']}"
        assert str(order.create_time.ToDatetime()) == row["orderDate"].removesuffix(".000")
        assert to_decimal(order.shipping) == Decimal(row["freight"])
        assert (address.organization, list(address.address_lines)) == (row["shipName"], [row["shipAddress"]])
        assert (address.locality, address.postal_code) == (row["shipCity"], row["shipPostalCode"].replace("NULL", ""))
        assert address.administrative_area == row["shipRegion"].replace("NULL", "")


def test_shipped_orders_are_fulfilled_when_and_by_whom_the_file_says(
    orders: dict[str, Order], fulfillments: dict[str, Fulfillment]
):
    shipped = {row["orderID"]: row for row in northwind.rows("orders.csv") if row["shippedDate"] != "NULL"}
    assert fulfillments.keys() == shipped.keys()
    for number, row in shipped.items():
        fulfillment, order = fulfillments[number], orders[number]
        assert order.state == OrderState.ORDER_STATE_FULFILLED
        assert fulfillment.state == FulfillmentState.FULFILLMENT_STATE_SHIPPED
        assert str(fulfillment.ship_time.ToDatetime()) == row["shippedDate"].removesuffix(".000")
        assert fulfillment.carrier == row["shipVia"]
        assert [(line.sku, line.quantity) for line in fulfillment.lines] == [
            (line.sku, line.quantity) for line in order.lines
        ]


def test_unshipped_orders_are_open_and_have_their_stock(orders: dict[str, Order], client: Storekeep):
    still_open = {number for number, order in orders.items() if order.state == OrderState.ORDER_STATE_CONFIRMED}
    assert still_open == northwind.unshipped()
    assert len(still_open) == 21
    levels = {level.sku: level for level in client.inventory.list_stock_levels(page_size=1000)}
    assert {sku: level.allocated for sku, level in levels.items() if level.allocated} == dict(northwind.needed())
    stocked = {row["productID"]: int(row["unitsInStock"]) for row in northwind.rows("products.csv")}
    assert {sku: level.on_hand - northwind.needed()[sku] for sku, level in levels.items()} == stocked


def test_unshipped_order_is_shipped_as_any_other(orders: dict[str, Order], client: Storekeep):
    order = orders[min(northwind.unshipped())]
    client.fulfillments.ship(client.fulfillments.create(order.name).name)
    assert client.orders.get(order.name).state == OrderState.ORDER_STATE_FULFILLED


def test_database_is_verified(orders: dict[str, Order], server: ServerProcess):
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
