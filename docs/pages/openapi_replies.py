"""The replies of operations: statuses, headers and the reasons of errors."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from contract import Method, read_contract

from docs.pages.errors import HTTP_STATUS, ROWS
from storekeep.gateway.errors import REASON_STATUSES
from storekeep.gateway.routes import Route

CONTRACT = read_contract()
HEADERS: dict[str, dict[str, Any]] = {
    "ETag": {
        "description": "The version of the resource, in quotes, for If-Match and If-None-Match.",
        "schema": {"type": "string", "pattern": '^"[!#-~]{1,192}"$'},
    },
    "Idempotency-Replayed": {
        "description": "`true` if this is the stored reply of an earlier request with the same Idempotency-Key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Retry-After": {
        "description": "The number of seconds after which a retry may succeed.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,9}$"},
    },
    "WWW-Authenticate": {"description": "The scheme of credentials, `Bearer`.", "schema": {"type": "string"}},
    "X-Request-ID": {
        "description": "The id of the request in the logs of the gateway and the server.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"},
    },
}
COMMON: dict[int, tuple[str, ...]] = {
    400: ("INVALID_FIELD", "MALFORMED_MESSAGE"),
    401: ("UNAUTHENTICATED", "TOKEN_EXPIRED", "TOKEN_REVOKED", "API_KEY_INVALID"),
    403: ("PERMISSION_DENIED",),
    413: ("MESSAGE_TOO_LARGE",),
    415: ("MALFORMED_MESSAGE",),
    429: ("RATE_LIMITED",),
    503: ("OVERLOADED", "STORAGE_UNAVAILABLE"),
    504: ("DEADLINE_EXCEEDED",),
}
"""The errors that any operation can have, by status."""
PRIVATE_ONLY = (401, 403)
BODY_ONLY = (413, 415)
RETRIED = (429, 503)
PRECONDITION_FAILED = 412
CONDITION_REASON = "ETAG_MISMATCH"


def build_responses(
    route: Route, method: Method, content: dict[str, Any], *, description: str, has_etag: bool, takes_etag: bool
) -> dict[str, Any]:
    """Return the replies of an operation by status.

    Args:
        content: the content of a successful reply.
        description: what a successful reply is.
        has_etag: whether the reply is a resource with an etag.
        takes_etag: whether the request may have an If-Match.
    """
    headers = ["X-Request-ID"]
    headers += ["ETag"] if has_etag else []
    headers += ["Idempotency-Replayed"] if "request_id" in route.rpc.input_type.fields_by_name else []
    responses: dict[str, Any] = {
        "200": {"description": description, "headers": _refer_headers(headers), "content": content}
    }
    if has_etag and route.http_method == "GET":
        responses["304"] = {
            "description": "The resource has the etag of If-None-Match.",
            "headers": _refer_headers(["ETag", "X-Request-ID"]),
        }
    reasons = _list_reasons(route, method, takes_etag=takes_etag)
    for status in sorted(reasons):
        known = COMMON.get(status)
        shared = {"$ref": f"#/components/responses/Error{status}"}
        responses[str(status)] = shared if reasons[status] == known else _build_error(status, reasons[status])
    responses["default"] = {"$ref": "#/components/responses/Error"}
    return responses


def build_components() -> dict[str, Any]:
    """Return the shared replies: the common errors by status, and any other."""
    described = "The call failed (AIP-193). The HTTP status follows from the gRPC code."
    other = {"description": described, "headers": _refer_headers(["X-Request-ID"]), "content": _refer_error()}
    return {f"Error{status}": _build_error(status, names) for status, names in COMMON.items()} | {"Error": other}


def build_error_schema() -> dict[str, Any]:
    """Return the schema of the body of an error."""
    detail = {
        "type": "object",
        "properties": {
            "@type": {"type": "string"},
            "reason": {"type": "string", "enum": sorted(reason.name for reason in CONTRACT.reasons)},
            "domain": {"type": "string"},
            "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
            "requestId": {"type": "string"},
            "retryDelay": {"type": "string"},
            "fieldViolations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
                },
            },
        },
        "required": ["@type"],
    }
    error = {
        "type": "object",
        "properties": {
            "code": {"type": "integer", "description": "The HTTP status."},
            "status": {"type": "string", "description": "The name of the gRPC code, such as `NOT_FOUND`."},
            "message": {"type": "string"},
            "details": {"type": "array", "items": detail},
        },
        "required": ["code", "status", "message", "details"],
    }
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}


def _list_reasons(route: Route, method: Method, *, takes_etag: bool) -> dict[int, tuple[str, ...]]:
    """Return the reasons of an operation by status: its own, then those of any operation."""
    reasons: defaultdict[int, list[str]] = defaultdict(list)
    for name in method.reasons:
        reasons[_find_status(name, takes_etag=takes_etag)].append(name)
    for status, names in COMMON.items():
        is_left_out = (method.permission == "public" and status in PRIVATE_ONLY) or (
            not route.body and status in BODY_ONLY
        )
        if not is_left_out:
            reasons[status] += [name for name in names if name not in reasons[status]]
    return {status: tuple(names) for status, names in reasons.items()}


def _find_status(reason: str, *, takes_etag: bool) -> int:
    if reason == CONDITION_REASON and takes_etag:
        return PRECONDITION_FAILED
    return REASON_STATUSES.get(reason, HTTP_STATUS[ROWS[reason].code])


def _build_error(status: int, reasons: tuple[str, ...]) -> dict[str, Any]:
    names = ["X-Request-ID"]
    names += ["WWW-Authenticate"] if status == 401 else []
    names += ["Retry-After"] if status in RETRIED else []
    text = ", ".join(f"`{reason}`" for reason in reasons)
    return {"description": f"The reason is {text}.", "headers": _refer_headers(names), "content": _refer_error()}


def _refer_headers(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _refer_error() -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
