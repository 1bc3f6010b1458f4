"""The four standard mutations of a resource as requests that succeed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.order_cases import Prepare
from tests.support.shops import Shop, new_id


class Standard:
    """The requests of one type of resource.

    Args:
        messages: Module of its request messages.
        noun: Name as in `CreatePrice`.
        field: Field of the resource in Create and Update requests.
        build: Builds a new resource that is unlike all others.
        changes: Values of fields that an update changes.
    """

    def __init__(self, messages: Any, noun: str, field: str, build: Callable[[Shop], Any], **changes: Any) -> None:
        self._messages = messages
        self._noun = noun
        self._field = field
        self._build = build
        self._changes = changes

    def request(self, rpc: str, **fields: Any) -> Any:
        """Build the request of an RPC."""
        return getattr(self._messages, f"{rpc}Request")(**fields)

    def create_request(self, shop: Shop) -> Any:
        """Build a request that creates a resource with an id."""
        fields = {self._field: self._build(shop), f"{self._field}_id": new_id("r")}
        return self.request(f"Create{self._noun}", **fields)

    def make(self, shop: Shop) -> Any:
        """Create a resource; return the reply."""
        return shop.stub(f"Create{self._noun}")(self.create_request(shop))

    def make_name(self, shop: Shop) -> str:
        """Create a resource; return its name."""
        reply = self.make(shop)
        return str(getattr(reply, self._field, reply).name)

    def update_request(self, shop: Shop) -> Any:
        """Build a request that updates a new resource."""
        changed = self._build(shop)
        changed.MergeFrom(type(changed)(name=self.make_name(shop), **self._changes))
        return self.request(f"Update{self._noun}", **{self._field: changed})

    def named(self, verb: str, *before: str) -> Prepare:
        """Return a function that builds the request of a verb, after other verbs."""

        def prepare(shop: Shop) -> Any:
            name = self.make_name(shop)
            for earlier in before:
                rpc = f"{earlier}{self._noun}"
                shop.stub(rpc)(self.request(rpc, name=name))
            return self.request(f"{verb}{self._noun}", name=name)

        return prepare

    def all(self) -> dict[str, Prepare]:
        """Return the standard mutations by RPC."""
        return {
            f"Create{self._noun}": self.create_request,
            f"Update{self._noun}": self.update_request,
            f"Delete{self._noun}": self.named("Delete"),
            f"Undelete{self._noun}": self.named("Undelete", "Delete"),
        }
