"""The page of errors: what each reason means, and what it is on the wire, over HTTP and in the log."""

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
# How each gRPC code travels over HTTP: google/rpc/code.proto.
HTTP_STATUS: dict[grpc.StatusCode, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
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
        importlib.import_module(module.name)  # so that each class below a root is known

ROOTS: tuple[type[Exception], ...] = (DomainError, StoreError, TransportError)
"""The roots of the server's trees of errors."""
TREES = """
## The server's classes

Each reason is what a class of the server's code becomes on the wire: the domain refuses, the store cannot, or the call
does not get as far. Only leaves are raised; those without a reason are raised before there are calls.

```
{trees}
```
"""
INTRODUCTION = """
A call that fails ends with a `google.rpc.Status`. Its details hold an `ErrorInfo` with the domain `storekeep`, one of
the reasons below, and the particulars as metadata; a `RequestInfo` with the id under which the server's log has the
call; a `BadRequest` where fields are wrong; a `RetryInfo` where waiting helps. Tell errors apart by the reason, never
by the text.

{precedence} The reasons of its own stand with each RPC, [in the order of precedence](api/README.md).
"""


def precedence() -> str:
    """What the head of errors.proto says about the reasons that RPCs share, with links."""
    source = (PROTOS / "storekeep/v1/errors.proto").read_text()
    comment = source.partition("syntax =")[0].replace("//", "")
    paragraph = " ".join(comment.split("\n\n")[1].split())
    return re.sub("|".join(rf"\b{name}\b" for name in ROWS), lambda found: linked(found[0]), paragraph)


def linked(reason: str) -> str:
    """A reason as a link to its row."""
    return link(reason, f"#{reason.lower()}")


def reason_row(reason: Value) -> tuple[str, ...]:
    """One line of the table."""
    row = ROWS[reason.name]
    name = f'<a id="{reason.name.lower()}"></a>{code(reason.name)}'
    retry, level = "yes" if row.retryable else "", logging.getLevelName(row.level)
    return name, code(row.code.name), str(HTTP_STATUS[row.code]), retry, code(level), reason.comment


def children_of(kind: type[Exception]) -> list[type[Exception]]:
    """Return the classes of the server right below one, in the order of their definition."""
    return [child for child in kind.__subclasses__() if child.__module__.startswith("storekeep.")]


def draw(kind: type[Exception], *, indent: str = "") -> str:
    """Return a tree of classes as text: one on each line, a leaf with its reason."""
    lines = [kind.__name__] if not indent else []
    children = children_of(kind)
    for child in children:
        last = child is children[-1]
        name = f"{indent}{'└── ' if last else '├── '}{child.__name__}"
        lines.append(f"{name:<36}{ERRORS[child].reason}" if child in ERRORS else name)
        if below := draw(child, indent=f"{indent}{'    ' if last else '│   '}"):
            lines.append(below)
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    columns = ("Reason", "gRPC", "HTTP", "Retry", "Log", "Meaning")
    source = "protos/storekeep/v1/errors.proto and the server's error table"
    trees = TREES.format(trees="\n".join(map(draw, ROOTS)))
    introduction = INTRODUCTION.format(precedence=precedence())
    return f"{head('Errors', source=source)}{introduction}\n{table(columns, map(reason_row, CONTRACT.reasons))}{trees}"
