"""Coupons: codes that make promotions apply. The id of a coupon is its code in small letters."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import CouponNotFound
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.pricing.counts import forget_coupon, read_counts
from storekeep.server.domain.pricing.promotions import require_promotion
from storekeep.server.domain.pricing.terms import fold_code
from storekeep.server.domain.pricing.windows import check_window
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import pricing as store

CODE_CHARACTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Without characters that people confuse: 32 of them, so that each has 5 random bits."""
RANDOM_CHARACTERS = 12
"""The random part of a code, of 60 bits: nobody guesses one, and no two are ever the same."""


class Coupon(msgspec.Struct, frozen=True):
    """A coupon; see `Coupon` in the contract.

    Attributes:
        uses_max, customer_uses_max: 0 for no limit.
        uses: the number of orders with the coupon.
    """

    id: str
    promotion_id: str = ""
    code: str = ""
    uses_max: int = 0
    customer_uses_max: int = 0
    start_time_us: int | None = None
    end_time_us: int | None = None
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None
    uses: int = 0

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"coupons/{self.id}"


def generate_code(prefix: str = "") -> str:
    """Return a new code."""
    return prefix + "".join(secrets.choice(CODE_CHARACTERS) for _ in range(RANDOM_CHARACTERS))


def _check(tx: Transaction, new: Coupon, old: Coupon | None) -> None:
    """Check the window, and the promotion of a new coupon.

    Raises: InvalidField, PromotionNotFound.
    """
    check_window(new.start_time_us, new.end_time_us, field="coupon.end_time")
    if old is None:
        require_promotion(tx, new.promotion_id)


def _attach_counts(tx: Transaction, coupons: list[Coupon]) -> list[Coupon]:
    counts = read_counts(tx, [coupon.name for coupon in coupons])
    return [msgspec.structs.replace(one, uses=counts[one.name].uses) for one in coupons]


COUPONS = Collection(
    Coupon,
    store.Coupon,
    key=("id",),
    pattern="coupons/{}",
    event="coupon",
    not_found=CouponNotFound,
    check=_check,
    attach=_attach_counts,
    store_parts=lambda tx, new, old: forget_coupon(tx, new.id),
)
LISTING = Listing(
    method="ListCoupons",
    query=lambda: store.Coupon.select(*COUPONS.rows.fields),
    columns={
        "promotion": Column(store.Coupon.promotion, FilterField(Kind.TEXT, prefix="promotions/")),
        "code": Column(store.Coupon.code, FilterField(Kind.TEXT), sortable=True),
        "start_time": Column(store.Coupon.start_time_us, FilterField(Kind.TIME)),
        "end_time": Column(store.Coupon.end_time_us, FilterField(Kind.TIME)),
        "create_time": Column(store.Coupon.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Coupon.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.Coupon.id,),
    read_rows=COUPONS.read_rows,
    deleted=store.Coupon.delete_time_us,
)


def generate_coupons(database: Store, call: Call, pattern: Coupon, *, count: int, prefix: str) -> Sequence[Coupon]:
    """Create coupons with random codes.

    Args:
        pattern: has all fields of the coupons but their codes.
        prefix: what the codes begin with.

    Raises: InvalidField, PromotionNotFound.
    """
    check_window(pattern.start_time_us, pattern.end_time_us, field="end_time")

    def effect(mutation: Mutation) -> tuple[Coupon, ...]:
        tx = mutation.tx
        require_promotion(tx, pattern.promotion_id)
        times = {"version": 1, "create_time_us": tx.now_us, "update_time_us": tx.now_us}
        codes = [generate_code(prefix) for _ in range(count)]
        coupons = [msgspec.structs.replace(pattern, id=fold_code(code), code=code, **times) for code in codes]
        COUPONS.rows.insert_many(tx, [msgspec.structs.asdict(coupon) for coupon in coupons])
        mutation.record_new("coupon.created", coupons)
        return tuple(coupons)

    return mutate(database, call, effect, tuple[Coupon, ...])
