"""What holds for an order in both states of the peer: its price, its retries, and its link of the audit chain."""

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


def fingerprint(wanted: OrderIn) -> bytes:
    """What tells a retry from another order with the same `request_id`."""
    return hashlib.sha256(wanted.model_dump_json().encode()).digest()


def check_retry(stored: bytes, wanted: bytes) -> None:
    """Refuse a request whose fingerprint is not that of the first with its `request_id`."""
    if stored != wanted:
        raise HTTPException(400, "this request_id was used for another order")


def priced(wanted: OrderIn, variants: Mapping[str, Any], *, now_us: int) -> OrderOut:
    """The order at the prices of its variants, which are entities or rows by SKU."""
    for line in wanted.lines:
        variant = variants.get(line.sku)
        if variant is None:
            raise HTTPException(404, f"there is no SKU {line.sku}")
        if variant.state != "ACTIVE" or variant.currency_code != wanted.currency_code:
            raise HTTPException(409, f"{line.sku} is not for sale in {wanted.currency_code}")
    lines = [
        OrderLineOut(
            line_number=number,
            sku=line.sku,
            display_name=variants[line.sku].display_name,
            quantity=line.quantity,
            unit_price_minor=variants[line.sku].price_minor,
            subtotal_minor=line.quantity * variants[line.sku].price_minor,
        )
        for number, line in enumerate(wanted.lines, start=1)
    ]
    return OrderOut(
        id=str(uuid_utils.uuid7()),
        customer_id=wanted.customer_id,
        state="PLACED",
        currency_code=wanted.currency_code,
        total_minor=sum(line.subtotal_minor for line in lines),
        lines=lines,
        create_time_us=now_us,
        update_time_us=now_us,
        etag="v1",
    )


def quantities(wanted: OrderIn) -> list[tuple[str, int]]:
    """How many units of each SKU are wanted."""
    units: Counter[str] = Counter()
    for line in wanted.lines:
        units[line.sku] += line.quantity
    return sorted(units.items())


def audit_entry(order: OrderOut, caller: str, request_id: str, *, previous_hash: bytes | None) -> dict[str, Any]:
    """The columns of the entry that is both the order's event and its link of the audit chain."""
    previous, resource, after = previous_hash or FIRST_HASH, f"orders/{order.id}", order.model_dump_json().encode()
    said = f"{order.create_time_us}:{caller}:{METHOD}:{resource}:{request_id}".encode()
    return {
        "create_time_us": order.create_time_us,
        "type": "order.placed",
        "actor": caller,
        "method": METHOD,
        "resource": resource,
        "request_id": request_id,
        "after": after,
        "previous_hash": previous,
        "entry_hash": hashlib.sha256(previous + said + after).digest(),
    }
