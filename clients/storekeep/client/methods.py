"""Any method of the contract by its name, with messages instead of typed arguments."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

import storekeep.v1
from storekeep.client.calls import Calls
from storekeep.client.error_families import InvalidSettings

MODULE_SUFFIX = "_pb2"
PACKAGE = "storekeep.v1."


class Methods:
    """Finds and calls methods by name."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._channel = channel

    @cached_property
    def by_path(self) -> Mapping[str, MethodDescriptor]:
        """All methods of the contract by their paths, such as `OrderService/PlaceOrder`."""
        names = sorted(module.name for module in pkgutil.iter_modules(storekeep.v1.__path__))
        modules = [import_module(PACKAGE + name) for name in names if name.endswith(MODULE_SUFFIX)]
        services = (service for module in modules for service in module.DESCRIPTOR.services_by_name.values())
        return {f"{service.name}/{method.name}": method for service in services for method in service.methods}

    def find(self, name: str) -> MethodDescriptor:
        """Return a method by its name, as `PlaceOrder`, `OrderService/PlaceOrder` or with the name of the package.

        Raises: InvalidSettings, with the method that may be meant.
        """
        service, _, method = name.strip().removeprefix("/").removeprefix(PACKAGE).replace(".", "/").rpartition("/")
        methods = (one for one in self.by_path.values() if service in ("", one.containing_service.name))
        by_name = {one.name.lower(): one for one in methods}
        if method.lower() not in by_name:
            close = get_close_matches(method.lower(), by_name, n=1)
            raise InvalidSettings(
                f"no such method: {name}" + "".join(f"; did you mean {by_name[one].name}?" for one in close)
            )
        return by_name[method.lower()]

    def call(self, method: MethodDescriptor, request: Message, *, timeout_s: float | None = None) -> Message:
        """Call a method. A mutation without a `request_id` gets one, so that a retry has no second effect.

        Args:
            request: a message of the type that `new_request` returns.
            timeout_s: deadline of the call in seconds, retries included (default: the client's `timeout_s`).
        """
        callable_method: Any = self._channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        mutation: Any = request
        if is_mutation(method):
            reply: Message = self._calls.write(
                callable_method,
                mutation,
                timeout_s=timeout_s,
                request_id=mutation.request_id,
                validate_only=mutation.validate_only,
            )
            return reply
        answer: Message = self._calls.read_current(callable_method, request, timeout_s=timeout_s)
        return answer


def is_mutation(method: MethodDescriptor) -> bool:
    """Return whether a method changes data, and can validate a call without doing so."""
    return {"request_id", "validate_only"} <= set(method.input_type.fields_by_name)


def new_request(method: MethodDescriptor) -> Message:
    """Return an empty request of a method."""
    request: Message = message_factory.GetMessageClass(method.input_type)()
    return request
