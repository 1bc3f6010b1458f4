"""Errors: what a call can end with, rebuilt from the server's `google.rpc.Status`. One class per reason.

StorekeepError
├── InvalidSettings                 address, TLS files or API key cannot be used
├── ClientClosed                    the client was used after it was closed
├── ServerUnreachable               nobody answered at the address
├── CallTimedOut                    no answer before the deadline; what was asked may have happened
├── UnexpectedStatus                an answer without Storekeep's error details, for one a proxy's
└── Refused                         the server said no, and why: `reason`, `metadata`, `request_id`
    ├── NotAuthenticated            Unauthenticated, TokenExpired, TokenRevoked, ApiKeyInvalid
    ├── NotAllowed                  PermissionDenied, PrivilegeEscalation
    ├── InvalidRequest              InvalidField, InvalidFilter, InvalidOrderBy, InvalidPageToken,
    │                               InvalidUpdateMask, InvalidAmount, UnknownCurrency, CurrencyMismatch,
    │                               RequestIdReused, MessageTooLarge, MalformedMessage, UnknownMethod,
    │                               UnknownPermission, CategoryCycle
    ├── NotFound                    CategoryNotFound, ProductNotFound, VariantNotFound, SkuNotFound,
    │                               LocationNotFound, StockLevelNotFound, StockMovementNotFound,
    │                               ReservationNotFound, CustomerNotFound, OrderNotFound, OrderLineNotFound,
    │                               FulfillmentNotFound,
    │                               ServiceAccountNotFound, ApiKeyNotFound, RoleNotFound, AuditEntryNotFound
    ├── Conflict                    EtagMismatch, AlreadyExists, SkuTaken, ResourceDeleted, ResourceNotDeleted,
    │                               ResourceInUse, IllegalState, OrderHeld, OrderNotHeld, UnitsNotOpen,
    │                               NotForSale, OutOfStock, QuantityMismatch, RoleBuiltIn,
    │                               ReplyExpired
    └── ServerTrouble               Overloaded, RateLimited, DeadlineExceeded, StorageFull, StorageUnavailable,
                                    ShuttingDown, InternalError, AuditEntryUnreadable
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status

DOMAIN = "storekeep"
TOO_LARGE = "message larger than max"
"""What gRPC's core itself says of a message of more than twice the size that the server accepts."""
UNREACHABLE_WORDS = (
    ("WRONG_VERSION_NUMBER", "what listens there does not speak TLS"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is of no authority that is trusted here; name its CA file"),
    ("Connection refused", "nothing listens there; is the server running, and is the address right?"),
)
"""What gRPC's core writes of a connection that fails, and what it means; its own text follows in parentheses."""
STATUS_DETAILS_KEY = "grpc-status-details-bin"
REQUEST_ID_KEY = "x-request-id"

DetailT = TypeVar("DetailT", bound=Message)


class StorekeepError(Exception):
    """Anything that this library raises."""

    def __init__(self, message: str, *, request_id: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id
        """The server's own id of the call, as in its log; empty when the server did not answer."""

    def __str__(self) -> str:
        return f"{self.message} [request id {self.request_id}]" if self.request_id else self.message


class InvalidSettings(StorekeepError):
    """The address, a TLS file or the API key cannot be used."""


class ClientClosed(StorekeepError):
    """The client was used after it was closed."""


class ServerUnreachable(StorekeepError):
    """Nobody answered at the address."""


class CallTimedOut(StorekeepError):
    """No answer came before the deadline; what was asked may have happened. Ask again with the same `request_id`."""


class UnexpectedStatus(StorekeepError):
    """An answer without Storekeep's error details, for one from a proxy or another program."""

    def __init__(self, message: str, *, request_id: str = "", code: grpc.StatusCode) -> None:
        super().__init__(message, request_id=request_id)
        self.code = code
        """The gRPC status code."""


@dataclass(frozen=True)
class FieldProblem:
    """A field that breaks a constraint of the contract."""

    field: str
    """Its path, such as `lines[0].quantity`."""
    description: str
    """What is wrong with it."""


class Refused(StorekeepError):
    """The server said no, and why. Raised as such only for a reason that this version does not know."""

    reason: str = ""
    """The contract's ErrorReason, without its prefix."""
    retryable: ClassVar[bool] = False
    """Whether the same call, unchanged, may succeed soon."""

    def __init__(
        self,
        message: str,
        *,
        request_id: str = "",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        fields: Sequence[FieldProblem] = (),
        retry_delay_s: float | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.reason = reason or type(self).reason
        self.metadata: Mapping[str, str] = dict(metadata or {})
        """The facts behind the reason, as the server sent them."""
        self.fields = tuple(fields)
        """The fields that break a constraint; for most reasons none."""
        self.retry_delay_s = retry_delay_s
        """After how many seconds the server asks to be called again; None when it did not say."""

    def __str__(self) -> str:
        untold = [problem for problem in self.fields if problem.description not in self.message]
        problems = "".join(f"; {problem.field}: {problem.description}" for problem in untold)
        known = [self.reason] + ([f"request id {self.request_id}"] if self.request_id else [])
        return f"{self.message}{problems} [{', '.join(known)}]"

    @property
    def resource(self) -> str:
        """The resource name that it is about, such as `products/chai`; empty where the reason is not about one."""
        return self.metadata.get("resource", "")

    def _count(self, key: str) -> int | None:
        text = self.metadata.get(key, "")
        return int(text) if text.lstrip("-").isdigit() else None


class NotAuthenticated(Refused):
    """The server does not know who calls."""


class NotAllowed(Refused):
    """The server knows who calls, and that it may not."""


class InvalidRequest(Refused):
    """The request cannot be carried out as it is, whatever the state of things."""


class NotFound(Refused):
    """What the request names does not exist."""


class Conflict(Refused):
    """The state of things does not allow it."""


class ServerTrouble(Refused):
    """The server cannot do it now, or at all, for reasons of its own."""


class Unauthenticated(NotAuthenticated):
    """The call carried no credentials, or none that the server can verify."""

    reason = "UNAUTHENTICATED"


class TokenExpired(NotAuthenticated):
    """The token's lifetime is over."""

    reason = "TOKEN_EXPIRED"


class TokenRevoked(NotAuthenticated):
    """The token, or everything that was issued to its subject, has been revoked."""

    reason = "TOKEN_REVOKED"


class ApiKeyInvalid(NotAuthenticated):
    """The API key is unknown, revoked or expired."""

    reason = "API_KEY_INVALID"


class PermissionDenied(NotAllowed):
    """The caller lacks a permission."""

    reason = "PERMISSION_DENIED"

    @property
    def permission(self) -> str:
        """The permission that is missing, as `noun.verb`."""
        return self.metadata.get("permission", "")


class PrivilegeEscalation(NotAllowed):
    """The caller would grant, or change something that holds, a permission that it does not hold itself."""

    reason = "PRIVILEGE_ESCALATION"

    @property
    def permission(self) -> str:
        """The permission that the caller does not hold, as `noun.verb`."""
        return self.metadata.get("permission", "")


class InvalidField(InvalidRequest):
    """One or more fields break a constraint of the contract; `fields` names each."""

    reason = "INVALID_FIELD"


class InvalidFilter(InvalidRequest):
    """The filter cannot be parsed, or names what cannot be filtered."""

    reason = "INVALID_FILTER"

    @property
    def position(self) -> int | None:
        """Where in the filter the problem is, in characters."""
        return self._count("position")


class InvalidOrderBy(InvalidRequest):
    """`order_by` names what cannot be sorted by."""

    reason = "INVALID_ORDER_BY"


class InvalidPageToken(InvalidRequest):
    """The page token is damaged, or belongs to another query."""

    reason = "INVALID_PAGE_TOKEN"


class InvalidUpdateMask(InvalidRequest):
    """`update_mask` names a field that does not exist or cannot be changed."""

    reason = "INVALID_UPDATE_MASK"


class InvalidAmount(InvalidRequest):
    """The amount is finer than the currency's minor unit, negative, or too large."""

    reason = "INVALID_AMOUNT"


class UnknownCurrency(InvalidRequest):
    """The currency code is not one of ISO 4217's active currencies."""

    reason = "UNKNOWN_CURRENCY"


class CurrencyMismatch(InvalidRequest):
    """Amounts of different currencies where one is needed, or no price in the order's currency."""

    reason = "CURRENCY_MISMATCH"


class RequestIdReused(InvalidRequest):
    """The `request_id` was used before by this caller and method, with another payload or API key."""

    reason = "REQUEST_ID_REUSED"


class MessageTooLarge(InvalidRequest):
    """The message is larger than the server accepts."""

    reason = "MESSAGE_TOO_LARGE"


class MalformedMessage(InvalidRequest):
    """The bytes do not parse as the message that the method takes."""

    reason = "MALFORMED_MESSAGE"


class UnknownMethod(InvalidRequest):
    """This server has no such method: it may be older than the client."""

    reason = "UNKNOWN_METHOD"


class UnknownPermission(InvalidRequest):
    """The permission is not one that any RPC asks for."""

    reason = "UNKNOWN_PERMISSION"


class EtagMismatch(Conflict):
    """The resource was changed since the given etag."""

    reason = "ETAG_MISMATCH"

    @property
    def current_etag(self) -> str:
        """The etag of the resource as it is now."""
        return self.metadata.get("etag", "")


class AlreadyExists(Conflict):
    """A resource of that name exists already, perhaps deleted."""

    reason = "ALREADY_EXISTS"


class SkuTaken(Conflict):
    """Another variant has this SKU."""

    reason = "SKU_TAKEN"

    @property
    def variant(self) -> str:
        """The variant that has the SKU."""
        return self.metadata.get("variant", "")


class ResourceDeleted(Conflict):
    """The resource is deleted; undelete it first."""

    reason = "RESOURCE_DELETED"


class ResourceNotDeleted(Conflict):
    """The resource is not deleted, so there is nothing to undelete."""

    reason = "RESOURCE_NOT_DELETED"


class ResourceInUse(Conflict):
    """Other resources still refer to this one."""

    reason = "RESOURCE_IN_USE"

    @property
    def user(self) -> str:
        """The name of one resource that refers to it."""
        return self.metadata.get("user", "")


class IllegalState(Conflict):
    """The state does not allow this step."""

    reason = "ILLEGAL_STATE"

    @property
    def state(self) -> str:
        """The state that the resource is in."""
        return self.metadata.get("state", "")

    @property
    def wanted(self) -> str:
        """The state that the step leads to."""
        return self.metadata.get("wanted", "")


class OrderHeld(Conflict):
    """The order is held; resume it first."""

    reason = "ORDER_HELD"

    @property
    def hold_reason(self) -> str:
        """Why it is held."""
        return self.metadata.get("hold_reason", "")


class OrderNotHeld(Conflict):
    """The order is not held, so there is nothing to resume."""

    reason = "ORDER_NOT_HELD"


class UnitsNotOpen(Conflict):
    """Fewer units of a line are open, and bound to no fulfilment, than the call needs."""

    reason = "UNITS_NOT_OPEN"

    @property
    def line_number(self) -> int:
        """The line that has too few."""
        return int(self.metadata.get("line_number", "0"))

    @property
    def wanted(self) -> int:
        """Units that are needed."""
        return int(self.metadata.get("wanted", "0"))

    @property
    def open(self) -> int:
        """Units that are there."""
        return int(self.metadata.get("open", "0"))


class CategoryCycle(InvalidRequest):
    """A category cannot be below itself."""

    reason = "CATEGORY_CYCLE"


class NotForSale(Conflict):
    """The variant, or its product, is archived or deleted, so it cannot be sold."""

    reason = "NOT_FOR_SALE"

    @property
    def sku(self) -> str:
        """The SKU that cannot be sold."""
        return self.metadata.get("sku", "")


class CategoryNotFound(NotFound):
    """No such category."""

    reason = "CATEGORY_NOT_FOUND"


class ProductNotFound(NotFound):
    """No such product."""

    reason = "PRODUCT_NOT_FOUND"


class VariantNotFound(NotFound):
    """No such variant."""

    reason = "VARIANT_NOT_FOUND"


class SkuNotFound(NotFound):
    """No variant has this SKU."""

    reason = "SKU_NOT_FOUND"

    @property
    def sku(self) -> str:
        """The SKU that no variant has."""
        return self.metadata.get("sku", "")


class LocationNotFound(NotFound):
    """No such location."""

    reason = "LOCATION_NOT_FOUND"


class StockLevelNotFound(NotFound):
    """There has never been stock of this SKU at this location."""

    reason = "STOCK_LEVEL_NOT_FOUND"


class StockMovementNotFound(NotFound):
    """No such stock movement."""

    reason = "STOCK_MOVEMENT_NOT_FOUND"


class ReservationNotFound(NotFound):
    """No such reservation."""

    reason = "RESERVATION_NOT_FOUND"


@dataclass(frozen=True)
class Shortage:
    """A SKU of which there is too little."""

    sku: str
    wanted: int
    """Units asked for."""
    available: int
    """Units that can be sold."""


class OutOfStock(Conflict):
    """Fewer units are there than were asked for; `shortages` names each short SKU."""

    reason = "OUT_OF_STOCK"

    @property
    def shortages(self) -> tuple[Shortage, ...]:
        """Each short SKU with what was asked for and what is there."""
        skus = filter(None, self.metadata.get("skus", "").split(","))
        return tuple(
            Shortage(sku, self._count(f"wanted.{sku}") or 0, self._count(f"available.{sku}") or 0) for sku in skus
        )


class QuantityMismatch(Conflict):
    """`expected_quantity` is not the quantity on hand."""

    reason = "QUANTITY_MISMATCH"

    @property
    def on_hand(self) -> int | None:
        """Units on hand now."""
        return self._count("on_hand")


class CustomerNotFound(NotFound):
    """No such customer."""

    reason = "CUSTOMER_NOT_FOUND"


class OrderNotFound(NotFound):
    """No such order."""

    reason = "ORDER_NOT_FOUND"


class OrderLineNotFound(NotFound):
    """The order has no line of this number."""

    reason = "ORDER_LINE_NOT_FOUND"


class FulfillmentNotFound(NotFound):
    """No such fulfilment."""

    reason = "FULFILLMENT_NOT_FOUND"


class ServiceAccountNotFound(NotFound):
    """No such service account."""

    reason = "SERVICE_ACCOUNT_NOT_FOUND"


class ApiKeyNotFound(NotFound):
    """No such API key."""

    reason = "API_KEY_NOT_FOUND"


class RoleNotFound(NotFound):
    """No such role."""

    reason = "ROLE_NOT_FOUND"


class RoleBuiltIn(Conflict):
    """A built-in role cannot be changed."""

    reason = "ROLE_BUILT_IN"


class ReplyExpired(Conflict):
    """The call was made before, and the secret in its reply is not kept any more. Nothing was done."""

    reason = "REPLY_EXPIRED"


class AuditEntryNotFound(NotFound):
    """No such audit entry."""

    reason = "AUDIT_ENTRY_NOT_FOUND"


class AuditEntryUnreadable(ServerTrouble):
    """The audit entry, or one of the page, was changed by other means or damaged; `audit.verify` names the first."""

    reason = "AUDIT_ENTRY_UNREADABLE"


class Overloaded(ServerTrouble):
    """The server has as much queued as it can finish in time."""

    reason = "OVERLOADED"
    retryable = True


class RateLimited(ServerTrouble):
    """The address, API key or account calls more often than it may; the client calls again after the server's delay."""

    reason = "RATE_LIMITED"
    retryable = True

    @property
    def limit(self) -> str:
        """Which limit it is, such as `public calls per address`."""
        return self.metadata.get("limit", "")


class DeadlineExceeded(ServerTrouble):
    """The deadline passed before the server began the work; nothing was changed."""

    reason = "DEADLINE_EXCEEDED"


class StorageFull(ServerTrouble):
    """The database has no room left; nothing was changed."""

    reason = "STORAGE_FULL"


class StorageUnavailable(ServerTrouble):
    """The database does not answer."""

    reason = "STORAGE_UNAVAILABLE"
    retryable = True


class ShuttingDown(ServerTrouble):
    """The server is stopping and takes no new calls; another, or the next, will take them."""

    reason = "SHUTTING_DOWN"
    retryable = True


class InternalError(ServerTrouble):
    """A defect of the server; its log has the details under the request id."""

    reason = "INTERNAL"


def _leaves(parent: type[Refused]) -> Iterable[type[Refused]]:
    for child in parent.__subclasses__():
        if "reason" in vars(child):
            yield child
        else:
            yield from _leaves(child)


REASONS: Mapping[str, type[Refused]] = {leaf.reason: leaf for leaf in _leaves(Refused)}
"""The class of every reason."""


def from_rpc_error(error: grpc.RpcError) -> StorekeepError:
    """Rebuild the exception that a failed call stands for."""
    trailers = {entry.key: entry.value for entry in error.trailing_metadata() or ()}
    status = _status(trailers.get(STATUS_DETAILS_KEY))
    info = _detail(status, ErrorInfo)
    request_id = _request_id(status, trailers)
    if info is None or info.domain != DOMAIN:
        return _without_reason(error, request_id)
    return REASONS.get(info.reason, Refused)(
        status.message or (error.details() or ""),
        request_id=request_id,
        reason=info.reason,
        metadata=info.metadata,
        fields=_field_problems(_detail(status, BadRequest)),
        retry_delay_s=_retry_delay_s(_detail(status, RetryInfo)),
    )


def _without_reason(error: grpc.RpcError, request_id: str) -> StorekeepError:
    code, details = error.code(), error.details() or "no details"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and TOO_LARGE in details:
        return MessageTooLarge(details, request_id=request_id)
    if code is grpc.StatusCode.UNAVAILABLE:
        why = next((f"{words} ({details})" for sign, words in UNREACHABLE_WORDS if sign in details), details)
        return ServerUnreachable(f"The server cannot be reached: {why}", request_id=request_id)
    if code is grpc.StatusCode.CANCELLED:  # by the server: a caller cannot cancel these calls
        return ServerUnreachable("The server stopped before it answered", request_id=request_id)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return CallTimedOut("The server did not answer before the deadline", request_id=request_id)
    return UnexpectedStatus(f"The server answered {code.name}: {details}", request_id=request_id, code=code)


def _status(packed: str | bytes | None) -> Status:
    status = Status()
    if isinstance(packed, bytes):
        try:
            status.ParseFromString(packed)
        except DecodeError:
            return Status()
    return status


def _detail(status: Status, kind: type[DetailT]) -> DetailT | None:
    detail = kind()
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR) and packed.Unpack(detail):
            return detail
    return None


def _request_id(status: Status, trailers: Mapping[str, str | bytes]) -> str:
    info = _detail(status, RequestInfo)
    if info is not None and info.request_id:
        return str(info.request_id)
    sent = trailers.get(REQUEST_ID_KEY, "")
    return sent if isinstance(sent, str) else ""


def _field_problems(bad_request: BadRequest | None) -> tuple[FieldProblem, ...]:
    if bad_request is None:
        return ()
    return tuple(FieldProblem(violation.field, violation.description) for violation in bad_request.field_violations)


def _retry_delay_s(retry: RetryInfo | None) -> float | None:
    return None if retry is None else retry.retry_delay.ToTimedelta().total_seconds()
