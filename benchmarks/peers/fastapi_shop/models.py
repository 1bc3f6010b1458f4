"""The peer's tables: the same data as Storekeep's, with the indexes that its lists need."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, Index, Integer, LargeBinary
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Table(DeclarativeBase):
    """The base of all tables. Dictionaries are stored as JSON, and integers have 64 bits, as SQLite's always do."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy requires it
        dict[str, Any]: JSON,
        int: BigInteger().with_variant(Integer(), "sqlite"),
    }


class Product(Table):
    """One product."""

    __tablename__ = "products"
    id: Mapped[str] = mapped_column(primary_key=True)
    display_name: Mapped[str]
    description: Mapped[str]
    category: Mapped[str] = mapped_column(index=True)
    state: Mapped[str]
    labels: Mapped[dict[str, Any]]
    version: Mapped[int]
    create_time_us: Mapped[int]
    update_time_us: Mapped[int]


class Variant(Table):
    """One sellable unit, with its price in one currency."""

    __tablename__ = "variants"
    sku: Mapped[str] = mapped_column(primary_key=True)
    product_id: Mapped[str] = mapped_column(ForeignKey("products.id"), index=True)
    display_name: Mapped[str]
    state: Mapped[str]
    currency_code: Mapped[str]
    price_minor: Mapped[int]


class StockLevel(Table):
    """The stock of one SKU. The CHECK constraint prevents overselling."""

    __tablename__ = "stock_levels"
    sku: Mapped[str] = mapped_column(ForeignKey("variants.sku"), primary_key=True)
    on_hand: Mapped[int]
    allocated: Mapped[int]
    version: Mapped[int]
    update_time_us: Mapped[int]
    __table_args__ = (CheckConstraint("allocated >= 0 AND allocated <= on_hand"),)


class Customer(Table):
    """One customer."""

    __tablename__ = "customers"
    id: Mapped[str] = mapped_column(primary_key=True)
    display_name: Mapped[str]


class Order(Table):
    """One order."""

    __tablename__ = "orders"
    id: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[str] = mapped_column(ForeignKey("customers.id"))
    state: Mapped[str]
    currency_code: Mapped[str]
    total_minor: Mapped[int]
    version: Mapped[int]
    create_time_us: Mapped[int]
    update_time_us: Mapped[int]
    lines: Mapped[list[OrderLine]] = relationship(order_by="OrderLine.line_number")
    __table_args__ = (
        Index("ix_orders_time", "create_time_us", "id"),
        Index("ix_orders_customer", "customer_id", "create_time_us", "id"),
        Index("ix_orders_state", "state", "create_time_us", "id"),
    )


class OrderLine(Table):
    """A quantity of one SKU, at the price of the time of the order."""

    __tablename__ = "order_lines"
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    line_number: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(ForeignKey("variants.sku"))
    display_name: Mapped[str]
    quantity: Mapped[int]
    unit_price_minor: Mapped[int]
    subtotal_minor: Mapped[int]
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - as for `type_annotation_map`


class AuditEntry(Table):
    """One committed change: the event and the link of the audit chain in one row."""

    __tablename__ = "audit_entries"
    sequence: Mapped[int] = mapped_column(primary_key=True)
    create_time_us: Mapped[int]
    type: Mapped[str]
    actor: Mapped[str]
    method: Mapped[str]
    resource: Mapped[str] = mapped_column(index=True)
    request_id: Mapped[str]
    before: Mapped[bytes | None] = mapped_column(LargeBinary)
    after: Mapped[bytes] = mapped_column(LargeBinary)
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary)
    entry_hash: Mapped[bytes] = mapped_column(LargeBinary)


class Reply(Table):
    """A stored reply to an idempotent request. The reply itself is the `after` of its audit entry."""

    __tablename__ = "replies"
    caller: Mapped[str] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    entry_sequence: Mapped[int] = mapped_column(ForeignKey("audit_entries.sequence"))
    create_time_us: Mapped[int]
    entry: Mapped[AuditEntry] = relationship()
