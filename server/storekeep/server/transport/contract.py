"""What the contract says about each RPC, read from the options in the generated descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2
from google.protobuf import symbol_database
from google.protobuf.descriptor import MethodDescriptor

from storekeep.server.transport.rpc import Method
from storekeep.v1 import audit_pb2, auth_pb2, customers_pb2, inventory_pb2, options_pb2, orders_pb2, products_pb2

FILES = (products_pb2, inventory_pb2, customers_pb2, orders_pb2, auth_pb2, audit_pb2)


READS_BY_POST = frozenset({"/storekeep.v1.AuditService/VerifyAuditChain", "/storekeep.v1.AuthService/TestPermissions"})
"""Reads that are no GET over HTTP: one takes long, the other a list of names."""


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
        writes: the paths of all that is not a GET over HTTP: it changes something, or takes long.
    """

    services: tuple[str, ...]
    methods: dict[str, Method]
    writes: frozenset[str]

    @property
    def changes(self) -> frozenset[str]:
        """The paths of what changes something: where one worker writes, it is the one to answer."""
        return self.writes - READS_BY_POST

    @property
    def permissions(self) -> frozenset[str]:
        """All permissions that any RPC asks for; `public` and `authenticated` are none."""
        return frozenset(method.permission for method in self.methods.values() if "." in method.permission)


def read_contract() -> Contract:
    """The contract that this server was built with."""
    services = [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()]
    descriptors = {f"/{service.full_name}/{method.name}": method for service in services for method in service.methods}
    return Contract(
        services=tuple(service.full_name for service in services),
        methods={path: _method(path, descriptor) for path, descriptor in descriptors.items()},
        writes=frozenset(path for path, descriptor in descriptors.items() if not _is_get(descriptor)),
    )


def _method(path: str, descriptor: MethodDescriptor) -> Method:
    request_type: Any = symbol_database.Default().GetSymbol(descriptor.input_type.full_name)
    return Method(
        name=path.removeprefix("/"),
        permission=descriptor.GetOptions().Extensions[options_pb2.permission],
        request_type=request_type,
        rate_limit_class=RATE_LIMIT_CLASSES[descriptor.GetOptions().Extensions[options_pb2.rate_limit_class]],
    )


def _is_get(descriptor: MethodDescriptor) -> bool:
    route = descriptor.GetOptions().Extensions[annotations_pb2.http]
    return bool(route.WhichOneof("pattern") == "get")
