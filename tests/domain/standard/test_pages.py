"""Lists, page by page: every row once, in the requested order, even if rows are added in between."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from storekeep.server.domain.catalog.products import LISTING, PRODUCTS
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.standard import lists
from storekeep.server.domain.standard.lists import ListRequest
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.wiring.expirers import EXPIRERS
from storekeep.v1 import inventory_pb2, orders_pb2, products_pb2
from tests.support.databases import new_database
from tests.support.refusals import refused
from tests.support.resources import KINDS, Kind
from tests.support.shops import Shop, new_id
from tests.support.stores import open_store

ROWS = 7


@dataclass(frozen=True)
class List:
    """A List method, filtered to the rows of one test.

    Attributes:
        rpc: the name of the method.
        request: builds a request.
        items: the response field with the rows.
        make: creates rows, some with equal sort keys, and returns the filter that finds them.
        sortable: `order_by` field -> function that returns the sort key of a row.
        unique: returns the key that breaks ties.
    """

    rpc: str
    request: Callable[..., Any]
    items: str
    make: Callable[[Shop], str]
    sortable: dict[str, Callable[[Any], Any]]
    unique: Callable[[Any], Any] = attrgetter("name")

    def __str__(self) -> str:
        return self.rpc

    def page(self, shop: Shop, **fields: Any) -> Any:
        return shop.stub(self.rpc)(self.request(**fields))

    def all(self, shop: Shop, *, page_size: int, **fields: Any) -> list[Any]:
        """Return all rows, page by page."""
        rows: list[Any] = []
        token = ""
        while True:
            page = self.page(shop, page_size=page_size, page_token=token, **fields)
            rows += getattr(page, self.items)
            token = page.next_page_token
            assert len(getattr(page, self.items)) == page_size or not token
            if not token:
                return rows


def read_time(field: str) -> Callable[[Any], int]:
    return lambda row: getattr(row, field).ToMicroseconds()


def _make_named(kind: Kind) -> Callable[[Shop], str]:
    """Create rows with two different names; a common part of the names tells them from other rows."""

    def make(shop: Shop) -> str:
        mark = new_id()
        for number in range(ROWS):
            kind.make(shop, display_name=f"{mark} {number % 2}")
        return f'display_name : "{mark}"'

    return make


def _variants(shop: Shop) -> str:
    tax_class = new_id("t")
    for _ in range(ROWS):
        shop.variant(tax_class=tax_class)
    return f"tax_class = {tax_class}"


def _customers(shop: Shop) -> str:
    name = new_id()
    for _ in range(ROWS):
        shop.customer(display_name=name)
    return f"display_name = {name}"


def _orders(shop: Shop) -> str:
    customer, sku = shop.customer().name, shop.variant(stock=100).sku
    for number in range(ROWS):
        shop.order((sku, 1 + number % 2), customer=customer)
    return f'customer = "{customer}"'


def _levels(shop: Shop) -> str:
    skus = [shop.variant(stock=1 + number % 2).sku for number in range(ROWS)]
    return " OR ".join(f"sku = {sku}" for sku in skus)


def _movements(shop: Shop) -> str:
    sku = shop.variant().sku
    for _ in range(ROWS):
        shop.adjust(sku, 1)
    return f"sku = {sku}"


def _reservations(shop: Shop) -> str:
    sku, reference = shop.variant(stock=ROWS).sku, new_id()
    for number in range(ROWS):
        shop.inventory.ReserveStock(
            inventory_pb2.ReserveStockRequest(
                lines=[inventory_pb2.ReserveStockLine(sku=sku, quantity=1)],
                reference=reference,
                ttl=Duration(seconds=60 + number % 2),
            )
        )
    return f'reference = "{reference}"'


def _request(kind: Kind) -> Callable[..., Any]:
    parent = {"parent": "products/-"} if kind.parent else {}
    return lambda **fields: kind.request(f"List{kind.plural}", **parent, **fields)


SORTED_BY = {
    "display_name": attrgetter("display_name"),
    "sku": attrgetter("sku"),
    "create_time": read_time("create_time"),
    "update_time": read_time("update_time"),
}
MADE = {"Customer": _customers, "Variant": _variants}
UPDATED = {"update_time": read_time("update_time")}
LISTS = (
    *(
        List(
            f"List{kind.plural}",
            _request(kind),
            kind.items,
            _make_named(kind) if "display_name" in kind.sortable else MADE[kind.noun],
            {name: SORTED_BY[name] for name in kind.sortable},
            unique=attrgetter("sku" if kind.noun == "Variant" else "name"),
        )
        for kind in KINDS
    ),
    List(
        "ListStockLevels",
        lambda **fields: inventory_pb2.ListStockLevelsRequest(parent="locations/-", **fields),
        "stock_levels",
        _levels,
        {name: attrgetter(name) for name in ("sku", "available", "on_hand")} | UPDATED,
    ),
    List(
        "ListStockMovements",
        inventory_pb2.ListStockMovementsRequest,
        "stock_movements",
        _movements,
        {"create_time": read_time("create_time")},
        unique=lambda row: int(row.name.rpartition("/")[2]),
    ),
    List(
        "ListReservations",
        inventory_pb2.ListReservationsRequest,
        "reservations",
        _reservations,
        {"create_time": read_time("create_time"), "expire_time": read_time("expire_time")} | UPDATED,
    ),
    List(
        "ListOrders",
        orders_pb2.ListOrdersRequest,
        "orders",
        _orders,
        {"create_time": read_time("create_time"), "total": lambda order: (order.total.units, order.total.nanos)}
        | UPDATED,
    ),
)
each_list = pytest.mark.parametrize("listing", LISTS, ids=str)
each_order = pytest.mark.parametrize(
    ("listing", "order_by"), [(listing, name) for listing in LISTS for name in listing.sortable], ids=str
)


@each_order
@pytest.mark.parametrize("direction", ["", " asc", " desc"])
@pytest.mark.parametrize("page_size", [1, 3, ROWS])
def test_pages_give_every_row_once_in_order(shop: Shop, listing: List, order_by: str, direction: str, page_size: int):
    filter_text = listing.make(shop)
    rows = listing.all(shop, page_size=page_size, filter=filter_text, order_by=order_by + direction)
    keys = [(listing.sortable[order_by](row), listing.unique(row)) for row in rows]
    assert len(keys) == ROWS
    assert keys == sorted(set(keys), reverse=direction == " desc")


@pytest.mark.parametrize("directions", [("", ""), ("", " desc"), (" desc", ""), (" desc", " desc")])
def test_pages_sorted_by_two_fields_give_every_row_once(shop: Shop, directions: tuple[str, str]):
    listing = next(listing for listing in LISTS if listing.rpc == "ListOrders")
    filter_text = listing.make(shop)
    order_by = ", ".join(map("".join, zip(("total", "create_time"), directions, strict=True)))
    rows = listing.all(shop, page_size=2, filter=filter_text, order_by=order_by)
    signs = [-1 if direction else 1 for direction in directions]
    keys = [(signs[0] * row.total.units, signs[1] * row.create_time.ToMicroseconds()) for row in rows]
    assert len(rows) == len({row.name for row in rows}) == ROWS
    assert keys == sorted(keys)


@each_list
def test_list_of_nothing_is_empty_and_the_last_page(shop: Shop, listing: List):
    page = listing.page(shop, filter='create_time < "2001-01-01T00:00:00Z"' if "Levels" not in listing.rpc else "sku=x")
    assert page == type(page)()


@each_list
def test_page_that_is_just_full_is_the_last(shop: Shop, listing: List):
    page = listing.page(shop, filter=listing.make(shop), page_size=ROWS)
    assert len(getattr(page, listing.items)) == ROWS
    assert page.next_page_token == ""


@each_list
def test_page_size_may_change_between_pages(shop: Shop, listing: List):
    filter_text = listing.make(shop)
    first = listing.page(shop, filter=filter_text, page_size=2)
    rest = listing.page(shop, filter=filter_text, page_size=50, page_token=first.next_page_token)
    assert len(getattr(rest, listing.items)) == ROWS - 2
    assert rest.next_page_token == ""


@each_list
def test_rows_are_the_same_as_in_get(shop: Shop, listing: List):
    page = listing.page(shop, filter=listing.make(shop), page_size=1)
    (row,) = getattr(page, listing.items)
    noun = type(row).__name__
    request = next(
        getattr(file, f"Get{noun}Request")
        for file in (products_pb2, inventory_pb2, orders_pb2, KINDS[-1].messages)
        if hasattr(file, f"Get{noun}Request")
    )
    assert shop.stub(f"Get{noun}")(request(name=row.name)) == row


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "display_name" in kind.sortable], ids=str)
def test_rows_added_while_paging_shift_nothing(shop: Shop, kind: Kind):
    mark = new_id()
    options = {"filter": f'display_name : "{mark}"', "order_by": "display_name"}
    old = [kind.make(shop, display_name=f"{mark} {number}").name for number in (2, 4, 6)]
    first = kind.list(shop, page_size=2, **options)
    kind.make(shop, display_name=f"{mark} 1")
    behind = kind.make(shop, display_name=f"{mark} 5").name
    rest = kind.list(shop, page_token=first.next_page_token, **options)
    assert kind.names(first) + kind.names(rest) == [*old[:2], behind, old[2]]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_row_deleted_while_paging_is_where_the_page_goes_on(shop: Shop, kind: Kind):
    listing = next(listing for listing in LISTS if listing.rpc == f"List{kind.plural}")
    filter_text = listing.make(shop)
    first = listing.page(shop, filter=filter_text, page_size=3)
    kind.do(shop, "Delete", getattr(first, listing.items)[-1].name)
    rest = listing.page(shop, filter=filter_text, page_token=first.next_page_token)
    assert len(getattr(rest, listing.items)) == ROWS - 3


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_deleted_rows_are_listed_only_when_asked_for(shop: Shop, kind: Kind):
    listing = next(listing for listing in LISTS if listing.rpc == f"List{kind.plural}")
    filter_text = listing.make(shop)
    name = getattr(listing.page(shop, filter=filter_text), listing.items)[0].name
    gone = kind.do(shop, "Delete", name)
    assert name not in kind.names(listing.page(shop, filter=filter_text))
    shown = getattr(listing.page(shop, filter=filter_text, show_deleted=True), listing.items)
    assert gone in shown
    assert len(shown) == ROWS


# -- tokens


def damaged(token: str) -> list[str]:
    """Return damaged variants of a token."""
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    flipped = [bytes([raw[0] ^ 1]) + raw[1:], raw[:-1] + bytes([raw[-1] ^ 1]), raw[:-1], raw[:12], raw[:5], raw + b"0"]
    return [
        *(base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in flipped),
        token[:-1],
        token + "AAAA",
        token + "!",
        token + "\n",
        "\x00",
        "é",
        "=",
        "0",
        token[::-1],
    ]


@each_list
def test_damaged_page_token_is_refused(shop: Shop, listing: List):
    options = {"filter": listing.make(shop), "page_size": 2}
    token = listing.page(shop, **options).next_page_token
    for bad in damaged(token):
        with refused("INVALID_PAGE_TOKEN"):
            listing.page(shop, page_token=bad, **options)


@each_list
def test_page_token_of_another_query_is_refused(shop: Shop, listing: List):
    options = {"filter": listing.make(shop), "page_size": 2}
    token = listing.page(shop, **options).next_page_token
    order_by = next(iter(listing.sortable))
    for other in ({}, {"filter": options["filter"] + " "}, options | {"order_by": f"{order_by} desc"}):
        with refused("INVALID_PAGE_TOKEN"):
            listing.page(shop, **other | {"page_token": token})


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_page_token_of_a_list_without_deleted_ones_is_refused_with_them(shop: Shop, kind: Kind):
    for _ in range(2):
        kind.make(shop)
    token = kind.list(shop, page_size=1).next_page_token
    with refused("INVALID_PAGE_TOKEN"):
        kind.list(shop, page_token=token, show_deleted=True)


def test_page_token_of_another_method_is_refused(shop: Shop):
    tokens = {}
    for listing in LISTS:
        listing.make(shop)
        tokens[listing.rpc] = listing.page(shop, page_size=1).next_page_token
    for listing in LISTS:
        for rpc in tokens.keys() - {listing.rpc}:
            with refused("INVALID_PAGE_TOKEN"):
                listing.page(shop, page_token=tokens[rpc])


def test_page_token_of_another_parent_is_refused(shop: Shop):
    parents = [shop.product().name for _ in range(2)]
    for parent in parents * 2:
        shop.variant(parent=parent)
    request = products_pb2.ListVariantsRequest(parent=parents[0], page_size=1)
    token = shop.products.ListVariants(request).next_page_token
    with refused("INVALID_PAGE_TOKEN"):
        shop.products.ListVariants(products_pb2.ListVariantsRequest(parent=parents[1], page_token=token))


def test_page_token_of_another_server_is_refused(shop: Shop, make_server):
    for _ in range(2):
        shop.product()
    token = KINDS[1].list(shop, page_size=1).next_page_token
    other = make_server()
    with grpc.insecure_channel(other.address) as channel, refused("INVALID_PAGE_TOKEN"):
        KINDS[1].list(Shop(channel, api_key=other.admin_key), page_token=token)


# -- invalid requests


@each_list
@pytest.mark.parametrize("page_size", [-1, -(2**31)])
def test_negative_page_size_is_refused(shop: Shop, listing: List, page_size: int):
    with refused("INVALID_FIELD") as refusal:
        listing.page(shop, page_size=page_size)
    assert list(refusal.violations) == ["page_size"]


@each_list
@pytest.mark.parametrize("page_size", [1001, 2**31 - 1])
def test_page_size_above_the_largest_is_reduced(shop: Shop, listing: List, page_size: int):
    filter_text = listing.make(shop)
    largest = listing.page(shop, filter=filter_text, page_size=1000)
    assert len(getattr(largest, listing.items)) == ROWS
    assert listing.page(shop, filter=filter_text, page_size=page_size) == largest


@each_list
@pytest.mark.parametrize(
    "order_by",
    ["nothing", "create_time up", "create_time desc desc", ",", "create_time,", "1", "\x00", "name;--", "é"],
)
def test_order_by_that_cannot_be_is_refused(shop: Shop, listing: List, order_by: str):
    with refused("INVALID_ORDER_BY") as refusal:
        listing.page(shop, order_by=order_by)
    assert set(listing.sortable) == set(refusal.metadata["sortable"].split(", "))


# -- totals


@each_list
def test_total_counts_the_rows_of_all_pages(shop: Shop, listing: List):
    options = {"filter": listing.make(shop), "page_size": 2}
    assert not listing.page(shop, **options).HasField("total_size")
    first = listing.page(shop, **options, include_total_size=True)
    second = listing.page(shop, **options, include_total_size=True, page_token=first.next_page_token)
    assert (first.total_size, second.total_size) == (ROWS, ROWS)
    assert not first.total_size_is_lower_bound
    nothing = listing.page(shop, filter=f"({options['filter']}) AND NOT ({options['filter']})", include_total_size=True)
    assert nothing.HasField("total_size")
    assert nothing.total_size == 0


def test_total_is_exact_up_to_its_bound_and_then_a_lower_bound(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = new_database(engine, tmp_path)
    tokens, request = PageTokens(Keyring.from_secret(b"test")), ListRequest(page_size=1, include_total_size=True)
    with closing(open_store(made.url)) as store:
        set_expirers(store, EXPIRERS)
        load_sample(store)
        products = len(PRODUCTS.page(store, ListRequest(), listing=LISTING, tokens=tokens).items)
        assert products > 1
        for bound in (products + 1, products, products - 1):
            monkeypatch.setattr(lists, "TOTAL_MAX", bound)
            page = PRODUCTS.page(store, request, listing=LISTING, tokens=tokens)
            assert (page.total_size, page.total_size_is_lower_bound) == (min(products, bound), bound < products)
    made.remove()


# -- lists of all parents (AIP-159)


def test_notes_of_all_orders_are_listed_in_the_order_of_their_creation(shop: Shop):
    orders = [shop.order().name for _ in range(2)]
    notes = [
        shop.orders.AddOrderNote(orders_pb2.AddOrderNoteRequest(parent=orders[number % 2], content="Call back."))
        for number in range(4)
    ]
    request = orders_pb2.ListOrderNotesRequest(parent="orders/-", page_size=1000)
    found = [note for note in shop.orders.ListOrderNotes(request).notes if note.name.partition("/notes/")[0] in orders]
    assert found == notes
    one = shop.orders.ListOrderNotes(orders_pb2.ListOrderNotesRequest(parent=orders[0])).notes
    assert list(one) == notes[::2]
    token = shop.orders.ListOrderNotes(orders_pb2.ListOrderNotesRequest(parent=orders[0], page_size=1)).next_page_token
    with refused("INVALID_PAGE_TOKEN"):
        shop.orders.ListOrderNotes(orders_pb2.ListOrderNotesRequest(parent="orders/-", page_token=token))


# -- rows that change while a list is read


def test_order_that_changes_while_paging_by_update_time_is_not_missed(shop: Shop):
    customer = shop.customer().name
    names = [shop.order(customer=customer).name for _ in range(4)]
    options: dict[str, Any] = {"filter": f"customer = {customer}", "order_by": "update_time"}
    first = shop.orders.ListOrders(orders_pb2.ListOrdersRequest(**options, page_size=2))
    shop.confirm(first.orders[0])
    shop.confirm(shop.orders.GetOrder(orders_pb2.GetOrderRequest(name=names[2])))
    rest = shop.orders.ListOrders(orders_pb2.ListOrdersRequest(**options, page_token=first.next_page_token))
    assert [order.name for order in first.orders] == names[:2]
    assert [order.name for order in rest.orders] == [names[3], names[0], names[2]]
