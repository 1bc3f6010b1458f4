"""The errors of the domain: each class is a fact, and its attributes are the details.

DomainError
├── InvalidArgument         InvalidFilter, InvalidOrderBy, InvalidPageToken, InvalidUpdateMask, RequestIdReused,
│   │                       CategoryCycle, UnknownPermission, PasswordNotAllowed
│   └── FieldViolation      InvalidField, InvalidAmount, UnknownCurrency, CurrencyMismatch
├── NotFound                SkuNotFound, OrderLineNotFound
│   └── ResourceNotFound    CategoryNotFound, ProductNotFound, VariantNotFound, LocationNotFound,
│                           StockLevelNotFound, StockMovementNotFound, ReservationNotFound, CustomerNotFound,
│                           OrderNotFound, FulfillmentNotFound, ServiceAccountNotFound, ApiKeyNotFound,
│                           RoleNotFound, UserNotFound, UserSessionNotFound, AuditEntryNotFound, EventNotFound,
│                           WebhookEndpointNotFound, WebhookDeliveryNotFound, PriceNotFound, TaxZoneNotFound,
│                           TaxRateNotFound, PromotionNotFound, CouponNotFound, ShippingMethodNotFound,
│                           QuoteNotFound
├── Conflict                AlreadyExists, SkuTaken, ReferenceTaken, EtagMismatch, ResourceNotDeleted
├── FailedPrecondition      ResourceDeleted, ResourceInUse, IllegalState, FieldNotChangeable, OrderHeld, OrderNotHeld,
│                           UnitsNotOpen, NotForSale, QuantityNotAllowed, CouponNotApplicable, PriceChanged,
│                           OutOfStock, QuantityMismatch, RoleBuiltIn, CountBelowCommitted, ReplyExpired,
│                           PersonalDataErased
├── AuditEntryUnreadable
├── BatchTooLarge
├── CursorRefused           EventsExpired, HistoryChanged
├── TooManyWatchers
└── WatcherTooSlow

Those of access are in `access_errors`.
"""

from __future__ import annotations

import itertools
import re
from typing import ClassVar


class DomainError(Exception):
    """An error for the caller. Its attributes go to the caller as metadata, beside the text."""

    TEXT: ClassVar = ""

    def __init__(self, text: str = "") -> None:
        super().__init__(text or self.TEXT)

    @property
    def metadata(self) -> dict[str, str]:
        """The attributes as strings, for the error details on the wire."""
        return {name: str(value) for name, value in vars(self).items() if not name.startswith("_")}

    def set_index(self, index: int) -> None:
        """Name the item of a batch that failed, in the text and the metadata."""
        self.args = (f"requests[{index}]: {self}",)
        self.index = index


# -- invalid requests


class InvalidArgument(DomainError):
    """The request is invalid, whatever the state of the server."""


class FieldViolation(InvalidArgument):
    """One field of the request is invalid.

    Attributes:
        field: the path of the field in the request, such as `lines[0].sku`.
        problem: what is wrong with it.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def set_parent(self, parent: str) -> None:
        """Name the message of the request that has the field, in the text and the path."""
        self.args = (f"{parent}.{self}",)
        self.field = f"{parent}.{self.field}"

    def set_index(self, index: int) -> None:
        """Name the item of a batch in the path of the field too."""
        self.args = (f"requests[{index}].{self}",)
        self.field = f"requests[{index}].{self.field}"
        self.index = index


class InvalidField(FieldViolation):
    """A field breaks a rule that the contract's constraints cannot express."""


class InvalidFilter(InvalidArgument):
    """The filter cannot be parsed.

    Attributes:
        position: the 1-based position of the error, in characters.
        problem: what is wrong there.
    """

    def __init__(self, problem: str, *, position: int) -> None:
        super().__init__(f"filter, position {position}: {problem}")
        self.position = position
        self.problem = problem


class InvalidOrderBy(InvalidArgument):
    """`order_by` is malformed or names a field that cannot be sorted by."""

    def __init__(self, term: str, *, sortable: tuple[str, ...]) -> None:
        super().__init__(f"order_by: cannot sort by {term!r}; use one of: {', '.join(sortable)}")
        self.term = term
        self.sortable = ", ".join(sortable)


class InvalidPageToken(InvalidArgument):
    """The page token is damaged or belongs to another query."""

    TEXT = "page_token: not valid for this query; start again without a page token"


class InvalidUpdateMask(InvalidArgument):
    """The mask names a field that does not exist or cannot be changed."""

    def __init__(self, path: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(f"update_mask: {path!r} cannot be changed; use one of: {', '.join(allowed)}")
        self.path = path
        self.allowed = ", ".join(allowed)


class InvalidAmount(FieldViolation):
    """An amount is negative, too large, or has more decimal places than its currency."""


class UnknownCurrency(FieldViolation):
    """The code is not that of an active ISO 4217 currency."""


class CurrencyMismatch(FieldViolation):
    """Amounts that must have the same currency do not."""


class RequestIdReused(InvalidArgument):
    """The caller used this request id before, with another payload or another API key."""

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"request_id {request_id} was used before with another payload or API key; nothing was changed"
        )
        self.request_id = request_id


class CategoryCycle(InvalidArgument):
    """A category would become its own ancestor."""

    def __init__(self, category: str, *, parent: str) -> None:
        super().__init__(f"{parent} cannot be the parent of {category}: that would be a cycle")
        self.category = category
        self.parent = parent


class UnknownPermission(InvalidArgument):
    """No RPC requires this permission."""

    def __init__(self, permission: str) -> None:
        super().__init__(f"no such permission: {permission}")
        self.permission = permission


class PasswordNotAllowed(InvalidArgument):
    """The new password breaks a rule; `rule` has it in words."""

    def __init__(self, rule: str) -> None:
        super().__init__(f"choose another password: {rule}")
        self.rule = rule


# -- missing resources


class NotFound(DomainError):
    """A resource that the request names does not exist."""


class ResourceNotFound(NotFound):
    """No resource has the requested name (`resource`), or the one to delete is already deleted (AIP-164)."""

    kind: ClassVar[str] = "resource"
    """What it is, for the text: by default the words of the class."""

    def __init_subclass__(cls) -> None:
        cls.kind = vars(cls).get("kind", re.sub("(?!^)([A-Z])", r" \1", cls.__name__.removesuffix("NotFound")).lower())

    def __init__(self, resource: str, *, deleted: bool = False) -> None:
        super().__init__(f"{resource} is already deleted" if deleted else f"no such {self.kind}: {resource}")
        self.resource = resource


class CategoryNotFound(ResourceNotFound):
    """No such category."""


class ProductNotFound(ResourceNotFound):
    """No such product."""


class VariantNotFound(ResourceNotFound):
    """No such variant."""


class SkuNotFound(NotFound):
    """No variant has this SKU."""

    def __init__(self, sku: str) -> None:
        super().__init__(f"no variant has the SKU {sku}")
        self.sku = sku


class LocationNotFound(ResourceNotFound):
    """No such location."""


class StockLevelNotFound(ResourceNotFound):
    """The location has never had stock of the SKU."""


class StockMovementNotFound(ResourceNotFound):
    """No such stock movement."""


class ReservationNotFound(ResourceNotFound):
    """No such reservation."""


class CustomerNotFound(ResourceNotFound):
    """No such customer."""


class OrderNotFound(ResourceNotFound):
    """No such order."""


class OrderLineNotFound(NotFound):
    """The order has no line with this number.

    Attributes:
        resource: the order's name.
        line_number: the requested line number.
    """

    def __init__(self, order: str, *, order_number: str, line_number: int) -> None:
        super().__init__(f"{_name_order(order_number)} has no line {line_number}")
        self.resource = order
        self.line_number = line_number


class FulfillmentNotFound(ResourceNotFound):
    """No such fulfilment."""

    kind = "fulfilment"


class ServiceAccountNotFound(ResourceNotFound):
    """No such service account."""


class ApiKeyNotFound(ResourceNotFound):
    """No such API key."""

    kind = "API key"


class RoleNotFound(ResourceNotFound):
    """No such role."""


class UserNotFound(ResourceNotFound):
    """No such user."""


class UserSessionNotFound(ResourceNotFound):
    """No such session."""


class WebhookEndpointNotFound(ResourceNotFound):
    """No such webhook endpoint."""


class WebhookDeliveryNotFound(ResourceNotFound):
    """No such webhook delivery."""


class PriceNotFound(ResourceNotFound):
    """No such price."""


class TaxZoneNotFound(ResourceNotFound):
    """No such tax zone."""


class TaxRateNotFound(ResourceNotFound):
    """No such tax rate."""


class PromotionNotFound(ResourceNotFound):
    """No such promotion."""


class CouponNotFound(ResourceNotFound):
    """No such coupon."""


class ShippingMethodNotFound(ResourceNotFound):
    """No such shipping method."""


class QuoteNotFound(ResourceNotFound):
    """No such quote."""


class AuditEntryNotFound(ResourceNotFound):
    """No such audit entry."""


class EventNotFound(ResourceNotFound):
    """No such event, or the caller may not see it."""


class AuditEntryUnreadable(DomainError):
    """An audit entry holds data that Storekeep never writes: it was changed by other means, or the disk is damaged.

    Attributes:
        resource: the name of the entry; `auditEntries/-` for an entry on a page.
    """

    def __init__(self, resource: str) -> None:
        super().__init__(
            f"{resource} cannot be read: it was changed outside Storekeep; for details, run: storekeep audit verify"
        )
        self.resource = resource


# -- conflicts with existing resources


class Conflict(DomainError):
    """The request conflicts with an existing resource."""


class AlreadyExists(Conflict):
    """A resource with this name, or with the same of what must differ, already exists; it may be deleted."""

    def __init__(self, resource: str, *, problem: str = "already exists") -> None:
        super().__init__(f"{resource} {problem}")
        self.resource = resource


class SkuTaken(Conflict):
    """Another variant has the SKU."""

    def __init__(self, sku: str, *, variant: str) -> None:
        super().__init__(f"the SKU {sku} belongs to {variant}")
        self.sku = sku
        self.variant = variant


class ReferenceTaken(Conflict):
    """Another resource has the reference, which must be unique.

    Attributes:
        resource: the name of the other resource: an order, or an active reservation.
        reference: the reference.
        source: the system that the reference of an order comes from; may be empty.
    """

    def __init__(self, reference: str, *, resource: str, source: str = "") -> None:
        of_source = f" of {source!r}" if source else ""
        super().__init__(f"the reference {reference!r}{of_source} belongs to {resource}")
        self.resource = resource
        self.reference = reference
        self.source = source


class EtagMismatch(Conflict):
    """The resource was changed since the caller read it; `etag` is its current one."""

    def __init__(self, resource: str, *, etag: str) -> None:
        super().__init__(f"{resource} was changed since it was read; its etag is now {etag}")
        self.resource = resource
        self.etag = etag


class ResourceNotDeleted(Conflict):
    """The resource is not deleted, so it cannot be undeleted (AIP-164)."""

    def __init__(self, resource: str) -> None:
        super().__init__(f"{resource} is not deleted")
        self.resource = resource


# -- states that do not allow the request


class FailedPrecondition(DomainError):
    """The current state does not allow the request."""


class ResourceDeleted(FailedPrecondition):
    """The resource is deleted; undelete it first, unless it was merged into another one or erased."""

    def __init__(self, resource: str, *, merged_into: str = "", state: str = "deleted") -> None:
        super().__init__(f"{resource} is {state}" + (f"; it was merged into {merged_into}" if merged_into else ""))
        self.resource = resource


class ResourceInUse(FailedPrecondition):
    """Another resource, `user`, still refers to this one, `resource`. `way_out` says what the caller can do."""

    def __init__(self, resource: str, *, user: str, way_out: str = "") -> None:
        super().__init__(f"{resource} is in use by {user}" + (f"; {way_out}" if way_out else ""))
        self.resource = resource
        self.user = user


class PersonalDataErased(FailedPrecondition):
    """The personal data of a person was erased, so none can be stored about them.

    Attributes:
        resource: the name of the person, such as that of a customer.
    """

    def __init__(self, resource: str) -> None:
        super().__init__(f"the personal data of {resource} was erased; leave out texts, addresses and tracking numbers")
        self.resource = resource


def _name_order(number: str) -> str:
    """Return how a text names an order: people know its number, not its resource name. Empty without a number."""
    return f"order {number}" if number else ""


class IllegalState(FailedPrecondition):
    """The state machine has no such transition. `problem` describes it (default: the state cannot become `target`).

    `way_out` says what the caller can do. `sentence` replaces the words about states, where these are no plain words.

    Attributes:
        resource: the name of the resource.
        state: its current state.
        wanted: the requested state.
    """

    def __init__(
        self,
        resource: str,
        *,
        state: str,
        target: str,
        order_number: str = "",
        problem: str = "",
        way_out: str = "",
        sentence: str = "",
    ) -> None:
        subject = _name_order(order_number) or resource
        problem = problem or f"it cannot become {target}"
        text = f"{subject} is already {state}" if state == target else f"{subject} is {state}; {problem}"
        text = f"{subject} {sentence}" if sentence else text
        super().__init__(text + (f"; {way_out}" if way_out else ""))
        self.resource = resource
        self.state = state
        self.wanted = target


class FieldNotChangeable(FailedPrecondition):
    """The state of the resource does not allow a change of this field.

    Attributes:
        resource: the name of the resource.
        field: the field of the resource, such as `shipping_address`.
        state: the current state of the resource.
    """

    def __init__(self, resource: str, *, field: str, state: str, order_number: str = "") -> None:
        super().__init__(f"{_name_order(order_number) or resource} is {state}; its {field} can no longer change")
        self.resource = resource
        self.field = field
        self.state = state


class OrderHeld(FailedPrecondition):
    """The order is held; resume it first. `hold_reason` may be empty."""

    def __init__(self, order: str, *, order_number: str, hold_reason: str) -> None:
        super().__init__(f"{_name_order(order_number)} is held{': ' if hold_reason else ''}{hold_reason}")
        self.resource = order
        self.hold_reason = hold_reason


class OrderNotHeld(FailedPrecondition):
    """The order is not held, so it cannot be resumed."""

    def __init__(self, order: str, *, order_number: str) -> None:
        super().__init__(f"{_name_order(order_number)} is not held")
        self.resource = order


class UnitsNotOpen(FailedPrecondition):
    """A line has fewer open units without a fulfilment than requested.

    Attributes:
        resource: the order's name.
        line_number: the line.
        wanted: the requested units.
        open: the open units that no fulfilment contains.
    """

    def __init__(self, order: str, *, order_number: str, line_number: int, requested: int, available: int) -> None:
        line = f"line {line_number} of {_name_order(order_number)}"
        found = f"{available} open units without a fulfilment, fewer than the {requested} requested"
        super().__init__(f"{line} has {found if available else 'no open unit without a fulfilment'}")
        self.resource = order
        self.line_number = line_number
        self.wanted = requested
        self.open = available


class NotForSale(FailedPrecondition):
    """The variant or its product is archived or deleted, or the product is a draft."""

    def __init__(self, sku: str) -> None:
        super().__init__(f"{sku} is not for sale")
        self.sku = sku


class QuantityNotAllowed(FailedPrecondition):
    """The units of a SKU break one of its quantity rules.

    Attributes:
        sku: the SKU.
        rule: `minimum`, `maximum` or `multiple`.
        limit: the number that the rule sets.
        quantity: the units, over all lines.
    """

    def __init__(self, sku: str, *, rule: str, limit: int, quantity: int) -> None:
        super().__init__(f"{sku}: the quantity {quantity} breaks its quantity rule: {rule} {limit}")
        self.sku = sku
        self.rule = rule
        self.limit = limit
        self.quantity = quantity


class CouponNotApplicable(FailedPrecondition):
    """A coupon code does not reduce the price of the order.

    Attributes:
        code: the code as it was sent.
        problem: the reason, such as `USED_UP`; see `CouponProblem` in the contract.
    """

    def __init__(self, code: str, *, problem: str) -> None:
        super().__init__(f"the code {code!r} does not apply: {problem.lower().replace('_', ' ')}")
        self.code = code
        self.problem = problem


class PriceChanged(FailedPrecondition):
    """The order costs another total than the caller expected.

    Attributes:
        expected_minor, total_minor: both totals in minor units.
    """

    def __init__(self, *, currency_code: str, expected_minor: int, total_minor: int, expected: str, total: str) -> None:
        """Keep the totals in minor units. `expected` and `total` are the same as people write them."""
        super().__init__(f"the order costs {total}, but {expected} was expected")
        self.currency_code = currency_code
        self.expected_minor = expected_minor
        self.total_minor = total_minor


class OutOfStock(FailedPrecondition):
    """Fewer units are available than requested.

    The metadata has `sku-1`, `requested-1` and `available-1` for the first short SKU, `sku-2` and so on for the next,
    and all of them in `skus`. If there are too many to list, `more` counts the rest. A SKU cannot be part of a key: it
    may have characters that keys may not (AIP-193).
    """

    listed_characters_max: ClassVar[int] = 1_500
    """The most characters of listed shortages: they must fit into the details of a gRPC status."""

    def __init__(self, shortages: dict[str, tuple[int, int]]) -> None:
        self._shortages = shortages
        characters = itertools.accumulate(3 * len(sku) + 40 for sku in shortages)
        listed_max = sum(1 for count in characters if count <= self.listed_characters_max)
        listed = dict(itertools.islice(shortages.items(), listed_max))
        more = len(shortages) - len(listed)
        texts = [
            f"{sku} ({requested} requested, {available} available)" for sku, (requested, available) in listed.items()
        ]
        super().__init__(f"out of stock: {', '.join(texts)}" + (f", and {more} more" if more else ""))
        details: dict[str, object] = {"skus": ",".join(listed)}
        for number, (sku, (requested, available)) in enumerate(listed.items(), start=1):
            details |= {f"sku-{number}": sku, f"requested-{number}": requested, f"available-{number}": available}
        vars(self).update(details | ({"more": more} if more else {}))

    @property
    def shortages(self) -> dict[str, tuple[int, int]]:
        """The requested and the available units of each short SKU. Not kept by a restored error."""
        return self._shortages


class QuantityMismatch(FailedPrecondition):
    """The quantity on hand differs from the caller's expected quantity."""

    def __init__(self, stock_level: str, *, expected_quantity: int, on_hand: int) -> None:
        super().__init__(f"{stock_level}: the quantity on hand is {on_hand}, not {expected_quantity}")
        self.resource = stock_level
        self.expected_quantity = expected_quantity
        self.on_hand = on_hand


class CountBelowCommitted(FailedPrecondition):
    """Fewer units were counted than are reserved and allocated, less those that may be backordered."""

    def __init__(self, stock_level: str, *, quantity: int, reserved: int, allocated: int, backorder_limit: int) -> None:
        super().__init__(
            f"{stock_level}: {quantity} counted, but {reserved} are reserved and {allocated} allocated; "
            "release or cancel some, or set `backorder_shortage` to record the loss"
        )
        self.resource = stock_level
        self.quantity = quantity
        self.reserved = reserved
        self.allocated = allocated
        self.backorder_limit = backorder_limit


class RoleBuiltIn(FailedPrecondition):
    """A built-in role cannot be changed."""

    def __init__(self, role: str) -> None:
        super().__init__(f"{role} is built in and cannot be changed")
        self.resource = role


class ReplyExpired(FailedPrecondition):
    """The call took effect before, and the secret in its reply is no longer stored.

    Attributes:
        resource: the API key that the first call created.
    """

    def __init__(self, api_key: str) -> None:
        super().__init__(
            f"an earlier call with this request_id created {api_key}, and its secret is no longer stored; create a "
            "new one, or rotate it"
        )
        self.resource = api_key


# -- events and batches


class BatchTooLarge(DomainError):
    """The requested resources are too large for one reply, or the items of a batch have too many search words.

    Args:
        count: how many of them fit, at least 1.
    """

    def __init__(self, count: int) -> None:
        super().__init__(f"these are too large for one call; request fewer at a time, such as the first {count}")


class CursorRefused(DomainError):
    """Events cannot continue after a cursor.

    Attributes:
        oldest_cursor: the cursor with which the oldest kept event follows.
    """

    def __init__(self, oldest_cursor: str) -> None:
        super().__init__()
        self.oldest_cursor = oldest_cursor


class EventsExpired(CursorRefused):
    """The events after a cursor are no longer kept."""

    TEXT = "the cursor is older than all kept events; continue with the oldest_cursor in the details"


class HistoryChanged(CursorRefused):
    """The ledger does not have the event of a cursor: changes were lost in a failover, or a backup was restored."""

    TEXT = "the event of the cursor was lost in a failover or a restore; continue with an earlier cursor"


class TooManyWatchers(DomainError):
    """The server, an address or an API key has as many watchers as it may have.

    Attributes:
        limit: the limit, such as `watchers per key`.
    """

    def __init__(self, limit: str, *, watchers_max: int) -> None:
        super().__init__(f"more {limit} than {watchers_max}; end another stream first")
        self.limit = limit


class WatcherTooSlow(DomainError):
    """The watcher did not read its events in time.

    Attributes:
        cursor: where to continue if nothing was received.
    """

    def __init__(self, cursor: str) -> None:
        super().__init__(f"the events were not read in time; continue with the last cursor received, or {cursor}")
        self.cursor = cursor
