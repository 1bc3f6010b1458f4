"""Promotions: discounts with conditions, from draft to active to ended. Their amounts have one currency."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.catalog.pricing_versions import raise_version
from storekeep.server.domain.errors import (
    CategoryNotFound,
    DomainError,
    IllegalState,
    InvalidField,
    ProductNotFound,
    PromotionNotFound,
    SkuNotFound,
)
from storekeep.server.domain.money import Money, get_minor_digits
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.pricing import terms
from storekeep.server.domain.pricing.amounts import check_ascending, check_currency
from storekeep.server.domain.pricing.counts import read_counts
from storekeep.server.domain.pricing.windows import check_window
from storekeep.server.domain.standard.collections import ACTIVE, Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.domain.standard.resources import check_etag, check_not_deleted
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import pricing as store

DRAFT, ENDED = "DRAFT", "ENDED"
STATES = (DRAFT, ACTIVE, ENDED)
SOURCES = {ACTIVE: (DRAFT,), ENDED: (DRAFT, ACTIVE)}
"""State -> the states from which it is reached."""
ENDED_TEXTS = {"problem": "this state is final", "way_out": "create another promotion"}
"""What the error about an ended promotion says."""
NAMED: tuple[tuple[str, Statement, Callable[[str], DomainError]], ...] = (
    ("skus", store.EXISTING_SKUS, SkuNotFound),
    ("product_ids", store.EXISTING_PRODUCTS, lambda one: ProductNotFound(f"products/{one}")),
    ("category_ids", store.EXISTING_CATEGORIES, lambda one: CategoryNotFound(f"categories/{one}")),
)
"""What selections name, the statement that finds those that exist, and the error for one that does not."""
WITH_AMOUNT = (terms.AMOUNT, terms.FIXED_UNIT_PRICE)
"""The kinds of actions whose value is an amount; that of all others is a percentage."""


Descendants = Mapping[str, Sequence[str]]
NO_DESCENDANTS: Descendants = {}


class ItemSelection(msgspec.Struct, frozen=True, omit_defaults=True):
    """Selects lines; see `ItemSelection` in the contract."""

    skus: tuple[str, ...] = ()
    product_ids: tuple[str, ...] = ()
    category_ids: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    inverted: bool = False

    def build_terms(self, descendants: Descendants) -> terms.Selection:
        """Return what the calculation reads: categories with all categories below them."""
        if self == EVERYTHING:
            return terms.EVERYTHING
        category_ids = (
            one for category_id in self.category_ids for one in descendants.get(category_id, (category_id,))
        )
        return terms.Selection(
            skus=frozenset(self.skus),
            product_ids=frozenset(self.product_ids),
            category_ids=frozenset(category_ids),
            labels=frozenset(self.labels.items()),
            inverted=self.inverted,
        )


EVERYTHING = ItemSelection()


class Conditions(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an order must have; see `PromotionConditions` in the contract."""

    subtotal_min: Money | None = None
    items: ItemSelection = ItemSelection()
    units_min: int = 0
    amount_min: Money | None = None
    groups: tuple[str, ...] = ()
    first_order: bool = False

    def build_terms(self, descendants: Descendants) -> terms.Conditions:
        """Return what the calculation reads."""
        if self == NO_CONDITIONS:
            return terms.NO_CONDITIONS
        return terms.Conditions(
            subtotal_min_minor=_get_minor(self.subtotal_min) or 0,
            items=self.items.build_terms(descendants),
            units_min=self.units_min,
            amount_min_minor=_get_minor(self.amount_min) or 0,
            groups=frozenset(self.groups),
            first_order=self.first_order,
        )


NO_CONDITIONS = Conditions()


class Tier(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value for larger orders; see `PromotionTier` in the contract."""

    percentage_ppm: int = 0
    amount: Money | None = None
    units_min: int = 0
    amount_min: Money | None = None


class Action(msgspec.Struct, frozen=True, omit_defaults=True):
    """A discount; see `PromotionAction` in the contract. Zero units stand for no limit."""

    kind: str = terms.PERCENTAGE
    percentage_ppm: int = 0
    amount: Money | None = None
    target: str = terms.LINES
    items: ItemSelection = ItemSelection()
    tiers: tuple[Tier, ...] = ()
    bought: ItemSelection | None = None
    buy_units: int = 0
    get_units: int = 0
    dearest_first: bool = False
    units_max: int = 0
    discount_max: Money | None = None

    def build_terms(self, descendants: Descendants) -> terms.Action:
        """Return what the calculation reads."""
        tiers = (
            terms.Tier(
                self._get_value(tier.percentage_ppm, tier.amount), tier.units_min, _get_minor(tier.amount_min) or 0
            )
            for tier in self.tiers
        )
        return terms.Action(
            self.kind,
            self._get_value(self.percentage_ppm, self.amount),
            target=self.target,
            items=self.items.build_terms(descendants),
            tiers=tuple(tiers),
            bought=None if self.bought is None else self.bought.build_terms(descendants),
            buy_units=self.buy_units,
            get_units=self.get_units,
            dearest_first=self.dearest_first,
            units_max=self.units_max or None,
            discount_max_minor=_get_minor(self.discount_max),
        )

    def _get_value(self, percentage_ppm: int, amount: Money | None) -> int:
        return (_get_minor(amount) or 0) if self.kind in WITH_AMOUNT else percentage_ppm


def _get_minor(amount: Money | None) -> int | None:
    return None if amount is None else amount.amount_minor


class Promotion(msgspec.Struct, frozen=True):
    """A promotion; see `Promotion` in the contract.

    Attributes:
        uses_max: 0 for no limit.
        uses: the number of orders that it applied to, as far as they are counted.
        spent_minor: the sum of their discounts, in minor units.
    """

    id: str
    display_name: str = ""
    state: str = DRAFT
    priority: int = 0
    exclusive: bool = False
    requires_coupon: bool = False
    currency_code: str = ""
    conditions: Conditions = Conditions()
    action: Action = Action()
    start_time_us: int | None = None
    end_time_us: int | None = None
    uses_max: int = 0
    budget: Money | None = None
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None
    uses: int = 0
    spent_minor: int = 0

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"promotions/{self.id}"

    def list_selections(self) -> list[ItemSelection]:
        """Return the selections of its conditions and its action."""
        selections = (self.conditions.items, self.action.items, self.action.bought)
        return [one for one in selections if one is not None]

    def list_categories(self) -> set[str]:
        """Return the ids of the categories that it names."""
        return {category_id for one in self.list_selections() for category_id in one.category_ids}

    def build_terms(self, descendants: Descendants = NO_DESCENDANTS) -> terms.Promotion:
        """Return what the calculation reads.

        Args:
            descendants: category -> itself and all categories below it.
        """
        return terms.Promotion(
            self.name,
            self.action.build_terms(descendants),
            display_name=self.display_name,
            conditions=self.conditions.build_terms(descendants),
            priority=self.priority,
            exclusive=self.exclusive,
            requires_coupon=self.requires_coupon,
            currency_code=self.currency_code,
            window=terms.make_window(self.start_time_us, self.end_time_us),
            uses_max=self.uses_max or None,
            budget_minor=_get_minor(self.budget),
        )


def _list_amounts(promotion: Promotion, field: str) -> Iterator[tuple[str, Money | None]]:
    """Yield the request field and the value of each amount."""
    conditions, action = promotion.conditions, promotion.action
    yield f"{field}.conditions.min_subtotal", conditions.subtotal_min
    yield f"{field}.conditions.min_amount", conditions.amount_min
    yield f"{field}.action.amount", action.amount
    yield f"{field}.action.max_discount", action.discount_max
    for index, tier in enumerate(action.tiers):
        yield f"{field}.action.tiers[{index}].amount", tier.amount
        yield f"{field}.action.tiers[{index}].min_amount", tier.amount_min
    yield f"{field}.budget", promotion.budget


def _check(tx: Transaction, new: Promotion, old: Promotion | None) -> None:
    """Check that the values of a promotion agree, that it has not ended, and that what it newly names exists.

    Raises: IllegalState, InvalidField, UnknownCurrency, CurrencyMismatch, SkuNotFound, ProductNotFound,
        CategoryNotFound.
    """
    if old is not None and old.state == ENDED:
        raise IllegalState(old.name, state=ENDED, target=ACTIVE, **ENDED_TEXTS)
    check_values(new, field="promotion")
    _check_named(tx, new, old)


def check_values(promotion: Promotion, *, field: str) -> None:
    """Check that the values of a promotion agree.

    Args:
        field: the field of the request that has the promotion.

    Raises: InvalidField, UnknownCurrency, CurrencyMismatch.
    """
    check_window(promotion.start_time_us, promotion.end_time_us, field=f"{field}.end_time")
    if promotion.currency_code:
        get_minor_digits(promotion.currency_code, field=f"{field}.currency_code")
    check_currency(_list_amounts(promotion, field), currency_code=promotion.currency_code)
    _check_action(promotion.action, field=f"{field}.action")


def _check_named(tx: Transaction, new: Promotion, old: Promotion | None) -> None:
    """Raise the error for the first SKU, product or category that an old promotion did not name and that is missing.

    What is deleted exists: it can be undeleted.

    Raises: SkuNotFound, ProductNotFound, CategoryNotFound.
    """
    for field, statement, make_error in NAMED:
        named = {one for selection in new.list_selections() for one in getattr(selection, field)}
        if old is not None:
            named -= {one for selection in old.list_selections() for one in getattr(selection, field)}
        if named:
            existing = statement.all(tx, ids=msgspec.json.encode(sorted(named)).decode())
            missing = sorted(named - {one for (one,) in existing})
            if missing:
                raise make_error(missing[0])


def _check_action(action: Action, *, field: str) -> None:
    """Check that an action has the values that its kind needs, and no others.

    Raises: InvalidField.
    """
    values = [(field, action.percentage_ppm, action.amount)]
    values += [(f"{field}.tiers[{i}]", t.percentage_ppm, t.amount) for i, t in enumerate(action.tiers)]
    for place, percentage_ppm, amount in values:
        has = {"amount": amount is not None, "percentage_ppm": bool(percentage_ppm)}
        needed = "amount" if action.kind in WITH_AMOUNT else "percentage_ppm"
        if not has[needed]:
            raise InvalidField(f"{place}.{needed}", f"is required for the kind {action.kind}")
        if all(has.values()):
            other = "a percentage" if needed == "amount" else "an amount"
            raise InvalidField(f"{place}.{needed}", f"the kind {action.kind} cannot have {other} too")
    is_group = action.kind == terms.BUY_X_GET_Y
    if is_group != bool(action.buy_units) or is_group != bool(action.get_units):
        raise InvalidField(f"{field}.buy_units", "BUY_X_GET_Y needs units to buy and to get, and no other kind")
    if action.bought is not None and not is_group:
        raise InvalidField(f"{field}.bought", "only for BUY_X_GET_Y")
    if action.target != terms.LINES and action.kind not in (terms.PERCENTAGE, terms.AMOUNT):
        raise InvalidField(f"{field}.target", "only for PERCENTAGE and AMOUNT")
    thresholds = ((_get_minor(tier.amount_min) or 0, tier.units_min) for tier in action.tiers)
    check_ascending(thresholds, field=f"{field}.tiers")


def _attach_counts(tx: Transaction, promotions: list[Promotion]) -> list[Promotion]:
    counts = read_counts(tx, [promotion.name for promotion in promotions])
    return [
        msgspec.structs.replace(one, uses=counts[one.name].uses, spent_minor=counts[one.name].discount_minor)
        for one in promotions
    ]


PROMOTIONS = Collection(
    Promotion,
    store.Promotion,
    key=("id",),
    pattern="promotions/{}",
    event="promotion",
    not_found=PromotionNotFound,
    check=_check,
    attach=_attach_counts,
    store_parts=lambda tx, new, old: raise_version(tx),
)
LISTING = Listing(
    method="ListPromotions",
    query=lambda: store.Promotion.select(*PROMOTIONS.rows.fields),
    columns={
        "display_name": Column(store.Promotion.display_name, FilterField(Kind.TEXT), sortable=True),
        "state": Column(store.Promotion.state, FilterField(Kind.STATE, choices=STATES, prefix="PROMOTION_STATE_")),
        "priority": Column(store.Promotion.priority, FilterField(Kind.INTEGER), sortable=True),
        "exclusive": Column(store.Promotion.exclusive, FilterField(Kind.BOOLEAN)),
        "requires_coupon": Column(store.Promotion.requires_coupon, FilterField(Kind.BOOLEAN)),
        "currency_code": Column(store.Promotion.currency_code, FilterField(Kind.TEXT)),
        "start_time": Column(store.Promotion.start_time_us, FilterField(Kind.TIME)),
        "end_time": Column(store.Promotion.end_time_us, FilterField(Kind.TIME)),
        "create_time": Column(store.Promotion.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Promotion.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.Promotion.id,),
    read_rows=PROMOTIONS.read_rows,
    deleted=store.Promotion.delete_time_us,
)


def activate_promotion(database: Store, call: Call, promotion_id: str, *, etag: str) -> Promotion:
    """Activate a draft.

    Raises: PromotionNotFound, ResourceDeleted, EtagMismatch, IllegalState.
    """
    return _set_state(database, call, promotion_id, etag=etag, state=ACTIVE, action="activated")


def end_promotion(database: Store, call: Call, promotion_id: str, *, etag: str) -> Promotion:
    """End a promotion for good.

    Raises: PromotionNotFound, ResourceDeleted, EtagMismatch, IllegalState.
    """
    return _set_state(database, call, promotion_id, etag=etag, state=ENDED, action="ended")


def _set_state(database: Store, call: Call, promotion_id: str, *, etag: str, state: str, action: str) -> Promotion:
    def effect(mutation: Mutation) -> Promotion:
        old = PROMOTIONS.find(mutation.tx, (promotion_id,))
        check_not_deleted(old)
        check_etag(old, etag)
        if old.state not in SOURCES[state]:
            texts = ENDED_TEXTS if (old.state, state) == (ENDED, ACTIVE) else {}
            raise IllegalState(old.name, state=old.state, target=state, **texts)
        return PROMOTIONS.replace(mutation, old, msgspec.structs.replace(old, state=state), action=action)

    return mutate(database, call, effect, Promotion)


def require_promotion(tx: Transaction, promotion_id: str) -> None:
    """Raise unless the promotion exists and is not deleted.

    Raises: PromotionNotFound.
    """
    if PROMOTIONS.find(tx, (promotion_id,)).delete_time_us is not None:
        raise PromotionNotFound(f"promotions/{promotion_id}")
