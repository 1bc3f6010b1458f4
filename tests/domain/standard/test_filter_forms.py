"""Filters on parts of resources: presence, prefixes, maps, elements, names of enums; and which use an index."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from storekeep.server.domain import customers
from storekeep.server.domain.audit import log
from storekeep.server.domain.catalog import categories, products, variants
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.orders import fulfillments, orders
from storekeep.server.domain.standard.lists import Listing, ListRequest
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.stock import levels, reservations
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.v1 import inventory_pb2, orders_pb2, products_pb2
from tests.domain.standard.test_filters import listed, names
from tests.support.databases import Database, new_database
from tests.support.refusals import refusal, refused
from tests.support.resources import ADDRESS
from tests.support.shops import Shop, new_id
from tests.support.stores import open_store

# -- presence, prefixes, maps, elements of lists, names of enums


@pytest.mark.parametrize(
    ("filter_text", "found"),
    [
        ('display_name = "{mark} ab"', "b"),
        ('display_name != "{mark} ab"', "acd"),
        ('display_name = "{mark} a*"', None),
        ("display_name : {mark}", None),
        (r'display_name = "{mark} a\*"', "a"),
        ("phone:*", "ab"),
        ("-phone:*", "cd"),
        ("NOT phone : *", "cd"),
        ("labels:*", "bcd"),
        ("labels:season", "bc"),
        ("labels.season:*", "bc"),
        ("-labels.season:*", "ad"),
        ("labels.season = autumn", "b"),
        ("labels.season : autumn", "b"),
        ("labels.season != autumn", "acd"),
        ('labels.season = "aut*"', "b"),
        ('labels.season = "*"', None),
        ('labels."a.b/c" = "x y"', "d"),
        ("labels.a.b = z", "d"),
        ('labels."$.season" = autumn', ""),
        ("labels.'\"' = quote", "d"),
        ("labels.season = AUTUMN", ""),
        ('labels.empty = ""', "d"),
        ("labels.empty:*", "d"),
        ('labels.missing = ""', ""),
        ("create_time:*", "abcd"),
    ],
)
def test_customers_are_found_by_what_their_fields_have(shop: Shop, labelled, filter_text: str, found: str | None):
    mark, created = labelled
    text = f"groups : {mark} AND " + filter_text.replace("{mark}", mark)
    if found is None:
        assert refusal(listed, shop, "ListCustomers", text).reason == "INVALID_FILTER"
    else:
        assert names(shop, "ListCustomers", text) == {created[letter] for letter in found}


@pytest.fixture(scope="module")
def labelled(shop: Shop) -> tuple[str, dict[str, str]]:
    """Return the group of four customers, a mark in their names too, and their resource names by letter."""
    mark = new_id()
    fields: dict[str, dict[str, Any]] = {
        "a": {"display_name": f"{mark} a*", "phone": "1"},
        "b": {"display_name": f"{mark} ab", "phone": "2", "labels": {"season": "autumn"}},
        "c": {"display_name": f"{mark} c", "labels": {"season": "spring"}},
        "d": {"display_name": f"{mark} d", "labels": {"a.b/c": "x y", "a.b": "z", '"': "quote", "empty": ""}},
    }
    return mark, {letter: shop.customer(groups=[mark], **one).name for letter, one in fields.items()}


@pytest.mark.parametrize(
    ("prefix", "others"),
    [
        ("a", ["b", "`", ""]),
        ("ÿ", ["Ā", "þ"]),
        ("\ud7ff", ["\ue000"]),
        ("\U0010ffff", ["🫖", "\uffff"]),
        ("z\U0010ffff", ["{"]),
    ],
)
def test_prefix_matches_whatever_follows_it_and_nothing_else(shop: Shop, prefix: str, others: list[str]):
    tax_class = new_id("t")
    for display_name in (prefix, f"{prefix}a", f"{prefix}\U0010ffff", *others):
        shop.variant(tax_class=tax_class, barcode=display_name)
    found = listed(shop, "ListVariants", f'tax_class = {tax_class} AND barcode = "{prefix}*"').variants
    assert sorted(variant.barcode for variant in found) == sorted([prefix, f"{prefix}a", f"{prefix}\U0010ffff"])


@pytest.mark.parametrize(
    ("filter_text", "found"),
    [
        ("lines.sku : {first}", "both one"),
        ("lines.sku : {second}", "both two"),
        ("-lines.sku : {first}", "two"),
        ('lines.sku : "{first}*"', "both one"),
        ("lines.sku : {first} AND lines.sku : {second}", "both"),
        ("lines.sku:*", "both one two"),
        ("lines.sku : none", ""),
        ("shipping_address.region_code = MX", "one"),
        ("shipping_address.region_code != MX", "both two"),
        ("shipping_address.region_code:*", "one two"),
        ("-shipping_address.region_code:*", "both"),
        ('shipping_address.region_code = "M*"', "one"),
        ("shipping_address.region_code > MW", "one"),
        ("customer.email = {mark}@example.com", "both one"),
        ("customer.email != {mark}@example.com", "two"),
        ("customer.email:*", "both one"),
        ("held:*", "two"),
        ("held = true", "two"),
        ("total:*", "both one two"),
        ("external_reference:*", "one"),
        ("-external_reference:*", "both two"),
        ('external_reference = "{mark}*"', "one"),
        ("ship_by_time:*", "two"),
        ("-ship_by_time:*", "both one"),
        ('ship_by_time > "2026-01-01T00:00:00Z"', "two"),
        ('-ship_by_time > "2026-01-01T00:00:00Z"', "both one"),
        ('ship_by_time != "2026-01-01T00:00:00Z"', "both one two"),
        ("state = ORDER_STATE_PLACED", "both two"),
        ("state = ORDER_STATE_CONFIRMED", "one"),
        ("state != ORDER_STATE_PLACED", "one"),
    ],
)
def test_orders_are_found_by_their_parts(shop: Shop, parts, filter_text: str, found: str):
    marks, orders = parts
    text = re.sub(r"\{(\w+)\}", lambda match: marks[match[1]], filter_text)
    got = names(shop, "ListOrders", f"({marks['any']}) AND {text}")
    assert got == {orders[name] for name in found.split()}


@pytest.fixture(scope="module")
def parts(shop: Shop) -> tuple[dict[str, str], dict[str, str]]:
    """Return marks for filters, and three orders by name."""
    mark = new_id()
    first, second = (shop.variant(stock=9).sku for _ in range(2))
    known, unknown = shop.customer(email=f"{mark}@example.com").name, shop.customer().name
    orders = {
        "both": shop.order((first, 1), (second, 1), customer=known),
        "one": shop.order((first, 1), customer=known, shipping_address=ADDRESS, external_reference=f"{mark}-1"),
        "two": shop.order(
            (second, 1),
            customer=unknown,
            shipping_address={"region_code": "DE"},
            ship_by_time={"seconds": 4_000_000_000},
        ),
    }
    shop.confirm(orders["one"])
    shop.orders.HoldOrder(orders_pb2.HoldOrderRequest(name=orders["two"].name))
    marks = {"first": first, "second": second, "mark": mark, "any": f"customer = {known} OR customer = {unknown}"}
    return marks, {name: order.name for name, order in orders.items()}


@pytest.mark.parametrize(
    ("rpc", "prefix"),
    [
        ("ListCategories", "CATEGORY_STATE_"),
        ("ListProducts", "PRODUCT_STATE_"),
        ("ListVariants", "VARIANT_STATE_"),
        ("ListOrders", "ORDER_STATE_"),
        ("ListFulfillments", "FULFILLMENT_STATE_"),
        ("ListReservations", "RESERVATION_STATE_"),
        ("ListStockMovements", "STOCK_MOVEMENT_CAUSE_"),
    ],
)
def test_every_state_may_be_written_as_replies_show_it(shop: Shop, rpc: str, prefix: str):
    field = "cause" if rpc == "ListStockMovements" else "state"
    with refused("INVALID_FILTER") as refusal:
        listed(shop, rpc, f"{field} = {prefix}UNSPECIFIED")
    choices = re.findall(r"[A-Z_]+", refusal.metadata["problem"].partition("one of: ")[2].partition(", not ")[0])
    enum = next(e for e in (products_pb2, inventory_pb2, orders_pb2) for e in e.DESCRIPTOR.enum_types_by_name.values()
                if e.values[0].name == f"{prefix}UNSPECIFIED")  # fmt: skip
    assert {f"{prefix}{choice}" for choice in choices} == {value.name for value in enum.values[1:]}
    for choice in choices:
        assert names(shop, rpc, f"{field} = {choice}") == names(shop, rpc, f'{field} = "{prefix}{choice}"')


# -- filters that an index answers, as the technical design says

INDEXED: tuple[tuple[Listing[Any], str], ...] = (
    (orders.LISTING, "customer = a"),
    (orders.LISTING, 'customer = "a*"'),
    (orders.LISTING, "state = CONFIRMED"),
    (orders.LISTING, "number = a"),
    (orders.LISTING, 'number = "a*"'),
    (orders.LISTING, "external_reference = a"),
    (orders.LISTING, 'external_reference = "a*"'),
    (orders.LISTING, "customer.email = a"),
    (orders.LISTING, 'create_time > "2026-01-31T00:00:00Z"'),
    (products.LISTING, "category = a"),
    (products.LISTING, 'display_name = "a*"'),
    (categories.LISTING, "parent_category = a"),
    (categories.LISTING, 'display_name = "a*"'),
    (customers.LISTING, "email = a"),
    (variants.LISTING, 'sku = "a*"'),
    (variants.LISTING, 'barcode = "a*"'),
    (levels.MOVEMENT_LISTING, "sku = a"),
    (fulfillments.LISTING, "state = PENDING"),
    (reservations.LISTING, "reference = a"),
    (log.LISTING, "sequence > 5"),
    (log.LISTING, "resource = a"),
)


def test_indexed_filters_search_an_index_and_sorted_lists_read_theirs(tmp_path: Path):
    made = new_database("sqlite", tmp_path)
    with closing(open_store(made.url)) as store:
        for listing, filter_text in INDEXED:
            (first, *_) = _explain(store, listing, filter=filter_text)
            assert first.startswith("SEARCH t1 USING"), (listing.method, filter_text, first)
        sorted_by_time = (orders, products, categories, customers, variants, fulfillments, reservations)
        for listing in (module.LISTING for module in sorted_by_time):
            for order_by in ("create_time", "update_time", "update_time desc"):
                plan = _explain(store, listing, order_by=order_by)
                assert not any("TEMP B-TREE" in step for step in plan), (listing.method, order_by, plan)
    made.remove()


@pytest.mark.engine("postgresql", reason="SQLite makes no joins of conditions")
def test_conditions_on_lines_are_not_planned_as_joins(database: Database):
    with closing(open_store(database.url)) as store:
        plan = _explain(store, orders.LISTING, command="EXPLAIN", filter='lines.sku : a AND lines.sku : "b*"')
    assert sum("SubPlan" in step for step in plan) >= 2, plan
    assert not any("Join" in step or "Nested Loop" in step for step in plan), plan


class _Plan(Exception):
    """The plan of a query, raised in place of running it."""


def _explain(store: Store, listing: Listing[Any], *, command: str = "EXPLAIN QUERY PLAN", **fields: Any) -> list[str]:
    """Return the steps of the database's plan for the first page of a list.

    Args:
        command: the command of the engine; by default SQLite's.
    """

    def work(tx: Transaction) -> list[str]:
        class Explaining:
            dialect, now_us, data_keys, batch_cache = tx.dialect, tx.now_us, tx.data_keys, tx.batch_cache
            connection = tx.connection

            def run(self, query: Any) -> Any:
                sql, values = tx.dialect.compile(query)
                raise _Plan([str(row[-1]) for row in tx.connection.execute(f"{command} {sql}", values).fetchall()])

        try:
            listing.page(Explaining(), ListRequest(**fields), tokens=PageTokens(Keyring.from_secret(b"test")))  # type: ignore[arg-type]
        except _Plan as plan:
            steps: list[str] = plan.args[0]
            return steps
        raise AssertionError("no query was run")

    return store.snapshot(work)
