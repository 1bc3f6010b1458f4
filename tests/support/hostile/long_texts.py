"""Requests with the longest texts that the contract allows, in scripts that cost the most to search."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from storekeep.v1 import addresses_pb2, customers_pb2, products_pb2
from tests.support.shops import new_id

TAGS = "ar bg cs da de el en es et fi fr ga hr hu it ja ko lt lv mt"
LANGUAGES = TAGS.split()
DRAW = random.Random(42)
Write = Callable[[int], str]
"""Returns a text of a length."""


def _make_writer(first: int, last: int, *, space_every: int = 0) -> Write:
    """Return a function that writes random characters of a range, with a space after so many."""

    def write(length: int) -> str:
        characters = [chr(DRAW.randint(first, last)) for _ in range(length)]
        if space_every:
            characters[space_every - 1 :: space_every] = " " * len(characters[space_every - 1 :: space_every])
        return "".join(characters)

    return write


SCRIPTS: Mapping[str, Write] = {
    "han": _make_writer(0x4E00, 0x9FFF),
    "hangul": _make_writer(0xAC00, 0xD7A3),
    "rare han": _make_writer(0x20000, 0x2A6DF),
    "short words": _make_writer(0x430, 0x44F, space_every=4),
    "umlauts": _make_writer(0xE4, 0xFC, space_every=5),
    "marks": lambda length: "\u0f71\u0f72\u0301\u0316"[: length % 4 or 4] * (length // 4),
    "ligatures": lambda length: "\ufdfa" * length,
    "compounds": lambda length: ("a-\u8336_" * length)[:length],
}


def build_address(write: Write) -> addresses_pb2.Address:
    """Build the longest address."""
    return addresses_pb2.Address(
        recipient=write(200),
        organization=write(200),
        address_lines=[write(200) for _ in range(5)],
        locality=write(100),
        administrative_area=write(100),
        postal_code="1010",
        region_code="JP",
    )


def build_customer(write: Write, *, addresses: int = 20) -> customers_pb2.Customer:
    """Build a customer with the longest name and that many of the longest addresses."""
    return customers_pb2.Customer(
        display_name=write(200),
        addresses=[customers_pb2.CustomerAddress(address=build_address(write)) for _ in range(addresses)],
    )


def build_product(write: Write) -> products_pb2.Product:
    """Build a product with the longest texts in as many languages as it may have."""
    product = products_pb2.Product(display_name=write(200), description=write(10_000))
    for language in LANGUAGES:
        product.translations[language].display_name = write(200)
        product.translations[language].description = write(5_000)
    return product


def build_variant(write: Write) -> products_pb2.Variant:
    """Build a variant with the longest names in as many languages as it may have."""
    variant = products_pb2.Variant(sku=new_id("SKU"), display_name=write(200))
    for language in LANGUAGES:
        variant.translations[language].display_name = write(200)
    return variant
