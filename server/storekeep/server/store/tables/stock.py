"""The tables of locations, stock levels and the stock ledger, and the statements that take stock."""

from __future__ import annotations

from typing import Any

import peewee

from storekeep.server.store.sql.listings import OPERATIONS
from storekeep.server.store.sql.many_rows import RowsInsert, RowsStatement
from storekeep.server.store.sql.statements import Statement, bound
from storekeep.server.store.sql.transactions import Deletable, Table
from storekeep.server.store.tables.catalog import Product, Variant

DEFAULT_0 = peewee.SQL("DEFAULT 0")
"""What rows have in a column that they were there before."""


class Location(Deletable):
    """One place that holds stock; `address` is JSON. Stock is taken from the one of the lowest `priority` first."""

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    address = peewee.TextField()
    priority = peewee.BigIntegerField(constraints=[DEFAULT_0])

    class Meta:
        table_name = "locations"
        indexes = ((("create_time_us", "id"), False), (("display_name", "id"), False))


class StockLevel(Table):
    """How many units of a SKU are at a location. The CHECK refuses an oversell whatever the code does.

    So many as `safety_threshold` says are kept back from sale.
    """

    location = peewee.ForeignKeyField(Location, index=False)
    location_id: str
    variant = peewee.ForeignKeyField(Variant, column_name="sku", object_id_name="variant_id", index=True)
    variant_id: str
    on_hand = peewee.BigIntegerField(default=0)
    reserved = peewee.BigIntegerField(default=0)
    allocated = peewee.BigIntegerField(default=0)
    backorder_limit = peewee.BigIntegerField(default=0)
    version = peewee.BigIntegerField(default=1)
    update_time_us = peewee.BigIntegerField()
    safety_threshold = peewee.BigIntegerField(constraints=[DEFAULT_0, peewee.Check("safety_threshold >= 0")])

    class Meta:
        table_name = "stock_levels"
        primary_key = peewee.CompositeKey("location", "variant")
        without_rowid = True
        constraints = (
            peewee.Check("reserved >= 0 AND allocated >= 0 AND backorder_limit >= 0"),
            peewee.Check("reserved + allocated <= on_hand + backorder_limit"),
        )


class StockMovement(Table):
    """One entry of the stock ledger; triggers refuse to change or delete one.

    `source` is the resource that it was done for, such as `orders/ID`, and `line_number` its line; empty and 0 where
    somebody moved stock as such.
    """

    id = peewee.BigAutoField()
    location = peewee.ForeignKeyField(Location, index=False)
    variant = peewee.ForeignKeyField(Variant, column_name="sku", index=False)
    quantity_delta = peewee.BigIntegerField()
    on_hand = peewee.BigIntegerField()
    cause = peewee.TextField()
    reason = peewee.TextField()
    actor = peewee.TextField()
    create_time_us = peewee.BigIntegerField()
    reserved_delta = peewee.BigIntegerField(constraints=[DEFAULT_0])
    allocated_delta = peewee.BigIntegerField(constraints=[DEFAULT_0])
    source = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])
    line_number = peewee.IntegerField(constraints=[DEFAULT_0])

    class Meta:
        table_name = "stock_movements"
        indexes = ((("create_time_us", "id"), False),)


StockMovement.add_index(
    StockMovement.index(peewee.SQL("(id >> 12)"), StockMovement.variant, name="stock_movements_block_sku")
)
"""What there is of a SKU is looked up block by block, of 4,096 movements each: one look in each costs a list some µs.
By SKU alone, each movement would change a page of its own, wherever its SKU stands."""
StockMovement.add_index(
    StockMovement.index(StockMovement.source, where=peewee.SQL("source <> ''"), name="stock_movements_source")
)

BLOCKS = """
WITH RECURSIVE blocks (block) AS (
    SELECT MAX(id) >> 12 FROM stock_movements UNION ALL SELECT block - 1 FROM blocks WHERE block > 0
)
"""
"""The blocks of the ledger, newest first, to be joined with what is looked for in each."""


def movements_of_sku(operation: str, sku: str, _now_us: int) -> peewee.Expression:
    """A comparison with the SKU of a movement, as SQL."""
    if operation != "=":
        return OPERATIONS[operation](StockMovement.variant, sku)
    ids = (
        peewee.SQL(f"({BLOCKS} SELECT found.id FROM blocks CROSS JOIN stock_movements AS found"),  # noqa: S608 - a constant
        peewee.SQL("WHERE found.id >> 12 = block AND found.sku ="),
        peewee.Value(sku, unpack=False),
        peewee.SQL(")"),
    )
    return peewee.Expression(StockMovement.id, peewee.OP.IN, peewee.NodeList(ids))


WITHOUT_BACKORDER = StockLevel.on_hand - StockLevel.safety_threshold - StockLevel.reserved - StockLevel.allocated
"""Units at a level that can still be promised from what is on hand."""


def levels_for_sale(*fields: Any) -> Any:
    """The query of levels at locations that are there, of variants that are for sale."""
    return (
        StockLevel.select(*fields)
        .join(Location)
        .where(Location.delete_time_us.is_null())
        .switch(StockLevel)
        .join(Variant)
        .where((Variant.state == "ACTIVE") & Variant.delete_time_us.is_null())
        .join(Product)
        .where((Product.state == "ACTIVE") & Product.delete_time_us.is_null())
    )


FOR_SALE = "{0}on_hand + {0}backorder_limit - {0}safety_threshold - {0}reserved - {0}allocated"
"""Units at a level that can still be promised; `{0}` stands for what the table is called, with a point."""


FIRST_LEVEL = f"""
stock_levels AS taken ON taken.sku = wanted.key AND taken.location_id = (
    SELECT level.location_id FROM stock_levels AS level JOIN locations ON locations.id = level.location_id
    WHERE level.sku = wanted.key AND locations.delete_time_us IS NULL
      AND (:taken_at = '' OR level.location_id = :taken_at)
      AND {FOR_SALE.format("level.")} >= CAST(wanted.value AS BIGINT)
    ORDER BY locations.priority, {FOR_SALE.format("level.")} DESC, level.location_id LIMIT 1
)
"""  # noqa: S608 - the names of columns
"""To be joined with `wanted` (SKU, units): the level that all units of a SKU are taken from, where there is one; at one
location, or at that which comes first among those that have them all ('')."""
LEVELS_WITH_ALL = Statement(
    f"SELECT wanted.key, taken.location_id, taken.on_hand FROM PAIRS(:quantities) AS wanted JOIN {FIRST_LEVEL}"  # noqa: S608
)
"""(SKU, location, on hand) where all units of a SKU are taken from; nothing of a SKU that no location has whole.
`quantities` is JSON: SKU -> units."""
LEVELS_TO_TAKE_FROM = Statement(
    f"""
    SELECT level.sku, level.location_id, {FOR_SALE.format("level.")} AS units, locations.priority
    FROM TEXTS(:skus) AS wanted
    JOIN stock_levels AS level ON level.sku = wanted.value
    JOIN locations ON locations.id = level.location_id
    WHERE locations.delete_time_us IS NULL AND (:location_id = '' OR level.location_id = :location_id)
    ORDER BY level.sku, locations.priority, units DESC, level.location_id
    """  # noqa: S608 - the names of columns
)
"""(SKU, location, units that can be promised, priority) in the order in which stock is taken; at one location, or at
all ('')."""
MOVE_LEVELS = Statement(
    """
    WITH moved (location_id, sku, on_hand_delta, reserved_delta, allocated_delta) AS MATERIALIZED (
        SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS BIGINT), CAST(value ->> 3 AS BIGINT),
               CAST(value ->> 4 AS BIGINT)
        FROM ROWS(:moves) AS asked
    )
    UPDATE stock_levels
    SET on_hand = on_hand + moved.on_hand_delta, reserved = reserved + moved.reserved_delta,
        allocated = allocated + moved.allocated_delta, version = version + 1, update_time_us = :now_us
    FROM moved
    WHERE stock_levels.location_id = moved.location_id AND stock_levels.sku = moved.sku
    RETURNING stock_levels.location_id, stock_levels.sku, on_hand
    """
)
"""Change levels, each once, by what is known to be right; the CHECK has the last word. Gives what is on hand after."""
PROMISE = RowsStatement(
    """
    UPDATE stock_levels
    SET reserved = reserved + ?3, allocated = allocated + ?4, version = version + 1, update_time_us = ?5
    WHERE location_id = ?1 AND sku = ?2
    """,
    together="""
    UPDATE stock_levels
    SET reserved = reserved + CAST(value ->> 2 AS BIGINT), allocated = allocated + CAST(value ->> 3 AS BIGINT),
        version = version + 1, update_time_us = CAST(value ->> 4 AS BIGINT)
    FROM ROWS(:rows) AS given
    WHERE stock_levels.location_id = value ->> 0 AND stock_levels.sku = value ->> 1
    """,
)
"""Promise units of levels, each once, that are known to be there; the CHECK has the last word. Of each level: location,
SKU, units reserved, units allocated, time."""
INSERT_MOVEMENTS = RowsInsert(
    StockMovement,
    (
        "location",
        "variant",
        "line_number",
        "quantity_delta",
        "reserved_delta",
        "allocated_delta",
        "on_hand",
        "cause",
        "reason",
        "actor",
        "source",
        "create_time_us",
    ),
)
"""Entries of the ledger."""
ALLOCATIONS_OF = Statement(
    """
    SELECT source, line_number, sku, location_id, CAST(SUM(allocated_delta) AS BIGINT)
    FROM stock_movements WHERE source IN TEXTS(:sources) AND source <> ''
    GROUP BY source, line_number, sku, location_id HAVING SUM(allocated_delta) <> 0
    ORDER BY source, line_number, location_id
    """
)
"""What is allocated to each line of some sources, and where; that the source is not empty lets SQLite use the index."""
OFFERED = Statement(
    """
    SELECT wanted.value,
           variants.state = 'ACTIVE' AND variants.delete_time_us IS NULL
           AND products.state = 'ACTIVE' AND products.delete_time_us IS NULL
    FROM TEXTS(:skus) AS wanted
    LEFT JOIN variants ON variants.sku = wanted.value
    LEFT JOIN products ON products.id = variants.product_id
    ORDER BY wanted.key
    """
)
"""For each SKU, in order: whether it is for sale (NULL: unknown)."""
INSERT_LEVELS = Statement(
    """
    INSERT INTO stock_levels (
        location_id, sku, on_hand, reserved, allocated, backorder_limit, version, update_time_us, safety_threshold
    )
    SELECT :location_id, wanted.value, 0, 0, 0, 0, 0, CAST(:now_us AS BIGINT), 0 FROM TEXTS(:skus) AS wanted
    """
)
"""Levels at one location that nothing has moved yet."""
LEVEL_IN_USE_OF_SKU = Statement(
    """
    SELECT location_id FROM stock_levels WHERE sku = :sku AND (on_hand <> 0 OR reserved <> 0 OR allocated <> 0) LIMIT 1
    """
)
"""A location that has units of a SKU, or has promised some."""
LEVEL_IN_USE_AT = Statement(
    """
    SELECT sku FROM stock_levels
    WHERE location_id = :location_id AND (on_hand <> 0 OR reserved <> 0 OR allocated <> 0) LIMIT 1
    """
)
"""A SKU of which a location has units, or has promised some."""
LOCATION_DELETED_AT = Statement(lambda: Location.select(Location.delete_time_us).where(Location.id == bound("id")))
"""When a location was deleted, as a row of one; no row where there is no such location."""
