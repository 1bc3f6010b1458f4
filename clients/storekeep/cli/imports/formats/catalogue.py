"""The known formats by name, and the mapping that each gives to a file."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from storekeep.cli.imports.formats import datasets, magento, shopify, woocommerce
from storekeep.cli.imports.formats.sources import Format

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        known.name: known
        for known in (
            shopify.PRODUCTS,
            shopify.ORDERS,
            woocommerce.PRODUCTS,
            woocommerce.ORDERS,
            magento.PRODUCTS,
            magento.ORDERS,
            datasets.OLIST,
            datasets.ONLINE_RETAIL,
        )
    }
)
