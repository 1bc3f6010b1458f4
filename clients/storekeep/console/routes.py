"""All routes of a console, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Sequence

from storekeep.console import (
    access,
    account,
    addresses,
    audit,
    categories,
    completions,
    coupons,
    customer_exports,
    customers,
    dashboard,
    erasures,
    exports,
    feed,
    imports,
    locations,
    merges,
    order_edits,
    orders,
    placing,
    prices,
    prints,
    products,
    promotions,
    quotes,
    reservations,
    roles,
    stock,
    stock_checks,
    stock_receipts,
    taxes,
    users,
    webhooks,
)
from storekeep.console.requests import Route


def build_routes(files: imports.ImportFiles, *, seller: Sequence[str] = ()) -> tuple[Route, ...]:
    """Return the routes of a console.

    Args:
        files: the files that are imported there.
        seller: name, address and tax number of the shop on invoices, one line each.
    """
    return (
        *dashboard.ROUTES,
        *placing.ROUTES,
        *orders.ROUTES,
        *order_edits.ROUTES,
        *prints.make_routes(seller),
        *quotes.ROUTES,
        *products.ROUTES,
        *categories.ROUTES,
        *promotions.ROUTES,
        *coupons.ROUTES,
        *prices.ROUTES,
        *taxes.ROUTES,
        *stock_checks.ROUTES,
        *stock_receipts.ROUTES,
        *stock.ROUTES,
        *locations.ROUTES,
        *reservations.ROUTES,
        *customers.ROUTES,
        *addresses.ROUTES,
        *merges.ROUTES,
        *erasures.ROUTES,
        *customer_exports.make_routes(),
        *imports.make_routes(files),
        *exports.make_routes(),
        *feed.ROUTES,
        *webhooks.ROUTES,
        *audit.ROUTES,
        *access.ROUTES,
        *roles.ROUTES,
        *users.ROUTES,
        *account.ROUTES,
        *completions.ROUTES,
    )
