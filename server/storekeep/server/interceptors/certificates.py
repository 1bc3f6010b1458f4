"""Revocation of client certificates (mTLS): rejects calls with a revoked certificate, also on open connections.

gRPC for Python does not support revocation lists in the handshake, so the certificate is checked on each call. The
layer exists only if revocation lists are configured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc

from storekeep.server.domain.access_errors import Unauthenticated
from storekeep.server.interceptors.chain import Layer, Step
from storekeep.server.transport.rpc import Method, Rpc

CERTIFICATE = "x509_pem_cert"
"""The property of gRPC's auth context that holds the client certificate, in PEM."""


def reject_revoked(is_revoked: Callable[[bytes], bool]) -> Layer:
    """Return the layer that rejects revoked certificates.

    Args:
        is_revoked: Returns whether a PEM certificate is revoked.

    Raises: on a call, Unauthenticated.
    """

    def layer(_method: Method, serve: Step) -> Step:
        def check(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            auth_context: Mapping[str, Any] = context.auth_context()
            for certificate in auth_context.get(CERTIFICATE, ()):
                if is_revoked(certificate):
                    raise Unauthenticated("the client certificate was revoked")
            return serve(request, context, rpc)

        return check

    return layer
