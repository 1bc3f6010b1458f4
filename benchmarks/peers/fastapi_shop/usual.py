"""The peer, as the tutorials of FastAPI and SQLAlchemy teach it: `def` endpoints, a Session by dependency, the ORM.

FastAPI runs the endpoints in its thread pool, with the default size of 40; fewer threads made no measurable difference.
Statements are written inline, and SQLAlchemy caches their compiled form. A token is verified for each request. Only the
log's middleware is faster than the tutorials', and the same as in `tuned`.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI, HTTPException
from sqlalchemy import select, update

from benchmarks.peers.fastapi_shop import request_log, rules
from benchmarks.peers.fastapi_shop.database import ReadingSession, WritingSession, lock_chain
from benchmarks.peers.fastapi_shop.models import (
    AuditEntry,
    Customer,
    Order,
    OrderLine,
    Product,
    Reply,
    StockLevel,
    Variant,
)
from benchmarks.peers.fastapi_shop.schemas import OrderIn, OrderOut, ProductOut, ResourceId
from benchmarks.peers.fastapi_shop.security import Caller

request_log.log_directly()
app = FastAPI()
app.add_middleware(request_log.RequestLog)


@app.get("/v1/products/{product_id}", response_model=ProductOut)
def get_product(product_id: ResourceId, caller: Caller, session: ReadingSession) -> Product:
    """Get one product."""
    product = session.get(Product, product_id)
    if product is None:
        raise HTTPException(404, f"there is no product {product_id}")
    return product


@app.post("/v1/orders:place", response_model=OrderOut)
def place_order(requested: OrderIn, caller: Caller, session: WritingSession) -> OrderOut:
    """Place an order, or return the stored reply of a retry."""
    now_us, request_id = time.time_ns() // 1000, str(requested.request_id)
    fingerprint = rules.compute_fingerprint(requested)
    with session.begin():
        stored = session.get(Reply, (caller, request_id))
        if stored is not None:
            rules.check_retry(stored.fingerprint, fingerprint)
            return OrderOut.model_validate_json(stored.entry.after)
        if session.get(Customer, requested.customer_id) is None:
            raise HTTPException(404, f"there is no customer {requested.customer_id}")
        skus = [line.sku for line in requested.lines]
        variants = session.scalars(select(Variant).where(Variant.sku.in_(skus)))
        order = rules.price_order(requested, {variant.sku: variant for variant in variants}, now_us=now_us)
        for sku, quantity in rules.sum_quantities(requested):
            taken: Any = session.execute(
                update(StockLevel)
                .where(StockLevel.sku == sku, StockLevel.on_hand - StockLevel.allocated >= quantity)
                .values(
                    allocated=StockLevel.allocated + quantity, version=StockLevel.version + 1, update_time_us=now_us
                )
            )
            if taken.rowcount != 1:
                raise HTTPException(409, f"{sku} is out of stock")
        lock_chain(session)
        last_hash = session.scalar(select(AuditEntry.entry_hash).order_by(AuditEntry.sequence.desc()).limit(1))
        entry = AuditEntry(**rules.build_audit_entry(order, caller, request_id, previous_hash=last_hash))
        lines = [OrderLine(**line.model_dump()) for line in order.lines]
        session.add(Order(**order.model_dump(exclude={"lines", "etag"}), version=1, lines=lines))
        session.add(
            Reply(caller=caller, request_id=request_id, fingerprint=fingerprint, entry=entry, create_time_us=now_us)
        )
    return order
