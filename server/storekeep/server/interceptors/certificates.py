"""Client certificates (mTLS) that their issuers have revoked: calls with one are refused, on connections held open too.

gRPC's Python offers no revocation lists at the handshake, so a certificate is looked at with each call. Only where such
lists are given: without them this layer is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc

from storekeep.server.domain.errors import Unauthenticated
from storekeep.server.interceptors.chain import Layer, Step
from storekeep.server.transport.rpc import Method, Rpc

CERTIFICATE = "x509_pem_cert"
"""The property of gRPC's auth context that holds what the client has shown."""


def refuse_revoked(is_revoked: Callable[[bytes], bool]) -> Layer:
    """The layer, given what says of a PEM certificate whether it is revoked."""

    def layer(_method: Method, serve: Step) -> Step:
        def checked(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            shown: Mapping[str, Any] = context.auth_context()
            for certificate in shown.get(CERTIFICATE, ()):
                if is_revoked(certificate):
                    raise Unauthenticated("the client certificate was revoked")
            return serve(request, context, rpc)

        return checked

    return layer
