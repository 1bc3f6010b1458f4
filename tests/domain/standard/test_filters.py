"""Filters (AIP-160): each field with each operator, the position of errors, and random filters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from storekeep.v1 import inventory_pb2, orders_pb2, products_pb2
from tests.support.mutations import DESCRIPTORS
from tests.support.refusals import refusal, refused
from tests.support.resources import CATEGORY, CUSTOMER, KINDS, LOCATION, PRODUCT, VARIANT, Kind
from tests.support.shops import Shop, new_id

COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
PARENTS = {"ListVariants": "products/-", "ListStockLevels": "locations/-", "ListFulfillments": "orders/-"}
LISTS = tuple(
    rpc for rpc in DESCRIPTORS if rpc.startswith("List") and "filter" in DESCRIPTORS[rpc].input_type.fields_by_name
)
FILTER_FIELDS = {
    "ListCategories": ("display_name", "parent_category", "state", "create_time", "update_time"),
    "ListProducts": ("display_name", "category", "labels.KEY", "state", "create_time", "update_time"),
    "ListVariants": (
        "sku",
        "barcode",
        "tax_class",
        "options.KEY",
        "labels.KEY",
        "state",
        "create_time",
        "update_time",
    ),
    "ListLocations": ("display_name", "create_time", "update_time"),
    "ListCustomers": (
        "display_name",
        "email",
        "phone",
        "company",
        "tax_id",
        "language_code",
        "groups",
        "labels.KEY",
        "create_time",
        "update_time",
    ),
    "ListStockLevels": ("sku", "on_hand", "allocated", "available", "update_time"),
    "ListStockMovements": ("sku", "location", "cause", "create_time", "actor", "source"),
    "ListReservations": ("state", "reference", "order", "expire_time", "create_time", "update_time"),
    "ListFulfillments": ("state", "location", "carrier", "tracking_number", "create_time", "update_time"),
    "ListOrders": (
        "customer",
        "state",
        "currency_code",
        "total",
        "external_reference",
        "source",
        "number",
        "held",
        "lines.sku",
        "shipping_address.region_code",
        "customer.email",
        "email",
        "phone",
        "language_code",
        "ship_by_time",
        "deliver_by_time",
        "labels.KEY",
        "create_time",
        "update_time",
    ),
}


def listed(shop: Shop, rpc: str, filter_text: str, **fields: Any) -> Any:
    """Return one page of the rows that match a filter."""
    kind = DESCRIPTORS[rpc].input_type
    module = next(m for m in (PRODUCT.messages, inventory_pb2, CUSTOMER.messages, orders_pb2) if hasattr(m, kind.name))
    parent = {"parent": PARENTS[rpc]} if rpc in PARENTS else {}
    return shop.stub(rpc)(getattr(module, kind.name)(filter=filter_text, **parent, **fields))


def names(shop: Shop, rpc: str, filter_text: str, **fields: Any) -> set[str]:
    """Return the names of the rows that match a filter."""
    (field,) = (f for f in DESCRIPTORS[rpc].output_type.fields if f.is_repeated)
    return {row.name for row in getattr(listed(shop, rpc, filter_text, page_size=1000, **fields), field.name)}


def test_table_of_fields_is_what_the_contract_documents():
    assert set(FILTER_FIELDS) == set(LISTS)


@pytest.mark.parametrize("rpc", LISTS)
def test_refused_field_is_told_which_there_are(shop: Shop, rpc: str):
    with refused("INVALID_FILTER") as refusal:
        listed(shop, rpc, "nothing = 1")
    assert re.findall(r"[\w.]+", refusal.metadata["problem"].partition("use one of: ")[2]) == list(FILTER_FIELDS[rpc])
    assert refusal.metadata["position"] == "1"


# -- text, states, times


def marked(shop: Shop, kind: Kind, *endings: str) -> tuple[str, list[str]]:
    """Create resources with display names of a random mark and an ending. Return the mark and their names."""
    mark = new_id()
    return mark, [kind.make(shop, display_name=f"{mark}{ending}").name for ending in endings]


@pytest.mark.parametrize("kind", [CATEGORY, PRODUCT, LOCATION], ids=str)
@pytest.mark.parametrize(
    ("operator", "found"),
    [("=", "b"), ("!=", "ac"), ("<", "a"), ("<=", "ab"), (">", "c"), (">=", "bc"), (":", "b")],
)
def test_text_is_compared(shop: Shop, kind: Kind, operator: str, found: str):
    mark, created = marked(shop, kind, "a", "b", "c")
    expected = {name for name, ending in zip(created, "abc", strict=True) if ending in found}
    filter_text = f'display_name : "{mark}" AND display_name {operator} "{mark}b"'
    assert names(shop, f"List{kind.plural}", filter_text) == expected


@pytest.mark.parametrize("literal", ["%", "_", "50% off_", "\\", '"', "'", "(", "é", "🫖", "a AND b", "NOT x"])
def test_text_contains_what_is_written_and_nothing_like_it(shop: Shop, literal: str):
    _, (name, _) = marked(shop, PRODUCT, literal, "plain")
    quoted = literal.replace("\\", "\\\\").replace('"', '\\"')
    found = names(shop, "ListProducts", f'display_name : "{quoted}"')
    assert name in found
    shown = [PRODUCT.get(shop, found_name).display_name for found_name in found]
    assert all(literal.lower() in display_name.lower() for display_name in shown)


@pytest.mark.parametrize("quote", ['"', "'"])
def test_text_may_stand_in_either_quotes(shop: Shop, quote: str):
    mark, (name,) = marked(shop, PRODUCT, " x")
    assert names(shop, "ListProducts", f"display_name = {quote}{mark} x{quote}") == {name}


@pytest.mark.parametrize("kind", [CATEGORY, PRODUCT, VARIANT], ids=str)
def test_state_is_compared(shop: Shop, kind: Kind):
    active, archived = kind.make(shop).name, kind.make(shop).name
    kind.do(shop, "Archive", archived)
    rpc = f"List{kind.plural}"
    for filter_text, found, not_found in (
        ("state = ACTIVE", active, archived),
        ("state != ACTIVE", archived, active),
        ('state = "ARCHIVED"', archived, active),
        ("NOT state = ARCHIVED", active, archived),
    ):
        got = names(shop, rpc, filter_text)
        assert found in got
        assert not_found not in got


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_times_are_compared_to_the_microsecond(shop: Shop, kind: Kind):
    resource = kind.make(shop)
    time = resource.create_time.ToDatetime().isoformat(timespec="microseconds") + "Z"
    rpc = f"List{kind.plural}"
    for operator in COMPARISONS:
        got = names(shop, rpc, f'create_time {operator} "{time}"')
        assert (resource.name in got) == ("=" in operator and operator != "!=")


def test_time_may_have_any_zone(shop: Shop):
    name = shop.product().name
    assert name in names(shop, "ListProducts", 'create_time > "2001-01-01T00:00:00+14:00"')
    assert name not in names(shop, "ListProducts", 'create_time > "9999-12-31T23:59:59-12:00"')


@pytest.mark.parametrize(
    ("rpc", "make"),
    [
        ("ListProducts", lambda shop: (lambda c: (f"category = {c}", shop.product(category=c)))(shop.category().name)),
        (
            "ListCategories",
            lambda shop: (lambda c: (f"parent_category = {c}", shop.category(parent_category=c)))(shop.category().name),
        ),
        ("ListVariants", lambda shop: (lambda v: (f"sku = {v.sku}", v))(shop.variant())),
        ("ListVariants", lambda shop: (lambda v: (f"barcode = {v.barcode}", v))(shop.variant(barcode=new_id()))),
        ("ListVariants", lambda shop: (lambda v: (f"tax_class = {v.tax_class}", v))(shop.variant(tax_class=new_id()))),
        (
            "ListCustomers",
            lambda shop: (lambda c: (f"email = {c.email}", c))(shop.customer(email=f"{new_id()}@example.com")),
        ),
        ("ListCustomers", lambda shop: (lambda c: (f"phone = {c.phone}", c))(shop.customer(phone=new_id()))),
        ("ListOrders", lambda shop: (lambda o: (f"customer = {o.customer}", o))(shop.order())),
        ("ListOrders", lambda shop: (lambda o: (f"number = {o.number}", o))(shop.order())),
        (
            "ListOrders",
            lambda shop: (lambda o: (f"external_reference = {o.external_reference}", o))(
                shop.order(external_reference=new_id())
            ),
        ),
    ],
)
def test_reference_finds_its_one_row(shop: Shop, rpc: str, make):
    filter_text, row = make(shop)
    assert names(shop, rpc, filter_text) == {row.name}


def test_orders_without_a_reference_are_found_by_its_absence(shop: Shop):
    customer = shop.customer().name
    plain = shop.order(customer=customer).name
    referred = shop.order(customer=customer, external_reference="web-7").name
    for filter_text, found in (
        ('external_reference = ""', {plain}),
        ('external_reference != ""', {referred}),
        ("external_reference != web-8", {plain, referred}),
        ("NOT external_reference = web-7", {plain}),
        ("external_reference : eb", {referred}),
        ("held = false", {plain, referred}),
        ("held = true", set()),
    ):
        assert names(shop, "ListOrders", f"customer = {customer} AND {filter_text}") == found


# -- stock


def test_quantities_of_levels_are_compared(shop: Shop):
    sku = shop.variant(stock=10).sku
    shop.order((sku, 3))
    name = f"locations/main/stockLevels/{sku}"
    for filter_text, found in (
        ("on_hand = 10", True),
        ("on_hand > 10", False),
        ("allocated >= 3", True),
        ("allocated != 3", False),
        ("available = 7", True),
        ("available < 7", False),
        ("available <= 7 AND on_hand >= 10", True),
    ):
        assert names(shop, "ListStockLevels", f"sku = {sku} AND {filter_text}") == ({name} if found else set())


def test_movements_are_found_by_cause_location_and_actor(shop: Shop):
    location = shop.location().name
    sku = shop.variant(stock=5, location=location).sku
    shop.adjust(sku, -1, location=location, cause="STOCK_MOVEMENT_CAUSE_WRITE_OFF")
    for filter_text, count in (
        ("cause = WRITE_OFF", 1),
        ("cause != WRITE_OFF", 1),
        ("cause = COUNT", 0),
        (f"location = {location}", 2),
        ("location = main", 0),
        (f"actor = {shop.subject}", 2),
    ):
        assert len(names(shop, "ListStockMovements", f"sku = {sku} AND {filter_text}")) == count


# -- orders by total

PRICES = {"EUR": "19.99", "JPY": "2000", "KWD": "1.999"}


@pytest.fixture(scope="module")
def totals(shop: Shop) -> dict[str, str]:
    """Return currency -> an order of one unit at its price. All have the same customer, under the key `customer`."""
    sku = shop.variant(prices=PRICES, stock=10).sku
    customer = shop.customer().name
    placed = {code: shop.order((sku, 1), currency_code=code, customer=customer).name for code in PRICES}
    return placed | {"customer": customer}


@pytest.mark.parametrize(
    ("filter_text", "found"),
    [
        ("total = 19.99", "EUR"),
        ("total = 19.990", "EUR"),
        ("total = 1.999e1", "EUR"),
        ("total != 2000", "EUR KWD"),
        ("total > 19.98", "EUR JPY"),
        ("total >= 19.99", "EUR JPY"),
        ("total > 19.99", "JPY"),
        ("total > 19.985", "EUR JPY"),
        ("total >= 19.995", "JPY"),
        ("total = 19.995", ""),
        ("total < 19.995", "EUR KWD"),
        ("total <= 19.9899", "KWD"),
        ("total = 2000", "JPY"),
        ("total = 2E3", "JPY"),
        ("total >= 1999.5", "JPY"),
        ("total = 1999.9999", ""),
        ("total < 2000", "EUR KWD"),
        ("total = 1.999", "KWD"),
        ("total <= 1.9989", ""),
        ("total < 1.9991", "KWD"),
        ("total > -1", "EUR JPY KWD"),
        ("total < -0.001", ""),
        ("total < 999999999999999", "EUR JPY KWD"),
        ("total < 1e-400", ""),
        ("currency_code = JPY AND total >= 2000", "JPY"),
        ("currency_code = EUR OR total < 2", "EUR KWD"),
        ("currency_code : W", "KWD"),
    ],
)
def test_total_is_compared_in_the_units_of_each_currency(shop: Shop, totals, filter_text: str, found: str):
    got = names(shop, "ListOrders", f"customer = {totals['customer']} AND ({filter_text})")
    assert got == {totals[code] for code in found.split()}


def test_orders_are_found_by_state_and_time(shop: Shop):
    orders = [shop.order() for _ in range(3)]
    confirmed, cancelled = shop.confirm(orders[1]), shop.cancel(orders[2])
    any_of_them = " OR ".join(f"customer = {order.customer}" for order in orders)
    for state, order in (("PLACED", orders[0]), ("CONFIRMED", confirmed), ("CANCELLED", cancelled)):
        assert names(shop, "ListOrders", f"({any_of_them}) AND state = {state}") == {order.name}
    since = confirmed.update_time.ToDatetime().isoformat() + "Z"
    found = names(shop, "ListOrders", f'({any_of_them}) AND update_time >= "{since}"')
    assert found == {confirmed.name, cancelled.name}


# -- logic


@pytest.mark.parametrize(
    ("filter_text", "found"),
    [
        ("A OR B", "AB"),
        ("NOT A", "BC"),
        ("NOT (A OR B)", "C"),
        ("A AND B", ""),
        ("NOT A AND NOT B", "C"),
        ("C AND A OR B", ""),
        ("A OR B AND B OR C", "B"),
        ("(A AND A) OR C", "AC"),
        ("((((B))))", "B"),
        ("NOT NOT A", "A"),
        ("-A", "BC"),
        ("-(A OR B)", "C"),
        ("--A", "A"),
        ("NOT -A", "A"),
        ("-A AND -B", "C"),
        ("A OR -C", "AB"),
    ],
)
def test_or_binds_tighter_than_and(shop: Shop, filter_text: str, found: str):
    mark, created = marked(shop, PRODUCT, "A", "B", "C")
    terms = re.sub(r"\b([ABC])\b", rf'display_name = "{mark}\1"', filter_text)
    got = names(shop, "ListProducts", f'display_name : "{mark}" AND ({terms})')
    assert got == {name for name, letter in zip(created, "ABC", strict=True) if letter in found}


def test_filter_of_blanks_lets_all_through(shop: Shop):
    name = shop.product().name
    assert name in names(shop, "ListProducts", " \t\n ", order_by="create_time desc")


# -- errors and their positions


@pytest.mark.parametrize(
    ("filter_text", "position"),
    [
        ("=", 1),
        ("state", 6),
        ("state =", 8),
        ("state = ACTIVE AND", 19),
        ("state = ACTIVE ) ", 16),
        ("(state = ACTIVE", 16),
        ("state = ACTIVE state = ACTIVE", 16),
        ("state == ACTIVE", 8),
        ("state = ACTIVE && 1", 16),
        ('display_name = "open', 16),
        ("state = GONE", 9),
        ("state > ACTIVE", 7),
        ("state : ACTIVE", 7),
        ("create_time : 2026", 13),
        ("create_time > yesterday", 15),
        ('create_time > "2026-01-01T00:00:00"', 15),
        ("create_time > 1", 15),
        ("display_name = a AND nothing = 1", 22),
        ("AND", 4),
        ("NOT", 4),
        ("()", 2),
        ("display_name = é", 16),
        ("\x00", 1),
        ("état = ACTIVE", 1),
        ("state = ACTIVE\x00", 15),
        ("state = ACTIVE -state = ACTIVE", 16),
        ("-", 2),
        ("labels", 7),
        ("labels = x", 8),
        ("labels.season < x", 15),
        ("labels.", 8),
        ('labels : "a*"', 10),
        ("state.x = 1", 1),
        ('display_name = "*"', 16),
        ('display_name = "a*b"', 16),
        ('display_name = "*b"', 16),
        ('display_name = "a**"', 16),
        ('display_name : "a*"', 16),
        ("display_name < a*", 16),
        ("display_name = *", 16),
        ("state = ACT*", 9),
        ("create_time = 2026*", 15),
        ('state:"*"', 6),
    ],
)
def test_mistake_is_refused_with_its_position(shop: Shop, filter_text: str, position: int):
    with refused("INVALID_FILTER") as refusal:
        listed(shop, "ListProducts", filter_text)
    assert refusal.metadata["position"] == str(position)


@pytest.mark.parametrize(
    "number",
    ["ten", "1.5", "9223372036854775808", "-9223372036854775809", "1e3", "0x10", "NaN", "1_000", '" 1 "', '"२"'],
)
def test_number_that_is_not_whole_is_refused(shop: Shop, number: str):
    with refused("INVALID_FILTER") as refusal:
        listed(shop, "ListStockLevels", f"on_hand = {number}")
    assert refusal.metadata["position"] == "11"


@pytest.mark.parametrize(
    "number",
    ["ten", "NaN", "sNaN", "Infinity", "-inf", "1e15", "1e999999999", "1.2.3", "--1", "1_0.5", '" 1 "', '"२"', "."],
)
def test_total_that_is_no_number_is_refused(shop: Shop, number: str):
    with refused("INVALID_FILTER") as refusal:
        listed(shop, "ListOrders", f"total = {number}")
    assert refusal.metadata["position"] == "9"


def test_whole_numbers_reach_to_64_bits(shop: Shop):
    assert names(shop, "ListStockLevels", "on_hand > 9223372036854775807") == set()


@pytest.mark.parametrize(
    "filter_text",
    [
        "(" * 500 + "state = ACTIVE" + ")" * 500,
        "NOT " * 400 + "state = ACTIVE",
        "-" * 400 + "state = ACTIVE",
        "-(" * 400 + "state = ACTIVE" + ")" * 400,
        " AND ".join(["state = ACTIVE"] * 60),
        " OR ".join(["state = ACTIVE"] * 60),
        "(" * 2000,
        ")" * 2000,
        '"' * 1999,
        "\\" * 2000,
        "a" * 2000,
    ],
    ids=["parentheses", "nots", "minuses", "negated", "ands", "ors", "open", "closed", "quotes", "backslashes", "word"],
)
def test_deep_or_long_filter_is_refused(shop: Shop, filter_text: str):
    with refused("INVALID_FILTER"):
        listed(shop, "ListProducts", filter_text[:2000])


@pytest.mark.parametrize("negation", ["NOT ", "-"])
def test_filter_has_at_most_50_parentheses_and_negations(shop: Shop, negation: str):
    deepest = negation * 40 + "(" * 10 + "state = ACTIVE" + ")" * 10
    assert listed(shop, "ListProducts", deepest) is not None
    with refused("INVALID_FILTER") as refusal:
        listed(shop, "ListProducts", f"-{deepest}")
    assert refusal.text == "filter, position 1: more than 50 parentheses and negations"


def test_filter_beyond_its_limit_is_refused(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        listed(shop, "ListProducts", "a" * 2001)
    assert list(refusal.violations) == ["filter"]


@pytest.mark.parametrize("rpc", LISTS)
def test_longest_filter_that_is_allowed_is_answered(shop: Shop, rpc: str):
    field = FILTER_FIELDS[rpc][-1]
    value = '"2026-01-01T00:00:00Z"' if field.endswith("time") else "x"
    term = f"{field} < {value}"
    assert listed(shop, rpc, " AND ".join([term] * min(50, 1_950 // len(f"{term} AND ")))) is not None


# -- random filters: a page or INVALID_FILTER, never an internal error

VALUES = st.one_of(
    st.text(max_size=20),
    st.integers(-(2**70), 2**70).map(str),
    st.decimals().map(str),
    st.datetimes().map(lambda time: time.isoformat() + "Z"),
    st.sampled_from(["ACTIVE", "PLACED", "COUNT", "NULL", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59-23:59"]),
)


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _filters(fields: Iterable[str]) -> st.SearchStrategy[str]:
    """Return filters, most of them valid."""
    values = VALUES | VALUES.map(_quoted) | st.just("*") | VALUES.map(lambda value: _quoted(f"{value}*"))
    term = st.tuples(st.sampled_from(list(fields)), st.sampled_from([*COMPARISONS, ":"]), values).map(" ".join)
    return st.recursive(
        term,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from([" AND ", " OR "]), inner).map("".join),
            inner.map(lambda one: f"NOT {one}"),
            inner.map(lambda one: f"-{one}"),
            inner.map(lambda one: f"({one})"),
        ),
        max_leaves=5,
    )


quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("rpc", LISTS)
@quick
@given(data=st.data())
def test_filter_that_mostly_parses_is_answered_or_refused(shop: Shop, rpc: str, data):
    filter_text = data.draw(_filters(FILTER_FIELDS[rpc]))
    outcome = refusal(listed, shop, rpc, filter_text)
    assert outcome is None or outcome.reason in ("INVALID_FILTER", "INVALID_FIELD")
    assert outcome is None or outcome.reason == "INVALID_FIELD" or outcome.metadata["position"].isdigit()


@pytest.mark.parametrize("rpc", LISTS)
@quick
@given(filter_text=st.text(max_size=200), order_by=st.text(max_size=60))
@example(filter_text="", order_by="EXCEPTION")
@example(filter_text="sqlite = 1", order_by="")
def test_text_as_filter_and_order_is_answered_or_refused(shop: Shop, rpc: str, filter_text: str, order_by: str):
    outcome = refusal(listed, shop, rpc, filter_text, order_by=order_by)
    assert outcome is None or outcome.reason in ("INVALID_FILTER", "INVALID_ORDER_BY")


# -- the same on every engine: text compares by bytes, and `:` ignores the case of ASCII letters


def test_contains_knows_the_case_of_letters_beyond_ascii_only(shop: Shop):
    mark = new_id()
    names = [f"{mark} Äpfel TEA", f"{mark} äpfel tea", f"{mark} apfel 50%_\\"]
    for name in names:
        shop.product(display_name=name)

    def containing(text: str) -> list[str]:
        filter_text = f'display_name : "{mark}" AND display_name : "{text}"'
        return sorted(product.display_name for product in listed(shop, "ListProducts", filter_text).products)

    assert containing("tea") == containing("TEA") == sorted(names[:2])
    assert containing("äpfel") == [names[1]]
    assert containing("Äpfel") == [names[0]]
    assert containing("%") == containing("_") == containing("\\\\") == [names[2]]


def test_text_is_ordered_by_its_bytes(shop: Shop):
    mark = new_id()
    names = [f"{mark}{end}" for end in ("", " z", "-", "A", "Z", "_", "a", "z", "~", "Ä", "ä", "\uff41", "🫖")]
    for name in reversed(names):
        shop.product(display_name=name)
    filter_text = f'display_name : "{mark}"'
    for order_by, expected in (("display_name", names), ("display_name desc", names[::-1])):
        found: list[str] = []
        token = ""
        while token or not found:
            page = shop.products.ListProducts(
                products_pb2.ListProductsRequest(filter=filter_text, order_by=order_by, page_size=3, page_token=token)
            )
            found += [product.display_name for product in page.products]
            token = page.next_page_token
        assert found == expected
    later_rows = listed(shop, "ListProducts", f'{filter_text} AND display_name > "{mark}a"')
    behind = [p.display_name for p in later_rows.products]
    assert sorted(behind) == sorted(names[7:])


def test_filter_by_lines_has_few_terms(shop: Shop):
    """Each of them reads the lines of every order."""
    terms = [f'lines.sku:"x{number}"' for number in range(6)]
    most = orders_pb2.ListOrdersRequest(filter=" OR ".join(terms[:5]))
    assert not shop.orders.ListOrders(most).orders
    for text in (" OR ".join(terms), f"-({' AND '.join(terms[:3])}) AND {' AND '.join(terms[3:])}"):
        problem = refusal(shop.orders.ListOrders, orders_pb2.ListOrdersRequest(filter=text))
        assert problem.reason == "INVALID_FILTER"
        assert "more than 5 terms with lines.sku" in problem.text
