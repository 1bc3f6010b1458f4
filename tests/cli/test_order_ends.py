"""The command line at the end of an order: delivered goods come back, and a deleted customer's orders are counted."""

from __future__ import annotations

import pytest

from tests.cli.test_groups import make_tea
from tests.support.command_line import CommandLine

pytestmark = pytest.mark.engine("sqlite", reason="the command line does not know the engine")


def test_delivered_fulfillment_is_restocked_by_the_number_of_its_order_until_the_order_is_completed(
    cli: CommandLine,
) -> None:
    sku = make_tea(cli, "sejak")
    cli.json("customers", "create", "--id", "robin", "--name", "Robin")
    for is_completed in (False, True):
        order = cli.json("orders", "place", "--customer", "robin", "--line", f"{sku}=1", "--currency", "EUR")
        cli.json("orders", "confirm", order["number"])
        cli.json("fulfillments", "ship", cli.json("orders", "fulfill", order["number"])["name"])
        cli.json("fulfillments", "deliver", order["number"])
        assert cli.json("fulfillments", "show", order["number"])["state"] == "FULFILLMENT_STATE_DELIVERED"
        if is_completed:
            cli.json("orders", "complete", order["number"])
            refused = cli("fulfillments", "restock", order["number"])
            assert f"order {order['number']} is COMPLETED; this state is final" in refused.err
        else:
            restocked = cli.json("fulfillments", "restock", order["number"])
            assert restocked["state"] == "FULFILLMENT_STATE_RESTOCKED"


def test_deleted_customer_is_reported_with_the_open_orders_and_a_cancelled_order_does_not_expire(
    cli: CommandLine,
) -> None:
    sku = make_tea(cli, "gyokuro")
    cli.json("customers", "create", "--id", "mina", "--name", "Mina")
    line = ("--line", f"{sku}=1", "--currency", "EUR")
    first, second = (cli.json("orders", "place", "--customer", "mina", *line)["number"] for _ in range(2))
    assert "expires" in cli("orders", "show", first).out
    assert "The 2 open orders of customers/mina stay open" in cli("customers", "delete", "mina", "--dry-run").err
    cli("orders", "cancel", first)
    assert "expires" not in cli("orders", "show", first).out
    assert "The 1 open order of customers/mina stays open" in cli("customers", "delete", "mina").err
    cli("orders", "cancel", second)
    cli.json("customers", "undelete", "mina")
    assert "open order" not in cli("customers", "delete", "mina").err
