"""The peer, tuned by hand: `async def` endpoints that call SQLite directly, and Core statements built once.

Verified tokens are cached, a separate thread writes the log, and an order is serialised once. An endpoint blocks the
event loop while it runs, against FastAPI's advice; with one core and one writer that is faster than threads.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import cast

from fastapi import FastAPI, HTTPException, Response
from sqlalchemy import Connection, Insert, Table, bindparam, insert, select, update

from benchmarks.peers.fastapi_shop import models, request_log, rules
from benchmarks.peers.fastapi_shop.database import readers, writers
from benchmarks.peers.fastapi_shop.models import AuditEntry, Customer, Product, Reply, StockLevel, Variant
from benchmarks.peers.fastapi_shop.schemas import OrderIn, OrderOut, ProductOut, ResourceId
from benchmarks.peers.fastapi_shop.security import CachedCaller


def _insert_into(model: type[models.Table]) -> Insert:
    return insert(cast("Table", model.__table__))


stock = cast("Table", StockLevel.__table__)
FIND_PRODUCT = select(*Product.__table__.columns).where(Product.id == bindparam("id"))
FIND_REPLY = (
    select(Reply.fingerprint, AuditEntry.after)
    .join(AuditEntry, AuditEntry.sequence == Reply.entry_sequence)
    .where(Reply.caller == bindparam("caller"), Reply.request_id == bindparam("request_id"))
)
FIND_CUSTOMER = select(Customer.id).where(Customer.id == bindparam("id"))
FIND_VARIANTS = select(
    Variant.sku, Variant.display_name, Variant.state, Variant.currency_code, Variant.price_minor
).where(Variant.sku.in_(bindparam("skus", expanding=True)))
ALLOCATE = (
    update(stock)
    .where(stock.c.sku == bindparam("requested_sku"), stock.c.on_hand - stock.c.allocated >= bindparam("quantity"))
    .values(
        allocated=stock.c.allocated + bindparam("quantity"),
        version=stock.c.version + 1,
        update_time_us=bindparam("now_us"),
    )
)
LAST_HASH = select(AuditEntry.entry_hash).order_by(AuditEntry.sequence.desc()).limit(1)
INSERT_ORDER = _insert_into(models.Order)
INSERT_LINES = _insert_into(models.OrderLine)
INSERT_AUDIT_ENTRY = _insert_into(AuditEntry)
INSERT_REPLY = _insert_into(Reply)


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Run the log's thread while the service runs."""
    listener = request_log.log_through_queue()
    yield
    listener.stop()


app = FastAPI(lifespan=lifespan)
app.add_middleware(request_log.RequestLog)


@app.get("/v1/products/{product_id}")
async def get_product(product_id: ResourceId, caller: CachedCaller) -> ProductOut:
    """Get one product."""
    with readers.connect() as connection:
        row = connection.execute(FIND_PRODUCT, {"id": product_id}).one_or_none()
    if row is None:
        raise HTTPException(404, f"there is no product {product_id}")
    return ProductOut.model_validate(row)


@app.post("/v1/orders:place", response_model=OrderOut)
async def place_order(requested: OrderIn, caller: CachedCaller) -> Response:
    """Place an order, or return the stored reply of a retry. The reply is the JSON of the audit entry."""
    identity = {"caller": caller, "request_id": str(requested.request_id)}
    with writers.begin() as connection:
        return Response(_place(connection, requested, identity), media_type="application/json")


def _place(connection: Connection, requested: OrderIn, identity: Mapping[str, str]) -> bytes:
    now_us, fingerprint = time.time_ns() // 1000, rules.compute_fingerprint(requested)
    stored = connection.execute(FIND_REPLY, identity).one_or_none()
    if stored is not None:
        rules.check_retry(stored.fingerprint, fingerprint)
        return bytes(stored.after)
    if connection.execute(FIND_CUSTOMER, {"id": requested.customer_id}).one_or_none() is None:
        raise HTTPException(404, f"there is no customer {requested.customer_id}")
    variants = connection.execute(FIND_VARIANTS, {"skus": [line.sku for line in requested.lines]})
    order = rules.price_order(requested, {row.sku: row for row in variants}, now_us=now_us)
    for sku, quantity in rules.sum_quantities(requested):
        taken = connection.execute(ALLOCATE, {"requested_sku": sku, "quantity": quantity, "now_us": now_us})
        if taken.rowcount != 1:
            raise HTTPException(409, f"{sku} is out of stock")
    entry = rules.build_audit_entry(order, **identity, previous_hash=connection.scalar(LAST_HASH))
    connection.execute(INSERT_ORDER, {**order.model_dump(exclude={"lines", "etag"}), "version": 1})
    connection.execute(INSERT_LINES, [{"order_id": order.id, **line.model_dump()} for line in order.lines])
    sequence = connection.execute(INSERT_AUDIT_ENTRY, entry).lastrowid
    reply = {"fingerprint": fingerprint, "entry_sequence": sequence, "create_time_us": now_us}
    connection.execute(INSERT_REPLY, {**identity, **reply})
    return cast("bytes", entry["after"])
