"""The form of a step of the walk, and the steps that many resources share.

A step is written as in HTTP: `POST /v1/orders/{order}:confirm` and its body. `{order}` is replaced by what an earlier
step has saved under this name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Step:
    """One request.

    Attributes:
        request: HTTP method and target, such as `GET /v1/products/assam`.
        body: JSON of the body; None without one.
        saves: name under which later steps use a value, and the path of the value in the reply, such as `order: name`.
        caller: saved name of the access token of its caller; empty for the administrator.
    """

    request: str
    body: Any = None
    saves: dict[str, str] = field(default_factory=dict)
    caller: str = ""


def eur(amount: str) -> dict[str, Any]:
    """Return an amount in euros, such as `4.50`, as JSON."""
    units, _, cents = amount.partition(".")
    money: dict[str, Any] = {"currencyCode": "EUR"}
    if int(units):
        money["units"] = units
    if cents:
        money["nanos"] = int(cents) * 10_000_000
    return money


def read(path: str, *, query: str = "pageSize=5", batch: str = "") -> tuple[Step, ...]:
    """Return the steps that get a resource, list its collection, and get several resources at once.

    Args:
        path: path of the resource, such as `/v1/products/assam`.
        query: query of the list.
        batch: name of another resource, to get both at once, both ways; empty without such an operation.
    """
    collection, _, _ = path.rpartition("/")
    steps = (Step(f"GET {path}"), Step(f"GET {collection}?{query}"))
    if not batch:
        return steps
    names = (path.removeprefix("/v1/"), batch)
    by_query = "&".join(f"names={name}" for name in names)
    return (
        *steps,
        Step(f"GET {collection}:batchGet?{by_query}"),
        Step(f"POST {collection}:batchGet", {"names": list(names)}),
    )


def post(path: str, verbs: Sequence[str], body: Any = None) -> tuple[Step, ...]:
    """Return a step for each custom verb on a resource, in order."""
    return tuple(Step(f"POST {path}:{verb}", {} if body is None else body) for verb in verbs)


def remove_and_restore(path: str) -> tuple[Step, ...]:
    """Return the steps that delete a resource and restore it."""
    return (Step(f"DELETE {path}"), Step(f"POST {path}:undelete", {}))
