"""Uses of promotions and coupons: claimed and given back in the transaction of the order.

Write transactions are serial on both engines, so a limit that holds when a use is claimed holds after the commit.
Invariants: the counts of a promotion and of a coupon are the sums of their uses. What the batch cache has of coupons
and counts is what the database would return.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from storekeep.server.domain.money import TOTAL_MINOR_MAX
from storekeep.server.domain.pricing.terms import CouponCode, Promotion, Usage, fold_code, make_window
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import pricing as store

UNUSED = Usage()
COUPON, COUNT, CUSTOMER_COUNT = "coupon/", "uses/", "customer uses/"
"""Prefixes of the batch cache keys for coupons, for counts by resource name, and for counts by customer and coupon."""


def read_counts(tx: Transaction, names: Iterable[str]) -> dict[str, Usage]:
    """Return the counts of promotions and coupons by resource name. They are read once per commit."""
    cache = tx.batch_cache
    names = list(names)
    missing = [name for name in names if COUNT + name not in cache]
    if missing:
        cache.update(dict.fromkeys([COUNT + name for name in missing], UNUSED))
        for subject, uses, spent in store.USE_COUNTS.all(tx, subjects=msgspec.json.encode(missing).decode()):
            cache[COUNT + subject] = Usage(uses, spent)
    return {name: cache[COUNT + name] for name in names}


def find_coupons(tx: Transaction, codes: Sequence[str], *, customer_id: str) -> dict[str, CouponCode]:
    """Return the coupons by folded code, with their uses. Unknown codes are missing.

    Args:
        customer_id: the customer of the basket, whose own uses count; empty for none.
    """
    folded = sorted({fold_code(code) for code in codes})
    load_coupons(tx, [(code, customer_id) for code in folded])
    cache = tx.batch_cache
    coupons: dict[str, CouponCode] = {}
    for code in folded:
        coupon: CouponCode | None = cache.get(COUPON + code)
        if coupon is not None:
            uses = cache[COUNT + coupon.name].uses
            customer_uses = cache.get(_make_customer_key(code, customer_id), 0)
            coupons[code] = replace(coupon, uses=uses, customer_uses=customer_uses)
    return coupons


def load_coupons(tx: Transaction, pairs: Iterable[tuple[str, str]]) -> None:
    """Read the coupons that orders name, and their counts, into the batch cache.

    Args:
        pairs: (folded code, customer id) of each; empty for no customer.
    """
    pairs = set(pairs)
    cache = tx.batch_cache
    missing = sorted({code for code, _ in pairs if COUPON + code not in cache})
    if missing:
        for row in store.FIND_COUPONS.all(tx, codes=msgspec.json.encode(missing).decode()):
            coupon_id, promotion_id, start_us, end_us, uses_max, customer_uses_max = row
            cache[COUPON + coupon_id] = CouponCode(
                coupon_id,
                name=f"coupons/{coupon_id}",
                promotion=f"promotions/{promotion_id}",
                window=make_window(start_us, end_us),
                uses_max=uses_max or None,
                customer_uses_max=customer_uses_max or None,
            )
    existing = [(coupon, customer_id) for code, customer_id in pairs if (coupon := cache.get(COUPON + code))]
    read_counts(tx, {name for coupon, _ in existing for name in (coupon.name, coupon.promotion)})
    _load_customer_counts(tx, [(one.code, customer_id) for one, customer_id in existing if one.customer_uses_max])


def _load_customer_counts(tx: Transaction, pairs: Iterable[tuple[str, str]]) -> None:
    """Read how often customers have used coupons into the batch cache.

    Args:
        pairs: (coupon id, customer id) of each; those without a customer are left out.
    """
    cache = tx.batch_cache
    missing = [pair for pair in pairs if pair[1] and _make_customer_key(*pair) not in cache]
    if missing:
        rows = store.COUNT_CUSTOMER_USES.all(tx, pairs=msgspec.json.encode(missing).decode())
        cache.update((_make_customer_key(coupon_id, customer_id), uses) for coupon_id, customer_id, uses in rows)


def _make_customer_key(coupon_id: str, customer_id: str) -> str:
    """Return the batch cache key for the uses of a coupon by a customer. Customer ids contain no slash."""
    return f"{CUSTOMER_COUNT}{customer_id}/{coupon_id}"


def forget_coupon(tx: Transaction, coupon_id: str) -> None:
    """Remove a coupon that changes from the batch cache."""
    tx.batch_cache.pop(COUPON + coupon_id, None)


def forget_customer_counts(tx: Transaction) -> None:
    """Remove the counts of all customers from the batch cache, because uses get another customer."""
    tx.batch_cache = {key: value for key, value in tx.batch_cache.items() if not key.startswith(CUSTOMER_COUNT)}


def claim_use(
    tx: Transaction,
    promotion: Promotion,
    coupon: CouponCode | None,
    *,
    order_id: str,
    customer_id: str,
    discount_minor: int,
) -> bool:
    """Count the use of a promotion by an order. Return False, and count nothing, if a limit does not allow it.

    A promotion without a limit and without a coupon is not counted.

    Args:
        coupon: the coupon that made it apply; None without one.
        discount_minor: the discount of the order, in minor units.
    """
    if coupon is None and promotion.uses_max is None and promotion.budget_minor is None:
        return True
    subjects = [promotion.name] if coupon is None else [promotion.name, coupon.name]
    counts = read_counts(tx, subjects)
    used = counts[promotion.name]
    spent_minor = max([count.discount_minor for count in counts.values()])
    if spent_minor + discount_minor > TOTAL_MINOR_MAX:  # the database could not count it
        return False
    if not _fits(used.uses + 1, promotion.uses_max) or not _fits(
        used.discount_minor + discount_minor, promotion.budget_minor
    ):
        return False
    if coupon is not None and not _may_use(tx, coupon, counts[coupon.name].uses, customer_id=customer_id):
        return False
    store.INSERT_USE.run_deferred(
        tx,
        order_id=order_id,
        promotion_id=promotion.name.rpartition("/")[2],
        coupon_id="" if coupon is None else coupon.code,
        customer_id=customer_id,
        discount_minor=discount_minor,
    )
    for subject, count in counts.items():
        store.COUNT_USE.run_deferred(tx, subject=subject, uses=1, discount_minor=discount_minor)
        tx.batch_cache[COUNT + subject] = Usage(count.uses + 1, count.discount_minor + discount_minor)
    if coupon is not None:
        key = _make_customer_key(coupon.code, customer_id)
        if key in tx.batch_cache:
            tx.batch_cache[key] += 1
    return True


def _may_use(tx: Transaction, coupon: CouponCode, uses: int, *, customer_id: str) -> bool:
    """Return whether another order of a customer may use a coupon."""
    if not _fits(uses + 1, coupon.uses_max):
        return False
    if coupon.customer_uses_max is None or not customer_id:
        return True
    _load_customer_counts(tx, [(coupon.code, customer_id)])
    return _fits(tx.batch_cache[_make_customer_key(coupon.code, customer_id)] + 1, coupon.customer_uses_max)


def _fits(value: int, limit: int | None) -> bool:
    return limit is None or value <= limit


def release_uses(tx: Transaction, order_id: str) -> None:
    """Give back all uses of an order, if it has any."""
    rows = store.USES_OF_ORDER.all(tx, order_id=order_id)
    for promotion_id, coupon_id, customer_id, discount_minor in rows:
        subjects = [f"promotions/{promotion_id}"]
        if coupon_id:
            subjects.append(f"coupons/{coupon_id}")
            tx.batch_cache.pop(_make_customer_key(coupon_id, customer_id), None)
        for subject in subjects:
            store.COUNT_USE.run(tx, subject=subject, uses=-1, discount_minor=-discount_minor)
            tx.batch_cache.pop(COUNT + subject, None)
    if rows:
        store.DELETE_USES.run(tx, order_id=order_id)
