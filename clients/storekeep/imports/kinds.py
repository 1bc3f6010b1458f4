"""The kinds of resources that a CSV file with one resource on each row can import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from storekeep.imports import categories, customers, pricing, products, stock
from storekeep.imports.columns import LABEL_PREFIX, OPTION_PREFIX, Target
from storekeep.imports.runs import Importer


@dataclass(frozen=True)
class Kind:
    """A kind of resource that can be imported.

    Attributes:
        permissions: the permissions that its calls need.
        prefixes: help of targets such as `label.KEY`, by prefix.
    """

    noun: str
    targets: tuple[Target, ...]
    importer: Callable[..., Importer[Any]]
    permissions: tuple[str, ...]
    prefixes: Mapping[str, str]


KINDS = (
    Kind(
        "products",
        products.TARGETS,
        products.ProductImporter,
        permissions=("products.read", "products.write"),
        prefixes={LABEL_PREFIX: "The label KEY of the product.", OPTION_PREFIX: "The option KEY of the variant."},
    ),
    Kind(
        "categories",
        categories.TARGETS,
        categories.CategoryImporter,
        permissions=("products.read", "products.write"),
        prefixes={},
    ),
    Kind(
        "prices",
        pricing.PRICE_TARGETS,
        pricing.PriceImporter,
        permissions=("pricing.read", "pricing.write"),
        prefixes={},
    ),
    Kind(
        "coupons",
        pricing.COUPON_TARGETS,
        pricing.CouponImporter,
        permissions=("coupons.read", "coupons.write"),
        prefixes={},
    ),
    Kind(
        "customers",
        customers.TARGETS,
        customers.CustomerImporter,
        permissions=("customers.read", "customers.write"),
        prefixes={LABEL_PREFIX: "The label KEY of the customer."},
    ),
    Kind(
        "stock",
        stock.TARGETS,
        stock.StockImporter,
        permissions=("stock.read", "stock.write"),
        prefixes={},
    ),
)
