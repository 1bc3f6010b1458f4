"""The tree of the server's errors: each has one parent, as drawn, and each leaf has one error reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from docs.pages.errors import ROOTS, draw_tree, list_children
from storekeep.client import REASONS, Conflict, InvalidRequest, NotAllowed, NotAuthenticated, NotFound
from storekeep.server.domain import access_errors
from storekeep.server.domain import errors as domain_errors
from storekeep.server.interceptors.error_table import ERRORS, Row
from storekeep.server.store.errors import UnusableDatabase
from tests.support.checkout import ROOT

BRANCH = re.compile(r"[│ ]*[├└]── (\w+) *")
PARENTS_IN_THE_CLIENT = {
    "UNAUTHENTICATED": NotAuthenticated,
    "PERMISSION_DENIED": NotAllowed,
    "INVALID_ARGUMENT": InvalidRequest,
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": Conflict,
    "ABORTED": Conflict,
    "FAILED_PRECONDITION": Conflict,
}
"""The branch of the client's tree for each gRPC status code."""


def walk(root: type[Exception]) -> Iterator[type[Exception]]:
    """Yield the subclasses of a class, recursively."""
    for child in list_children(root):
        yield child
        yield from walk(child)


DRAWN = (domain_errors, access_errors)
"""The modules whose docstrings draw the tree of the domain."""
TREE = [kind for root in ROOTS for kind in walk(root)]
LEAVES = [kind for kind in TREE if not list_children(kind) and not issubclass(kind, UnusableDatabase)]
"""The errors with which a call can end."""


def drawn_parents(docstring: str) -> dict[str, str]:
    """Return the parent of each class in a drawing whose branches list their leaves, separated by commas."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in docstring.splitlines():
        if match := BRANCH.match(line):
            depth = line.index("──") // 4 + 1
            path[depth:] = [match[1]]
            parents[match[1]] = path[depth - 1]
        elif not line.startswith(("│", " ")):
            path = [line.strip()]
            continue
        leaves = line[match.end() :] if match else line
        parents |= dict.fromkeys(re.findall(r"\w+", leaves), path[-1])
    return parents


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_error_has_one_parent(kind: type[Exception]):
    assert len(kind.__bases__) == 1


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_error_with_a_row_is_a_leaf_of_the_tree(kind: type[Exception]):
    assert kind in LEAVES


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_leaf_has_a_row(kind: type[Exception]):
    assert kind in ERRORS


def test_reasons_of_each_tree_are_unique():
    """An error of the domain and one of the transport may share a reason: both can find a field invalid."""
    for root in ROOTS:
        reasons = Counter(ERRORS[kind].reason for kind in walk(root) if kind in ERRORS)
        shared = {"MESSAGE_TOO_LARGE"} if root.__name__ == "TransportError" else set()
        assert {reason for reason, count in reasons.items() if count > 1} == shared


def test_names_that_end_alike_hang_on_one_branch():
    named_so = [kind for kind in TREE if kind.__name__.endswith("NotFound")]
    assert [kind for kind in named_so if not issubclass(kind, domain_errors.NotFound)] == []


@pytest.mark.parametrize("module", DRAWN, ids=lambda module: module.__name__)
def test_docstring_draws_the_classes_of_its_module(module: ModuleType):
    kinds = [kind for kind in walk(domain_errors.DomainError) if kind.__module__ == module.__name__]
    actual = {kind.__name__: kind.__bases__[0].__name__ for kind in kinds}
    assert drawn_parents((module.__doc__ or "").split("\n\n")[1]) == actual


def test_each_error_of_the_domain_is_drawn():
    assert {kind.__module__ for kind in walk(domain_errors.DomainError)} == {module.__name__ for module in DRAWN}


@pytest.mark.parametrize("kind", list_children(access_errors.AccessRefused), ids=lambda kind: kind.__name__)
def test_error_of_access_tells_the_caller_its_permission_only(kind: type[access_errors.AccessRefused]):
    error = (kind() if kind.TEXT else kind("orders.read")).attach_session("secret-session")
    names_permission = issubclass(kind, access_errors.PermissionDenied | access_errors.PrivilegeEscalation)
    assert error.metadata == ({"permission": "orders.read"} if names_permission else {})
    assert error.session_id == "secret-session"


@pytest.mark.parametrize("kind", [access_errors.Unauthenticated, access_errors.IdentityTokenInvalid])
def test_error_without_a_fixed_text_needs_one(kind: Callable[[], Exception]):
    with pytest.raises(TypeError):
        kind()


def test_reference_draws_all_trees():
    page = (ROOT / "docs/reference/errors.md").read_text()
    assert all(draw_tree(root) in page for root in ROOTS)


@pytest.mark.parametrize("row", sorted(set(ERRORS.values()), key=lambda row: row.reason), ids=lambda row: row.reason)
def test_client_hangs_each_reason_where_its_code_says(row: Row):
    parent = PARENTS_IN_THE_CLIENT.get(row.code.name)
    assert parent is None or issubclass(REASONS[row.reason], parent)
