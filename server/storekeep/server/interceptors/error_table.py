"""The error table: maps each class of error to its gRPC status, error reason and log level.

Invariant: every error class of the domain and of `store.errors` that is raised has a row; a test checks it.
Any other exception is a defect: the caller gets INTERNAL with a fixed text, the log gets the traceback.
"""

from __future__ import annotations

from logging import ERROR, INFO, WARNING
from typing import NamedTuple

import grpc

from storekeep.server.domain import access_errors as access
from storekeep.server.domain import errors as domain
from storekeep.server.store import errors as store
from storekeep.server.transport import errors as transport

Code = grpc.StatusCode


class Row(NamedTuple):
    """How one class of error is reported.

    Attributes:
        code: gRPC status code.
        reason: Name of the `ErrorReason`, without its prefix.
        retryable: Whether the same call may succeed later without other changes.
        level: Level of the call's log line, as in `logging`.
    """

    code: grpc.StatusCode
    reason: str
    retryable: bool = False
    level: int = INFO


ERRORS: dict[type[Exception], Row] = {
    access.Unauthenticated: Row(Code.UNAUTHENTICATED, "UNAUTHENTICATED", level=WARNING),
    access.TokenExpired: Row(Code.UNAUTHENTICATED, "TOKEN_EXPIRED"),
    access.TokenRevoked: Row(Code.UNAUTHENTICATED, "TOKEN_REVOKED", level=WARNING),
    access.ApiKeyInvalid: Row(Code.UNAUTHENTICATED, "API_KEY_INVALID", level=WARNING),
    access.CredentialsInvalid: Row(Code.UNAUTHENTICATED, "CREDENTIALS_INVALID", level=WARNING),
    access.PasswordLinkInvalid: Row(Code.UNAUTHENTICATED, "PASSWORD_LINK_INVALID", level=WARNING),
    access.IdentityTokenInvalid: Row(Code.UNAUTHENTICATED, "IDENTITY_TOKEN_INVALID", level=WARNING),
    access.IdentityNotAllowed: Row(Code.PERMISSION_DENIED, "IDENTITY_NOT_ALLOWED", level=WARNING),
    access.PermissionDenied: Row(Code.PERMISSION_DENIED, "PERMISSION_DENIED", level=WARNING),
    access.PrivilegeEscalation: Row(Code.PERMISSION_DENIED, "PRIVILEGE_ESCALATION", level=WARNING),
    transport.InvalidFields: Row(Code.INVALID_ARGUMENT, "INVALID_FIELD"),
    transport.MalformedMessage: Row(Code.INVALID_ARGUMENT, "MALFORMED_MESSAGE"),
    domain.BatchTooLarge: Row(Code.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"),
    transport.MessageTooLarge: Row(Code.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"),
    transport.MetadataTooLarge: Row(Code.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"),
    transport.RequestIncomplete: Row(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", level=WARNING),
    transport.RateLimited: Row(Code.RESOURCE_EXHAUSTED, "RATE_LIMITED", retryable=True),
    transport.UnknownMethod: Row(Code.UNIMPLEMENTED, "UNKNOWN_METHOD"),
    domain.InvalidField: Row(Code.INVALID_ARGUMENT, "INVALID_FIELD"),
    domain.InvalidFilter: Row(Code.INVALID_ARGUMENT, "INVALID_FILTER"),
    domain.InvalidOrderBy: Row(Code.INVALID_ARGUMENT, "INVALID_ORDER_BY"),
    domain.InvalidPageToken: Row(Code.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"),
    domain.InvalidUpdateMask: Row(Code.INVALID_ARGUMENT, "INVALID_UPDATE_MASK"),
    domain.InvalidAmount: Row(Code.INVALID_ARGUMENT, "INVALID_AMOUNT"),
    domain.UnknownCurrency: Row(Code.INVALID_ARGUMENT, "UNKNOWN_CURRENCY"),
    domain.CurrencyMismatch: Row(Code.INVALID_ARGUMENT, "CURRENCY_MISMATCH"),
    domain.RequestIdReused: Row(Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED"),
    domain.CategoryCycle: Row(Code.INVALID_ARGUMENT, "CATEGORY_CYCLE"),
    domain.PasswordNotAllowed: Row(Code.INVALID_ARGUMENT, "PASSWORD_NOT_ALLOWED"),
    domain.UnknownPermission: Row(Code.INVALID_ARGUMENT, "UNKNOWN_PERMISSION"),
    domain.CategoryNotFound: Row(Code.NOT_FOUND, "CATEGORY_NOT_FOUND"),
    domain.ProductNotFound: Row(Code.NOT_FOUND, "PRODUCT_NOT_FOUND"),
    domain.VariantNotFound: Row(Code.NOT_FOUND, "VARIANT_NOT_FOUND"),
    domain.SkuNotFound: Row(Code.NOT_FOUND, "SKU_NOT_FOUND"),
    domain.LocationNotFound: Row(Code.NOT_FOUND, "LOCATION_NOT_FOUND"),
    domain.StockLevelNotFound: Row(Code.NOT_FOUND, "STOCK_LEVEL_NOT_FOUND"),
    domain.StockMovementNotFound: Row(Code.NOT_FOUND, "STOCK_MOVEMENT_NOT_FOUND"),
    domain.ReservationNotFound: Row(Code.NOT_FOUND, "RESERVATION_NOT_FOUND"),
    domain.CustomerNotFound: Row(Code.NOT_FOUND, "CUSTOMER_NOT_FOUND"),
    domain.OrderNotFound: Row(Code.NOT_FOUND, "ORDER_NOT_FOUND"),
    domain.OrderLineNotFound: Row(Code.NOT_FOUND, "ORDER_LINE_NOT_FOUND"),
    domain.FulfillmentNotFound: Row(Code.NOT_FOUND, "FULFILLMENT_NOT_FOUND"),
    domain.ServiceAccountNotFound: Row(Code.NOT_FOUND, "SERVICE_ACCOUNT_NOT_FOUND"),
    domain.ApiKeyNotFound: Row(Code.NOT_FOUND, "API_KEY_NOT_FOUND"),
    domain.UserNotFound: Row(Code.NOT_FOUND, "USER_NOT_FOUND"),
    domain.UserSessionNotFound: Row(Code.NOT_FOUND, "USER_SESSION_NOT_FOUND"),
    domain.RoleNotFound: Row(Code.NOT_FOUND, "ROLE_NOT_FOUND"),
    domain.AuditEntryNotFound: Row(Code.NOT_FOUND, "AUDIT_ENTRY_NOT_FOUND"),
    domain.EventNotFound: Row(Code.NOT_FOUND, "EVENT_NOT_FOUND"),
    domain.WebhookEndpointNotFound: Row(Code.NOT_FOUND, "WEBHOOK_ENDPOINT_NOT_FOUND"),
    domain.WebhookDeliveryNotFound: Row(Code.NOT_FOUND, "WEBHOOK_DELIVERY_NOT_FOUND"),
    domain.PriceNotFound: Row(Code.NOT_FOUND, "PRICE_NOT_FOUND"),
    domain.TaxZoneNotFound: Row(Code.NOT_FOUND, "TAX_ZONE_NOT_FOUND"),
    domain.TaxRateNotFound: Row(Code.NOT_FOUND, "TAX_RATE_NOT_FOUND"),
    domain.PromotionNotFound: Row(Code.NOT_FOUND, "PROMOTION_NOT_FOUND"),
    domain.CouponNotFound: Row(Code.NOT_FOUND, "COUPON_NOT_FOUND"),
    domain.ShippingMethodNotFound: Row(Code.NOT_FOUND, "SHIPPING_METHOD_NOT_FOUND"),
    domain.QuoteNotFound: Row(Code.NOT_FOUND, "QUOTE_NOT_FOUND"),
    domain.EventsExpired: Row(Code.OUT_OF_RANGE, "EVENTS_EXPIRED"),
    domain.HistoryChanged: Row(Code.OUT_OF_RANGE, "HISTORY_CHANGED", level=WARNING),
    domain.TooManyWatchers: Row(Code.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHERS", level=WARNING),
    domain.WatcherTooSlow: Row(Code.ABORTED, "WATCHER_TOO_SLOW", level=WARNING),
    domain.AuditEntryUnreadable: Row(Code.DATA_LOSS, "AUDIT_ENTRY_UNREADABLE", level=ERROR),
    domain.AlreadyExists: Row(Code.ALREADY_EXISTS, "ALREADY_EXISTS"),
    domain.SkuTaken: Row(Code.ALREADY_EXISTS, "SKU_TAKEN"),
    domain.ResourceNotDeleted: Row(Code.ALREADY_EXISTS, "RESOURCE_NOT_DELETED"),
    domain.ReferenceTaken: Row(Code.ALREADY_EXISTS, "REFERENCE_TAKEN"),
    domain.EtagMismatch: Row(Code.ABORTED, "ETAG_MISMATCH"),
    domain.ResourceDeleted: Row(Code.FAILED_PRECONDITION, "RESOURCE_DELETED"),
    domain.ResourceInUse: Row(Code.FAILED_PRECONDITION, "RESOURCE_IN_USE"),
    domain.PersonalDataErased: Row(Code.FAILED_PRECONDITION, "PERSONAL_DATA_ERASED"),
    domain.IllegalState: Row(Code.FAILED_PRECONDITION, "ILLEGAL_STATE"),
    domain.FieldNotChangeable: Row(Code.FAILED_PRECONDITION, "FIELD_NOT_CHANGEABLE"),
    domain.OrderHeld: Row(Code.FAILED_PRECONDITION, "ORDER_HELD"),
    domain.OrderNotHeld: Row(Code.FAILED_PRECONDITION, "ORDER_NOT_HELD"),
    domain.UnitsNotOpen: Row(Code.FAILED_PRECONDITION, "UNITS_NOT_OPEN"),
    domain.NotForSale: Row(Code.FAILED_PRECONDITION, "NOT_FOR_SALE"),
    domain.QuantityNotAllowed: Row(Code.FAILED_PRECONDITION, "QUANTITY_NOT_ALLOWED"),
    domain.CouponNotApplicable: Row(Code.FAILED_PRECONDITION, "COUPON_NOT_APPLICABLE"),
    domain.PriceChanged: Row(Code.FAILED_PRECONDITION, "PRICE_CHANGED"),
    domain.OutOfStock: Row(Code.FAILED_PRECONDITION, "OUT_OF_STOCK"),
    domain.QuantityMismatch: Row(Code.FAILED_PRECONDITION, "QUANTITY_MISMATCH"),
    domain.CountBelowCommitted: Row(Code.FAILED_PRECONDITION, "COUNT_BELOW_COMMITTED"),
    domain.RoleBuiltIn: Row(Code.FAILED_PRECONDITION, "ROLE_BUILT_IN"),
    domain.ReplyExpired: Row(Code.FAILED_PRECONDITION, "REPLY_EXPIRED"),
    store.Overloaded: Row(Code.RESOURCE_EXHAUSTED, "OVERLOADED", retryable=True, level=WARNING),
    store.DeadlinePassed: Row(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", level=WARNING),
    store.StorageFull: Row(Code.RESOURCE_EXHAUSTED, "STORAGE_FULL", level=ERROR),
    store.ReadTooExpensive: Row(Code.RESOURCE_EXHAUSTED, "READ_TOO_EXPENSIVE", level=WARNING),
    store.StorageUnavailable: Row(Code.UNAVAILABLE, "STORAGE_UNAVAILABLE", retryable=True, level=ERROR),
    transport.WriterUnavailable: Row(Code.UNAVAILABLE, "STORAGE_UNAVAILABLE", retryable=True, level=ERROR),
    access.IdentityProviderUnavailable: Row(
        Code.UNAVAILABLE, "IDENTITY_PROVIDER_UNAVAILABLE", retryable=True, level=WARNING
    ),
    store.ShuttingDown: Row(Code.UNAVAILABLE, "SHUTTING_DOWN", retryable=True),
}
UNKNOWN = Row(Code.INTERNAL, "INTERNAL", level=ERROR)
UNKNOWN_TEXT = "internal error; the server log has the details under the request id"


def find_row(error: BaseException) -> Row:
    """Return the row of an error's class; `UNKNOWN` if it has none."""
    return ERRORS.get(type(error), UNKNOWN)  # type: ignore[arg-type]  # other exceptions have no row
