"""Why the domain refuses: each class is a fact, its attributes are the facts' particulars.

DomainError
├── InvalidArgument         InvalidFilter, InvalidOrderBy, InvalidPageToken, InvalidUpdateMask, RequestIdReused,
│   │                       CategoryCycle, UnknownPermission
│   └── FieldViolation      InvalidField, InvalidAmount, UnknownCurrency, CurrencyMismatch
├── NotFound                SkuNotFound, OrderLineNotFound
│   └── ResourceNotFound    CategoryNotFound, ProductNotFound, VariantNotFound, LocationNotFound,
│                           StockLevelNotFound, StockMovementNotFound, ReservationNotFound, CustomerNotFound,
│                           OrderNotFound, FulfillmentNotFound, ServiceAccountNotFound, ApiKeyNotFound,
│                           RoleNotFound, AuditEntryNotFound
├── Conflict                AlreadyExists, SkuTaken, EtagMismatch
├── FailedPrecondition      ResourceDeleted, ResourceNotDeleted, ResourceInUse, IllegalState, OrderHeld,
│                           OrderNotHeld, UnitsNotOpen, NotForSale, OutOfStock, QuantityMismatch, RoleBuiltIn,
│                           ReplyExpired
├── AuditEntryUnreadable
├── BatchTooLarge
└── AccessRefused           Unauthenticated, TokenExpired, TokenRevoked, ApiKeyInvalid, PermissionDenied,
                            PrivilegeEscalation
"""

from __future__ import annotations

import itertools
from typing import ClassVar, Self


class DomainError(Exception):
    """A refusal. Its attributes are what the caller is told, beside the text."""

    @property
    def metadata(self) -> dict[str, str]:
        """The attributes, as the text that goes on the wire."""
        return {name: str(value) for name, value in vars(self).items() if not name.startswith("_")}


# -- the request itself


class InvalidArgument(DomainError):
    """The request can never succeed as it is."""


class FieldViolation(InvalidArgument):
    """Wrong at one field, which it names as the contract does.

    Attributes:
        field: path of the field within the request, such as `lines[0].sku`.
        problem: what is wrong with it.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class InvalidField(FieldViolation):
    """A field breaks a rule that the contract's constraints cannot say."""


class InvalidFilter(InvalidArgument):
    """The filter cannot be understood.

    Attributes:
        position: 1-based column where reading it stopped making sense.
        problem: what is wrong there.
    """

    def __init__(self, problem: str, *, position: int) -> None:
        super().__init__(f"filter, position {position}: {problem}")
        self.position = position
        self.problem = problem


class InvalidOrderBy(InvalidArgument):
    """`order_by` names what cannot be sorted by."""

    def __init__(self, term: str, *, sortable: tuple[str, ...]) -> None:
        super().__init__(f"order_by: cannot sort by {term!r}; can by: {', '.join(sortable)}")
        self.term = term
        self.sortable = ", ".join(sortable)


class InvalidPageToken(InvalidArgument):
    """The page token is damaged, or belongs to another query."""

    def __init__(self) -> None:
        super().__init__("page_token: not a token of this query; begin again without one")


class InvalidUpdateMask(InvalidArgument):
    """The mask names a field that is not there or cannot be changed."""

    def __init__(self, path: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(f"update_mask: {path!r} cannot be changed; these can: {', '.join(allowed)}")
        self.path = path
        self.allowed = ", ".join(allowed)


class InvalidAmount(FieldViolation):
    """An amount that is negative, too large, or finer than its currency."""


class UnknownCurrency(FieldViolation):
    """Not an active currency of ISO 4217."""


class CurrencyMismatch(FieldViolation):
    """Amounts in different currencies where one is needed."""


class RequestIdReused(InvalidArgument):
    """The same caller used this request id before, with another payload or another API key."""

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"request_id {request_id} was used before with another payload or by another API key; nothing was done"
        )
        self.request_id = request_id


class CategoryCycle(InvalidArgument):
    """A category would be below itself."""

    def __init__(self, category: str, *, parent: str) -> None:
        super().__init__(f"{parent} is {category} or below it, so it cannot be above it")
        self.category = category
        self.parent = parent


class UnknownPermission(InvalidArgument):
    """No RPC asks for this permission."""

    def __init__(self, permission: str) -> None:
        super().__init__(f"no such permission: {permission}")
        self.permission = permission


# -- what is not there


class NotFound(DomainError):
    """What the request names does not exist."""


class ResourceNotFound(NotFound):
    """No resource has the name.

    Attributes:
        resource: the name that was asked for.
    """

    kind: ClassVar[str] = "resource"

    def __init__(self, resource: str) -> None:
        super().__init__(f"no such {self.kind}: {resource}")
        self.resource = resource


class CategoryNotFound(ResourceNotFound):
    """No such category."""

    kind = "category"


class ProductNotFound(ResourceNotFound):
    """No such product."""

    kind = "product"


class VariantNotFound(ResourceNotFound):
    """No such variant."""

    kind = "variant"


class SkuNotFound(NotFound):
    """No variant has this SKU."""

    def __init__(self, sku: str) -> None:
        super().__init__(f"no variant has the SKU {sku}")
        self.sku = sku


class LocationNotFound(ResourceNotFound):
    """No such location."""

    kind = "location"


class StockLevelNotFound(ResourceNotFound):
    """There has never been stock of the SKU at the location."""

    kind = "stock level"


class StockMovementNotFound(ResourceNotFound):
    """No such stock movement."""

    kind = "stock movement"


class ReservationNotFound(ResourceNotFound):
    """No such reservation."""

    kind = "reservation"


class CustomerNotFound(ResourceNotFound):
    """No such customer."""

    kind = "customer"


class OrderNotFound(ResourceNotFound):
    """No such order."""

    kind = "order"


class OrderLineNotFound(NotFound):
    """The order has no line of this number.

    Attributes:
        resource: the order's name.
        line_number: that it does not have.
    """

    def __init__(self, order: str, *, line_number: int) -> None:
        super().__init__(f"{order} has no line {line_number}")
        self.resource = order
        self.line_number = line_number


class FulfillmentNotFound(ResourceNotFound):
    """No such fulfilment."""

    kind = "fulfilment"


class ServiceAccountNotFound(ResourceNotFound):
    """No such service account."""

    kind = "service account"


class ApiKeyNotFound(ResourceNotFound):
    """No such API key."""

    kind = "API key"


class RoleNotFound(ResourceNotFound):
    """No such role."""

    kind = "role"


class AuditEntryNotFound(ResourceNotFound):
    """No such audit entry."""

    kind = "audit entry"


class AuditEntryUnreadable(DomainError):
    """An audit entry holds what the program never writes: somebody changed it by other means, or the disk did.

    Attributes:
        resource: its name; `auditEntries/-` where it is one of a page.
    """

    def __init__(self, resource: str) -> None:
        super().__init__(f"{resource} cannot be read: it was changed by other means; storekeep audit verify tells more")
        self.resource = resource


# -- what is there already, or was changed meanwhile


class Conflict(DomainError):
    """The request collides with what is there."""


class AlreadyExists(Conflict):
    """A resource of that name exists, deleted or not."""

    def __init__(self, resource: str) -> None:
        super().__init__(f"{resource} exists already")
        self.resource = resource


class SkuTaken(Conflict):
    """Another variant has the SKU."""

    def __init__(self, sku: str, *, variant: str) -> None:
        super().__init__(f"the SKU {sku} belongs to {variant}")
        self.sku = sku
        self.variant = variant


class EtagMismatch(Conflict):
    """The resource was changed since the caller saw it.

    Attributes:
        resource: its name.
        etag: the current one.
    """

    def __init__(self, resource: str, *, etag: str) -> None:
        super().__init__(f"{resource} was changed meanwhile; its etag is now {etag}")
        self.resource = resource
        self.etag = etag


# -- what the state of things does not allow


class FailedPrecondition(DomainError):
    """The state of things does not allow it."""


class ResourceDeleted(FailedPrecondition):
    """It is deleted; undelete it first."""

    def __init__(self, resource: str) -> None:
        super().__init__(f"{resource} is deleted")
        self.resource = resource


class ResourceNotDeleted(FailedPrecondition):
    """It is not deleted, so there is nothing to undelete."""

    def __init__(self, resource: str) -> None:
        super().__init__(f"{resource} is not deleted")
        self.resource = resource


class ResourceInUse(FailedPrecondition):
    """Something else still refers to it.

    Attributes:
        resource: its name.
        user: the name of one thing that refers to it.
    """

    def __init__(self, resource: str, *, user: str) -> None:
        super().__init__(f"{resource} is in use by {user}")
        self.resource = resource
        self.user = user


class IllegalState(FailedPrecondition):
    """The state machine has no such step.

    Attributes:
        resource: whose state it is.
        state: the state that it is in.
        wanted: the state that it should have gone to.
    """

    def __init__(self, resource: str, *, state: str, wanted: str) -> None:
        super().__init__(f"{resource} is {state}; it cannot become {wanted}")
        self.resource = resource
        self.state = state
        self.wanted = wanted


class OrderHeld(FailedPrecondition):
    """The order is held; resume it first.

    Attributes:
        resource: its name.
        hold_reason: why it is held.
    """

    def __init__(self, order: str, *, hold_reason: str) -> None:
        super().__init__(f"{order} is held{': ' if hold_reason else ''}{hold_reason}")
        self.resource = order
        self.hold_reason = hold_reason


class OrderNotHeld(FailedPrecondition):
    """The order is not held, so there is nothing to resume."""

    def __init__(self, order: str) -> None:
        super().__init__(f"{order} is not held")
        self.resource = order


class UnitsNotOpen(FailedPrecondition):
    """Fewer units of a line are open, and bound to no fulfilment, than are needed.

    Attributes:
        resource: the order's name.
        line_number: which line.
        wanted: units that are needed.
        open: units that are there.
    """

    def __init__(self, order: str, *, line_number: int, wanted: int, there: int) -> None:
        super().__init__(f"line {line_number} of {order} has {there} units open and unbound, not {wanted}")
        self.resource = order
        self.line_number = line_number
        self.wanted = wanted
        self.open = there


class NotForSale(FailedPrecondition):
    """The variant, or its product, is archived or deleted."""

    def __init__(self, sku: str) -> None:
        super().__init__(f"{sku} is not for sale")
        self.sku = sku


class OutOfStock(FailedPrecondition):
    """Fewer units are there than were asked for.

    Attributes:
        skus: the short SKUs, in order; for each, `wanted.SKU` and `available.SKU` follow in the metadata.
            Of very many, the first; `more` then says how many are not told.
    """

    told_characters_max: ClassVar[int] = 1_500
    """Of all that is told: what has room in the details of a status."""

    def __init__(self, shortages: dict[str, tuple[int, int]]) -> None:
        characters = itertools.accumulate(3 * len(sku) + 40 for sku in shortages)
        told_max = sum(1 for count in characters if count <= self.told_characters_max)
        self._shortages = dict(itertools.islice(shortages.items(), told_max))
        self._more = len(shortages) - len(self._shortages)
        told = [f"{sku} ({wanted} wanted, {there} there)" for sku, (wanted, there) in self._shortages.items()]
        super().__init__(f"out of stock: {', '.join(told)}" + (f", and {self._more} more" if self._more else ""))

    @property
    def metadata(self) -> dict[str, str]:
        """`skus`, and what was wanted and what is there of each."""
        facts = {"skus": ",".join(self._shortages)}
        for sku, (wanted, available) in self._shortages.items():
            facts[f"wanted.{sku}"] = str(wanted)
            facts[f"available.{sku}"] = str(available)
        return facts | ({"more": str(self._more)} if self._more else {})


class QuantityMismatch(FailedPrecondition):
    """Another quantity is on hand than the caller expected."""

    def __init__(self, stock_level: str, *, expected_quantity: int, on_hand: int) -> None:
        super().__init__(f"{stock_level} has {on_hand} units on hand, not {expected_quantity}")
        self.resource = stock_level
        self.expected_quantity = expected_quantity
        self.on_hand = on_hand


class RoleBuiltIn(FailedPrecondition):
    """A built-in role cannot be changed."""

    def __init__(self, role: str) -> None:
        super().__init__(f"{role} is built in")
        self.resource = role


class ReplyExpired(FailedPrecondition):
    """The call was made before, and the secret in its reply is not kept any more.

    Attributes:
        resource: the key that it made.
    """

    def __init__(self, api_key: str) -> None:
        super().__init__(
            f"this call made {api_key} already; its secret is not kept any more: rotate the key for another"
        )
        self.resource = api_key


# -- who may


class AccessRefused(DomainError):
    """Who the caller is does not allow it."""

    _session_id = ""

    @property
    def session_id(self) -> str:
        """The session of the token that was refused, for the log alone; empty where it is not known."""
        return self._session_id

    def of_session(self, session_id: str) -> Self:
        """Note the session of the token that is refused."""
        self._session_id = session_id
        return self


class Unauthenticated(AccessRefused):
    """No credentials, or none that can be verified."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)


class BatchTooLarge(DomainError):
    """The resources that were asked for together are too large for one reply."""

    def __init__(self, count: int) -> None:
        super().__init__(f"the reply would be too large; ask for fewer names at a time, such as the first {count}")


class TokenExpired(AccessRefused):
    """The token's lifetime is over."""

    def __init__(self) -> None:
        super().__init__("the token has expired")


class TokenRevoked(AccessRefused):
    """The token, or all that was issued to its subject, was revoked."""

    def __init__(self) -> None:
        super().__init__("the token was revoked")


class ApiKeyInvalid(AccessRefused):
    """The API key is unknown, revoked or expired."""

    def __init__(self) -> None:
        super().__init__("the API key is unknown, revoked or expired")


class PermissionDenied(AccessRefused):
    """The caller lacks the permission."""

    def __init__(self, permission: str) -> None:
        super().__init__(f"this needs the permission {permission}")
        self.permission = permission


class PrivilegeEscalation(AccessRefused):
    """The caller would grant, or change something that holds, what it does not hold itself."""

    def __init__(self, permission: str) -> None:
        super().__init__(f"you cannot do this to what holds {permission}, or grant it: you do not hold it yourself")
        self.permission = permission
