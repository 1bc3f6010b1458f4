"""The contract of this server: its services, listed once here, and what the options of each RPC say.

Health, reflection, the chain, the servicers and the tests take the services from this list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from storekeep.server.transport.rpc import Method
from storekeep.v1 import audit_pb2, auth_pb2, customers_pb2, inventory_pb2, options_pb2, orders_pb2, products_pb2

FILES = (products_pb2, inventory_pb2, customers_pb2, orders_pb2, auth_pb2, audit_pb2)
SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()
)
"""The services of the contract, in the order in which they are shown."""


RATE_LIMIT_CLASSES = {
    options_pb2.RATE_LIMIT_CLASS_UNSPECIFIED: "",
    options_pb2.RATE_LIMIT_CLASS_BULK: "bulk",
    options_pb2.RATE_LIMIT_CLASS_ADMIN: "admin",
}
"""How settings name the classes that methods are given in the contract."""


@dataclass(frozen=True, slots=True)
class Contract:
    """The services of `storekeep.v1`.

    Attributes:
        services: their full names.
        methods: by the path that gRPC uses.
        changes: the paths of what the writer runs: where one worker writes, it is the one to answer.
    """

    services: tuple[str, ...]
    methods: dict[str, Method]
    changes: frozenset[str]

    @property
    def permissions(self) -> frozenset[str]:
        """All permissions that any RPC asks for; `public` and `authenticated` are none."""
        return frozenset(method.permission for method in self.methods.values() if "." in method.permission)


def read_contract() -> Contract:
    """The contract that this server was built with."""
    descriptors = {f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods}
    return Contract(
        services=tuple(service.full_name for service in SERVICES),
        methods={path: _method(path, descriptor) for path, descriptor in descriptors.items()},
        changes=frozenset(path for path, descriptor in descriptors.items() if _is_run_by_writer(descriptor)),
    )


def add_servicers(server: grpc.Server, servicers: Mapping[str, Any]) -> None:
    """Have a server serve the contract.

    Args:
        servicers: the servicer of each service, by the service's short name.

    Raises: ValueError where they are not those of the contract.
    """
    services = {service.name: service for service in SERVICES}
    if servicers.keys() != services.keys():
        raise ValueError(f"not one servicer for each service: {sorted(servicers.keys() ^ services.keys())}")
    for name, servicer in servicers.items():
        _add_servicer(server, services[name], servicer)


def _add_servicer(server: grpc.Server, service: ServiceDescriptor, servicer: Any) -> None:
    """Have a server serve one service, as the generated `add_..._to_server` of each does."""
    handlers = {
        method.name: grpc.unary_unary_rpc_method_handler(
            getattr(servicer, method.name),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
        for method in service.methods
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
    server.add_registered_method_handlers(service.full_name, handlers)


def _method(path: str, descriptor: MethodDescriptor) -> Method:
    return Method(
        name=path.removeprefix("/"),
        permission=descriptor.GetOptions().Extensions[options_pb2.permission],
        request_type=GetMessageClass(descriptor.input_type),
        rate_limit_class=RATE_LIMIT_CLASSES[descriptor.GetOptions().Extensions[options_pb2.rate_limit_class]],
    )


def _is_run_by_writer(descriptor: MethodDescriptor) -> bool:
    """Return whether the writer runs an RPC, by its option `executor`.

    Raises: ValueError where the contract does not state one.
    """
    executor = descriptor.GetOptions().Extensions[options_pb2.executor]
    if executor == options_pb2.EXECUTOR_UNSPECIFIED:
        raise ValueError(f"{descriptor.full_name} states no executor")
    return executor == options_pb2.EXECUTOR_WRITER
