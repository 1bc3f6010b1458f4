"""Every limit in a docstring, a help text or a comment of the contract equals the limit that the contract enforces."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from inspect import signature
from pathlib import Path

import pytest
from contract import PACKAGE, Field, Method

from storekeep.cli import inventory as cli_inventory
from storekeep.cli import reservations as cli_reservations
from storekeep.cli.imports import order_runs, taken_stock
from storekeep.cli.imports import orders as cli_orders
from storekeep.imports import columns, ids
from storekeep.server.domain.integrity.reconciliation import SKUS_DEFAULT
from storekeep.server.domain.money import AMOUNT_MINOR_MAX
from storekeep.server.domain.orders.history import CHANGES_MAX
from storekeep.server.domain.orders.quotes import TTL_MAX_US
from storekeep.server.domain.personal_data.erasures import MERGED_CUSTOMERS_MAX, MERGED_ORDERS_MAX
from storekeep.server.domain.standard.lists import Listing
from storekeep.server.domain.standard.pages import PAGE_SIZE_MAX, TOTAL_MAX
from storekeep.server.domain.standard.searches import PAGE_SIZE_DEFAULT as SEARCH_SIZE_DEFAULT
from storekeep.server.domain.standard.searches import PAGE_SIZE_MAX as SEARCH_SIZE_MAX
from storekeep.server.runtime.durations import DAY_US
from tests.house.test_coverage import CLIENT_CALLS, CONTRACT
from tests.support.checkout import python_files, text

METHODS = {method.name: method for method in CONTRACT.methods}
RPCS_OF_CALLS = {call: rpc for rpc, call in CLIENT_CALLS.items()}
STATED = re.compile(
    r"\b(?:(?:up to|at most|no more than|[01] to) (?=\d)|(?=\d[\d,]*;? when 0))(\d[\d,]*)", re.IGNORECASE
)
DAY_S = 86_400
UNITS_S = (1, 3_600, DAY_S)
"""The units of durations in prose, in seconds."""
LIST_SIZE_DEFAULT: int = signature(Listing).parameters["page_size_default"].default


def field(path: str) -> Field:
    """Return a field by message and name, such as `Product.description`."""
    message, _, name = path.partition(".")
    found = CONTRACT.messages[f"{PACKAGE}.{message}"].get_field(name)
    assert found is not None, path
    return found


def bounds(one: Field) -> set[int]:
    """Return the upper bounds of a field: of its number, characters or items; durations in every unit."""
    rules = one.rules
    found = {rules.repeated.max_items, rules.map.max_pairs, rules.bytes.max_len, rules.int32.lte, rules.int64.lte}
    found |= {rules.duration.lte.seconds // unit for unit in UNITS_S}
    for each in (rules, rules.repeated.items, rules.map.keys, rules.map.values):
        found.add(each.string.max_len)
        repetitions = re.findall(r"(\[[^]]*\])?\[[^]]*\]\{\d,(\d+)\}", each.string.pattern)
        found |= {int(last) + bool(first) for first, last in repetitions}
    return found - {0}


def find_request_bounds(name: str) -> set[int]:
    """Return the bounds of all fields of a message and of the messages in it."""
    message = CONTRACT.messages.get(name)
    found: set[int] = set()
    for one in message.fields if message else ():
        found |= bounds(one) | (find_request_bounds(one.kind) if one.is_message else set())
    return found


# Limits in comments of fields that the server's code enforces, because no rule of the contract can.
IN_CODE: dict[str, set[int]] = {
    "ReconcileStockRequest.page_size": {SKUS_DEFAULT, PAGE_SIZE_MAX},
    "MergeCustomersRequest.source": {MERGED_ORDERS_MAX, MERGED_CUSTOMERS_MAX},
    "OrderHistoryEntry.changes": {CHANGES_MAX},
    "Variant.prices": {AMOUNT_MINOR_MAX},
    "Quote.expire_time": {TTL_MAX_US // DAY_US},
    "SearchProductsRequest.page_size": {SEARCH_SIZE_DEFAULT, SEARCH_SIZE_MAX},
    "SearchCustomersRequest.page_size": {SEARCH_SIZE_DEFAULT, SEARCH_SIZE_MAX},
    "SearchOrdersRequest.page_size": {SEARCH_SIZE_DEFAULT, SEARCH_SIZE_MAX},
}
BY_NAME = {"page_size": {LIST_SIZE_DEFAULT, PAGE_SIZE_MAX}, "total_size": {TOTAL_MAX}}


def enforced(message: str, one: Field) -> set[int]:
    """Return the bounds of a field, of messages in it, and those that the server's code enforces."""
    below = find_request_bounds(one.kind) if one.is_message else set()
    in_code = IN_CODE.get(f"{message.removeprefix(f'{PACKAGE}.')}.{one.name}", BY_NAME.get(one.name, set()))
    return bounds(one) | below | in_code


def stated(prose: str) -> list[int]:
    """Return the limits that a text states."""
    plain = re.sub(r"10\^(\d+)", lambda power: str(10 ** int(power[1])), " ".join(prose.split()))
    return [int(number.replace(",", "")) for number in STATED.findall(plain)]


def list_texts(node: ast.AST) -> Iterator[str]:
    """Yield the texts in a piece of code: docstrings, help texts and messages."""
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value


def list_calls(function: ast.AST) -> Iterator[Method]:
    """Yield the RPCs that a function calls, through a stub or through the client library."""
    for one in ast.walk(function):
        if isinstance(one, ast.Attribute):
            name = RPCS_OF_CALLS.get(".".join(ast.unparse(one).split(".")[-2:]), one.attr)
            if name in METHODS:
                yield METHODS[name]


# Limits that are not stated where an RPC is called: the allowed values by file and number.
PAGES, CELLS = "clients/storekeep/client/pages.py", "clients/storekeep/imports"
ELSEWHERE: dict[tuple[str, int], set[int]] = {
    (PAGES, 1000): {PAGE_SIZE_MAX},
    (PAGES, 10_000): {TOTAL_MAX},
    (PAGES, 50): {LIST_SIZE_DEFAULT},
    ("clients/storekeep/client/products.py", 20): {SEARCH_SIZE_DEFAULT},
    ("clients/storekeep/client/products.py", 100): {SEARCH_SIZE_MAX},
    ("clients/storekeep/client/customers.py", 20): {SEARCH_SIZE_DEFAULT},
    ("clients/storekeep/client/customers.py", 100): {SEARCH_SIZE_MAX},
    ("clients/storekeep/client/orders.py", 20): {SEARCH_SIZE_DEFAULT},
    ("clients/storekeep/client/orders.py", 100): {SEARCH_SIZE_MAX},
    (f"{CELLS}/ids.py", 63): {ids.ID_CHARS_MAX} & bounds(field("CreateCustomerRequest.customer_id")),
    (f"{CELLS}/ids.py", 64): bounds(field("Variant.sku")),
    (f"{CELLS}/products.py", 64): bounds(field("Variant.sku")),
    (f"{CELLS}/products.py", 10_000): bounds(field("Product.description")),
    (f"{CELLS}/categories.py", 63): bounds(field("CreateCategoryRequest.category_id")),
    (f"{CELLS}/categories.py", 5000): bounds(field("Category.description")),
    (f"{CELLS}/customers.py", 63): bounds(field("CreateCustomerRequest.customer_id")),
    ("clients/storekeep/cli/imports/orders.py", 64): bounds(field("HistoricOrder.number")),
    ("clients/storekeep/cli/imports/orders.py", 2000): bounds(field("HistoricOrder.note")),
}
# The limits that the command line checks before a call.
CONSTANTS: dict[str, tuple[int, str]] = {
    "inventory.UNITS_MAX": (cli_inventory.UNITS_MAX, "AdjustStockRequest.quantity_delta"),
    "inventory.UNITS_MAX as a level": (cli_inventory.UNITS_MAX, "SetStockRequest.quantity"),
    "reservations.TTL_MAX_S": (cli_reservations.TTL_MAX_S, "ReserveStockRequest.ttl"),
    "columns.INTEGER_MAX": (columns.INTEGER_MAX, "SetStockRequest.quantity"),
    "orders.LINES_MAX": (cli_orders.LINES_MAX, "HistoricOrder.lines"),
    "orders.QUANTITY_MAX": (cli_orders.QUANTITY_MAX, "HistoricOrderLine.quantity"),
    "orders.TEXT_CHARS_MAX carrier": (cli_orders.TEXT_CHARS_MAX["carrier"], "HistoricOrder.carrier"),
    "orders.TEXT_CHARS_MAX tracking_number": (
        cli_orders.TEXT_CHARS_MAX["tracking_number"],
        "HistoricOrder.tracking_number",
    ),
    "orders.TEXT_CHARS_MAX note": (cli_orders.TEXT_CHARS_MAX["note"], "HistoricOrder.note"),
    "order_runs.BATCH_ORDERS_MAX": (order_runs.BATCH_ORDERS_MAX, "ImportOrdersRequest.orders"),
    "taken_stock.TAKEN_MAX": (taken_stock.TAKEN_MAX, "ImportOrdersRequest.taken_units"),
}


def statements(path: Path) -> Iterator[tuple[str, int, set[int]]]:
    """Yield each limit that a file of the clients states: its place, its number, and the allowed numbers."""
    tree = ast.parse(text(path))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inside: set[int] = set()
    for function in functions:
        allowed = {bound for method in list_calls(function) for bound in find_request_bounds(method.request)}
        for prose in list_texts(function):
            inside |= set(stated(prose))
            for number in stated(prose):
                yield f"{path}: {function.name}", number, ELSEWHERE.get((str(path), number), allowed)
    for prose in list_texts(tree):
        for number in stated(prose):
            if number not in inside:
                yield str(path), number, ELSEWHERE.get((str(path), number), set())


def test_limits_that_the_clients_state_are_those_of_the_contract() -> None:
    found = [one for path in python_files("clients") for one in statements(path)]
    assert len(found) > 20
    assert not [f"{where} states {number}" for where, number, allowed in found if number not in allowed]


def test_limits_that_the_table_knows_are_stated() -> None:
    found = {(str(path), number) for path in python_files("clients") for _, number, _ in statements(path)}
    assert ELSEWHERE.keys() <= found


@pytest.mark.parametrize("name", CONSTANTS)
def test_limit_that_the_command_line_checks_is_that_of_the_contract(name: str) -> None:
    number, path = CONSTANTS[name]
    assert number in bounds(field(path))


@pytest.mark.parametrize("path", ["clients/storekeep/client/calls.py", "docs/client.md"])
def test_staleness_of_at_most_a_day_is_that_of_every_read(path: str) -> None:
    assert "at most a day" in text(Path(path))
    limits = [CONTRACT.messages[method.request].get_field("max_staleness") for method in METHODS.values()]
    assert {limit.rules.duration.lte.seconds for limit in limits if limit} == {DAY_S}


def test_limits_of_the_code_are_of_fields_that_are_there() -> None:
    assert all(field(path) for path in IN_CODE)


def test_limits_in_the_comments_of_the_contract_are_those_of_its_rules() -> None:
    wrong = [
        f"{name}.{one.name} states {number}"
        for name, message in CONTRACT.messages.items()
        for one in message.fields
        for number in stated(one.comment)
        if number not in enforced(name, one)
    ]
    wrong += [
        f"{name} states {number}"
        for name, method in METHODS.items()
        for number in stated(method.comment)
        if number not in find_request_bounds(method.request)
    ]
    assert not wrong


def test_only_what_is_deleted_softly_is_got_deleted_or_not() -> None:
    client = {CLIENT_CALLS[name]: name for name in METHODS if name.startswith("Get")}
    docstrings = {
        client[call]: ast.get_docstring(function) or ""
        for path in python_files("clients")
        for function in ast.walk(ast.parse(text(path)))
        if isinstance(function, ast.FunctionDef) and (call := f"{path.stem}.{function.name}") in client
    }
    stated_so = {name for name in client.values() if "deleted or not" in METHODS[name].comment + docstrings[name]}
    softly = {name for name in client.values() if CONTRACT.messages[METHODS[name].response].get_field("delete_time")}
    assert stated_so == softly
