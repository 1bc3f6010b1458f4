"""The contract of this server: the list of its services, and the options of each RPC.

This is the only such list: health, reflection, the interceptors, the servicers and the tests use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from storekeep.server.domain.calls import READ_PERSONAL_DATA
from storekeep.server.transport.rpc import BULK, Method
from storekeep.v1 import (
    audit_pb2,
    auth_pb2,
    customers_pb2,
    events_pb2,
    inventory_pb2,
    options_pb2,
    orders_pb2,
    pricing_pb2,
    products_pb2,
    quotes_pb2,
    users_pb2,
    webhooks_pb2,
)

FILES = (
    products_pb2,
    inventory_pb2,
    customers_pb2,
    orders_pb2,
    quotes_pb2,
    auth_pb2,
    users_pb2,
    audit_pb2,
    events_pb2,
    webhooks_pb2,
    pricing_pb2,
)
SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()
)
"""The services of the contract, in display order."""


RATE_LIMIT_CLASSES = {
    options_pb2.RATE_LIMIT_CLASS_UNSPECIFIED: "",
    options_pb2.RATE_LIMIT_CLASS_BULK: BULK,
    options_pb2.RATE_LIMIT_CLASS_ADMIN: "admin",
}
"""Names of the contract's rate limit classes in settings."""


@dataclass(frozen=True, slots=True)
class Contract:
    """The services of `storekeep.v1`.

    Attributes:
        services: the full names of the services.
        methods: the methods by gRPC path, such as `/storekeep.v1.OrderService/PlaceOrder`.
        changes: the gRPC paths of the methods that the leader must serve.
    """

    services: tuple[str, ...]
    methods: dict[str, Method]
    changes: frozenset[str]

    @property
    def permissions(self) -> frozenset[str]:
        """The permissions that RPCs require, without `public` and `authenticated`, and the one for personal data."""
        required = (method.permission for method in self.methods.values() if "." in method.permission)
        return frozenset({READ_PERSONAL_DATA, *required})


@cache
def read_contract() -> Contract:
    """Return the contract, as compiled into the generated code."""
    descriptors = {f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods}
    return Contract(
        services=tuple(service.full_name for service in SERVICES),
        methods={path: _read_method(path, descriptor) for path, descriptor in descriptors.items()},
        changes=frozenset(path for path, descriptor in descriptors.items() if _runs_on_leader(descriptor)),
    )


def add_servicers(server: grpc.Server, servicers: Mapping[str, Any]) -> None:
    """Register the servicers of the contract with a server.

    Args:
        servicers: the servicers by short service name, such as `OrderService`.

    Raises: ValueError if they do not match the services of the contract.
    """
    services = {service.name: service for service in SERVICES}
    if servicers.keys() != services.keys():
        raise ValueError(f"servicers do not match the contract: {sorted(servicers.keys() ^ services.keys())}")
    for name, servicer in servicers.items():
        _add_servicer(server, services[name], servicer)


def _add_servicer(server: grpc.Server, service: ServiceDescriptor, servicer: Any) -> None:
    """Register one service, as the generated `add_..._to_server` functions do."""
    handlers = {
        method.name: _choose_handler(method)(
            getattr(servicer, method.name),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
        for method in service.methods
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
    server.add_registered_method_handlers(service.full_name, handlers)


def _choose_handler(method: MethodDescriptor) -> Callable[..., Any]:
    """Return gRPC's function that makes the handler of a method."""
    return grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler


def _read_method(path: str, descriptor: MethodDescriptor) -> Method:
    return Method(
        name=path.removeprefix("/"),
        permission=descriptor.GetOptions().Extensions[options_pb2.permission],
        request_type=GetMessageClass(descriptor.input_type),
        rate_limit_class=RATE_LIMIT_CLASSES[descriptor.GetOptions().Extensions[options_pb2.rate_limit_class]],
        response_type=GetMessageClass(descriptor.output_type),
        is_stream=descriptor.server_streaming,
        hashes_passwords=_read_executor(descriptor) == options_pb2.EXECUTOR_PASSWORD,
    )


def _runs_on_leader(descriptor: MethodDescriptor) -> bool:
    """Return whether an RPC must run on the leader, according to its option `executor`.

    Raises: ValueError if the contract does not set the option.
    """
    executor = _read_executor(descriptor)
    if executor == options_pb2.EXECUTOR_UNSPECIFIED:
        raise ValueError(f"{descriptor.full_name} has no option executor")
    return executor in (options_pb2.EXECUTOR_WRITER, options_pb2.EXECUTOR_PASSWORD)


def _read_executor(descriptor: MethodDescriptor) -> int:
    executor: int = descriptor.GetOptions().Extensions[options_pb2.executor]
    return executor
