"""Reference page of the errors: each reason with its meaning, gRPC code, HTTP status and log level."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import re

import grpc
from compilation import PROTOS
from contract import Value, read_contract

from docs.pages.markdown import code, head, link, table
from storekeep.server import domain, store
from storekeep.server.domain.errors import DomainError
from storekeep.server.interceptors.error_table import ERRORS, UNKNOWN, Row
from storekeep.server.store.errors import StoreError
from storekeep.server.transport.errors import TransportError

CONTRACT = read_contract()
# HTTP status of each gRPC code, as in google/rpc/code.proto.
HTTP_STATUS: dict[grpc.StatusCode, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
ROWS: dict[str, Row] = {
    **{row.reason: row for row in ERRORS.values()},
    UNKNOWN.reason: UNKNOWN,
}
for package in (domain, store):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)  # makes `__subclasses__` of the roots complete

ROOTS: tuple[type[Exception], ...] = (DomainError, StoreError, TransportError)
"""The roots of the server's exception trees."""
TREES = """
## The server's exceptions

Each reason is the wire form of an exception in the server: of the domain, of the store, or of the transport. Only leaf
classes are raised. Those without a reason are raised only before the server accepts calls.

```
{trees}
```
"""
INTRODUCTION = """
A failed call ends with a `google.rpc.Status`. Its details contain an `ErrorInfo` with the domain `storekeep`, one of
the reasons below, and metadata; a `RequestInfo` with the request id, under which the server logs the call; a
`BadRequest` if fields are invalid; and a `RetryInfo` if a retry can succeed. Distinguish errors by reason, never by
text.

{precedence} Each RPC's own reasons are listed with it, [in order of precedence](api/README.md).
"""


def describe_precedence() -> str:
    """Return the paragraph at the head of errors.proto about shared reasons, with links."""
    source = (PROTOS / "storekeep/v1/errors.proto").read_text()
    comment = source.partition("syntax =")[0].replace("//", "")
    paragraph = " ".join(comment.split("\n\n")[1].split())
    return re.sub("|".join(rf"\b{name}\b" for name in ROWS), lambda match: link_reason(match[0]), paragraph)


def link_reason(reason: str) -> str:
    """Return a reason as a link to its row."""
    return link(reason, f"#{reason.lower()}")


def build_reason_row(reason: Value) -> tuple[str, ...]:
    """Return the table row of one reason."""
    row = ROWS[reason.name]
    name = f'<a id="{reason.name.lower()}"></a>{code(reason.name)}'
    retry, level = "yes" if row.retryable else "", logging.getLevelName(row.level)
    return name, code(row.code.name), str(HTTP_STATUS[row.code]), retry, code(level), reason.comment


def list_children(kind: type[Exception]) -> list[type[Exception]]:
    """Return the server's direct subclasses of an exception, in the order of their definition."""
    return [child for child in kind.__subclasses__() if child.__module__.startswith("storekeep.")]


def draw_tree(kind: type[Exception], *, indent: str = "") -> str:
    """Return the tree of an exception's subclasses as text, one class a line, each leaf with its reason."""
    lines = [kind.__name__] if not indent else []
    children = list_children(kind)
    for child in children:
        last = child is children[-1]
        name = f"{indent}{'└── ' if last else '├── '}{child.__name__}"
        lines.append(f"{name:<36}{ERRORS[child].reason}" if child in ERRORS else name)
        if below := draw_tree(child, indent=f"{indent}{'    ' if last else '│   '}"):
            lines.append(below)
    return "\n".join(lines)


def build_page() -> str:
    """Return the page."""
    columns = ("Reason", "gRPC", "HTTP", "Retry", "Log", "Meaning")
    source = "protos/storekeep/v1/errors.proto and the server's error table"
    trees = TREES.format(trees="\n".join(map(draw_tree, ROOTS)))
    introduction = INTRODUCTION.format(precedence=describe_precedence())
    reasons = table(columns, map(build_reason_row, CONTRACT.reasons))
    return f"{head('Errors', source=source)}{introduction}\n{reasons}{trees}"
