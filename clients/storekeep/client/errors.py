"""The exceptions of the client, one class per error reason. `statuses` builds them from `google.rpc.Status`.

StorekeepError
├── InvalidSettings                 the address, a TLS file or the API key is invalid
├── ClientClosed                    a call after `close`
├── ServerUnreachable               no connection, or it was lost
├── CallTimedOut                    no answer before the deadline; the change may have happened
├── UnexpectedStatus                an error without Storekeep's details, such as from a proxy
└── Refused                         an error of the server: `reason`, `metadata`, `request_id`
    ├── NotAuthenticated            Unauthenticated, TokenExpired, TokenRevoked, ApiKeyInvalid, CredentialsInvalid,
    │                               PasswordLinkInvalid, IdentityTokenInvalid
    ├── NotAllowed                  PermissionDenied, PrivilegeEscalation, IdentityNotAllowed
    ├── InvalidRequest              InvalidField, InvalidFilter, InvalidOrderBy, InvalidPageToken, InvalidUpdateMask,
    │                               InvalidAmount, UnknownCurrency, CurrencyMismatch, RequestIdReused, MessageTooLarge,
    │                               MalformedMessage, UnknownMethod, UnknownPermission, CategoryCycle,
    │                               PasswordNotAllowed
    ├── NotFound                    CategoryNotFound, ProductNotFound, VariantNotFound, SkuNotFound, LocationNotFound,
    │                               StockLevelNotFound, StockMovementNotFound, ReservationNotFound, CustomerNotFound,
    │                               OrderNotFound, OrderLineNotFound, FulfillmentNotFound, ServiceAccountNotFound,
    │                               ApiKeyNotFound, RoleNotFound, UserNotFound, UserSessionNotFound, AuditEntryNotFound,
    │                               EventNotFound, WebhookEndpointNotFound, WebhookDeliveryNotFound, PriceNotFound,
    │                               TaxZoneNotFound, TaxRateNotFound, PromotionNotFound, CouponNotFound,
    │                               ShippingMethodNotFound, QuoteNotFound
    ├── Conflict                    EtagMismatch, AlreadyExists, SkuTaken, ReferenceTaken, ResourceDeleted,
    │                               ResourceNotDeleted, ResourceInUse, IllegalState, FieldNotChangeable, OrderHeld,
    │                               OrderNotHeld, UnitsNotOpen, NotForSale, QuantityNotAllowed, CouponNotApplicable,
    │                               PriceChanged, OutOfStock, QuantityMismatch, RoleBuiltIn, CountBelowCommitted,
    │                               ReplyExpired, WatcherTooSlow, PersonalDataErased
    ├── CursorRefused               EventsExpired, HistoryChanged
    └── ServerError                 Overloaded, RateLimited, DeadlineExceeded, StorageFull, StorageUnavailable,
                                    ShuttingDown, InternalError, AuditEntryUnreadable, TooManyWatchers,
                                    IdentityProviderUnavailable, ReadTooExpensive
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from storekeep.client.error_details import Shortage
from storekeep.client.error_families import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Refused,
    ServerError,
)


class Unauthenticated(NotAuthenticated):
    """The call has no credentials, or the server cannot verify them."""

    reason = "UNAUTHENTICATED"


class TokenExpired(NotAuthenticated):
    """The token has expired."""

    reason = "TOKEN_EXPIRED"


class TokenRevoked(NotAuthenticated):
    """The token, or every token of its subject, was revoked."""

    reason = "TOKEN_REVOKED"


class ApiKeyInvalid(NotAuthenticated):
    """The API key is unknown, revoked or expired."""

    reason = "API_KEY_INVALID"


class CredentialsInvalid(NotAuthenticated):
    """The email address, the password or the code is wrong, or the user cannot sign in."""

    reason = "CREDENTIALS_INVALID"


class PasswordLinkInvalid(NotAuthenticated):
    """The token of the invitation or the password reset is unknown, used or expired."""

    reason = "PASSWORD_LINK_INVALID"


class IdentityTokenInvalid(NotAuthenticated):
    """The ID token is not from the identity provider, not for this sign-in, expired or used before."""

    reason = "IDENTITY_TOKEN_INVALID"


class IdentityNotAllowed(NotAllowed):
    """The identity provider vouches for the person, who may not sign in here."""

    reason = "IDENTITY_NOT_ALLOWED"


class PermissionDenied(NotAllowed):
    """The caller lacks a permission that the method requires."""

    reason = "PERMISSION_DENIED"

    @property
    def permission(self) -> str:
        """The missing permission, as `noun.verb`."""
        return self.metadata.get("permission", "")


class PrivilegeEscalation(NotAllowed):
    """The caller would grant a permission that it lacks, or change an account, key or role that holds one."""

    reason = "PRIVILEGE_ESCALATION"

    @property
    def permission(self) -> str:
        """The permission that the caller lacks, as `noun.verb`."""
        return self.metadata.get("permission", "")


class InvalidField(InvalidRequest):
    """One or more fields violate a constraint of the contract; `fields` lists them."""

    reason = "INVALID_FIELD"


class InvalidFilter(InvalidRequest):
    """The filter has a syntax error or names a field that cannot be filtered."""

    reason = "INVALID_FILTER"

    @property
    def position(self) -> int | None:
        """Position of the error in the filter, in characters from 1."""
        return self._get_count("position")


class InvalidOrderBy(InvalidRequest):
    """`order_by` names a field that cannot be sorted by."""

    reason = "INVALID_ORDER_BY"


class InvalidPageToken(InvalidRequest):
    """The page token is damaged or belongs to another query."""

    reason = "INVALID_PAGE_TOKEN"


class InvalidUpdateMask(InvalidRequest):
    """`update_mask` names a field that does not exist or cannot be changed."""

    reason = "INVALID_UPDATE_MASK"


class InvalidAmount(InvalidRequest):
    """The amount has more decimals than the currency, is negative, or is too large."""

    reason = "INVALID_AMOUNT"


class UnknownCurrency(InvalidRequest):
    """The currency code is not an active currency of ISO 4217."""

    reason = "UNKNOWN_CURRENCY"


class CurrencyMismatch(InvalidRequest):
    """Amounts have different currencies, or a variant has no price in the currency of the order."""

    reason = "CURRENCY_MISMATCH"


class RequestIdReused(InvalidRequest):
    """The caller already used the `request_id` for this method with another payload or API key."""

    reason = "REQUEST_ID_REUSED"


class MessageTooLarge(InvalidRequest):
    """The message is larger than the server accepts."""

    reason = "MESSAGE_TOO_LARGE"


class MalformedMessage(InvalidRequest):
    """The request cannot be parsed as a message of its type."""

    reason = "MALFORMED_MESSAGE"


class UnknownMethod(InvalidRequest):
    """The server has no such method; it may be older than the client."""

    reason = "UNKNOWN_METHOD"


class UnknownPermission(InvalidRequest):
    """No RPC requires a permission of this name."""

    reason = "UNKNOWN_PERMISSION"


class PasswordNotAllowed(InvalidRequest):
    """The new password breaks a rule; `metadata` has the `rule` in words."""

    reason = "PASSWORD_NOT_ALLOWED"


class EtagMismatch(Conflict):
    """The resource has changed since the given etag."""

    reason = "ETAG_MISMATCH"

    @property
    def current_etag(self) -> str:
        """Current etag of the resource."""
        return self.metadata.get("etag", "")


class AlreadyExists(Conflict):
    """A resource of that name already exists; it may be deleted."""

    reason = "ALREADY_EXISTS"


class SkuTaken(Conflict):
    """Another variant has this SKU."""

    reason = "SKU_TAKEN"

    @property
    def variant(self) -> str:
        """Name of the variant that has the SKU."""
        return self.metadata.get("variant", "")


class ReferenceTaken(Conflict):
    """Another order or active reservation has the reference, which must be unique."""

    reason = "REFERENCE_TAKEN"

    @property
    def resource(self) -> str:
        """Name of the order or reservation that has the reference."""
        return self.metadata.get("resource", "")


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
        """Name of one resource that refers to it."""
        return self.metadata.get("user", "")


class IllegalState(Conflict):
    """The resource is in a state that does not allow this change."""

    reason = "ILLEGAL_STATE"

    @property
    def state(self) -> str:
        """Current state of the resource."""
        return self.metadata.get("state", "")

    @property
    def requested_state(self) -> str:
        """State that the change would lead to."""
        return self.metadata.get("wanted", "")


class PersonalDataErased(Conflict):
    """The personal data of a person was erased, so none can be stored about them. Leave out the personal fields."""

    reason = "PERSONAL_DATA_ERASED"

    @property
    def resource(self) -> str:
        """Name of the person, such as that of a customer."""
        return self.metadata.get("resource", "")


class FieldNotChangeable(Conflict):
    """The state of the resource does not allow a change of this field."""

    reason = "FIELD_NOT_CHANGEABLE"

    @property
    def field(self) -> str:
        """Field of the resource that cannot change."""
        return self.metadata.get("field", "")

    @property
    def state(self) -> str:
        """Current state of the resource."""
        return self.metadata.get("state", "")


class OrderHeld(Conflict):
    """The order is on hold; resume it first."""

    reason = "ORDER_HELD"

    @property
    def hold_reason(self) -> str:
        """Reason of the hold."""
        return self.metadata.get("hold_reason", "")


class OrderNotHeld(Conflict):
    """The order is not on hold, so it cannot be resumed."""

    reason = "ORDER_NOT_HELD"


class UnitsNotOpen(Conflict):
    """A line has fewer open units that are in no fulfilment than the call requires."""

    reason = "UNITS_NOT_OPEN"

    @property
    def line_number(self) -> int:
        """Number of the line."""
        return int(self.metadata.get("line_number", "0"))

    @property
    def requested(self) -> int:
        """Units that the call requires."""
        return int(self.metadata.get("wanted", "0"))

    @property
    def open(self) -> int:
        """Open units that are in no fulfilment."""
        return int(self.metadata.get("open", "0"))


class CategoryCycle(InvalidRequest):
    """The parent of a category would be the category itself or one of its descendants."""

    reason = "CATEGORY_CYCLE"


def _get_sku(error: Refused) -> str:
    """SKU of the variant."""
    return error.metadata.get("sku", "")


class NotForSale(Conflict):
    """The variant or its product is archived or deleted, or the product is a draft."""

    reason = "NOT_FOR_SALE"

    sku = property(_get_sku)


class QuantityNotAllowed(Conflict):
    """The units of a SKU, over all lines, break one of its quantity rules."""

    reason = "QUANTITY_NOT_ALLOWED"

    sku = property(_get_sku)

    @property
    def rule(self) -> str:
        """The broken rule: `minimum`, `maximum` or `multiple`."""
        return self.metadata.get("rule", "")

    @property
    def limit(self) -> int | None:
        """The number that the rule sets."""
        return self._get_count("limit")

    @property
    def quantity(self) -> int | None:
        """The units that the call would lead to."""
        return self._get_count("quantity")


class CouponNotApplicable(Conflict):
    """A coupon code does not reduce the price of the order."""

    reason = "COUPON_NOT_APPLICABLE"

    @property
    def code(self) -> str:
        """The code as it was sent."""
        return self.metadata.get("code", "")

    @property
    def problem(self) -> str:
        """The reason, such as `USED_UP`; see `CouponProblem` in the contract."""
        return self.metadata.get("problem", "")


class PriceChanged(Conflict):
    """The order costs another total than expected."""

    reason = "PRICE_CHANGED"

    @property
    def expected_minor(self) -> int | None:
        """The total that the caller expected, in minor units."""
        return self._get_count("expected_minor")

    @property
    def total_minor(self) -> int | None:
        """The total that the order costs now, in minor units."""
        return self._get_count("total_minor")


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

    sku = property(_get_sku)


class LocationNotFound(NotFound):
    """No such location."""

    reason = "LOCATION_NOT_FOUND"


class StockLevelNotFound(NotFound):
    """The location has never had stock of this SKU."""

    reason = "STOCK_LEVEL_NOT_FOUND"


class StockMovementNotFound(NotFound):
    """No such stock movement."""

    reason = "STOCK_MOVEMENT_NOT_FOUND"


class ReservationNotFound(NotFound):
    """No such reservation."""

    reason = "RESERVATION_NOT_FOUND"


class OutOfStock(Conflict):
    """Fewer units are available than requested; `shortages` lists the SKUs."""

    reason = "OUT_OF_STOCK"

    @property
    def shortages(self) -> tuple[Shortage, ...]:
        """The SKUs with insufficient stock, with the units requested and available."""
        numbers = itertools.takewhile(lambda number: f"sku-{number}" in self.metadata, itertools.count(1))
        return tuple(
            Shortage(
                self.metadata[f"sku-{number}"],
                self._get_count(f"requested-{number}") or 0,
                self._get_count(f"available-{number}") or 0,
            )
            for number in numbers
        )


class QuantityMismatch(Conflict):
    """The quantity on hand is not `expected_quantity`."""

    reason = "QUANTITY_MISMATCH"

    @property
    def on_hand(self) -> int | None:
        """Current units on hand."""
        return self._get_count("on_hand")


class CountBelowCommitted(Conflict):
    """Fewer units were counted than are reserved and allocated. Set `backorder_shortage` to record the loss."""

    reason = "COUNT_BELOW_COMMITTED"

    @property
    def committed(self) -> int:
        """The units that are reserved or allocated."""
        return (self._get_count("reserved") or 0) + (self._get_count("allocated") or 0)


class CustomerNotFound(NotFound):
    """No such customer."""

    reason = "CUSTOMER_NOT_FOUND"


class OrderNotFound(NotFound):
    """No such order."""

    reason = "ORDER_NOT_FOUND"


class OrderLineNotFound(NotFound):
    """The order has no line with this number."""

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


class UserNotFound(NotFound):
    """No such user."""

    reason = "USER_NOT_FOUND"


class UserSessionNotFound(NotFound):
    """No such session of this user."""

    reason = "USER_SESSION_NOT_FOUND"


class RoleBuiltIn(Conflict):
    """A built-in role cannot be changed."""

    reason = "ROLE_BUILT_IN"


class ReplyExpired(Conflict):
    """The call is a repeat, and the secret in its first reply is no longer stored. Nothing was changed."""

    reason = "REPLY_EXPIRED"


class AuditEntryNotFound(NotFound):
    """No such audit entry."""

    reason = "AUDIT_ENTRY_NOT_FOUND"


class EventNotFound(NotFound):
    """No such event, or the caller may not read the changed resource."""

    reason = "EVENT_NOT_FOUND"


class WebhookEndpointNotFound(NotFound):
    """No such webhook endpoint."""

    reason = "WEBHOOK_ENDPOINT_NOT_FOUND"


class WebhookDeliveryNotFound(NotFound):
    """No such webhook delivery; finished deliveries are kept for some days."""

    reason = "WEBHOOK_DELIVERY_NOT_FOUND"


class PriceNotFound(NotFound):
    """No such price."""

    reason = "PRICE_NOT_FOUND"


class TaxZoneNotFound(NotFound):
    """No such tax zone."""

    reason = "TAX_ZONE_NOT_FOUND"


class TaxRateNotFound(NotFound):
    """No such tax rate."""

    reason = "TAX_RATE_NOT_FOUND"


class PromotionNotFound(NotFound):
    """No such promotion."""

    reason = "PROMOTION_NOT_FOUND"


class CouponNotFound(NotFound):
    """No such coupon."""

    reason = "COUPON_NOT_FOUND"


class ShippingMethodNotFound(NotFound):
    """No such shipping method."""

    reason = "SHIPPING_METHOD_NOT_FOUND"


class QuoteNotFound(NotFound):
    """No such quote."""

    reason = "QUOTE_NOT_FOUND"


class AuditEntryUnreadable(ServerError):
    """An audit entry was modified outside Storekeep or is damaged; `audit.verify_chain` reports the first."""

    reason = "AUDIT_ENTRY_UNREADABLE"


class CursorRefused(Refused):
    """Events cannot continue after a cursor."""

    @property
    def oldest_cursor(self) -> str:
        """The cursor with which the oldest kept event follows."""
        return self.metadata.get("oldest_cursor", "")


class EventsExpired(CursorRefused):
    """The events after a cursor are no longer kept."""

    reason = "EVENTS_EXPIRED"


class HistoryChanged(CursorRefused):
    """The event of a cursor was lost in a failover, or by restoring a backup. Try an earlier cursor."""

    reason = "HISTORY_CHANGED"


class Overloaded(ServerError):
    """The server rejected the call because its queue is too long to answer in time."""

    reason = "OVERLOADED"
    retryable = True


class RateLimited(ServerError):
    """The address, API key or account exceeded a rate limit. The client retries after the server's delay."""

    reason = "RATE_LIMITED"
    retryable = True

    @property
    def limit(self) -> str:
        """Name of the limit, such as `public calls per address`."""
        return self.metadata.get("limit", "")


class DeadlineExceeded(ServerError):
    """The deadline passed before the server started the call. Nothing was changed."""

    reason = "DEADLINE_EXCEEDED"


class StorageFull(ServerError):
    """The disk of the database is full. Nothing was changed."""

    reason = "STORAGE_FULL"


class ReadTooExpensive(ServerError):
    """A statement of the read took longer than the server allows. Use fewer or narrower conditions in the filter."""

    reason = "READ_TOO_EXPENSIVE"


class StorageUnavailable(ServerError):
    """The database is unavailable."""

    reason = "STORAGE_UNAVAILABLE"
    retryable = True


class IdentityProviderUnavailable(ServerError):
    """The keys of the identity provider could not be downloaded yet."""

    reason = "IDENTITY_PROVIDER_UNAVAILABLE"
    retryable = True


class ShuttingDown(ServerError):
    """The server is shutting down and accepts no new calls. Another server, or its successor, will."""

    reason = "SHUTTING_DOWN"
    retryable = True


class TooManyWatchers(ServerError):
    """The server, the address or the API key has as many streams of events as it may have."""

    reason = "TOO_MANY_WATCHERS"


class WatcherTooSlow(Conflict):
    """The events of a stream were not read in time."""

    reason = "WATCHER_TOO_SLOW"


class InternalError(ServerError):
    """A defect of the server. Its log has the details under the request id."""

    reason = "INTERNAL"


def _list_leaf_classes(parent: type[Refused]) -> Iterable[type[Refused]]:
    for child in parent.__subclasses__():
        yield from (child,) if "reason" in vars(child) else _list_leaf_classes(child)


REASONS: Mapping[str, type[Refused]] = {leaf.reason: leaf for leaf in _list_leaf_classes(Refused)}
"""The exception class of each error reason."""
