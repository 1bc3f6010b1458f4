"""Errors of commands name what the person typed, in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest

from storekeep.client import Customer, Storekeep, User
from tests.support.command_line import CommandLine
from tests.support.shops import Shop, new_id

pytestmark = pytest.mark.engine("sqlite", reason="the command line does not know the engine")


def test_error_names_option_or_argument(cli: CommandLine, client: Storekeep, shop: Shop) -> None:
    sku, order = shop.variant(stock=5).sku, shop.order((shop.variant(stock=5).sku, 1)).number
    cases = {
        "--clear: 'foo' cannot be changed": ("orders", "update", order, "--clear", "foo"),
        "CURRENCY: 'ZZZ' is not": ("prices", "lowest", sku, "ZZZ"),
        "--to: the destination must differ": ("stock", "transfer", f"{sku}=1", "--from", "main", "--to", "main"),
    }
    for text, command in cases.items():
        run = cli(*command)
        assert run.code == 1
        assert run.err.startswith(f"storekeep: {text}"), run.err


def test_login_refuses_an_unknown_currency(cli: CommandLine) -> None:
    run = cli("login", "--currency", "ZZZ")
    assert run.code == 1
    assert run.err.startswith("storekeep: --currency: 'ZZZ' is not an active currency"), run.err
    assert cli("login", "--currency", "eur").code == 0


def test_user_without_authenticator_app_or_link_is_told_in_words(cli: CommandLine, client: Storekeep) -> None:
    user = new_id("ann")
    client.users.create_user(User(display_name="Ann", email=f"{user}@example.com"), user_id=user)
    run = cli("users", "reset-totp", user)
    assert run.code == 1
    assert f"users/{user} has no authenticator app [ILLEGAL_STATE" in run.err
    assert f"users/{user} is not linked to the identity provider" in cli("users", "unlink", user).err


def test_fulfillment_in_another_state_is_an_answer_of_the_server(cli: CommandLine, shop: Shop) -> None:
    number = shop.order((shop.variant(stock=5).sku, 1)).number
    assert "has no open unit without a fulfilment" not in cli("orders", "confirm", number).err
    assert cli("orders", "fulfill", number).code == 0
    assert "has no open unit without a fulfilment" in cli("orders", "fulfill", number, "--line", "1").err
    for verb in ("ship", "restock"):
        assert cli("fulfillments", verb, number).code == 0
        run = cli("fulfillments", verb, number)
        assert run.code == 1, run.err
        assert run.err.count("see ") == 1


def test_steps_of_one_order_or_fulfillment_show_it_as_their_twins_do(cli: CommandLine, shop: Shop) -> None:
    number = shop.order((shop.variant(stock=5).sku, 1)).number
    heads = {verb: cli("orders", verb, number).out.split()[:2] for verb in ("hold", "resume", "confirm")}
    assert len({tuple(head) for head in heads.values()}) == 1, heads
    cli("orders", "fulfill", number)
    shipped, delivered = cli("fulfillments", "ship", number).out, cli("fulfillments", "deliver", number).out
    assert shipped.split()[0] == delivered.split()[0]


def test_formats_of_another_import_are_not_suggested(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text("a\n1\n")
    run = cli("import", "products", str(file), "--format", "shopify")
    assert run.code == 2
    assert "shopify-orders" not in run.err


def test_part_of_an_address_without_a_country_names_the_option(cli: CommandLine, client: Storekeep, shop: Shop) -> None:
    customer = new_id("ann")
    client.customers.create(Customer(display_name="Ann"), customer_id=customer)
    sku = shop.variant(stock=5).sku
    placed = cli.json("orders", "place", "--customer", customer, "--line", f"{sku}=1", "--currency", "EUR")
    run = cli("orders", "update", placed["number"], "--city", "Graz")
    assert run.code == 2
    assert "an address needs a country" in run.err
    assert cli("orders", "update", placed["number"], "--city", "Graz", "--country", "Austria").code == 0
