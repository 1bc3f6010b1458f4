"""The order rules of both variants of the peer: prices, retries, and the audit entry."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import uuid_utils
from fastapi import HTTPException

from benchmarks.peers.fastapi_shop.schemas import OrderIn, OrderLineOut, OrderOut

FIRST_HASH = bytes(32)
METHOD = "PlaceOrder"


def compute_fingerprint(requested: OrderIn) -> bytes:
    """Return the hash that distinguishes a retry from another order with the same `request_id`."""
    return hashlib.sha256(requested.model_dump_json().encode()).digest()


def check_retry(stored: bytes, requested: bytes) -> None:
    """Raise 400 if the fingerprint differs from that of the first request with the same `request_id`."""
    if stored != requested:
        raise HTTPException(400, "this request_id was used for another order")


def price_order(requested: OrderIn, variants: Mapping[str, Any], *, now_us: int) -> OrderOut:
    """Return the order at current prices. Raise 404 or 409 if a SKU is unknown or not for sale.

    Args:
        variants: entities or rows, by SKU.
    """
    for line in requested.lines:
        variant = variants.get(line.sku)
        if variant is None:
            raise HTTPException(404, f"there is no SKU {line.sku}")
        if variant.state != "ACTIVE" or variant.currency_code != requested.currency_code:
            raise HTTPException(409, f"{line.sku} is not for sale in {requested.currency_code}")
    lines = [
        OrderLineOut(
            line_number=number,
            sku=line.sku,
            display_name=variants[line.sku].display_name,
            quantity=line.quantity,
            unit_price_minor=variants[line.sku].price_minor,
            subtotal_minor=line.quantity * variants[line.sku].price_minor,
        )
        for number, line in enumerate(requested.lines, start=1)
    ]
    return OrderOut(
        id=str(uuid_utils.uuid7()),
        customer_id=requested.customer_id,
        state="PLACED",
        currency_code=requested.currency_code,
        total_minor=sum(line.subtotal_minor for line in lines),
        lines=lines,
        create_time_us=now_us,
        update_time_us=now_us,
        etag="v1",
    )


def sum_quantities(requested: OrderIn) -> list[tuple[str, int]]:
    """Return the requested units of each SKU, sorted by SKU."""
    units: Counter[str] = Counter()
    for line in requested.lines:
        units[line.sku] += line.quantity
    return sorted(units.items())


def build_audit_entry(order: OrderOut, caller: str, request_id: str, *, previous_hash: bytes | None) -> dict[str, Any]:
    """Return the columns of the entry that is both the order's event and its link of the audit chain."""
    previous, resource, after = previous_hash or FIRST_HASH, f"orders/{order.id}", order.model_dump_json().encode()
    header = f"{order.create_time_us}:{caller}:{METHOD}:{resource}:{request_id}".encode()
    return {
        "create_time_us": order.create_time_us,
        "type": "order.placed",
        "actor": caller,
        "method": METHOD,
        "resource": resource,
        "request_id": request_id,
        "after": after,
        "previous_hash": previous,
        "entry_hash": hashlib.sha256(previous + header + after).digest(),
    }
